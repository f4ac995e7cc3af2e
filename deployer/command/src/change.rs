//! `tidewaiter scale`, `stop`, `start`, `split`, `promote` and `rollback`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::time::Duration;

use anstream::eprintln;
use clap::{ArgGroup, Args};
use tidewaiter_deployer::live::{self, CanaryModel, Changed, Deleted, Deployed, Error, Release, Replicas, Split};
use tidewaiter_deployer::model::{Framework, Model};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::source::{self, Source};
use tidewaiter_deployer::{stage, submit};

use super::delete::{counted, waiting};
use super::logs::Which;
use super::output::{dim, note};
use super::place::{Place, ServiceArguments, duration};
use super::stores::{StoreArguments, TrackingArguments, unchecked};
use super::table::clean;
use super::{Ending, Failure, GOOD, folders};

/// Set how many replicas a service, or a graph's router, has at least and at most.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("replicas").required(true).multiple(true),
    after_help = "Exit codes: 0 done, or nothing to do, 2 an error.

Examples:
  tidewaiter scale fraud --min 2 --max 5
  tidewaiter scale fraud --min 0                            to zero when nobody asks (Knative mode, KEDA)
  tidewaiter scale fraud --min 2 --component transformer"
)]
pub(crate) struct ScaleArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// At least so many
    #[arg(long, value_name = "REPLICAS", group = "replicas")]
    min: Option<u32>,
    /// At most so many
    #[arg(long, value_name = "REPLICAS", group = "replicas")]
    max: Option<u32>,
    /// Of which part
    #[arg(long, value_enum, value_name = "COMPONENT", default_value = "predictor")]
    component: Which,
}

/// Stop a service: its Pods go, and come back with `tidewaiter start`. Of a graph, its router.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done, or nothing to do, 1 Pods are still ending, 2 an error.

Examples:
  tidewaiter stop fraud
  tidewaiter stop fraud --no-wait"
)]
pub(crate) struct StopArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Don't wait until its Pods are gone
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

/// Start a service, or a graph, that was stopped.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, or nothing to do, 2 an error.

Examples:
  tidewaiter start fraud && tidewaiter status fraud")]
pub(crate) struct StartArguments {
    #[command(flatten)]
    service: ServiceArguments,
}

/// Split a service's requests between two models, by percent.
///
/// In Knative mode PERCENT of the requests go to the newest revision, as `tidewaiter deploy --canary-percent` made it. In Standard mode, from KServe 0.20 on,
/// the canary is a predictor of its own (spec.canary), which --storage-uri makes, with a runtime that loads its model where the predictor's doesn't: KServe 0.20 gives it Pods and a Kubernetes Service, and leads no requests to it
/// itself. `tidewaiter predict --canary` asks it.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, or nothing to do, 2 an error.

Examples:
  tidewaiter split fraud 20                                       the newest revision takes a fifth (Knative mode)
  tidewaiter split fraud 20 --storage-uri s3://models/fraud/4     a canary of another model (Standard mode)
  tidewaiter split fraud 20 --storage-uri models:/fraud/4         of one that MLflow knows
  tidewaiter split fraud 50                                       half of the requests, A/B")]
pub(crate) struct SplitArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// How many of a hundred requests go to the canary
    #[arg(value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    percent: u8,
    /// Which canary, where there are several; the name of a new one
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    /// The canary's model: what `tidewaiter deploy` takes and lies in a store, such as models:/NAME/VERSION, runs:/RUN/PATH, s3://…
    #[arg(long, value_name = "SOURCE")]
    storage_uri: Option<String>,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve")]
    kserve_namespace: String,
    #[command(flatten)]
    tracking: TrackingArguments,
    #[command(flatten)]
    store: StoreArguments,
}

/// Give all requests to the canary.
///
/// In Standard mode the predictor takes its name and its model, and the Pods that run stay.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, or nothing to do, 2 an error.

Examples:
  tidewaiter promote fraud
  tidewaiter promote fraud --canary blue")]
pub(crate) struct PromoteArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Which canary, where there are several
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

/// Take the canary's requests away again.
///
/// In Knative mode the revision before takes all of them; in Standard mode the canary goes.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, or nothing to do, 2 an error.

