//! `tidewaiter policy`: what an author of policies needs, one file a subcommand or two that belong together.

mod pull;
mod push;
mod registry;
mod sign;
mod verify;

use clap::Subcommand;

use super::{Ending, Failure};
use pull::PullArguments;
use push::PushArguments;
use sign::SignArguments;
use verify::VerifyArguments;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    Push(PushArguments),
    Pull(PullArguments),
    Sign(SignArguments),
    Verify(VerifyArguments),
}

pub(super) async fn run(command: Policy) -> Result<Ending, Failure> {
    match command {
        Policy::Push(arguments) => push::run(arguments).await,
        Policy::Pull(arguments) => pull::run(arguments).await,
        Policy::Sign(arguments) => sign::run(arguments).await,
        Policy::Verify(arguments) => verify::run(arguments).await,
    }
}
