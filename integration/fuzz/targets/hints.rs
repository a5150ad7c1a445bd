#![no_main]
//! See `integration::fuzz::hints`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::hints(input));
