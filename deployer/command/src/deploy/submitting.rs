//! The object: made, proposed, shown, stored.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anstream::{eprintln, print};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use tidewaiter_deployer::cluster::kinds;
use tidewaiter_deployer::live::Deployed;
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::service::{Built, Wishes, build};
use tidewaiter_deployer::submit::{
    self, Delivered, Delivery, Entry, Proposal, Seen, Store, bind, deliver, may_be_reviewed, propose, with_entry,
    with_history_of, would_deliver,
};
use tokio::time::{Instant, sleep_until};

use super::super::arguments::Format;
use super::super::output::document;
use super::super::stores::StoreArguments;
use super::super::{Ending, Failure, GOOD};
use super::arguments::DryRun;
use super::report::{Report, submitted};
use super::showing::{said, shown, stored};
use super::staging::{Ready, would_send};
use super::{Context, WRITES, note, showing, waiting};

const KIND: &kinds::Kind = &kinds::INFERENCE_SERVICE;

/// Has Tidewaiter's policy `model-exists` admit a service whose model comes later.
const ALLOW_MISSING_MODEL: &str = "tidewaiter.dev/allow-missing-model";
/// For how long, and more, Tidewaiter takes a file for missing that it didn't find.
const MISSED: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, ready: &mut Ready, seen: &Seen) -> Result<Ending, Failure> {
    let arguments = &context.arguments;
    if arguments.dry_run == Some(DryRun::Client) {
        return client(context, ready, seen);
    }
    let before = seen.service.as_ref();
    let account = account(context);
    let given = given_store(context, ready, seen)?;
    let mut proposed = propose_all(context, ready, seen, given.as_ref()).await?;
    let sends = !ready.is_there() && !arguments.diff && arguments.dry_run.is_none();
    // A right that is missing is told by a dry run, and before a model is sent for nothing.
    if let Some(store) = &proposed.store
        && (sends || arguments.dry_run.is_some())
    {
        would_deliver(&context.cluster, &delivery(context, seen, store, &account)).await?;
    }
    if sends {
        let asked = Instant::now();
        ready.send().await?;
        // Webhooks look into the model, which is there only now.
        if proposed.proposal.is_reviewed() || may_be_reviewed(&context.cluster).await {
            sleep_until(asked + MISSED).await;
        }
        proposed = propose_all(context, ready, seen, given.as_ref()).await?;
    }
    let Proposed {
        mut built,
        proposal,
        store,
    } = proposed;
    if let Some(share) = proposal.kept_share(&built.object, before) {
        built.remarks.push(kept(&context.name, share));
    }
    tell(&built);
    said(&proposal);
    if given.is_some() && store.is_none() {
        note("Tidewaiter brings the store's credentials: the keys given here are not put into the cluster");
    }
    let mut also = would_send(ready.to_send());
    if store.is_some() {
        also.push_str(&would_make(&account));
    }
    if let Some(ending) = shown(context, before, &proposal, &also)? {
        return Ok(ending);
    }
    WRITES.store(true, Ordering::Relaxed);
    let delivered = match &store {
        Some(store) => Some(bring(context, seen, store, &account).await?),
        None => None,
    };
    if proposal.is_same {
        if delivered
            .as_ref()
            .is_some_and(|delivered| delivered.is_changed && !delivered.is_new)
        {
            note(&format!(
                "the Secret {account} has the keys given now; Pods that run go on with those they began with"
            ));
        }
        return same(context, &proposal, &built, ready).await;
    }
    let object = if proposal.restarts {
        let entry = Entry::of(&built.object, now(), whoami(context).await, &ready.from);
        with_entry(built.object.clone(), before, entry)
    } else {
        with_history(&built, seen)
    };
    let applied = match showing::store(context, KIND, &object, before).await {
        Ok(applied) => applied,
        Err(failure) => {
            take_back(context, delivered.as_ref()).await;
            return Err(failure);
        }
    };
    if let (Some(store), Some(delivered), None) = (&store, &delivered, before) {
        let owned = Delivery {
            owner: Some(&applied.object),
            ..delivery(context, seen, store, &account)
        };
        // The service is stored by now, and what happens to it is what counts.
        if let Err(error) = bind(&context.cluster, &owned, delivered).await {
            note(&format!(
                "the Secret and the ServiceAccount {account} won't go with the service when it is deleted: {error}"
            ));
        }
    }
    stored(context, &context.name, before);
    let report = submitted(context, &built, ready, "submitted");
    let was_ready = before.is_some_and(is_ready);
    finish(context, report, &applied.object, !was_ready).await
}

