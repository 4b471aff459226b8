//! The licence of a source, as the files beside it say.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// What begins a licence's text, and its name.
const KNOWN: [(&str, &str); 9] = [
    ("MIT License", "MIT"),
    ("Apache License", "Apache-2.0"),
    ("CC0 1.0", "CC0-1.0"),
    ("Attribution-ShareAlike 4.0", "CC-BY-SA-4.0"),
    ("Attribution-NonCommercial 4.0", "CC-BY-NC-4.0"),
    ("Attribution 4.0", "CC-BY-4.0"),
    ("Mozilla Public License", "MPL-2.0"),
    ("GNU GENERAL PUBLIC LICENSE", "GPL"),
    ("This is free and unencumbered software", "Unlicense"),
];

/// Longest licence that is read, in bytes, and longest name that is kept, in characters.
const LONGEST: (u64, usize) = (1 << 20, 120);

/// The licence in `SOURCE.json` or `LICENSE` in a folder, or beside a file or folder, and the file
/// that says so.
pub(super) fn find(path: &Path) -> Option<(String, PathBuf)> {
    let beside = path.parent().map(|parent| match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    });
    let own = path.is_dir().then_some(path);
    own.into_iter().chain(beside).find_map(of_folder)
}

fn of_folder(folder: &Path) -> Option<(String, PathBuf)> {
    let source = folder.join("SOURCE.json");
    if let Some(name) = read(&source).and_then(|text| of_json(&text)) {
        return Some((name, source));
    }
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            ["LICENSE", "LICENCE", "COPYING"].iter().any(|start| name.starts_with(start))
        })
        .collect();
    names.sort();
    names.into_iter().find_map(|path| Some((of_text(&read(&path)?)?, path)))
}

fn read(path: &Path) -> Option<String> {
    let short =
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < LONGEST.0);
    short.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// `licence` or `license` of an object, or of the objects of a list where they agree.
fn of_json(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let one = |value: &Value| -> Option<String> {
        let name = value.get("licence").or_else(|| value.get("license"))?.as_str()?;
        Some(name.chars().take(LONGEST.1).collect())
    };
    let Some(list) = value.as_array() else { return one(&value) };
    let mut names: Vec<String> = list.iter().filter_map(one).collect();
    names.dedup();
    (!names.is_empty()).then(|| names.join("; "))
}

fn of_text(text: &str) -> Option<String> {
    let start: String = text.chars().take(2000).collect();
    let known = KNOWN.iter().find(|(words, _)| start.contains(words));
    let first = || text.lines().map(str::trim).find(|line| !line.is_empty());
    let name = known.map(|(_, name)| *name).or_else(first)?;
    Some(name.chars().take(LONGEST.1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn the_nearest_file_says_it() {
        let scratch = Scratch::new();
        assert_eq!(find(&scratch.path().join("none.txt")), None);
        let licence = scratch.write("set/LICENSE", b"\n  MIT License\n\nCopyright");
        let found = ("MIT".to_string(), licence);
        scratch.write("set/a.txt", b"a");
        scratch.write("set/en/a.txt", b"a");
        for path in ["set", "set/a.txt", "set/en"] {
            assert_eq!(find(&scratch.path().join(path)).as_ref(), Some(&found), "{path}");
        }
        scratch.write("set/SOURCE.json", br#"[{"repo": "x", "licence": "CC BY 4.0"}]"#);
        assert_eq!(find(&scratch.path().join("set")).unwrap().0, "CC BY 4.0");
        scratch.write("set/SOURCE.json", b"[broken");
        assert_eq!(find(&scratch.path().join("set")), Some(found));
    }

    #[test]
    fn an_unknown_text_is_called_by_its_first_line() {
        assert_eq!(of_text("\n All rights reserved. \nmore"), Some("All rights reserved.".into()));
        assert_eq!(of_text(" \n"), None);
    }
}
