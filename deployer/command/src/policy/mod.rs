//! `tidewaiter policy`: what an author of policies needs, one file a subcommand or two that belong together.

mod inspect;
mod project;
pub(super) mod run;
pub(super) mod source;
mod test;

use clap::Subcommand;

use super::{Ending, Failure};
use inspect::{DocsArguments, InspectArguments};
use project::{BuildArguments, NewArguments};
use run::{BenchArguments, RunArguments};
use test::TestArguments;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    New(NewArguments),
    Build(BuildArguments),
    Test(TestArguments),
    Run(RunArguments),
    Bench(BenchArguments),
    Inspect(InspectArguments),
    Docs(DocsArguments),
}

pub(super) async fn run(command: Policy) -> Result<Ending, Failure> {
    match command {
        Policy::New(arguments) => project::new(arguments),
        Policy::Build(arguments) => project::build(arguments).await,
        Policy::Test(arguments) => test::run(arguments).await,
        Policy::Run(arguments) => run::run(arguments).await,
        Policy::Bench(arguments) => run::measure(arguments).await,
        Policy::Inspect(arguments) => inspect::run(arguments).await,
        Policy::Docs(arguments) => inspect::docs(arguments).await,
    }
}
