//! What is counted over all requests. Names and buckets are those of OpenTelemetry's conventions for
//! generative AI where they have one, written as Prometheus writes them; our own begin with `llmos_`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::text::{Histogram, Text};
use crate::models::Standing;
use crate::outside::Report;

/// Seconds of requests: `gen_ai.server.request.duration`.
const DURATION: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// Seconds until the first token: `gen_ai.server.time_to_first_token`.
const FIRST_TOKEN: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Seconds a token: `gen_ai.server.time_per_output_token`. The convention begins with 10 ms, which is
/// far too coarse for small models.
const EACH_TOKEN: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5,
];

/// Tokens of a request: `gen_ai.client.token.usage`.
const TOKENS: [f64; 14] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];

/// What requests of one kind to one model have come to.
struct Kind {
    durations: BTreeMap<Option<String>, Histogram>,
    first_token: Histogram,
    each_token: Histogram,
    input: Histogram,
    output: Histogram,
}

impl Default for Kind {
    fn default() -> Kind {
        Kind {
            durations: BTreeMap::new(),
            first_token: Histogram::new(&FIRST_TOKEN),
            each_token: Histogram::new(&EACH_TOKEN),
            input: Histogram::new(&TOKENS),
            output: Histogram::new(&TOKENS),
        }
    }
}

/// Tokens of a model.
#[derive(Default)]
struct Tokens {
    prompt: u64,
    cached: u64,
    written: u64,
    /// Requests whose prompt began with something that was cached.
    hits: u64,
}

#[derive(Default)]
struct Counts {
    /// By model and operation.
    kinds: BTreeMap<(String, &'static str), Kind>,
    tokens: BTreeMap<String, Tokens>,
    /// By route and status.
    answers: BTreeMap<(String, u16), u64>,
    /// By what was wrong.
    refusals: BTreeMap<String, u64>,
}

/// All counts of a server.
#[derive(Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
}

/// What is measured at the moment of asking.
pub(crate) struct Moment<'a> {
    pub(crate) in_flight: usize,
    pub(crate) slots: usize,
    pub(crate) queue: usize,
    pub(crate) models: &'a [Standing],
    /// Taken by models, and the most that they may take.
    pub(crate) memory: (u64, Option<u64>),
    /// Of the whole process.
    pub(crate) process_bytes: Option<u64>,
    /// Seconds since 1970.
    pub(crate) began: f64,
}

impl Metrics {
    /// Counts a request that is over.
    pub(crate) fn note(&self, report: &Report) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.answers.entry((report.route.clone(), report.status)).or_default() += 1;
        if let Some(error) = &report.error {
            *counts.refusals.entry(error.clone()).or_default() += 1;
        }
        let Some(model) = &report.model else { return };
        let tokens = counts.tokens.entry(model.clone()).or_default();
        tokens.prompt += report.prompt_tokens as u64;
        tokens.cached += report.cached_tokens as u64;
        tokens.written += report.tokens as u64;
        tokens.hits += u64::from(report.cached_tokens > 0);
        let kind = counts.kinds.entry((model.clone(), report.operation)).or_default();
        let took = report.took.as_secs_f64();
        let durations = kind.durations.entry(report.error.clone());
        durations.or_insert_with(|| Histogram::new(&DURATION)).note(took);
        if report.prompt_tokens > 0 {
            kind.input.note(report.prompt_tokens as f64);
            kind.output.note(report.tokens as f64);
        }
        if let (Some(first), None) = (report.first_token, &report.error) {
            kind.first_token.note(first.as_secs_f64());
            // Choices are written side by side.
            let each = report.tokens / report.finishes.len().max(1);
            if each > 1 {
                kind.each_token.note((took - first.as_secs_f64()) / (each - 1) as f64);
            }
        }
    }

    /// All of it in Prometheus' text format.
    pub(crate) fn text(&self, moment: &Moment<'_>) -> String {
        let mut text = Text::default();
        self.conventional(&mut text);
        self.own(&mut text);
        of_moment(&mut text, moment);
        text.finish()
    }

    /// What OpenTelemetry has names for.
    fn conventional(&self, text: &mut Text) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        type Part = fn(&Kind) -> Vec<(Option<(&'static str, &str)>, &Histogram)>;
        let families: [(&str, &str, Part); 4] = [
            (
                "gen_ai_server_request_duration_seconds",
                "Time until the last byte of an answer.",
                |kind| {
                    let durations = kind.durations.iter();
                    durations
                        .map(|(error, times)| {
                            (error.as_deref().map(|error| ("error_type", error)), times)
                        })
                        .collect()
                },
            ),
            (
                "gen_ai_server_time_to_first_token_seconds",
                "Time until the first token of an answer.",
                |kind| vec![(None, &kind.first_token)],
            ),
            (
                "gen_ai_server_time_per_output_token_seconds",
                "Time for each token after the first.",
                |kind| vec![(None, &kind.each_token)],
            ),
            ("gen_ai_client_token_usage", "Tokens of a request and of its answer.", |kind| {
                vec![
                    (Some(("gen_ai_token_type", "input")), &kind.input),
                    (Some(("gen_ai_token_type", "output")), &kind.output),
                ]
            }),
        ];
        for (name, help, part) in families {
            text.family(name, "histogram", help);
            for ((model, operation), kind) in &counts.kinds {
                for (label, histogram) in part(kind) {
                    let mut labels = vec![
                        ("gen_ai_operation_name", *operation),
                        ("gen_ai_provider_name", "llmos"),
                        ("gen_ai_request_model", model.as_str()),
                    ];
                    labels.extend(label);
                    if histogram.count() > 0 {
                        text.histogram(name, &labels, histogram);
                    }
                }
            }
        }
    }

    /// What only we have.
    fn own(&self, text: &mut Text) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        text.family("llmos_requests_total", "counter", "Requests that are over.");
        for ((route, status), count) in &counts.answers {
            let status = status.to_string();
            let labels = [("route", route.as_str()), ("status", status.as_str())];
            text.sample("llmos_requests_total", &labels, *count as f64);
        }
        let name = "llmos_refusals_total";
        text.family(name, "counter", "Requests that were refused, failed or were left, by reason.");
        for (reason, count) in &counts.refusals {
            text.sample(name, &[("reason", reason)], *count as f64);
        }
        type Of = fn(&Tokens) -> u64;
        let families: [(&str, &str, Of); 4] = [
            ("llmos_prompt_tokens_total", "Tokens of prompts.", |tokens| tokens.prompt),
            ("llmos_cached_tokens_total", "Tokens of prompts that were in the cache.", |tokens| {
                tokens.cached
            }),
            ("llmos_generated_tokens_total", "Tokens that were written.", |tokens| tokens.written),
            ("llmos_cache_hits_total", "Requests whose prompt began in the cache.", |tokens| {
                tokens.hits
            }),
        ];
        for (name, help, of) in families {
            text.family(name, "counter", help);
            for (model, tokens) in &counts.tokens {
                text.sample(name, &[("model", model)], of(tokens) as f64);
            }
        }
    }
}

