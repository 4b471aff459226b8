// The conversations: search, open, rename, delete, export and import.

import { Icon } from "../../components.js";
import { html, useLayoutEffect, useRef, useState } from "../../html.js";

/** `conversations` is { data, next }; `hits` is null where nothing is searched for. */
export function List({ conversations, current, hits, words, setWords, searchRef, on, isReady, isKept, t }) {
  const list = useRef();
  const picker = useRef();
  // The arrow keys go through what can be opened.
  const onKeyDown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.target.matches("input.rename")) return;
    const all = [...list.current.querySelectorAll("a")];
    const at = all.indexOf(document.activeElement.closest("li")?.querySelector("a"));
    const to = at < 0 && step < 0 ? null : all[at + step];
    event.preventDefault();
    (to ?? (step < 0 ? searchRef.current : all.at(-1)))?.focus();
  };
  return html`<div class="list" onKeyDown=${onKeyDown}>
    <div class="row">
      <button class="button grow" id="new" disabled=${!isReady} onClick=${on.start}><${Icon} name="plus" /> ${t("new")}</button>
    </div>
    <div class="search" role="search">
      <${Icon} name="search" />
      <input ref=${searchRef} id="search" type="search" class="input" value=${words} placeholder=${t("search")} aria-label=${t("search")} onInput=${(event) => setWords(event.target.value)} />
    </div>
    ${!isKept && html`<p class="dim"><small>${t("notKept")}</small></p>`}
    <nav class="entries" ref=${list} aria-label=${t("conversations")}>
      ${hits ? html`<${Hits} hits=${hits} on=${on} t=${t} />` : html`
        ${isReady && !conversations.data.length && html`<p class="dim"><small>${t("empty")}</small></p>`}
        <ul>${conversations.data.map((head) => html`<${Entry} key=${head.id} head=${head} isCurrent=${head.id === current} on=${on} t=${t} />`)}</ul>
        ${conversations.next && html`<button class="button quiet" onClick=${on.more}>${t("more")}</button>`}`}
    </nav>
    <div class="row">
      <button class="button quiet small" disabled=${!isReady} onClick=${on.exportAll}><${Icon} name="save" /> ${t("export.all")}</button>
      <button class="button quiet small" disabled=${!isReady} onClick=${() => picker.current.click()}><${Icon} name="load" /> ${t("import")}</button>
      <input ref=${picker} type="file" accept=".jsonl,.ndjson,application/x-ndjson" hidden onChange=${(event) => (on.importFile(event.target.files[0]), (event.target.value = ""))} />
    </div>
  </div>`;
}

function Entry({ head, isCurrent, on, t }) {
  const [renaming, setRenaming] = useState(false);
  const item = useRef();
  const title = head.title || t("untitled");
  const rename = (text, isByKey) => {
    setRenaming(false);
    if (isByKey) requestAnimationFrame(() => item.current?.querySelector("a").focus());
    if (text && text !== head.title) on.rename(head.id, text);
  };
  if (renaming) return html`<li ref=${item}><${Rename} title=${head.title} t=${t} onDone=${rename} /></li>`;
  return html`<li class="row" ref=${item}>
    <a class="grow" href=${`#/chat/${head.id}`} aria-current=${isCurrent ? "true" : undefined} onClick=${on.opened}>${title}</a>
    <button class="button quiet small" aria-label=${t("rename.of", { title })} title=${t("rename")} onClick=${() => setRenaming(true)}><${Icon} name="edit" /></button>
    <button class="button quiet small" aria-label=${t("delete.of", { title })} title=${t("delete")} onClick=${() => on.remove(head)}><${Icon} name="trash" /></button>
  </li>`;
}

/** `onDone(text, isByKey)` is told the new title, or null, and whether a key ended it. */
function Rename({ title, t, onDone }) {
  const ref = useRef();
  useLayoutEffect(() => ref.current.select(), []);
  const isDone = useRef(false);
  // A field that goes away while it has the focus loses it as well, which is no second answer.
  const finish = (text, isByKey) => {
    if (isDone.current) return;
    isDone.current = true;
    onDone(text, isByKey);
  };
  const onKeyDown = (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter") finish(event.target.value.trim(), true);
    if (event.key === "Escape") {
      event.stopPropagation();
      finish(null, true);
    }
  };
  return html`<input ref=${ref} class="input rename" defaultValue=${title} maxlength="300" aria-label=${t("rename")} onKeyDown=${onKeyDown} onBlur=${(event) => finish(event.target.value.trim(), false)} />`;
}

function Hits({ hits, on, t }) {
  if (!hits.length) return html`<p class="dim" role="status"><small>${t("search.none")}</small></p>`;
  return html`<ul>${hits.map((hit) => html`<li key=${`${hit.conversation}/${hit.message}`}>
    <a class="hit" onClick=${on.opened} href=${`#/chat/${hit.conversation}${hit.message ? `/${hit.message}` : ""}`}>
      <b>${hit.title || t("untitled")}</b>
      <small>${hit.parts[0]}<mark>${hit.parts[1]}</mark>${hit.parts[2]}</small>
    </a></li>`)}</ul>`;
}
