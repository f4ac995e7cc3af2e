//! See `tidewaiter_fuzz::decode_review`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewaiter_fuzz::decode_review(input));
