// Next word: what may follow a text, how the knobs of sampling reshape it, and how surprising each word was.

import { ErrorNote, ModelSelect, Slider } from "../components.js";
import { html, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { PLAIN, bits, draw, reshape } from "../views/distribution.js";
import { useLatest } from "../views/latest.js";
import { Facts, Select, Spoken, percent } from "../views/pieces.js";
import { logprobOf, spoken, units, visible } from "../views/tokens.js";

/** Tokens of a table that are asked for; what lies beyond is shown as one bar. */
const TOP = 1000;
/** Rows that are shown, and after a click. */
const ROWS = 12;
const MORE_ROWS = 60;
/** Units of a text that are shown: the last ones. */
const UNITS = 2000;
/** Alternatives of each token of the text. */
const ALTERNATIVES = 10;
/** A knob's name, its word, its most and its step. */
const KNOBS = [["temperature", "temperature", 2, 0.01], ["topK", "top_k", 100, 1], ["topP", "top_p", 1, 0.01], ["minP", "min_p", 0.5, 0.005]];
const EXAMPLES = ["cat sat on a", "Once upon a time there was a", "1, 2, 3, 4,", "从前有一只"];

export default function NextPage({ api, t, state }) {
  const { memory } = state;
  const [text, setText] = useState(memory.text ?? EXAMPLES[0]);
  const [knobs, setKnobs] = useState(memory.knobs ?? PLAIN);
  const [second, setSecond] = useState(memory.second ?? "");
  const [pending, setPending] = useState(null); // tokens that are not a whole character yet: {model, ids, start, base}
  const [isDrawing, setDrawing] = useState(false);
  const [error, setError] = useState(null);
  const area = useRef();
  Object.assign(memory, { text, knobs, second });
  const id = useId();

  const write = (next) => {
    setPending(null);
    setError(null);
    setText(next);
  };
  // Half a character is no text: its token waits, with the text's own, until others complete it.
  const append = async (model, token) => {
    if (!pending && !token.text.includes("\ufffd")) return write(text + token.text);
    try {
      let wait = pending?.model === model ? pending : null;
      if (!wait) {
        const [whole, bare] = await Promise.all(
          [true, false].map((start) => api.post("/tokenize", { model, prompt: text, add_special_tokens: start })),
        );
        wait = { model, ids: whole.tokens, start: whole.count - bare.count };
      }
      const ids = [...wait.ids, token.id];
      const decode = async (tokens) => (tokens.length ? (await api.post("/detokenize", { model, tokens })).prompt : "");
      const known = wait.base ?? (await decode(wait.ids.slice(wait.start)));
      const now = await decode(ids.slice(wait.start));
      if (now.endsWith("\ufffd")) setPending({ ...wait, ids, base: known });
      else write(text + now.slice(known.length));
    } catch (failure) {
      setDrawing(false);
      setError(failure);
    }
    return undefined;
  };

  const onKeyDown = (event) => {
    if (event.key === "Escape") setDrawing(false);
    const digit = event.altKey && /^Digit([1-9])$/.exec(event.code)?.[1];
    if (!digit) return;
    event.preventDefault();
    document.querySelectorAll(".page-next .column:first-child .word")[digit - 1]?.click();
  };
  const isPlain = Object.keys(PLAIN).every((name) => knobs[name] === PLAIN[name]);
  const columns = [state.model, second].filter((model, i) => model && (i === 0 || model !== state.model));
  return html`<div class="stack" onKeyDown=${onKeyDown}>
    <h1>${t("title")}</h1>
    <p class="dim">${t("lead")}</p>
    <div class="toolbar">
      <${ModelSelect} state=${state} t=${t} value=${state.model} onChange=${state.setModel} />
      <${Select} label=${t("second")} value=${second} onChange=${setSecond}
        options=${[["", t("second.none")], ...state.models.filter((one) => one.id !== state.model).map((one) => [one.id])]} />
    </div>
    <div class="field">
      <label class="label" for=${id}>${t("text")}</label>
      <textarea id=${id} class="input" rows="2" ref=${area} value=${text} spellcheck=${false} aria-describedby=${`${id}-keys`}
        onInput=${(event) => write(event.target.value)}></textarea>
      ${pending && html`<p><span class="badge warn">${t("pending", { n: pending.ids.length })}</span>
        <button class="button small" onClick=${() => setPending(null)}>${t("undo")}</button></p>`}
      <small class="dim" id=${`${id}-keys`}>${t("keys")}</small>
      <div class="row wrap" role="group" aria-label=${t("examples")}>
        ${EXAMPLES.map((example) => html`<button key=${example} class="button small" onClick=${() => (write(example), area.current.focus())}>${example}</button>`)}
      </div>
    </div>
    <fieldset class="panel knobs">
      <legend>${t("knobs")}</legend>
      ${KNOBS.map(([name, word, max, step]) => html`<${Slider} key=${name} label=${t(word)} min="0" max=${max} step=${step}
        value=${knobs[name]} onInput=${(value) => setKnobs((old) => ({ ...old, [name]: value }))} />`)}
      <div class="row wrap">
        <button class="button small" disabled=${isPlain} onClick=${() => setKnobs(PLAIN)}>${t("reset")}</button>
        <button class="button small primary" aria-pressed=${isDrawing} onClick=${() => setDrawing(!isDrawing)}>${t(isDrawing ? "draw.stop" : "draw.start")}</button>
      </div>
    </fieldset>
    <${ErrorNote} error=${error} t=${t} />
    <div class="split">
      ${columns.map((model, i) => html`<${Column} key=${model} ...${{ api, t, state, model, text, knobs, pending }}
        isDrawing=${isDrawing && i === 0} onEnd=${() => setDrawing(false)}
        onChoose=${(token) => append(model, token)} onRewrite=${(next) => (write(next), area.current.focus())} />`)}
    </div>
    ${columns.length > 1 && html`<p class="dim">${t("compare.note")}</p>`}
  </div>`;
}

/** One model: its table of next words, and the text as it surprised it. */
function Column({ api, t, state, model, text, knobs, pending, isDrawing, onEnd, onChoose, onRewrite }) {
  const prompt = pending?.model === model ? pending.ids : text;
  const [rows, setRows] = useState(ROWS);
  const info = useLatest((signal) => api.get(`/tokenizer_info?model=${encodeURI(model)}`, { signal }), [model]);
  const table = useLatest(async (signal) => {
    const answer = await api.post("/v1/next", { model, prompt, top: TOP }, { signal });
    return { ...answer, prompt };
  }, [model, prompt]);
  const next = table.value?.next ?? [];
  const isFresh = table.value?.prompt === prompt;
  // The table comes first: the text is measured once it is there, and rests.
  const isNext = !isDrawing && (isFresh || Boolean(table.error));
  const measured = useLatest(isNext ? (signal) => measure(api, model, text, signal) : undefined, [model, text, isNext]);
  const shaped = useMemo(
    () => reshape(next, info.value?.vocab_size ?? next.length, knobs),
    [table.value, info.value, knobs],
  );

  useEffect(() => {
    if (!isDrawing || !isFresh || !next.length) return;
    const token = next[draw(shaped.rows, Math.random())];
    if ([info.value?.eos_token, info.value?.bos_token].includes(token.text)) onEnd();
    else onChoose(token);
  }, [isDrawing, table.value]);
  useEffect(() => {
    if (isDrawing && table.error) onEnd();
  }, [table.error]);

  // Read out once the typing rests.
  useEffect(() => {
    if (!next.length || isDrawing) return undefined;
    const timer = setTimeout(() => state.announce(t("likeliest", { word: spoken(next[0].text, t), share: percent(t, next[0].probability) })), 800);
    return () => clearTimeout(timer);
  }, [table.value]);

  const onKeyDown = (event) => {
    const words = [...event.currentTarget.querySelectorAll(".word")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      words[Math.max(0, words.indexOf(document.activeElement) + step)]?.focus();
    } else if (/^[1-9]$/.test(event.key) && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      words[Number(event.key) - 1]?.click();
    }
  };
  return html`<section class="panel stack column" aria-label=${model} aria-busy=${table.isBusy}>
    <h2>${model}</h2>
    <${ErrorNote} error=${table.error} t=${t} />
    ${next.length > 0 && html`<ol class="words" aria-label=${t("table")} onKeyDown=${onKeyDown}>
      ${next.slice(0, rows).map((token, i) => html`<${Word} key=${i} t=${t} number=${i + 1} token=${token} ...${shaped.rows[i]} onChoose=${() => onChoose(token)} />`)}
    </ol>
    <div class="row wrap">
      ${next.length > ROWS && html`<button class="button small" aria-expanded=${rows > ROWS} onClick=${() => setRows(rows > ROWS ? ROWS : MORE_ROWS)}>${t(rows > ROWS ? "fewer" : "more")}</button>`}
      <small class="dim">${others(t, next, shaped, rows)}</small>
    </div>`}
    <h3>${t("surprise")}</h3>
    <${ErrorNote} error=${table.error ? null : measured.error} t=${t} />
    ${measured.value && html`<${Surprise} t=${t} measured=${measured.value} text=${text} start=${info.value?.bos_token} onRewrite=${onRewrite} />`}
  </section>`;
}

/** What the rows that are not shown hold together. */
function others(t, next, { rows, rest }, shown) {
  const beyond = rows.slice(shown).reduce((sum, row) => sum + row.shaped, rest.shaped);
  const before = next.slice(shown).reduce((sum, row) => sum + row.probability, rest.probability);
  const n = Math.max(0, next.length - shown) + rest.count;
  return n ? t(rest.count ? "others.estimated" : "others", { n, before: percent(t, before), share: percent(t, beyond) }) : "";
}

function Word({ t, number, token, shaped, cut, onChoose }) {
  const before = percent(t, token.probability);
  const now = percent(t, shaped);
  const name = spoken(token.text, t);
  const label = cut ? t("word.cut", { word: name, before, step: t(cut) }) : t("word", { word: name, before, share: now });
  return html`<li><button class=${`word ${cut ? "is-cut" : ""}`} onClick=${onChoose}><${Spoken} as=${label}>
    <kbd>${number < 10 ? number : ""}</kbd>
    <span class="token">${visible(token.text)}</span>
    <span class="bars"><span class="was" style=${{ width: `${100 * token.probability}%` }}></span>
      <span class="now" style=${{ width: `${100 * shaped}%` }}></span></span>
    <span class="share">${cut ? html`<small>${t("cut", { step: t(cut) })}</small>` : now}</span>
    <span class="share dim">${before}</span>
  <//></button></li>`;
}

/** The log-probabilities of a text with each token's alternatives; of one beyond the context without them. */
async function measure(api, model, text, signal) {
  try {
    const body = { model, prompt: text, max_tokens: 0, echo: true, logprobs: ALTERNATIVES, temperature: 0 };
    const { choices } = await api.post("/v1/completions", body, { signal });
    return { units: units(choices[0].logprobs) };
  } catch (error) {
    if (error.code !== "context_length_exceeded") throw error;
    const { each } = await api.post("/v1/score", { model, text }, { signal });
    return { units: units({ tokens: each.map((one) => one.text), token_logprobs: each.map((one) => one.logprob) }) };
  }
}

/** Bits at which the next shade begins. */
const SHADES = [0.5, 1, 2, 4, 6, 8, 11, 15];

const shade = (surprise) => SHADES.filter((least) => surprise >= least).length;

/** The text, each unit coloured by its surprise; the chosen one's alternatives below. */
function Surprise({ t, measured, text, start, onRewrite }) {
  const [chosen, setChosen] = useState(null);
  const box = useRef();
  const list = measured.units;
  const total = list.reduce((sum, unit) => sum + bits(logprobOf(unit) ?? 0), 0);
  const parts = list.flatMap((unit) => unit.parts);
  const scored = parts.filter((part) => part.logprob !== null).length;
  const bytes = new TextEncoder().encode(text).length;
  const at = chosen !== null && chosen < list.length ? chosen : null;
  const hidden = Math.max(0, list.length - UNITS);
  const two = (value) => t.number(value, { maximumFractionDigits: 2 });
  // Made once for a text, however the pointer moves over it.
  const shown = useMemo(() => list.slice(hidden).map((unit, i) => {
    const logprob = logprobOf(unit);
    const word = spoken(unit.text, t);
    return html`<button key=${i} data-at=${hidden + i} tabindex="-1"
      class=${`unit shade-${shade(bits(logprob ?? 0))} ${logprob === null ? "is-first" : ""}`}><${Spoken} as=${logprob === null ? t("unit.first", { word }) : t("unit", { word, bits: two(bits(logprob)) })}>${unit.text.replace(/\n/g, "↵\n") || "∅"}<//></button>`;
  }), [measured, t]);
  useLayoutEffect(() => {
    const unit = box.current.children[Math.max(0, (at ?? 0) - hidden)];
    unit?.setAttribute("tabindex", "0");
    unit?.classList.toggle("is-chosen", at !== null);
    return () => {
      unit?.setAttribute("tabindex", "-1");
      unit?.classList.remove("is-chosen");
    };
  }, [at, shown]);
  const choose = ({ target }) => {
    const unit = target.closest("[data-at]");
    if (unit) setChosen(Number(unit.dataset.at));
  };
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    box.current.children[Math.min(list.length - 1, Math.max(hidden, (at ?? hidden) + step)) - hidden]?.focus();
  };
  const rewrite = (place, token) => {
    const before = list.slice(0, place).filter((unit) => unit.text !== start).map((unit) => unit.text).join("");
    // A vocabulary of SentencePiece's kind puts a blank before the text.
    onRewrite((text.startsWith(before) ? before : before.replace(/^ /, "")) + token);
  };
  return html`<div class="stack">
    <${Facts} rows=${[
      [t("sum.bits"), two(total)],
      [t("sum.per_byte"), bytes > 0 && two(total / bytes)],
      [t("sum.per_token"), scored > 0 && two(total / scored)],
      [t("sum.size"), `${t("sum.tokens", { n: parts.length })}, ${t("sum.bytes", { n: bytes })}`],
    ]} />
    ${hidden > 0 && html`<p class="dim">${t("surprise.hidden", { n: UNITS })}</p>`}
    <div class="surprise" role="group" aria-label=${t("surprise.label")} ref=${box}
      onMouseOver=${choose} onFocusCapture=${choose} onClick=${choose} onKeyDown=${onKeyDown}>${shown}</div>
    <p class="legend dim" aria-hidden="true">${t("legend")} ${[0, ...SHADES].map((least, i) => html`<span key=${i} class=${`unit shade-${i}`}>${t.number(least)}</span>`)}</p>
    <div class="alternatives" aria-live="polite">
      ${at === null ? html`<p class="dim">${t("alternatives.none")}</p>` : list[at].parts.map((part, i) => html`<${Alternatives} key=${i} t=${t} part=${part}
        onTake=${i === 0 ? (token) => rewrite(at, token) : null} />`)}
    </div>
  </div>`;
}

function Alternatives({ t, part, onTake }) {
  const likely = Object.entries(part.top ?? {}).sort((a, b) => b[1] - a[1]);
  if (part.logprob === null) return html`<p>${t("alternatives.first", { word: visible(part.token) })}</p>`;
  const rank = likely.findIndex(([token]) => token === part.token) + 1;
  const share = percent(t, Math.exp(part.logprob));
  const known = rank > 0 && rank <= ALTERNATIVES;
  return html`<div>
    <p><b class="token">${visible(part.token)}</b> ${share}, ${t("bits", { n: Number(bits(part.logprob).toFixed(2)) })}${known ? `, ${t("rank", { rank: t.number(rank) })}` : ""}</p>
    ${likely.length > 0 && html`<ul class="others" aria-label=${t("alternatives")}>
      ${likely.map(([token, logprob]) => html`<li key=${token}><button class="button small" aria-pressed=${token === part.token}
        disabled=${!onTake || token.startsWith("bytes:")} title=${t("take")} onClick=${() => onTake(token)}>
        <span class="token">${visible(token)}</span> <span class="dim">${percent(t, Math.exp(logprob))}</span></button></li>`)}
    </ul>`}
  </div>`;
}
