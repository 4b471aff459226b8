// Switching heads and layers off, and what the model says then.

import { isAbort } from "../../api.js";
import { ErrorNote } from "../../components.js";
import { html, useEffect, useRef, useState } from "../../html.js";
import { heat, range, useGrid } from "../../views/grid.js";
import { useLatest } from "../../views/latest.js";
import { Bar, Spoken, Waiting, percent } from "../../views/pieces.js";
import { visible } from "../../views/tokens.js";
import { headsOf } from "./attention.js";

/** Words of each prediction that are asked for, and shown. */
const TOP = 20;
const SHOWN = 10;
/** Bits of change that have the deepest shade. */
const DEEP = 6;

const keyOf = ({ layer, head }) => (head === undefined ? `${layer}` : `${layer},${head}`);

/** A word's probability in a prediction of its likeliest; at most the least of them where it is not among them. */
function shareOf(words, token) {
  const found = words.find((word) => word.token === token);
  return { share: found?.probability ?? words[words.length - 1]?.probability ?? 0, isBound: !found };
}

export function KnockOut({ api, t, state, model, ids }) {
  const text = ids.join();
  const [off, setOff] = useState([]);
  const [sweep, setSweep] = useState(null); // {done, total, changes, error, isRunning}
  const abort = useRef(null);
  const heads = useLatest((signal) => headsOf(api, model, ids, signal), [model]);
  const answer = useLatest(
    (signal) => api.post("/v1/lens", { model, tokens: ids, top: TOP, off }, { signal }),
    [model, text, off.map(keyOf).join(" ")],
  );
  const grid = useGrid("0,0");
  useEffect(() => {
    setSweep(null);
    return () => abort.current?.abort();
  }, [model, text]);

  const isOff = (part) => off.some((one) => keyOf(one) === keyOf(part));
  const toggle = (part) => setOff(isOff(part) ? off.filter((one) => keyOf(one) !== keyOf(part)) : [...off, part]);

  const sweepAll = async () => {
    const control = (abort.current = new AbortController());
    const parts = heads.value.flatMap((count, layer) => [{ layer }, ...range(count).map((head) => ({ layer, head }))]);
    const changes = [];
    const report = (more) => setSweep({ done: changes.length, total: parts.length, changes: [...changes], isRunning: true, ...more });
    report();
    try {
      for (const part of parts) {
        const { next, next_unchanged: before } = await api.post("/v1/lens", { model, tokens: ids, top: TOP, off: [part] }, { signal: control.signal });
        const { share, isBound } = shareOf(next, before[0].token);
        changes.push({ part, bits: Math.log2(before[0].probability / Math.max(share, 1e-30)), isBound });
        report();
      }
      report({ isRunning: false });
      state.announce(t("sweep.done"));
    } catch (error) {
      if (control === abort.current) report({ isRunning: false, error: isAbort(error) ? null : error });
    }
  };

  if (!heads.value) return html`<${Waiting} t=${t} answer=${heads} />`;
  const nameOf = ({ layer, head }) => (head === undefined ? t("layer.whole", { n: layer + 1 }) : t("head", { layer: layer + 1, head: head + 1 }));
  const button = (part, row, column) => {
    const change = sweep?.changes.find((one) => keyOf(one.part) === keyOf(part));
    const label = `${nameOf(part)}${change ? `: ${changed(t, change)}` : ""}`;
    return html`<button class="cell heat switch" aria-pressed=${isOff(part)} title=${label}
      style=${heat(change ? Math.abs(change.bits) / DEEP : 0)} ...${grid.cell(row, column)} onClick=${() => toggle(part)}><${Spoken}
        as=${t("switch", { name: label })}>${isOff(part) ? "✕" : change ? t.number(change.bits, { maximumFractionDigits: 1 }) : "●"}<//></button>`;
  };
  const most = sweep && [...sweep.changes].sort((a, b) => Math.abs(b.bits) - Math.abs(a.bits)).slice(0, SHOWN);
  return html`<div class="split">
    <section class="panel stack">
      <h2>${t("switches")}</h2>
      <div class="scroll-x grid-box" tabindex="0" role="group" aria-label=${t("switches")} onKeyDown=${grid.onKeyDown}>
        <table class="grid">
          <thead><tr><td></td><th scope="col">${t("whole")}</th>${range(Math.max(...heads.value)).map((h) => html`<th scope="col" key=${h}>${t("head.short", { n: h + 1 })}</th>`)}</tr></thead>
          <tbody>${heads.value.map((count, l) => html`<tr key=${l}><th scope="row">${t("layer", { n: l + 1 })}</th>
            <td>${button({ layer: l }, l, 0)}</td>
            ${range(count).map((h) => html`<td key=${h}>${button({ layer: l, head: h }, l, h + 1)}</td>`)}</tr>`)}</tbody>
        </table>
      </div>
      <div class="row wrap">
        <button class="button" disabled=${!off.length} onClick=${() => setOff([])}>${t("all.on")}</button>
        ${sweep?.isRunning
          ? html`<button class="button" onClick=${() => abort.current.abort()}>${t("stop")}</button>`
          : html`<button class="button primary" onClick=${sweepAll}>${t("sweep")}</button>`}
      </div>
      ${sweep && html`<div class="stack">
        ${sweep.isRunning && html`<progress aria-label=${t("sweep")} max=${sweep.total} value=${sweep.done}></progress>`}
        <p class="dim">${t("sweep.progress", { n: sweep.done, total: sweep.total })}</p>
        <${ErrorNote} error=${sweep.error} t=${t} />
        ${most.length > 0 && html`<h3>${t("sweep.most")}</h3>
          <ol>${most.map((change) => html`<li key=${keyOf(change.part)}>${nameOf(change.part)}: ${changed(t, change)}</li>`)}</ol>`}
      </div>`}
    </section>
    <section class="panel stack" aria-live="polite" aria-busy=${answer.isBusy}>
      <h2>${t("prediction")}</h2>
      <p>${off.length ? t("off.list", { names: off.map(nameOf).join(", ") }) : t("off.none")}</p>
      <${ErrorNote} error=${answer.error} t=${t} />
      ${answer.value && html`<${Paired} t=${t} before=${answer.value.next_unchanged} after=${answer.value.next} />`}
    </section>
  </div>`;
}

