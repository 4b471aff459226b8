//! The shapes that `bench train` measures, to be trained for real as well.

/// A named shape: small Llamas with a tied head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// About a million parameters.
    S,
    /// About seven million.
    M,
    /// About thirty million.
    L,
}

impl Shape {
    /// All shapes.
    pub const ALL: [Shape; 3] = [Shape::S, Shape::M, Shape::L];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Shape::S => "s",
            Shape::M => "m",
            Shape::L => "l",
        }
    }

    /// The shape of that name.
    pub fn from_name(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.name().eq_ignore_ascii_case(name))
    }

    /// The whole numbers that it fixes.
    pub(super) fn counts(self) -> [(&'static str, i64); 9] {
        let [n_layer, n_head, d_model, d_ff, vocab_size, context, batch] = match self {
            Shape::S => [4, 4, 128, 344, 2048, 256, 32],
            Shape::M => [6, 6, 288, 768, 4096, 256, 16],
            Shape::L => [8, 8, 512, 1376, 8192, 512, 4],
        };
        [
            ("model.n_layer", n_layer),
            ("model.n_head", n_head),
            ("model.n_kv_head", n_head),
            ("model.head_dim", d_model / n_head),
            ("model.d_model", d_model),
            ("model.d_ff", d_ff),
            ("model.vocab_size", vocab_size),
            ("train.context", context),
            ("train.batch", batch),
        ]
    }
}
