//! What became of each `StorageBackend` and `WasmPolicy`, written where its author looks: into its status.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidewaiter_core::backend::{BACKEND_LABEL, managed_name};
use tidewaiter_world::{ObjectRef, Problem, Reach};
use tokio::time::timeout;
use tracing::warn;

use super::refusal::is_meant;
use crate::configuration::Snapshot;
use crate::controllers::{Health, Minting};
use crate::namespaces::cluster::writes;

/// Writes at once.
const AT_ONCE: usize = 8;
/// What one of them may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Writes statuses, where the objects don't have them already.
pub(super) struct Statuses {
    client: Client,
    /// What went wrong last, so that the log says a thing once.
    complaint: String,
}

impl Statuses {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            complaint: String::new(),
        }
    }

    /// Whether another try is worth it soon: the API server is slow, or has too much to do. What isn't written is for the next time: nothing else is current while it
    /// is awaited.
    pub(super) async fn report(
        &mut self,
        resources: &[Arc<DynamicObject>],
        problems: &[Problem],
        snapshot: &Snapshot,
        health: &Health,
        delivered: &[Arc<Secret>],
    ) -> bool {
        let mut writes = Vec::new();
        for resource in resources {
            let Some(types) = &resource.types else { continue };
            let name = resource.name_any();
            let said: Vec<&Problem> = problems
                .iter()
                .filter(|problem| {
                    problem
                        .object
                        .as_ref()
                        .is_some_and(|object| object.kind == types.kind && object.name == name)
                })
                .collect();
            let under_way = snapshot.under_way(&name).filter(|_| types.kind == "WasmPolicy");
            let mut conditions = vec![under_way.map_or_else(|| usable(&types.kind, &said), compiling)];
            let mut looked = true;
            let facts = if types.kind == "WasmPolicy" {
                let imports = snapshot.imports(&name);
                vec![
                    ("digest", json!(snapshot.digest(&name))),
                    ("capabilities", json!(imports)),
                ]
            } else {
                conditions.extend(health.of(&name).iter().flat_map(store));
                conditions.extend(health.minting(&name).map(minting));
                // Nobody has looked yet, as right after an election: what was found before stands.
                looked = health.looked();
                vec![("namespaces", json!(namespaces(&name, delivered)))]
            };
            let Some(status) = status(resource, &conditions, looked, &facts) else {
                continue;
            };
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("tidewaiter.dev", "v1alpha1", &types.kind));
            writes.push(write(
                Api::all_with(self.client.clone(), &resource),
                types.kind.clone(),
                name,
                status,
            ));
        }
        let unwritten: Vec<Unwritten> = stream::iter(writes)
            .buffer_unordered(AT_ONCE)
            .filter_map(|written| ready(written.err()))
            .collect()
            .await;
        let complaint = unwritten.first().map(|one| one.why.clone()).unwrap_or_default();
        if self.complaint != complaint && !complaint.is_empty() {
            warn!("{complaint}; trying again");
        }
        self.complaint = complaint;
        unwritten.iter().any(|one| one.soon)
    }
}

/// A status that couldn't be written.
struct Unwritten {
    why: String,
    /// It may be in a moment.
    soon: bool,
}

async fn write(api: Api<DynamicObject>, kind: String, name: String, status: Value) -> Result<(), Unwritten> {
    let (params, change) = (writes(), Patch::Merge(json!({ "status": status })));
    let (error, soon) = match timeout(PATIENCE, api.patch_status(&name, &params, &change)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(kube::Error::Api(status))) => {
            let soon = !is_meant(&status, false);
            (status.message, soon)
        }
        Ok(Err(error)) => (error.to_string(), true),
        Err(_) => (
            format!("the API server didn't answer in {} s", PATIENCE.as_secs()),
            true,
        ),
    };
    let object = ObjectRef::cluster(&kind, &name);
    Err(Unwritten {
        why: format!("can't write the status of {object}: {error}"),
        soon,
    })
}

