//! The fuzz target of `llmos_fuzz::metrics_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::metrics_text(bytes);
});
