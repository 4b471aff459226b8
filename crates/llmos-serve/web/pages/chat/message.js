// One message: what was said, thought and called, what one thought of it, and the branches that begin here.

import { CopyButton, Icon, useFocus } from "../../components.js";
import { html, useLayoutEffect, useRef, useState } from "../../html.js";
import { Markdown } from "../../markdown.js";

/**
 * `place` is { at, of, go(step) } among the message's siblings. `on` holds what can be done: edit(text),
 * retry(), rate(rating | null). A message that is being written has `isDraft`.
 */
export function Message({ message, place, on, t, isDraft = false, speed, isBusy = false }) {
  const [editing, setEditing] = useState(false);
  const [rating, setRating] = useState(null);
  const { role, content } = message;
  if (role === "tool") return html`<${ToolResult} message=${message} t=${t} />`;
  const isUser = role === "user";
  const isModel = role === "assistant";
  return html`<article id=${`message-${message.number ?? "draft"}`} tabindex="-1" class=${`message ${role}`} aria-label=${t(`role.${role}`)} aria-busy=${isDraft}>
    <h2 class="speaker">${t(`role.${role}`)}${message.origin?.model && html` <span class="dim">${message.origin.model}</span>`}</h2>
    ${message.reasoning_content && html`<${Reasoning} text=${message.reasoning_content} isOpen=${isDraft && !content} t=${t} />`}
    ${editing
      ? html`<${Editor} text=${content} t=${t} onCancel=${() => setEditing(false)} onSave=${(text) => (setEditing(false), on.edit(text))} />`
      : isUser
        ? html`<div class="said">${content}</div>`
        : content && html`<${Markdown} text=${content} t=${t} />`}
    ${isDraft && !content && !message.reasoning_content && !message.tool_calls && html`<p class="dim waiting">${t("reading")}</p>`}
    ${message.attachments?.map((file, i) => html`<${Attachment} key=${i} file=${file} t=${t} />`)}
    ${message.tool_calls?.map((call, i) => html`<${ToolCall} key=${i} call=${call} t=${t} />`)}
    ${!isDraft && html`<footer class="actions" role="group" aria-label=${t("actions")}>
      ${place.of > 1 && html`<${Branches} place=${place} t=${t} isBusy=${isBusy} />`}
      ${content && html`<${CopyButton} text=${content} t=${t} label=${t("message.copy")} />`}
      ${isUser && html`<${Action} icon="edit" label=${t("edit")} isOff=${isBusy} onClick=${() => setEditing(true)} />`}
      ${isModel && html`<${Action} icon="retry" label=${t("again")} isOff=${isBusy} onClick=${on.retry} />`}
      ${isModel && html`<${Thumbs} rating=${message.rating} t=${t} on=${on} open=${rating} setOpen=${setRating} />`}
      ${speed && html`<span class="dim speed">${t("speed", { n: Number(speed.toPrecision(3)) })}</span>`}
    </footer>`}
    ${rating && html`<${RatingForm} key=${rating} thumb=${rating} message=${message} t=${t} onClose=${() => setRating(null)}
      onSave=${(value) => (setRating(null), on.rate(value))} />`}
  </article>`;
}

function Action({ icon, label, onClick, isOff, isPressed }) {
  return html`<button class="button quiet small" data-action=${icon} aria-label=${label} title=${label} disabled=${isOff} aria-pressed=${isPressed} onClick=${onClick}>
    <${Icon} name=${icon} />
  </button>`;
}

/** ‹ 2/3 ›; the arrow keys do the same while the focus is here. */
function Branches({ place, t, isBusy }) {
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || isBusy) return;
    event.preventDefault();
    place.go(step);
  };
  return html`<span class="branches" role="group" tabindex="-1" aria-label=${t("branches")} onKeyDown=${onKeyDown}>
    <button class="button quiet small" aria-label=${t("branch.previous")} disabled=${isBusy || place.at === 0} onClick=${() => place.go(-1)}><${Icon} name="left" /></button>
    <span>${place.at + 1}/${place.of}</span>
    <button class="button quiet small" aria-label=${t("branch.next")} disabled=${isBusy || place.at + 1 === place.of} onClick=${() => place.go(1)}><${Icon} name="right" /></button>
  </span>`;
}

