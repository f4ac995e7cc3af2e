//! `tidewaiter policy`: what an author of policies needs, one file a subcommand or two that belong together.

mod inspect;
pub(super) mod modules;
mod project;
mod pull;
mod push;
mod registry;
pub(super) mod run;
mod sign;
pub(super) mod source;
mod test;
mod verify;

use clap::Subcommand;

use super::{Ending, Failure};
use inspect::{DocsArguments, InspectArguments};
use project::{BuildArguments, NewArguments};
use pull::PullArguments;
use push::PushArguments;
use run::{BenchArguments, RunArguments};
use sign::SignArguments;
use test::TestArguments;
use verify::VerifyArguments;

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
    Push(PushArguments),
    Pull(PullArguments),
    Sign(SignArguments),
    Verify(VerifyArguments),
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
        Policy::Push(arguments) => push::run(arguments).await,
        Policy::Pull(arguments) => pull::run(arguments).await,
        Policy::Sign(arguments) => sign::run(arguments).await,
        Policy::Verify(arguments) => verify::run(arguments).await,
    }
}
