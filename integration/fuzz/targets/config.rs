#![no_main]
//! See `integration::fuzz::config`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::config(input));
