//! `llmos bench serve`: how fast a server answers, for each number of clients.

mod client;
mod figures;
mod load;
mod prompts;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::Outcome;
use crate::failure::failure;
use crate::terminal::{Terminal, number_of};
use client::{Client, Fault, Server};
use figures::{median, percentile};
use load::{Amount, Load, Loaded};
use prompts::Prompts;

/// Measure a server: tokens a second, and how long its clients wait for them.
///
/// Any server that speaks OpenAI's API, so that others are measured by the same tool. Each client asks,
/// reads the answer as it streams, and asks again; times are those that the client sees. No two prompts
/// are alike but for --shared-prefix, and an answer that has not all its tokens is an error. With an
/// error the exit code is 1.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Where the server is, such as http://127.0.0.1:8080.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Clients at once; with several numbers each is measured, one after another.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,4,16,64",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: Vec<u16>,
    /// Tokens of a prompt.
    #[arg(long, value_name = "TOKENS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompt: u32,
    /// Tokens of an answer.
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    answer: u32,
    /// Tokens that all prompts begin with, before their own. The time to the first token is then also
    /// measured of one client alone, with a prefix that the server has not seen and with one that it has.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    shared_prefix: Option<u32>,
    /// Requests for each number of clients; four a client, and at least eight, where it is left out.
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..))]
    requests: Option<u32>,
    /// Ask for so long instead; what is under way then is waited for, and counts.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// The model's id; the first that the server lists where it is left out.
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    /// The server's key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Makes the prompts. Where it is left out they are new ones each time, so that none is in the
    /// server's cache.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print JSON: a list with an object for each number of clients.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of a number of clients. Times are milliseconds.
#[derive(Serialize)]
struct Row {
    clients: usize,
    /// Tokens of answers, of all clients together.
    tokens_per_s: f64,
    ttft_ms_p50: f64,
    ttft_ms_p99: f64,
    /// None where answers have one token.
    inter_token_ms_p50: Option<f64>,
    inter_token_ms_p99: Option<f64>,
    /// Requests that were answered as was asked, and those that were not.
    requests: usize,
    errors: usize,
    #[serde(flatten)]
    prefix: Option<PrefixTimes>,
}

/// The time to the first token of one client alone, with a prefix of which the server knows nothing and
/// with one that it has read. Medians.
#[derive(Clone, Copy, Serialize)]
struct PrefixTimes {
    ttft_cold_ms: f64,
    ttft_shared_ms: f64,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let server = Server::new(&arguments.url, arguments.key.as_deref())?;
    let seed = arguments.seed.unwrap_or_else(fresh);
    let server = server.greet(arguments.model.as_deref())?;
    let mut prompts = Prompts {
        seed,
        vocab_size: server.vocab_size(),
        prefix: arguments.shared_prefix.unwrap_or(0) as usize,
        own: arguments.prompt as usize,
    };
    let mut client = Client::new(&server)?;
    let way = client.find_way(&prompts).map_err(|fault| explained(&server, &fault))?;
    terminal.say(format_args!(
        "{} ({}), {way}: prompts of {} tokens, answers of {}",
        server.url(),
        server.model(),
        prompts.prefix + prompts.own,
        arguments.answer,
    ));
    let prefix = match prompts.prefix {
        0 => None,
        _ => {
            let times = prefix_times(&mut client, &prompts);
            Some(times.map_err(|fault| explained(&server, &fault))?)
        }
    };
    if let (Some(times), false) = (prefix, arguments.json) {
        terminal.print(format!(
            "first token  {:.1} ms, with a known prefix of {} tokens {:.1} ms ({:.1} %)\n",
            times.ttft_cold_ms,
            prompts.prefix,
            times.ttft_shared_ms,
            100.0 * times.ttft_shared_ms / times.ttft_cold_ms,
        ))?;
    }
    let mut rows = Vec::new();
    for (number, &clients) in arguments.clients.iter().enumerate() {
        // Another number of clients finds nothing in the cache of what the last one asked.
        prompts.seed = seed.wrapping_add(1 + number as u64);
        let clients = usize::from(clients);
        let load = Load {
            server: &server,
            way,
            prompts: &prompts,
            clients,
            answer: arguments.answer as usize,
            amount: amount(arguments, clients),
        };
        let loaded = load.run(terminal)?;
        let row = row(&loaded, clients, prefix).map_err(|fault| explained(&server, &fault))?;
        notes(&loaded, &prompts, terminal);
        if !arguments.json {
            let heading = if number == 0 { HEADING } else { "" };
            terminal.print(heading.to_string() + &line(&row))?;
        }
        rows.push(row);
    }
    if arguments.json {
        terminal.json(&rows)?;
    }
    let errors: usize = rows.iter().map(|row| row.errors).sum();
    Ok(if errors == 0 { Outcome::Success } else { Outcome::Negative })
}

