//! docs/command.md has every command and flag: `UPDATE_REFERENCE=1 cargo test -p tidewaiter reference` writes it.

use std::fmt::Write as _;
use std::fs;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::arguments::Arguments;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/command.md");
/// Above it stands what people wrote, and that stays.
const MARK: &str = "## Reference";

fn reference() -> String {
    let mut text = format!(
        "{MARK}\n\nWritten by `UPDATE_REFERENCE=1 cargo test -p tidewaiter reference`; a test says when it is out of date.\n"
    );
    let mut root = Arguments::command();
    root.build();
    section(&root, &mut text);
    text
}

fn section(command: &Command, text: &mut String) {
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
        .collect();
    if below.is_empty() {
        let name = command.get_bin_name().unwrap_or_default();
        let about = command.get_long_about().or(command.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(
            text,
            "\n### `{name}`\n\n{about}\n\n| argument | default | |\n|---|---|---|"
        );
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            row(argument, text);
        }
        if let Some(after) = command.get_after_help() {
            let after = after.to_string();
            let (codes, examples) = after.split_once("\n\n").unwrap_or((&after, ""));
            let _ = writeln!(text, "\n{codes}");
            let examples = examples.strip_prefix("Examples:\n").unwrap_or(examples);
            if !examples.is_empty() {
                let _ = writeln!(text, "\n```text\n{}\n```", examples.trim_end());
            }
        }
    }
    for sub in below {
        section(sub, text);
    }
}

fn row(argument: &Arg, text: &mut String) {
    let value = argument.get_value_names().unwrap_or_default().first();
    let takes = argument.get_num_args().is_some_and(|count| count.takes_values());
    let value = value.filter(|_| takes);
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        _ => String::new(),
    };
    let name = match value {
        Some(value) if name.is_empty() => {
            let several = matches!(argument.get_action(), ArgAction::Append);
            let value = if argument.is_required_set() {
                value.to_string()
            } else {
                format!("[{value}]")
            };
            // A bar would end the table's cell, also in code.
            format!("{}{}", value.replace('|', "\\|"), if several { "..." } else { "" })
        }
        Some(value) => format!("{name} {value}"),
        None => name,
    };
    let default = argument.get_default_values().first();
    let default = default.filter(|_| takes);
    let default = default.map(|default| format!("`{}`", default.display()));
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(
        text,
        "| `{name}` | {} | {} |",
        default.unwrap_or_default(),
        help.replace('|', "\\|")
    );
}

#[test]
fn the_reference_has_every_command_and_flag() {
    let wanted = reference();
    let page = fs::read_to_string(FILE).unwrap_or_default();
    let (written, there) = page.split_at(page.find(MARK).unwrap_or(page.len()));
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(FILE, format!("{written}{wanted}")).expect("the docs folder can be written");
        return;
    }
    assert!(wanted.matches("| `").count() > 15, "{wanted}");
    assert!(
        there == wanted,
        "docs/command.md is out of date: UPDATE_REFERENCE=1 cargo test -p tidewaiter reference"
    );
    for section in there.split("\n### ").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        let says = |text: &str| section.lines().any(|line| line.starts_with(text));
        assert!(says("Exit codes: 0 "), "{name} doesn't say its exit codes");
        assert!(says("```text"), "{name} has no examples");
    }
}
