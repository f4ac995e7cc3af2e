//! What isn't a service: a graph of some, or a model on another's server.

use anstream::{eprintln, print};
use serde_json::Value;
use tidewaiter_deployer::cluster::{Kind, kinds};
use tidewaiter_deployer::service::{GraphWishes, Router, Step, TrainedWishes, graph, trained_model};
use tidewaiter_deployer::submit::{apply, content, propose};
use tidewaiter_deployer::wait::{ConditionOutcome, wait_for_condition};

use super::super::arguments::Format;
use super::super::output::{difference, document, yaml};
use super::super::table::clean;
use super::super::{BAD, Ending, Failure, GOOD};
use super::arguments::DryRun;
use super::staging::Ready;
use super::waiting::{evidence, hint};
use super::{Context, note};

pub(super) async fn run(context: &Context, router: Router) -> Result<Ending, Failure> {
    let steps = context.arguments.steps.iter().map(|step| Step::parse(router, step));
    let wishes = GraphWishes {
        name: context.name.clone(),
        router,
        steps: steps.collect::<Result<_, _>>()?,
    };
    let object = graph(&wishes, &context.namespace)?;
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
    submit(context, &kinds::INFERENCE_GRAPH, &object).await
}

pub(super) async fn add_model(context: &Context, server: &str, ready: &Ready) -> Result<Ending, Failure> {
    let uri = ready.uri.as_deref().unwrap_or_default();
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
    let object = trained_model(&wishes, uri, namespace, &live)?;
    submit(context, &kinds::TRAINED_MODEL, &object).await
}

async fn submit(context: &Context, kind: &'static Kind, object: &Value) -> Result<Ending, Failure> {
    let arguments = &context.arguments;
    let name = &context.name;
    if arguments.dry_run == Some(DryRun::Client) {
        print!("{}", document(object, arguments.output.unwrap_or(Format::Yaml))?);
        return Ok(Ending::Nothing);
    }
    let before = context.cluster.get(kind, Some(&context.namespace), name).await?;
    let proposal = propose(
        &context.cluster,
        kind,
        object,
        before.as_ref(),
        arguments.force_conflicts,
    )
    .await?;
    for line in &proposal.applied.said {
        note(line);
    }
    if arguments.diff {
        if proposal.is_same {
            return Ok(Ending::Nothing);
        }
        let old = before
            .as_ref()
            .map(content)
            .map_or_else(|| Ok(String::new()), |content| yaml(&content))?;
        print!("{}", difference(&old, &yaml(&content(&proposal.applied.object))?));
        return Ok(Ending::Something);
    }
    if arguments.dry_run == Some(DryRun::Server) {
        if let Some(format) = arguments.output {
            print!("{}", document(&proposal.applied.object, format)?);
        }
        eprintln!(
            "{} {name} would be submitted: the API server and its webhooks agree",
            kind.kind
        );
        return Ok(Ending::Nothing);
    }
    if proposal.is_same {
        eprintln!("{name} is deployed already, and the same: nothing was done");
    } else {
        super::WRITES.store(true, std::sync::atomic::Ordering::Relaxed);
        apply(&context.cluster, kind, object, arguments.force_conflicts).await?;
        eprintln!(
            "{GOOD}{} {name}{GOOD:#} submitted in namespace {}",
            kind.kind, context.namespace
        );
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
