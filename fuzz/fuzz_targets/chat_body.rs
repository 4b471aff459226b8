//! The fuzz target of `llmos_fuzz::chat_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::chat_body(bytes);
});
