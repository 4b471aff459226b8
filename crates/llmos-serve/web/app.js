// The shell: which page is shown, in which language and colours, with which model, and the key at the door.
//
// # What a page is
//
// pages/NAME.js:          export default function Page({ api, t, state }) { return html`<main …>…</main>`; }
// pages/NAME.strings.js:  export default { en: { "some.key": "Some {n} words" }, zh: { … } };
// pages/NAME.css:         rules of that page alone; each begins with .page-NAME. Colours and sizes come from
//                         the variables of style.css.
//
// A page is a Preact component written with htm (`import { html, useState, … } from "../html.js"`); its
// files are loaded when it is first opened. It is mounted anew when the reader comes back to it or changes
// the language, so what should last goes to `state.memory`. It stands inside <main id="main" class="page
// page-NAME">, so it gives no <main> and begins with <h1> (class "visually-hidden" where it is not shown).
//
// - `api` (api.js): `await api.get(path)`, `api.post(path, body)`, `api.patch(path, body)`,
//   `api.delete(path)`, `api.text(path)`; `for await (const event of api.stream(path, body, { signal }))`
//   for server-sent events, ended by `break` or an AbortController's signal. Each takes `{ signal }` last.
//   Failures throw ApiError { status, message, hint, code, isMissing }; show them with
//   <${ErrorNote} error=${error} t=${t} retry=${again} /> from components.js. `isAbort(error)` tells a stop.
// - `t("key", { n: 3 })` is the page's own string, else a shared one of strings.js; `t.number(x, options)`,
//   `t.date(ms)`, `t.lang`.
// - `state`:
//     lang, theme ("auto" | "light" | "dark")
//     path       what follows the page in the address: "#/runs/abc" has path "abc"; state.go("runs/abc")
//                leads there
//     models     the entries of GET /v1/models, [] until they are there; await state.refreshModels()
//     model      the id that is chosen (or null); state.setModel(id) chooses for all pages and remembers
//     announce(text)  is read out by a screen reader, and not shown
//     toast(text, { action, label, seconds })  is shown at the foot for some seconds, with a button
//     memory     an object of this page, kept as long as the tab
//
// Rules: no request to another host; no innerHTML, no inline script, no style attribute in markup: htm's
// style=${{ width: "40%" }} sets properties one by one, which the content security policy allows. Timers,
// listeners and streams end when the page is left (the function that useEffect returns).

import { createApi } from "./api.js";
import { ErrorNote, Icon } from "./components.js";
import { html, render, useCallback, useEffect, useMemo, useRef, useState } from "./html.js";
import { LANGUAGES, preferredLanguage, translator } from "./i18n.js";

const PAGES = ["chat", "next", "dreams", "inside", "models", "runs"];
const THEMES = ["auto", "light", "dark"];
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

/** What the reader chose, kept by the browser where it allows that. */
const settings = {
  get(name) {
    try {
      return localStorage.getItem(`llmos.${name}`);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`llmos.${name}`, value);
    } catch {
      // A browser that keeps nothing: it lasts as long as the tab.
    }
  },
};

const memories = Object.fromEntries(PAGES.map((name) => [name, {}]));
const loaded = new Map();

/** The page's component and words; its stylesheet is in place when this resolves. */
function loadPage(name) {
  if (!loaded.has(name)) {
    const parts = Promise.all([
      import(`./pages/${name}.js`),
      import(`./pages/${name}.strings.js`),
      stylesheet(`/web/pages/${name}.css`),
    ]).then(([page, strings]) => ({ Page: page.default, strings: strings.default }));
    parts.catch(() => loaded.delete(name));
    loaded.set(name, parts);
  }
  return loaded.get(name);
}

function stylesheet(href) {
  return new Promise((resolve) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = href;
    // A page without its colours is better than none.
    link.onload = link.onerror = resolve;
    document.head.append(link);
  });
}

/** "#/runs/abc" is the page "runs" with the path "abc". */
function readHash() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return { name: PAGES.includes(name) ? name : PAGES[0], path: rest.map(decodeURIComponent).join("/") };
}

function go(to) {
  location.hash = `#/${to}`;
}

