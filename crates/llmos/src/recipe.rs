//! What `plan` and `pretrain` take alike: a recipe, what it is changed by, and what it is for.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use llmos_tensor::{Device, Isa};
use llmos_train::data::{Dataset, MANIFEST, Preparation, Source, n_byte};
use llmos_train::plan::amount;
use llmos_train::recipe::{Draft, Dtype, Facts, Shape, Text};
use llmos_train::run::RunFolder;

use crate::command::data;
use crate::failure::{Explain, failure};
use crate::resume::command_of;
use crate::{processors, training_text};

/// A training run. Flags beat the recipe's file, and of two flags the later one in this list counts.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Run")]
pub(crate) struct RecipeArguments {
    /// A recipe: a TOML file such as recipes/tiny.toml. What it leaves open is derived.
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// What is learnt from: a prepared folder, or texts and folders of texts.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) data: Vec<PathBuf>,
    /// The run's folder; runs/NAME where left out, by the recipe's or the text's name. `plan` writes
    /// nothing.
    #[arg(long, value_name = "RUN")]
    pub(crate) out: Option<PathBuf>,
    /// The shape: s (1M parameters), m (7M) or l (30M), as in `bench train`.
    #[arg(long, value_name = "SHAPE", value_parser = parse_shape)]
    pub(crate) shape: Option<Shape>,
    /// The time for the whole run; the model and everything else are derived from it.
    #[arg(long, allow_negative_numbers = true, value_name = "MINUTES", conflicts_with_all = ["steps", "tokens"])]
    pub(crate) minutes: Option<f64>,
    /// Steps of the run.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = amount::parse, conflicts_with = "tokens")]
    pub(crate) steps: Option<f64>,
    /// Tokens that the run learns from: 10e6, 10M, 2T.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = amount::parse)]
    pub(crate) tokens: Option<f64>,
    /// What matrix products are computed in: f32, or bf16 where the CPU has it.
    #[arg(long, value_name = "TYPE", value_parser = parse_dtype)]
    pub(crate) dtype: Option<Dtype>,
    /// Seed of the initial weights and of the order of the text.
    #[arg(long, allow_negative_numbers = true, value_name = "SEED")]
    pub(crate) seed: Option<i64>,
    /// Steps between two checkpoints, beside the one before each evaluation; 0 for none but those and
    /// the last.
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) save_every: Option<i64>,
    /// Steps between two evaluations; 0 for one at the end alone.
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) eval_every: Option<i64>,
    /// Checkpoints that are kept, the best one aside.
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) keep: Option<i64>,
    /// Another value for a key of the recipe, such as optimizer.lr=3e-4, before what other flags say;
    /// may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) assignments: Vec<String>,
    /// Threads; the physical cores where it is left out.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// The shape of that name.
pub(crate) fn parse_shape(text: &str) -> Result<Shape, String> {
    Shape::from_name(text).ok_or_else(|| {
        let names = Shape::ALL.map(Shape::name);
        format!("shapes are {}", names.join(", "))
    })
}

/// The type of matrix products of that name.
pub(crate) fn parse_dtype(text: &str) -> Result<Dtype, String> {
    let all = [Dtype::F32, Dtype::Bf16];
    let found = all.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("types are {}", all.map(Dtype::name).join(", ")))
}