function Thumbs({ rating, t, on, open, setOpen }) {
  const press = (thumb) => {
    if (rating?.thumb === thumb) {
      setOpen(null);
      on.rate(null);
      return;
    }
    on.rate({ thumb });
    setOpen(thumb);
  };
  return html`
    <${Action} icon="up" label=${t("good")} isPressed=${rating?.thumb === "up"} onClick=${() => press("up")} />
    <${Action} icon="down" label=${t("bad")} isPressed=${rating?.thumb === "down"} onClick=${() => press("down")} />
    ${rating && !open && html`<button class="button quiet small" onClick=${() => setOpen(rating.thumb)}>${t(rating.reason || rating.ideal ? "reason.change" : "reason.add")}</button>`}`;
}

/** Why, and what should have been said: what a model can learn from later. */
function RatingForm({ thumb, message, t, onSave, onClose }) {
  const first = useRef();
  useFocus(first);
  const submit = (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    const text = (name) => fields.get(name)?.trim() || undefined;
    onSave({ thumb, reason: text("reason"), ideal: text("ideal") });
  };
  const onKeyDown = (event) => event.key === "Escape" && (event.stopPropagation(), onClose());
  return html`<form class="panel rating stack" onSubmit=${submit} onKeyDown=${onKeyDown} aria-label=${t("reason.title")}>
    <label class="field"><span class="label">${t(thumb === "up" ? "reason.good" : "reason.bad")}</span>
      <input class="input" name="reason" ref=${first} maxlength="2000" defaultValue=${message.rating?.reason ?? ""} /></label>
    ${thumb === "down" && html`<label class="field"><span class="label">${t("ideal")}</span>
      <textarea class="input" name="ideal" rows="4" defaultValue=${message.rating?.ideal ?? ""} placeholder=${t("ideal.hint")}></textarea></label>`}
    <div class="row"><button class="button primary">${t("save")}</button><button type="button" class="button" onClick=${onClose}>${t("close")}</button></div>
  </form>`;
}

/** Another wording makes another branch; the first one stays. */
function Editor({ text, t, onSave, onCancel }) {
  const ref = useRef();
  useFocus(ref);
  useLayoutEffect(() => ref.current.setSelectionRange(text.length, text.length), []);
  const save = () => ref.current.value.trim() && onSave(ref.current.value);
  const onKeyDown = (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      onCancel();
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      save();
    }
  };
  return html`<div class="stack">
    <textarea ref=${ref} class="input" rows=${Math.min(12, text.split("\n").length + 1)} aria-label=${t("edit")} defaultValue=${text} onKeyDown=${onKeyDown}></textarea>
    <div class="row"><button class="button primary" onClick=${save}>${t("edit.send")}</button><button class="button" onClick=${onCancel}>${t("cancel")}</button></div>
  </div>`;
}

function Reasoning({ text, isOpen, t }) {
  return html`<details class="reasoning" open=${isOpen}><summary>${t(isOpen ? "thinking" : "thought")}</summary><div class="said dim">${text}</div></details>`;
}

/** A file that goes along, folded. `onRemove` takes it away again. */
export function Attachment({ file, t, onRemove }) {
  return html`<div class="attachment row">
    <details class="grow"><summary><${Icon} name="attach" /> ${file.name} <span class="dim">${t("characters", { n: file.text.length })}</span></summary>
      <pre tabindex="0" role="region" aria-label=${file.name}>${file.text}</pre></details>
    ${onRemove && html`<button type="button" class="button quiet small" aria-label=${t("attachment.remove", { name: file.name })} onClick=${onRemove}><${Icon} name="close" /></button>`}
  </div>`;
}

/** The arguments are JSON text; what cannot be read is shown as it is. */
function readable(text) {
  try {
    const value = JSON.parse(text);
    const entries = Object.entries(value);
    return entries.length === 1 && typeof entries[0][1] === "string" ? entries[0][1] : entries.length ? JSON.stringify(value, null, 2) : "";
  } catch {
    return text;
  }
}

function ToolCall({ call, t }) {
  const { name, arguments: given } = call.function ?? call;
  const text = readable(typeof given === "string" ? given : JSON.stringify(given ?? {}));
  return html`<div class="tool" role="group" aria-label=${t("tool.call", { name })}>
    <${Icon} name="tool" /> <b>${name}</b> ${text && html`<code>${text}</code>`}
  </div>`;
}

function ToolResult({ message, t }) {
  return html`<div class="message tool" role="group" aria-label=${t("tool.result")}>
    <div class="tool result"><span aria-hidden="true">→</span> ${message.name && html`<b>${message.name}</b>`} <code>${message.content}</code></div>
  </div>`;
}
