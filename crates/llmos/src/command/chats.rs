//! `llmos chats`: the conversations that a server keeps.

use std::io::{BufReader, Read};
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use llmos_store::{Chats, Conversation, Form, Message, Role, Store, Thumb, Tree};
use serde_json::{Value, json};

use crate::Outcome;
use crate::failure::failure;
use crate::registry::write_whole;
use crate::store::{StorePlace, explained, when};
use crate::terminal::{Style, Terminal, number_of, plain};

/// List, show, search, export, import and delete the conversations of a server.
///
/// They work beside a server that is running. Those that were led with a key are its name's
/// (--owner NAME); the others are the person's at this machine.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    List(List),
    Show(Show),
    Search(Search),
    Export(Export),
    Import(Import),
    Delete(Delete),
}

/// Whose conversations, and where.
#[derive(clap::Args, Debug)]
#[group(id = "whose")]
struct Whose {
    /// The name of the key that they were led with; the person's at this machine where it is left
    /// out.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    #[command(flatten)]
    place: StorePlace,
}

impl Whose {
    fn owner(&self) -> &str {
        self.owner.as_deref().unwrap_or_default()
    }

    fn open(&self) -> anyhow::Result<Store> {
        self.place.visit()
    }
}

/// List conversations, what changed last first.
#[derive(clap::Args, Debug)]
struct List {
    /// Most of them.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whose: Whose,
}

/// Show a conversation: the branch that was looked at last.
#[derive(clap::Args, Debug)]
struct Show {
    /// Its id, as `list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    /// Print all branches as JSON, as the server's API has them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whose: Whose,
}

/// Find messages and titles that hold all words.
///
/// Words are found by their beginnings, Chinese by any part; what stands between quotes, in that
/// order.
#[derive(clap::Args, Debug)]
struct Search {
    /// The words.
    #[arg(value_name = "WORD", required = true)]
    query: Vec<String>,
    /// Most hits.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whose: Whose,
}

/// Write conversations as lines of JSON: all branches and ratings, to be imported without loss.
#[derive(clap::Args, Debug)]
struct Export {
    /// Which; all where none is named.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The branch that was looked at last as plain messages: what models are trained on.
    #[arg(long)]
    messages: bool,
    /// The file; standard output where it is left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    whose: Whose,
}

/// Take conversations from lines of JSON: an export, or rows of {"messages": […]}.
///
/// What is there already, just so, is left alone.
#[derive(clap::Args, Debug)]
struct Import {
    /// The file; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whose: Whose,
}

/// Delete conversations for good: their bytes are overwritten.
#[derive(clap::Args, Debug)]
struct Delete {
    /// Which.
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All of this owner's.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    whose: Whose,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::List(arguments) => list(&arguments, terminal),
        Action::Show(arguments) => show(&arguments, terminal),
        Action::Search(arguments) => search(&arguments, terminal),
        Action::Export(arguments) => export(&arguments, terminal),
        Action::Import(arguments) => import(&arguments, terminal),
        Action::Delete(arguments) => delete(&arguments, terminal),
    }
}

fn list(arguments: &List, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut store = arguments.whose.open()?;
    let owner = arguments.whose.owner();
    let heads = heads(&mut store.chats(owner), arguments.limit)?;
    if arguments.json {
        terminal.json(&heads)?;
        return Ok(Outcome::Success);
    }
    for head in &heads {
        let title = if head.title.is_empty() { "(no title)" } else { &head.title };
        terminal.print(format!(
            "{}  {}  {:>4}  {}\n",
            head.id,
            when(head.updated),
            head.messages,
            terminal.style(Style::Bold, plain(title).replace('\n', " ")),
        ))?;
    }
    if heads.is_empty() {
        let others = store.owners().map_err(explained)?;
        let others: Vec<String> = others
            .iter()
            .filter(|(name, _)| name != owner)
            .map(|(name, n)| match name.is_empty() {
                true => format!("the person at this machine has {n}"),
                false => format!("--owner {} has {n}", plain(name)),
            })
            .collect();
        let more =
            if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
        terminal.say(format_args!("no conversations{more}"));
    }
    Ok(Outcome::Success)
}

/// The first of the list, page by page.
fn heads(chats: &mut Chats<'_>, limit: u32) -> anyhow::Result<Vec<Conversation>> {
    let mut heads: Vec<Conversation> = Vec::new();
    let mut after = None;
    loop {
        let left = limit - u32::try_from(heads.len()).unwrap_or(limit).min(limit);
        if left == 0 {
            return Ok(heads);
        }
        let page = chats.list(after.as_ref(), left).map_err(explained)?;
        heads.extend(page.conversations);
        after = page.next;
        if after.is_none() {
            return Ok(heads);
        }
    }
}

fn show(arguments: &Show, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut store = arguments.whose.open()?;
    let mut chats = store.chats(arguments.whose.owner());
    let tree = chats.tree(&arguments.id).map_err(explained)?;
    if arguments.json {
        let mut value = json!(tree.conversation);
        value["messages"] = json!(tree.messages);
        terminal.json(&value)?;
        return Ok(Outcome::Success);
    }
    if !tree.conversation.title.is_empty() {
        let title = plain(&tree.conversation.title);
        terminal.print(format!("{}\n\n", terminal.style(Style::Bold, title)))?;
    }
    for message in tree.branch() {
        terminal.print(told(message, &tree, terminal))?;
    }
    Ok(Outcome::Success)
}

