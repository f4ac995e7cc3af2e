//! KServe's own webhooks: whether they see what is in this namespace.
//!
//! Source: `install/*/kserve.yaml` and `pkg/webhook/admission/pod/mutator.go` of KServe 0.15.2 and 0.20.0: the webhook whose path is `/mutate-pods` puts the
//! model into a Pod (an init container, a volume, a modelcar); the defaulter rewrites the old per-framework fields into `model`.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidewaiter_policy::{cluster, core::selector::LabelSelector};

pub(crate) const API_VERSION: &str = "admissionregistration.k8s.io/v1";
pub(crate) const KIND: &str = "MutatingWebhookConfiguration";
/// As KServe's manifests and charts name it.
pub(crate) const CONFIGURATION: &str = "inferenceservice.serving.kserve.io";
const POD_MUTATOR: &str = "/mutate-pods";
const DEFAULTER: &str = "inferenceservice.kserve-webhook-server.defaulter";

/// Labels of a namespace or an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// KServe's webhooks that this policy looks at, as they stand in the cluster.
#[derive(Debug, Default)]
pub(crate) struct Webhooks {
    pod_mutator: Option<Webhook>,
    defaulter: Option<Webhook>,
    /// The configuration's name, for messages.
    configuration: String,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    #[serde(default)]
    webhooks: Vec<Webhook>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    name: String,
    #[serde(default)]
    client_config: ClientConfig,
    #[serde(default)]
    namespace_selector: Option<LabelSelector>,
    #[serde(default)]
    object_selector: Option<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientConfig {
    service: Option<ServiceReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceReference {
    path: Option<String>,
}

impl Webhook {
    fn mutates_pods_for_kserve(&self) -> bool {
        let path = self
            .client_config
            .service
            .as_ref()
            .and_then(|service| service.path.as_deref());
        path == Some(POD_MUTATOR) || self.name.ends_with("kserve-webhook-server.pod-mutator")
    }
}

/// Why a webhook is not asked about an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// The configuration and the webhook in it.
    pub(crate) webhook: String,
    /// The label that decides, as people write it: "label control-plane", "no label team".
    pub(crate) because: String,
}

impl Webhooks {
    /// Asks the cluster for the configuration of this name. None where it can't be known: nothing is said of what can't be seen. That none is there means little: it
    /// may have another name, and where files stand in for a cluster there are no webhooks at all.
    pub(crate) fn live(name: &str) -> Option<Self> {
        let found = cluster::get_object(API_VERSION, KIND, name).ok()??;
        Self::read(name, &found)
    }

    /// None where it can't be read.
    fn read(name: &str, text: &str) -> Option<Self> {
        let configuration: Configuration = serde_json::from_str(text).ok()?;
        let mut found = Self {
            configuration: name.to_owned(),
            ..Self::default()
        };
        for webhook in configuration.webhooks {
            if webhook.mutates_pods_for_kserve() {
                found.pod_mutator = Some(webhook);
            } else if webhook.name == DEFAULTER {
                found.defaulter = Some(webhook);
            }
        }
        Some(found)
    }

    /// Whether there is a webhook that puts models into Pods.
    pub(crate) fn has_pod_mutator(&self) -> bool {
        self.pod_mutator.is_some()
    }

    /// Why no Pod with these labels, in a namespace with those, gets its model; none where it does, as far as anybody can see. KServe adds labels of its own to a
    /// Pod, so that a label that isn't here may be there.
    pub(crate) fn pods_skipped(&self, namespace: &Labels, pod: &Labels) -> Option<Skipped> {
        let webhook = self.pod_mutator.as_ref()?;
        let because = webhook
            .namespace_selector
            .as_ref()
            .and_then(|selector| excluded(selector, namespace, true))
            .map(|label| format!("the namespace has {label}"))
            .or_else(|| {
                let label = webhook
                    .object_selector
                    .as_ref()
                    .and_then(|selector| excluded(selector, pod, false))?;
                Some(format!("its Pods have {label}"))
            })?;
        Some(Skipped {
            webhook: format!(
                "{}, in MutatingWebhookConfiguration {}",
                webhook.name, self.configuration
            ),
            because,
        })
    }

