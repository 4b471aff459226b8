//! The table of all operations: what `/openapi.json` and `/docs` are made of.

/// A field of a body, or of a query.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// A JSON type, or several with `|` between them.
    pub(super) kind: &'static str,
    pub(super) is_required: bool,
    pub(super) about: &'static str,
}

/// What can be asked for.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: &'static [Field],
    pub(super) fields: &'static [&'static [Field]],
    /// The JSON of a body; empty where nothing is sent.
    pub(super) example: &'static str,
    /// Kinds of answers.
    pub(super) kinds: &'static [&'static str],
    /// What a server must have been started with for it; empty where every server has it.
    pub(super) needs: &'static str,
}

const fn field(name: &'static str, kind: &'static str, about: &'static str) -> Field {
    Field { name, kind, is_required: false, about }
}

const fn must(name: &'static str, kind: &'static str, about: &'static str) -> Field {
    Field { name, kind, is_required: true, about }
}

const JSON: &[&str] = &["application/json"];
const EVENTS: &[&str] = &["application/json", "text/event-stream"];
const JSONL: &[&str] = &["application/jsonl"];
const LINES: &[&str] = &["application/x-ndjson", "application/json"];

const fn get(path: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation {
        method: "get",
        path,
        tag,
        summary,
        query: &[],
        fields: &[],
        example: "",
        kinds: JSON,
        needs: "",
    }
}

const fn post(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    fields: &'static [&'static [Field]],
    example: &'static str,
) -> Operation {
    Operation {
        method: "post",
        path,
        tag,
        summary,
        query: &[],
        fields,
        example,
        kinds: JSON,
        needs: "",
    }
}

const MODEL: &[Field] =
    &[field("model", "string", "Its id; the first model where it is left out.")];

const SAMPLING: &[Field] = &[
    field("temperature", "number", "0 is the likeliest token each time; more is more varied."),
    field("top_p", "number", "The likeliest tokens that have this much probability together."),
    field("top_k", "integer", "So many of the likeliest tokens; 0 is all."),
    field("min_p", "number", "Tokens at least this likely beside the likeliest."),
    field("typical_p", "number", "Tokens about as surprising as the distribution is."),
    field("frequency_penalty", "number", "From -2 to 2, for each time that a token was drawn."),
    field("presence_penalty", "number", "From -2 to 2, for a token that was drawn."),
    field("repetition_penalty", "number", "Divides the score of tokens that are there; 1 is none."),
    field("logit_bias", "object", "Token ids with numbers from -100 (never) to 100."),
    field("seed", "integer", "The same seed draws the same tokens."),
    field("stop", "string|array", "Texts that end the answer, and are no part of it."),
];

const STREAM: &[Field] = &[
    field("stream", "boolean", "Piece by piece, as server-sent events."),
    field("stream_options", "object", "{\"include_usage\": true} adds the tokens at the end."),
];

const CHAT: &[Field] = &[
    must("messages", "array", "What was said: {\"role\", \"content\"}, calls of tools, results."),
    field("max_completion_tokens", "integer", "Most tokens of the answer; as many as fit."),
    field("max_tokens", "integer", "The older name of the same."),
    field("n", "integer", "So many answers."),
    field("tools", "array", "Functions that the model may call, and the client runs."),
    field("tool_choice", "string|object", "none, auto, required, or one of the tools."),
    field("parallel_tool_calls", "boolean", "false for one call at most."),
    field("response_format", "object", "text, json_object, json_schema, regex or lark."),
    field("logprobs", "boolean", "With the probability of each token."),
    field("top_logprobs", "integer", "And so many of the likeliest in its place, 20 at most."),
    field("reasoning_effort", "string", "none and minimal: answer without thinking."),
    field("chat_template_kwargs", "object", "What the model's template is told besides."),
];

