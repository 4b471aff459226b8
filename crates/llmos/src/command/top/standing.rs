//! How a server stands, from two looks at it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::look::{Look, quantile};
use crate::step_line::time_text;
use crate::terminal::{plain, size};

/// What `--json` prints. Speeds are of the time between the looks; times are as well, and of all
/// requests so far where none ended in it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Standing {
    pub(super) url: String,
    pub(super) up_seconds: f64,
    pub(super) in_flight: f64,
    pub(super) in_flight_limit: f64,
    pub(super) waiting: f64,
    pub(super) running: f64,
    /// Of all models that are loaded.
    pub(super) slots: f64,
    pub(super) requests_per_s: f64,
    pub(super) tokens_per_s: f64,
    pub(super) prompt_tokens_per_s: f64,
    pub(super) first_token_ms: Percentiles,
    pub(super) each_token_ms: Percentiles,
    /// Of all tokens of prompts so far.
    pub(super) cached_share: Option<f64>,
    pub(super) cache_blocks: f64,
    pub(super) cache_blocks_free: f64,
    pub(super) memory_bytes: f64,
    pub(super) memory_budget_bytes: Option<f64>,
    pub(super) process_bytes: Option<f64>,
    pub(super) requests: f64,
    pub(super) refusals: BTreeMap<String, f64>,
    pub(super) models: Vec<Model>,
}

/// Half, nine tenths and 99 of a hundred are below these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: Option<f64>,
    pub(super) p90: Option<f64>,
    pub(super) p99: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Model {
    pub(super) id: String,
    pub(super) is_loaded: bool,
    pub(super) running: f64,
    pub(super) waiting: f64,
    pub(super) tokens_per_s: f64,
}

impl Standing {
    pub(super) fn of(url: &str, before: &Look, now: &Look) -> Standing {
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        let value = |name: &str| now.value(name).unwrap_or(0.0);
        let rate = |later: f64, earlier: f64| match seconds > 0.0 {
            // A server that began anew counts from nothing.
            true => (later - earlier).max(0.0) / seconds,
            false => 0.0,
        };
        let speed = |name: &str| rate(value(name), before.value(name).unwrap_or(0.0));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let loaded = now.by("llmos_model_loaded", "model");
        let running = now.by("llmos_sequences_running", "model");
        let waiting = now.by("llmos_requests_waiting", "model");
        let written = now.by("llmos_generated_tokens_total", "model");
        let earlier = before.by("llmos_generated_tokens_total", "model");
        let of = |map: &BTreeMap<String, f64>, id: &String| map.get(id).copied().unwrap_or(0.0);
        let models = loaded.iter().map(|(id, is_loaded)| Model {
            id: plain(id),
            is_loaded: *is_loaded > 0.0,
            running: of(&running, id),
            waiting: of(&waiting, id),
            tokens_per_s: rate(of(&written, id), of(&earlier, id)),
        });
        let prompt = value("llmos_prompt_tokens_total");
        Standing {
            url: url.to_string(),
            up_seconds: (since.as_secs_f64() - value("process_start_time_seconds")).max(0.0),
            in_flight: value("llmos_requests_in_flight"),
            in_flight_limit: value("llmos_requests_in_flight_limit"),
            waiting: value("llmos_requests_waiting"),
            running: value("llmos_sequences_running"),
            slots: value("llmos_slots") * value("llmos_models_loaded").max(1.0),
            requests_per_s: rate(requests(now), requests(before)),
            tokens_per_s: speed("llmos_generated_tokens_total"),
            prompt_tokens_per_s: speed("llmos_prompt_tokens_total"),
            first_token_ms: percentiles(before, now, "gen_ai_server_time_to_first_token_seconds"),
            each_token_ms: percentiles(before, now, "gen_ai_server_time_per_output_token_seconds"),
            cached_share: (prompt > 0.0).then(|| value("llmos_cached_tokens_total") / prompt),
            cache_blocks: value("llmos_cache_blocks"),
            cache_blocks_free: value("llmos_cache_blocks_free"),
            memory_bytes: value("llmos_memory_bytes"),
            memory_budget_bytes: now.value("llmos_memory_budget_bytes"),
            process_bytes: now.value("process_resident_memory_bytes"),
            requests: requests(now),
            refusals: now.by("llmos_refusals_total", "reason"),
            models: models.collect(),
        }
    }

