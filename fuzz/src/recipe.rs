//! Recipes: TOML that a person wrote, or that a checkpoint holds.

use std::path::Path;

use llmos_train::recipe::{Draft, Facts, Speed, Text};

/// A recipe is read and resolved on a text and a machine; what comes out reads back as itself.
pub fn recipe(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(draft) = Draft::from_toml(text, Path::new("recipe.toml")) else { return false };
    let facts = Facts {
        text: Some(Text { bytes: 20_000_000, ..Text::default() }),
        speed: Some(Speed { flops_per_s: 1e11, startup_seconds: 1.0, source: "a test".into() }),
        memory_bytes: Some(8 << 30),
    };
    let Ok(resolved) = draft.resolve(&facts) else { return false };
    let again = Draft::from_toml(&resolved.to_toml(), Path::new("recipe.toml"))
        .and_then(|draft| draft.resolve(&facts));
    assert!(again.is_ok_and(|again| again.recipe == resolved.recipe), "{}", resolved.to_toml());
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../recipes/shakespeare-char.toml"),
        include_str!("../../recipes/tiny.toml"),
        "[train]\nminutes = 30",
        "data = ['a', \"b\"]\nkeep = 1\n[optimizer]\nname = 'adamw'\nlr = 1e-4\n",
        "[train]\ntokens = '3M'\n[schedule]\nname = 'cosine'\nwarmup = 0.1\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
