//! `tidewaiter-webhook`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tidewaiter_webhook::cli::Arguments;
use tidewaiter_webhook::run;

#[global_allocator]
static MEMORY: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match run::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
