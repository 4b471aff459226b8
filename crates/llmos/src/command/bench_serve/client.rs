//! A client of OpenAI's API that looks at the clock: one request, its answer read as it streams.

use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::{Agent, Body};

use super::prompts::{Prompts, words};
use crate::download;
use crate::failure::failure;

/// Longest time for an answer.
const LONGEST: Duration = Duration::from_secs(1800);

/// Tokens that any vocabulary has, where a server does not say how many it has.
const FEWEST: usize = 1000;

/// Why a request was not answered as was asked.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// The answer's status; none where no answer came, or it broke off.
    pub(super) status: Option<u16>,
    reason: String,
}

impl Fault {
    fn broken(reason: impl fmt::Display) -> Fault {
        Fault { status: None, reason: reason.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) if status != 200 => write!(f, "{status}: {}", self.reason),
            _ => f.write_str(&self.reason),
        }
    }
}

/// How a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Completions of token ids: prompts have the length that is asked for.
    Ids,
    /// Completions of texts.
    Text,
    /// Conversations.
    Chat,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Ids => "completions of token ids",
            Way::Text => "completions of texts, a word a token",
            Way::Chat => "conversations, a word a token",
        })
    }
}

/// A server.
pub(super) struct Server {
    url: String,
    key: Option<String>,
    model: String,
    vocab_size: usize,
}

/// What was measured of an answer. Times are seconds.
#[derive(Debug)]
pub(super) struct Answer {
    /// From the request to the first piece of text.
    pub(super) first: f64,
    /// Between pieces.
    pub(super) gaps: Vec<f64>,
    pub(super) tokens: usize,
    /// Of the prompt, as the server counts.
    pub(super) prompt_tokens: Option<usize>,
}

