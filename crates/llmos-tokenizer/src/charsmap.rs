//! SentencePiece's precompiled character map: a double array from prefixes to replacements.
//!
//! The layout is that of darts-clone (and of XCDA, Kanda 2018): units of 32 bits with the base in
//! bits 10–30, its scale in bit 9, a leaf flag in bit 8 and the label in bits 0–7; a value has bit
//! 31 set. Behind the array lie the replacements, each ended by a zero byte.

use unicode_segmentation::UnicodeSegmentation;

use crate::Error;
use crate::unicode::decode_char;

/// A character map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

/// Graphemes of more bytes are mapped character by character (a constant of Hugging Face's
/// implementation).
const LONG_GRAPHEME: usize = 6;

impl Charsmap {
    /// Reads a map: the array's length in bytes as a little-endian `u32`, the array, the
    /// replacements.
    pub(crate) fn new(blob: &[u8]) -> Result<Charsmap, Error> {
        let malformed = |got: String| {
            Error::malformed("precompiled character map", "an array inside the blob", got)
        };
        let Some((size, rest)) = blob.split_first_chunk::<4>() else {
            return Err(malformed(format!("{} bytes", blob.len())));
        };
        let size = u32::from_le_bytes(*size) as usize;
        if size > rest.len() || !size.is_multiple_of(4) {
            return Err(malformed(format!("{size} of {} bytes", rest.len())));
        }
        let (array, replacements) = rest.split_at(size);
        let units = array
            .chunks_exact(4)
            .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
            .collect();
        Ok(Charsmap { units, replacements: replacements.to_vec() })
    }

    /// The blob that [`Charsmap::new`] reads.
    pub(crate) fn to_blob(&self) -> Vec<u8> {
        let mut blob = ((self.units.len() * 4) as u32).to_le_bytes().to_vec();
        blob.extend(self.units.iter().flat_map(|unit| unit.to_le_bytes()));
        blob.extend_from_slice(&self.replacements);
        blob
    }

    /// Calls `each` with the length and replacement of every mapped prefix of `text`, shortest
    /// first. A unit outside the array ends the walk, as a missing child does.
    fn prefixes<'a>(&'a self, text: &[u8], mut each: impl FnMut(usize, &'a [u8])) {
        let base = |unit: u32| (unit >> 10) << ((unit & (1 << 9)) >> 6);
        let unit_at = |node: u32| self.units.get(node as usize).copied();
        let Some(root) = unit_at(0) else { return };
        let mut node = base(root);
        for (depth, &byte) in text.iter().enumerate() {
            if byte == 0 {
                return;
            }
            node ^= u32::from(byte);
            let Some(unit) = unit_at(node) else { return };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                return;
            }
            node ^= base(unit);
            if unit >> 8 & 1 == 1 {
                let Some(value) = unit_at(node) else { return };
                let start = (value & !(1 << 31)) as usize;
                let Some(tail) = self.replacements.get(start..) else { return };
                let len = tail.iter().position(|&byte| byte == 0).unwrap_or(tail.len());
                each(depth + 1, &tail[..len]);
            }
        }
    }

    /// The longest mapped prefix of `text`: its length and replacement.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        let mut longest = None;
        self.prefixes(text, |len, replacement| longest = Some((len, replacement)));
        longest
    }

    /// Maps a text as Hugging Face does: grapheme by grapheme, by the shortest mapped prefix.
    pub(crate) fn map_graphemes(&self, text: &str, mapped: &mut Vec<u8>) {
        let shortest = |part: &str| {
            let mut shortest = None;
            self.prefixes(part.as_bytes(), |_, replacement| {
                shortest.get_or_insert(replacement);
            });
            shortest
        };
        for grapheme in text.graphemes(true) {
            if grapheme.len() < LONG_GRAPHEME
                && let Some(replacement) = shortest(grapheme)
            {
                mapped.extend_from_slice(replacement);
                continue;
            }
            let mut rest = grapheme;
            while !rest.is_empty() {
                let (part, tail) = rest.split_at(decode_char(rest.as_bytes()).1);
                mapped.extend_from_slice(shortest(part).unwrap_or(part.as_bytes()));
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of one entry, "a" to "XY", laid out by hand.
    fn one_entry() -> Charsmap {
        let mut units = vec![0u32; 256];
        units[0] = 1 << 10;
        units[1 ^ b'a' as usize] = 2 << 10 | 1 << 8 | u32::from(b'a');
        units[1 ^ b'a' as usize ^ 2] = 1 << 31;
        Charsmap { units, replacements: b"XY\0".to_vec() }
    }

    #[test]
    fn a_prefix_is_replaced() {
        let map = one_entry();
        assert_eq!(map.longest(b"ab"), Some((1, &b"XY"[..])));
        assert_eq!(map.longest(b"b"), None);
        assert_eq!(Charsmap::new(&map.to_blob()), Ok(map.clone()));
        let mut mapped = Vec::new();
        map.map_graphemes("bab", &mut mapped);
        assert_eq!(mapped, b"bXYb");
    }

    #[test]
    fn a_hostile_map_is_an_error_or_maps_nothing() {
        assert!(Charsmap::new(b"").is_err());
        assert!(Charsmap::new(&[255, 255, 255, 255, 0]).is_err());
        assert!(Charsmap::new(&[3, 0, 0, 0, 1, 2, 3]).is_err());
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        for _ in 0..200 {
            let units = (0..300).map(|_| random()).collect();
            let map = Charsmap { units, replacements: vec![b'a'; 9] };
            for byte in 0..=255 {
                map.longest(&[byte, byte, 97, 98, byte]);
            }
        }
    }
}
