// An answer as it comes: pieces are put together, tools are run, and the model goes on with what they said.

import { isAbort } from "../../api.js";
import { sampling } from "./store.js";
import { TOOLS, run } from "./tools.js";

/** Most rounds of tools for one question. */
const ROUNDS = 8;

/** Adds a chunk of the API's to a message. */
function add(message, delta) {
  const next = { ...message, content: message.content + (delta.content ?? "") };
  if (delta.reasoning_content) next.reasoning_content = (message.reasoning_content ?? "") + delta.reasoning_content;
  if (delta.tool_calls) next.tool_calls = [...(message.tool_calls ?? []), ...delta.tool_calls.map(({ index, ...call }) => call)];
  return next;
}

/**
 * Lets `model` answer message `parent` of conversation `id`. `show(message)` is told what there is so far,
 * `keep(message, speed)` each message that is stored, tools' included. `withoutTools` is a set of models that
 * take none. What fails is thrown; a stop is not a failure.
 */
export async function answer({ store, id, parent, model, settings, withoutTools, signal, show, keep }) {
  for (let round = 0; round < ROUNDS; round++) {
    const said = await once();
    if (!said) return;
    const calls = said.tool_calls ?? [];
    if (!calls.length || settings.tools === false) return;
    parent = said.number;
    for (const { id: call, function: { name, arguments: given } } of calls) {
      const content = run(name, given);
      const result = await store.append(id, { role: "tool", content, parent, tool_call_id: call, name });
      keep(result);
      parent = result.number;
    }
    if (signal.aborted) return;
  }

  async function once() {
    const offersTools = settings.tools !== false && !withoutTools.has(model);
    const request = { model, stream: true, stream_options: { include_usage: true }, ...sampling(settings), ...(offersTools && { tools: TOOLS }) };
    let message = { role: "assistant", content: "", parent, origin: { model } };
    let stored = null;
    let usage = null;
    const asked = performance.now();
    let began = 0;
    let speed = null;
    show(message);
    try {
      for await (const event of store.answer(id, parent, request, signal)) {
        const delta = event.choices?.[0]?.delta;
        if (delta && (delta.content || delta.reasoning_content || delta.tool_calls)) {
          began ||= performance.now();
          message = add(message, delta);
          show(message);
        }
        if (event.message) stored = event.message;
        if (event.usage) usage = event.usage;
      }
      // What comes in one piece tells nothing of its speed, but for the time of it all.
      const now = performance.now();
      const seconds = (now - (now - began > 250 ? began : asked)) / 1000;
      if (began && usage?.completion_tokens) speed = usage.completion_tokens / seconds;
    } catch (error) {
      if (error.param === "tools" && offersTools) {
        withoutTools.add(model);
        return once();
      }
      // What was said until now is kept by the store as well.
      const hasBegun = began > 0;
      const half = hasBegun ? await store.stopped(id, parent).catch(() => null) : null;
      if (half) keep(half);
      if (isAbort(error)) return null;
      throw error;
    }
    if (!stored) {
      const found = await store.stopped(id, parent);
      if (found) keep(found, speed);
      return found;
    }
    const whole = { ...message, ...stored, created: Date.now() };
    keep(whole, speed);
    return whole;
  }
}