/** A change of the likeliest word's probability in words. */
const changed = (t, { bits, isBound }) =>
  t(bits < 0 ? "change.likelier" : isBound ? "change.more" : "change.rarer", { bits: t.number(Math.abs(bits), { maximumFractionDigits: 2 }) });

/** Two predictions side by side, the likeliest of both. */
function Paired({ t, before, after }) {
  const words = new Map([...before.slice(0, SHOWN), ...after.slice(0, SHOWN)].map((word) => [word.token, word.text]));
  const rows = [...words].map(([token, text]) => ({ token, text, was: shareOf(before, token), now: shareOf(after, token) }));
  rows.sort((a, b) => Math.max(b.was.share, b.now.share) - Math.max(a.was.share, a.now.share));
  const written = ({ share, isBound }) => `${isBound ? "< " : ""}${percent(t, share)}`;
  const bar = (kind, { share, isBound }) => html`<${Bar} kind=${kind} share=${isBound ? 0 : share} />`;
  return html`<table class="table list paired">
    <thead><tr><th scope="col">${t("word")}</th><th scope="col" class="right">${t("unchanged")}</th><th scope="col" class="right">${t("with.off")}</th><td class="wide"></td></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.token}><th scope="row" class="token">${visible(row.text)}</th>
      <td class="right">${written(row.was)}</td><td class="right">${written(row.now)}</td>
      <td class="wide">${bar("was", row.was)}${bar("now", row.now)}</td></tr>`)}</tbody>
  </table>`;
}
