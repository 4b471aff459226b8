//! Looking into the layers, and reaching in.

/// Where in the decoder a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The embeddings (T, C), before the first layer. May be replaced altogether: an image's or a
    /// sound's embeddings enter here.
    Embedding,
    /// What attention of a layer read, (T, H * D): a head is `head_dim` columns.
    Heads(usize),
    /// What attention of a layer adds to the residual stream, (T, C).
    Attention(usize),
    /// What the MLP of a layer adds to the residual stream, (T, C).
    Mlp(usize),
    /// The residual stream (T, C) after a layer.
    Residual(usize),
}

/// Reads, and may replace, what flows through the decoder.
pub trait Hook {
    /// `values` are the rows of the batch, sequence after sequence, each `width` wide.
    fn visit(&mut self, place: Place, values: &mut [f32], width: usize);
}

impl<F: FnMut(Place, &mut [f32], usize)> Hook for F {
    fn visit(&mut self, place: Place, values: &mut [f32], width: usize) {
        self(place, values, width);
    }
}
