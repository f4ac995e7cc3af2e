//! `tidewaiter completions` and `tidewaiter man`, and the name that this is called by.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anstream::eprintln;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use super::arguments::Arguments;
use super::{Ending, Failure};

/// Print what a shell completes this command with.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 2 an error.

Examples:
  tidewaiter completions bash > /etc/bash_completion.d/tidewaiter
  tidewaiter completions zsh > \"${fpath[1]}/_tidewaiter\"
  tidewaiter completions fish > ~/.config/fish/completions/tidewaiter.fish")]
pub(crate) struct CompletionsArguments {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual's page, or write a page for each command.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 2 an error.

Examples:
  tidewaiter man | man -l -
  tidewaiter man --folder /usr/local/share/man/man1")]
pub(crate) struct ManArguments {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// The command, by the name that it was called by: kubectl runs `kubectl-tidewaiter` for `kubectl tidewaiter`.
pub(super) fn command(called: Option<&OsStr>) -> Command {
    let command = Arguments::command();
    let file = called.map(Path::new).and_then(Path::file_stem).and_then(OsStr::to_str);
    if file == Some("kubectl-tidewaiter") {
        return command
            .bin_name("kubectl tidewaiter")
            .display_name("kubectl tidewaiter");
    }
    command
}

pub(super) fn completions(arguments: &CompletionsArguments) -> Result<Ending, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "tidewaiter", &mut text);
    std::io::stdout().write_all(&text)?;
    Ok(Ending::Nothing)
}

pub(super) fn man(arguments: ManArguments) -> Result<Ending, Failure> {
    if let Some(folder) = arguments.folder {
        std::fs::create_dir_all(&folder)?;
        clap_mangen::generate_to(Arguments::command(), &folder)?;
        eprintln!("The pages are in {}.", folder.display());
    } else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut text)?;
        std::io::stdout().write_all(&text)?;
    }
    Ok(Ending::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_plugin_is_called_as_kubectl_calls_it() {
        let usage = |called: &str| command(Some(OsStr::new(called))).render_usage().to_string();
        assert!(usage("/usr/bin/kubectl-tidewaiter").contains("kubectl tidewaiter <COMMAND>"));
        assert!(usage("tidewaiter").contains("Usage: tidewaiter <COMMAND>"));
    }

    #[test]
    fn every_shell_gets_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tidewaiter", &mut text);
            let text = String::from_utf8(text).unwrap();
            for word in ["predict", "rollback", "port-forward", "completions"] {
                assert!(text.contains(word), "{shell}: no {word}");
            }
        }
    }

    #[test]
    fn bash_completes_a_command_that_was_begun() {
        let mut text = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Arguments::command(), "tidewaiter", &mut text);
        let asked = "\nCOMP_WORDS=(tidewaiter pred) COMP_CWORD=1\n_tidewaiter tidewaiter pred tidewaiter\necho \"${COMPREPLY[@]}\"\n";
        text.extend_from_slice(asked.as_bytes());
        // Longer than one argument may be.
        let script = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(script.path(), text).unwrap();
        let output = std::process::Command::new("bash")
            .arg("-eu")
            .arg(script.path())
            .output()
            .unwrap();
        let completed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            completed.trim(),
            "predict",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn the_manual_has_every_command() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Arguments::command(), folder.path()).unwrap();
        for page in ["tidewaiter.1", "tidewaiter-predict.1", "tidewaiter-backend-import.1"] {
            assert!(folder.path().join(page).is_file(), "no {page}");
        }
    }
}
