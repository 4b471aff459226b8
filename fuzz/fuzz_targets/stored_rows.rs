//! The fuzz target of `llmos_fuzz::stored_rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::stored_rows(bytes);
});
