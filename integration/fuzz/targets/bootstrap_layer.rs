#![no_main]
//! See `integration::fuzz::bootstrap_layer`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::bootstrap_layer(input));
