//! Names of models on the hub, and paths inside them, as people type them and clients of a server send
//! them: neither leads anywhere else.

use std::str::FromStr;

/// `hf:OWNER/REPO[@REVISION][:FILE]`, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// `OWNER/REPO`.
    pub(crate) repository: String,
    /// Branch, tag or commit.
    pub(crate) revision: String,
    /// A file, or a quantisation such as `Q4_K_M`.
    pub(crate) file: Option<String>,
}

impl FromStr for Address {
    /// What is wrong with it.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Address, &'static str> {
        let web = ["https://huggingface.co/", "hf://"];
        let rest = text
            .strip_prefix("hf:")
            .filter(|rest| !rest.starts_with("//"))
            .or_else(|| web.iter().find_map(|prefix| text.strip_prefix(prefix)))
            .ok_or("an address begins with hf:")?;
        let (place, file) = match rest.split_once(':') {
            Some((place, file)) => (place, Some(file.to_string())),
            None => (rest, None),
        };
        let (repository, revision) = place.split_once('@').unwrap_or((place, "main"));
        let repository = repository.trim_end_matches('/');
        let parts: Vec<&str> = repository.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_plain(part)) {
            return Err("OWNER/REPO is two names");
        }
        if !is_plain(revision) {
            return Err("a revision is one name");
        }
        if file.as_ref().is_some_and(|file| !is_safe_path(file)) {
            return Err("FILE is a path inside the repository");
        }
        Ok(Address { repository: repository.into(), revision: revision.into(), file })
    }
}

/// True for a name of letters, digits and some signs, which is no step in a path.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(allowed) && name != "." && name != ".."
}

/// True for a relative path of plain names, which cannot lead out of its folder.
pub(crate) fn is_safe_path(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<(&str, &str, Option<&str>)>| {
            let found = text.parse::<Address>().ok();
            let expected = expected.map(|(repository, revision, file)| Address {
                repository: repository.into(),
                revision: revision.into(),
                file: file.map(str::to_string),
            });
            assert_eq!(found, expected, "{text}");
        };
        check("hf:a/b", Some(("a/b", "main", None)));
        check("hf:a/b@v1:c.gguf", Some(("a/b", "v1", Some("c.gguf"))));
        check("hf:a/b:Q4_K_M", Some(("a/b", "main", Some("Q4_K_M"))));
        check("https://huggingface.co/a/b", Some(("a/b", "main", None)));
        check("a/b", None);
        check("hf:a", None);
        check("hf:a/b/c", None);
        check("hf:../b", None);
        check("hf:a/b:../../x.gguf", None);
        check("hf:a/b@../x", None);
        check("hf:a/b?x:y", None);
    }
}