Examples:
  tidewaiter rollback fraud
  tidewaiter rollback fraud --canary blue")]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Which canary, where there are several
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

/// What was done; none where nothing was left to do.
fn told(changed: Result<Changed, Error>, what: &str) -> Result<Option<Changed>, Failure> {
    let changed = match changed {
        Err(error @ Error::Already { .. }) => {
            eprintln!("{}. Nothing to do.", clean(&error.to_string()));
            return Ok(None);
        }
        changed => changed?,
    };
    let (namespace, name) = (changed.service.namespace(), changed.service.name());
    eprintln!("{GOOD}{namespace}/{name}{GOOD:#} {what}");
    for note in &changed.notes {
        eprintln!("  {}", clean(note));
    }
    Ok(Some(changed))
}

pub(super) async fn scale(arguments: ScaleArguments) -> Result<Ending, Failure> {
    let (wanted, component) = (
        Replicas {
            min: arguments.min,
            max: arguments.max,
        },
        arguments.component.into(),
    );
    let place = arguments.service.place.open(&[]).await?;
    let plan = |service: &Deployed| live::scale(service, component, wanted);
    let changed = live::apply(&place.cluster, &place.namespace, &arguments.service.name, plan).await;
    told(changed, "scaled")?;
    Ok(Ending::Nothing)
}

pub(super) async fn stop(arguments: StopArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.service.place.open(&[]).await?;
    let release = Release::read(&cluster).await?;
    let plan = |service: &Deployed| live::stop(service, release);
    let changed = live::apply(&cluster, &namespace, &arguments.service.name, plan).await;
    let Some(changed) = told(changed, "is stopping")? else {
        return Ok(Ending::Nothing);
    };
    if arguments.no_wait {
        return Ok(Ending::Nothing);
    }
    let gone = live::until_gone(&cluster, &changed.service, false, arguments.timeout, waiting).await?;
    match gone {
        Deleted::Gone => {
            eprintln!("Its Pods are gone.");
            Ok(Ending::Nothing)
        }
        Deleted::Waiting(left) => {
            eprintln!("{} still there.", counted(left.pods));
            Ok(Ending::Something)
        }
    }
}

pub(super) async fn start(arguments: StartArguments) -> Result<Ending, Failure> {
    let place = arguments.service.place.open(&[]).await?;
    let name = &arguments.service.name;
    let changed = live::apply(&place.cluster, &place.namespace, name, live::start).await;
    if told(changed, "is starting")?.is_some() {
        eprintln!("{}", dim(&format!("tidewaiter status -n {} {name}", place.namespace)));
    }
    Ok(Ending::Nothing)
}

pub(super) async fn split(arguments: SplitArguments) -> Result<Ending, Failure> {
    let tracking = arguments.tracking.tracking_server.as_ref();
    let place = arguments.service.place.open(&[(Key::TrackingServer, tracking)]).await?;
    let release = Release::read(&place.cluster).await?;
    let name = &arguments.service.name;
    let model = match &arguments.storage_uri {
        None => None,
        Some(text) => {
            let source: Source = text.parse().map_err(source::Error::from)?;
            in_a_store(&source)?;
            let (cluster, namespace) = (&place.cluster, &place.namespace);
            let service = Deployed::read_any(cluster, namespace, name).await?;
            live::takes_models(&service, release)?;
            let seen = submit::look(cluster, namespace, name, &arguments.kserve_namespace).await?;
            for remark in &seen.remarks {
                note(remark);
            }
            let options = stage::Options {
                tracking: arguments.tracking.tracking(place.settings.get(Key::TrackingServer))?,
                proxied_root: arguments.tracking.artifacts_destination.clone(),
                stores: arguments.store.access()?,
                name: name.clone(),
                scratch: folders::scratch(),
                ..stage::Options::default()
            };
            let (storage_uri, model) = found(&source, &service, &arguments.store, options).await?;
            Some(CanaryModel {
                storage_uri,
                model,
                facts: seen.facts,
            })
        }
    };
    let wanted = Split {
        percent: arguments.percent,
        canary: arguments.canary,
        model,
    };
    let plan = |service: &Deployed| live::split(service, &wanted, release);
    let changed = live::apply(&place.cluster, &place.namespace, name, plan).await;
    told(changed, &format!("gives its canary {} %", wanted.percent))?;
    Ok(Ending::Nothing)
}

