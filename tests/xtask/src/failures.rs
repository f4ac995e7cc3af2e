//! What failed in a long run of tests, said once more at its end: CI keeps only the last lines.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lines that are kept: of a test that prints all it did, the beginning is enough to find it above.
const KEPT: usize = 400;

/// Runs the tests with their output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let cannot = || format!("cannot start `{shown}`");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(cannot)?;
    let mut failures = Failures::default();
    let mut terminal = io::stdout();
    let said = child
        .stdout
        .take()
        .into_iter()
        .flat_map(|said| BufReader::new(said).split(b'\n'));
    for line in said {
        let line = line?;
        terminal.write_all(&line)?;
        terminal.write_all(b"\n")?;
        failures.see(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().with_context(cannot)?;
    if !status.success() {
        if !failures.lines.is_empty() {
            eprintln!("\n── what failed, once more\n{}", failures.lines.join("\n"));
        }
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Of libtest's output, what it says between `failures:` and the list of their names, without backtraces.
#[derive(Default)]
struct Failures {
    lines: Vec<String>,
    inside: bool,
    backtrace: bool,
}

impl Failures {
    fn see(&mut self, line: &str) {
        match line {
            // Twice: before what they printed, and before their names.
            "failures:" => self.inside = !self.inside,
            _ if line.starts_with("test result:") => self.inside = false,
            "stack backtrace:" => self.backtrace = true,
            _ if line.starts_with("---- ") || line.is_empty() => self.backtrace = false,
            _ => {}
        }
        let counts = self.inside && !self.backtrace && !matches!(line, "" | "failures:");
        if counts && self.lines.len() < KEPT {
            self.lines.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn what_failed_is_said_without_the_rest() {
        let output = "running 3 tests\ntest a ... FAILED\ntest b ... ok\ntest c ... FAILED\n\nfailures:\n\n\
            ---- a stdout ----\n\nthread 'a' panicked at a.rs:1:1:\nit broke\nstack backtrace:\n   0: main\n             at a.rs:1:1\nnote: more\n\n\n\
            ---- c stdout ----\nError: no\n\n\nfailures:\n    a\n    c\n\ntest result: FAILED. 1 passed; 2 failed\n\nrunning 1 test\ntest d ... ok\n\n\
            test result: ok. 1 passed\n\nfailures:\n\n---- e ----\nlate\n\nfailures:\n    e\n\ntest result: FAILED.";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.see(line));
        assert_eq!(
            failures.lines,
            [
                "---- a stdout ----",
                "thread 'a' panicked at a.rs:1:1:",
                "it broke",
                "---- c stdout ----",
                "Error: no",
                "---- e ----",
                "late"
            ]
        );
    }
}
