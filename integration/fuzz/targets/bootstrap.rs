#![no_main]
//! See `integration::fuzz::bootstrap`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::bootstrap(input));