const COMPLETION: &[Field] = &[
    field("prompt", "string|array", "A text, token ids, or a list of either."),
    field("max_tokens", "integer", "Most tokens of each answer, 16 where it is left out."),
    field("n", "integer", "So many answers to each prompt."),
    field("echo", "boolean", "The prompt comes back with the answer, and its probabilities."),
    field("logprobs", "integer", "So many of the likeliest tokens, each with its probability."),
    field("response_format", "object", "json_object, json_schema, regex or lark."),
    field("add_special_tokens", "boolean", "false: the model's start token is not put first."),
];

const RESPONSE: &[Field] = &[
    must("input", "string|array", "A text, or items: messages, calls, their outputs."),
    field("instructions", "string", "What the model is told first, in this step alone."),
    field("previous_response_id", "string", "The response that it goes on from."),
    field("store", "boolean", "false: it cannot be gone on from."),
    field("max_output_tokens", "integer", "Most tokens of the answer; as many as fit."),
    field("text", "object", "{\"format\": …}: text, json_object or json_schema."),
    field("tools", "array", "Functions that the model may call, and the client runs."),
    field("tool_choice", "string|object", "none, auto, required, or one of the tools."),
    field("parallel_tool_calls", "boolean", "false for one call at most."),
    field("reasoning", "object", "{\"effort\": \"none\"}: answer without thinking."),
    field("truncation", "string", "auto: the oldest turns are left out where not all fit."),
    field("include", "array", "message.output_text.logprobs: with probabilities."),
    field("top_logprobs", "integer", "So many of the likeliest tokens, 20 at most."),
    field("metadata", "object", "At most 16 texts, told back."),
    field("temperature", "number", "0 is the likeliest token each time."),
    field("top_p", "number", "The likeliest tokens that have this much probability together."),
    field("stream", "boolean", "Piece by piece, as named events."),
    field("background", "boolean", "true: answered at once, and asked for by its id."),
];

const MESSAGES: &[Field] = &[
    must(
        "messages",
        "array",
        "What was said, as text or blocks; a last one of the assistant's is gone on with.",
    ),
    field("system", "string|array", "What the model is told first."),
    field("stop_sequences", "array", "Texts that end the answer."),
    field("tools", "array", "{\"name\", \"description\", \"input_schema\"}."),
    field("tool_choice", "object", "{\"type\": \"auto\" | \"any\" | \"tool\" | \"none\"}."),
    field("thinking", "object", "{\"type\": \"enabled\"}: think before the answer."),
    field("output_config", "object", "{\"format\": {\"type\": \"json_schema\", …}}."),
    field("temperature", "number", "From 0 to 1."),
    field("top_p", "number", "The likeliest tokens that have this much probability together."),
    field("top_k", "integer", "So many of the likeliest tokens."),
];

const PAGE: &[Field] = &[
    field("limit", "integer", "So many at most."),
    field("after", "string", "What the page before gave as next."),
];

/// An operation on what is kept.
const fn kept(operation: Operation) -> Operation {
    Operation { tag: "Conversations", needs: "store", ..operation }
}

/// An operation for admins.
const fn admin(operation: Operation) -> Operation {
    Operation { tag: "Administration", needs: "admin", ..operation }
}

const LIMIT: &[Field] = &[
    must("max_tokens", "integer", "Most tokens of the answer."),
    field("stream", "boolean", "Piece by piece, as named events."),
];

const EMBEDDING: &[Field] = &[
    must("input", "string|array", "A text, token ids, or a list of either."),
    field("dimensions", "integer", "So many numbers of each point; all where it is left out."),
    field("encoding_format", "string", "float, or base64 of little-endian 32-bit floats."),
    field("pooling", "string", "mean of the tokens' states, or the last one."),
];

const RERANK: &[Field] = &[
    must("query", "string", "What is looked for."),
    must("documents", "array", "Texts, or {\"text\": TEXT}."),
    field("top_n", "integer", "So many of the best."),
    field("return_documents", "boolean", "false: without the texts."),
    field("max_tokens_per_doc", "integer", "No more of a document is read."),
];

