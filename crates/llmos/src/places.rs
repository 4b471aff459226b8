//! Where llmos keeps its own files.

use std::path::PathBuf;

use crate::failure::failure;

/// The folder for models and other data: `LLMOS_HOME`, or the system's place for such data.
///
/// # Errors
/// None of the variables that name a home is set.
pub(crate) fn data_folder() -> anyhow::Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(home) = named("LLMOS_HOME") {
        return Ok(home);
    }
    let base = if cfg!(windows) {
        named("LOCALAPPDATA")
    } else {
        named("XDG_DATA_HOME").or_else(|| named("HOME").map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("llmos"))
        .ok_or_else(|| failure("no home folder is known", "set LLMOS_HOME to a folder for models"))
}

/// Settings files, the strongest first: this folder's, then the person's.
pub(crate) fn settings_files() -> Vec<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut files = vec![PathBuf::from("llmos.toml")];
    let base = if cfg!(windows) {
        named("APPDATA")
    } else {
        named("XDG_CONFIG_HOME").or_else(|| named("HOME").map(|home| home.join(".config")))
    };
    files.extend(base.map(|base| base.join("llmos/llmos.toml")));
    files
}
