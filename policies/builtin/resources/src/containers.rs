//! What KServe or Kubernetes refuses of the containers: the first in words that name no container, the second after the service has been admitted. No Pod is made
//! then, and the reason stands in KServe's events or its log alone.
//!
//! Source: `GetImplementations` in `pkg/apis/serving/v1beta1/predictor.go` and `buildPodSpec` in `pkg/controller/v1beta1/inferenceservice/components/predictor.go` of
//! KServe 0.15 and 0.20, which lays the object's container over the runtime's and puts the containers beside it behind; `ValidateResourceRequirements` of Kubernetes.

use tidewaiter_policy::Verdict;
use tidewaiter_policy::core::containers::{Resources, SERVER, is_shared};
use tidewaiter_policy::core::quantity::Quantity;

use crate::Subject;

/// A transformer in the predictor's Pod.
pub(crate) const TRANSFORMER: &str = "transformer-container";

pub(crate) fn review(subject: &Subject<'_>, verdict: &mut Verdict) {
    let at = &subject.component.pointer;
    let mode = subject.settings.contradiction;
    let contradicts = |resources: &Resources, under: Option<&Resources>, place: &str, verdict: &mut Verdict| {
        let Some((name, request, limit)) = resources.contradiction(under) else {
            return;
        };
        let Some(limit) = limit.filter(|_| is_shared(name)) else {
            subject.found(
                verdict,
                mode,
                "request-not-limit",
                &format!(
                    "it asks for {name} {request}, and {}: Kubernetes wants limits.{name} to be the same as the request, and else no Pod is made. Set limits.{name} to \
                     {request} in {place}, and leave out the request",
                    limit.map_or_else(|| "has no limit".to_owned(), |limit| format!("may use {limit}"))
                ),
                &format!("{name} is asked for without the same limit; no Pod will be made"),
                place,
            );
            return;
        };
        let whose = if resources.limit(name).is_some() {
            ""
        } else {
            ", which is the runtime's,"
        };
        subject.found(
            verdict,
            mode,
            "request-over-limit",
            &format!(
                "it asks for {name} {request} and may use {limit}: Kubernetes refuses a request above the limit{whose} and no Pod is made. Set limits.{name} to {request} \
                 or more in {place}, or ask for less"
            ),
            &over(name, request, limit),
            place,
        );
    };
    if let Some(model) = &subject.part.model {
        let of_runtime = subject
            .spec
            .and_then(|spec| spec.named(SERVER))
            .map(|container| &container.resources);
        contradicts(&model.resources, of_runtime, &format!("{at}/model/resources"), verdict);
        if let Some(index) = subject
            .part
            .containers()
            .iter()
            .position(|beside| beside.name == SERVER)
        {
            subject.found(
                verdict,
                mode,
                "container-twice",
                &format!(
                    "beside model there is a container {SERVER}, which KServe takes for a second server, and it refuses a service with two. Write what it says (resources, \
                     env, args) in {at}/model, and take it out"
                ),
                &format!("container {SERVER} beside model is one too many; write what it says in model"),
                &format!("{at}/containers/{index}"),
            );
        }
    }
    server_first(subject, verdict);
    for (index, container) in subject.part.containers().iter().enumerate() {
        // It is laid over the runtime's of this name.
        let under = subject
            .spec
            .filter(|_| container.name == TRANSFORMER)
            .and_then(|spec| spec.named(TRANSFORMER))
            .map(|known| &known.resources);
        contradicts(
            &container.resources,
            under,
            &format!("{at}/containers/{index}/resources"),
            verdict,
        );
    }
}

/// Of a predictor without a model KServe takes the container by the server's name and puts it in the first one's place. One that is alone or first and has no name
/// gets that name (`CustomPredictor.Default`).
fn server_first(subject: &Subject<'_>, verdict: &mut Verdict) {
    let own = subject.component.implementation.as_ref();
    let is_custom = own.is_none_or(|own| own.field == "containers") && subject.component.is_predictor();
    let containers = subject.part.containers();
    let [first, _, ..] = containers else {
        return;
    };
    if !is_custom || first.name.is_empty() || first.name == SERVER {
        return;
    }
    let (at, mode) = (&subject.component.pointer, subject.settings.contradiction);
    match containers.iter().position(|container| container.name == SERVER) {
        Some(index) => subject.found(
            verdict,
            mode,
            "server-not-first",
            &format!(
                "KServe puts the container {SERVER} in the place of the first one, {}, so that it stands there twice, and no Pod is made. Write it before all others",
                first.name
            ),
            &format!("{SERVER} has to be the first container, before {}; no Pod will be made", first.name),
            &format!("{at}/containers/{index}"),
        ),
        None => subject.found(
            verdict,
            mode,
            "server-without-name",
            &format!(
                "none of its {} containers is called {SERVER}, the one that KServe takes for the model server, and its controller fails on that. Give the server's container                  this name, and write it before all others",
                containers.len()
            ),
            &format!("no container is called {SERVER}, which KServe serves; no Pod will be made"),
            &format!("{at}/containers"),
        ),
    }
}

fn over(name: &str, request: Quantity, limit: Quantity) -> String {
    format!("it asks for {name} {request}, above its limit of {limit}; no Pod will be made")
}
