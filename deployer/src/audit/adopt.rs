//! A service that ran before Tidewaiter is handed to it.
//!
//! A label edit never adopts a service, and an update that changes nothing isn't even shown to a webhook. What says that a service is to be ours is the
//! record of what we filled in, `tidewaiter.dev/filled`: an empty one is written onto the service, and the webhook, which every request passes, puts the
//! real one in its place, with all that was missing. Where there is nothing to fill in it takes the empty record away again, and nothing has changed.
//! With a dry run of the same request the API server says beforehand what would come of it.

use std::collections::BTreeSet;

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tidewaiter_core::filled;

use super::Finding;
use crate::cluster::kinds::{self, Kind};
use crate::cluster::{Attempt, Cluster, Error};

/// Who writes the empty record. Nothing that the webhook fills in stays in its name.
const FIELD_MANAGER: &str = "tidewaiter-audit";
/// A record that says nothing.
const EMPTY: &str = "{}";
/// KServe writes a service's status all the time.
const TRIES: usize = 5;

/// What would become of a service.
#[derive(Debug, Clone, PartialEq)]
pub enum Preview {
    /// It would be changed.
    Changes(Pending),
    /// Nothing would be changed any more.
    Nothing,
    /// It would be refused, in these words.
    Refused(String),
    /// The webhook didn't look at it.
    NotReviewed,
    /// It is gone.
    Gone,
}

/// A service that is to be handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Labels, annotations and spec, as they are.
    pub before: Value,
    /// As they would be.
    pub after: Value,
    /// What the webhook says to it, a line each.
    pub said: Vec<String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopted {
    /// Filled in, and on record.
    Done {
        /// What the webhook said to it.
        said: Vec<String>,
    },
    /// It was changed since it was looked at; nothing was done.
    ChangedMeanwhile,
    /// The webhook didn't look at it; nothing was done, or it was undone.
    NotReviewed,
}

/// Asks what would become of a service. Stores nothing.
///
/// # Errors
/// Where the API server can't be asked.
pub async fn preview(cluster: &Cluster, finding: &Finding) -> Result<Preview, Error> {
    let service = Address::of(finding);
    let Some(before) = service.get(cluster).await? else {
        return Ok(Preview::Gone);
    };
    if before.uid().as_deref() != Some(&finding.uid) {
        return Ok(Preview::Gone);
    }
    let (after, said) = match service.hand_over(cluster, &before, None, true).await {
        Ok(answer) => answer,
        Err(Error::Refused { message, .. }) => return Ok(Preview::Refused(message)),
        Err(error) => return Err(error),
    };
    if was_passed_over(&before, &after) {
        return Ok(Preview::NotReviewed);
    }
    let (before, after) = (content(&before), content(&after));
    Ok(if before == after {
        Preview::Nothing
    } else {
        Preview::Changes(Pending {
            namespace: service.namespace,
            kind: service.kind.kind.to_owned(),
            name: service.name,
            before,
            after,
            said,
        })
    })
}

