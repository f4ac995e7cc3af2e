//! Asks before anything is done.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anstream::eprint;

use super::BOLD;

/// What a person, or the command line, says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Do it.
    Yes,
    /// Leave it.
    No,
    /// There is nobody to ask.
    Nobody,
}

/// Yes where the command line says so; else asks, where there is a terminal on both sides.
pub(super) fn ask(question: &str, yes: bool) -> io::Result<Answer> {
    if yes {
        return Ok(Answer::Yes);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(Answer::Nobody);
    }
    eprint!("\n{BOLD}{question}{BOLD:#} [y/N] ");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let is_yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if is_yes { Answer::Yes } else { Answer::No })
}
