//! `llmos inspect --histogram`: how the numbers of each tensor are distributed.

use llmos_model::ModelFiles;
use llmos_model::parameters::Distribution;
use serde::Serialize;

use super::Arguments;
use crate::Outcome;
use crate::load;
use crate::model_name;
use crate::terminal::{Style, Terminal, count};

/// Columns of a histogram for people: two bins a column.
const COLUMNS: usize = 32;

/// What `--json` prints: what `/v1/parameters` answers.
#[derive(Serialize)]
struct Report {
    model: String,
    tensors: Vec<Distribution>,
}

pub(super) fn run(
    arguments: &Arguments,
    files: &ModelFiles,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    let bar = terminal.step_bar(Some(files.tensors().len() as u64), "counting");
    let mut tensors = Vec::with_capacity(files.tensors().len());
    for info in files.tensors() {
        tensors.push(Distribution::of(files, info, &|| false).map_err(load::explained)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = Report { model: model_name::short_name(&arguments.model), tensors };
    if arguments.json {
        terminal.json(&report)?;
    } else {
        terminal.print(page(&report, terminal))?;
    }
    Ok(Outcome::Success)
}

fn page(report: &Report, terminal: &Terminal) -> String {
    let names = report.tensors.iter().map(|tensor| tensor.name.chars().count());
    let width = names.max().unwrap_or(0);
    let heading = format!(
        "{:width$}  {:<7} {:>10} {:>10} {:>10} {:>10}  {:COLUMNS$} {:>10}",
        "tensor", "type", "values", "mean", "std", "min", "", "max"
    );
    let mut text = terminal.style(Style::Bold, heading) + "\n";
    for tensor in &report.tensors {
        let drawn = terminal.style(Style::Cyan, drawn(&tensor.histogram.counts));
        text += &format!(
            "{:width$}  {:<7} {:>10} {:>10.2e} {:>10.2e} {:>10.2e}  {drawn} {:>10.2e}",
            tensor.name,
            tensor.dtype,
            count(tensor.count),
            tensor.mean,
            tensor.std,
            tensor.min,
            tensor.max,
        );
        if tensor.not_finite > 0 {
            let broken = format!("  {} are no number", count(tensor.not_finite));
            text += &terminal.style(Style::Red, broken);
        }
        text.push('\n');
    }
    text
}

/// Counts as columns, the highest full; one that is there is seen.
fn drawn(counts: &[u64]) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let per_column = counts.len().div_ceil(COLUMNS).max(1);
    let columns: Vec<u64> = counts.chunks(per_column).map(|bins| bins.iter().sum()).collect();
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let height = |&n: &u64| HEIGHTS[(n as u128 * 8).div_ceil(u128::from(most)) as usize];
    columns.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_eight_heights() {
        let mut counts = vec![0; 64];
        (counts[0], counts[1], counts[2], counts[63]) = (1, 0, 500, 1000);
        let columns = drawn(&counts);
        assert_eq!(columns.chars().count(), COLUMNS);
        assert!(columns.starts_with("▁▄ ") && columns.ends_with('█'), "{columns}");
        assert_eq!(drawn(&[0; 64]).trim(), "");
        assert_eq!(drawn(&[u64::MAX; 1]), "█");
    }
}
