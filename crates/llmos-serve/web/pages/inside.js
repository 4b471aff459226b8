// Look inside: what can be measured in a model that nobody fully understands.

import { ErrorNote, ModelSelect } from "../components.js";
import { html, useId, useState } from "../html.js";
import { useLatest } from "../views/latest.js";
import { Attention } from "./inside/attention.js";
import { KnockOut } from "./inside/knockout.js";
import { Layers } from "./inside/lens.js";
import { Parameters } from "./inside/parameters.js";

const TABS = { layers: Layers, attention: Attention, off: KnockOut, parameters: Parameters };
/** Tokens of a text that are looked at. */
const MOST = 64;

export default function InsidePage({ api, t, state }) {
  const { memory } = state;
  const [text, setText] = useState(memory.text ?? "The cat sat on the");
  const [asked, setAsked] = useState(memory.asked ?? text);
  const tab = state.path in TABS ? state.path : "layers";
  const id = useId();
  Object.assign(memory, { text, asked });
  const tokens = useLatest(
    state.model && asked ? (signal) => api.post("/tokenize", { model: state.model, prompt: asked }, { signal }) : null,
    [state.model, asked],
  );
  const ids = tokens.value?.tokens.slice(0, MOST);
  const onKeyDown = (event) => {
    const names = Object.keys(TABS);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = names[(names.indexOf(tab) + step + names.length) % names.length];
    state.go(`inside/${next}`);
    document.getElementById(`${id}-${next}`).focus();
  };
  const View = TABS[tab];
  return html`<div class="stack">
    <h1>${t("title")}</h1>
    <form class="toolbar" onSubmit=${(event) => (event.preventDefault(), setAsked(text))}>
      <${ModelSelect} state=${state} t=${t} value=${state.model} onChange=${state.setModel} />
      <label class="field grow"><span class="label">${t("text")}</span>
        <input class="input" name="text" value=${text} spellcheck=${false} autocomplete="off" onInput=${(event) => setText(event.target.value)} /></label>
      <button class="button primary">${t("look")}</button>
    </form>
    ${tokens.value?.count > MOST && html`<p class="badge warn">${t("clipped", { n: MOST })}</p>`}
    <div class="tablist" role="tablist" aria-label=${t("title")} onKeyDown=${onKeyDown}>
      ${Object.keys(TABS).map((name) => html`<button key=${name} class="button" role="tab" id=${`${id}-${name}`} aria-selected=${name === tab}
        aria-controls=${`${id}-panel`} tabindex=${name === tab ? 0 : -1} onClick=${() => state.go(`inside/${name}`)}>${t(`tab.${name}`)}</button>`)}
    </div>
    <div class="stack" role="tabpanel" id=${`${id}-panel`} aria-labelledby=${`${id}-${tab}`}>
      <p class="honest">${t(`honest.${tab}`)}</p>
      <${ErrorNote} error=${tab === "parameters" ? null : tokens.error} t=${t} />
      ${(tab === "parameters" ? state.model : ids?.length) && html`<${View} key=${`${tab} ${state.model}`} ...${{ api, t, state, model: state.model, ids }} />`}
    </div>
  </div>`;
}