    /// Plain lines: all of it for a single look, else one.
    pub(super) fn lines(&self, is_whole: bool) -> String {
        let line = format!(
            "requests {:.1}/s | in flight {} | waiting {} | {:.1} tok/s | first token {} ms | \
             cache {} | memory {}\n",
            self.requests_per_s,
            self.in_flight,
            self.waiting,
            self.tokens_per_s,
            self.first_token_ms.text(),
            percent(self.cache_used()),
            size(self.memory_bytes as u64),
        );
        if !is_whole {
            return line;
        }
        let mut lines = vec![
            format!("{}, up {}", self.url, time_text(self.up_seconds)),
            line.trim_end().to_string(),
            format!(
                "slots {} of {}, each token {} ms",
                self.running,
                self.slots,
                self.each_token_ms.text()
            ),
        ];
        lines.extend(self.models.iter().map(|model| {
            let state = if model.is_loaded { "loaded" } else { "not loaded" };
            let (running, waiting) = (model.running, model.waiting);
            let speed = model.tokens_per_s;
            let id = &model.id;
            format!("model {id}: {state}, {running} running, {waiting} waiting, {speed:.1} tok/s")
        }));
        let refused = self
            .refusals
            .iter()
            .map(|(reason, count)| format!("refused or failed, {}: {count}", plain(reason)));
        lines.extend(refused);
        lines.join("\n") + "\n"
    }

    /// The share of the cache that sequences hold.
    pub(super) fn cache_used(&self) -> Option<f64> {
        let used = self.cache_blocks - self.cache_blocks_free;
        (self.cache_blocks > 0.0).then(|| used / self.cache_blocks)
    }
}

impl Percentiles {
    /// The three of them with strokes between.
    pub(super) fn text(self) -> String {
        let one = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.1}"));
        [self.p50, self.p90, self.p99].map(one).join("/")
    }
}

/// Requests that are over, without those of programs that look after a server, such as this one.
fn requests(look: &Look) -> f64 {
    let by_route = look.by("llmos_requests_total", "route");
    let asked = by_route
        .iter()
        .filter(|(route, _)| !["/metrics", "/healthz", "/readyz"].contains(&route.as_str()));
    asked.map(|(_, count)| count).sum()
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_string(), |share| format!("{:.0} %", share * 100.0))
}

/// Of what ended between the looks, in milliseconds; of all so far where nothing did.
fn percentiles(before: &Look, now: &Look, name: &str) -> Percentiles {
    let (old, new) = (before.buckets(name), now.buckets(name));
    let of = |share: f64| {
        let seconds = quantile(&old, &new, share).or_else(|| quantile(&[], &new, share));
        seconds.map(|seconds| seconds * 1000.0)
    };
    Percentiles { p50: of(0.5), p90: of(0.9), p99: of(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_of_the_time_between_two_looks() {
        let text = |tokens: u64, count: u64| {
            format!(
                "llmos_slots 4\nllmos_models_loaded 1\nllmos_model_loaded{{model=\"m\"}} 1\n\
                 llmos_generated_tokens_total{{model=\"m\"}} {tokens}\n\
                 llmos_prompt_tokens_total{{model=\"m\"}} 200\n\
                 llmos_cached_tokens_total{{model=\"m\"}} 50\n\
                 llmos_cache_blocks{{model=\"m\"}} 8\nllmos_cache_blocks_free{{model=\"m\"}} 6\n\
                 llmos_refusals_total{{reason=\"busy\"}} 3\n\
                 gen_ai_server_time_to_first_token_seconds_bucket{{le=\"0.1\"}} {count}\n\
                 gen_ai_server_time_to_first_token_seconds_bucket{{le=\"+Inf\"}} {count}\n"
            )
        };
        let before = Look::parse(&text(100, 2)).unwrap();
        let mut now = Look::parse(&text(300, 4)).unwrap();
        now.at = before.at + std::time::Duration::from_secs(2);
        let standing = Standing::of("http://x", &before, &now);
        assert_eq!((standing.tokens_per_s, standing.models[0].tokens_per_s), (100.0, 100.0));
        assert_eq!((standing.cached_share, standing.cache_used()), (Some(0.25), Some(0.25)));
        assert_eq!(standing.first_token_ms.p50, Some(50.0));
        let lines = standing.lines(true);
        assert!(lines.contains("100.0 tok/s") && lines.contains("busy: 3"), "{lines}");
        assert_eq!(standing.lines(false).lines().count(), 1);
        // One that began anew between the looks has no speed below nothing.
        let anew = Standing::of("http://x", &now, &before);
        assert_eq!(anew.tokens_per_s, 0.0);
    }
}
