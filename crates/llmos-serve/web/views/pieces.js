// Pieces of the pages that measure: a choice, what stands in for an answer, shares as bars.

import { ErrorNote } from "../components.js";
import { html } from "../html.js";

/** A choice among `options`, [value, text] each; `onChange` is told the value as a string. */
export function Select({ label, value, options, onChange }) {
  return html`<label class="field"><span class="label">${label}</span>
    <select class="input" value=${value} onChange=${(event) => onChange(event.target.value)}>
      ${options.map(([name, text = name]) => html`<option key=${name} value=${name} selected=${name === value}>${text}</option>`)}
    </select></label>`;
}

/** What is seen, and what is read out in its place. */
export const Spoken = ({ children, as }) => html`<span aria-hidden="true" class="seen">${children}</span><span class="visually-hidden">${as}</span>`;

/** What is wrong with an answer of `useLatest`, or that it is on its way. */
export function Waiting({ t, answer, text = t("loading") }) {
  return html`<${ErrorNote} error=${answer.error} t=${t} />
    ${!answer.value && answer.isBusy && html`<p class="dim">${text}</p>`}`;
}

/** A share as a percentage, with digits as it is small. */
export const percent = (t, share) =>
  t.number(share, { style: "percent", maximumFractionDigits: share === 0 || share >= 0.01 ? 1 : share >= 0.0001 ? 2 : 4 });

/** A share as a bar, for the eye alone. */
export const Bar = ({ share, kind = "" }) => html`<span class=${`bar ${kind}`} aria-hidden="true"><span style=${{ width: `${100 * share}%` }}></span></span>`;

/** Words with their shares: `rows` of {key, word, share}. */
export function Shares({ t, rows, name }) {
  return html`<table class="table list">
    <thead class="visually-hidden"><tr><th scope="col">${t("word")}</th><th scope="col">${name}</th><td></td></tr></thead>
    <tbody>${rows.map(({ key, word, share }) => html`<tr key=${key}><th scope="row" class="token">${word}</th>
      <td class="right">${percent(t, share)}</td><td class="wide"><${Bar} share=${share} /></td></tr>`)}</tbody>
  </table>`;
}

/** Facts as a list: [name, value] each; those without a value are left out. */
export const Facts = ({ rows, class: kind }) => html`<dl class=${`facts ${kind ?? ""}`}>
  ${rows.filter(([, value]) => value != null && value !== false && value !== "").map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;
