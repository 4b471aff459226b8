// Dreams: documents from nothing but the start token, or from the first words of a kind of document, several growing at once.

import { isAbort } from "../api.js";
import { CopyButton, ErrorNote, ModelSelect, Slider } from "../components.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Select } from "../views/pieces.js";

/** First words of kinds of documents; those of `llmos dream --like`, and a Chinese story's. */
const STYLES = {
  nothing: "",
  web: '<!DOCTYPE html>\n<html lang="en">\n<head>\n<title>',
  code: "import java.util.*;\n\n/**\n * ",
  product: "Product details\nTitle: ",
  encyclopedia: "From Wikipedia, the free encyclopedia\n\n",
  story: "Once upon a time",
  chinese: "从前，",
  news: "LONDON (Reuters) - ",
  recipe: "Ingredients:\n- ",
  letter: "Dear ",
  question: "Q: ",
  poem: "A Poem\n\n",
};
const MOST = 8;
const KEPT = "llmos.dreams";

const anySeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The dreams that were kept, as far as the browser keeps anything. */
function kept() {
  try {
    const list = JSON.parse(localStorage.getItem(KEPT));
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

export default function DreamsPage({ api, t, state }) {
  const { memory } = state;
  const [form, setForm] = useState(memory.form ?? { style: "nothing", own: "", temperature: 0.8, count: 4, tokens: 300, seed: "" });
  const [dreams, setDreams] = useState(memory.dreams ?? []);
  const [keepsakes, setKeepsakes] = useState(kept);
  const [running, setRunning] = useState(null); // an AbortController
  const [error, setError] = useState(null);
  Object.assign(memory, { form, dreams });
  const live = useRef([]); // what has come, ahead of what is shown
  const frame = useRef(0);
  const abort = useRef(null);

  useEffect(() => () => {
    abort.current?.abort();
    cancelAnimationFrame(frame.current);
    memory.dreams = live.current.length ? live.current.map(ended) : memory.dreams;
  }, []);

  const show = () => {
    frame.current ||= requestAnimationFrame(() => {
      frame.current = 0;
      setDreams([...live.current]);
    });
  };
  const change = (index, by) => {
    live.current = live.current.map((dream, i) => (i === index ? { ...dream, ...by(dream) } : dream));
    show();
  };

  const start = async (wanted) => {
    abort.current?.abort();
    const control = (abort.current = new AbortController());
    const seed = wanted.seed === "" ? anySeed() : Number(wanted.seed);
    const made = { model: wanted.model, prompt: wanted.prompt, temperature: wanted.temperature, tokens: wanted.tokens };
    // Choice k of a call is drawn with its seed + k, so each can be dreamt again alone.
    live.current = Array.from({ length: wanted.count }, (_, k) => ({ ...made, seed: seed + k, text: "", state: "growing" }));
    setError(null);
    setRunning(control);
    show();
    const body = {
      model: made.model, prompt: made.prompt, temperature: made.temperature, max_tokens: made.tokens,
      n: wanted.count, seed, stream: true,
    };
    try {
      for await (const { choices } of api.stream("/v1/completions", body, { signal: control.signal })) {
        for (const choice of choices) {
          change(choice.index, (dream) => dream.state !== "growing" ? {} : {
            text: dream.text + choice.text,
            state: choice.finish_reason ? (choice.finish_reason === "length" ? "cut" : "ended") : "growing",
          });
          if (choice.finish_reason) state.announce(t("announce", { n: choice.index + 1 }));
        }
      }
    } catch (failure) {
      if (!isAbort(failure)) setError(failure);
    }
    if (abort.current !== control) return; // another call has begun
    live.current = live.current.map(ended);
    show();
    setRunning(null);
  };
  const submit = (event) => {
    event.preventDefault();
    const prompt = form.style === "own" ? form.own : STYLES[form.style];
    start({ ...form, prompt, model: state.model });
  };
  const stop = (index) => {
    change(index, () => ({ state: "stopped" }));
    if (live.current.every((dream) => dream.state !== "growing")) abort.current?.abort();
  };
  const keep = (list) => {
    setKeepsakes(list);
    try {
      localStorage.setItem(KEPT, JSON.stringify(list));
    } catch {
      state.toast(t("keep.failed"));
    }
  };
  const again = (dream) => {
    const style = Object.keys(STYLES).find((name) => STYLES[name] === dream.prompt) ?? "own";
    const next = { ...form, style, own: dream.prompt, seed: String(dream.seed), count: 1, temperature: dream.temperature, tokens: dream.tokens };
    setForm(next);
    if (state.models.some((one) => one.id === dream.model)) state.setModel(dream.model);
    start({ ...next, prompt: dream.prompt, model: dream.model });
  };
  const field = (name) => (value) => setForm((old) => ({ ...old, [name]: value }));
  return html`<div class="stack">
    <h1>${t("title")}</h1>
    <p class="dim">${t("lead")}</p>
    <form class="panel stack" onSubmit=${submit}>
      <div class="toolbar">
        <${ModelSelect} state=${state} t=${t} value=${state.model} onChange=${state.setModel} />
        <${Select} label=${t("style")} value=${form.style} onChange=${field("style")} options=${[...Object.keys(STYLES), "own"].map((name) => [name, t(`style.${name}`)])} />
        <label class="field"><span class="label">${t("seed")}</span>
          <input class="input seed" name="seed" inputmode="numeric" pattern="[0-9]{1,15}" placeholder=${t("seed.any")} value=${form.seed} onInput=${(event) => field("seed")(event.target.value.trim())} /></label>
      </div>
      ${form.style === "own" && html`<label class="field"><span class="label">${t("own")}</span>
        <textarea class="input" rows="2" value=${form.own} onInput=${(event) => field("own")(event.target.value)}></textarea></label>`}
      <div class="knobs">
        <${Slider} label=${t("temperature")} min="0" max="2" step="0.05" value=${form.temperature} onInput=${field("temperature")} />
        <${Slider} label=${t("count")} min="1" max=${MOST} step="1" value=${form.count} onInput=${(value) => field("count")(Math.min(MOST, Math.max(1, Math.round(value) || 1)))} />
        <${Slider} label=${t("tokens")} min="20" max="1000" step="10" value=${form.tokens} onInput=${(value) => field("tokens")(Math.max(1, Math.round(value) || 1))} />
      </div>
      <div class="row wrap">
        <button class="button primary" disabled=${!state.model}>${t(running ? "restart" : "dream")}</button>
        ${running && html`<button class="button" type="button" onClick=${() => running.abort()}>${t("stop.all")}</button>`}
      </div>
    </form>
    <${ErrorNote} error=${error} t=${t} />
    ${dreams.length > 0 && html`<section class="dreams" aria-label=${t("title")} aria-busy=${Boolean(running)}>
      ${dreams.map((dream, i) => html`<${Dream} key=${i} t=${t} dream=${dream} title=${t("number", { n: i + 1 })}>
        ${dream.state === "growing"
          ? html`<button class="button small" onClick=${() => stop(i)}>${t("stop")}</button>`
          : html`<button class="button small" onClick=${() => again(dream)}>${t("again")}</button>
              <button class="button small" disabled=${keepsakes.some((one) => same(one, dream))} onClick=${() => keep([dream, ...keepsakes])}>${t("keep")}</button>`}
        <${CopyButton} t=${t} text=${dream.prompt + dream.text} />
      <//>`)}
    </section>`}
    ${keepsakes.length > 0 && html`<h2>${t("kept")}</h2>
    <section class="dreams" aria-label=${t("kept")}>
      ${keepsakes.map((dream, i) => html`<${Dream} key=${i} t=${t} dream=${dream} title=${dream.model}>
        <button class="button small" onClick=${() => again(dream)}>${t("again")}</button>
        <button class="button small danger" onClick=${() => keep(keepsakes.filter((one) => one !== dream))}>${t("delete")}</button>
        <${CopyButton} t=${t} text=${dream.prompt + dream.text} />
      <//>`)}
    </section>`}
  </div>`;
}

const ended = (dream) => (dream.state === "growing" ? { ...dream, state: "stopped" } : dream);

const same = (a, b) => a.seed === b.seed && a.model === b.model && a.text === b.text;

function Dream({ t, dream, title, children }) {
  const body = useRef();
  const isGrowing = dream.state === "growing";
  useEffect(() => {
    const { scrollHeight, scrollTop, clientHeight } = body.current;
    // Who reads further up is left there.
    if (isGrowing && scrollHeight - scrollTop - clientHeight < 80) body.current.scrollTop = scrollHeight;
  }, [dream.text]);
  return html`<article class="panel dream">
    <header class="row wrap"><h2 class="grow">${title}</h2>
      <span class=${`badge ${isGrowing ? "good" : ""}`}>${t(`state.${dream.state}`)}</span></header>
    <p class="dim">${t("made", { seed: String(dream.seed), temperature: dream.temperature })}</p>
    <pre ref=${body} tabindex="0" role="group" aria-label=${title}><b>${dream.prompt}</b>${dream.text}${isGrowing && html`<span class="cursor" aria-hidden="true"></span>`}</pre>
    <footer class="row wrap">${children}</footer>
  </article>`;
}