const OLLAMA: &[Field] = &[
    must("model", "string", "Its id; the tag latest may stand behind it."),
    field("options", "object", "temperature, top_k, top_p, num_predict, seed, stop, …"),
    field("format", "string|object", "json, or a JSON schema."),
    field("think", "boolean|string", "Whether to think before the answer."),
    field("stream", "boolean", "false: in one piece."),
    field(
        "keep_alive",
        "string|number",
        "Seconds or 5m that the model stays unused; 0 is not at all.",
    ),
    field("logprobs", "boolean", "With the probability of each token."),
    field("top_logprobs", "integer", "And so many of the likeliest in its place."),
];

const OLLAMA_CHAT: &[Field] = &[
    field("messages", "array", "What was said; without any the model is loaded."),
    field("tools", "array", "Functions that the model may call, and the client runs."),
    field("truncate", "boolean", "false: what does not fit is refused."),
];

const OLLAMA_GENERATE: &[Field] = &[
    field("prompt", "string", "What to answer, or to go on with; without it the model is loaded."),
    field("system", "string", "What the model is told first."),
    field("raw", "boolean", "The prompt is gone on with as it is."),
];

const OLLAMA_EMBED: &[Field] = &[
    must("model", "string", "Its id."),
    field("input", "string|array", "A text, or a list of them."),
    field("truncate", "boolean", "false: what does not fit is refused."),
    field("dimensions", "integer", "So many numbers of each point."),
];