impl RecipeArguments {
    /// The recipe with its gaps.
    ///
    /// # Errors
    /// The file cannot be read; a key or a value cannot be.
    pub(crate) fn draft(&self) -> anyhow::Result<Draft> {
        let hint = || "llmos plan RECIPE --toml prints a whole recipe, each value with its reason";
        let explained = |error: llmos_train::Error| failure(error, hint());
        let mut draft = match &self.recipe {
            Some(path) => Draft::read(path).map_err(|error| {
                let shown = path.display();
                let is_toml = path.extension().is_some_and(|ending| ending == "toml");
                match error {
                    _ if RunFolder::is_begun(path) => failure(
                        format!("{shown} is a run, where a recipe was expected"),
                        format!("llmos {} --resume {shown} goes on with it", command_of(path)),
                    ),
                    llmos_train::Error::Io { source, .. } if !path.is_dir() => {
                        let context = format!("cannot read the recipe {shown}");
                        anyhow::Error::new(source).context(context)
                    }
                    _ if path.is_dir() || !is_toml => failure(
                        format!("{shown} is no recipe, which is a TOML file"),
                        format!("--data {shown} learns from what is in it"),
                    ),
                    error => explained(error),
                }
            })?,
            None => Draft::default(),
        };
        if let Some(shape) = self.shape {
            draft.shape(shape);
        }
        let mut set = |key: &str, value: Option<toml::Value>, origin: &str| match value {
            Some(value) => draft.set(key, value, origin).map_err(explained),
            None => Ok(()),
        };
        let paths: Vec<toml::Value> =
            self.data.iter().map(|path| path.display().to_string().into()).collect();
        set("data.path", (!paths.is_empty()).then(|| paths.into()), "--data")?;
        set("train.minutes", self.minutes.map(Into::into), "--minutes")?;
        set("train.steps", self.steps.map(Into::into), "--steps")?;
        set("train.tokens", self.tokens.map(Into::into), "--tokens")?;
        set("train.dtype", self.dtype.map(|dtype| dtype.name().into()), "--dtype")?;
        set("train.seed", self.seed.map(Into::into), "--seed")?;
        set("save_every", self.save_every.map(Into::into), "--save-every")?;
        set("eval_every", self.eval_every.map(Into::into), "--eval-every")?;
        set("keep", self.keep.map(Into::into), "--keep")?;
        for assignment in &self.assignments {
            draft.assign(assignment).map_err(explained)?;
        }
        Ok(draft)
    }

    /// What is known before anything is measured: the text, where one is named, and the memory.
    ///
    /// # Errors
    /// The text cannot be read.
    pub(crate) fn facts(&self, draft: &Draft) -> anyhow::Result<Facts> {
        let paths: Vec<PathBuf> = draft.paths().map(PathBuf::from).collect();
        training_text::check_paths(&paths)?;
        Ok(Facts {
            text: if paths.is_empty() { None } else { Some(text(&paths)?) },
            speed: None,
            memory_bytes: processors::memory().map(|memory| memory.available),
        })
    }

    /// The kernels and threads, which have instructions for the recipe's products.
    ///
    /// # Errors
    /// bfloat16 is asked for, and this CPU has no instructions for it.
    pub(crate) fn device(&self, draft: &Draft) -> anyhow::Result<Arc<Device>> {
        let isa = Isa::detect();
        if draft.text("train.dtype") == Some(Dtype::Bf16.name()) && !isa.has_bf16() {
            return Err(failure(
                "this CPU has no instructions for bfloat16",
                "train in f32; `llmos doctor` shows what the CPU has",
            ));
        }
        let threads = self.threads.map_or_else(processors::physical_cores, usize::from);
        Ok(Arc::new(Device::new(isa, threads)))
    }
}

/// What is known of a text before it is read.
fn text(paths: &[PathBuf]) -> anyhow::Result<Text> {
    if let [folder] = paths
        && folder.join(MANIFEST).is_file()
    {
        let dataset = Dataset::open_unread(folder)
            .explain(|| "the prepared data".into(), || "prepare it again".into())?;
        return Ok(Text::from(&dataset));
    }
    let preparation = Preparation::new(paths.iter().map(Source::new).collect());
    let bytes = n_byte(&preparation).map_err(data::explained)?;
    if bytes == 0 {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(failure(
            format!("{} holds no text", names.join(", ")),
            "give text files, folders of them, or what `llmos data prepare` made",
        ));
    }
    // Some of it is held out.
    Ok(Text { bytes: bytes - (bytes / 10).min(HELD_OUT), ..Text::default() })
}

/// Most bytes that are held out of a text, about.
const HELD_OUT: u64 = 2 << 20;
