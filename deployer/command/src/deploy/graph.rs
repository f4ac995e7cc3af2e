//! What isn't a service: a graph of some, or a model on another's server.

use anstream::{eprintln, print};
use kube::api::DynamicObject;
use serde_json::Value;
use tidewaiter_deployer::cluster::{Kind, kinds};
use tidewaiter_deployer::service::{GraphWishes, Router, Step, TrainedWishes, graph, may_be_added, trained_model};
use tidewaiter_deployer::submit::{propose, with_entry, with_history_of};
use tidewaiter_deployer::wait::wait_for_condition;

use super::super::arguments::Format;
use super::super::output::{document, note};
use super::super::{Ending, Failure};
use super::Context;
use super::arguments::DryRun;
use super::report::{self, Report};
use super::showing::{said, shown, store, stored};
use super::staging::{Ready, Wanted, would_send};
use super::submitting::is_ready;
use super::waiting::until;

pub(super) async fn run(context: &Context, router: Router) -> Result<Ending, Failure> {
    let steps = context.wishes.steps.iter().map(|step| Step::parse(router, step));
    let wishes = GraphWishes {
        name: context.name.clone(),
        router,
        steps: steps.collect::<Result<_, _>>()?,
    };
    let object = graph(&wishes, &context.wishes, &context.namespace)?;
    if context.arguments.dry_run != Some(DryRun::Client) {
        for step in &wishes.steps {
            let found = context
                .cluster
                .get(&kinds::INFERENCE_SERVICE, Some(&context.namespace), &step.service)
                .await?;
            if found.is_none() {
                return Err(Failure {
                    message: format!(
                        "there is no service {} in namespace {}",
                        step.service, context.namespace
                    ),
                    next: Some(format!(
                        "deploy it first: tidewaiter deploy SOURCE --name {}",
                        step.service
                    )),
                });
            }
        }
    }
    submit(context, &kinds::INFERENCE_GRAPH, object, None).await
}

pub(super) async fn add_model(context: &Context, server: &str, wanted: &Wanted) -> Result<Ending, Failure> {
    let (name, namespace, also) = (&context.name, &context.namespace, &context.wishes);
    may_be_added(name, server, also, namespace, None)?;
    let live = if context.arguments.dry_run == Some(DryRun::Client) {
        None
    } else {
        let found = context
            .cluster
            .get(&kinds::INFERENCE_SERVICE, Some(namespace), server)
            .await?;
        let Some(found) = found else {
            return Err(Failure {
                message: format!("there is no service {server} in namespace {namespace}"),
                next: Some(
                    "name a multi-model server: an InferenceService whose predictor has no storageUri".to_owned(),
                ),
            });
        };
        let found = serde_json::to_value(&found).unwrap_or_default();
        may_be_added(name, server, also, namespace, Some(&found))?;
        context
            .cluster
            .may_store(&kinds::TRAINED_MODEL, namespace, name)
            .await?;
        Some(found)
    };
    let sought = wanted.find(context).await?;
    let mut ready = wanted.fetch(context, sought).await?;
    let uri = ready.uri.clone().unwrap_or_default();
    if context.arguments.store.has_flags_for(&uri) {
        note(&format!(
            "{server} opens the store as its own spec says, for all of its models: the keys given here are not put into the cluster"
        ));
    }
    let wishes = TrainedWishes {
        name: name.clone(),
        service: server.to_owned(),
        framework: ready.model.framework,
        memory: also.memory.clone().unwrap_or_default(),
    };
    let object = trained_model(&wishes, also, &uri, namespace, live.as_ref())?;
    submit(context, &kinds::TRAINED_MODEL, object, Some(&mut ready)).await
}

async fn submit(
    context: &Context,
    kind: &'static Kind,
    object: Value,
    ready: Option<&mut Ready>,
) -> Result<Ending, Failure> {
    let arguments = &context.arguments;
    let name = &context.name;
    if arguments.dry_run == Some(DryRun::Client) {
        print!("{}", document(&object, arguments.output.unwrap_or(Format::Yaml))?);
        return Ok(Ending::Nothing);
    }
    let before = context.cluster.get(kind, Some(&context.namespace), name).await?;
    let before = before.as_ref();
    let object = with_history_of(object, before);
    let proposal = propose(&context.cluster, kind, &object, before, arguments.force_conflicts).await?;
    said(&proposal);
    let also = ready
        .as_ref()
        .map(|ready| would_send(ready.to_send()))
        .unwrap_or_default();
    if let Some(ending) = shown(context, before, &proposal, &also)? {
        return Ok(ending);
    }
    let from = ready
        .as_ref()
        .map_or_else(|| context.wishes.steps.join(", "), |ready| ready.from.clone());
    let report = report::of(
        context,
        kind,
        ready.as_deref(),
        if proposal.is_same { "unchanged" } else { "submitted" },
    );
    if let Some(ready) = ready {
        ready.send().await?;
    }
    if proposal.is_same {
        eprintln!("{name} is deployed already, and the same: nothing was done");
    } else {
        let object = with_entry(&context.cluster, object, before, &from).await;
        store(context, kind, &object, before).await?;
        stored(context, &format!("{} {name}", kind.kind), before);
    }
    finish(context, kind, before, report).await
}

async fn finish(
    context: &Context,
    kind: &'static Kind,
    before: Option<&DynamicObject>,
    mut report: Report,
) -> Result<Ending, Failure> {
    let (name, namespace) = (&context.name, &context.namespace);
    if context.arguments.no_wait {
        report.print(context)?;
        return Ok(Ending::Nothing);
    }
    // What stays as it was, and isn't ready, is what becomes of it.
    if !before.is_some_and(is_ready) {
        report.outcome = "submitted";
    }
    let waiting = wait_for_condition(&context.cluster, kind, namespace, name, context.arguments.timeout);
    let remains = || {
        if before.is_none() {
            eprintln!(
                "{name} is still there; to remove it: kubectl -n {namespace} delete {} {name}",
                kind.in_roles()
            );
        }
    };
    until(context, report, waiting, remains).await
}
