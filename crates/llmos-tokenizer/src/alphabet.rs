//! GPT-2's byte alphabet: a printable character for each byte.
//!
//! Printable Latin-1 stands for itself; the other 68 bytes take U+0100 onwards in order.

/// Whether a byte is written as the Latin-1 character of the same number.
const fn is_own(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut next = 0x100;
    let mut byte = 0;
    while byte < 256 {
        if is_own(byte as u8) {
            chars[byte] = byte as u8 as char;
        } else {
            chars[byte] = match char::from_u32(next) {
                Some(c) => c,
                None => unreachable!(),
            };
            next += 1;
        }
        byte += 1;
    }
    chars
};

const BYTES: [u8; 68] = {
    let mut bytes = [0; 68];
    let (mut byte, mut next) = (0, 0);
    while byte < 256 {
        if !is_own(byte as u8) {
            bytes[next] = byte as u8;
            next += 1;
        }
        byte += 1;
    }
    bytes
};

/// The byte that a character of the alphabet stands for.
pub(crate) fn char_to_byte(c: char) -> Option<u8> {
    match c as u32 {
        code @ 0..=0xff => is_own(code as u8).then_some(code as u8),
        code => BYTES.get((code - 0x100) as usize).copied(),
    }
}

/// The bytes that a text of the alphabet stands for; `None` if a character is not of it.
pub(crate) fn to_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(char_to_byte).collect()
}

/// Bytes written in the alphabet.
pub(crate) fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| CHARS[byte as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_there_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = to_text(&all);
        assert_eq!(to_bytes(&text), Some(all));
        assert_eq!(to_text(b" \n"), "ĠĊ");
        assert_eq!(to_bytes(" "), None);
        assert_eq!(to_bytes("你"), None);
    }
}
