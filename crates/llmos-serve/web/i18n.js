// Words in the reader's language. A page's words are its own; what it lacks is looked up in the shared ones.

import shared from "./strings.js";

export const LANGUAGES = [["en", "English"], ["zh", "中文"]];

/** The language that was chosen, else the browser's, else English. */
export function preferredLanguage(chosen) {
  if (chosen in shared) return chosen;
  const wanted = navigator.languages ?? [navigator.language];
  return wanted.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in shared) ?? "en";
}

/**
 * `t(key, {n: 3})` is the text of `key` with `{n}` filled in. A value may be a number, which is written as
 * the language writes numbers. `key.one` is taken where `n` is 1 and the entry exists.
 */
export function translator(lang, strings = {}) {
  const number = new Intl.NumberFormat(lang);
  const t = (key, values = {}) => {
    const find = (name) =>
      strings[lang]?.[name] ?? shared[lang]?.[name] ?? strings.en?.[name] ?? shared.en[name];
    const text = (values.n === 1 && find(`${key}.one`)) || (find(key) ?? key);
    return text.replace(/\{(\w+)\}/g, (whole, name) => {
      const value = values[name];
      if (value === undefined) return whole;
      return typeof value === "number" ? number.format(value) : String(value);
    });
  };
  t.lang = lang;
  /** A number as the language writes it, with Intl's options. */
  t.number = (value, options) => new Intl.NumberFormat(lang, options).format(value);
  /** A time in milliseconds since 1970 as a date, short. */
  t.date = (ms) => new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" }).format(ms);
  return t;
}
