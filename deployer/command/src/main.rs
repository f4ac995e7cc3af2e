//! The command `tidewaiter`: what is asked for, what is shown, how it ends. See `--help`.

mod arguments;
mod audit;
mod change;
mod confirm;
mod delete;
mod deploy;
mod explain;
mod folders;
mod import;
mod inspect;
mod keys;
mod list;
mod logs;
mod output;
mod place;
mod policy;
mod predict;
mod profile;
mod progress;
mod reaching;
mod review;
mod secret;
mod shell;
mod status;
mod stores;
mod table;
mod unfit;
mod upload;

#[cfg(test)]
mod reference;

use std::fmt;
use std::io;
use std::process::ExitCode;

use anstream::eprintln;
use anstyle::{AnsiColor, Style};
use clap::FromArgMatches as _;
use tidewaiter_deployer::cluster;
use tidewaiter_deployer::import::OptionsError;
use tidewaiter_deployer::service::WishError;
use tidewaiter_deployer::submit::SubmitError;

use arguments::{Arguments, Backend, Command};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// How a command ends, where it could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Exit code 0.
    Nothing,
    /// Exit code 1.
    Something,
    /// Exit code 130, as shells have it for Ctrl-C.
    Interrupted,
}

/// Why it could not: exit code 2, as for arguments that make no sense.
#[derive(Debug)]
struct Failure {
    message: String,
    next: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<cluster::Error> for Failure {
    fn from(error: cluster::Error) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

impl From<WishError> for Failure {
    fn from(error: WishError) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

impl From<OptionsError> for Failure {
    fn from(error: OptionsError) -> Self {
        let next = match &error {
            OptionsError::NotFound(_) => "`tidewaiter backend import` without a Secret shows those that are there",
            OptionsError::SeveralStores { .. } => "name one Secret, or Secrets with the same keys",
            OptionsError::Serves { .. } => "write it as in s3://bucket/path/",
        };
        Self {
            message: error.to_string(),
            next: Some(next.to_owned()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            message: error.to_string(),
            next: None,
        }
    }
}

/// `print!` panics where standard output takes nothing more, as on a full disk: that is an error as any other. A pipe that nobody reads any more ends the program in silence.
fn tell_what_cannot_be_printed() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        match panic
            .payload_as_str()
            .and_then(|text| text.strip_prefix("failed printing to stdout: "))
        {
            Some(reason) => {
                eprintln!("{BAD}error{BAD:#}: what was asked for can't be written to standard output: {reason}");
                std::process::exit(2);
            }
            None => others(panic),
        }
    }));
}

/// Does what the command line says.
fn main() -> ExitCode {
    tell_what_cannot_be_printed();
    let called = std::env::args_os().next();
    let matches = shell::command(called.as_deref()).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run(arguments));
            // A file that is being read can't be let go of: who pressed Ctrl-C doesn't wait for it.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(Ending::Nothing) => ExitCode::SUCCESS,
        Ok(Ending::Something) => ExitCode::from(1),
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(failure) => {
            eprintln!("{BAD}error{BAD:#}: {failure}");
            if let Some(next) = failure.next {
                eprintln!("\n{HINT}hint{HINT:#}: {next}");
            }
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<Ending, Failure> {
    match arguments.command {
        Command::Backend {
            command: Backend::Import(arguments),
        } => import::run(arguments).await,
        Command::Audit(arguments) => audit::run(arguments).await,
        Command::Deploy(arguments) => Box::pin(deploy::run(*arguments)).await,
        Command::Secret { command } => secret::run(command).await,
        Command::Inspect(arguments) => inspect::run(arguments).await,
        Command::Upload(arguments) => upload::run(arguments).await,
        Command::Predict(arguments) => predict::run(arguments).await,
        Command::List(arguments) => list::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Describe(arguments) => status::describe(arguments).await,
        Command::Logs(arguments) => logs::run(arguments).await,
        Command::Url(arguments) => reaching::run(arguments).await,
        Command::Scale(arguments) => change::scale(arguments).await,
        Command::Stop(arguments) => change::stop(arguments).await,
        Command::Start(arguments) => change::start(arguments).await,
        Command::Split(arguments) => change::split(arguments).await,
        Command::Promote(arguments) => change::promote(arguments).await,
        Command::Rollback(arguments) => change::rollback(arguments).await,
        Command::Delete(arguments) => delete::run(arguments).await,
        Command::History(arguments) => list::history(arguments).await,
        Command::Review(arguments) => review::run(arguments).await,
        Command::Explain(arguments) => explain::run(arguments).await,
        Command::Policy { command } => policy::run(command).await,
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(arguments),
        Command::Profile { command } => profile::run(command),
    }
}