/// Nothing is uploaded for a canary.
fn in_a_store(source: &Source) -> Result<(), Failure> {
    let Source::Local(path) = source else { return Ok(()) };
    let path = path.display();
    Err(Failure {
        message: format!("`{path}` names no model in a store, and a canary's model has to be in one"),
        next: Some(format!(
            "write models:/NAME/VERSION, runs:/RUN/PATH or s3://BUCKET/PATH; where it is a folder of this machine, `tidewaiter upload {path} --to STORE` prints its URI"
        )),
    })
}

/// The canary's model and where it lies. What no key opens here is taken for a model like the service's own: the cluster may open what this machine can't.
async fn found(
    source: &Source,
    service: &Deployed,
    store: &StoreArguments,
    options: stage::Options,
) -> Result<(String, Model), Failure> {
    if let (Source::Store(uri), Ok(framework)) = (source, service.framework().parse::<Framework>())
        && !store.opens(uri, &options.stores)?
    {
        note(&unchecked(uri));
        return Ok((uri.to_string(), Model::unseen(framework)));
    }
    let pending = stage::prepare(source, &options, &|_| {}).await.map_err(|error| Failure {
        next: Some(match &error {
            stage::Error::NoArtifactStore { asked, .. } => {
                format!("deploy it under a name of its own (`tidewaiter deploy {asked} --artifact-store STORE`), and give the URI that it has there")
            }
            other => other.next(),
        }),
        message: error.to_string(),
    })?;
    let staged = pending.staged();
    eprintln!("{}", staged.origin);
    for line in &staged.notes {
        note(line);
    }
    Ok((staged.uri.to_string(), staged.model.clone()))
}

pub(super) async fn promote(arguments: PromoteArguments) -> Result<Ending, Failure> {
    let place = arguments.service.place.open(&[]).await?;
    let release = Release::read(&place.cluster).await?;
    let plan = |service: &Deployed| live::promote(service, arguments.canary.as_deref(), release);
    let changed = live::apply(&place.cluster, &place.namespace, &arguments.service.name, plan).await;
    told(changed, "gives all requests to what was its canary")?;
    Ok(Ending::Nothing)
}

pub(super) async fn rollback(arguments: RollbackArguments) -> Result<Ending, Failure> {
    let place = arguments.service.place.open(&[]).await?;
    let release = Release::read(&place.cluster).await?;
    let plan = |service: &Deployed| live::rollback(service, arguments.canary.as_deref(), release);
    let changed = live::apply(&place.cluster, &place.namespace, &arguments.service.name, plan).await;
    told(changed, "gives no requests to its canary any more")?;
    Ok(Ending::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_of_a_folder_or_a_typo_is_refused_with_what_to_write() {
        for text in ["./model", "fraud/4"] {
            let failure = in_a_store(&text.parse().unwrap()).unwrap_err();
            assert!(
                failure
                    .message
                    .starts_with(&format!("`{text}` names no model in a store")),
                "{failure}"
            );
            assert!(failure.next.unwrap().contains("models:/NAME/VERSION"));
        }
        for text in ["models:/fraud/4", "s3://models/fraud/4", "pvc://claim/model"] {
            in_a_store(&text.parse().unwrap()).unwrap();
        }
        assert!("models:/fraud".parse::<Source>().is_err() && "s3a://models/fraud".parse::<Source>().is_err());
    }

    #[tokio::test]
    async fn a_canary_that_no_key_opens_is_taken_for_a_model_like_the_services_own() {
        let object = serde_json::json!({
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "fraud"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}},
        });
        let service = Deployed::from(serde_json::from_value::<kube::api::DynamicObject>(object).unwrap());
        let source = "pvc://claim/model".parse().unwrap();
        let found = found(&source, &service, &StoreArguments::default(), stage::Options::default()).await;
        assert_eq!(
            found.unwrap(),
            ("pvc://claim/model".to_owned(), Model::unseen(Framework::Sklearn))
        );
    }
}
