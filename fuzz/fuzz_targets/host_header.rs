//! The fuzz target of `llmos_fuzz::host_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::host_header(bytes);
});