    /// The label for which KServe's defaulter leaves the services of a namespace as they are.
    pub(crate) fn services_skipped(&self, namespace: &Labels) -> Option<String> {
        excluded(self.defaulter.as_ref()?.namespace_selector.as_ref()?, namespace, true)
    }
}

/// The label because of which a selector doesn't match; none where it does. Where not all labels are known, one that is missing says nothing.
fn excluded(selector: &LabelSelector, labels: &Labels, all_known: bool) -> Option<String> {
    let said = |key: &str| match labels.get(key) {
        Some(value) if value.is_empty() => format!("the label {key}"),
        Some(value) => format!("the label {key}={value}"),
        None => format!("no label {key}"),
    };
    let decides = |key: &str| all_known || labels.contains_key(key);
    let by_label = selector
        .match_labels
        .iter()
        .find(|(key, value)| decides(key) && labels.get(*key) != Some(value));
    if let Some((key, _)) = by_label {
        return Some(said(key));
    }
    let mut by_expression = selector.match_expressions.iter();
    by_expression
        .find(|requirement| decides(&requirement.key) && !requirement.matches(labels))
        .map(|requirement| said(&requirement.key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// As KServe 0.15 to 0.20 install it.
    fn shipped() -> Value {
        json!({
            "webhooks": [
                {"name": DEFAULTER, "clientConfig": {"service": {"path": "/mutate-serving-kserve-io-v1beta1-inferenceservice"}}},
                {
                    "name": "inferenceservice.kserve-webhook-server.pod-mutator",
                    "clientConfig": {"service": {"name": "kserve-webhook-server-service", "path": "/mutate-pods"}, "caBundle": "Cg=="},
                    "namespaceSelector": {"matchExpressions": [{"key": "control-plane", "operator": "DoesNotExist"}]},
                    "objectSelector": {"matchExpressions": [{"key": "serving.kserve.io/inferenceservice", "operator": "Exists"}]},
                },
            ],
        })
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn read(configuration: &Value) -> Webhooks {
        Webhooks::read(CONFIGURATION, &configuration.to_string()).unwrap()
    }

    #[test]
    fn a_namespace_labelled_control_plane_is_skipped_whatever_the_labels_value() {
        let webhooks = read(&shipped());
        assert_eq!(webhooks.pods_skipped(&labels(&[("team", "a")]), &labels(&[])), None);
        for (value, because) in [
            ("", "the namespace has the label control-plane"),
            ("kserve", "the namespace has the label control-plane=kserve"),
        ] {
            let skipped = webhooks
                .pods_skipped(&labels(&[("control-plane", value)]), &labels(&[]))
                .unwrap();
            assert_eq!(skipped.because, because);
            assert_eq!(
                skipped.webhook,
                "inferenceservice.kserve-webhook-server.pod-mutator, in MutatingWebhookConfiguration inferenceservice.serving.kserve.io"
            );
        }
    }

    #[test]
    fn the_live_selector_decides_and_not_what_kserve_ships() {
        let mut changed = shipped();
        changed["webhooks"][1]["namespaceSelector"] = json!({"matchLabels": {"kserve": "enabled"}});
        changed["webhooks"][1]["name"] = json!("pods.odh.example");
        let webhooks = read(&changed);
        let skipped = |pairs: &[(&str, &str)]| {
            let skipped = webhooks.pods_skipped(&labels(pairs), &labels(&[]));
            skipped.map(|skipped| skipped.because)
        };
        assert_eq!(skipped(&[("control-plane", "x"), ("kserve", "enabled")]), None);
        assert_eq!(skipped(&[]).unwrap(), "the namespace has no label kserve");
        assert_eq!(
            skipped(&[("kserve", "off")]).unwrap(),
            "the namespace has the label kserve=off"
        );
    }

    #[test]
    fn a_label_of_pods_decides_only_where_it_is_known() {
        let mut changed = shipped();
        changed["webhooks"][1]["objectSelector"] = json!({"matchExpressions": [
            {"key": "serving.kserve.io/inferenceservice", "operator": "Exists"},
            {"key": "legacy", "operator": "DoesNotExist"},
        ]});
        let webhooks = read(&changed);
        assert_eq!(webhooks.pods_skipped(&labels(&[]), &labels(&[("app", "x")])), None);
        let skipped = webhooks.pods_skipped(&labels(&[]), &labels(&[("legacy", "")])).unwrap();
        assert_eq!(skipped.because, "its Pods have the label legacy");
    }

    #[test]
    fn a_cluster_without_the_webhook_is_told_from_one_that_cannot_be_seen() {
        assert!(!read(&json!({})).has_pod_mutator());
        assert!(Webhooks::read(CONFIGURATION, "{").is_none());
        assert_eq!(
            read(&shipped()).services_skipped(&labels(&[("control-plane", "")])),
            None
        );
    }

    proptest! {
        #[test]
        fn what_is_excluded_is_what_kubernetes_would_not_select(
            wanted in proptest::collection::btree_map("[ab]", "[xy]", 0..3),
            expressions in proptest::collection::vec(("[abc]", 0_usize..4, proptest::collection::vec("[xy]", 0..3)), 0..3),
            labels in proptest::collection::btree_map("[abc]", "[xy]", 0..3),
        ) {
            let expressions: Vec<_> = expressions
                .into_iter()
                .map(|(key, operator, values)| json!({
                    "key": key, "operator": (["In", "NotIn", "Exists", "DoesNotExist"][operator]), "values": values,
                }))
                .collect();
            let selector: LabelSelector =
                serde_json::from_value(json!({"matchLabels": wanted, "matchExpressions": expressions})).unwrap();
            prop_assert_eq!(excluded(&selector, &labels, true).is_none(), selector.matches(&labels));
            // Knowing less never says more.
            prop_assert!(excluded(&selector, &labels, false).is_none() || !selector.matches(&labels));
        }
    }
}
