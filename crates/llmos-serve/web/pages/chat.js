// Chat: conversations with a model, kept by the server as trees of messages.

import { ErrorNote, Icon, ModelSelect, download } from "../components.js";
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../html.js";
import { answer } from "./chat/answer.js";
import { Composer } from "./chat/composer.js";
import { Export } from "./chat/export.js";
import { List } from "./chat/list.js";
import { Message } from "./chat/message.js";
import { Settings } from "./chat/settings.js";
import { DEFAULTS, openStore } from "./chat/store.js";
import { branch, grow, newest, siblings } from "./chat/tree.js";

/** Seconds in which a deletion can be taken back. */
const UNDO = 6;

export default function Chat({ api, t, state }) {
  const { memory } = state;
  memory.speeds ??= new Map();
  memory.withoutTools ??= new Set();
  const [id, wanted] = state.path ? state.path.split("/") : [];
  const [store, setStore] = useState(null);
  const [conversations, setConversations] = useState({ data: [], next: null });
  const [chat, setChat] = useState(null);
  const [fresh, setFresh] = useState({ ...DEFAULTS });
  const [written, setWritten] = useState(null); // { id, message }: an answer as it comes
  const [isSending, setSending] = useState(false);
  const [draft, setDraftState] = useState(memory.draft ?? { text: "", files: [] });
  const [error, setError] = useState(null); // { error, retry }
  const [words, setWords] = useState("");
  const [hits, setHits] = useState(null);
  const [isOpen, setOpen] = useState({ settings: false, export: false, list: false });
  const running = useRef(null);
  const pending = useRef(new Map());
  const rated = useRef(Promise.resolve());
  const inputRef = useRef();
  const searchRef = useRef();
  const scroller = useRef();
  const isAtEnd = useRef(true);

  const settings = chat?.settings ?? fresh;
  const model = state.models.some((one) => one.id === settings.model) ? settings.model : state.model;
  const tree = useMemo(() => grow(chat?.messages ?? []), [chat?.messages]);
  const messages = useMemo(() => (chat ? branch(tree, chat.leaf) : []), [tree, chat?.leaf]);
  const isBusy = written !== null || isSending;

  const setDraft = useCallback((change) => {
    setDraftState((now) => (memory.draft = typeof change === "function" ? change(now) : change));
  }, []);
  const fail = (error, retry) => error.status !== 401 && setError({ error, retry });
  const attempt = async (work) => {
    try {
      return await work();
    } catch (error) {
      fail(error);
      return null;
    }
  };
  const show = (part, value = true) => setOpen((now) => ({ ...now, [part]: value }));
  // On a phone the list lies over the page: the focus goes there, and back to the button.
  const openList = () => {
    show("list");
    requestAnimationFrame(() => document.getElementById("new")?.focus());
  };
  const closeList = () => {
    show("list", false);
    if (document.activeElement?.closest(".sidebar")) document.getElementById("list")?.focus();
  };

  // The list.
  const open = useCallback(async () => {
    try {
      const { store, first } = await openStore(api, memory);
      setStore(store);
      setConversations(first);
      setError(null);
    } catch (error) {
      fail(error, open);
    }
  }, []);
  useEffect(() => {
    open();
  }, []);
  const refresh = async () => {
    const first = await store.list();
    setConversations({ ...first, data: first.data.filter((head) => !pending.current.has(head.id)) });
  };

  // The conversation of the address.
  useEffect(() => {
    if (!store || chat?.id === id) return;
    setError(null);
    if (!id) {
      setChat(null);
      inputRef.current?.focus();
      return;
    }
    let isCurrent = true;
    store.get(id).then(
      (found) => {
        if (!isCurrent) return;
        isAtEnd.current = true;
        setChat({ ...found, settings: { ...DEFAULTS, ...found.settings } });
      },
      (error) => isCurrent && fail(error),
    );
    return () => {
      isCurrent = false;
    };
  }, [store, id]);

  // The message of the address: its branch is shown, and it is looked at.
  useEffect(() => {
    const number = Number(wanted);
    if (!number || chat?.id !== id || !tree.byNumber.has(number)) return;
    select(number);
    isAtEnd.current = false;
    requestAnimationFrame(() => document.getElementById(`message-${number}`)?.focus());
  }, [chat?.id, wanted]);

  // What comes is followed as long as the reader looks at the end.
  useEffect(() => {
    if (isAtEnd.current && scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  }, [messages, written, error]);
  const onScroll = ({ target }) => {
    isAtEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < 80;
  };

  useEffect(() => {
    const query = words.trim();
    if (!query || !store) {
      setHits(null);
      return;
    }
    const controller = new AbortController();
    const timer = setTimeout(() => {
      store.search(query, controller.signal).then(setHits, (error) => error.name !== "AbortError" && fail(error));
    }, 200);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [words, store]);

  const stop = () => running.current?.abort();
  useEffect(() => {
    const onKeyDown = (event) => {
      if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        show("list");
        requestAnimationFrame(() => searchRef.current?.focus());
      } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
        if (running.current) stop();
        else closeList();
      }
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);

  // Whoever leaves has stopped, and has no more time to undo.
  useEffect(() => {
    const leave = () => {
      for (const drop of pending.current.values()) drop();
    };
    addEventListener("pagehide", leave);
    return () => {
      removeEventListener("pagehide", leave);
      leave();
      stop();
    };
  }, []);

  const keep = (of, message) =>
    setChat((now) => (now?.id === of ? { ...now, leaf: message.number, messages: [...now.messages.filter((one) => one.number !== message.number), message] } : now));

  const ask = async (of, parent, asked = settings) => {
    const controller = new AbortController();
    running.current = controller;
    isAtEnd.current = true;
    setError(null);
    setWritten({ id: of, message: { role: "assistant", content: "", parent } });
    let frame = 0;
    let last = null;
    try {
      await answer({
        store, id: of, parent, model, settings: asked, withoutTools: memory.withoutTools, signal: controller.signal,
        show(message) {
          // A screen shows sixty pictures a second, and a fast model says more.
          last = { id: of, message };
          frame ||= requestAnimationFrame(() => {
            frame = 0;
            if (running.current === controller) setWritten(last);
          });
        },
        keep(message, speed) {
          cancelAnimationFrame(frame);
          frame = 0;
          if (speed) memory.speeds.set(`${of}/${message.number}`, speed);
          keep(of, message);
          const goesOn = message.role === "tool" || message.tool_calls?.length;
          setWritten(goesOn ? { id: of, message: { role: "assistant", content: "", parent: message.number } } : null);
          if (message.role === "assistant") state.announce(message.content);
        },
      });
    } catch (error) {
      fail(error, () => ask(of, parent, asked));
    } finally {
      cancelAnimationFrame(frame);
      if (running.current === controller) running.current = null;
      setWritten(null);
    }
    attempt(refresh);
  };

  const say = async (content, files, parent) => {
    setSending(true);
    await attempt(async () => {
      let of = chat?.id;
      const asked = { ...settings, model };
      if (!of) {
        const title = content.trim().split("\n")[0].slice(0, 60) || files[0]?.name || "";
        const head = await store.create(title, asked);
        of = head.id;
        setChat({ ...head, settings: asked, leaf: null, messages: [] });
        state.go(`chat/${of}`);
      }
      const body = { role: "user", content, parent, ...(files.length && { attachments: files }) };
      const message = await store.append(of, body);
      keep(of, message);
      setDraft({ text: "", files: [] });
      setSending(false);
      await ask(of, message.number, asked);
    });
    setSending(false);
  };

  const select = (number) => {
    const leaf = newest(tree, number);
    if (leaf === chat.leaf) return;
    setChat((now) => ({ ...now, leaf }));
    attempt(() => store.change(chat.id, { leaf }));
  };

  const change = (fields) => {
    const next = { ...settings, ...fields };
    if (chat) setChat((now) => ({ ...now, settings: next }));
    else setFresh(next);
    return next;
  };
  const save = (next = settings) => chat && attempt(() => store.change(chat.id, { settings: next }));

  const remove = (head) => {
    setConversations((now) => ({ ...now, data: now.data.filter((one) => one.id !== head.id) }));
    if (head.id === chat?.id) state.go("chat");
    const drop = () => {
      clearTimeout(timer);
      pending.current.delete(head.id);
      attempt(() => store.remove(head.id, { keepalive: true }));
    };
    const timer = setTimeout(drop, UNDO * 1000);
    pending.current.set(head.id, drop);
    const undo = () => {
      clearTimeout(timer);
      pending.current.delete(head.id);
      attempt(refresh);
    };
    state.toast(t("deleted", { title: head.title || t("untitled") }), { action: undo, label: t("undo"), seconds: UNDO - 0.5 });
  };

  const onList = {
    start() {
      show("list", false);
      setFresh({ ...DEFAULTS });
      state.go("chat");
      inputRef.current?.focus();
    },
    opened: closeList,
    more: () => attempt(async () => {
      const next = await store.list(conversations.next);
      setConversations((now) => ({ ...next, data: [...now.data, ...next.data] }));
    }),
    rename: (of, title) => attempt(async () => {
      await store.change(of, { title });
      setChat((now) => (now?.id === of ? { ...now, title } : now));
      await refresh();
    }),
    remove,
    exportAll: () => attempt(async () => download("conversations.jsonl", await store.exportAll())),
    importFile: (file) => file && attempt(async () => {
      const { conversations: n } = await store.importAll(await file.text());
      state.toast(t("imported", { n }));
      await refresh();
    }),
  };

  const onMessage = (message) => ({
    edit: (text) => say(text, message.attachments ?? [], message.parent ?? null),
    retry: () => ask(chat.id, message.parent),
    rate: (rating) => attempt(async () => {
      // One after the other, so that the last word is what stays.
      rated.current = rated.current.catch(() => {}).then(() => store.rate(chat.id, message.number, rating));
      const stored = await rated.current;
      const kept = rating && { ...rating, ...stored };
      setChat((now) => ({ ...now, messages: now.messages.map((one) => (one.number === message.number ? { ...one, rating: kept } : one)) }));
      state.announce(t(rating ? "rated" : "unrated"));
    }),
  });
  const placeOf = (message) => {
    const all = siblings(tree, message.number);
    const at = all.indexOf(message.number);
    const go = (step) => {
      const to = all[at + step];
      if (!to) return;
      isAtEnd.current = false;
      select(to);
      // The focus goes along, so that the next arrow key is for the other branch.
      requestAnimationFrame(() => document.querySelector(`#message-${to} .branches`)?.focus({ preventScroll: true }));
    };
    return { at, of: all.length, go };
  };
  const editLast = () => {
    const last = messages.findLast((message) => message.role === "user");
    document.querySelector(`#message-${last?.number} [data-action="edit"]`)?.click();
  };
  const isHere = written?.id === chat?.id;
  // A new try takes the place of the old one while it is written.
  const shown = isHere && written ? messages.filter((message) => message.number <= written.message.parent) : messages;

  return html`<div class=${`chat ${isOpen.list ? "list-open" : ""}`}>
    <aside class="sidebar" aria-label=${t("conversations")}>
      <${List} conversations=${conversations} current=${id} hits=${hits} words=${words} setWords=${setWords} searchRef=${searchRef} on=${onList} isReady=${store !== null} isKept=${store?.isKept !== false} t=${t} />
    </aside>
    <button class="curtain" aria-label=${t("close")} tabindex="-1" onClick=${closeList}></button>
    <section class="talk" aria-label=${t("conversation")}>
      <header class="row">
        <button class="button quiet only-narrow" id="list" aria-label=${t("conversations")} aria-expanded=${isOpen.list} onClick=${isOpen.list ? closeList : openList}><${Icon} name="menu" /></button>
        <h1 class="grow title">${chat?.title || t("new")}</h1>
        <${ModelSelect} state=${state} t=${t} value=${model} onChange=${(to) => (state.setModel(to), save(change({ model: to })))} />
        <button class="button quiet" id="settings" aria-label=${t("settings")} title=${t("settings")} onClick=${() => show("settings")}><${Icon} name="settings" /></button>
        ${chat && html`<button class="button quiet" id="export" aria-label=${t("export")} title=${t("export")} onClick=${() => show("export")}><${Icon} name="save" /></button>`}
      </header>
      <div class="messages" ref=${scroller} onScroll=${onScroll} tabindex="0" role="log" aria-live="off" aria-label=${t("messages")}>
        <div class="column">
          ${!chat && !id && html`<${Welcome} t=${t} onPick=${(text) => say(text, [], null)} isOff=${!store || !model} />`}
          ${shown.map((message) => html`<${Message} key=${message.number} message=${message} place=${placeOf(message)} on=${onMessage(message)} t=${t}
            speed=${memory.speeds.get(`${chat.id}/${message.number}`)} isBusy=${isBusy} />`)}
          ${isHere && written && html`<${Message} key="draft" message=${written.message} t=${t} isDraft />`}
          <${ErrorNote} error=${error?.error} retry=${error?.retry} t=${t} />
        </div>
      </div>
      <${Composer} ...${{ draft, setDraft, inputRef, isBusy, t }} isOff=${!store || !model} onStop=${stop} onEditLast=${editLast} onError=${(error) => setError({ error })}
        onSend=${() => say(draft.text, draft.files, chat ? chat.leaf : null)} />
    </section>
    ${isOpen.settings && html`<${Settings} settings=${settings} t=${t} onChange=${change} onClose=${() => (show("settings", false), save())} />`}
    ${isOpen.export && html`<${Export} ...${{ chat, messages, store, attempt, t }} onClose=${() => show("export", false)} />`}
  </div>`;
}

function Welcome({ t, onPick, isOff }) {
  return html`<div class="welcome stack">
    <h2>${t("welcome")}</h2>
    <p class="dim">${t("welcome.text")}</p>
    <div class="row wrap">${["try.story", "try.sum", "try.day"].map((key) => html`<button key=${key} class="button" disabled=${isOff} onClick=${() => onPick(t(key))}>${t(key)}</button>`)}</div>
  </div>`;
}
