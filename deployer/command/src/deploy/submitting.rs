//! The object: made, proposed, shown, stored.

use std::sync::atomic::Ordering;

use anstream::{eprintln, print};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_deployer::cluster::kinds;
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::service::{Built, Wishes, build};
use tidewaiter_deployer::submit::{
    self, Delivered, Entry, Proposal, Seen, Store, apply, content, deliver, propose, with_entry, with_history_of,
};

use super::super::arguments::Format;
use super::super::output::{difference, document, yaml};
use super::super::{Ending, Failure, GOOD};
use super::arguments::DryRun;
use super::report::{Report, submitted};
use super::staging::Ready;
use super::{Context, WRITES, note, waiting};

const KIND: &kinds::Kind = &kinds::INFERENCE_SERVICE;

pub(super) async fn run(context: &Context, ready: &Ready, seen: &Seen) -> Result<Ending, Failure> {
    let arguments = &context.arguments;
    if arguments.dry_run == Some(DryRun::Client) {
        let built = made(context, &context.wishes, ready, seen, true)?;
        tell(&built);
        print!("{}", document(&built.object, arguments.output.unwrap_or(Format::Yaml))?);
        return Ok(Ending::Nothing);
    }
    let before = seen.service.as_ref();
    let (mut built, mut proposal) = proposed(context, ready, seen).await?;
    let store = needed_store(context, ready, seen, &proposal)?;
    let account = format!("{}-store", context.name);
    if store.is_some() {
        let wishes = Wishes {
            service_account_name: Some(account.clone()),
            ..context.wishes.clone()
        };
        built = made(context, &wishes, ready, seen, !proposal.is_reviewed())?;
        proposal = propose(
            &context.cluster,
            KIND,
            &with_history(&built, seen),
            before,
            arguments.force_conflicts,
        )
        .await?;
    }
    tell(&built);
    for line in &proposal.applied.said {
        note(line);
    }
    if arguments.diff {
        return differences(before, &proposal);
    }
    if arguments.dry_run == Some(DryRun::Server) {
        if let Some(format) = arguments.output {
            print!("{}", document(&proposal.applied.object, format)?);
        }
        eprintln!(
            "{}",
            would(context, before, &proposal, store.as_ref().map(|_| account.as_str()))
        );
        return Ok(Ending::Nothing);
    }
    WRITES.store(true, Ordering::Relaxed);
    let delivered = match &store {
        Some(store) => Some(bring(context, seen, store, &account).await?),
        None => None,
    };
    if proposal.is_same {
        return same(context, &proposal, &built, ready).await;
    }
    let object = if proposal.restarts {
        let entry = Entry::of(
            &built.object,
            now(),
            whoami(context).await,
            ready.from.clone(),
            ready.uploaded,
        );
        with_entry(built.object.clone(), before, entry)
    } else {
        with_history(&built, seen)
    };
    let applied = apply(&context.cluster, KIND, &object, arguments.force_conflicts).await;
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => {
            take_back(context, delivered.as_ref()).await;
            return Err(error.into());
        }
    };
    if let (Some(store), None) = (&store, before) {
        let owner = Some(&applied.object);
        deliver(
            &context.cluster,
            store,
            &account,
            &context.namespace,
            &seen.facts.config,
            Some(&context.name),
            owner,
        )
        .await?;
    }
    eprintln!(
        "{GOOD}{}{GOOD:#} {} in namespace {}",
        context.name,
        if before.is_some() { "changed" } else { "submitted" },
        context.namespace
    );
    let report = submitted(context, &built, ready, "submitted");
    finish(context, report, !before.is_some_and(is_ready)).await
}

/// Makes the object and asks the API server what would become of it: first without a pin, which is Tidewaiter's where it is; with one where it isn't.
async fn proposed(context: &Context, ready: &Ready, seen: &Seen) -> Result<(Built, Proposal), Failure> {
    let force = context.arguments.force_conflicts;
    let before = seen.service.as_ref();
    let built = made(context, &context.wishes, ready, seen, false)?;
    let proposal = propose(&context.cluster, KIND, &with_history(&built, seen), before, force).await?;
    if proposal.is_reviewed() {
        return Ok((built, proposal));
    }
    let pinned = made(context, &context.wishes, ready, seen, true)?;
    if pinned.object == built.object {
        return Ok((pinned, proposal));
    }
    let proposal = propose(&context.cluster, KIND, &with_history(&pinned, seen), before, force).await?;
    Ok((pinned, proposal))
}

