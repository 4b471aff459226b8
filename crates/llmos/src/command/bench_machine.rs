//! `llmos bench machine`: what the machine itself can do, the ceiling of every model's speed.

use llmos_tensor::machine::{self, Peaks};
use llmos_tensor::{Device, Isa};
use serde::Serialize;

use crate::Outcome;
use crate::processors;
use crate::terminal::Terminal;

/// Measure the machine: read bandwidth and peak arithmetic for each number of threads.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Most threads; the physical cores where it is left out.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What one number of threads can do.
#[derive(Serialize)]
struct Row {
    threads: usize,
    read_bandwidth_bytes_per_s: f64,
    f32_flop_per_s: f64,
    bf16_flop_per_s: Option<f64>,
    int8_op_per_s: f64,
}

impl From<Peaks> for Row {
    fn from(peaks: Peaks) -> Row {
        Row {
            threads: peaks.threads,
            read_bandwidth_bytes_per_s: peaks.read_bytes_per_s,
            f32_flop_per_s: peaks.f32_per_s,
            bf16_flop_per_s: peaks.bf16_per_s,
            int8_op_per_s: peaks.int8_per_s,
        }
    }
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let most = arguments.threads.map_or_else(processors::physical_cores, usize::from);
    let counts = thread_counts(most);
    let bar = terminal.step_bar(Some(counts.len() as u64), "measuring");
    let isa = Isa::detect();
    let mut rows = Vec::new();
    for threads in counts {
        rows.push(Row::from(machine::measure(&Device::new(isa, threads))));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if arguments.json {
        let machine = serde_json::json!({
            "cpu": processors::cpu_name(),
            "isa": isa.name(),
            "rows": rows,
        });
        terminal.json(&machine)?;
        return Ok(Outcome::Success);
    }
    let figure =
        |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{:.0}", value / 1e9));
    let mut text = format!("{}\n", processors::cpu_name());
    text += "threads  read GB/s  f32 GFLOP/s  bf16 GFLOP/s  int8 GOP/s\n";
    for row in &rows {
        text += &format!(
            "{:>7}  {:>9.1}  {:>11.0}  {:>12}  {:>10}\n",
            row.threads,
            row.read_bandwidth_bytes_per_s / 1e9,
            row.f32_flop_per_s / 1e9,
            figure(row.bf16_flop_per_s),
            figure(Some(row.int8_op_per_s)),
        );
    }
    terminal.print(text)?;
    Ok(Outcome::Success)
}

/// 1, 2, 4 and so on up to `most`, itself included.
fn thread_counts(most: usize) -> Vec<usize> {
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|&n| n < most).collect();
    counts.push(most);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_threads() {
        for (most, expected) in
            [(1, vec![1]), (2, vec![1, 2]), (6, vec![1, 2, 4, 6]), (8, vec![1, 2, 4, 8])]
        {
            assert_eq!(thread_counts(most), expected);
        }
    }
}
