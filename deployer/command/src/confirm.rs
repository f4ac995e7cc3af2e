//! Asks before anything is done.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anstream::{eprint, eprintln};

use super::{BOLD, HINT};

/// Whether to go on: where the command line says so, or a person on a terminal does. Says so where not.
pub(super) fn agreed(question: &str, yes: bool) -> io::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        eprintln!("\nNothing was done.\n\n{HINT}hint{HINT:#}: --yes does it");
        return Ok(false);
    }
    eprint!("\n{BOLD}{question}{BOLD:#} [y/N] ");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let is_yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !is_yes {
        eprintln!("Nothing was done.");
    }
    Ok(is_yes)
}
