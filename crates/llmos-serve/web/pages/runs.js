// Runs: training as it goes on, and old runs beside each other.

import { isAbort } from "../api.js";
import { ErrorNote } from "../components.js";
import { html, useMemo, useRef, useState } from "../html.js";
import { duration, few, short, size } from "../views/amounts.js";
import { LineChart } from "../views/chart.js";
import { useRepeated } from "../views/latest.js";
import { Facts, Select } from "../views/pieces.js";

/** Milliseconds between two looks at a run, and at the list. */
const PAUSE = 2000;
const LIST_PAUSE = 5000;
/** Runs that can be told apart. */
const MOST = 6;

const AXES = { step: (row) => row.step, tokens: (row) => row.tokens, time: (row) => row.seconds };

/** Ids in the page's address: the shell decodes it once, so that an id may hold any sign. */
const encode = (ids) => ids.map((id) => encodeURIComponent(encodeURIComponent(id))).join("+");
const decode = (path) => (path ? path.split("+").map(decodeURIComponent) : []);

export default function RunsPage({ api, t, state }) {
  const { memory } = state;
  const [runs, setRuns] = useState(memory.runs ?? null);
  const [error, setError] = useState(null);
  const [axis, setAxis] = useState(memory.axis ?? "step");
  const [, setCount] = useState(0);
  const data = useRef((memory.data ??= new Map())).current; // id -> what is known of a run
  const ids = decode(state.path);
  Object.assign(memory, { runs, axis });

  useRepeated(async (signal) => {
    try {
      const { data: list } = await api.get("/v1/runs", { signal });
      setRuns(list);
      setError(null);
    } catch (failure) {
      if (!isAbort(failure)) setError(failure);
    }
  }, LIST_PAUSE, []);

  useRepeated(ids.length ? async (signal) => {
    for (const id of ids) {
      let known = data.get(id);
      // A run that has ended is read once, and again where the list says that it has gone on.
      const listed = memory.runs?.find((run) => run.id === id);
      if (known?.isWhole && listed?.state !== "running" && (!listed || listed.step === known.run?.step)) continue;
      try {
        let news;
        do {
          const after = known?.metrics.length ? known.metrics[known.metrics.length - 1].step : 0;
          news = await api.get(`/v1/runs/${encodeURIComponent(id)}?after=${after}`, { signal });
          data.set(id, (known = joined(known, news)));
        } while (news.more && news.metrics.length);
      } catch (failure) {
        if (isAbort(failure)) return;
        data.set(id, { metrics: [], dreams: [], ...known, error: failure, isWhole: failure.status === 404 });
      }
      setCount((count) => count + 1);
    }
  } : null, PAUSE, [ids.join("+")]);

  const choose = (list) => state.go(["runs", encode(list)].filter(Boolean).join("/"));
  const toggle = (id) => choose(ids.includes(id) ? ids.filter((one) => one !== id) : [...ids, id].slice(-MOST));
  const shown = ids.map((id, slot) => ({ id, slot, ...data.get(id) })).filter((one) => one.run);
  return html`<div class="stack">
    <h1>${t("title")}</h1>
    <p class="dim">${t("lead")}</p>
    <${ErrorNote} error=${error} t=${t} />
    ${runs && !runs.length && html`<p>${t("none")}</p>`}
    ${runs?.length > 0 && html`<div class="scroll-x panel" tabindex="0" role="group" aria-label=${t("list")}><table class="table">
      <thead><tr>${["choose", "run", "kind", "state", "step", "loss", "updated"].map((name) => html`<th scope="col" key=${name} class=${["step", "loss"].includes(name) ? "right" : ""}>${t(`column.${name}`)}</th>`)}</tr></thead>
      <tbody>${runs.map((run) => html`<tr key=${run.id}>
        <td><input type="checkbox" aria-label=${t("choose", { name: run.title })} checked=${ids.includes(run.id)} onChange=${() => toggle(run.id)} /></td>
        <th scope="row"><a href=${`#/runs/${encode([run.id])}`}>${run.title}</a></th>
        <td>${run.kind}</td><td><${State} t=${t} state=${run.state} /></td>
        <td class="right">${stepOf(t, run)}</td>
        <td class="right">${run.loss == null ? "–" : few(t, run.loss)}</td><td>${written(t, run.updated)}</td>
      </tr>`)}</tbody>
    </table></div>`}
    ${ids.map((id) => data.get(id)?.error && html`<${ErrorNote} key=${id} error=${data.get(id).error} t=${t} />`)}
    ${shown.length > 0 && html`<div class="toolbar"><${Select} label=${t("axis")} value=${axis} onChange=${setAxis} options=${Object.keys(AXES).map((name) => [name, t(`axis.${name}`)])} /></div>`}
    ${shown.length > 0 && html`<${shown.length > 1 ? Several : One} ...${{ t, shown }}><${Charts} ...${{ t, axis, shown }} /><//>`}
  </div>`;
}

/** What was known of a run with what came. A run that went on from a checkpoint says steps again. */
function joined(known, { run, recipe, forecast, metrics, dreams }) {
  const first = metrics[0]?.step ?? Infinity;
  const old = (known?.metrics ?? []).filter((row) => row.step < first);
  const texts = new Map([...(known?.dreams ?? []), ...dreams].map((dream) => [`${dream.step} ${dream.prompt ?? ""} ${dream.text}`, dream]));
  // Behind what is known: it was begun anew, and is read from its start.
  const isBehind = old.length > 0 && !metrics.length && run.step < old[old.length - 1].step;
  return {
    run, recipe, forecast,
    metrics: isBehind ? [] : [...old, ...metrics],
    dreams: isBehind ? [] : [...texts.values()].sort((a, b) => a.step - b.step),
    isWhole: !isBehind && run.state !== "running",
  };
}

/** A time of the server: seconds or milliseconds since 1970. */
const written = (t, time) => (typeof time === "number" ? t.date(time < 1e12 ? 1000 * time : time) : time ?? "");

const stepOf = (t, run) => `${t.number(run.step)}${run.steps ? ` / ${t.number(run.steps)}` : ""}`;

function State({ t, state }) {
  return html`<span class=${`badge ${{ running: "good", stopped: "warn" }[state] ?? ""}`}>${t(`state.${state}`)}</span>`;
}

function xAxis(t, axis) {
  const format = { step: (x) => t.number(Math.round(x)), tokens: (x) => short(t, x), time: (x) => duration(t, x) }[axis];
  return { label: t(`axis.${axis}`), format };
}

function points(metrics, axis, name) {
  const x = AXES[axis];
  return metrics.filter((row) => row[name] !== undefined && x(row) != null).map((row) => [x(row), row[name]]);
}

const last = (metrics, name) => {
  for (let i = metrics.length - 1; i >= 0; i--) if (metrics[i][name] != null) return metrics[i][name];
  return null;
};

/** Charts where a run has their quantities: the lines, and what is measured now and then as dots. */
const CHARTS = [
  ["loss", "val_loss"], ["val_bits_per_byte"], ["lr"], ["tokens_per_s"], ["grad_norm"],
  ["reward_accuracy", "val_reward_accuracy"], ["kl"],
];

/** The curves of all chosen runs over each other. */
function Charts({ t, axis, shown }) {
  const x = xAxis(t, axis);
  const charts = useMemo(() => CHARTS.map((names) => ({
    names,
    series: shown.flatMap(({ run, slot, metrics }) => names.map((name, i) => ({
      name: shown.length > 1 ? `${run.title}${i ? `, ${t(`metric.${name}`)}` : ""}` : t(`metric.${name}`),
      points: points(metrics, axis, name), slot: slot % MOST, isDots: i > 0,
    }))).filter((one) => one.points.length),
  })).filter(({ series }) => series.length), [shown.map(({ id, metrics }) => `${id} ${metrics.length}`).join(), axis, t]);
  const said = shown.length === 1 && saidOf(shown[0]);
  const marks = said?.val_bits_per_byte == null ? []
    : [{ y: said.val_bits_per_byte, low: said.low ?? undefined, high: said.high ?? undefined, name: t("forecast"), slot: 3 }];
  return html`<div class="charts">${charts.map(({ names: [name], series }) => html`<div class="panel" key=${name}>
    <${LineChart} t=${t} title=${t(`metric.${name}`)} series=${series} x=${x} y=${{ label: t(`unit.${name}`), format: (value) => few(t, value) }}
      marks=${name === "val_bits_per_byte" ? marks : []} /></div>`)}</div>`;
}

/** `forecast.json` holds what was said, and in the end what came of it. */
const saidOf = ({ forecast }) => forecast?.forecast ?? forecast;

/** How a quantity is written. */
const FORMATS = {
  loss: few, val_loss: few, val_bits_per_byte: few, lr: few, tokens_per_s: (t, value) => t.number(value, { maximumFractionDigits: 0 }),
  tokens: short, seconds: duration, left: duration, memory_bytes: size,
};
const format = (t, name, value) => (value == null ? "–" : FORMATS[name](t, value));

function One({ t, shown: [one], children }) {
  const { run, metrics, dreams, recipe } = one;
  const said = saidOf(one);
  const came = one.forecast?.outcome;
  const left = run.seconds_left ?? null;
  const isDone = run.state === "done";
  const now = { ...Object.fromEntries(Object.keys(FORMATS).map((name) => [name, last(metrics, name)])), left };
  const figures = Object.keys(FORMATS).map((name) => [t(`metric.${name}`), now[name] !== null && format(t, name, now[name])]);
  const whole = isDone ? now.seconds : left === null ? null : now.seconds + left;
  const beside = ["seconds", "val_bits_per_byte", "memory_bytes"].filter((name) => said?.[name] != null);
  const actual = { ...now, seconds: whole, ...came };
  return html`<section class="stack" aria-label=${run.title}>
    <div class="row wrap"><h2 class="grow">${run.title}</h2><${State} t=${t} state=${run.state} />
      ${run.model && html`<span class="badge">${run.model}</span>`}</div>
    ${run.steps > 0 && html`<progress aria-label=${t("column.step")} max=${run.steps} value=${run.step}></progress>`}
    <${Facts} rows=${[[t("column.step"), stepOf(t, run)], ...figures]} />
    ${children}
    ${beside.length > 0 && html`<div class="panel scroll-x"><h3>${t("forecast.title")}</h3><table class="table">
      <thead><tr><th scope="col">${t("quantity")}</th>${["forecast", came || isDone ? "actual" : "actual.now", "difference"].map((name) => html`<th scope="col" class="right" key=${name}>${t(name)}</th>`)}</tr></thead>
      <tbody>${beside.map((name) => html`<tr key=${name}><th scope="row">${t(`metric.${name}`)}</th>
        <td class="right">${format(t, name, said[name])}${name === "val_bits_per_byte" && said.low != null ? ` (${few(t, said.low)}–${few(t, said.high)})` : ""}</td>
        <td class="right">${format(t, name, actual[name])}</td>
        <td class="right">${actual[name] == null || !said[name] ? "–" : t.number(actual[name] / said[name] - 1, { style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" })}</td></tr>`)}</tbody>
    </table></div>`}
    ${dreams.length > 0 && html`<${Dreams} t=${t} dreams=${dreams} />`}
    ${recipe && html`<details class="panel"><summary>${t("recipe")}</summary><pre tabindex="0">${JSON.stringify(recipe, null, 2)}</pre></details>`}
  </section>`;
}

function Several({ t, shown, children }) {
  const names = ["val_loss", "val_bits_per_byte", "tokens", "seconds"];
  return html`<section class="stack" aria-label=${t("compared")}>
    <h2>${t("compared")}</h2>
    <div class="scroll-x panel"><table class="table">
      <thead><tr><th scope="col">${t("column.run")}</th>${names.map((name) => html`<th scope="col" class="right" key=${name}>${t(`metric.${name}`)}</th>`)}</tr></thead>
      <tbody>${shown.map(({ id, run, metrics }) => html`<tr key=${id}><th scope="row">${run.title}</th>
        ${names.map((name) => html`<td class="right" key=${name}>${format(t, name, last(metrics, name))}</td>`)}</tr>`)}</tbody>
    </table></div>
    ${children}
  </section>`;
}

/** What it wrote while it learned: the newest, or those of a chosen step. */
function Dreams({ t, dreams }) {
  const [step, setStep] = useState(null);
  const steps = [...new Set(dreams.map((dream) => dream.step))];
  const at = step !== null && steps.includes(step) ? steps.indexOf(step) : steps.length - 1;
  return html`<div class="panel stack"><h3>${t("dreams", { n: steps[at] })}</h3>
    ${steps.length > 1 && html`<label class="row"><span class="label">${t("column.step")}</span>
      <input class="grow" type="range" min="0" max=${steps.length - 1} step="1" value=${at} aria-valuetext=${t.number(steps[at])}
        onInput=${(event) => setStep(Number(event.target.value) === steps.length - 1 ? null : steps[Number(event.target.value)])} /></label>`}
    ${dreams.filter((dream) => dream.step === steps[at]).map((dream, i) => html`<pre key=${i} tabindex="0" aria-label=${t("dreams", { n: steps[at] })} role="group"><b>${dream.prompt ?? ""}</b>${dream.text}</pre>`)}
  </div>`;
}
