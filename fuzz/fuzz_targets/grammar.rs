//! The fuzz target of `llmos_fuzz::grammar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::grammar(bytes);
});
