#![no_main]
//! See `integration::fuzz::reference`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::reference(input));
