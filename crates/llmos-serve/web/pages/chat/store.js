// Where conversations are kept: by the server, or, where it keeps none, by this tab for as long as it is open.

import { branch, grow, newest } from "./tree.js";

/** What a new conversation's settings are; null leaves the choice to the server. */
export const DEFAULTS = {
  system: "",
  temperature: null,
  top_p: null,
  min_p: null,
  top_k: null,
  repeat_penalty: null,
  max_tokens: null,
  seed: null,
  thinking: true,
  tools: true,
};

/** How the server draws where nobody says anything. Who says something is expected to say all. */
export const USUAL = { temperature: 0.8, top_p: 0.95, min_p: 0.05, top_k: 40 };

/** The fields of a request that say how tokens are drawn. */
export function sampling(settings) {
  const set = (names) => Object.fromEntries(names.filter((name) => settings[name] != null).map((name) => [name, settings[name]]));
  const shape = set(Object.keys(USUAL));
  return {
    ...(Object.keys(shape).length && { ...USUAL, ...shape }),
    ...set(["repeat_penalty", "max_tokens", "seed"]),
    ...(settings.thinking === false && { reasoning_effort: "none" }),
  };
}

/** The server's store if it has one, else the tab's. */
export async function openStore(api, memory) {
  if (memory.tab) return { store: memory.tab, first: await memory.tab.list() };
  const store = serverStore(api);
  try {
    return { store, first: await store.list() };
  } catch (error) {
    if (!error.isMissing) throw error;
    memory.tab = tabStore(api);
    return { store: memory.tab, first: await memory.tab.list() };
  }
}

const PAGE = 40;

function serverStore(api) {
  const path = (id, rest = "") => `/v1/conversations/${encodeURIComponent(id)}${rest}`;
  return {
    isKept: true,
    list: (after) => api.get(`/v1/conversations?limit=${PAGE}${after ? `&after=${encodeURIComponent(after)}` : ""}`),
    search: async (words, signal) =>
      (await api.get(`/v1/conversations/search?limit=${PAGE}&q=${encodeURIComponent(words)}`, { signal })).data,
    get: (id) => api.get(path(id)),
    create: (title, settings) => api.post("/v1/conversations", { title, settings }),
    change: (id, fields) => api.patch(path(id), fields),
    remove: (id, options) => api.delete(path(id), options),
    append: (id, message) => api.post(path(id, "/messages"), message),
    rate: (id, number, rating) =>
      rating ? api.post(path(id, `/messages/${number}/rating`), rating) : api.delete(path(id, `/messages/${number}/rating`)),
    exportOne: (id) => api.text(path(id, "/export")),
    exportAll: () => api.text("/v1/conversations/export"),
    importAll: (text) => api.post("/v1/conversations/import", text),
    /** Events of an answer to `parent`, which the server stores. */
    answer: (id, parent, request, signal) =>
      api.stream("/v1/chat/completions", { ...request, conversation: { id, parent } }, { signal }),
    /** What the server made of an answer that was stopped, once it has stored it. */
    async stopped(id, parent) {
      for (let wait = 50; wait < 2000; wait *= 2) {
        await new Promise((resolve) => setTimeout(resolve, wait));
        const { messages } = await api.get(path(id));
        const found = messages.findLast((one) => one.parent === parent && one.role === "assistant");
        if (found) return found;
      }
      return null;
    },
  };
}

