//! Whatever comes as a body: decoded or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let _ = tidewaiter_webhook::admission::decode::decode(body);
});
