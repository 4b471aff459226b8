//! `llmos prefer`: a model learns which of two answers is the better one.

use super::finetune::{self, Pairwise, teach};
use crate::Outcome;
use crate::terminal::Terminal;

/// Teach a model from pairs of answers, a better and a worse one (DPO and its kin).
///
/// Rows have `chosen` and `rejected`, beside a `prompt` or with one in common: texts, messages or
/// ShareGPT's turns. The model is compared with what it was at the beginning; metrics.jsonl says how
/// far it has moved (`kl`, nats a token), and by how much the better answers are ahead.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    teaching: finetune::Arguments,
    /// The loss: dpo (sigmoid), hinge, ipo, robust, bco_pair, nca_pair, sppo_hard, apo_zero, apo_down,
    /// sigmoid_norm, discopop; without a reference orpo, simpo, cpo.
    #[arg(long, value_name = "NAME", default_value = "dpo")]
    loss: String,
    /// How strongly the model is held to its reference.
    #[arg(long, value_name = "BETA", default_value_t = 0.1, allow_negative_numbers = true)]
    beta: f64,
    /// Share of pairs whose order is taken to be wrong (robust, simpo, cpo).
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    label_smoothing: f64,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Arguments { teaching, loss, beta, label_smoothing } = arguments;
    teach(teaching, Some(Pairwise { loss, beta, label_smoothing }), terminal)
}
