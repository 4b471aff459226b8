// Tokens as people read them: blanks that can be seen, characters put together from tokens that are parts of them.

/** Words that tokens need; a page that shows any takes them into its own. */
export const words = {
  en: { "token.empty": "nothing", "token.break": "line break", "token.space": "blank" },
  zh: { "token.empty": "空", "token.break": "换行", "token.space": "空格" },
};

const VISIBLE = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

/** A token's text with its blanks at either end, and its line breaks, visible. */
export function visible(text) {
  const shown = text.replace(/^ +| +$|[\n\t\r]/g, (blank) => [...blank].map((c) => VISIBLE[c]).join(""));
  return shown.replace(/[\u0000-\u001f\u007f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`) || "∅";
}

/** A token's text as it is read aloud. */
export function spoken(text, t) {
  if (text === "") return t("token.empty");
  return text.trim() === "" ? [...text].map((c) => t(c === "\n" ? "token.break" : "token.space")).join(" ") : text.trim();
}

const encoder = new TextEncoder();

/** The bytes of a token as the API writes it: its text, or `bytes:\xe4\xb8` where it is a part of a character. */
export function tokenBytes(token) {
  if (!/^bytes:(\\x[0-9a-f]{2})+$/.test(token)) return [...encoder.encode(token)];
  return token.slice("bytes:\\x".length).split("\\x").map((hex) => parseInt(hex, 16));
}

/** The text of bytes, null where they end in the middle of a character or are none. */
function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
  } catch {
    return null;
  }
}

/**
 * The tokens of a text as units that can be read: one token each, or those that make up a character together.
 * @param {{tokens: string[], token_logprobs: (number|null)[], top_logprobs: (Object<string, number>|null)[]}} logprobs
 * @returns {{text: string, from: number, parts: {token: string, logprob: number|null, top: Object<string, number>|null}[]}[]}
 *   `from` is the place of its first token
 */
export function units({ tokens, token_logprobs: own, top_logprobs: top }) {
  const found = [];
  let bytes = [];
  let parts = [];
  tokens.forEach((token, i) => {
    bytes.push(...tokenBytes(token));
    parts.push({ token, logprob: own[i], top: top?.[i] ?? null });
    const text = textOf(bytes);
    // No character has more than four bytes.
    if (text === null && bytes.length < 4 && tokens[i + 1]?.startsWith("bytes:")) return;
    found.push({ text: text ?? new TextDecoder().decode(new Uint8Array(bytes)), from: i + 1 - parts.length, parts });
    bytes = [];
    parts = [];
  });
  return found;
}

/** A unit's log-probability in nats: those of its parts together, null where one has no past. */
export const logprobOf = (unit) =>
  unit.parts.some((part) => part.logprob === null) ? null : unit.parts.reduce((sum, part) => sum + part.logprob, 0);
