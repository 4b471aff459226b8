// Where the reader writes: text, and files as text.

import { Icon } from "../../components.js";
import { html, useEffect, useRef, useState } from "../../html.js";
import { Attachment } from "./message.js";

/** Longest file that is taken along, in bytes. */
const LONGEST = 1 << 20;

/** Reads files as text; those that are none, or too long, are named in `refused`. */
export async function readFiles(files) {
  const taken = [];
  const refused = [];
  for (const file of files) {
    try {
      if (file.size > LONGEST) throw new Error("long");
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      if (text.includes("\0")) throw new Error("binary");
      taken.push({ name: file.name || "text", media: file.type || "text/plain", text });
    } catch {
      refused.push(file.name);
    }
  }
  return { taken, refused };
}

/**
 * `draft` is { text, files }, kept by the page. `onSend()` sends it, `onStop()` stops an answer,
 * `onEditLast()` is told of an arrow up in an empty field.
 */
export function Composer({ draft, setDraft, inputRef, isBusy, isOff, onSend, onStop, onEditLast, onError, t }) {
  const picker = useRef();
  const [isOver, setOver] = useState(false);
  const { text, files } = draft;
  const canSend = !isBusy && !isOff && (text.trim() || files.length > 0);

  // Where there is a keyboard, one can begin to type. On a phone it would hide half of the page.
  useEffect(() => {
    if (matchMedia("(min-width: 44rem)").matches) inputRef.current.focus();
  }, []);

  // As high as the text, up to a part of the window.
  useEffect(() => {
    const area = inputRef.current;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight * 0.35)}px`;
  }, [text]);

  const take = async (list) => {
    const { taken, refused } = await readFiles(list);
    setDraft((now) => ({ ...now, files: [...now.files, ...taken] }));
    if (refused.length) onError({ message: t("attachment.refused", { names: refused.join(", ") }) });
  };
  const onKeyDown = (event) => {
    // While a Chinese word is being composed, Enter chooses it.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (canSend) onSend();
    } else if (event.key === "ArrowUp" && !text) {
      event.preventDefault();
      onEditLast();
    }
  };
  const onDrop = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files);
  };
  const onPaste = (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    take(event.clipboardData.files);
  };
  const submit = (event) => {
    event.preventDefault();
    if (canSend) onSend();
  };
  return html`<form class=${`composer ${isOver ? "over" : ""}`} onSubmit=${submit} onDrop=${onDrop}
      onDragOver=${(event) => (event.preventDefault(), setOver(true))} onDragLeave=${() => setOver(false)}>
    ${files.length > 0 && html`<div class="files">${files.map((file, i) => html`<${Attachment} key=${i} file=${file} t=${t}
      onRemove=${() => setDraft((now) => ({ ...now, files: now.files.filter((_, at) => at !== i) }))} />`)}</div>`}
    <div class="row">
      <button type="button" class="button quiet" aria-label=${t("attach")} title=${t("attach")} onClick=${() => picker.current.click()}><${Icon} name="attach" /></button>
      <input ref=${picker} type="file" multiple hidden onChange=${(event) => (take(event.target.files), (event.target.value = ""))} />
      <textarea ref=${inputRef} id="composer" class="grow" rows="1" value=${text} placeholder=${t("write")} aria-label=${t("write")} autocomplete="off"
        onInput=${(event) => { const { value } = event.target; setDraft((now) => ({ ...now, text: value })); }} onKeyDown=${onKeyDown} onPaste=${onPaste}></textarea>
      ${isBusy
        ? html`<button type="button" class="button" id="stop" aria-label=${t("stop")} title=${`${t("stop")} (Esc)`} onClick=${onStop}><${Icon} name="stop" /></button>`
        : html`<button class="button primary" id="send" aria-label=${t("send")} title=${`${t("send")} (Enter)`} disabled=${!canSend}><${Icon} name="send" /></button>`}
    </div>
  </form>`;
}
