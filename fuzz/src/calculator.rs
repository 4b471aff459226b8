//! Arithmetic that a model wrote.

use llmos_agent::calculator::calculate;

/// What has a value is a plain decimal number, and the value of that is itself.
pub fn calculator(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(value) = calculate(text) else { return false };
    assert!(value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.')), "{value}");
    assert_eq!(calculate(&value).as_ref(), Ok(&value), "{text}");
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "(47 + 36) * 2 - 80 * 15 / 100",
        "2 ^ -3 ^ 2 % .7",
        "-(-(1.5)) / 0",
        "99999999999999999999 * 99999999999999999999",
        "2 ^ 0.5",
        "((((((((1))))))))",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
