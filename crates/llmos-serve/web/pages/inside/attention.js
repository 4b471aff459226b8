// Where each head looks: one head's weights over the text, and all heads in small.

import { html, useEffect, useRef, useState } from "../../html.js";
import { heat, range, useGrid } from "../../views/grid.js";
import { useLatest } from "../../views/latest.js";
import { Select, Shares, Spoken, Waiting, percent } from "../../views/pieces.js";
import { spoken, visible } from "../../views/tokens.js";

/** Weights of an answer: as many as are read in a moment. */
const MOST_WEIGHTS = 250_000;
/** Milliseconds of a frame that pictures may take. */
const FRAME = 8;

/** The number of heads of each layer: asked with a single token. */
export async function headsOf(api, model, ids, signal) {
  const { attention } = await api.post("/v1/lens", { model, tokens: ids.slice(0, 1), top: 1, attention: true }, { signal });
  return attention.map((heads) => heads.length);
}

export function Attention({ api, t, state, model, ids }) {
  const answer = useLatest(async (signal) => {
    const heads = (await headsOf(api, model, ids, signal)).reduce((sum, count) => sum + count, 0);
    const most = Math.max(2, Math.floor(Math.sqrt((2 * MOST_WEIGHTS) / heads)));
    return api.post("/v1/lens", { model, tokens: ids.slice(0, most), top: 1, attention: true }, { signal });
  }, [model, ids.join()]);
  const [head, setHead] = useState([0, 0]);
  const [from, setFrom] = useState(null);
  const grid = useGrid();
  const notice = html`<${Waiting} t=${t} answer=${answer} />`;
  if (!answer.value) return notice;
  const { tokens, attention } = answer.value;
  const query = from !== null && from < tokens.length ? from : tokens.length - 1;
  const weights = attention[head[0]][head[1]]; // (T, t + 1)
  const strongest = weights[query].map((weight, at) => ({ weight, at })).sort((a, b) => b.weight - a.weight).slice(0, 8);
  const name = t("head", { layer: head[0] + 1, head: head[1] + 1 });
  const choose = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    setFrom(Math.min(tokens.length - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * tokens.length))));
  };
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const to = Math.min(tokens.length - 1, Math.max(0, query + step));
    setFrom(to);
    event.currentTarget.children[to].focus();
  };
  return html`${notice}
    ${tokens.length < ids.length && html`<p class="badge warn">${t("clipped", { n: tokens.length })}</p>`}
    <div class="split">
      <section class="panel stack">
        <h2>${name}</h2>
        <div class="toolbar">
          <${Select} label=${t("choose.layer")} value=${head[0]} options=${attention.map((_, n) => [n, n + 1])}
            onChange=${(n) => setHead([Number(n), Math.min(head[1], attention[n].length - 1)])} />
          <${Select} label=${t("choose.head")} value=${head[1]} options=${attention[head[0]].map((_, n) => [n, n + 1])} onChange=${(n) => setHead([head[0], Number(n)])} />
        </div>
        <p>${described(t, weights)}</p>
        <div class="map" onPointerMove=${choose} onClick=${choose}>
          <${Picture} weights=${weights} label=${t("attention.map", { name, what: described(t, weights) })} theme=${state.theme} />
          <span class="row-mark" style=${{ top: `${(100 * query) / tokens.length}%`, height: `${100 / tokens.length}%` }}></span>
        </div>
        <small class="dim">${t("attention.axes")}</small>
      </section>
      <section class="panel stack">
        <h2>${t("attention.text")}</h2>
        <div class="words" role="group" aria-label=${t("attention.text")} onKeyDown=${onKeyDown}>
          ${tokens.map((token, i) => html`<button key=${i} class=${`word token heat ${i > query ? "is-later" : ""}`} style=${heat(weights[query][i] ?? 0)}
            aria-pressed=${i === query} tabindex=${i === query ? 0 : -1}
            onMouseEnter=${() => setFrom(i)} onFocus=${() => setFrom(i)} onClick=${() => setFrom(i)}><${Spoken}
              as=${t("attention.word", { word: spoken(token.text, t), share: percent(t, weights[query][i] ?? 0) })}>${visible(token.text)}<//></button>`)}
        </div>
        <div aria-live="polite">
          <p>${t("attention.from")} <b class="token">${visible(tokens[query].text)}</b></p>
          <${Shares} t=${t} name=${t("weight")} rows=${strongest.map(({ weight, at }) => ({ key: at, word: html`${visible(tokens[at].text)} <span class="dim">${at + 1}</span>`, share: weight }))} />
        </div>
      </section>
    </div>
    <section class="panel stack">
      <h2>${t("attention.all")}</h2>
      <div class="scroll-x grid-box" tabindex="0" role="group" aria-label=${t("attention.all")} onKeyDown=${grid.onKeyDown}>
        <table class="grid">
          <thead><tr><td></td>${range(Math.max(...attention.map((heads) => heads.length))).map((h) => html`<th scope="col" key=${h}>${t("head.short", { n: h + 1 })}</th>`)}</tr></thead>
          <tbody>${attention.map((heads, l) => html`<tr key=${l}><th scope="row">${t("layer", { n: l + 1 })}</th>
            ${heads.map((weights, h) => html`<td key=${h}><button class="thumb" aria-pressed=${l === head[0] && h === head[1]}
              aria-label=${`${t("head", { layer: l + 1, head: h + 1 })}. ${described(t, weights)}`} ...${grid.cell(l, h)} onClick=${() => setHead([l, h])}>
              <${Picture} weights=${weights} theme=${state.theme} /></button></td>`)}</tr>`)}</tbody>
        </table>
      </div>
    </section>`;
}

/** Where a head looks on average over the text: at itself, the token before, the first. */
function described(t, weights) {
  const share = (at) => {
    const rows = weights.slice(2); // the first two tokens have hardly a choice
    return rows.length ? rows.reduce((sum, row, i) => sum + row[at(i + 2)], 0) / rows.length : 0;
  };
  const values = { first: percent(t, share(() => 0)), before: percent(t, share((i) => i - 1)), self: percent(t, share((i) => i)) };
  return t(weights.length > 2 ? "attention.described" : "attention.short", values);
}

const waiting = [];

/** Draws what waits, a few milliseconds a frame, so that the page stays awake. */
function drawWaiting() {
  const end = performance.now() + FRAME;
  while (waiting.length && performance.now() < end) waiting.shift()();
  if (waiting.length) requestAnimationFrame(drawWaiting);
}

/** Weights (T, t + 1) as a picture of T × T points: a row looks, a column is looked at. */
function Picture({ weights, label, theme }) {
  const ref = useRef();
  useEffect(() => {
    const draw = () => {
      const canvas = ref.current;
      if (!canvas) return;
      const size = weights.length;
      canvas.width = canvas.height = size;
      const [r, g, b] = getComputedStyle(canvas).color.match(/\d+/g).map(Number);
      const image = new ImageData(size, size);
      weights.forEach((row, i) => row.forEach((weight, j) => {
        // The root, so that what is weak can be seen.
        image.data.set([r, g, b, 255 * Math.sqrt(weight)], 4 * (i * size + j));
      }));
      canvas.getContext("2d").putImageData(image, 0, 0);
    };
    if (waiting.push(draw) === 1) requestAnimationFrame(drawWaiting);
    return () => {
      const at = waiting.indexOf(draw);
      if (at >= 0) waiting.splice(at, 1);
    };
  }, [weights, theme]);
  return html`<canvas ref=${ref} class="picture" role=${label ? "img" : undefined} aria-label=${label} aria-hidden=${label ? undefined : "true"}></canvas>`;
}