impl Server {
    /// The server at `url`, with or without `/v1` at its end.
    ///
    /// # Errors
    /// What is no address.
    pub(super) fn new(url: &str, key: Option<&str>) -> anyhow::Result<Server> {
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        if !["http://", "https://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(failure(
                format!("{url:?} is no address of a server"),
                "an address is http://127.0.0.1:8080",
            ));
        }
        let (url, key) = (base.to_string(), key.map(str::to_string));
        Ok(Server { url, key, model: String::new(), vocab_size: FEWEST })
    }

    /// Asks which model there is, where none is named, and how many tokens it knows.
    ///
    /// # Errors
    /// No answer, or no model.
    pub(super) fn greet(mut self, model: Option<&str>) -> anyhow::Result<Server> {
        let agent = download::agent()?;
        let listed = self.get(&agent, "/v1/models");
        let entries = match &listed {
            Ok(listed) => listed["data"].as_array().cloned().unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let entry = match model {
            Some(model) => entries.iter().find(|entry| entry["id"] == model),
            None => entries.first(),
        };
        let own = entry.and_then(|entry| entry["id"].as_str());
        self.model = match (model.or(own), listed) {
            (Some(model), _) => model.to_string(),
            (None, Ok(_)) => {
                return Err(failure(
                    format!("{}: the server lists no model", self.url),
                    "name one: --model ID",
                ));
            }
            (None, Err(fault)) => return Err(super::explained(&self, &fault)),
        };
        // llama-server says it in its list, llmos as vLLM's /tokenizer_info does.
        let listed = entry.and_then(|entry| entry["meta"]["n_vocab"].as_u64());
        let told = || self.get(&agent, "/tokenizer_info").ok()?["vocab_size"].as_u64();
        if let Some(vocab_size) = listed.or_else(told) {
            self.vocab_size = vocab_size as usize;
        }
        Ok(self)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn get(&self, agent: &Agent, path: &str) -> Result<Value, Fault> {
        let mut request = agent.get(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.config().http_status_as_error(false).proxy(None).build();
        let mut response = request.call().map_err(Fault::broken)?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(Fault::broken)?;
        match serde_json::from_str(&text) {
            Ok(value) if status == 200 => Ok(value),
            Ok(value) => Err(Fault { status: Some(status), reason: reason(&value, &text) }),
            Err(_) => Err(Fault { status: Some(status), reason: clipped(&text) }),
        }
    }
}

/// A client, with a connection of its own for each request.
pub(super) struct Client<'a> {
    server: &'a Server,
    agent: Agent,
    way: Way,
}

impl<'a> Client<'a> {
    /// # Errors
    /// The certificates that the environment names cannot be read.
    pub(super) fn new(server: &'a Server) -> anyhow::Result<Client<'a>> {
        Ok(Client { server, agent: download::agent()?, way: Way::Ids })
    }

    /// Asks in this way.
    pub(super) fn by(self, way: Way) -> Client<'a> {
        Client { way, ..self }
    }

    /// Finds out how the server can be asked; it also loads its model then.
    ///
    /// # Errors
    /// The reason for which the last way failed.
    pub(super) fn find_way(&mut self, prompts: &Prompts) -> Result<Way, Fault> {
        let short = Prompts { seed: !prompts.seed, prefix: 0, own: 8, ..*prompts };
        let mut last = Fault::broken("not asked");
        for way in [Way::Ids, Way::Text, Way::Chat] {
            self.way = way;
            match self.ask(&short.prompt(0), 2) {
                Ok(_) => return Ok(way),
                // Another way would find the same.
                Err(fault) if matches!(fault.status, None | Some(200 | 401 | 403 | 429 | 503)) => {
                    return Err(fault);
                }
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// Asks for an answer of `tokens` tokens.
    ///
    /// # Errors
    /// No connection, a refusal, an answer that breaks off, and one with fewer tokens or more.
    pub(super) fn ask(&mut self, prompt: &[u32], tokens: usize) -> Result<Answer, Fault> {
        let mut body = json!({
            "model": self.server.model,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": { "include_usage": true },
            // llama-server, vLLM and llmos go on to the last token then.
            "ignore_eos": true,
        });
        let path = match self.way {
            Way::Ids => {
                body["prompt"] = prompt.into();
                "/v1/completions"
            }
            Way::Text => {
                body["prompt"] = words(prompt).into();
                "/v1/completions"
            }
            Way::Chat => {
                body["messages"] = json!([{ "role": "user", "content": words(prompt) }]);
                "/v1/chat/completions"
            }
        };
        let body = body.to_string();
        let mut request = self.agent.post(format!("{}{path}", self.server.url));
        request = request.header("content-type", "application/json");
        if let Some(key) = &self.server.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request
            .config()
            .http_status_as_error(false)
            .proxy(None)
            // A connection of its own for each request: some servers close those that were used.
            .max_idle_age(Duration::ZERO)
            .timeout_recv_response(Some(LONGEST))
            .timeout_recv_body(Some(LONGEST))
            .build();
        let start = Instant::now();
        let mut response = request.send(body.as_str()).map_err(Fault::broken)?;
        let status = response.status().as_u16();
        if status != 200 {
            let text = response.body_mut().read_to_string().unwrap_or_default();
            let value = serde_json::from_str(&text).unwrap_or_default();
            return Err(Fault { status: Some(status), reason: reason(&value, &text) });
        }
        let answer = read(response.into_body(), start)?;
        if answer.tokens != tokens {
            let reason = format!("{} tokens came, {tokens} were asked for", answer.tokens);
            return Err(Fault { status: Some(status), reason });
        }
        Ok(answer)
    }
}

/// Reads the events of an answer to their end, so that the connection can be used again.
fn read(body: Body, start: Instant) -> Result<Answer, Fault> {
    let mut reader = body.into_reader();
    let mut stream = Stream::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = reader.read(&mut buffer).map_err(Fault::broken)?;
        if n == 0 {
            return stream.finish();
        }
        stream.push(&buffer[..n], start.elapsed().as_secs_f64())?;
    }
}

/// Server-sent events as they come.
#[derive(Default)]
struct Stream {
    /// What is left of the last line.
    rest: Vec<u8>,
    /// When each piece of text came.
    times: Vec<f64>,
    usage: Option<Value>,
    is_complete: bool,
}

impl Stream {
    fn push(&mut self, bytes: &[u8], time: f64) -> Result<(), Fault> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
            match data {
                Some(b"[DONE]") => self.is_complete = true,
                Some(data) => self.event(data, time)?,
                None => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, data: &[u8], time: f64) -> Result<(), Fault> {
        let event: Value = serde_json::from_slice(data)
            .map_err(|error| Fault::broken(format!("an event is no JSON: {error}")))?;
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Fault::broken(reason(&event, "")));
        }
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        let texts = [&choice["text"], &delta["content"], &delta["reasoning_content"]];
        if texts.iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty())) {
            self.times.push(time);
        }
        if event["usage"].is_object() {
            self.usage = Some(event["usage"].clone());
        }
        Ok(())
    }

    fn finish(self) -> Result<Answer, Fault> {
        if !self.is_complete {
            return Err(Fault::broken("the answer broke off"));
        }
        let count = |name: &str| self.usage.as_ref()?[name].as_u64().map(|n| n as usize);
        let tokens = count("completion_tokens").unwrap_or(self.times.len());
        let first = self.times.first().copied();
        Ok(Answer {
            first: first.ok_or_else(|| Fault::broken("the answer had no text"))?,
            gaps: self.times.windows(2).map(|pair| pair[1] - pair[0]).collect(),
            tokens,
            prompt_tokens: count("prompt_tokens"),
        })
    }
}

