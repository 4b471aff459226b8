//! Adapters by name: `--adapter NAME=FOLDER`, of which each request or row chooses one.

use crate::failure::failure;
use crate::load::Adapting;

/// An adapter that has a name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The model that it is for, where that was said.
    pub(crate) model: Option<String>,
    /// What it is called.
    pub(crate) name: String,
    /// Its folder, and what it is multiplied with.
    pub(crate) adapting: Adapting,
}

/// Reads `[MODEL:]NAME=FOLDER[:SCALE]`.
///
/// # Errors
/// A text of another form.
pub(crate) fn parse(text: &str) -> Result<Named, String> {
    let form = "an adapter is NAME=FOLDER, or MODEL:NAME=FOLDER";
    let (names, folder) = text.split_once('=').ok_or(form)?;
    let (model, name) = match names.rsplit_once(':') {
        Some((model, name)) => (Some(model.to_string()), name),
        None => (None, names),
    };
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(is_letter) || folder.is_empty() {
        return Err(format!("{form}; a name is of letters, digits, _, - and ."));
    }
    Ok(Named { model, name: name.to_string(), adapting: Adapting::of(folder) })
}

/// Checks that adapters are there, and that no two have one name.
///
/// # Errors
/// A folder that holds no adapter, or a name that comes twice.
pub(crate) fn check(all: &[Named]) -> anyhow::Result<()> {
    for (number, named) in all.iter().enumerate() {
        let Named { model, name, adapting } = named;
        if !adapting.is_one() {
            return Err(failure(
                format!("--adapter {name}: there is no adapter in its folder"),
                "an adapter is a folder with adapter_config.json and adapter_model.safetensors",
            ));
        }
        let is_same = |other: &Named| other.name == *name && other.model == *model;
        if all[..number].iter().any(is_same) {
            return Err(failure(
                format!("two adapters are called {name}"),
                "give one another name: --adapter NAME=FOLDER",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_has_a_name_and_a_folder() {
        let check = |text: &str, expected: Option<(Option<&str>, &str)>| {
            let found = parse(text).ok();
            let found = found.as_ref().map(|named| (named.model.as_deref(), named.name.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        check("poet=runs/poet", Some((None, "poet")));
        check("assistant:poet=runs/poet:0.5", Some((Some("assistant"), "poet")));
        check("hf:a/b:poet=x", Some((Some("hf:a/b"), "poet")));
        check("poet", None);
        check("=x", None);
        check("poet=", None);
        check("a b=x", None);
    }
}
