//! `llmos plan`: what a run takes, before it starts.

mod cluster;
mod run;

use llmos_train::plan::{Gpu, amount};

use crate::Outcome;
use crate::failure::failure;
use crate::recipe::RecipeArguments;
use crate::terminal::{Style, Terminal};

/// Say what a training run takes, before it starts: arithmetic, memory, disk, time, energy, money.
///
/// For a run on this machine give what `pretrain` takes: a recipe, or a time, a shape, a text. A few
/// real steps are measured. For one on rented accelerators give --params, --tokens and --gpu with
/// whatever else is known of --gpus, --days, --mfu, --dollars and --price: the rest is solved for.
/// Numbers may be written as 70e9, 70B or 2T.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    run: RecipeArguments,
    #[command(flatten)]
    order: OrderArguments,
    /// Print the whole recipe as TOML instead, each value with its reason.
    #[arg(long, conflicts_with_all = ["json", "gpu"])]
    toml: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is known of a run on accelerators.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Accelerators and money")]
struct OrderArguments {
    /// Parameters of the model.
    #[arg(long, value_name = "N", value_parser = amount::parse, allow_negative_numbers = true,
        conflicts_with_all = ["recipe", "shape", "minutes", "steps", "data", "assignments"])]
    params: Option<f64>,
    /// The accelerator: v100-32g, a100-80g, h100-80g, b200, rtx-4090, mi300x, tpu-v5e and others.
    #[arg(long, value_name = "NAME", value_parser = parse_gpu)]
    gpu: Option<&'static Gpu>,
    /// How many there are.
    #[arg(long, value_name = "N", value_parser = amount::parse, requires = "gpu",
        allow_negative_numbers = true)]
    gpus: Option<f64>,
    /// Days that the run takes.
    #[arg(long, value_name = "DAYS", value_parser = amount::parse, requires = "gpu",
        allow_negative_numbers = true)]
    days: Option<f64>,
    /// Share of the peak that is put to use; 0.43 where nothing fixes it.
    #[arg(long, value_name = "SHARE", value_parser = amount::parse, requires = "gpu",
        allow_negative_numbers = true)]
    mfu: Option<f64>,
    /// Money for the whole run.
    #[arg(long, value_name = "DOLLARS", value_parser = amount::parse, requires = "gpu",
        allow_negative_numbers = true)]
    dollars: Option<f64>,
    /// Money for an hour of an accelerator, or of this machine.
    #[arg(long, value_name = "DOLLARS", value_parser = amount::parse, allow_negative_numbers = true)]
    price: Option<f64>,
    /// Power of an accelerator, where its board's limit is not meant, or of this machine.
    #[arg(long, value_name = "WATTS", value_parser = amount::parse, allow_negative_numbers = true)]
    watts: Option<f64>,
}

fn parse_gpu(name: &str) -> Result<&'static Gpu, String> {
    Gpu::from_name(name).map_err(|error| match error {
        llmos_train::Error::Setting { problem, .. } => problem,
        other => other.to_string(),
    })
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Arguments { run: recipe, order, .. } = &arguments;
    match (order.params, order.gpu) {
        (_, Some(gpu)) => cluster::run(&arguments, gpu, terminal),
        (Some(_), None) => Err(failure(
            "--params needs the accelerator that does the work",
            "--gpu a100-80g, for one; for this machine give a recipe or --shape",
        )),
        (None, None) => {
            let given = recipe.recipe.is_some()
                || recipe.shape.is_some()
                || recipe.minutes.is_some()
                || recipe.steps.is_some()
                || recipe.tokens.is_some()
                || !recipe.data.is_empty()
                || !recipe.assignments.is_empty();
            if !given {
                return Err(failure(
                    "there is nothing to plan",
                    "give a recipe, --shape or --minutes with --data; or --params, --tokens and \
                     --gpu",
                ));
            }
            run::run(&arguments, terminal)
        }
    }
}

/// Lines of a name, a value and a remark, aligned.
struct Table<'a> {
    terminal: &'a Terminal,
    rows: Vec<[String; 3]>,
}

impl<'a> Table<'a> {
    fn new(terminal: &'a Terminal) -> Table<'a> {
        Table { terminal, rows: Vec::new() }
    }

    fn row(
        &mut self,
        name: impl Into<String>,
        value: impl Into<String>,
        remark: impl Into<String>,
    ) {
        self.rows.push([name.into(), value.into(), remark.into()]);
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            let widths = self.rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let (first, second) = (width(0), width(1));
        let mut text = String::new();
        for [name, value, remark] in &self.rows {
            // Parts of what stands above are indented.
            let style = if name.starts_with(' ') { Style::Dim } else { Style::Bold };
            let name = self.terminal.style(style, format_args!("{name:<first$}"));
            let line = format!("{name}  {value:<second$}  {remark}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Money for people: `$2.0M`, `$35`, `$0.42`.
fn money(dollars: f64) -> String {
    match dollars {
        dollars if dollars >= 999_500_000.0 => format!("${:.1}B", dollars / 1e9),
        dollars if dollars >= 999_500.0 => format!("${:.1}M", dollars / 1e6),
        dollars if dollars >= 10_000.0 => format!("${}", amount::figures(dollars, 3)),
        dollars => format!("${dollars:.2}"),
    }
}

/// Energy for people.
fn energy(kilowatt_hours: f64) -> String {
    amount::prefixed(kilowatt_hours * 1000.0, "Wh")
}

/// An error of the planner with what can be done about it.
pub(crate) fn explained(error: llmos_train::Error) -> anyhow::Error {
    let hint = match &error {
        llmos_train::Error::Setting { key, .. } if key.starts_with("--") || key == "plan" => {
            "leave out what should be solved for; `llmos plan --help` shows what may be given"
        }
        llmos_train::Error::Setting { key, .. } if key == "memory" => {
            "--set train.accumulation=… works a step in pieces, with the same result up to rounding"
        }
        _ => "--set KEY=VALUE changes a value; `llmos plan … --toml` shows all, with reasons",
    };
    failure(error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_for_people() {
        for (dollars, expected) in [
            (2.012e6, "$2.0M"),
            (999_900.0, "$1.0M"),
            (12_345.0, "$12,345"),
            (35.0, "$35.00"),
            (3.2e9, "$3.2B"),
        ] {
            assert_eq!(money(dollars), expected);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let terminal = Terminal::new(true, false);
        let mut table = Table::new(&terminal);
        table.row("a", "1", "first");
        table.row("  long", "22", "");
        assert_eq!(table.text(), "a       1   first\n  long  22\n");
    }
}
