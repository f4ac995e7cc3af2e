//! Whether a transformer asks its predictor in a protocol that it speaks.
//!
//! Source: `python/kserve/kserve/model_server.py` and `predictor_config.py` of KServe 0.15 to 0.20: `--predictor_protocol`, by default `v1`.

use tidewaiter_policy::core::containers::Part;
use tidewaiter_policy::core::lines::line;
use tidewaiter_policy::core::service::Role;
use tidewaiter_policy::{Mode, Verdict};

use crate::{Served, Subject, found};

const ARGUMENT: &str = "--predictor_protocol";

/// Judges the transformer, where the predictor is served by this runtime.
pub(crate) fn review(subject: &mut Subject<'_>, served: Option<&Served>, verdict: &mut Verdict) {
    let Some(served) = served else { return };
    let mut components = subject.service.components().iter();
    let Some(transformer) = components.find(|component| component.role == Role::Transformer) else {
        return;
    };
    subject.look();
    let containers = subject
        .object
        .as_ref()
        .and_then(|object| object.part(transformer.role))
        .map(Part::containers)
        .unwrap_or_default();
    // KServe adds its own arguments to the first one.
    let Some(container) = containers.first() else { return };
    let Served { runtime, protocol } = served;
    match container.argument(ARGUMENT) {
        // What a runtime lists is what KServe may choose it for. Servers of v2 speak it over gRPC as well, whether they list that or not, as MLServer's doesn't.
        Some(asked) if !runtime.speaks(asked) && (asked != "grpc-v2" || !runtime.speaks("v2")) => {
            let spoken = runtime.protocols.join(", ");
            found(
                verdict,
                subject.settings.transformer,
                "transformer-protocol",
                format!(
                    "transformer: it asks the predictor in protocol {asked}, which the predictor's runtime {} doesn't speak. Write {ARGUMENT} with what it speaks: {spoken}",
                    runtime.name
                ),
                &format!("transformer: it asks in {asked}, and the predictor speaks only {spoken}"),
                &format!("{}/containers/0/args", transformer.pointer),
            );
        }
        None if !runtime.speaks("v1") && subject.settings.transformer != Mode::Off => {
            *verdict = std::mem::take(verdict).warn(line(&format!(
                "transformer: KServe's SDK asks the predictor in v1, which it doesn't speak; add {ARGUMENT} {protocol}"
            )));
        }
        Some(_) | None => {}
    }
}
