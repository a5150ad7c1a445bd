#![no_main]
//! See `integration::fuzz::labels`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::labels(input));
