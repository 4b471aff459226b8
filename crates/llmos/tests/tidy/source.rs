//! Source files of the workspace, and their code without comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).expect("crates/llmos lies in the workspace").to_path_buf()
}

/// A file of the repository as text, by its path from the root.
pub(crate) fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Paths from the root of all files under `folder` (`""` is the root), built and fetched ones aside.
pub(crate) fn files(folder: &str) -> Vec<String> {
    const NOT_OURS: [&str; 7] =
        ["target", ".git", "__pycache__", "corpus", "artifacts", ".venv", "node_modules"];
    let mut found = Vec::new();
    let mut folders = vec![folder.to_string()];
    while let Some(folder) = folders.pop() {
        let absolute = root().join(&folder);
        let entries = fs::read_dir(&absolute)
            .unwrap_or_else(|error| panic!("{}: {error}", absolute.display()));
        for entry in entries {
            let entry = entry.expect("a folder can be listed");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type().expect("an entry has a type");
            // In a further work tree of git `.git` is a file.
            if NOT_OURS.contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A Rust file of a crate of ours.
pub(crate) struct Source {
    /// From the root.
    pub(crate) path: String,
    /// The crate's folder name.
    pub(crate) room: String,
    pub(crate) text: String,
    /// Comments, strings and characters blanked, line breaks kept.
    pub(crate) code: String,
    /// Lines that come before the unit tests at the file's end.
    pub(crate) n_line: usize,
    /// Whether the whole file is tests.
    pub(crate) is_test: bool,
}

impl Source {
    pub(crate) fn new(path: String) -> Source {
        let text = read(&path);
        let code = code_of(&text);
        let room = path.split('/').nth(1).expect("a path in crates/").to_string();
        let inner = path.splitn(3, '/').nth(2).unwrap_or_default();
        let is_test = !inner.starts_with("src/")
            || inner.ends_with("/tests.rs")
            || inner.split('/').any(|folder| folder == "tests");
        let lines: Vec<&str> = text.lines().collect();
        let n_line = lines
            .windows(2)
            .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {"))
            .unwrap_or(lines.len());
        Source { path, room, text, code, n_line, is_test }
    }

    /// Lines of code outside tests: (line number from 1, code).
    pub(crate) fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        let n_line = if self.is_test { 0 } else { self.n_line };
        self.lines().take(n_line)
    }

    /// Lines of code: (line number from 1, code).
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All Rust files of the crates.
pub(crate) fn sources() -> Vec<Source> {
    let rust = files("crates").into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(Source::new).collect()
}

/// Whether `code` holds `word` with no word character on either side.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word)
    })
}

/// Rust text with comments, strings and character literals replaced by spaces.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = literal_length(rest, after_word);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// Bytes of the comment or literal that `rest` begins with, 0 if it begins with code.
fn literal_length(rest: &str, after_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    if rest.starts_with('\'') {
        // A lifetime or label has no closing quote right after its first character.
        let mut following = rest.chars().skip(1);
        let is_character = match following.next() {
            Some('\\') => true,
            Some(_) => following.next() == Some('\''),
            None => false,
        };
        return if is_character { quoted_length(rest, '\'') } else { 0 };
    }
    let raw = ["r", "br", "cr"].iter().find(|prefix| {
        rest.starts_with(**prefix) && rest[prefix.len()..].trim_start_matches('#').starts_with('"')
    });
    match raw {
        Some(prefix) if !after_word => {
            let hashes = rest[prefix.len()..].chars().take_while(|&c| c == '#').count();
            let open = prefix.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len())
        }
        _ => 0,
    }
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn comments_and_literals_are_no_code() {
    let check = |text: &str, expected: &str| assert_eq!(code_of(text), expected, "{text}");
    check("a // b\nc", "a     \nc");
    check("a /* b /* c */ */ d", "a                 d");
    check(r#"f("unsafe \" {", 'x')"#, r#"f(             ,    )"#);
    check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    check(r##"r#"a " b"# + 'b' + '\''"##, "           +     +     ");
    check("for x in bar\"\"", "for x in bar  ");
    check("'é' '\\u{7f}'", "            ");
}
