#![no_main]
//! See `integration::fuzz::filter`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::filter(input));
