//! `llmos keys`: who may ask a server.

use clap::Subcommand;
use llmos_store::{Key, Quota, Scope, Secret};
use serde_json::{Value, json};

use crate::Outcome;
use crate::store::{StorePlace, explained, when};
use crate::terminal::{Style, Terminal, plain};

/// Make, renew, list and revoke the keys of a server.
///
/// Once there is one, a server that keeps its data in the same place asks everyone for a key, and
/// others than this machine may be served. A running server notices within a second or two.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    Add(Add),
    List(List),
    Renew(Renew),
    Revoke(Revoke),
}

/// Make a key. It is printed once, and cannot be had again: only its hash is kept.
///
/// Programs send it as `Authorization: Bearer KEY` or `x-api-key: KEY`. Its name is the owner of the
/// conversations that are led with it.
#[derive(clap::Args, Debug)]
struct Add {
    /// Whose it is, or what for.
    #[arg(value_name = "NAME")]
    name: String,
    /// What it is for: chat asks models and keeps conversations, admin also loads, pulls and converts
    /// models and sees runs and figures.
    #[arg(long, value_name = "chat|admin", default_value = "chat", value_parser = parse_scope)]
    scope: Scope,
    /// Most requests in a minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_minute: Option<u32>,
    /// Most tokens, of prompts and answers, in a minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens_per_minute: Option<u64>,
    /// Most tokens, of prompts and answers, in a day (UTC).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens_per_day: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: StorePlace,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::of(text).ok_or_else(|| "a scope is chat or admin".to_string())
}

/// List all keys, without their secrets.
#[derive(clap::Args, Debug)]
struct List {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: StorePlace,
}

/// Make another key of a name, in place of the old one, which opens nothing any more.
///
/// Scope, quotas and conversations stay.
#[derive(clap::Args, Debug)]
struct Renew {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: StorePlace,
}

/// Revoke a key: it opens nothing any more. What was said with it stays.
#[derive(clap::Args, Debug)]
struct Revoke {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: StorePlace,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Add(arguments) => add(arguments, terminal)?,
        Action::List(arguments) => list(&arguments, terminal)?,
        Action::Renew(arguments) => renew(&arguments, terminal)?,
        Action::Revoke(arguments) => {
            let mut store = arguments.place.visit()?;
            store.keys().revoke(&arguments.name).map_err(explained)?;
            terminal.say(format_args!("{} opens nothing any more", plain(&arguments.name)));
        }
    }
    Ok(Outcome::Success)
}

fn add(arguments: Add, terminal: &Terminal) -> anyhow::Result<()> {
    let Add { name, scope, requests_per_minute, tokens_per_minute, tokens_per_day, .. } = arguments;
    let quota = Quota { requests_per_minute, tokens_per_minute, tokens_per_day };
    let mut store = arguments.place.visit()?;
    let secret = store.keys().add(&name, scope, quota).map_err(explained)?;
    let key = (name.as_str(), scope, quota);
    show(&secret, key, arguments.json, terminal)
}

/// Makes another key of a name.
fn renew(arguments: &Renew, terminal: &Terminal) -> anyhow::Result<()> {
    let mut store = arguments.place.visit()?;
    let secret = store.keys().renew(&arguments.name).map_err(explained)?;
    let keys = store.keys().list().map_err(explained)?;
    let key = keys.iter().find(|key| key.name == arguments.name);
    let (scope, quota) = key.map_or_else(Default::default, |key| (Some(key.scope), key.quota));
    let key = (arguments.name.as_str(), scope.unwrap_or(Scope::Chat), quota);
    show(&secret, key, arguments.json, terminal)
}

/// Prints a key, this once.
fn show(
    secret: &Secret,
    (name, scope, quota): (&str, Scope, Quota),
    is_json: bool,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    if is_json {
        let mut row = json!({ "name": name, "key": secret.expose(), "scope": scope.name() });
        add_quota(&mut row, quota);
        return terminal.json(&row);
    }
    terminal.say(format_args!(
        "the key of {} ({}); it is shown this once:",
        plain(name),
        scope.name()
    ));
    terminal.print(format!("{}\n", secret.expose()))
}

fn add_quota(row: &mut Value, quota: Quota) {
    row["requests_per_minute"] = quota.requests_per_minute.into();
    row["tokens_per_minute"] = quota.tokens_per_minute.into();
    row["tokens_per_day"] = quota.tokens_per_day.into();
}

fn list(arguments: &List, terminal: &Terminal) -> anyhow::Result<()> {
    let mut store = arguments.place.visit()?;
    let keys = store.keys().list().map_err(explained)?;
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        let usage = store.keys().usage(&key.name).map_err(explained)?;
        let mut row = json!({
            "name": key.name,
            "prefix": key.prefix,
            "scope": key.scope.name(),
            "created": key.created,
            "used": key.used,
            "revoked": key.revoked,
            "requests_today": usage.requests,
            "tokens_today": usage.tokens,
        });
        add_quota(&mut row, key.quota);
        rows.push((key, row));
    }
    if arguments.json {
        let rows: Vec<&Value> = rows.iter().map(|(_, row)| row).collect();
        return terminal.json(&rows);
    }
    if rows.is_empty() {
        terminal.say("no keys: a server here serves this machine alone; `llmos keys add NAME`");
    }
    let width = rows.iter().map(|(key, _)| key.name.chars().count()).max().unwrap_or(0);
    for (key, row) in &rows {
        let name = terminal.style(Style::Bold, format_args!("{:width$}", plain(&key.name)));
        let line = format!(
            "{name}  sk-llmos-{}…  {:5}  {}  today {} requests, {} tokens{}\n",
            key.prefix,
            key.scope.name(),
            state(key),
            row["requests_today"],
            row["tokens_today"],
            limits(key.quota),
        );
        terminal.print(line)?;
    }
    Ok(())
}

fn state(key: &Key) -> String {
    match (key.revoked, key.used) {
        (Some(time), _) => format!("revoked {}", when(time)),
        (None, Some(time)) => format!("used {}", when(time)),
        (None, None) => format!("made {}, not used", when(key.created)),
    }
}

fn limits(quota: Quota) -> String {
    let parts = [
        quota.requests_per_minute.map(|n| format!("{n} requests a minute")),
        quota.tokens_per_minute.map(|n| format!("{n} tokens a minute")),
        quota.tokens_per_day.map(|n| format!("{n} tokens a day")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("; at most {}", parts.join(", ")) }
}