/// How many namespaces have a backend's credentials.
fn namespaces(backend: &str, delivered: &[Arc<Secret>]) -> usize {
    let name = managed_name(backend);
    let of_backend = |secret: &&Arc<Secret>| {
        secret.labels().get(BACKEND_LABEL).is_some_and(|label| label == backend)
            && secret.name_any() == name
            && secret.metadata.deletion_timestamp.is_none()
    };
    let namespaces: BTreeSet<_> = delivered
        .iter()
        .filter(of_backend)
        .map(|secret| secret.namespace())
        .collect();
    namespaces.len()
}

/// One condition, but for its times.
#[derive(Debug)]
struct Condition {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// Whether the object is in use.
fn usable(kind: &str, problems: &[&Problem]) -> Condition {
    let (type_, good) = if kind == "WasmPolicy" {
        ("Loaded", "Compiled")
    } else {
        ("Accepted", "InUse")
    };
    let (status, reason) = match problems {
        [] => ("True", good),
        some if some.iter().all(|problem| problem.in_use) => ("True", "InUseWithRemarks"),
        _ => ("False", "Invalid"),
    };
    let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    Condition {
        type_,
        status,
        reason,
        message: messages.join("; "),
    }
}

/// Nobody knows yet whether a policy can be used.
fn compiling(until_then: &str) -> Condition {
    Condition {
        type_: "Loaded",
        status: "Unknown",
        reason: "Compiling",
        message: format!("it is being compiled; until then {until_then}"),
    }
}

/// Whether the store answers, and whether it takes the credentials.
fn store(reach: &Reach) -> [Condition; 2] {
    let (reachable, credentials) = match reach {
        Reach::Open => (("True", "Answers", ""), ("True", "Taken", "")),
        Reach::Refused(reason) => (("True", "Answers", ""), ("False", "Refused", reason.as_str())),
        Reach::Silent(reason) => (
            ("False", "NoAnswer", reason.as_str()),
            ("Unknown", "NoAnswer", "the store doesn't answer"),
        ),
    };
    [("Reachable", reachable), ("CredentialsValid", credentials)].map(|(type_, (status, reason, message))| Condition {
        type_,
        status,
        reason,
        message: message.to_owned(),
    })
}

/// Whether the store takes the access keys that are minted for namespaces.
fn minting(minting: Minting) -> Condition {
    let (status, reason, message) = match minting {
        Ok(()) => ("True", "Taken", String::new()),
        Err(reason) => ("False", "NotTaken", reason),
    };
    Condition {
        type_: "Minting",
        status,
        reason,
        message,
    }
}

/// The status to write; none where the object has it. `facts` are the status's fields that are its kind's own; null for none.
/// `whole`: whether the conditions are all; else further ones that the object has stay.
fn status(resource: &DynamicObject, conditions: &[Condition], whole: bool, facts: &[(&str, Value)]) -> Option<Value> {
    let generation = resource.metadata.generation;
    let stored = &resource.data["status"];
    let none = Vec::new();
    let before = stored["conditions"].as_array().unwrap_or(&none);
    let others = before
        .iter()
        .filter(|before| !whole && conditions.iter().all(|condition| before["type"] != condition.type_));
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|condition| {
            let before = before.iter().find(|before| before["type"] == condition.type_);
            let since = before
                .filter(|before| before["status"] == condition.status)
                .and_then(|before| before["lastTransitionTime"].as_str());
            json!({
                "type": condition.type_,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": since.map_or_else(now, str::to_owned),
                "observedGeneration": generation,
            })
        })
        .chain(others.cloned())
        .collect();
    if facts.iter().all(|(fact, value)| stored[*fact] == *value) && *before == conditions {
        return None;
    }
    let mut status = json!({"observedGeneration": generation, "conditions": conditions});
    for (fact, value) in facts {
        status[*fact] = value.clone();
    }
    Some(status)
}

fn now() -> String {
    super::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