/// A message for people.
fn told(message: &Message, tree: &Tree, terminal: &Terminal) -> String {
    let body = &message.body;
    let style = if body.role == Role::User { Style::Green } else { Style::Cyan };
    let mut text = terminal.style(style, body.role.name());
    let siblings = tree.messages.iter().filter(|other| other.parent == message.parent).count();
    let mut notes = vec![format!("{}", message.number)];
    if siblings > 1 {
        notes.push(format!("one of {siblings} branches"));
    }
    if let Some(origin) = &body.origin {
        notes.push(plain(&origin.model));
    }
    if let Some(rating) = &message.rating {
        notes.push(if rating.thumb == Thumb::Up { "thumb up" } else { "thumb down" }.into());
    }
    text += &terminal.style(Style::Dim, format_args!("  {}\n", notes.join(", ")));
    text += &plain(&body.content);
    for call in &body.tool_calls {
        text += &format!("\ncalls {}", plain(&call["function"].to_string()));
    }
    for file in &body.attachments {
        text += &format!("\nwith {} ({} bytes)", plain(&file.name), file.text.len());
    }
    text + "\n\n"
}

fn search(arguments: &Search, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut store = arguments.whose.open()?;
    let mut chats = store.chats(arguments.whose.owner());
    let query = arguments.query.join(" ");
    let hits = chats.search(&query, 0, arguments.limit).map_err(explained)?;
    if arguments.json {
        let rows = hits.iter().map(|hit| {
            json!({
                "conversation": hit.conversation,
                "title": hit.title,
                "message": hit.message,
                "role": hit.role,
                "created": hit.created,
                "snippet": hit.snippet,
            })
        });
        terminal.json(&rows.collect::<Vec<Value>>())?;
    } else {
        for hit in &hits {
            let part = |from, to| hit.snippet.get(from..to).map(plain).unwrap_or_default();
            let (start, end) = (hit.place.start, hit.place.end);
            let line = format!(
                "{}  {}  {}{}{}",
                hit.conversation,
                hit.message.map_or("title".to_string(), |number| number.to_string()),
                part(0, start),
                terminal.style(Style::Yellow, part(start, end)),
                part(end, hit.snippet.len()),
            );
            terminal.print(line.replace('\n', " ") + "\n")?;
        }
    }
    // As grep has it: nothing found is an answer, and it is no.
    Ok(if hits.is_empty() { Outcome::Negative } else { Outcome::Success })
}

fn export(arguments: &Export, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut store = arguments.whose.open()?;
    let mut chats = store.chats(arguments.whose.owner());
    let form = if arguments.messages { Form::Messages } else { Form::Trees };
    let mut lines = Vec::new();
    let mut count = arguments.ids.len() as u64;
    match arguments.ids.is_empty() {
        true => count = chats.export(form, &mut lines).map_err(explained)?,
        false => {
            for id in &arguments.ids {
                // An id that is not there is an error, and not a line less.
                chats.conversation(id).map_err(explained)?;
                chats.export_one(id, form, &mut lines).map_err(explained)?;
            }
        }
    }
    let said = number_of(usize::try_from(count).unwrap_or(usize::MAX), "conversation");
    match &arguments.out {
        Some(path) => {
            write_whole(path, &lines)?;
            terminal.say(format_args!("{}: {said}", path.display()));
        }
        None => {
            terminal.bytes(&lines)?;
            terminal.detail(said);
        }
    }
    Ok(Outcome::Success)
}

fn import(arguments: &Import, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let path = &arguments.file;
    let input: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => {
            let opened = std::fs::File::open(path);
            Box::new(opened.with_context(|| format!("cannot read {}", path.display()))?)
        }
    };
    let mut store = arguments.whose.open()?;
    let mut chats = store.chats(arguments.whose.owner());
    let imported = chats.import(&mut BufReader::new(input)).map_err(explained)?;
    if arguments.json {
        terminal.json(&json!({
            "conversations": imported.conversations,
            "messages": imported.messages,
            "unchanged": imported.unchanged,
            "renamed": imported.renamed,
        }))?;
    }
    let count = |n: u64, thing: &str| number_of(usize::try_from(n).unwrap_or(usize::MAX), thing);
    let were = if imported.unchanged == 1 { "was" } else { "were" };
    terminal.say(format_args!(
        "{} with {} taken in; {} {were} there already",
        count(imported.conversations, "conversation"),
        count(imported.messages, "message"),
        imported.unchanged,
    ));
    Ok(Outcome::Success)
}

fn delete(arguments: &Delete, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut store = arguments.whose.open()?;
    let mut chats = store.chats(arguments.whose.owner());
    if arguments.all {
        let n = chats.delete_all().map_err(explained)?;
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        terminal.say(format_args!("{} deleted", number_of(n, "conversation")));
        return Ok(Outcome::Success);
    }
    // All or none: an id that is not there may be a slip of the hand.
    for id in &arguments.ids {
        chats.conversation(id).map_err(explained)?;
    }
    let mut ids: Vec<&String> = arguments.ids.iter().collect();
    ids.sort();
    ids.dedup();
    for id in &ids {
        chats.delete(id).map_err(explained)?;
    }
    if ids.is_empty() {
        return Err(failure("no conversation is named", "name some, or say --all"));
    }
    terminal.say(format_args!("{} deleted", number_of(ids.len(), "conversation")));
    Ok(Outcome::Success)
}
