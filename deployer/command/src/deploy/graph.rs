//! What isn't a service: a graph of some, or a model on another's server.

use anstream::{eprintln, print};
use serde_json::Value;
use tidewaiter_deployer::cluster::{Kind, kinds};
use tidewaiter_deployer::service::{GraphWishes, Router, Step, TrainedWishes, graph, trained_model};
use tidewaiter_deployer::submit::propose;
use tidewaiter_deployer::wait::{ConditionOutcome, wait_for_condition};

use super::super::arguments::Format;
use super::super::output::document;
use super::super::table::clean;
use super::super::{BAD, Ending, Failure, GOOD};
use super::Context;
use super::arguments::DryRun;
use super::showing::{said, shown, store, stored};
use super::staging::{Ready, would_send};
use super::waiting::{evidence, hint};

pub(super) async fn run(context: &Context, router: Router) -> Result<Ending, Failure> {
    let steps = context.arguments.steps.iter().map(|step| Step::parse(router, step));
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
    submit(context, &kinds::INFERENCE_GRAPH, &object, None).await
}

pub(super) async fn add_model(context: &Context, server: &str, ready: &mut Ready) -> Result<Ending, Failure> {
    let uri = ready.uri.clone().unwrap_or_default();
    let namespace = &context.namespace;
    let found = context
        .cluster
        .get(&kinds::INFERENCE_SERVICE, Some(namespace), server)
        .await?;
    let Some(found) = found else {
        return Err(Failure {
            message: format!("there is no service {server} in namespace {namespace}"),
            next: Some("name a multi-model server: an InferenceService whose predictor has no storageUri".to_owned()),
        });
    };
    let wishes = TrainedWishes {
        name: context.name.clone(),
        service: server.to_owned(),
        framework: ready.model.framework,
        memory: context.arguments.memory.clone().unwrap_or_default(),
    };
    let live = serde_json::to_value(&found).unwrap_or_default();
    let object = trained_model(&wishes, &context.wishes, &uri, namespace, &live)?;
    submit(context, &kinds::TRAINED_MODEL, &object, Some(ready)).await
}

async fn submit(
    context: &Context,
    kind: &'static Kind,
    object: &Value,
    ready: Option<&mut Ready>,
) -> Result<Ending, Failure> {
    let arguments = &context.arguments;
    let name = &context.name;
    if arguments.dry_run == Some(DryRun::Client) {
        print!("{}", document(object, arguments.output.unwrap_or(Format::Yaml))?);
        return Ok(Ending::Nothing);
    }
    let before = context.cluster.get(kind, Some(&context.namespace), name).await?;
    let before = before.as_ref();
    let proposal = propose(&context.cluster, kind, object, before, arguments.force_conflicts).await?;
    said(&proposal);
    let also = ready
        .as_ref()
        .map(|ready| would_send(ready.to_send()))
        .unwrap_or_default();
    if let Some(ending) = shown(context, before, &proposal, &also)? {
        return Ok(ending);
    }
    if let Some(ready) = ready {
        ready.send().await?;
    }
    if proposal.is_same {
        eprintln!("{name} is deployed already, and the same: nothing was done");
    } else {
        store(context, kind, object, before).await?;
        stored(context, &format!("{} {name}", kind.kind), before);
    }
    if arguments.no_wait {
        return Ok(Ending::Nothing);
    }
    let waiting = wait_for_condition(&context.cluster, kind, &context.namespace, name, arguments.timeout);
    let outcome = tokio::select! {
        outcome = waiting => outcome?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\nInterrupted: {name} is submitted, and comes up or not by itself.");
            return Ok(Ending::Interrupted);
        }
    };
    match outcome {
        ConditionOutcome::Ready(url) => {
            let at = url.map(|url| format!(" at {url}")).unwrap_or_default();
            eprintln!("{GOOD}{name} is ready{GOOD:#}{at}");
            return Ok(Ending::Nothing);
        }
        ConditionOutcome::Failed(finding) => {
            eprintln!("{BAD}error{BAD:#}: {name} doesn't come up: {}", clean(&finding.message));
            evidence(&finding);
            hint(&finding.next);
        }
        ConditionOutcome::TimedOut(said) => {
            let limit = arguments.timeout.as_secs();
            eprintln!(
                "{BAD}error{BAD:#}: {name} is not ready after {limit} s: {}",
                clean(&said)
            );
            hint("give it more time with --timeout: the same command goes on waiting");
        }
    }
    if before.is_none() {
        eprintln!(
            "{name} is still there; to remove it: kubectl -n {} delete {} {name}",
            context.namespace,
            kind.in_roles()
        );
    }
    Ok(Ending::Something)
}
