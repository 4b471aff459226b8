//! A recipe of stages, and the commands that it stands for.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::{Explain, failure};

/// A recipe of stages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stages {
    /// What comes of it.
    pub(super) title: String,
    /// The time for all of it, where stages have shares of one.
    #[serde(default)]
    pub(super) minutes: Option<f64>,
    /// What is pretrained on: the words of `{data}`.
    #[serde(default)]
    pub(super) data: Vec<String>,
    /// In their order.
    pub(super) stage: Vec<Stage>,
}

/// One stage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub(super) name: String,
    /// A sentence about it.
    pub(super) about: String,
    /// The file or folder in the run's folder that is there when the stage is done.
    pub(super) makes: String,
    /// The command without the program's name, its words divided by white space. `{out}` is the
    /// run's folder, `{here}` the recipe's, `{minutes:0.5}` half of the time, `{data}` what is
    /// pretrained on, `{dtype}` bf16 where the processor has it, else f32.
    pub(super) command: String,
}

/// What commands are filled in with.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) out: PathBuf,
    pub(super) here: PathBuf,
    pub(super) minutes: Option<f64>,
    /// In place of the recipe's own, where there is any.
    pub(super) data: Vec<PathBuf>,
    pub(super) dtype: &'static str,
}

/// A stage's command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words {
    /// As it is run.
    pub(super) words: Vec<String>,
    /// As it is known again: `{out}` left as it is, other paths from the root.
    pub(super) form: Vec<String>,
}

const HINT: &str = "`llmos speedrun --list` prints the stages of recipes/speedrun.toml; a recipe has \
    title, minutes, data, and [[stage]] tables with name, about, makes and command";

impl Stages {
    /// Reads a recipe.
    ///
    /// # Errors
    /// It cannot be read, has other keys, or two stages of one name.
    pub(super) fn read(path: &Path) -> anyhow::Result<Stages> {
        let text = std::fs::read_to_string(path).explain(
            || format!("cannot read the recipe {}", path.display()),
            || "run this in a checkout of llmos, or name a recipe of stages".into(),
        )?;
        let stages: Stages = toml::from_str(&text)
            .map_err(|error| failure(format!("{}: {}", path.display(), error.message()), HINT))?;
        for (index, stage) in stages.stage.iter().enumerate() {
            let is_twin = |other: &Stage| other.name == stage.name || other.makes == stage.makes;
            if stages.stage[..index].iter().any(is_twin) {
                let problem = format!("the stage {} is there twice", stage.name);
                return Err(failure(format!("{}: {problem}", path.display()), HINT));
            }
        }
        if stages.stage.is_empty() {
            return Err(failure(format!("{} has no stage", path.display()), HINT));
        }
        Ok(stages)
    }

    /// Where the stage of that name stands.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn position(&self, name: &str) -> anyhow::Result<usize> {
        self.stage.iter().position(|stage| stage.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.stage.iter().map(|stage| stage.name.as_str()).collect();
            failure(format!("there is no stage {name}"), format!("it has {}", names.join(", ")))
        })
    }

    /// Each stage's command.
    ///
    /// # Errors
    /// A placeholder is unknown, or lacks what it stands for.
    pub(super) fn commands(&self, given: &Given) -> anyhow::Result<Vec<Words>> {
        let takes_data =
            |stage: &Stage| stage.command.split_whitespace().any(|word| word == "{data}");
        if !given.data.is_empty() && !self.stage.iter().any(takes_data) {
            return Err(failure(
                "the recipe says itself what is pretrained on, and takes no --data",
                "leave the flag out, or put {data} into a copy of the recipe",
            ));
        }
        let anywhere = given.anywhere();
        let stages = self.stage.iter();
        stages
            .map(|stage| {
                let (words, form) = (self.words(stage, given)?, self.words(stage, &anywhere)?);
                Ok(Words { words, form })
            })
            .collect()
    }

    fn words(&self, stage: &Stage, given: &Given) -> anyhow::Result<Vec<String>> {
        let data: Vec<String> = match given.data.is_empty() {
            true => self.data.clone(),
            false => given.data.iter().map(|path| path.display().to_string()).collect(),
        };
        words(stage, &data, given)
    }
}

impl Given {
    /// The same wherever the run's folder lies and whatever the working folder is.
    fn anywhere(&self) -> Given {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        Given {
            out: "{out}".into(),
            // Here is no path at all where the recipe's name is one alone.
            here: absolute(&self.here.join(".")),
            data: self.data.iter().map(|path| absolute(path)).collect(),
            ..self.clone()
        }
    }
}

fn words(stage: &Stage, data: &[String], given: &Given) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    for word in stage.command.split_whitespace() {
        if word != "{data}" {
            words.push(filled(word, stage, given)?);
            continue;
        }
        for path in data {
            words.push(filled(path, stage, given)?);
        }
    }
    match words.is_empty() {
        true => Err(failure(format!("the stage {} has no command", stage.name), HINT)),
        false => Ok(words),
    }
}

/// A word with what its placeholders stand for.
fn filled(word: &str, stage: &Stage, given: &Given) -> anyhow::Result<String> {
    let (mut text, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let wrong = |problem: &str| {
            failure(format!("the stage {}: {{{name}}} {problem}", stage.name), HINT)
        };
        match name.split_once(':') {
            None if name == "out" => text.push_str(&given.out.display().to_string()),
            None if name == "here" => {
                let here = given.here.display().to_string();
                text.push_str(if here.is_empty() { "." } else { &here });
            }
            None if name == "dtype" => text.push_str(given.dtype),
            Some(("minutes", share)) => {
                let share: f64 = share.parse().map_err(|_| wrong("is no share"))?;
                let minutes = given.minutes.ok_or_else(|| wrong("has no time to be a share of"))?;
                text.push_str(&format!("{:.2}", share * minutes));
            }
            _ => return Err(wrong("stands for nothing")),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given {
            out: "runs/x".into(),
            here: "recipes".into(),
            minutes: Some(20.0),
            data: Vec::new(),
            dtype: "f32",
        }
    }

    fn commands(command: &str, given: &Given) -> anyhow::Result<Vec<String>> {
        let stages = Stages {
            title: String::new(),
            minutes: None,
            data: vec!["{here}/a.txt".into(), "b c.txt".into()],
            stage: vec![Stage {
                name: "one".into(),
                about: String::new(),
                makes: "one".into(),
                command: command.into(),
            }],
        };
        Ok(stages.commands(given)?.remove(0).words)
    }

    #[test]
    fn placeholders_are_filled_in() {
        let check = |command: &str, expected: &[&str]| {
            assert_eq!(commands(command, &given()).unwrap(), expected, "{command}");
        };
        check("score {out}/model", &["score", "runs/x/model"]);
        check("pretrain --minutes {minutes:0.5}", &["pretrain", "--minutes", "10.00"]);
        check("data prepare  {data}", &["data", "prepare", "recipes/a.txt", "b c.txt"]);
        check("x {here}/{dtype}.toml", &["x", "recipes/f32.toml"]);
        let own = Given { data: vec!["mine".into()], ..given() };
        assert_eq!(commands("x {data}", &own).unwrap(), ["x", "mine"]);
    }

    #[test]
    fn what_stands_for_nothing_is_an_error() {
        for command in ["x {home}", "x {minutes:a}", "x {minutes}", "", "x {out"] {
            let filled = commands(command, &given());
            assert_eq!(filled.is_err(), command != "x {out", "{command}: {filled:?}");
        }
        let timeless = Given { minutes: None, ..given() };
        assert!(commands("x {minutes:1}", &timeless).is_err());
    }
}
