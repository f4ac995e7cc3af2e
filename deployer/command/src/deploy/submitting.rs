//! The object: made, proposed, shown, stored.

use std::sync::atomic::Ordering;

use anstream::{eprintln, print};
use kube::api::DynamicObject;
use tidewaiter_deployer::live::Deployed;
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::service::Built;
use tidewaiter_deployer::submit::{self, Deployment, Planned, Seen, Step, Store};

use super::super::arguments::Format;
use super::super::output::document;
use super::super::stores::StoreArguments;
use super::super::{Ending, Failure, GOOD};
use super::arguments::DryRun;
use super::report::{Report, submitted};
use super::showing::{said, shown, stored};
use super::staging::{Ready, would_send};
use super::{Context, WRITES, note, waiting};

pub(super) async fn run(context: &Context, ready: &mut Ready, seen: &Seen) -> Result<Ending, Failure> {
    let arguments = &context.arguments;
    let given = given_store(context, ready, seen)?;
    if arguments.dry_run == Some(DryRun::Client) {
        return client(context, &deployment(context, ready, seen, given.as_ref()));
    }
    let before = seen.service.as_ref();
    let sends = !ready.is_there() && !arguments.diff && arguments.dry_run.is_none();
    let deployment = deployment(context, ready, seen, given.as_ref());
    let mut planned = deployment.plan(ready.is_there()).await?;
    if sends || arguments.dry_run.is_some() {
        deployment.may_bring(&planned).await?;
    }
    let also = would_send(ready.to_send());
    if sends {
        ready.send().await?;
    }
    let ready = &*ready;
    let deployment = self::deployment(context, ready, seen, given.as_ref());
    if sends {
        planned = deployment.plan_again(&planned).await?;
    }
    tell(&planned.built);
    said(&planned.proposal);
    if given.is_some() && !planned.brings_keys {
        note("Tidewaiter brings the store's credentials: the keys given here are not put into the cluster");
    }
    if let Some(line) = stays_here(context, ready, &planned)? {
        note(&line);
    }
    let makes = if planned.brings_keys {
        would_make(&deployment.account())
    } else {
        String::new()
    };
    if let Some(ending) = shown(context, before, &planned.proposal, &(also + &makes))? {
        return Ok(ending);
    }
    WRITES.store(true, Ordering::Relaxed);
    let done = deployment.submit(&planned, &ready.from, |step| match step {
        Step::Made(name) => eprintln!(
            "{GOOD}Secret and ServiceAccount {name}{GOOD:#} made in namespace {}",
            context.namespace
        ),
        Step::Remark(remark) => note(&remark),
    });
    let done = done.await?;
    if done.is_same {
        return same(context, &done.service, &planned, ready).await;
    }
    stored(context, &context.name, before);
    let report = submitted(context, &planned.built, ready, "submitted");
    let was_ready = before.is_some_and(is_ready);
    finish(context, report, &done.service, !was_ready).await
}

/// Whether what was wished for can be had of this cluster, for a model that is still far.
pub(super) fn check(context: &Context, far: &Ready, seen: &Seen) -> Result<(), Failure> {
    Ok(deployment(context, far, seen, None).check()?)
}

fn deployment<'a>(context: &'a Context, ready: &'a Ready, seen: &'a Seen, store: Option<&'a Store>) -> Deployment<'a> {
    Deployment {
        cluster: &context.cluster,
        namespace: &context.namespace,
        name: &context.name,
        seen,
        wishes: &context.wishes,
        model: &ready.model,
        uri: ready.uri.as_deref(),
        secret: secret(context, ready),
        store,
        force: context.arguments.force_conflicts,
    }
}

/// What would be submitted where nobody but this command is asked.
fn client(context: &Context, deployment: &Deployment<'_>) -> Result<Ending, Failure> {
    let built = deployment.build()?;
    tell(&built);
    if deployment.store.is_some() {
        note(&format!(
            "where Tidewaiter doesn't bring the store's keys{}",
            would_make(&deployment.account())
        ));
    }
    print!(
        "{}",
        document(&built.object, context.arguments.output.unwrap_or(Format::Yaml))?
    );
    Ok(Ending::Nothing)
}

/// The Secret that opens the model's store: a wish; else that of the environment or the profile, which are weaker than keys by flags.
fn secret<'c>(context: &'c Context, ready: &Ready) -> Option<&'c str> {
    let by_flags = ready
        .uri
        .as_ref()
        .is_some_and(|uri| context.arguments.store.has_flags_for(uri));
    let set = || context.settings.get(Key::Secret).filter(|_| !by_flags);
    context.wishes.secret.as_deref().or_else(set)
}

fn would_make(account: &str) -> String {
    format!("; the Secret and the ServiceAccount {account} would be made")
}

fn tell(built: &Built) {
    for remark in &built.remarks {
        note(remark);
    }
}

/// The keys that were given for the model's store: none where the user names a Secret or an account.
fn given_store(context: &Context, ready: &Ready, seen: &Seen) -> Result<Option<Store>, Failure> {
    let brought = context.wishes.service_account_name.is_some() || secret(context, ready).is_some();
    let Some(uri) = &ready.uri else { return Ok(None) };
    let arguments = &context.arguments.store;
    let keys = arguments.keys_for(uri)?;
    if keys.is_empty() || brought {
        return Ok(None);
    }
    let is_s3 = uri.starts_with("s3:");
    if is_s3 && StoreArguments::session_token(&keys).is_some() {
        note("a temporary key (AWS_SESSION_TOKEN) can't be given to KServe: it is not put into the cluster");
        return Ok(None);
    }
    let settings = if is_s3 {
        arguments.settings_as_used(&keys)?
    } else {
        submit::StoreSettings::default()
    };
    Ok(Store::of(keys, &settings, &seen.facts.config).map_err(submit::SubmitError::from)?)
}

/// That nobody brings a key, where the model's store is opened here by one that stays here. An account that the service has, or an earlier deploy made, may bring one.
fn stays_here(context: &Context, ready: &Ready, planned: &Planned) -> Result<Option<String>, Failure> {
    let object = &planned.built.object;
    let brings = planned.brings_keys
        || planned.proposal.is_reviewed()
        || secret(context, ready).is_some()
        || !object["spec"]["predictor"]["serviceAccountName"].is_null();
    match &ready.uri {
        Some(uri) if !brings && !planned.proposal.is_same => context.arguments.store.stays_here(uri),
        _ => Ok(None),
    }
}

/// Nothing to submit; a service that isn't ready is waited for all the same.
async fn same(context: &Context, service: &DynamicObject, planned: &Planned, ready: &Ready) -> Result<Ending, Failure> {
    eprintln!("{} is deployed already, and the same: nothing was done", context.name);
    let mut report = submitted(context, &planned.built, ready, "unchanged");
    if is_ready(service) {
        report.url = Deployed::from(service.clone()).url().map(str::to_owned);
        report.print(context)?;
        return Ok(Ending::Nothing);
    }
    finish(context, report, service, true).await
}

pub(super) fn is_ready(service: &DynamicObject) -> bool {
    Deployed::from(service.clone()).is_ready()
}

async fn finish(
    context: &Context,
    mut report: Report,
    sent: &DynamicObject,
    never_ready: bool,
) -> Result<Ending, Failure> {
    if context.arguments.no_wait {
        report.print(context)?;
        return Ok(Ending::Nothing);
    }
    // What stays as it was, and isn't ready, is what becomes of it.
    report.outcome = "submitted";
    waiting::run(context, report, sent, never_ready).await
}
