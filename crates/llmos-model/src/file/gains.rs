//! Which model an adapter was trained beside, whatever type its matrices are stored in.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelFiles;
use crate::Error;

/// The mean gain of each norm of a model: quantising leaves norms as they are, a rounding to 16 bits
/// hardly moves their mean, and two models that were trained apart do not share them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormGains {
    /// In the order of the tensors' names.
    mean_norm_gains: Vec<f32>,
}

/// Means that differ by less than this share are the same: bfloat16 moves a number by at most 0.4 %
/// and a mean of many by far less.
const TOLERANCE: f32 = 0.004;

impl NormGains {
    /// The file that stands beside an adapter.
    pub const FILE: &str = "base_norms.json";

    /// A model's.
    ///
    /// # Errors
    /// As [`ModelFiles::tensor`].
    pub fn of(files: &ModelFiles) -> Result<NormGains, Error> {
        let mut norms: Vec<(&str, f32)> = Vec::new();
        for info in files.tensors().filter(|info| info.name.ends_with("_norm.weight")) {
            let Some(tensor) = files.tensor(&info.name)? else { continue };
            let gains = tensor.to_f32()?;
            let sum: f64 = gains.iter().map(|&gain| f64::from(gain)).sum();
            norms.push((&info.name, (sum / gains.len().max(1) as f64) as f32));
        }
        norms.sort_unstable_by_key(|(name, _)| *name);
        Ok(NormGains { mean_norm_gains: norms.into_iter().map(|(_, mean)| mean).collect() })
    }

    /// What stands beside the adapter in `folder`; nothing beside one of another program.
    ///
    /// # Errors
    /// [`Error::Format`] where it is something else.
    pub(super) fn read(folder: &Path) -> Result<Option<NormGains>, Error> {
        let path = folder.join(NormGains::FILE);
        let Ok(bytes) = std::fs::read(&path) else { return Ok(None) };
        let gains = serde_json::from_slice(&bytes)
            .map_err(|error| Error::format(&path, "gains", "the base's norms", error))?;
        Ok(Some(gains))
    }

    /// Whether two models are the same but for their types.
    pub fn are_of(&self, other: &NormGains) -> bool {
        let (mine, theirs) = (&self.mean_norm_gains, &other.mean_norm_gains);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
        mine.len() == theirs.len() && mine.iter().zip(theirs).all(near)
    }
}
