//! A base, rows and a template that lie elsewhere than when the run began: the same ones, if their bytes
//! say so.

use std::path::PathBuf;

use llmos_model::ModelFiles;
use llmos_train::run::Lesson;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lesson::Order;
use super::{Arguments, absolute, template_path};
use crate::failure::failure;
use crate::registry::hexadecimal;
use crate::terminal::Terminal;
use crate::{load, model_name};

/// What a base and rows are known again by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// SHA-256 of the base's tensors, and of the files of its vocabulary and template.
    base: String,
    /// SHA-256 of all files of rows.
    rows: String,
}

impl Identity {
    /// That of a base and its lesson.
    ///
    /// # Errors
    /// The base cannot be read.
    pub(super) fn of(base: &ModelFiles, lesson: &Lesson) -> anyhow::Result<Identity> {
        let mut hash = Sha256::new();
        for info in base.tensors() {
            hash.update(format!("{} {:?} {:?}\n", info.name, info.dtype, info.shape));
            if let Some(tensor) = base.tensor(&info.name).map_err(load::explained)? {
                hash.update(&tensor.bytes);
            }
            base.release(&info.name);
        }
        for (name, bytes) in &lesson.files {
            hash.update(format!("{name} {}\n", bytes.len()));
            hash.update(bytes);
        }
        let rows = lesson.train.sha256().to_string();
        Ok(Identity { base: hexadecimal(&hash.finalize()), rows })
    }
}

/// The order of a run with the base, the rows and the template where they are said to lie now.
///
/// # Errors
/// Something other is given, and the run does not know its own again; or something is gone.
pub(super) fn now(
    arguments: &Arguments,
    order: &Order,
    terminal: &Terminal,
) -> anyhow::Result<Order> {
    let mut now = order.clone();
    let knows = order.identity.is_some();
    if let Some(base) = &arguments.base {
        now.base = absolute(model_name::resolve(base, terminal)?);
        if now.base != order.base && !knows {
            return refuse(base, format!("the base {}", order.base.display()));
        }
    }
    if !arguments.data.is_empty() {
        now.data = arguments.data.iter().map(absolute).collect();
        let are_files = now.data.iter().all(|path| path.is_file());
        if now.data != order.data && !(knows && are_files) {
            return refuse("--data", format!("the rows of {}", listed(&order.data)));
        }
    }
    if let Some(template) = &arguments.template {
        now.template = Some(template_path(template));
        if now.template != order.template && !(knows && order.template.is_some()) {
            return refuse("--template", "another template".to_string());
        }
    }
    let gone = |what: &str, path: &PathBuf, flag: &str| {
        failure(
            format!("{what} of the run, {}, is gone", path.display()),
            format!("bring it back, or say where it lies now: {flag}"),
        )
    };
    if !now.base.exists() {
        return Err(gone("the base", &now.base, "BASE before --resume RUN"));
    }
    if let Some(path) = now.data.iter().find(|path| !path.exists()) {
        return Err(gone("a file of rows", path, "--data FILE"));
    }
    Ok(now)
}

/// Whether what the run goes on with is what it began with, wherever that lies.
///
/// # Errors
/// It is something else.
pub(super) fn check(order: &Order, now: &Order, own: &Identity) -> anyhow::Result<()> {
    let Some(identity) = &order.identity else { return Ok(()) };
    if own.rows != identity.rows && now.data != order.data {
        return refuse("--data", format!("the rows of {}", listed(&order.data)));
    }
    if own.base == identity.base {
        return Ok(());
    }
    if now.template != order.template {
        return refuse("--template", "another template".to_string());
    }
    if now.base != order.base {
        return refuse(
            &now.base.display().to_string(),
            format!("the base {}", order.base.display()),
        );
    }
    let template = order.template.as_ref();
    let template = template.map_or(String::new(), |path| format!(", with {}", path.display()));
    Err(failure(
        format!(
            "the base {}{template} is not what it was when the run began: its weights, words or \
             template are others",
            now.base.display()
        ),
        "bring back what it was; --out begins another run",
    ))
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What was asked for is another run than this one, which has `is`.
///
/// # Errors
/// Always.
pub(super) fn refuse<T>(flag: &str, is: String) -> anyhow::Result<T> {
    Err(failure(
        format!("the run has {is}, and cannot go on with {flag}"),
        "leave the flag out to go on; --out begins another run",
    ))
}
