//! Writes a model in another format or type: GGUF from anything, a Hugging Face folder from
//! anything with float weights as its type.
//!
//! Tensors are streamed in chunks of rows, so memory does not grow with the model. The output is
//! written beside its place under a temporary name and renamed once it is whole and on disk.

mod file_type;
mod gguf;
mod hugging_face;
mod partial;
mod stream;

use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;

use crate::architecture::{Architecture, Hyperparameters};
use crate::config::Pairing;
use crate::file::{Change, GgufVocabulary, ModelFiles, TensorInfo};
use crate::{Config, Error};
use llmos_tensor::DType;

pub use file_type::FileType;
pub use hugging_face::config_in_single_precision;

/// The vocabulary that goes with the output.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OutputVocabulary {
    /// The input's own, where its format is the output's; otherwise none.
    #[default]
    AsInput,
    /// For a GGUF file.
    Gguf(Box<GgufVocabulary>),
    /// For a Hugging Face folder.
    HuggingFace {
        /// `tokenizer.json`.
        tokenizer_json: String,
        /// `tokenizer_config.json`.
        tokenizer_config: Option<String>,
        /// `chat_template.jinja`.
        chat_template: Option<String>,
        /// `generation_config.json`, which says what ends an answer.
        generation_config: Option<String>,
        /// `bos_token_id` of `config.json`.
        bos: Option<u32>,
        /// `eos_token_id` of `config.json`.
        eos: Option<u32>,
        /// `pad_token_id` of `config.json`.
        pad: Option<u32>,
    },
}

/// What to write, and with how many threads.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The types of the output's tensors.
    pub file_type: FileType,
    /// The output's vocabulary.
    pub vocabulary: OutputVocabulary,
    /// Threads that quantise; the output does not depend on their number.
    pub threads: NonZero<usize>,
}

/// What a conversion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// What a person should know: losses, and what other programs would not see.
    pub warnings: Vec<String>,
    /// Bytes of weights written.
    pub tensor_bytes: u64,
}

/// Writes `input` to `output`: a GGUF file where the path ends in `.gguf`, else a new Hugging Face
/// folder. `progress` is called with the bytes of weights written so far and in all, and says whether to
/// go on.
///
/// # Errors
/// [`Error::NoModel`] for an input without a model, [`Error::Request`] for a type that the format
/// does not hold or a folder that exists, [`Error::Unsupported`] for what the format cannot say,
/// [`Error::Io`] where writing fails, [`Error::Cancelled`] where `progress` ended it; nothing is left
/// behind then.
pub fn convert(
    input: &ModelFiles,
    output: &Path,
    conversion: &Conversion,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Converted, Error> {
    let gguf = output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let source =
        Source { files: input, hyperparameters: input.hyperparameters()?, config: input.config()? };
    if gguf {
        gguf::write(&source, output, conversion, progress)
    } else {
        hugging_face::write(&source, output, conversion, progress)
    }
}

/// The input and its description.
struct Source<'a> {
    files: &'a ModelFiles,
    hyperparameters: &'a Hyperparameters,
    config: &'a Config,
}

/// One tensor of the output.
#[derive(Clone, Debug)]
struct Planned<'a> {
    /// Its name in the output's words.
    name: String,
    dtype: DType,
    /// Dimensions, outermost first.
    shape: Vec<usize>,
    data: Data<'a>,
}

/// Where an output tensor's values come from.
#[derive(Clone, Debug)]
enum Data<'a> {
    /// A tensor of the input.
    Copied(Copied<'a>),
    /// Values that the input has in another form.
    Computed(Vec<f32>),
}

/// A part of an input tensor, its rows in another order.
#[derive(Clone, Debug)]
struct Copied<'a> {
    info: &'a TensorInfo,
    /// The first entry of the input's outermost dimension that is taken.
    first: usize,
    order: Order,
    /// Added to each stored value.
    offset: f32,
}

/// The order of rows in a matrix of heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Same,
    /// Halves become adjacent pairs, in heads of this size.
    ToAdjacent(usize),
    /// Adjacent pairs become halves, in heads of this size.
    ToHalves(usize),
}

impl Order {
    /// The input's row that becomes row `row`.
    fn row(self, row: usize) -> usize {
        match self {
            Order::Same => row,
            Order::ToAdjacent(head_dim) => {
                let (head, i) = (row / head_dim, row % head_dim);
                head * head_dim + (i % 2) * (head_dim / 2) + i / 2
            }
            Order::ToHalves(head_dim) => {
                let (head, i) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (i % half) + i / half
            }
        }
    }
}

impl<'a> Source<'a> {
    fn architecture(&self) -> Architecture {
        self.hyperparameters.architecture
    }

    /// The order of a tensor's rows that turns the input's pairing into `pairing`.
    fn order(&self, name: &str, pairing: Pairing) -> Order {
        let part = name.rsplit('.').nth(1).unwrap_or_default();
        if !matches!(part, "attn_q" | "attn_k") {
            return Order::Same;
        }
        match (self.hyperparameters.pairing, pairing) {
            (Pairing::Halves, Pairing::Adjacent) => {
                Order::ToAdjacent(self.hyperparameters.head_dim)
            }
            (Pairing::Adjacent, Pairing::Halves) => Order::ToHalves(self.hyperparameters.head_dim),
            _ => Order::Same,
        }
    }

    /// A whole input tensor in `pairing`, with `offset` added to what GGUF would hold.
    fn copied(&self, info: &'a TensorInfo, pairing: Pairing, offset: f32) -> Copied<'a> {
        let stored = match info.change {
            Change::None => 0.0,
            Change::AddOne(_) => 1.0,
        };
        Copied { info, first: 0, order: self.order(&info.name, pairing), offset: stored + offset }
    }

    /// The input's tensors that the decoder reads, without those that only hold a rope's factors.
    fn tensors(&self) -> impl Iterator<Item = &'a TensorInfo> {
        self.files.tensors().filter(|info| {
            !info.name.contains("rope_f") && !info.name.ends_with("attn_rot_embd.weight")
        })
    }

    /// What is lost when the input was quantised already.
    fn requantised(&self, planned: &[Planned<'_>]) -> Option<String> {
        let again = planned.iter().filter(|tensor| match &tensor.data {
            Data::Copied(copied) => {
                copied.info.dtype.is_quantised()
                    && tensor.dtype.is_quantised()
                    && copied.info.dtype != tensor.dtype
            }
            Data::Computed(_) => false,
        });
        let n = again.count();
        (n > 0).then(|| {
            format!(
                "{n} tensors were quantised already; quantising them again loses more than once"
            )
        })
    }
}

/// The bytes of all planned tensors, if their rows divide into blocks.
fn planned_bytes(tensor: &Planned<'_>) -> Result<usize, Error> {
    crate::file::shape_bytes(tensor.dtype, &tensor.shape).ok_or_else(|| {
        let got = format!("{:?}", tensor.shape);
        Error::request("convert", format!("rows of whole {} blocks", tensor.dtype), got)
    })
}
