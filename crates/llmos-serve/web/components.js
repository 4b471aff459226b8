// Small pieces that several pages use.

import { html, useLayoutEffect, useId, useRef, useState } from "./html.js";

/** An error with what to do about it. `retry` is offered where it is given. */
export function ErrorNote({ error, t, retry }) {
  if (!error) return null;
  const offline = error.code === "offline";
  const message = offline ? t("offline.message") : error.message || t("error");
  const hint = offline ? t("offline.hint") : error.hint;
  return html`<div class="error-note" role="alert">
    <p>${message}</p>
    ${hint && html`<p class="dim">${t("hint")}: ${hint}</p>`}
    ${retry && html`<button class="button" onClick=${retry}>${t("retry")}</button>`}
  </div>`;
}

/** A choice among the models. `onChange` is told an id. */
export function ModelSelect({ state, t, value, onChange, label = t("model") }) {
  const id = useId();
  return html`<label class="field" for=${id}>
    <span class="label">${label}</span>
    <select id=${id} class="input" value=${value ?? ""} onChange=${(event) => onChange(event.target.value)}>
      ${!state.models.length && html`<option value="">${t("model.none")}</option>`}
      ${state.models.map((model) => html`<option key=${model.id} value=${model.id} selected=${model.id === value}>${model.id}</option>`)}
    </select>
  </label>`;
}

/**
 * A slider with its value beside it, as a number that can be typed. A `value` of null is `unset`, shown as
 * the placeholder; where `unset` is given, emptying the number makes it null.
 */
export function Slider({ label, value, min, max, step, onInput, unset, hint }) {
  const id = useId();
  const given = (text) => (text === "" ? unset !== undefined && onInput(null) : onInput(Number(text)));
  return html`<div class="slider">
    <label for=${id}>${label}</label>
    <input id=${id} type="range" min=${min} max=${max} step=${step} value=${value ?? unset ?? min}
      onInput=${(event) => onInput(Number(event.target.value))} />
    <input class="input number" type="number" min=${min} max=${max} step=${step} value=${value ?? ""}
      placeholder=${unset} aria-label=${label} onChange=${(event) => given(event.target.value)} />
    ${hint && html`<small class="dim">${hint}</small>`}
  </div>`;
}

/** A dialog over the page: the browser keeps the focus in it and closes it at Escape. */
export function Dialog({ title, onClose, t, children }) {
  const ref = useRef();
  const id = useId();
  useLayoutEffect(() => {
    ref.current.showModal();
  }, []);
  return html`<dialog ref=${ref} class="dialog" aria-labelledby=${id} onClose=${onClose}>
    <header class="row">
      <h2 id=${id} class="grow">${title}</h2>
      <button class="button quiet" aria-label=${t("close")} onClick=${() => ref.current.close()}><${Icon} name="close" /></button>
    </header>
    ${children}
  </dialog>`;
}

/** The focus goes to an element for as long as what holds it is there, and then back to where it was. */
export function useFocus(ref) {
  useLayoutEffect(() => {
    const before = document.activeElement;
    ref.current.focus();
    return () => before?.focus({ preventScroll: true });
  }, []);
}

/** Copies text, and says so for a moment. */
export function CopyButton({ text, t, label = t("copy") }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await writeClipboard(typeof text === "function" ? text() : text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button class="button quiet small" onClick=${copy} aria-label=${label} title=${label}>
    <${Icon} name=${done ? "check" : "copy"} /><span aria-live="polite">${done ? t("copied") : ""}</span>
  </button>`;
}

/** The clipboard is there on https and on this machine alone; elsewhere a selection is copied the old way. */
export async function writeClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Lets the browser save text as a file. */
export function download(name, text, type = "application/x-ndjson") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const PATHS = {
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 13l4 4L19 7",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  plus: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14M16 16l5 5",
  edit: "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4",
  retry: "M20 12a8 8 0 1 1-3-6.2M20 3v5h-5",
  up: "M7 11v9H4v-9zM7 11l4-8c2 0 3 1 2 4l-1 3h7l-2 10H7",
  down: "M7 13V4H4v9zM7 13l4 8c2 0 3-1 2-4l-1-3h7L17 4H7",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v6M14 11v6",
  stop: "M7 7h10v10H7z",
  send: "M4 12l16-8-6 16-3-7z",
  attach: "M20 11l-8 8a5 5 0 0 1-7-7l8-8a3.5 3.5 0 0 1 5 5l-8 8a2 2 0 0 1-3-3l7-7",
  menu: "M4 6h16M4 12h16M4 18h16",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  save: "M12 4v11M7 11l5 5 5-5M5 20h14",
  load: "M12 16V5M7 9l5-5 5 5M5 20h14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
  tool: "M14 7a4 4 0 0 1 5-4l-2 3 1 2 3-1a4 4 0 0 1-6 4l-8 9-3-3 9-8z",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5L19 19M5 19l1.5-1.5M17.5 6.5L19 5",
  moon: "M20 14A8 8 0 1 1 10 4a6 6 0 0 0 10 10",
  auto: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16M12 4v16",
};

/** A picture beside words or an aria-label: nothing for screen readers by itself. */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
