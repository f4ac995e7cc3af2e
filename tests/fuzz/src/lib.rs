//! What must hold for any input at all.
//!
//! Each target is a function over bytes. libFuzzer calls it by a program of three lines in `fuzz_targets/`, and `tests/inputs.rs` calls it over the seeds
//! and damaged copies of them: so it compiles and holds whenever the other tests do. CONTRIBUTING.md says how to fuzz.

mod decode_review;
mod merge_fills;
mod parrot;

pub use decode_review::decode_review;
pub use merge_fills::merge_fills;
