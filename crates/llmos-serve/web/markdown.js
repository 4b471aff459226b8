// Markdown as elements, piece by piece: no text of a model's ever becomes markup, so there is nothing to clean.

import { CopyButton, Icon } from "./components.js";
import { html, useMemo } from "./html.js";
import { Formula } from "./math.js";
import { Marked } from "./vendor/marked.js";

/** Words that a text needs; a page that shows any takes them into its own. */
export const words = {
  en: { code: "Code", "code.copy": "Copy the code", table: "Table", picture: "Picture", "picture.open": "Open the picture elsewhere" },
  zh: { code: "代码", "code.copy": "复制代码", table: "表格", picture: "图片", "picture.open": "在别处打开图片" },
};

/** `<${Markdown} text=${text} t=${t} />` shows a text; pictures are links, tags are text. */
export function Markdown({ text, t }) {
  // The same element as before is not looked at again.
  return useMemo(() => html`<div class="markdown">${blocks(read(text), t)}</div>`, [text, t]);
}

const inlineMath = {
  name: "math",
  level: "inline",
  start: (source) => source.search(/\$|\\[([]/),
  tokenizer(source) {
    // A dollar sign is a formula's if no space follows it and no digit follows the next: not "$5 and $6".
    const found =
      /^\$\$([^$]+?)\$\$/.exec(source) ??
      /^\$(?!\s)((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)/.exec(source) ??
      /^\\\(([\s\S]+?)\\\)/.exec(source) ??
      /^\\\[([\s\S]+?)\\\]/.exec(source);
    if (!found) return undefined;
    return { type: "math", raw: found[0], text: found[1].trim(), display: /^(\$\$|\\\[)/.test(found[0]) };
  },
};

const blockMath = {
  name: "mathBlock",
  level: "block",
  start: (source) => source.search(/\n *(\$\$|\\\[|\\begin\{)/),
  tokenizer(source) {
    const found =
      /^ *\$\$([^$]+?)\$\$ *(?:\n|$)/.exec(source) ??
      /^ *\\\[([\s\S]+?)\\\] *(?:\n|$)/.exec(source) ??
      /^ *(\\begin\{([a-z]+\*?)\}[\s\S]+?\\end\{\2\}) *(?:\n|$)/.exec(source);
    return found ? { type: "mathBlock", raw: found[0], text: found[1].trim() } : undefined;
  },
};

const marked = new Marked({ gfm: true, breaks: true }, { extensions: [inlineMath, blockMath] });

function read(text) {
  try {
    return marked.lexer(text);
  } catch {
    // Nested deeper than the reader goes.
    return [{ type: "paragraph", tokens: [{ type: "escape", text }] }];
  }
}

/** Deeper than this nobody writes, and what reads it would run out of stack. */
const DEEPEST = 30;
let depth = 0;

function each(tokens = [], show) {
  if (depth >= DEEPEST) return tokens.map((token) => token.raw).join("");
  depth++;
  try {
    return tokens.map(show);
  } finally {
    depth--;
  }
}

const blocks = (tokens, t) => each(tokens, (token, i) => block(token, t, i));
const inlines = (tokens, t) => each(tokens, (token, i) => inline(token, t, i));

function block(token, t, key) {
  switch (token.type) {
    case "heading": {
      // The page has the first level for itself.
      const Tag = `h${Math.min(token.depth + 2, 6)}`;
      return html`<${Tag} key=${key}>${inlines(token.tokens, t)}<//>`;
    }
    case "paragraph":
      return html`<p key=${key}>${inlines(token.tokens, t)}</p>`;
    case "text":
      return html`<span key=${key}>${token.tokens ? inlines(token.tokens, t) : plain(token.text)}</span>`;
    case "code":
      return html`<${Code} key=${key} text=${token.text} lang=${token.lang} t=${t} />`;
    case "blockquote":
      return html`<blockquote key=${key}>${blocks(token.tokens, t)}</blockquote>`;
    case "hr":
      return html`<hr key=${key} />`;
    case "list": {
      const Tag = token.ordered ? "ol" : "ul";
      return html`<${Tag} key=${key} start=${token.ordered && token.start !== 1 ? token.start : undefined}>
        ${token.items.map((item, i) => html`<li key=${i} class=${item.task ? "task" : undefined}>${blocks(item.tokens, t)}</li>`)}
      <//>`;
    }
    case "checkbox":
      return html`<input key=${key} type="checkbox" disabled checked=${token.checked} aria-label=${token.checked ? "☑" : "☐"} />`;
    case "table":
      return html`<div key=${key} class="scroll-x" tabindex="0" role="region" aria-label=${t("table")}><table class="table">
        <thead><tr>${token.header.map((cell, i) => html`<th key=${i} style=${aligned(cell)}>${inlines(cell.tokens, t)}</th>`)}</tr></thead>
        <tbody>${token.rows.map((row, j) => html`<tr key=${j}>${row.map((cell, i) => html`<td key=${i} style=${aligned(cell)}>${inlines(cell.tokens, t)}</td>`)}</tr>`)}</tbody>
      </table></div>`;
    case "mathBlock":
      return html`<${Formula} key=${key} text=${token.text} display />`;
    case "html":
      return html`<p key=${key}>${token.text}</p>`;
    case "space":
    case "def":
      return null;
    default:
      return inline(token, t, key);
  }
}

function inline(token, t, key) {
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return html`<${token.type} key=${key}>${inlines(token.tokens, t)}<//>`;
    case "codespan":
      return html`<code key=${key}>${token.text}</code>`;
    case "br":
      return html`<br key=${key} />`;
    case "link":
      return isSafe(token.href)
        ? html`<a key=${key} href=${token.href} title=${token.title} target="_blank" rel="noopener noreferrer nofollow">${inlines(token.tokens, t)}</a>`
        : html`<span key=${key} title=${token.href}>${inlines(token.tokens, t)}</span>`;
    case "image":
      return html`<${Picture} key=${key} ...${{ href: token.href, text: token.text, t }} />`;
    case "math":
      return html`<${Formula} key=${key} text=${token.text} display=${token.display} />`;
    case "escape":
    case "html":
      return token.text;
    case "text":
      return token.tokens ? inlines(token.tokens, t) : plain(token.text);
    default:
      return token.raw ?? "";
  }
}

const aligned = ({ align }) => (align ? { textAlign: align } : undefined);

const isSafe = (href) => /^(https?:|mailto:)/i.test(href);

/** Text in which `&amp;` may stand for a character. The document that reads it is never shown. */
function plain(text) {
  if (!/&#?\w+;/.test(text)) return text;
  const shielded = text.replaceAll("<", "&lt;");
  return new DOMParser().parseFromString(`<body>${shielded}`, "text/html").body.textContent;
}

/** A picture of elsewhere is not fetched: that would tell its owner who reads what. */
function Picture({ href, text, t }) {
  if (/^data:image\/(png|jpeg|gif|webp);base64,/i.test(href)) return html`<img src=${href} alt=${text} />`;
  return html`<span class="picture"><${Icon} name="image" /> ${text || t("picture")}
    ${isSafe(href) && html`<a class="button small" href=${href} target="_blank" rel="noopener noreferrer nofollow" title=${href}>${t("picture.open")}</a>`}
  </span>`;
}

function Code({ text, lang, t }) {
  return html`<figure class="code">
    <figcaption class="row"><span class="grow dim">${lang || t("code")}</span><${CopyButton} text=${text} t=${t} label=${t("code.copy")} /></figcaption>
    <pre tabindex="0" role="region" aria-label=${lang || t("code")}><code>${text}</code></pre>
  </figure>`;
}