/// Route by route, those of one API side by side.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        kinds: EVENTS,
        ..post(
            "/v1/chat/completions",
            "OpenAI",
            "Answers a conversation",
            &[MODEL, CHAT, SAMPLING, STREAM],
            r#"{"model": "assistant", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 40, "temperature": 0}"#,
        )
    },
    Operation {
        kinds: EVENTS,
        ..post(
            "/v1/completions",
            "OpenAI",
            "Goes on with texts, or measures them",
            &[MODEL, COMPLETION, SAMPLING, STREAM],
            r#"{"model": "stories260K", "prompt": "Once upon a time", "max_tokens": 20, "temperature": 0}"#,
        )
    },
    Operation {
        kinds: EVENTS,
        ..post(
            "/v1/responses",
            "OpenAI",
            "Writes a response, from which the next can go on",
            &[MODEL, RESPONSE],
            r#"{"model": "assistant", "input": "Who are you?", "max_output_tokens": 40, "temperature": 0}"#,
        )
    },
    post(
        "/v1/responses/input_tokens",
        "OpenAI",
        "Counts the tokens of a response's input",
        &[MODEL, RESPONSE],
        r#"{"model": "assistant", "input": "Who are you?"}"#,
    ),
    get("/v1/responses/{id}", "OpenAI", "A response that was stored, or is being written"),
    Operation { method: "delete", ..get("/v1/responses/{id}", "OpenAI", "Forgets a response") },
    Operation {
        method: "post",
        needs: "a response in the background",
        ..get(
            "/v1/responses/{id}/cancel",
            "OpenAI",
            "Ends a response that is written in the background",
        )
    },
    Operation {
        query: &[
            field("limit", "integer", "Items of a page, 20 where it is left out."),
            field("order", "string", "asc, or desc where it is left out."),
            field("after", "string", "The last item of the page before."),
        ],
        ..get("/v1/responses/{id}/input_items", "OpenAI", "The items of a response's own input")
    },
    post(
        "/v1/embeddings",
        "OpenAI",
        "Texts as points, which lie near those of texts like them",
        &[MODEL, EMBEDDING],
        r#"{"model": "stories260K", "input": ["A dog ran.", "A cat sat."]}"#,
    ),
    get("/v1/models", "OpenAI", "The models that are here"),
    get("/v1/models/{id}", "OpenAI", "One model"),
    post(
        "/v1/rerank",
        "Rerank",
        "Documents in the order in which they fit a query",
        &[MODEL, RERANK],
        r#"{"model": "stories260K", "query": "a dog", "documents": ["The dog ran.", "It rained."], "top_n": 1}"#,
    ),
    post(
        "/rerank",
        "Rerank",
        "The same, where some clients look for it",
        &[MODEL, RERANK],
        r#"{"model": "stories260K", "query": "a dog", "documents": ["The dog ran.", "It rained."]}"#,
    ),
    Operation {
        kinds: EVENTS,
        ..post(
            "/v1/messages",
            "Anthropic",
            "Answers a conversation",
            &[MODEL, LIMIT, MESSAGES],
            r#"{"model": "assistant", "max_tokens": 40, "messages": [{"role": "user", "content": "Who are you?"}]}"#,
        )
    },
    post(
        "/v1/messages/count_tokens",
        "Anthropic",
        "Counts the tokens of a conversation",
        &[MODEL, MESSAGES],
        r#"{"model": "assistant", "messages": [{"role": "user", "content": "Who are you?"}]}"#,
    ),
    Operation {
        kinds: LINES,
        ..post(
            "/api/chat",
            "Ollama",
            "Answers a conversation",
            &[OLLAMA, OLLAMA_CHAT],
            r#"{"model": "assistant", "messages": [{"role": "user", "content": "Who are you?"}], "options": {"num_predict": 40, "temperature": 0}}"#,
        )
    },
    Operation {
        kinds: LINES,
        ..post(
            "/api/generate",
            "Ollama",
            "Answers a prompt, or goes on with it",
            &[OLLAMA, OLLAMA_GENERATE],
            r#"{"model": "stories260K", "prompt": "Once upon a time", "stream": false, "options": {"num_predict": 20}}"#,
        )
    },
    post(
        "/api/embed",
        "Ollama",
        "Texts as points",
        &[OLLAMA_EMBED],
        r#"{"model": "stories260K", "input": ["A dog ran.", "A cat sat."]}"#,
    ),
    post(
        "/api/embeddings",
        "Ollama",
        "One text as a point, for older clients",
        &[&[must("model", "string", "Its id."), field("prompt", "string", "The text.")]],
        r#"{"model": "stories260K", "prompt": "A dog ran."}"#,
    ),
    get("/api/tags", "Ollama", "The models that are here"),
    get("/api/ps", "Ollama", "The models in memory"),
    post(
        "/api/show",
        "Ollama",
        "What a model is",
        &[&[must("model", "string", "Its id.")]],
        r#"{"model": "assistant"}"#,
    ),
    get("/api/version", "Ollama", "The version of the server"),
    Operation {
        kinds: LINES,
        needs: "admin",
        ..post(
            "/api/pull",
            "Ollama",
            "Downloads a model from the places that the server knows",
            &[&[
                must("model", "string", "hf.co/OWNER/REPO, with :KIND for a kind of file."),
                field("stream", "boolean", "false: one answer at the end."),
            ]],
            r#"{"model": "hf.co/owner/repo:Q8_0"}"#,
        )
    },
    Operation {
        needs: "admin",
        ..post(
            "/api/copy",
            "Ollama",
            "Gives a model of the registry a second name",
            &[&[
                must("source", "string", "Its id."),
                must("destination", "string", "Letters, digits, dots, - and _."),
            ]],
            r#"{"source": "tiny-Q8_0", "destination": "mine"}"#,
        )
    },
    Operation {
        method: "delete",
        needs: "admin",
        ..post(
            "/api/delete",
            "Ollama",
            "Deletes a model of the registry that nobody is using",
            &[&[must("model", "string", "Its id.")]],
            r#"{"model": "mine"}"#,
        )
    },
    Operation {
        needs: "admin",
        ..post(
            "/api/create",
            "Ollama",
            "Says what there is in place of Modelfiles",
            &[&[must("model", "string", "What it would be called.")]],
            r#"{"model": "mine"}"#,
        )
    },
    post(
        "/v1/next",
        "Measures",
        "What may come next, and how likely",
        &[
            MODEL,
            &[
                field("prompt", "string|array", "A text or token ids."),
                field(
                    "top",
                    "integer",
                    "So many of the likeliest tokens, 20 where it is left out.",
                ),
            ],
        ],
        r#"{"model": "stories260K", "prompt": "The cat sat on a", "top": 3}"#,
    ),
    post(
        "/v1/score",
        "Measures",
        "How likely each token of a text is",
        &[
            MODEL,
            &[
                field("text", "string", "The text."),
                field("prompt", "string|array", "The same by another name."),
                field("ids", "array", "Token ids in its place."),
            ],
        ],
        r#"{"model": "stories260K", "text": "The cat sat on a mat."}"#,
    ),
    post(
        "/tokenize",
        "Tokens",
        "The ids of a text, or of a conversation as the model reads it",
        &[
            MODEL,
            &[
                field("prompt", "string", "The text."),
                field("content", "string", "The same by another name."),
                field("messages", "array", "A conversation."),
                field("add_special_tokens", "boolean", "false: without the model's start token."),
                field("return_token_strs", "boolean", "With the name of each token."),
            ],
        ],
        r#"{"model": "stories260K", "prompt": "Once upon a time"}"#,
    ),
    post(
        "/detokenize",
        "Tokens",
        "The text of ids",
        &[MODEL, &[must("tokens", "array", "The ids.")]],
        r#"{"model": "stories260K", "tokens": [403, 407, 261]}"#,
    ),
    Operation {
        query: &[field("model", "string", "Its id; the first model where it is left out.")],
        ..get("/tokenizer_info", "Tokens", "What a client needs to know of the vocabulary")
    },
    post(
        "/v1/lens",
        "Measures",
        "What each layer would say, where its heads look, and what becomes of it without them",
        &[
            MODEL,
            &[
                field("prompt", "string", "A text."),
                field("tokens", "array", "Token ids in its place."),
                field("top", "integer", "So many of the likeliest tokens of each layer."),
                field("attention", "boolean", "With the weights of each head."),
                field("off", "array", "{\"layer\"} or {\"layer\", \"head\"}: what is left out."),
            ],
        ],
        r#"{"model": "stories260K", "prompt": "The cat sat on a", "top": 2}"#,
    ),
    Operation {
        query: &[field("model", "string", "Its id; the first model where it is left out.")],
        ..get("/v1/parameters", "Measures", "How the numbers of each tensor are distributed")
    },
    kept(Operation {
        query: PAGE,
        ..get("/v1/conversations", "", "Conversations, the last changed first")
    }),
    kept(post(
        "/v1/conversations",
        "",
        "Begins a conversation",
        &[&[
            field("title", "string", "What it is called."),
            field(
                "settings",
                "object",
                "A system prompt, a model, sampling: whatever is to be kept.",
            ),
        ]],
        r#"{"title": "Fishing"}"#,
    )),
    kept(Operation {
        query: &[
            must("q", "string", "Words, or phrases in quotes."),
            field("limit", "integer", "So many at most."),
            field("skip", "integer", "So many of the first are left out."),
        ],
        ..get("/v1/conversations/search", "", "Messages and titles that hold all words")
    }),
    kept(Operation {
        kinds: JSONL,
        ..get("/v1/conversations/export", "", "All conversations, a line each")
    }),
    kept(post(
        "/v1/conversations/import",
        "",
        "Takes in conversations, a line each",
        &[&[must("messages", "array", "What was said, as a chat or as a tree that was exported.")]],
        r#"{"messages": [{"role": "user", "content": "Who are you?"}]}"#,
    )),
    kept(get("/v1/conversations/{id}", "", "A conversation with all its branches")),
    kept(Operation {
        method: "patch",
        ..post(
            "/v1/conversations/{id}",
            "",
            "Changes what is given",
            &[&[
                field("title", "string", "What it is called."),
                field("settings", "object", "A system prompt, a model, sampling."),
                field("leaf", "integer", "The last message of the branch that is looked at."),
            ]],
            r#"{"title": "Hiking"}"#,
        )
    }),
    kept(Operation {
        method: "delete",
        ..get("/v1/conversations/{id}", "", "Deletes a conversation, its bytes included")
    }),
    kept(post(
        "/v1/conversations/{id}/messages",
        "",
        "Adds a message, and answers once it is durable",
        &[&[
            must("role", "string", "Who speaks."),
            must("content", "string", "What is said."),
            field(
                "parent",
                "integer|null",
                "The message before it; the last one where it is left out.",
            ),
            field("attachments", "array", "Files as text: {\"name\", \"media\", \"text\"}."),
        ]],
        r#"{"role": "user", "content": "Who are you?"}"#,
    )),
    kept(post(
        "/v1/conversations/{id}/messages/{number}/rating",
        "",
        "Says what is thought of an answer",
        &[&[
            must("thumb", "string", "up or down."),
            field("reason", "string", "Why."),
            field("ideal", "string", "What should have been said."),
        ]],
        r#"{"thumb": "down", "reason": "It is not a cat."}"#,
    )),
    kept(Operation {
        method: "delete",
        ..get("/v1/conversations/{id}/messages/{number}/rating", "", "Takes that back")
    }),
    kept(Operation {
        kinds: JSONL,
        ..get("/v1/conversations/{id}/export", "", "One conversation as a line")
    }),
    get("/v1/session", "Server", "Whether the page's session is one"),
    Operation {
        needs: "key",
        ..post(
            "/v1/session",
            "Server",
            "Begins a session of the page: a cookie in place of a key",
            &[&[must("key", "string", "The key.")]],
            r#"{"key": "llmos_…"}"#,
        )
    },
    Operation {
        method: "delete",
        needs: "key",
        ..get("/v1/session", "Server", "Ends the session")
    },
    admin(post("/v1/models/load", "", "Loads a model", &[MODEL], r#"{"model": "assistant"}"#)),
    admin(post(
        "/v1/models/unload",
        "",
        "Lets go of a model; who uses it goes on with it",
        &[MODEL],
        r#"{"model": "assistant"}"#,
    )),
    admin(Operation {
        kinds: &["text/event-stream"],
        ..post(
            "/v1/models/pull",
            "",
            "Downloads a model from the places that the server knows",
            &[&[must("name", "string", "As `llmos pull` takes it.")]],
            r#"{"name": "hf:owner/repo"}"#,
        )
    }),
    admin(Operation {
        kinds: &["text/event-stream"],
        ..post(
            "/v1/models/convert",
            "",
            "Makes a model of another type of numbers",
            &[MODEL, &[must("type", "string", "Such as q8_0.")]],
            r#"{"model": "assistant", "type": "q4_0"}"#,
        )
    }),
    admin(Operation {
        method: "delete",
        ..get("/v1/models/{id}", "", "Deletes a model of the registry that nobody is using")
    }),
    admin(get("/v1/runs", "", "Training runs")),
    admin(Operation {
        query: &[field("after", "integer", "Only steps beyond this one.")],
        ..get("/v1/runs/{id}", "", "A run: recipe, forecast, steps, dreams")
    }),
    Operation {
        kinds: &["text/plain"],
        ..get("/metrics", "Server", "Counts and times, for Prometheus")
    },
    Operation { kinds: &["text/html"], ..get("/", "Server", "The page") },
    Operation { needs: "a file's name", ..get("/web/{path}", "Server", "The files of the page") },
    get("/healthz", "Server", "Whether the server is there; asks for no key"),
    get("/readyz", "Server", "Whether it takes requests, and how many are in flight"),
    get("/openapi.json", "Server", "This document"),
    Operation { kinds: &["text/html"], ..get("/docs", "Server", "This document for people") },
    Operation { kinds: &["text/css"], ..get("/docs/style.css", "Server", "How that page looks") },
];
