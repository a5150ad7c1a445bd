#![no_main]
//! See `integration::fuzz::blob_meta`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::blob_meta(input));
