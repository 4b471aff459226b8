//! The fuzz target of `llmos_fuzz::conversation_rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::conversation_rows(bytes);
});