/// A seed that no other call has.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64
}

fn amount(arguments: &Arguments, clients: usize) -> Amount {
    match (arguments.seconds, arguments.requests) {
        (Some(seconds), _) => Amount::Time(Duration::from_secs(seconds.into())),
        (None, Some(requests)) => Amount::Requests(requests as usize),
        (None, None) => Amount::Requests((4 * clients).max(8)),
    }
}

/// Rounds of [`prefix_times`].
const ROUNDS: u64 = 3;

/// Tokens that follow the prefix in [`prefix_times`], a question's length.
const QUESTION: usize = 16;

fn prefix_times(client: &mut Client<'_>, prompts: &Prompts) -> Result<PrefixTimes, Fault> {
    let (mut cold, mut shared) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let fresh = Prompts { seed: !(prompts.seed ^ round), own: QUESTION, ..*prompts };
        cold.push(client.ask(&fresh.prompt(0), 2)?.first);
        shared.push(client.ask(&fresh.prompt(1), 2)?.first);
    }
    let ms = |seconds: &mut Vec<f64>| 1e3 * median(seconds);
    Ok(PrefixTimes { ttft_cold_ms: ms(&mut cold), ttft_shared_ms: ms(&mut shared) })
}

/// The figures of a load; an error where no request was answered.
fn row(loaded: &Loaded, clients: usize, prefix: Option<PrefixTimes>) -> Result<Row, Fault> {
    let answers = &loaded.answers;
    if let (true, Some(fault)) = (answers.is_empty(), loaded.faults.first()) {
        return Err(fault.clone());
    }
    let mut first: Vec<f64> = answers.iter().map(|answer| 1e3 * answer.first).collect();
    let mut gaps: Vec<f64> =
        answers.iter().flat_map(|answer| &answer.gaps).map(|gap| 1e3 * gap).collect();
    first.sort_by(f64::total_cmp);
    gaps.sort_by(f64::total_cmp);
    let tokens: usize = answers.iter().map(|answer| answer.tokens).sum();
    Ok(Row {
        clients,
        tokens_per_s: tokens as f64 / loaded.seconds,
        ttft_ms_p50: percentile(&first, 0.5).unwrap_or_default(),
        ttft_ms_p99: percentile(&first, 0.99).unwrap_or_default(),
        inter_token_ms_p50: percentile(&gaps, 0.5),
        inter_token_ms_p99: percentile(&gaps, 0.99),
        requests: answers.len(),
        errors: loaded.faults.len(),
        prefix,
    })
}

/// What makes figures something else than they look like.
fn notes(loaded: &Loaded, prompts: &Prompts, terminal: &Terminal) {
    if let Some(fault) = loaded.faults.first() {
        let errors = number_of(loaded.faults.len(), "request");
        terminal.warn(format_args!("{errors} not answered as asked; the first: {fault}"));
    }
    let asked = prompts.prefix + prompts.own;
    let read = loaded.answers.iter().find_map(|answer| answer.prompt_tokens);
    if let Some(read) = read.filter(|read| read.abs_diff(asked) * 20 > asked) {
        terminal.warn(format_args!(
            "the server counts prompts of {read} tokens where {asked} were meant"
        ));
    }
    let pieces: usize = loaded.answers.iter().map(|answer| answer.gaps.len() + 1).sum();
    let tokens: usize = loaded.answers.iter().map(|answer| answer.tokens).sum();
    if pieces * 10 < tokens * 9 {
        terminal.warn(format_args!(
            "{tokens} tokens came in {pieces} pieces: times between tokens are those between pieces"
        ));
    }
}

const HEADING: &str = "clients  tokens/s  first token ms: p50      p99  between tokens ms: p50      \
                       p99  requests  errors\n";

fn line(row: &Row) -> String {
    let gap = |ms: Option<f64>| ms.map_or("-".to_string(), |ms| format!("{ms:.1}"));
    format!(
        "{:>7} {:>9.1} {:>20.1} {:>8.1} {:>23} {:>8} {:>9} {:>7}\n",
        row.clients,
        row.tokens_per_s,
        row.ttft_ms_p50,
        row.ttft_ms_p99,
        gap(row.inter_token_ms_p50),
        gap(row.inter_token_ms_p99),
        row.requests,
        row.errors,
    )
}

fn explained(server: &Server, fault: &Fault) -> anyhow::Error {
    let hint = match fault.status {
        None => "check --url, and that the server runs",
        Some(200) => "ask for an --answer that fits the context; not every server knows ignore_eos",
        Some(401 | 403) => "give the server's --key",
        Some(404) => "check --url, and --model: GET /v1/models lists what is there",
        Some(429 | 503) => "ask with fewer --clients, or give the server more slots and queue",
        Some(_) => "the server says what it does not like",
    };
    failure(format!("{}: {fault}", server.url()), hint)
}
