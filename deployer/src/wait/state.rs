//! What is known of a service at one moment.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The container that KServe takes for the server.
pub(super) const SERVER: &str = "kserve-container";
/// How the kubelet says that nothing listens on a port.
pub(super) const REFUSED: &str = ": connect: connection refused";

/// A service and all that tells of it, as the API server has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The InferenceService.
    pub service: Value,
    /// Its Pods.
    pub pods: Vec<Value>,
    /// Events about it and about what KServe made of it.
    pub events: Vec<Value>,
    /// What containers wrote, by Pod and container: the end of the last run that ended, or of the one that runs.
    pub logs: BTreeMap<(String, String), String>,
    /// The namespace has the label `control-plane`, by which KServe passes over its Pods.
    pub is_control_plane: bool,
    /// How long nothing has moved, in seconds.
    pub quiet: u64,
    /// Since when it is waited for, by the API server's clock: what failed before may have been mended by then.
    pub since: Option<jiff::Timestamp>,
    /// Names of Pods that were there when a change of the service was sent, as long as others may still come in their place: what they say is no word on the change.
    pub before: BTreeSet<String>,
}

/// A label, an annotation, a field: text or nothing.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl State {
    /// The service's name.
    pub fn name(&self) -> &str {
        text(&self.service["metadata"]["name"])
    }

    /// The service's namespace.
    pub fn namespace(&self) -> &str {
        text(&self.service["metadata"]["namespace"])
    }

    /// Where the model lies, as the predictor says it, without a query: that may be what opens the store.
    pub fn uri(&self) -> &str {
        let predictor = &self.service["spec"]["predictor"];
        let model = text(&predictor["model"]["storageUri"]);
        let env = predictor["containers"][0]["env"].as_array().into_iter().flatten();
        let mut env = env.filter(|variable| variable["name"] == "STORAGE_URI");
        let uri = match model {
            "" => env.next().map_or("", |variable| text(&variable["value"])),
            model => model,
        };
        uri.split('?').next().unwrap_or(uri)
    }

    /// Whether the controller has worked on the service as it stands.
    pub fn is_observed(&self) -> bool {
        let generation = &self.service["metadata"]["generation"];
        let observed = &self.service["status"]["observedGeneration"];
        match (generation.as_i64(), observed.as_i64()) {
            (Some(generation), Some(observed)) => observed >= generation,
            // A service whose first reconciliation failed has no such field.
            (_, None) => false,
            (None, _) => true,
        }
    }

    /// Whether what the controller says is of the service as it was before.
    pub(super) fn is_behind(&self) -> bool {
        let generation = self.service["metadata"]["generation"].as_i64();
        let observed = self.service["status"]["observedGeneration"].as_i64();
        observed.is_some_and(|observed| generation.is_some_and(|generation| observed < generation))
    }

    /// A condition's status, reason and message.
    pub fn condition(&self, kind: &str) -> Option<(&str, &str, &str)> {
        let conditions = self.service["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        Some((text(&found["status"]), text(&found["reason"]), text(&found["message"])))
    }

    /// What the conditions that aren't true say.
    pub(super) fn unmet(&self) -> Vec<String> {
        let conditions = self.service["status"]["conditions"].as_array();
        let unmet = conditions
            .into_iter()
            .flatten()
            .filter(|condition| condition["status"] != "True");
        let mut said: Vec<String> = Vec::new();
        for condition in unmet {
            let words = [text(&condition["message"]), text(&condition["reason"])];
            // Several of a service's say the same.
            if let Some(words) = words.into_iter().find(|words| !words.is_empty())
                && !said.iter().any(|before| before == words)
            {
                said.push(words.to_owned());
            }
        }
        said
    }

    /// The Pods that are to stay: of each component those of its newest template, without such as are being deleted.
    pub fn newest_pods(&self) -> Vec<&Value> {
        let mut newest: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        let hash = |pod: &'_ Value| -> String {
            let labels = &pod["metadata"]["labels"];
            let hash = text(&labels["pod-template-hash"]);
            if hash.is_empty() {
                text(&labels["serving.knative.dev/revision"]).to_owned()
            } else {
                hash.to_owned()
            }
        };
        for pod in &self.pods {
            let component = text(&pod["metadata"]["labels"]["component"]);
            let created = text(&pod["metadata"]["creationTimestamp"]);
            let labels = &pod["metadata"]["labels"];
            let template = match text(&labels["pod-template-hash"]) {
                "" => text(&labels["serving.knative.dev/revision"]),
                hash => hash,
            };
            let entry = newest.entry(component).or_insert((created, template));
            if created >= entry.0 {
                *entry = (created, template);
            }
        }
        self.pods
            .iter()
            .filter(|pod| {
                let component = text(&pod["metadata"]["labels"]["component"]);
                let is_newest = newest
                    .get(component)
                    .is_some_and(|(_, template)| *template == hash(pod));
                is_newest && pod["metadata"]["deletionTimestamp"].is_null()
            })
            .collect()
    }

    /// The messages of events with this reason about something of this kind, the newest last.
    pub(super) fn events<'s>(&'s self, kind: &'s str, reason: &'s str) -> impl DoubleEndedIterator<Item = &'s str> {
        self.events
            .iter()
            .filter(move |event| event["involvedObject"]["kind"] == kind && event["reason"] == reason)
            .map(|event| text(&event["message"]))
    }

    /// The events about questions that this Pod's server was asked in vain, the newest last.
    pub(super) fn unhealthy<'s>(&'s self, pod: &'s str) -> impl DoubleEndedIterator<Item = &'s Value> {
        self.events
            .iter()
            .filter(move |event| event["involvedObject"]["name"] == pod && event["reason"] == "Unhealthy")
    }

    /// How often nothing listened where this Pod's server was asked.
    pub(super) fn refusals(&self, pod: &str) -> u64 {
        self.unhealthy(pod)
            .filter(|event| text(&event["message"]).contains(REFUSED))
            .map(|event| event["count"].as_u64().unwrap_or(1))
            .sum()
    }
}

/// The statuses of a Pod's containers, those that run before the others first.
pub(super) fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
}

/// How a container's last run ended; none where it has not ended yet.
pub(super) fn ended(status: &Value) -> Option<&Value> {
    [&status["state"]["terminated"], &status["lastState"]["terminated"]]
        .into_iter()
        .find(|terminated| !terminated.is_null())
}
