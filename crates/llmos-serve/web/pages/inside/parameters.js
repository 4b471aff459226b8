// The parameters themselves: how the numbers of each tensor are spread.

import { html, useMemo, useState } from "../../html.js";
import { outline } from "../../views/histogram.js";
import { useLatest } from "../../views/latest.js";
import { Waiting } from "../../views/pieces.js";

const SMALL = [120, 28];
const LARGE = [640, 180];

export function Parameters({ api, t, model }) {
  const answer = useLatest((signal) => api.get(`/v1/parameters?model=${encodeURIComponent(model)}`, { signal }), [model]);
  const [filter, setFilter] = useState("");
  const [isLog, setLog] = useState(true);
  const [chosen, setChosen] = useState(null);
  const tensors = answer.value?.tensors ?? [];
  const shown = useMemo(() => tensors.filter((tensor) => tensor.name.includes(filter.trim())), [answer.value, filter]);
  const waiting = html`<${Waiting} t=${t} answer=${answer} text=${t("parameters.wait")} />`;
  if (!answer.value) return waiting;
  const few = (number) => t.number(number, { maximumSignificantDigits: 3 });
  const one = tensors.find((tensor) => tensor.name === chosen) ?? shown[0];
  const total = tensors.reduce((sum, tensor) => sum + tensor.count, 0);
  const described = (tensor) => t("tensor.summary", {
    name: tensor.name, mean: few(tensor.mean), std: few(tensor.std), min: few(tensor.min), max: few(tensor.max),
    zeros: t.number(tensor.count ? tensor.zeros / tensor.count : 0, { style: "percent", maximumFractionDigits: 1 }),
  });
  return html`${waiting}
    <p>${t("parameters.summary", { n: tensors.length, total })}</p>
    ${one && html`<section class="panel stack" aria-live="polite">
      <h2 class="token">${one.name}</h2>
      <p>${one.type} · ${one.shape.join(" × ")} · ${described(one)}</p>
      <svg class="histogram" viewBox=${`0 0 ${LARGE[0]} ${LARGE[1] + 20}`} role="img" aria-label=${described(one)}>
        <path class="fill" d=${outline(one.histogram.counts, ...LARGE, isLog)} />
        ${one.histogram.from < 0 && one.histogram.to > 0 && html`<line class="zero" y1="0" y2=${LARGE[1]}
          x1=${(LARGE[0] * -one.histogram.from) / (one.histogram.to - one.histogram.from)} x2=${(LARGE[0] * -one.histogram.from) / (one.histogram.to - one.histogram.from)} />`}
        <text x="0" y=${LARGE[1] + 16}>${few(one.histogram.from)}</text>
        <text x=${LARGE[0]} y=${LARGE[1] + 16} text-anchor="end">${few(one.histogram.to)}</text>
      </svg>
    </section>`}
    <div class="toolbar">
      <label class="field"><span class="label">${t("filter")}</span>
        <input class="input" type="search" value=${filter} onInput=${(event) => setFilter(event.target.value)} /></label>
      <label class="check"><input type="checkbox" checked=${isLog} onChange=${(event) => setLog(event.target.checked)} /> ${t("log")}</label>
    </div>
    <div class="scroll-x" tabindex="0" role="group" aria-label=${t("tensors")}>
      <table class="table tensors">
        <thead><tr>${["name", "type", "shape", "mean", "std", "min", "max", "zeros", "histogram"].map((name) => html`<th scope="col" key=${name}>${t(`tensor.${name}`)}</th>`)}</tr></thead>
        <tbody>${shown.map((tensor) => html`<tr key=${tensor.name}>
          <th scope="row"><button class="button small quiet token" aria-pressed=${tensor.name === one?.name} onClick=${() => setChosen(tensor.name)}>${tensor.name}</button></th>
          <td>${tensor.type}</td><td class="shape">${tensor.shape.join(" × ")}</td>
          ${["mean", "std", "min", "max"].map((name) => html`<td class="right" key=${name}>${few(tensor[name])}</td>`)}
          <td class="right">${t.number(tensor.zeros)}</td>
          <td><svg width=${SMALL[0]} height=${SMALL[1]} viewBox=${`0 0 ${SMALL.join(" ")}`} aria-hidden="true"><path class="fill" d=${outline(tensor.histogram.counts, ...SMALL, isLog)} /></svg></td>
        </tr>`)}</tbody>
      </table>
    </div>`;
}
