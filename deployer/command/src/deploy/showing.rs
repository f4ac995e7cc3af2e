//! An object's last steps, of whatever kind: what is shown in place of storing it, and storing it.

use std::sync::atomic::Ordering;

use anstream::{eprintln, print};
use kube::api::DynamicObject;
use serde_json::Value;
use tidewaiter_deployer::cluster::Kind;
use tidewaiter_deployer::submit::{Applied, Proposal, apply, content};

use super::super::output::{difference, document, yaml};
use super::super::{Ending, Failure, GOOD};
use super::arguments::DryRun;
use super::{Context, WRITES, note};

/// What the API server and its webhooks said to a proposal.
pub(super) fn said(proposal: &Proposal) {
    for line in &proposal.applied.said {
        note(line);
    }
}

/// Shows what would become of an object, where that is all that is asked for; `also` is what would be done beside it. None where it is to be done.
pub(super) fn shown(
    context: &Context,
    before: Option<&DynamicObject>,
    proposal: &Proposal,
    also: &str,
) -> Result<Option<Ending>, Failure> {
    let arguments = &context.arguments;
    if arguments.diff {
        return differences(before, proposal).map(Some);
    }
    if arguments.dry_run != Some(DryRun::Server) {
        return Ok(None);
    }
    if let Some(format) = arguments.output {
        print!("{}", document(&proposal.applied.object, format)?);
    }
    let name = &context.name;
    if proposal.is_same {
        eprintln!("{name} would stay as it is{also}");
    } else {
        let what = if before.is_some() { "changed" } else { "submitted" };
        eprintln!("{name} would be {what}: the API server and its webhooks agree{also}");
    }
    Ok(Some(Ending::Nothing))
}

fn differences(before: Option<&DynamicObject>, proposal: &Proposal) -> Result<Ending, Failure> {
    if proposal.is_same {
        return Ok(Ending::Nothing);
    }
    let before = before
        .map(content)
        .map_or_else(|| Ok(String::new()), |content| yaml(&content))?;
    print!("{}", difference(&before, &yaml(&content(&proposal.applied.object))?));
    Ok(Ending::Something)
}

/// Stores an object over what was seen of it. A person's Ctrl-C waits from here on.
pub(super) async fn store(
    context: &Context,
    kind: &'static Kind,
    object: &Value,
    before: Option<&DynamicObject>,
) -> Result<Applied, Failure> {
    WRITES.store(true, Ordering::Relaxed);
    let force = context.arguments.force_conflicts;
    Ok(apply(&context.cluster, kind, object, before, force).await?)
}

/// That it is stored, and where.
pub(super) fn stored(context: &Context, what: &str, before: Option<&DynamicObject>) {
    eprintln!(
        "{GOOD}{what}{GOOD:#} {} in namespace {}",
        if before.is_some() { "changed" } else { "submitted" },
        context.namespace
    );
}
