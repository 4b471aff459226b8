//! The fuzz target of `llmos_fuzz::http_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::http_request(bytes);
});
