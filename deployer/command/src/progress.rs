//! How far something is: a line that moves on a terminal, elsewhere a line for each step that takes long.

use std::io::IsTerminal as _;
use std::sync::Mutex;

use anstream::eprintln;
use indicatif::{ProgressBar, ProgressStyle};

/// One line of progress, on stderr.
pub(super) struct Bar {
    /// None where stderr is no terminal.
    line: Option<ProgressBar>,
    last: Mutex<&'static str>,
}

impl Bar {
    pub(super) fn new() -> Self {
        let line = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{msg:<10} {bar:32} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            line,
            last: Mutex::new(""),
        }
    }

    /// One step, and how far it is. Where nothing moves, only what goes over a line is told: all else is short.
    pub(super) fn at(&self, step: &'static str, done: u64, total: u64) {
        let Ok(mut last) = self.last.lock() else { return };
        let is_new = *last != step;
        *last = step;
        match &self.line {
            Some(line) => {
                line.set_length(total);
                line.set_position(done);
                // After the place: each of these may be drawn, and the end of one step is no place in the next.
                if is_new {
                    line.reset_eta();
                    line.set_message(step);
                }
            }
            None if is_new && done < total && matches!(step, "fetching" | "uploading") => {
                eprintln!("{step} {} bytes", total - done);
            }
            None => {}
        }
    }

    pub(super) fn clear(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}
