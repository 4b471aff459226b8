// Talking to the server: JSON in and out, events as they come, errors that say what to do.

/** An answer that says no. `hint` says what to do; both are shown to the reader. */
export class ApiError extends Error {
  constructor(status, { message, hint = "", code = null, type = null, param = null } = {}) {
    super(message || `HTTP ${status}`);
    this.name = "ApiError";
    this.status = status; // 0: nobody answered
    this.hint = hint;
    this.code = code;
    this.type = type;
    this.param = param; // which field of the request it is about
  }

  /** The route is not there: an older server, or one without a store. */
  get isMissing() {
    return this.status === 404 && this.code === "unknown_url" || this.status === 501 || this.status === 405;
  }
}

/** True for what a stop button or a page that was left throws. */
export const isAbort = (error) => error?.name === "AbortError";

async function refusal(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text);
    if (error) return new ApiError(response.status, typeof error === "string" ? { message: error } : error);
  } catch {
    // Not JSON: something that stands between us and the server.
  }
  return new ApiError(response.status, { message: text.slice(0, 200) });
}

/**
 * The calls of one page.
 * @param {() => void} onLocked is told when the server asks for a key.
 */
export function createApi(onLocked = () => {}) {
  async function send(method, path, body, { signal, keepalive, accept = "application/json" } = {}) {
    const headers = { accept };
    let payload;
    if (body !== undefined) {
      const isText = typeof body === "string";
      headers["content-type"] = isText ? "application/x-ndjson" : "application/json";
      payload = isText ? body : JSON.stringify(body);
    }
    let response;
    try {
      response = await fetch(path, { method, headers, body: payload, signal, keepalive, cache: "no-store" });
    } catch (error) {
      if (isAbort(error)) throw error;
      throw new ApiError(0, { message: "no answer from the server", hint: "is llmos serve still running?", code: "offline" });
    }
    if (!response.ok) {
      const error = await refusal(response);
      if (error.status === 401) onLocked();
      throw error;
    }
    return response;
  }

  async function json(method, path, body, options) {
    const response = await send(method, path, body, options);
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  }

  return {
    get: (path, options) => json("GET", path, undefined, options),
    post: (path, body = {}, options) => json("POST", path, body, options),
    patch: (path, body, options) => json("PATCH", path, body, options),
    delete: (path, options) => json("DELETE", path, undefined, options),
    /** The body as text: an export. */
    text: async (path, options) => (await send("GET", path, undefined, { accept: "*/*", ...options })).text(),
    /**
     * Posts `body`, and yields each event's JSON as it comes, until `[DONE]` or the end.
     * An `{"error": …}` event is thrown. Leaving the loop closes the connection, which stops the model.
     */
    async *stream(path, body, options = {}) {
      const response = await send("POST", path, body, { ...options, accept: "text/event-stream" });
      yield* events(response.body);
    },
  };
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue; // a comment that keeps the connection, or a name
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new ApiError(200, event.error);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