/// What an error says, in OpenAI's shape or any.
fn reason(value: &Value, text: &str) -> String {
    let error = &value["error"];
    let said = error["message"].as_str().or(error.as_str()).or(value["message"].as_str());
    clipped(said.unwrap_or(text))
}

fn clipped(text: &str) -> String {
    text.trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(parts: &[(&str, f64)]) -> Result<Answer, Fault> {
        let mut stream = Stream::default();
        for (text, time) in parts {
            stream.push(text.as_bytes(), *time)?;
        }
        stream.finish()
    }

    #[test]
    fn times_are_those_at_which_text_came() {
        let answer = stream(&[
            ("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n", 1.0),
            (": a comment\n\ndata: {\"choices\":[{\"te", 2.0),
            ("xt\":\"a\"}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n", 3.0),
            ("data: {\"choices\":[{\"text\":\"c\",\"index\":0}],\"usage\":null}\n\n", 3.5),
            ("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n", 4.0),
            ("data: [DONE]\n\n", 4.0),
        ])
        .unwrap();
        assert_eq!((answer.first, answer.gaps), (3.0, vec![0.0, 0.5]));
        assert_eq!((answer.tokens, answer.prompt_tokens), (4, Some(9)));
    }

    #[test]
    fn what_breaks_off_is_no_answer() {
        let text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
        assert!(stream(&[(text, 1.0)]).unwrap_err().to_string().contains("broke off"));
        let done = "data: [DONE]\n\n";
        assert_eq!(stream(&[(text, 1.0), (done, 2.0)]).unwrap().tokens, 1);
        assert!(stream(&[(done, 1.0)]).unwrap_err().to_string().contains("no text"));
        let error = "data: {\"error\":{\"message\":\"full\"}}\n\n";
        assert_eq!(stream(&[(text, 1.0), (error, 2.0)]).unwrap_err().to_string(), "full");
        assert!(stream(&[("data: {\n\n", 1.0)]).is_err());
    }

    #[test]
    fn addresses_may_end_with_their_version() {
        let url = |text: &str| Server::new(text, None).map(|server| server.url).ok();
        for text in ["http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/"] {
            assert_eq!(url(text).as_deref(), Some("http://a:1"), "{text}");
        }
        assert_eq!(url("a:1"), None);
    }
}
