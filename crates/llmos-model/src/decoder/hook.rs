//! Looking into the layers, and reaching in.
//!
//! There is one place for all of it. A lens keeps what it is shown, a knock-out takes a share away,
//! steering adds a direction, a detector multiplies with one and tells what it finds: each is a
//! [`Hook`]. The forward pass asks once a place whether there is one, and does nothing where there is
//! none.

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

/// Consecutive rows of a batch that belong to one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Whose they are, as the caller of the forward pass counts: [`super::Chunk::sequence`].
    pub sequence: u64,
    /// Where in the sequence the first stands.
    pub position: usize,
    /// How many.
    pub count: usize,
}

/// Reads, and may replace, what flows through the decoder.
pub trait Hook {
    /// Before a batch: whose rows it has, in their order.
    fn begin(&mut self, rows: &[Rows]) {
        let _ = rows;
    }

    /// `values` are the rows of the batch, sequence after sequence, each `width` wide.
    fn visit(&mut self, place: Place, values: &mut [f32], width: usize);

    /// Whether [`Hook::attention`] is to be told of a layer. The weights are computed only then.
    fn wants_attention(&self, layer: usize) -> bool {
        let _ = layer;
        false
    }

    /// What a head of a layer looked at from row `row` of the batch, which stands at position p: the
    /// weights of the positions 0 ..= p, (p + 1).
    fn attention(&mut self, layer: usize, head: usize, row: usize, weights: &[f32]) {
        let _ = (layer, head, row, weights);
    }
}

impl<F: FnMut(Place, &mut [f32], usize)> Hook for F {
    fn visit(&mut self, place: Place, values: &mut [f32], width: usize) {
        self(place, values, width);
    }
}

/// Two hooks: the second sees what the first leaves.
pub struct Both<'a>(pub &'a mut dyn Hook, pub &'a mut dyn Hook);

impl Hook for Both<'_> {
    fn begin(&mut self, rows: &[Rows]) {
        self.0.begin(rows);
        self.1.begin(rows);
    }

    fn visit(&mut self, place: Place, values: &mut [f32], width: usize) {
        self.0.visit(place, values, width);
        self.1.visit(place, values, width);
    }

    fn wants_attention(&self, layer: usize) -> bool {
        self.0.wants_attention(layer) || self.1.wants_attention(layer)
    }

    fn attention(&mut self, layer: usize, head: usize, row: usize, weights: &[f32]) {
        for hook in [&mut *self.0, &mut *self.1] {
            if hook.wants_attention(layer) {
                hook.attention(layer, head, row, weights);
            }
        }
    }
}

/// Calls the hook, where there is one.
pub(super) fn visit(
    hook: &mut Option<&mut dyn Hook>,
    place: Place,
    values: &mut [f32],
    width: usize,
) {
    if let Some(hook) = hook {
        hook.visit(place, values, width);
    }
}
