//! What a review came to, as people and programs read it.

use json_patch::Patch;
use serde::Serialize;
use serde_json::Value;
use tidewaiter_engine::outcome::{Delivery, Ended, Outcome};

/// One review's end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Whether the object is admitted.
    pub allowed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<ToldDenial>,
    /// What is filled in, and taken out, where the object came without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fills: Vec<ToldFill>,
    /// The policies' own warnings, without the line that each fill has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ToldWarning>,
    /// Credentials to be had in the namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<ToldEffect>,
    /// Policies that failed, with what went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ToldFailure>,
    /// The object as it would be stored; none where it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Value>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldDenial {
    /// Whose it is.
    pub policy: String,
    /// For machines.
    pub code: String,
    /// For the user.
    pub message: String,
    /// A JSON Pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// One value that is filled in or taken out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldFill {
    /// Whose it is.
    pub policy: String,
    /// A JSON Pointer.
    pub path: String,
    /// None where a former fill is taken out.
    pub value: Option<Value>,
    /// Why.
    pub reason: String,
}

/// A line for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldWarning {
    /// Whose it is.
    pub policy: String,
    /// As the user reads it.
    pub message: String,
}

/// Credentials to be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldEffect {
    /// Whose it is; where several want the same, the first.
    pub policy: String,
    /// The `StorageBackend`.
    pub backend: String,
    /// `annotation`, `service-account` or `storage-key`.
    pub delivery: &'static str,
}

/// A policy that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldFailure {
    /// The policy.
    pub policy: String,
    /// What went wrong.
    pub reason: String,
}

impl Told {
    /// Of an object that no policy has to judge.
    pub fn untouched(object: &Value) -> Self {
        Self {
            allowed: true,
            object: Some(object.clone()),
            ..Self::default()
        }
    }

    /// Of an outcome, for the object as it came.
    pub fn new(outcome: &Outcome, came: &Value) -> Self {
        let denial = outcome.denial.as_ref().map(|(policy, denial)| ToldDenial {
            policy: policy.to_string(),
            code: denial.code.clone(),
            message: denial.message.clone(),
            path: denial.path.clone(),
        });
        let fills = outcome.changes.iter().map(|change| ToldFill {
            policy: change.policy.to_string(),
            path: change.path.clone(),
            value: change.value.clone(),
            reason: change.reason.clone(),
        });
        let warnings = outcome.warnings_by_policy().map(|(policy, message)| ToldWarning {
            policy: policy.to_string(),
            message: message.to_owned(),
        });
        let effects = outcome.effects.iter().map(|effect| ToldEffect {
            policy: effect.policy.to_string(),
            backend: effect.backend.clone(),
            delivery: match effect.delivery {
                Delivery::Annotation => "annotation",
                Delivery::ServiceAccount => "service-account",
                Delivery::StorageKey => "storage-key",
            },
        });
        let failures = outcome.runs.iter().filter_map(|run| match &run.ended {
            Ended::Failed(reason) => Some(ToldFailure {
                policy: run.policy.to_string(),
                reason: reason.clone(),
            }),
            _ => None,
        });
        Self {
            allowed: denial.is_none(),
            object: denial.is_none().then(|| patched(outcome, came)),
            fills: fills.collect(),
            warnings: warnings.collect(),
            effects: effects.collect(),
            failures: failures.collect(),
            denial,
        }
    }

    /// One policy's part of it. How the review ended stays, whoever's word that was.
    #[must_use]
    pub fn only(mut self, policy: &str) -> Self {
        self.fills.retain(|fill| fill.policy == policy);
        self.warnings.retain(|warning| warning.policy == policy);
        self.effects.retain(|effect| effect.policy == policy);
        self.failures.retain(|failure| failure.policy == policy);
        self
    }
}

/// The object as it would be stored.
fn patched(outcome: &Outcome, came: &Value) -> Value {
    let mut object = came.clone();
    // The engine made the patch for this very object. Were it not to fit, what came is what there is.
    let _ = json_patch::patch(&mut object, &Patch(outcome.patch.clone()));
    object
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use serde_json::json;
    use tidewaiter_engine::outcome::{Change, Effect, Run};

    use super::*;

    #[test]
    fn everything_is_told_with_its_policy() {
        let run = |policy: &str, warnings| Run {
            policy: policy.into(),
            began: Instant::now(),
            took: Duration::ZERO,
            host: Duration::ZERO,
            ended: Ended::Acted,
            warnings,
        };
        let outcome = Outcome {
            changes: vec![Change {
                policy: Arc::from("a"),
                path: "/spec/x".to_owned(),
                value: Some(json!(1)),
                reason: "so".to_owned(),
            }],
            warnings: ["spec.x = 1: so", "of a", "of b"].map(str::to_owned).to_vec(),
            effects: vec![Effect {
                policy: Arc::from("b"),
                backend: "minio".to_owned(),
                delivery: Delivery::Annotation,
            }],
            runs: vec![run("a", 1), run("b", 1)],
            ..Outcome::default()
        };
        let told = Told::new(&outcome, &json!({}));
        let said = |told: &Told| {
            let warnings = told.warnings.iter();
            let warnings = warnings.map(|warning| format!("{}: {}", warning.policy, warning.message));
            (warnings.collect::<Vec<_>>(), told.fills.len(), told.effects.len())
        };
        assert_eq!(said(&told), (vec!["a: of a".to_owned(), "b: of b".to_owned()], 1, 1));
        assert_eq!(said(&told.clone().only("b")), (vec!["b: of b".to_owned()], 0, 1));
        assert_eq!(told.only("b").object, Some(json!({})));
    }
}
