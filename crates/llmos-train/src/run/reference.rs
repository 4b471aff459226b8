//! What a model is compared with: the log-probabilities of all answers by its reference, computed once
//! and kept in the run's folder.

use std::hash::Hasher;
use std::sync::Arc;

use llmos_tensor::Device;
use serde::{Deserialize, Serialize};
use twox_hash::xxhash3_64::Hasher as XxHash3;

use super::folder::RunFolder;
use super::material::{Lesson, Material, blueprint};
use super::pairs;
use super::trainer::Trainer;
use crate::Error;
use crate::conversations::Example;
use crate::model::{Network, read_weights};

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Of the rows and of what the reference is.
    digest: String,
    /// Nats, of the rows that are learnt and then of those that are held out.
    log_probabilities: Vec<f64>,
}

/// Gives a trainer what its answers are compared with: as it was kept, or computed now and kept.
///
/// # Errors
/// The reference's weights cannot be read; the system refuses.
pub(super) fn prepare(
    folder: &RunFolder,
    material: &Material,
    trainer: &mut Trainer,
    device: &Arc<Device>,
) -> Result<(), Error> {
    let Some(lesson) = compared(material) else { return Ok(()) };
    let digest = digest(lesson);
    let kept = std::fs::read(folder.join(RunFolder::REFERENCE)).ok();
    let kept: Option<Kept> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let found = match kept.filter(|kept| kept.digest == digest) {
        Some(kept) => kept.log_probabilities,
        None => {
            let log_probabilities = compute(material, lesson, trainer, device)?;
            let kept = Kept { digest, log_probabilities };
            let bytes = serde_json::to_vec(&kept).map_err(|error| {
                Error::io("write", folder.join(RunFolder::REFERENCE))(error.into())
            })?;
            folder.write(RunFolder::REFERENCE, &bytes)?;
            kept.log_probabilities
        }
    };
    trainer.compare_with(found);
    Ok(())
}

/// The lesson, where its answers are compared with anything.
fn compared(material: &Material) -> Option<&Lesson> {
    match material {
        Material::Lesson(lesson) if lesson.preference.is_some_and(|p| !p.is_scalar()) => {
            Some(lesson)
        }
        _ => None,
    }
}

fn rows(lesson: &Lesson) -> Vec<&Example> {
    lesson.train.rows().iter().chain(lesson.held_out.rows()).collect()
}

/// The log-probabilities of all rows by the reference, or by the model as it begins.
fn compute(
    material: &Material,
    lesson: &Lesson,
    trainer: &mut Trainer,
    device: &Arc<Device>,
) -> Result<Vec<f64>, Error> {
    let (rows, mut numbers) = (rows(lesson), Vec::new());
    let Some(reference) = &lesson.reference else {
        let initial = material.initial(&trainer.recipe, &trainer.network)?;
        let network = &mut trainer.network;
        return Ok(pairs::values_of(network, &initial, lesson, &rows, &mut numbers));
    };
    let blueprint = blueprint(reference)?;
    let train = &trainer.recipe.train;
    let (precision, at_once) = (train.dtype.precision(), train.micro_batch());
    let mut network = Network::new(&blueprint, device, precision, at_once, train.context);
    let weights = read_weights(reference, &blueprint, network.layout())?;
    Ok(pairs::values_of(&mut network, &weights, lesson, &rows, &mut numbers))
}

fn digest(lesson: &Lesson) -> String {
    let mut hash = XxHash3::new();
    let model = lesson.reference.as_ref().unwrap_or(&lesson.base);
    hash.write(model.path().as_os_str().as_encoded_bytes());
    for row in rows(lesson) {
        hash.write(&(row.ids.len() as u64).to_le_bytes());
        hash.write(bytemuck::cast_slice(&row.ids));
        row.learnt.iter().for_each(|&learnt| hash.write(&[u8::from(learnt)]));
    }
    format!("{:016x}", hash.finish())
}
