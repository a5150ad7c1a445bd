#![no_main]
//! See `integration::fuzz::zran`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::zran(input));
