//! The fuzz target of `llmos_fuzz::page_image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::page_image(bytes);
});
