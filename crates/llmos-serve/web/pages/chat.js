// Chat: talking with a model.

import { html } from "../html.js";

export default function Chat({ t }) {
  return html`<h1>${t("page.chat")}</h1>`;
}
