#![no_main]
//! See `integration::fuzz::chunk`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::chunk(input));
