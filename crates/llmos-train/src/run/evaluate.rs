//! How well held-out text is predicted.

use super::material::{Lesson, Preference};
use super::pairs;
use super::rows::Pieces;
use crate::Error;
use crate::conversations::lay;
use crate::data::{Dataset, Split};
use crate::model::{IGNORE, Network};

/// A measurement on held-out text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Nats a token.
    pub loss: f64,
    /// Bits a byte of text; none of judged answers.
    pub bits_per_byte: Option<f64>,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Of judged answers: by how much better ones are ahead.
    pub margin: Option<f64>,
    /// Of judged answers: the share that is judged rightly.
    pub accuracy: Option<f64>,
}

/// Predicts about `most` held-out tokens, in rows of the network's context that lie evenly over the
/// text, `rows_at_once` of them together, or all of it. None where nothing is held out.
///
/// # Errors
/// As [`Dataset::read`].
pub(super) fn evaluate(
    network: &mut Network,
    weights: &[f32],
    dataset: &Dataset,
    most: u64,
    rows_at_once: usize,
    pieces: &mut Pieces,
) -> Result<Option<Evaluation>, Error> {
    let context = pieces.context();
    network.set_time(context);
    let n_row = dataset.n_row(Split::Validation, context);
    let wanted = n_row.min(most.div_ceil(context as u64));
    let (mut nats, mut tokens) = (0.0_f64, 0_u64);
    let mut row = vec![0; context + 1];
    let mut next = 0;
    while next < wanted {
        let rows = (wanted - next).min(rows_at_once as u64);
        pieces.clear();
        for number in next..next + rows {
            let number = u128::from(number) * u128::from(n_row) / u128::from(wanted);
            let n = dataset.read_row(Split::Validation, number as u64, &mut row)?;
            row[n..].fill(0);
            pieces.push(&row, &[0], n - 1);
        }
        let (batch, losses) = pieces.batch_and_losses();
        network.losses(weights, batch, losses);
        nats += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        tokens += batch.targets.iter().filter(|&&target| target != IGNORE).count() as u64;
        next += rows;
    }
    if tokens == 0 {
        return Ok(None);
    }
    let all = dataset.n_token(Split::Validation) - 1;
    // Of a part: as many bytes as its share of the tokens.
    let bytes = dataset.n_byte(Split::Validation) as f64 * tokens as f64 / all as f64;
    Ok(Some(Evaluation {
        loss: nats / tokens as f64,
        bits_per_byte: Some(nats / std::f64::consts::LN_2 / bytes),
        tokens,
        margin: None,
        accuracy: None,
    }))
}

/// Predicts what is learnt of held-out rows, of `most` tokens about or of all; none where no row is
/// held out. Bytes are those of the text that is learnt.
pub(super) fn evaluate_rows(
    network: &mut Network,
    weights: &[f32],
    lesson: &Lesson,
    most: u64,
    rows_at_once: usize,
    losses: &mut Vec<f32>,
) -> Option<Evaluation> {
    let (mut nats, mut tokens, mut bytes) = (0.0_f64, 0_u64, 0_u64);
    for rows in lesson.held_out.rows().chunks(rows_at_once.max(1)) {
        if tokens >= most {
            break;
        }
        let rows: Vec<_> = rows.iter().collect();
        let sequences = lay(&rows, lesson.deal.pack, network.longest());
        losses.resize(sequences.inputs.len().max(losses.len()), 0.0);
        network.set_time(sequences.time);
        let losses = &mut losses[..sequences.inputs.len()];
        network.losses(weights, sequences.batch(), losses);
        nats += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        for id in rows.iter().flat_map(|row| row.learnt_ids()) {
            tokens += 1;
            bytes += lesson.tokenizer.token_bytes(id).len() as u64;
        }
    }
    (tokens > 0).then(|| Evaluation {
        loss: nats / tokens as f64,
        bits_per_byte: Some(nats / std::f64::consts::LN_2 / bytes.max(1) as f64),
        tokens,
        margin: None,
        accuracy: None,
    })
}

/// Judges held-out answers, of `most` tokens about or all; none where none are held out. `before` are
/// their log-probabilities by the reference.
pub(super) fn evaluate_answers(
    network: &mut Network,
    weights: &[f32],
    lesson: &Lesson,
    preference: Preference,
    before: &[f64],
    most: u64,
    numbers: &mut Vec<f32>,
) -> Option<Evaluation> {
    let all = lesson.held_out.rows();
    let mut tokens = 0;
    // Two that go together are both taken.
    let pairs = all.chunks(2).take_while(|pair| {
        let is_within = tokens < most;
        tokens += pair.iter().map(|row| row.n_learnt() as u64).sum::<u64>();
        is_within
    });
    let rows: Vec<_> = pairs.flatten().collect();
    let tokens = rows.iter().map(|row| row.n_learnt() as u64).sum();
    let now = pairs::values_of(network, weights, lesson, &rows, numbers);
    let places: Vec<usize> = (0..rows.len()).collect();
    let measured = pairs::judge(preference, &lesson.held_out, &places, &now, before).measured;
    (!rows.is_empty()).then_some(Evaluation {
        loss: measured.loss,
        bits_per_byte: None,
        tokens,
        margin: measured.margin,
        accuracy: Some(measured.accuracy),
    })
}
