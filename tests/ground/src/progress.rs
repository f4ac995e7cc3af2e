//! Lines on standard error that tell what the ground is doing, with the seconds since the process started to say anything.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// One line of progress.
pub fn say(line: &str) {
    let since = START.get_or_init(Instant::now).elapsed().as_secs_f32();
    eprintln!("[ground {since:6.1} s] {line}");
}