/// What would be submitted where nobody but this command is asked: as where Tidewaiter isn't, since it shows in the API server's answer alone.
fn client(context: &Context, ready: &Ready, seen: &Seen) -> Result<Ending, Failure> {
    let account = account(context);
    let store = given_store(context, ready, seen)?;
    let wishes = match &store {
        Some(_) => with_account(context, &account),
        None => context.wishes.clone(),
    };
    let built = made(context, &wishes, ready, seen, true)?;
    tell(&built);
    if store.is_some() {
        note(&format!(
            "where Tidewaiter doesn't bring the store's keys{}",
            would_make(&account)
        ));
    }
    print!(
        "{}",
        document(&built.object, context.arguments.output.unwrap_or(Format::Yaml))?
    );
    Ok(Ending::Nothing)
}

/// The Secret and the ServiceAccount of a service that brings its own.
fn account(context: &Context) -> String {
    format!("{}-store", context.name)
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

fn with_account(context: &Context, account: &str) -> Wishes {
    Wishes {
        service_account_name: Some(account.to_owned()),
        ..context.wishes.clone()
    }
}

fn would_make(account: &str) -> String {
    format!("; the Secret and the ServiceAccount {account} would be made")
}

fn kept(name: &str, share: u64) -> String {
    format!(
        "Knative leads {share} % of the requests to what is deployed now, and the others to what was before, as an earlier rollback or split said: \
         `tidewaiter promote {name}` leads all of them here"
    )
}

/// An object, what would become of it, and the keys that have to be brought for it.
struct Proposed {
    built: Built,
    proposal: Proposal,
    store: Option<Store>,
}

async fn propose_all(
    context: &Context,
    ready: &Ready,
    seen: &Seen,
    given: Option<&Store>,
) -> Result<Proposed, Failure> {
    let (mut built, mut proposal) = proposed(context, ready, seen).await?;
    // Where Tidewaiter brings them, nobody else has to.
    let store = given.filter(|_| !proposal.has_credentials()).cloned();
    if store.is_some() {
        let wishes = with_account(context, &account(context));
        built = made(context, &wishes, ready, seen, !proposal.is_reviewed())?;
        proposal = asked(context, &built, ready, seen).await?;
    }
    Ok(Proposed { built, proposal, store })
}

/// Makes the object and asks the API server what would become of it: first without a pin, which is Tidewaiter's where it is; with one where it isn't.
async fn proposed(context: &Context, ready: &Ready, seen: &Seen) -> Result<(Built, Proposal), Failure> {
    let built = made(context, &context.wishes, ready, seen, false)?;
    let proposal = asked(context, &built, ready, seen).await?;
    if proposal.is_reviewed() {
        return Ok((built, proposal));
    }
    let pinned = made(context, &context.wishes, ready, seen, true)?;
    if pinned.object == built.object {
        return Ok((pinned, proposal));
    }
    let proposal = asked(context, &pinned, ready, seen).await?;
    Ok((pinned, proposal))
}

/// What would become of the object. Before its model is sent, a policy that looks for the model has to be told that it comes.
async fn asked(context: &Context, built: &Built, ready: &Ready, seen: &Seen) -> Result<Proposal, Failure> {
    let force = context.arguments.force_conflicts;
    let before = seen.service.as_ref();
    let mut object = with_history(built, seen);
    let comes_later = !ready.is_there() && object["metadata"]["annotations"][ALLOW_MISSING_MODEL].is_null();
    if comes_later {
        object["metadata"]["annotations"][ALLOW_MISSING_MODEL] = json!("true");
    }
    let mut proposal = propose(&context.cluster, KIND, &object, before, force).await?;
    if comes_later {
        // It isn't in what is submitted, and so in nothing that is shown.
        let kept = before.and_then(|before| before.metadata.annotations.as_ref()?.get(ALLOW_MISSING_MODEL).cloned());
        let annotations = proposal.applied.object.metadata.annotations.get_or_insert_default();
        match kept {
            Some(value) => annotations.insert(ALLOW_MISSING_MODEL.to_owned(), value),
            None => annotations.remove(ALLOW_MISSING_MODEL),
        };
    }
    Ok(proposal)
}

fn made(context: &Context, wishes: &Wishes, ready: &Ready, seen: &Seen, pins: bool) -> Result<Built, Failure> {
    let mut wishes = wishes.clone();
    if let Some(secret) = secret(context, ready)
        && wishes.service_account_name.is_none()
    {
        wishes.secret = None;
        match &seen.facts.config.secret_annotation {
            Some(annotation) => {
                wishes
                    .annotations
                    .entry(annotation.clone())
                    .or_insert_with(|| secret.to_owned());
            }
            // `tidewaiter secret create` makes an account of the Secret's name.
            None => wishes.service_account_name = Some(secret.to_owned()),
        }
    }
    // With the account of an earlier deployment, where this one has no keys.
    let account = account(context);
    if wishes.service_account_name.is_none()
        && secret(context, ready).is_none()
        && let Some(service) = &seen.service
        && service.data["spec"]["predictor"]["serviceAccountName"] == account
    {
        wishes.service_account_name = Some(account);
    }
    Ok(build(
        &wishes,
        &ready.model,
        ready.uri.as_deref(),
        &context.namespace,
        &seen.facts,
        pins,
    )?)
}

fn with_history(built: &Built, seen: &Seen) -> Value {
    with_history_of(built.object.clone(), seen.service.as_ref())
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

/// For this service alone, and with it where it is there already.
fn delivery<'a>(context: &'a Context, seen: &'a Seen, store: &'a Store, name: &'a str) -> Delivery<'a> {
    Delivery {
        store,
        name,
        namespace: &context.namespace,
        config: &seen.facts.config,
        service: Some(&context.name),
        owner: seen.service.as_ref(),
    }
}

async fn bring(context: &Context, seen: &Seen, store: &Store, name: &str) -> Result<Delivered, Failure> {
    let delivered = deliver(&context.cluster, &delivery(context, seen, store, name)).await?;
    if delivered.is_new {
        eprintln!(
            "{GOOD}Secret and ServiceAccount {name}{GOOD:#} made in namespace {}",
            context.namespace
        );
    }
    Ok(delivered)
}

/// Nothing half-made stays: credentials go with the service that they were for.
async fn take_back(context: &Context, delivered: Option<&Delivered>) {
    let Some(delivered) = delivered.filter(|delivered| delivered.is_new) else {
        return;
    };
    let client = context.cluster.client();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), &context.namespace);
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), &context.namespace);
    // As they were made: who deploys the same service at once may have taken them over.
    let [secret, account] = delivered.made().map(|made| kube::api::DeleteParams {
        preconditions: Some(made),
        ..kube::api::DeleteParams::default()
    });
    let gone = futures::join!(
        secrets.delete(&delivered.name, &secret),
        accounts.delete(&delivered.name, &account)
    );
    let kept = |error: Option<kube::Error>| {
        error.is_some_and(|error| !matches!(error, kube::Error::Api(status) if status.code == 409))
    };
    if kept(gone.0.err()) || kept(gone.1.err()) {
        note(&format!(
            "the Secret and the ServiceAccount {} are still there",
            delivered.name
        ));
    }
}

/// Nothing to submit; a service that isn't ready is waited for all the same.
async fn same(context: &Context, proposal: &Proposal, built: &Built, ready: &Ready) -> Result<Ending, Failure> {
    eprintln!("{} is deployed already, and the same: nothing was done", context.name);
    let mut report = submitted(context, built, ready, "unchanged");
    if is_ready(&proposal.applied.object) {
        report.url = Deployed::from(proposal.applied.object.clone()).url().map(str::to_owned);
        report.print(context)?;
        return Ok(Ending::Nothing);
    }
    finish(context, report, &proposal.applied.object, true).await
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

/// Who the API server takes this user for.
async fn whoami(context: &Context) -> String {
    let api: Api<SelfSubjectReview> = Api::all(context.cluster.client().clone());
    let review = serde_json::from_value(json!({"metadata": {}})).unwrap_or_default();
    let answer = api.create(&PostParams::default(), &review).await.ok();
    let name = answer.and_then(|review| review.status?.user_info?.username);
    name.unwrap_or_else(|| "unknown".to_owned())
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
