// A conversation as a file: what is shown for people, or all of it for programs.

import { Dialog, download } from "../../components.js";
import { html } from "../../html.js";

/** `messages` is the branch that is shown. `attempt` shows what fails. */
export function Export({ chat, messages, store, attempt, onClose, t }) {
  const title = chat.title || t("untitled");
  const save = (work) => (event) => {
    // Closed, and not only taken away, a dialog gives the focus back.
    event.currentTarget.closest("dialog").close();
    attempt(work);
  };
  const asMarkdown = save(async () => download(`${title}.md`, markdown(title, chat.settings.system, messages, t), "text/markdown"));
  const asLines = save(async () => download(`${title}.jsonl`, await store.exportOne(chat.id)));
  return html`<${Dialog} title=${t("export")} t=${t} onClose=${onClose}>
    <p class="row"><button class="button" data-form="markdown" onClick=${asMarkdown}>Markdown</button> <small class="dim">${t("export.markdown")}</small></p>
    <p class="row"><button class="button" data-form="lines" onClick=${asLines}>JSON Lines</button> <small class="dim">${t("export.lines")}</small></p>
  <//>`;
}

/**
 * A branch for people: who said what, each text by itself, so that it stays the Markdown that it is. Calls,
 * and what tools said, are quotes; files stand behind the text that they went with.
 */
export function markdown(title, system, messages, t) {
  const all = system ? [{ role: "system", content: system }, ...messages] : messages;
  const said = all.map(({ role, content, tool_calls: calls, attachments: files }) => {
    const text = role === "tool" ? `> ${content.replaceAll("\n", "\n> ")}` : content;
    const parts = [text, ...(calls ?? []).map(called), ...(files ?? []).map(fenced)].filter(Boolean);
    return [`**${t(`role.${role}`)}:**`, ...parts].join("\n\n");
  });
  return `${[`# ${title.replace(/\s+/g, " ")}`, ...said].join("\n\n").trimEnd()}\n`;
}

function called(call) {
  const { name, arguments: given } = call.function ?? call;
  return `> \`${name}(${typeof given === "string" ? given : JSON.stringify(given ?? {})})\``;
}

/** A file between fences that are longer than any in it. */
function fenced({ name, text }) {
  const longest = (text.match(/`{3,}/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2);
  const fence = "`".repeat(longest + 1);
  return `${name}:\n\n${fence}\n${text}\n${fence}`;
}
