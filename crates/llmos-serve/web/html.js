// Preact and htm under one roof: html`<p>…</p>` makes an element, the hooks come from here as well.

import { Fragment, createContext, h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { Fragment, createContext, h, render };
export * from "./vendor/hooks.js";
export const html = htm.bind(h);
