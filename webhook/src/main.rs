//! `tidewaiter-webhook`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use tidewaiter_webhook::cli::Arguments;
use tidewaiter_webhook::run;

fn main() -> ExitCode {
    match run::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