fn made(context: &Context, wishes: &Wishes, ready: &Ready, seen: &Seen, pins: bool) -> Result<Built, Failure> {
    let mut wishes = wishes.clone();
    if let Some(secret) = context.settings.get(Key::Secret)
        && wishes.service_account_name.is_none()
    {
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
    let account = format!("{}-store", context.name);
    if wishes.service_account_name.is_none()
        && context.settings.get(Key::Secret).is_none()
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

/// The keys that are to become a Secret: none where Tidewaiter, or the user, brings one.
fn needed_store(context: &Context, ready: &Ready, seen: &Seen, proposal: &Proposal) -> Result<Option<Store>, Failure> {
    let brought = context.wishes.service_account_name.is_some() || context.settings.get(Key::Secret).is_some();
    let Some(uri) = &ready.uri else { return Ok(None) };
    let keys = context.arguments.store.keys_for(uri)?;
    if keys.is_empty() || brought {
        return Ok(None);
    }
    if proposal.has_credentials() {
        note("Tidewaiter brings the store's credentials: the keys given here are not put into the cluster");
        return Ok(None);
    }
    if context.arguments.store.session_token().is_some() && uri.starts_with("s3:") {
        note("a temporary key (AWS_SESSION_TOKEN) can't be given to KServe: it is not put into the cluster");
        return Ok(None);
    }
    let settings = if uri.starts_with("s3:") {
        context.arguments.store.settings_as_used()?
    } else {
        submit::StoreSettings::default()
    };
    let keys = keys
        .into_iter()
        .collect::<std::collections::BTreeMap<String, SecretValue>>();
    Ok(Store::of(keys, &settings, &seen.facts.config).map_err(submit::SubmitError::from)?)
}

async fn bring(context: &Context, seen: &Seen, store: &Store, name: &str) -> Result<Delivered, Failure> {
    let owner = seen.service.as_ref();
    let delivered = deliver(
        &context.cluster,
        store,
        name,
        &context.namespace,
        &seen.facts.config,
        Some(&context.name),
        owner,
    )
    .await?;
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
    let params = kube::api::DeleteParams::default();
    let gone = futures::join!(
        secrets.delete(&delivered.name, &params),
        accounts.delete(&delivered.name, &params)
    );
    if gone.0.is_err() || gone.1.is_err() {
        note(&format!(
            "the Secret and the ServiceAccount {} are still there",
            delivered.name
        ));
    }
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

fn would(context: &Context, before: Option<&DynamicObject>, proposal: &Proposal, account: Option<&str>) -> String {
    let name = &context.name;
    let credentials = account
        .map(|account| format!("; the Secret and the ServiceAccount {account} would be made"))
        .unwrap_or_default();
    if proposal.is_same {
        return format!("{name} would stay as it is{credentials}");
    }
    let what = if before.is_some() { "changed" } else { "submitted" };
    format!("{name} would be {what}: the API server and its webhooks agree{credentials}")
}

/// Nothing to submit; a service that isn't ready is waited for all the same.
async fn same(context: &Context, proposal: &Proposal, built: &Built, ready: &Ready) -> Result<Ending, Failure> {
    eprintln!("{} is deployed already, and the same: nothing was done", context.name);
    let report = submitted(context, built, ready, "unchanged");
    if is_ready(&proposal.applied.object) {
        report.print(context)?;
        return Ok(Ending::Nothing);
    }
    finish(context, report, true).await
}

fn is_ready(service: &DynamicObject) -> bool {
    let conditions = service.data["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    ready.next().is_some_and(|condition| condition["status"] == "True")
}

async fn finish(context: &Context, report: Report, never_ready: bool) -> Result<Ending, Failure> {
    if context.arguments.no_wait {
        report.print(context)?;
        return Ok(Ending::Nothing);
    }
    waiting::run(context, report, never_ready).await
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