/// Hands a service over, if it still is as it was looked at.
///
/// # Errors
/// Where the API server, or a webhook, refuses.
pub async fn adopt(cluster: &Cluster, pending: &Pending) -> Result<Adopted, Error> {
    let service = Address {
        namespace: pending.namespace.clone(),
        kind: kind(&pending.kind),
        name: pending.name.clone(),
    };
    let mut last = None;
    for _ in 0..TRIES {
        let Some(now) = service.get(cluster).await? else {
            return Ok(Adopted::ChangedMeanwhile);
        };
        if content(&now) != pending.before {
            return Ok(Adopted::ChangedMeanwhile);
        }
        let version = now.resource_version();
        match service.hand_over(cluster, &now, version, false).await {
            Ok((after, said)) => {
                if was_passed_over(&now, &after) {
                    service.take_back(cluster, &now).await?;
                    return Ok(Adopted::NotReviewed);
                }
                service.disown(cluster, &after).await;
                return Ok(Adopted::Done { said });
            }
            Err(error @ Error::Changed { .. }) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(Adopted::ChangedMeanwhile), Err)
}

struct Address {
    namespace: String,
    kind: &'static Kind,
    name: String,
}

impl Address {
    fn of(finding: &Finding) -> Self {
        Self {
            namespace: finding.namespace.clone(),
            kind: kind(&finding.kind),
            name: finding.name.clone(),
        }
    }

    fn api(&self, cluster: &Cluster) -> Api<DynamicObject> {
        cluster.api(self.kind, Some(&self.namespace))
    }

    fn attempt(&self, verb: &'static str) -> Attempt {
        Attempt::named(verb, self.kind, Some(&self.namespace), &self.name)
    }

    async fn get(&self, cluster: &Cluster) -> Result<Option<DynamicObject>, Error> {
        let found = self.api(cluster).get_opt(&self.name).await;
        found.map_err(|error| cluster.failed(self.attempt("get"), &error))
    }

    /// Writes the empty record, and says what came of it and with which warnings.
    async fn hand_over(
        &self,
        cluster: &Cluster,
        now: &DynamicObject,
        version: Option<String>,
        dry_run: bool,
    ) -> Result<(DynamicObject, Vec<String>), Error> {
        // One that has an empty record already would be handed over by nothing.
        let record = if record(now) == Some(EMPTY) {
            Value::Null
        } else {
            json!(EMPTY)
        };
        let mut change = json!({"metadata": {"annotations": {filled::ANNOTATION: record}}});
        if let Some(version) = version {
            change["metadata"]["resourceVersion"] = json!(version);
        }
        let params = PatchParams { dry_run, ..params() };
        let patched = cluster
            .patch(
                self.kind,
                Some(&self.namespace),
                &self.name,
                &params,
                &Patch::Merge(&change),
            )
            .await;
        patched.map_err(|error| cluster.failed(self.attempt("patch"), &error))
    }

    /// Puts the record back as it was, where nobody looked at the service.
    async fn take_back(&self, cluster: &Cluster, before: &DynamicObject) -> Result<(), Error> {
        let change = json!({"metadata": {"annotations": {filled::ANNOTATION: record(before)}}});
        let api = self.api(cluster);
        let taken = api.patch(&self.name, &params(), &Patch::Merge(&change)).await;
        let failed = |error| cluster.failed(self.attempt("patch"), &error);
        taken.map(drop).map_err(failed)
    }

    /// Nobody owns what was filled in: whoever applies their manifest with a value of their own must not find it in conflict with ours. Where others write
    /// all the time, it stays in our name, which a forced apply overcomes.
    async fn disown(&self, cluster: &Cluster, object: &DynamicObject) {
        let mut object = object.clone();
        for _ in 0..TRIES {
            let mut owners = object.metadata.managed_fields.clone().unwrap_or_default();
            owners.retain(|owner| owner.manager.as_deref() != Some(FIELD_MANAGER));
            let change = json!({"metadata": {"resourceVersion": object.resource_version(), "managedFields": owners}});
            let disowned = self
                .api(cluster)
                .patch(&self.name, &params(), &Patch::Merge(&change))
                .await;
            match disowned {
                // KServe writes the status of what was just changed.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                _ => return,
            }
            match self.get(cluster).await {
                Ok(Some(now)) => object = now,
                _ => return,
            }
        }
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn kind(name: &str) -> &'static Kind {
    if name == kinds::LLM_INFERENCE_SERVICE.kind {
        &kinds::LLM_INFERENCE_SERVICE
    } else {
        &kinds::INFERENCE_SERVICE
    }
}

fn record(object: &DynamicObject) -> Option<&str> {
    object.annotations().get(filled::ANNOTATION).map(String::as_str)
}

/// Whether the API server stored the empty record, or took it away, and the webhook had no say in it.
fn was_passed_over(before: &DynamicObject, after: &DynamicObject) -> bool {
    match record(before) {
        // Then it was the taking away that was written, and something filled in is what shows a review. Nothing filled in is as good.
        Some(EMPTY) => false,
        _ => record(after) == Some(EMPTY),
    }
}

/// Labels, annotations and spec: what a person, or KServe, sees a difference in.
fn content(object: &DynamicObject) -> Value {
    let annotations = object.annotations().iter();
    // It would show the whole object once more.
    let annotations = annotations.filter(|(name, _)| *name != "kubectl.kubernetes.io/last-applied-configuration");
    json!({
        "metadata": {
            "annotations": annotations.collect::<std::collections::BTreeMap<_, _>>(),
            "labels": object.labels(),
        },
        "spec": object.data.get("spec"),
    })
}

impl Pending {
    /// The annotations and parts of the spec in which the two differ, as paths: `/spec/predictor/model/runtime`.
    pub fn changed(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        differing(&self.before, &self.after, String::new(), &mut paths);
        paths
    }
}

fn differing(before: &Value, after: &Value, at: String, paths: &mut BTreeSet<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let (old, new) = (before.get(name), after.get(name));
                let below = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                differing(old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), below, paths);
            }
        }
        _ => {
            paths.insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_is_told_by_path() {
        let pending = Pending {
            namespace: "a".into(),
            kind: "InferenceService".into(),
            name: "b".into(),
            before: json!({"metadata": {"annotations": {}}, "spec": {"predictor": {"model": {"storageUri": "s3://a/b"}}}}),
            after: json!({
                "metadata": {"annotations": {"serving.kserve.io/storageSecretName": "x"}},
                "spec": {"predictor": {"model": {"storageUri": "s3://a/b", "runtimeVersion": "1"}}},
            }),
            said: Vec::new(),
        };
        let changed: Vec<_> = pending.changed().into_iter().collect();
        assert_eq!(
            changed,
            [
                "/metadata/annotations/serving.kserve.io~1storageSecretName",
                "/spec/predictor/model/runtimeVersion"
            ]
        );
    }

    #[test]
    fn a_record_that_stays_empty_shows_that_nobody_looked() {
        let object = |record: Option<&str>| -> DynamicObject {
            let annotations = record.map(|record| json!({filled::ANNOTATION: record}));
            serde_json::from_value(json!({"metadata": {"name": "a", "annotations": annotations}})).unwrap()
        };
        assert!(was_passed_over(&object(None), &object(Some("{}"))));
        assert!(!was_passed_over(&object(None), &object(Some("{\"/spec/a\":1}"))));
        assert!(!was_passed_over(&object(None), &object(None)));
    }
}