/** The same in memory. Messages are sent in full. */
export function tabStore(api) {
  const conversations = new Map();
  const now = () => Date.now();
  const find = (id) => {
    const found = conversations.get(id);
    if (!found) throw Object.assign(new Error("no such conversation"), { status: 404 });
    return found;
  };
  const newId = () => crypto.getRandomValues(new Uint32Array(2)).join("-");
  // As the server's store writes them, so that it can take them in later.
  const line = ({ messages, ...rest }) => `${JSON.stringify({ ...rest, tree: messages })}\n`;
  const head = ({ messages, ...rest }) => ({ ...rest, messages: messages.length });
  const push = (conversation, message) => {
    const last = conversation.messages.at(-1)?.number ?? 0;
    const stored = { created: now(), ...message, number: last + 1, parent: message.parent === undefined ? conversation.leaf : message.parent };
    conversation.messages.push(stored);
    conversation.leaf = stored.number;
    conversation.updated = now();
    return stored;
  };
  return {
    isKept: false,
    async list() {
      const data = [...conversations.values()].map(head).sort((a, b) => b.updated - a.updated);
      return { data, next: null };
    },
    async search(words) {
      const wanted = words.toLowerCase();
      return [...conversations.values()].flatMap(({ id, title, messages }) =>
        messages
          .filter((message) => message.content.toLowerCase().includes(wanted))
          .map((message) => {
            const at = message.content.toLowerCase().indexOf(wanted);
            const end = at + wanted.length;
            const parts = [message.content.slice(Math.max(0, at - 40), at), message.content.slice(at, end), message.content.slice(end, end + 80)];
            return { conversation: id, title, message: message.number, role: message.role, created: message.created, parts };
          }),
      );
    },
    get: async (id) => structuredClone(find(id)),
    async create(title, settings) {
      const conversation = { id: newId(), title, settings, leaf: null, created: now(), updated: now(), messages: [] };
      conversations.set(conversation.id, conversation);
      return head(conversation);
    },
    async change(id, fields) {
      const conversation = Object.assign(find(id), fields);
      if (fields.leaf) conversation.leaf = newest(grow(conversation.messages), fields.leaf);
      return head(conversation);
    },
    remove: async (id) => void conversations.delete(id),
    append: async (id, message) => push(find(id), message),
    async rate(id, number, rating) {
      const message = find(id).messages.find((one) => one.number === number);
      message.rating = rating && { ...rating, created: now() };
      return message.rating;
    },
    exportOne: async (id) => line(find(id)),
    exportAll: async () => [...conversations.values()].map(line).join(""),
    async importAll(text) {
      const rows = text.split("\n").filter(Boolean).map((row) => JSON.parse(row));
      for (const row of rows) {
        // A row of ours is a tree; anybody's is a list, one message after the other.
        const messages = row.tree ?? row.messages.map((message, i) => ({ ...message, number: i + 1, parent: i || null, created: now() }));
        const id = row.id ?? newId();
        const title = row.title ?? messages.find((one) => one.role === "user")?.content.slice(0, 60) ?? "";
        const leaf = row.leaf ?? messages.length;
        conversations.set(id, { settings: {}, created: now(), updated: now(), ...row, id, title, leaf, messages, tree: undefined });
      }
      return { conversations: rows.length };
    },
    async *answer(id, parent, request, signal) {
      const conversation = find(id);
      const { system } = conversation.settings;
      const messages = branch(grow(conversation.messages), parent).map(spoken);
      if (system) messages.unshift({ role: "system", content: system });
      const said = { role: "assistant", content: "", parent, origin: { model: request.model } };
      try {
        for await (const event of api.stream("/v1/chat/completions", { ...request, messages }, { signal })) {
          const delta = event.choices?.[0]?.delta;
          said.content += delta?.content ?? "";
          if (delta?.reasoning_content) said.reasoning_content = (said.reasoning_content ?? "") + delta.reasoning_content;
          if (delta?.tool_calls) said.tool_calls = [...(said.tool_calls ?? []), ...delta.tool_calls];
          yield event;
        }
      } finally {
        if (said.content || said.reasoning_content || said.tool_calls) {
          const { number } = push(conversation, said);
          if (!signal.aborted) yield { choices: [], message: { number, parent } };
        }
      }
    },
    stopped: async (id, parent) => find(id).messages.findLast((one) => one.parent === parent && one.role === "assistant") ?? null,
  };
}

/** A message as the API takes it; attachments stand behind the text. */
function spoken({ role, content, tool_calls, tool_call_id, name, attachments = [] }) {
  const files = attachments.map((file) => `\n\n${file.name}:\n\`\`\`\n${file.text}\n\`\`\``);
  return { role, content: content + files.join(""), tool_calls, tool_call_id, name };
}
