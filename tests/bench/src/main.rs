//! Speed beside a baseline, in the same run: `cargo xtask bench`.

mod echo;
mod load;

fn main() {}
