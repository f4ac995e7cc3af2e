//! docs/reference.md has every flag and every metric: `UPDATE_REFERENCE=1 cargo test -p tidewaiter-webhook --test reference` writes it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory as _;
use tidewaiter_webhook::cli::Arguments;
use tidewaiter_webhook::metrics::labels::{LABELS, of};

fn path(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file)
}

fn flags() -> String {
    let mut table = String::from("| flag | environment | default | |\n|---|---|---|---|\n");
    for argument in Arguments::command().get_arguments() {
        let (Some(long), Some(help)) = (argument.get_long(), argument.get_help()) else {
            continue;
        };
        let value = argument.get_value_names().unwrap_or_default();
        let value = value.first().map(|value| format!(" {value}")).unwrap_or_default();
        let env = argument.get_env().map(|env| format!("`{}`", env.display()));
        let default = argument.get_default_values().first();
        let default = default.map(|default| format!("`{}`", default.display()));
        let _ = writeln!(
            table,
            "| `--{long}{value}` | {} | {} | {} |",
            env.unwrap_or_default(),
            default.unwrap_or_default(),
            help.to_string().replace('|', "\\|")
        );
    }
    table
}

/// Families are told only once they have a value, so that a new server doesn't name them all: they are read where they are made.
fn metrics() -> String {
    let source = fs::read_to_string(path("webhook/src/metrics.rs")).expect("the source of the metrics");
    let mut table = String::from("| metric | labels | |\n|---|---|---|\n");
    for call in source.split("registry.register").skip(1) {
        let of_unit = call.starts_with("_with_unit");
        let mut texts = call.split('"').skip(1).step_by(2);
        let (Some(name), Some(help)) = (texts.next(), texts.next()) else {
            continue;
        };
        let unit = if of_unit { "_seconds" } else { "" };
        let name = format!("{name}{unit}");
        let labels: Vec<String> = of(&name).map(|label| format!("`{}`", label.name)).collect();
        let _ = writeln!(table, "| `tidewaiter_{name}` | {} | {help} |", labels.join(", "));
    }
    table
}

fn labels() -> String {
    let mut list = String::new();
    for label in LABELS {
        let of: Vec<String> = label.of.iter().map(|metric| format!("`tidewaiter_{metric}`")).collect();
        let _ = writeln!(list, "- `{}` of {}: {}", label.name, of.join(", "), label.says);
        for (value, meaning) in label.values {
            let _ = writeln!(list, "  - `{value}`: {meaning}");
        }
    }
    list
}

#[test]
fn the_reference_has_every_flag_and_every_metric() {
    let wanted = format!(
        "# Reference\n\nWritten by `UPDATE_REFERENCE=1 cargo test -p tidewaiter-webhook --test reference`; a test says when it is out of date.\n\n\
         ## Flags of `tidewaiter-webhook`\n\nEach flag has an environment variable; the flag wins. `tidewaiter-webhook --help` says the same.\n\n{}\n\
         ## Metrics\n\nAt `/metrics`, as OpenMetrics text. Counters end in `_total`, histograms in `_bucket`, `_sum` and `_count`.\n\n{}\n### Labels\n\n{}",
        flags(),
        metrics(),
        labels()
    );
    let file = path("docs/reference.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&file, &wanted).expect("the docs folder can be written");
    }
    assert!(
        wanted.matches("| `--").count() > 20 && wanted.matches("| `tidewaiter_").count() > 15,
        "{wanted}"
    );
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == wanted,
        "docs/reference.md is out of date: UPDATE_REFERENCE=1 cargo test -p tidewaiter-webhook --test reference"
    );
}
