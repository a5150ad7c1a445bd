#![no_main]
//! See `integration::fuzz::toc`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::toc(input));
