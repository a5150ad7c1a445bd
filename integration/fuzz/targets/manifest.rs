#![no_main]
//! See `integration::fuzz::manifest`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::manifest(input));
