//! The fuzz target of `llmos_fuzz::tokenizer_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::tokenizer_json(bytes);
});
