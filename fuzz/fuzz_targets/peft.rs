//! The fuzz target of `llmos_fuzz::peft`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    llmos_fuzz::peft(bytes);
});
