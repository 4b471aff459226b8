//! Widths from small to large, and what goes with each: the shapes that a run is chosen from.
//!
//! Depth grows as the root of the width below 512 and with the width above, as in the shapes that
//! people have trained to good ends: 4 x 128, 6 x 288 and 8 x 512 (llama2.c's and ours), 12 x 768
//! (GPT-2). Loss depends weakly on the ratio of the two (arXiv 2001.08361, figure 5).

/// Widths, each a multiple of 16 so that rows fill vectors.
pub(super) const WIDTHS: [usize; 25] = [
    32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640, 704, 768, 1024, 1280,
    1536, 2048, 2560, 3072, 4096, 8192,
];

/// Blocks that go with a width.
pub(super) fn n_layer(d_model: usize) -> usize {
    let layers = match d_model {
        ..512 => (d_model as f64 / 8.0).sqrt().round() as usize,
        512..2048 => (d_model + 32) / 64,
        _ => 24 + d_model / 256,
    };
    layers.max(2)
}

/// The width that goes with so many blocks.
pub(super) fn d_model(n_layer: usize) -> usize {
    let distance = |width: &usize| self::n_layer(*width).abs_diff(n_layer);
    WIDTHS.into_iter().min_by_key(distance).unwrap_or(WIDTHS[0])
}

/// The size of a head that divides a width: near 32 in small models, near 64 from 256 on.
pub(super) fn head_dim(d_model: usize) -> usize {
    let sizes: &[usize] =
        if d_model < 256 { &[32, 24, 16, 48, 40, 8] } else { &[64, 48, 80, 32, 96, 128] };
    let more = [40, 56, 8, 4, 2];
    let mut all = sizes.iter().chain(&more).copied();
    all.find(|size| d_model.is_multiple_of(*size)).unwrap_or(d_model)
}

/// The MLP's inner width: 8/3, so that its three matrices weigh as much as two of 4 (arXiv
/// 2002.05202), in vectors of 16.
pub(super) fn d_ff(d_model: usize) -> usize {
    (8 * d_model).div_ceil(3).next_multiple_of(16)
}

/// Ids that go with a width where the text does not say: 16 a unit of width as a power of two, which
/// is about a quarter of a small model's parameters.
pub(super) fn vocab_size(d_model: usize) -> usize {
    let exponent = (16.0 * d_model as f64).log2().round() as u32;
    (1usize << exponent.min(15)).max(LEAST_VOCABULARY)
}

/// The 256 bytes, special tokens and some merges.
pub(super) const LEAST_VOCABULARY: usize = 512;

/// The most ids that a text of so many bytes can teach, as a power of two: with fewer than 256 bytes
/// an id, ids are seen too seldom.
pub(super) fn largest_vocabulary(bytes: u64) -> usize {
    let most = (bytes / 256).clamp(LEAST_VOCABULARY as u64, 1 << 20);
    1 << most.ilog2()
}

/// Tokens in a sequence that go with a width.
pub(super) fn context(d_model: usize) -> usize {
    match d_model {
        ..512 => 256,
        512..1024 => 512,
        _ => 1024,
    }
}

/// Bytes that a token of a byte-level vocabulary stands for, while the text has not been read: means
/// of what `llmos tokenizer train` gave on TinyStories and tiny Shakespeare (2.6 and 3.1 at 1,024
/// ids, 3.1 and 3.8 at 2,048, 3.6 and 4.2 at 4,096, 3.9 and 4.3 at 8,192).
pub(super) fn bytes_per_token(vocab_size: usize) -> f64 {
    match vocab_size {
        ..512 => 1.0,
        512..1024 => 2.3,
        1024..2048 => 2.9,
        2048..4096 => 3.4,
        4096..8192 => 3.9,
        _ => 4.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_passes_known_shapes() {
        // (width, layers, size of a head): ours s, m and l, and GPT-2 small, medium.
        for (width, layers, head) in
            [(128, 4, 32), (288, 6, 48), (512, 8, 64), (768, 12, 64), (1024, 16, 64)]
        {
            assert_eq!((n_layer(width), head_dim(width)), (layers, head), "{width}");
        }
        assert_eq!((d_ff(96), d_ff(288), d_ff(512)), (256, 768, 1376));
        assert_eq!((vocab_size(128), vocab_size(288), vocab_size(512)), (2048, 4096, 8192));
        assert_eq!((vocab_size(16), vocab_size(8192)), (512, 32768));
    }

    #[test]
    fn depth_never_falls_and_finds_its_width() {
        for pair in WIDTHS.windows(2) {
            assert!(pair[0] < pair[1] && n_layer(pair[0]) <= n_layer(pair[1]), "{pair:?}");
        }
        assert_eq!((d_model(4), d_model(8), d_model(12), d_model(1)), (128, 512, 768, 32));
        for width in WIDTHS {
            let head = head_dim(width);
            assert!(width.is_multiple_of(head) && head.is_multiple_of(2), "{width}");
        }
        assert_eq!(head_dim(7), 7);
    }

    #[test]
    fn small_texts_teach_few_ids() {
        for (bytes, expected) in [(0, 512), (1_115_394, 4096), (20_000_000, 65536)] {
            assert_eq!(largest_vocabulary(bytes), expected, "{bytes}");
        }
    }
}