/// What is measured now.
fn of_moment(text: &mut Text, moment: &Moment<'_>) {
    let mut one = |name: &str, help: &str, value: f64| {
        text.family(name, "gauge", help);
        text.sample(name, &[], value);
    };
    one("llmos_requests_in_flight", "Requests that are answered or wait.", moment.in_flight as f64);
    let most = moment.slots.saturating_add(moment.queue);
    one("llmos_requests_in_flight_limit", "Requests that may be in flight.", most as f64);
    one("llmos_slots", "Sequences that a model writes at once.", moment.slots as f64);
    one("llmos_models", "Models that can be asked.", moment.models.len() as f64);
    let loaded = moment.models.iter().filter(|model| model.loaded.is_some()).count();
    one("llmos_models_loaded", "Models in memory.", loaded as f64);
    one("llmos_memory_bytes", "Memory that models take.", moment.memory.0 as f64);
    if let Some(budget) = moment.memory.1 {
        one("llmos_memory_budget_bytes", "Memory that models may take.", budget as f64);
    }
    if let Some(bytes) = moment.process_bytes {
        one("process_resident_memory_bytes", "Memory of the whole process.", bytes as f64);
    }
    one("process_start_time_seconds", "When the server began, since 1970.", moment.began);
    type Of = fn(&Standing) -> f64;
    let families: [(&str, &str, &str, Of); 7] = [
        ("llmos_model_loaded", "gauge", "1 for a model in memory.", |model| {
            f64::from(u8::from(model.loaded.is_some()))
        }),
        ("llmos_requests_waiting", "gauge", "Requests that wait for a slot.", |model| {
            model.gauges.read().waiting as f64
        }),
        ("llmos_sequences_running", "gauge", "Sequences that are read or written.", |model| {
            model.gauges.read().running as f64
        }),
        ("llmos_requests_paged_out", "gauge", "Requests without cache for a while.", |model| {
            model.gauges.read().away as f64
        }),
        ("llmos_page_outs_total", "counter", "Times that a request was paged out.", |model| {
            model.gauges.read().paged_out as f64
        }),
        ("llmos_cache_blocks", "gauge", "Blocks of the cache of keys and values.", |model| {
            model.gauges.read().blocks as f64
        }),
        ("llmos_cache_blocks_free", "gauge", "Of those, the ones that can be had.", |model| {
            model.gauges.read().blocks_free as f64
        }),
    ];
    for (name, kind, help, of) in families {
        text.family(name, kind, help);
        for model in moment.models {
            // What is not in memory has no cache, whatever it had.
            if model.loaded.is_some() || kind == "counter" || name == "llmos_model_loaded" {
                text.sample(name, &[("model", &model.id)], of(model));
            }
        }
    }
}
