// What a conversation keeps beside its messages: who the model is told to be, and how its words are drawn.

import { Dialog, Slider } from "../../components.js";
import { html } from "../../html.js";
import { DEFAULTS, USUAL } from "./store.js";

/** `onChange(settings)` is told all settings whenever one changes. */
export function Settings({ settings, onChange, onClose, t }) {
  const set = (name) => (value) => onChange({ ...settings, [name]: value });
  const slider = (name, min, max, step) => html`<${Slider} key=${name} label=${t(name)} hint=${t(`${name}.hint`)}
    value=${settings[name]} unset=${USUAL[name]} ...${{ min, max, step }} onInput=${set(name)} />`;
  const number = (name, placeholder) => html`<label class="field" key=${name}><span class="label">${t(name)}</span>
    <input class="input" type="number" min="0" step="1" placeholder=${placeholder} value=${settings[name] ?? ""}
      onChange=${(event) => set(name)(event.target.value === "" ? null : Math.round(Number(event.target.value)))} /></label>`;
  const check = (name, label = name) => html`<label class="check"><input type="checkbox" checked=${settings[name] !== false} onChange=${(event) => set(name)(event.target.checked)} /> ${t(label)}</label>`;
  return html`<${Dialog} title=${t("settings")} t=${t} onClose=${onClose}>
    <label class="field"><span class="label">${t("system")}</span>
      <textarea class="input" rows="4" value=${settings.system ?? ""} placeholder=${t("system.hint")} onChange=${(event) => set("system")(event.target.value)}></textarea></label>
    ${slider("temperature", 0, 2, 0.05)}
    ${slider("top_p", 0, 1, 0.01)}
    ${slider("min_p", 0, 1, 0.01)}
    ${slider("top_k", 0, 200, 1)}
    <div class="split">${number("max_tokens", t("unlimited"))}${number("seed", t("random"))}</div>
    <div class="row wrap">${check("tools")}${check("thinking", "thinking_setting")}</div>
    <p class="dim"><small>${t("tools.hint")}</small></p>
    <button class="button" onClick=${() => onChange({ ...DEFAULTS })}>${t("reset")}</button>
  <//>`;
}
