//! The fuzz target of `llmos_fuzz::config_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::config_json(bytes);
});
