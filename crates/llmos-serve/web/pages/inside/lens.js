// The prediction of every layer: each read by the model's own last norm and head (the logit lens).

import { html, useState } from "../../html.js";
import { heat, useGrid } from "../../views/grid.js";
import { useLatest } from "../../views/latest.js";
import { Bar, Shares, Spoken, Waiting, percent } from "../../views/pieces.js";
import { spoken, visible } from "../../views/tokens.js";

/** Words of each cell's list. */
const TOP = 10;

export function Layers({ api, t, model, ids }) {
  const answer = useLatest(
    (signal) => api.post("/v1/lens", { model, tokens: ids, top: TOP }, { signal }),
    [model, ids.join()],
  );
  const [chosen, setChosen] = useState(null);
  const grid = useGrid();
  const waiting = html`<${Waiting} t=${t} answer=${answer} />`;
  if (!answer.value) return waiting;
  const { tokens, layers } = answer.value;
  const last = layers[layers.length - 1].positions;
  const [row, column] = chosen && chosen[0] < tokens.length ? chosen : [tokens.length - 1, layers.length - 1];
  // The first layer from which on the word stays the one that the model says.
  const settled = last.map(([final], at) => {
    let from = layers.length - 1;
    while (from > 0 && layers[from - 1].positions[at][0].token === final.token) from -= 1;
    return from;
  });
  const mean = settled.reduce((sum, layer) => sum + layer + 1, 0) / settled.length;
  return html`${waiting}
    <p>${t("lens.summary", { n: layers.length, mean: t.number(mean, { maximumFractionDigits: 1 }) })}</p>
    <div class="scroll-x grid-box" tabindex="0" role="group" aria-label=${t("lens.grid")} onKeyDown=${grid.onKeyDown}>
      <table class="grid" aria-busy=${answer.isBusy}>
        <thead><tr><th scope="col">${t("lens.after")}</th>${layers.map((layer) => html`<th scope="col" key=${layer.layer}>${t("layer", { n: layer.layer + 1 })}</th>`)}</tr></thead>
        <tbody>${tokens.map((token, i) => html`<tr key=${i}><th scope="row" class="token">${visible(token.text)}</th>
          ${layers.map(({ positions }, j) => {
            const [best] = positions[i];
            return html`<td key=${j}><button class=${`cell token heat ${j >= settled[i] ? "is-settled" : ""}`} style=${heat(best.probability)}
              aria-pressed=${i === row && j === column} ...${grid.cell(i, j)} onClick=${() => setChosen([i, j])}><${Spoken}
                as=${t("lens.cell", { word: spoken(best.text, t), share: percent(t, best.probability), layer: j + 1, after: spoken(token.text, t) })}>${visible(best.text)}<//></button></td>`;
          })}</tr>`)}</tbody>
      </table>
    </div>
    <p class="dim">${t("lens.key")}</p>
    <section class="panel stack" aria-live="polite">
      <h2>${t("lens.list", { layer: column + 1 })} <span class="token">${visible(tokens[row].text)}</span></h2>
      <${Shares} t=${t} name=${t("probability")} rows=${layers[column].positions[row].map((word) => ({ key: word.token, word: visible(word.text), share: word.probability }))} />
      <h3>${t("lens.rise")} <span class="token">${visible(last[row][0].text)}</span></h3>
      <ol class="rise">${layers.map(({ layer, positions }) => {
        const found = positions[row].find((word) => word.token === last[row][0].token);
        return html`<li key=${layer}><span class="dim">${layer + 1}</span> ${found ? percent(t, found.probability) : t("lens.below")}
          <${Bar} share=${found?.probability ?? 0} /></li>`;
      })}</ol>
    </section>`;
}