function App() {
  const [place, setPlace] = useState(readHash);
  const [lang, setLang] = useState(() => preferredLanguage(settings.get("lang")));
  const [theme, setTheme] = useState(() => (THEMES.includes(settings.get("theme")) ? settings.get("theme") : "auto"));
  const [locked, setLocked] = useState(false);
  const [models, setModels] = useState([]);
  const [chosen, setChosen] = useState(() => settings.get("model"));
  const [error, setError] = useState(null);
  const [page, setPage] = useState(null);
  const [toasts, setToasts] = useState([]);
  const live = useRef();
  const api = useMemo(() => createApi(() => setLocked(true)), []);
  const t = useMemo(() => translator(lang), [lang]);

  useEffect(() => {
    const onHash = () => setPlace(readHash());
    addEventListener("hashchange", onHash);
    return () => removeEventListener("hashchange", onHash);
  }, []);

  useEffect(() => {
    document.documentElement.lang = lang === "zh" ? "zh-CN" : lang;
    settings.set("lang", lang);
  }, [lang]);

  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    settings.set("theme", theme);
  }, [theme]);

  useEffect(() => {
    document.title = `${t(`page.${place.name}`)} · llmos`;
  }, [place.name, t]);

  const refreshModels = useCallback(async () => {
    try {
      const { data } = await api.get("/v1/models");
      setModels(data);
      setError(null);
      return data;
    } catch (error) {
      if (error.status !== 401) setError(error);
      return [];
    }
  }, [api]);

  useEffect(() => {
    if (!locked) refreshModels();
  }, [locked]);

  const openPage = useCallback((name) => {
    let isCurrent = true;
    loadPage(name).then(
      (parts) => isCurrent && setPage({ name, ...parts }),
      () => isCurrent && setPage({ name, failed: true }),
    );
    return () => {
      isCurrent = false;
    };
  }, []);
  useEffect(() => openPage(place.name), [place.name]);

  const announce = useCallback((text) => {
    // Two equal announcements in a row are read out both only if the text changes in between.
    live.current.textContent = "";
    requestAnimationFrame(() => {
      if (live.current) live.current.textContent = text;
    });
  }, []);

  const toast = useCallback((text, { action, label, seconds = 6 } = {}) => {
    const id = Symbol(text);
    const drop = () => setToasts((all) => all.filter((one) => one.id !== id));
    setToasts((all) => [...all, { id, text, label, run: action && (() => (drop(), action())) }]);
    setTimeout(drop, seconds * 1000);
    return drop;
  }, []);

  const setModel = useCallback((id) => {
    setChosen(id);
    settings.set("model", id);
  }, []);

  const leave = async () => {
    await api.delete("/v1/session").catch(() => {});
    settings.set("session", "no");
    setLocked(true);
  };

  const model = models.some((one) => one.id === chosen) ? chosen : models[0]?.id ?? null;
  const state = {
    lang, theme, models, model, setModel, refreshModels, announce, toast, go,
    path: place.path,
    memory: memories[place.name],
  };
  const isThere = page?.name === place.name;
  const pageText = useMemo(() => translator(lang, isThere ? page.strings : {}), [lang, page, isThere]);

  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>${t("skip")}</a>
    <header class="shell">
      <a class="brand" href="#/chat">llmos</a>
      <nav class="tabs" aria-label=${t("pages")}>
        ${PAGES.map((name) => html`<a key=${name} href=${`#/${name}`} aria-current=${name === place.name ? "page" : undefined}>${t(`page.${name}`)}</a>`)}
      </nav>
      <${Preferences} ...${{ t, lang, setLang, theme, setTheme }} onLeave=${!locked && settings.get("session") === "yes" && leave} />
    </header>
    <main id="main" tabindex="-1" class=${`page page-${place.name}`} key=${place.name}>
      ${locked
        ? html`<${Door} api=${api} t=${t} onOpen=${() => (settings.set("session", "yes"), setLocked(false))} />`
        : html`<${ErrorNote} error=${error} t=${t} retry=${refreshModels} />
            ${!isThere && html`<p class="dim loading">${t("loading")}</p>`}
            ${isThere && page.failed && html`<${ErrorNote} error=${{ message: t("page.failed") }} t=${t} retry=${() => openPage(place.name)} />`}
            ${isThere && page.Page && html`<${page.Page} key=${lang} api=${api} t=${pageText} state=${state} />`}`}
    </main>
    <div class="toasts" role="status">
      ${toasts.map((one) => html`<${Toast} key=${one.id} ...${one} />`)}
    </div>
    <div class="visually-hidden" role="status" aria-live="polite" ref=${live}></div>`;
}

function Toast({ text, label, run }) {
  const button = useRef();
  // What had the focus may be what has just gone; then the way back has it.
  useEffect(() => {
    if (document.activeElement === document.body) button.current?.focus();
  }, []);
  return html`<div class="toast">
    <span>${text}</span>
    ${run && html`<button class="button small" ref=${button} onClick=${run}>${label}</button>`}
  </div>`;
}

function Preferences({ t, lang, setLang, theme, setTheme, onLeave }) {
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const label = `${t("theme")}: ${t(`theme.${theme}`)}`;
  return html`<div class="preferences">
    <select class="input small" id="language" aria-label=${t("language")} value=${lang} onChange=${(event) => setLang(event.target.value)}>
      ${LANGUAGES.map(([code, name]) => html`<option key=${code} value=${code} lang=${code} selected=${code === lang}>${name}</option>`)}
    </select>
    <button class="button quiet" id="theme" aria-label=${label} title=${label} onClick=${() => setTheme(next)}>
      <${Icon} name=${THEME_ICONS[theme]} />
    </button>
    ${onLeave && html`<button class="button quiet" id="leave" onClick=${onLeave}>${t("key.forget")}</button>`}
  </div>`;
}

/** Asks for the key, and changes it for a cookie that no script can read. */
function Door({ api, t, onOpen }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const key = new FormData(event.target).get("key").trim();
    setBusy(true);
    try {
      await api.post("/v1/session", { key });
      onOpen();
    } catch (error) {
      setError(error.status === 401 ? { message: t("key.wrong") } : error.isMissing ? { message: t("key.unavailable") } : error);
    }
    setBusy(false);
  };
  return html`<form class="panel door" onSubmit=${submit}>
    <h1>${t("key.title")}</h1>
    <p class="dim">${t("key.text")}</p>
    <label class="field"><span class="label">${t("key.label")}</span>
      <input class="input" name="key" type="password" autocomplete="current-password" required autofocus /></label>
    <${ErrorNote} error=${error} t=${t} />
    <button class="button primary" disabled=${busy}>${t("key.enter")}</button>
  </form>`;
}

render(html`<${App} />`, document.getElementById("app"));
