//! One object at a time.

use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use serde_json::Value;

use super::{Attempt, Cluster, Error, Kind};

/// Who changes what is deployed; fields that a deploy applied stay in its own name.
const FIELD_MANAGER: &str = "tidewaiter";

/// Whether an object, as JSON, has this condition and it is `True`: a service, a Pod, a node, a gateway.
pub(crate) fn has_condition(object: &Value, of: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == of && condition["status"] == "True")
}

impl Cluster {
    /// An object, if it is there.
    ///
    /// # Errors
    /// Where the API server doesn't know the kind, says no, or says nothing.
    pub async fn get(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>, Error> {
        let found = self.api(kind, namespace).get(name).await;
        match found.map_err(|error| self.failed(Attempt::get(kind, namespace, name), &error)) {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The objects with these labels, as selectors write them.
    pub(crate) async fn labelled(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<DynamicObject>, Error> {
        let params = ListParams::default().labels(labels);
        self.pages(&self.api(kind, namespace), Attempt::list(kind, namespace), params)
            .await
    }

    /// The events of one object, the oldest first.
    pub(crate) async fn events(&self, kind: &'static Kind, namespace: &str, fields: &str) -> Result<Vec<Value>, Error> {
        let params = ListParams::default().fields(fields);
        let events = self
            .pages(
                &self.api(kind, Some(namespace)),
                Attempt::list(kind, Some(namespace)),
                params,
            )
            .await?;
        let mut events: Vec<Value> = events
            .into_iter()
            .map(|event| {
                let mut data = event.data;
                data["metadata"] = serde_json::to_value(event.metadata).unwrap_or_default();
                data
            })
            .collect();
        let at = |event: &Value| {
            let times = [
                &event["lastTimestamp"],
                &event["eventTime"],
                &event["metadata"]["creationTimestamp"],
            ];
            let time = times.into_iter().find_map(Value::as_str);
            time.unwrap_or_default().to_owned()
        };
        events.sort_by_key(at);
        Ok(events)
    }

    /// Writes a merge patch: members that it doesn't name stay, whoever wrote them.
    pub(crate) async fn merge(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        change: &Value,
    ) -> Result<DynamicObject, Error> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = self
            .api(kind, Some(namespace))
            .patch(name, &params, &Patch::Merge(change))
            .await;
        patched.map_err(|error| self.failed(Attempt::named("patch", kind, Some(namespace), name), &error))
    }
}

/// Whether an object may be called so: lower-case letters, digits, `-` and `.`, 253 at most, letters or digits at both ends.
pub fn is_object_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253 && name.chars().all(inner) && ends(name.chars().next()) && ends(name.chars().next_back())
}
