//! Damage to sound files, for tests that hostile ones give an error and nothing worse. The binary's
//! tests include it too.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Below `n`; 0 where `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Near the beginning more often than not: that is where headers are.
    fn place(&mut self, length: usize) -> usize {
        let reach = length.min(1 << self.below(16));
        self.below(reach)
    }

    /// One to four changes.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            self.change(bytes);
        }
    }

    /// One change: bits, numbers at the edges, pieces lost, doubled, moved, or the end cut off.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        const EDGES: [u64; 8] =
            [0, 1, u64::MAX, u32::MAX as u64, 1 << 31, 1 << 62, i64::MAX as u64, 0x7fc0_0000];
        let at = self.place(bytes.len());
        let some = self.below(24).min(bytes.len() - at);
        match self.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
            2 => {
                let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
                let some = some.min([4, 8][self.below(2)]);
                bytes[at..at + some].copy_from_slice(&edge[..some]);
            }
            3 => {
                bytes.drain(at..at + some);
            }
            4 => {
                let piece = bytes[at..at + some].to_vec();
                let to = self.place(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                const MARKS: &[u8] = b"{}[]()\"'\\:,%*+?.0-";
                bytes.insert(at, MARKS[self.below(MARKS.len())]);
            }
            _ => bytes.truncate(at),
        }
    }
}
