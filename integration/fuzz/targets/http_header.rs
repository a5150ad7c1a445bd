#![no_main]
//! See `integration::fuzz::http_header`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::http_header(input));
