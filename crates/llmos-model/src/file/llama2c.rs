//! Reads the two float formats of llama2.c: the legacy one and version 1.
//!
//! Source: `export.py` and `run.c` of llama2.c. The tensors have no names; they follow one another
//! in an order that the seven numbers of the header settle.

use std::ops::Range;
use std::path::Path;

use llmos_tensor::DType;

use super::tensor::{Entry, TensorInfo};
use crate::Error;

/// The header's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Width of the residual stream.
    pub(crate) d_model: usize,
    /// Inner width of the MLP.
    pub(crate) d_ff: usize,
    /// Layers.
    pub(crate) n_layer: usize,
    /// Query heads.
    pub(crate) n_head: usize,
    /// Key and value heads.
    pub(crate) n_kv_head: usize,
    /// Tokens.
    pub(crate) vocab_size: usize,
    /// Longest context.
    pub(crate) context_length: usize,
    /// The head is the embedding.
    pub(crate) tied_head: bool,
    /// The file begins with a magic number and its norms come first.
    versioned: bool,
}

const MAGIC: u32 = 0x616b_3432; // "ak42"
const VERSIONED_HEADER: usize = 256;
const LEGACY_HEADER: usize = 28;

/// Called with each tensor's name, shape and place.
type Visit<'a> = &'a mut dyn FnMut(String, Vec<usize>, Range<usize>);

/// True if these bytes begin like llama2.c's: a magic number, or seven plausible numbers.
///
/// The legacy format has no magic; what distinguishes it is that its numbers fit one another.
pub(crate) fn recognises(bytes: &[u8]) -> bool {
    Header::read(bytes, Path::new("")).is_ok()
}

impl Header {
    /// Reads the header of the whole file's `bytes`; `path` is for messages alone.
    ///
    /// # Errors
    /// [`Error::Format`] where the numbers contradict one another or the file's length.
    pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<Header, Error> {
        let at = |index: usize| -> Result<i32, Error> {
            match bytes.get(index..index + 4).and_then(|b| b.first_chunk::<4>()) {
                Some(chunk) => Ok(i32::from_le_bytes(*chunk)),
                None => Err(Error::format(path, "header", "28 bytes", bytes.len())),
            }
        };
        let versioned = at(0)? as u32 == MAGIC;
        if versioned && at(4)? != 1 {
            let what = format!("llama2.c version {}", at(4)?);
            return Err(Error::unsupported(path, what, "the legacy format and version 1, in f32"));
        }
        let first = if versioned { 8 } else { 0 };
        let mut numbers = [0usize; 7];
        for (i, number) in numbers.iter_mut().enumerate() {
            let value = at(first + 4 * i)?;
            // A negative vocabulary says, in the legacy format, that the head is its own matrix.
            let value =
                if i == 5 && !versioned { value.unsigned_abs() as i64 } else { value.into() };
            *number = usize::try_from(value)
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| Error::format(path, "header", "positive sizes", value))?;
        }
        let [d_model, d_ff, n_layer, n_head, n_kv_head, vocab_size, context_length] = numbers;
        let tied_head = if versioned {
            match bytes.get(first + 28) {
                Some(&flag) => flag != 0,
                None => return Err(Error::format(path, "header", "256 bytes", bytes.len())),
            }
        } else {
            at(20)? > 0
        };
        let header = Header {
            d_model,
            d_ff,
            n_layer,
            n_head,
            n_kv_head,
            vocab_size,
            context_length,
            tied_head,
            versioned,
        };
        if !d_model.is_multiple_of(n_head)
            || !n_head.is_multiple_of(n_kv_head)
            || !(d_model / n_head).is_multiple_of(2)
        {
            let got = format!("width {d_model}, {n_head} heads, {n_kv_head} key-value heads");
            return Err(Error::format(path, "header", "heads that divide the width", got));
        }
        let expected = header.layout(None);
        if expected != Some(bytes.len()) {
            let expected = expected
                .map_or("sizes that fit memory".to_owned(), |n| format!("a file of {n} bytes"));
            return Err(Error::format(path, "header", expected, bytes.len()));
        }
        Ok(header)
    }

    /// The tensors, under GGUF's names.
    pub(crate) fn tensors(&self) -> Vec<TensorInfo> {
        let mut tensors = Vec::new();
        self.layout(Some(&mut |name, shape, range| {
            let entry = Entry { name, dtype: DType::F32, shape, range };
            tensors.push(TensorInfo::as_it_is(0, entry));
        }));
        tensors
    }

    /// Walks the file in its order and gives the length it must have; none on overflow.
    ///
    /// Without a visitor it takes the same time for any number of layers.
    fn layout(&self, mut visit: Option<Visit<'_>>) -> Option<usize> {
        let head_dim = self.d_model / self.n_head;
        let (c, f, v) = (self.d_model, self.d_ff, self.vocab_size);
        let kv = self.n_kv_head * head_dim;
        let embedding = ("token_embd", vec![v, c]);
        let final_norm = ("output_norm", vec![c]);
        let norms = [("attn_norm", vec![c]), ("ffn_norm", vec![c])];
        let attention = [
            ("attn_q", vec![c, c]),
            ("attn_k", vec![kv, c]),
            ("attn_v", vec![kv, c]),
            ("attn_output", vec![c, c]),
        ];
        let mlp = [("ffn_gate", vec![f, c]), ("ffn_down", vec![c, f]), ("ffn_up", vec![f, c])];
        // (tensor, one of each layer)
        let mut order: Vec<(&str, Vec<usize>, bool)> = Vec::new();
        let once = |(name, shape)| (name, shape, false);
        let each = |(name, shape)| (name, shape, true);
        let [attention_norm, mlp_norm] = norms;
        if self.versioned {
            order.extend([each(attention_norm), each(mlp_norm), once(final_norm), once(embedding)]);
            order.extend(attention.map(each));
            order.extend(mlp.map(each));
        } else {
            order.extend([once(embedding), each(attention_norm)]);
            order.extend(attention.map(each));
            order.push(each(mlp_norm));
            order.extend(mlp.map(each));
            order.push(once(final_norm));
            // Cosines and sines that older programs read; they follow from the head size.
            order.push(("", vec![2, self.context_length, head_dim / 2], false));
        }
        if !self.tied_head {
            order.push(("output", vec![v, c], false));
        }
        let mut at = if self.versioned { VERSIONED_HEADER } else { LEGACY_HEADER };
        for (name, shape, layered) in order {
            let bytes = shape.iter().try_fold(4usize, |size, &n| size.checked_mul(n))?;
            let n = if layered { self.n_layer } else { 1 };
            let end = bytes.checked_mul(n)?.checked_add(at)?;
            if let Some(visit) = visit.as_mut().filter(|_| !name.is_empty()) {
                for layer in 0..n {
                    let prefix = if layered { format!("blk.{layer}.") } else { String::new() };
                    let start = at + layer * bytes;
                    visit(format!("{prefix}{name}.weight"), shape.clone(), start..start + bytes);
                }
            }
            at = end;
        }
        Some(at)
    }
}
