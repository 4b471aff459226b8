//! The fuzz target of `llmos_fuzz::model_name`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::model_name(bytes);
});
