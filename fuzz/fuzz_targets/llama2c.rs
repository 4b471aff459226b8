//! The fuzz target of `llmos_fuzz::llama2c`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::llama2c(bytes);
});
