#![no_main]
//! See `integration::fuzz::layer`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::layer(input));
