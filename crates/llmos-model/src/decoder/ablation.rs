//! Parts of the decoder switched off, to see what they are for.

use super::hook::{Hook, Place};
use crate::{Config, Error};

/// A part whose share of the residual stream is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A whole layer, attention and MLP: what comes in goes out.
    Layer(usize),
    /// A head of attention: what it read is zero, as if its columns of the output projection were.
    Head {
        /// Of which layer.
        layer: usize,
        /// Which.
        head: usize,
    },
}

/// Switches parts off.
#[derive(Clone, Debug)]
pub struct Ablation {
    parts: Vec<Part>,
    /// Heads of each layer (L).
    n_head: Vec<usize>,
}

impl Ablation {
    /// Switches `parts` of a decoder off.
    ///
    /// # Errors
    /// [`Error::Request`] for a layer or a head that it does not have.
    pub fn new(config: &Config, parts: &[Part]) -> Result<Ablation, Error> {
        let n_head: Vec<usize> = config.layers.iter().map(|layer| layer.n_head).collect();
        for part in parts {
            let (Part::Layer(layer) | Part::Head { layer, .. }) = *part;
            let Some(&heads) = n_head.get(layer) else {
                let expected = format!("a layer of 0 to {}", n_head.len() - 1);
                return Err(Error::request("switch off", expected, format!("layer {layer}")));
            };
            if let Part::Head { head, .. } = *part
                && head >= heads
            {
                let expected = format!("a head of 0 to {} in layer {layer}", heads - 1);
                return Err(Error::request("switch off", expected, format!("head {head}")));
            }
        }
        Ok(Ablation { parts: parts.to_vec(), n_head })
    }
}

impl Hook for Ablation {
    fn visit(&mut self, place: Place, values: &mut [f32], width: usize) {
        match place {
            Place::Heads(layer) => {
                let head_dim = width / self.n_head[layer];
                for part in &self.parts {
                    if let Part::Head { layer: of, head } = *part
                        && of == layer
                    {
                        for row in values.chunks_exact_mut(width) {
                            row[head * head_dim..][..head_dim].fill(0.0);
                        }
                    }
                }
            }
            Place::Attention(layer) | Place::Mlp(layer) => {
                if self.parts.contains(&Part::Layer(layer)) {
                    values.fill(0.0);
                }
            }
            Place::Embedding | Place::Residual(_) => {}
        }
    }
}
