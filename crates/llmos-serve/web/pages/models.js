// Models: what is here and what it is; loading, unloading, converting and pulling.

import { isAbort } from "../api.js";
import { CopyButton, ErrorNote } from "../components.js";
import { html, useEffect, useState } from "../html.js";
import { Markdown } from "../markdown.js";
import { duration, few, short, size } from "../views/amounts.js";
import { Facts, Select } from "../views/pieces.js";

/** Types that a model is converted to: those of `llmos convert`. */
const TYPES = ["q8_0", "q4_0", "q4_k_m", "q5_k_m", "q6_k", "f16", "bf16", "f32"];

/** What is under way. A download goes on when the reader looks at another page: it is kept here, and not by the page. */
const jobs = [];
let tell = () => {};

async function follow(job, api, path, body, onDone) {
  jobs.push(job);
  tell();
  try {
    for await (const { done, total, what, model } of api.stream(path, body, { signal: job.control.signal })) {
      if (model !== undefined) job.made = model;
      else Object.assign(job, { done, total, what });
      tell();
    }
    job.state = "done";
    onDone();
  } catch (error) {
    job.state = isAbort(error) ? "cancelled" : "failed";
    job.error = isAbort(error) ? null : error;
  }
  tell();
}

const newJob = (kind, name) => ({ kind, name, done: 0, total: null, what: "", state: "running", started: performance.now(), control: new AbortController() });

export default function ModelsPage({ api, t, state }) {
  const [, setCount] = useState(0);
  const [name, setName] = useState(state.memory.name ?? "");
  state.memory.name = name;
  useEffect(() => {
    tell = () => setCount((count) => count + 1);
    state.refreshModels();
    return () => {
      tell = () => {};
    };
  }, []);
  const start = (kind, title, body) => {
    const job = newJob(kind, title);
    follow(job, api, `/v1/models/${kind}`, body, () => {
      state.refreshModels();
      state.toast(t("job.done", { name: job.made ?? title }));
    });
  };
  const models = [...state.models].sort((a, b) => Number(b.loaded) - Number(a.loaded) || a.id.localeCompare(b.id));
  const total = models.reduce((sum, model) => sum + (model.size ?? 0), 0);
  return html`<div class="stack">
    <h1>${t("title")}</h1>
    <p class="dim">${t("lead", { n: models.length, size: size(t, total) })} ${t("admin")}</p>
    <form class="panel toolbar" onSubmit=${(event) => (event.preventDefault(), start("pull", name.trim(), { name: name.trim() }))}>
      <label class="field grow"><span class="label">${t("pull.name")}</span>
        <input class="input" name="name" required placeholder="hf:OWNER/REPO" spellcheck=${false} autocomplete="off" value=${name} onInput=${(event) => setName(event.target.value)} /></label>
      <button class="button primary">${t("pull")}</button>
    </form>
    ${jobs.map((job, i) => html`<${Job} key=${i} t=${t} job=${job} onDrop=${() => (jobs.splice(jobs.indexOf(job), 1), tell())} />`)}
    ${!models.length && html`<p>${t("none")}</p>`}
    <div class="models">
      ${models.map((model) => html`<${Model} key=${model.id} ...${{ api, t, state, model }} onConvert=${(type) => start("convert", `${model.id} → ${type}`, { model: model.id, type })} />`)}
    </div>
  </div>`;
}

function Job({ t, job, onDrop }) {
  const share = job.total ? job.done / job.total : null;
  const seconds = (performance.now() - job.started) / 1000;
  const left = share && seconds > 2 ? t("job.left", { time: duration(t, (seconds / share) * (1 - share)) }) : "";
  const amount = job.total ? t("job.of", { done: size(t, job.done), total: size(t, job.total) }) : job.done ? size(t, job.done) : "";
  return html`<section class="panel stack job" aria-label=${`${t(`job.${job.kind}`)} ${job.name}`}>
    <div class="row wrap"><h2 class="grow">${t(`job.${job.kind}`)} ${job.name}</h2>
      <span class=${`badge ${{ done: "good", failed: "bad" }[job.state] ?? ""}`} role="status">${t(`job.${job.state}`)}</span>
      ${job.state === "running"
        ? html`<button class="button" onClick=${() => job.control.abort()}>${t("cancel")}</button>`
        : html`<button class="button" onClick=${onDrop}>${t("close")}</button>`}</div>
    ${job.state === "running" && html`<progress aria-label=${job.name} max="1" value=${share ?? undefined}></progress>`}
    <p class="dim">${[job.what, amount, job.state === "running" ? left : "", job.made].filter(Boolean).join(" · ")}</p>
    <${ErrorNote} error=${job.error} t=${t} />
  </section>`;
}

function Model({ api, t, state, model, onConvert }) {
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const [type, setType] = useState(TYPES[0]);
  const [isOpen, setOpen] = useState(false);
  const change = async (what) => {
    setBusy(true);
    setError(null);
    try {
      await api.post(`/v1/models/${what}`, { model: model.id });
      await state.refreshModels();
      state.announce(t(`${what}.done`, { name: model.id }));
    } catch (failure) {
      setError(failure.status === 403 ? { message: failure.message, hint: t("admin") } : failure);
    }
    setBusy(false);
  };
  const facts = [
    ["architecture", model.architecture],
    ["parameters", model.parameters != null && `${short(t, model.parameters)} (${t.number(model.parameters)})`],
    ["context", model.context != null && t("tokens", { n: model.context })],
    ["size", model.size != null && size(t, model.size)],
    ["rate", model.size && model.parameters && t("bits", { n: few(t, (8 * model.size) / model.parameters, 3) })],
    ["license", model.license],
    ["adapters", model.adapters?.length > 0 && model.adapters.map((one) => one.id ?? one.name ?? one).join(", ")],
    ["digest", model.digest && html`<span class="row"><code title=${model.digest}>${model.digest.slice(0, 19)}…</code><${CopyButton} t=${t} text=${model.digest} label=${t("digest.copy")} /></span>`],
  ].map(([name, value]) => [t(`fact.${name}`), value]);
  return html`<article class="panel stack model" aria-busy=${isBusy}>
    <div class="row wrap"><h2 class="grow">${model.id}</h2>
      <span class=${`badge ${model.loaded ? "good" : ""}`}>${t(model.loaded ? "loaded" : "unloaded")}</span></div>
    <${Facts} rows=${facts} />
    <div class="toolbar">
      <button class="button" aria-disabled=${isBusy} onClick=${() => isBusy || change(model.loaded ? "unload" : "load")}>${t(isBusy ? "working" : model.loaded ? "unload" : "load")}</button>
      <button class="button" onClick=${() => (state.setModel(model.id), state.go("chat"))}>${t("use")}</button>
      <${Select} label=${t("convert.type")} value=${type} onChange=${setType} options=${TYPES.map((one) => [one])} />
      <button class="button" aria-label=${t("convert.label", { name: model.id })} onClick=${() => onConvert(type)}>${t("convert")}</button>
    </div>
    <${ErrorNote} error=${error} t=${t} />
    ${model.card && html`<details onToggle=${(event) => setOpen(event.target.open)}><summary>${t("card")}</summary>
      ${isOpen && html`<${Markdown} text=${model.card} t=${t} />`}</details>`}
  </article>`;
}
