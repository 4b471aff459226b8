//! Names and secrets that nobody can guess.

use crate::error::Error;

/// So many random bytes of the system, in hexadecimal digits.
pub(crate) fn random_hex(n_byte: usize) -> Result<String, Error> {
    let mut bytes = vec![0; n_byte];
    getrandom::fill(&mut bytes).map_err(Error::Randomness)?;
    Ok(hex(&bytes))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
