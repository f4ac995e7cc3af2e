//! The objects that configure us, judged before they are stored: whoever writes one that can't be used is told by `kubectl` rather than by a condition.
//!
//! By the same checks as when they are loaded. What depends on other objects, such as a Secret that comes a moment later, is left to the condition.

use serde_json::Value;
use tidewaiter_core::backend::Backend;
use tidewaiter_core::lines;
use tidewaiter_engine::outcome::{Denial, Outcome};

use super::decode::{AdmissionRequest, json_type};
use super::{Failure, Judged, Reviewer};

/// The code of a refusal.
const UNUSABLE: &str = "unusable-configuration";

impl Reviewer {
    /// None where there is nothing to say: the object can be used, leaves, or asks for what it asked for before.
    pub(super) async fn of_configuration(&self, request: &AdmissionRequest<'_>) -> Option<Judged> {
        if request.sub_resource.as_ref().is_some_and(|sub| !sub.is_empty()) {
            return None;
        }
        let snapshot = self.snapshot()?;
        let raw = request.object?;
        let Ok(mut object) = serde_json::from_str::<Value>(raw.get()) else {
            return Some(Judged::malformed(&format!(
                "the object is {}, not an object",
                json_type(raw)
            )));
        };
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let spec = object["spec"].take();
        let old = request
            .old_object
            .and_then(|old| serde_json::from_str::<Value>(old.get()).ok());
        // An object that became unusable by other means can still be labelled, and stays as it is.
        if old.is_some_and(|old| old["spec"] == spec) {
            return None;
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let judged = match &*request.kind.kind {
            "StorageBackend" => match serde_json::from_value(spec) {
                Ok(spec) => Backend::new(name, spec).map(|_| None).map_err(|wrong| wrong.join("; ")),
                Err(error) => Ok(Some(strange(&error))),
            },
            "WasmPolicy" => match serde_json::from_value(spec) {
                Ok(spec) => snapshot.judge_policy(name, &spec, self.reader.as_deref()).await,
                Err(error) => Ok(Some(strange(&error))),
            },
            _ => return None,
        };
        let named = format!("{}/{name}", request.kind.kind);
        match judged {
            Ok(None) => None,
            Ok(Some(remark)) => Some(Judged {
                outcome: Outcome {
                    warnings: lines::wrapped(&format!("tidewaiter: {named}: {remark}")),
                    ..Outcome::default()
                },
                failure: None,
            }),
            Err(reason) => Some(Judged {
                outcome: Outcome::default(),
                failure: Some(Failure {
                    policy: None,
                    code: 403,
                    denial: Denial {
                        code: UNUSABLE.to_owned(),
                        message: format!("{named} can't be used: {}", lines::cut(&reason, lines::MESSAGE)),
                        path: Some("/spec".to_owned()),
                    },
                }),
            }),
        }
    }
}

/// The API server let it pass, so its definition is another than ours: of a version that is on its way, perhaps.
fn strange(error: &serde_json::Error) -> String {
    format!("spec: {error}; it can't be used before Tidewaiter, or its CustomResourceDefinitions, are updated")
}

#[cfg(test)]
#[path = "configured_tests.rs"]
mod tests;
