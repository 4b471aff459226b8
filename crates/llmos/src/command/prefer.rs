//! `llmos prefer`: a model learns which of two answers is the better one.

use llmos_train::preference::Judgement;

use super::finetune::{self, Pairwise, REWARD, teach};
use crate::failure::failure;
use crate::terminal::Terminal;
use crate::{Outcome, model_name};

/// Teach a model from judged answers: pairs of a better and a worse one (DPO and its kin), or single
/// ones that were liked or not (KTO).
///
/// Rows of pairs have `chosen` and `rejected`, beside a `prompt` or with one in common: texts, messages
/// or ShareGPT's turns; rows of kto have `prompt`, `completion` and `label`. The model is compared with
/// what it was at the beginning, or with --reference; metrics.jsonl says how far it has moved (`kl`,
/// nats a token), and by how much the better answers are ahead. --show-mask shows what of both answers
/// is learnt.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    teaching: finetune::Arguments,
    /// The loss: dpo (sigmoid), hinge, ipo, robust, bco_pair, nca_pair, sppo_hard, apo_zero, apo_down,
    /// sigmoid_norm, discopop; without a reference orpo, simpo, cpo; of single answers kto,
    /// apo_zero_unpaired.
    #[arg(long, value_name = "NAME", default_value = finetune::LOSS)]
    loss: String,
    /// How strongly the model is held to its reference.
    #[arg(long, value_name = "BETA", default_value_t = finetune::BETA, allow_negative_numbers = true)]
    beta: f64,
    /// Share of pairs whose order is taken to be wrong (robust, simpo, cpo).
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    label_smoothing: f64,
    /// What the model is compared with: a model of the same vocabulary, the one that is begun with
    /// where this is left out.
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,
    /// What a liked answer counts for (kto): more where they are few.
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, allow_negative_numbers = true)]
    liked_weight: f64,
    /// What an answer counts for that was not liked (kto).
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, allow_negative_numbers = true)]
    disliked_weight: f64,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Arguments { teaching, loss, beta, label_smoothing, liked_weight, disliked_weight, .. } =
        arguments;
    if loss == REWARD {
        return Err(failure(
            format!("there is no loss `{loss}`"),
            "`llmos reward train` learns to score answers",
        ));
    }
    let reference = match &arguments.reference {
        Some(name) => {
            let path = model_name::resolve(name, terminal)?;
            Some(std::path::absolute(&path).unwrap_or(path))
        }
        None => None,
    };
    let weights = [liked_weight, disliked_weight];
    let judgement = Judgement::from_name(&loss);
    if label_smoothing > 0.0 && judgement.is_some_and(|judgement| !judgement.is_smoothed()) {
        return Err(failure(
            format!("--label-smoothing changes nothing: {loss} has none"),
            "leave the flag out, or take --loss robust, simpo or cpo",
        ));
    }
    if weights != [1.0; 2] && matches!(judgement, Some(Judgement::Pairs(_))) {
        return Err(failure(
            format!("weights change nothing: {loss} learns from pairs"),
            "leave --liked-weight and --disliked-weight out, or take --loss kto",
        ));
    }
    teach(teaching, Some(Pairwise { loss, beta, label_smoothing, weights, reference }), terminal)
}
