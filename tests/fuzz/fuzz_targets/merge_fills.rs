//! See `tidewaiter_fuzz::merge_fills`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewaiter_fuzz::merge_fills(input));
