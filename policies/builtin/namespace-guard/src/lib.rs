//! Built-in policy `namespace-guard`: a namespace in which the service can't come to run.
//!
//! Three things stop a service without a word at `kubectl apply`. KServe's own webhooks pass over the namespace, so that no Pod gets its model. A ResourceQuota or
//! LimitRange refuses the Pods, or Pod Security does; then a ReplicaSet tries for ever, and only its events say why. This policy reads the live webhook
//! configuration, quotas, limits and the namespace's labels, works out the Pod that KServe would make of each component, and refuses what certainly fails.
//! What may change by itself, or may be mended by another webhook, is a warning. What can't be read is never a reason to refuse.

mod initializer;
mod limits;
mod pod;
mod pods;
mod quota;
mod security;
mod speak;
mod webhooks;

use serde::Deserialize;
use tidewaiter_policy::{
    Policy, Request, Verdict, cluster,
    core::{
        document::Document,
        service::{AsWritten, Component, Service, ServiceKind},
    },
};

use crate::speak::Finding;
use crate::webhooks::{Labels, Webhooks};

/// The policy.
pub struct NamespaceGuard;

/// What the admin may set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// A namespace that KServe's webhooks pass over. Default: a service with a model is refused.
    pub webhooks: Act,
    /// The name of KServe's MutatingWebhookConfiguration. Default: `inferenceservice.serving.kserve.io`, as KServe's manifests and charts have it.
    pub webhook_configuration: Option<String>,
    /// Quotas and limits of the namespace. Default: what can never be made is refused.
    pub quota: Act,
    /// What the namespace's Pod Security level forbids. Default: what asks for it is refused.
    pub pod_security: Act,
    /// Whether something else adds to Pods what the level `restricted` wants said in each. Default: maybe.
    pub security_added: Added,
    /// Whether something else than a LimitRange adds to Pods the requests and limits that a quota wants said. Default: maybe.
    pub resources_added: Added,
}

/// What happens to a service that can't come to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Refused.
    #[default]
    Deny,
    /// Admitted with a warning.
    Warn,
    /// Not looked at.
    Off,
}

/// Whether another policy engine, or OpenShift, adds to Pods what isn't said in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Added {
    /// It may: what is missing is a warning.
    #[default]
    Maybe,
    /// It doesn't: what is missing is refused.
    Never,
}

impl Policy for NamespaceGuard {
    type Settings = Settings;
    const NAME: &'static str = "namespace-guard";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Refuses a service that its namespace would not let run: KServe's webhooks, quotas, limits, Pod Security";

    const OBJECTS: &'static [(&'static str, &'static str)] = &[
        (webhooks::API_VERSION, webhooks::KIND),
        ("v1", "ResourceQuota"),
        ("v1", "LimitRange"),
        (initializer::API_VERSION, initializer::KIND),
    ];

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"webhooks":{"enum":["deny","warn","off"],"default":"deny"},"webhookConfiguration":{"type":"string","minLength":1,"default":"inferenceservice.serving.kserve.io"},"quota":{"enum":["deny","warn","off"],"default":"deny"},"podSecurity":{"enum":["deny","warn","off"],"default":"deny"},"securityAdded":{"enum":["maybe","never"],"default":"maybe"},"resourcesAdded":{"enum":["maybe","never"],"default":"maybe"}}}"#,
        )
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        // What can't be read here KServe's own schema refuses, in better words. Of an LLMInferenceService's Pods too little stands in it.
        let Ok(service) = Service::parse(&request.kind, &request.object) else {
            return Verdict::admit();
        };
        if service.kind() != ServiceKind::InferenceService || service.is_model_mesh() {
            return Verdict::admit();
        }
        let Some(written) = AsWritten::<pod::Component>::parse(&request.object) else {
            return Verdict::admit();
        };
        let labels: Labels = cluster::namespace_labels()
            .into_iter()
            .map(|label| (label.key, label.value))
            .collect();
        let verdict = webhooks_of_kserve(request, &service, &written, &labels, settings);
        pods::review(request, &service, &written, &labels, settings, verdict)
    }
}

tidewaiter_policy::export!(NamespaceGuard);

/// What KServe's own webhooks miss here.
fn webhooks_of_kserve(
    request: &Request,
    service: &Service<'_>,
    written: &AsWritten<pod::Component>,
    labels: &Labels,
    settings: &Settings,
) -> Verdict {
    let verdict = Verdict::admit();
    let by_webhook = service
        .components()
        .iter()
        .filter_map(|component| Some((component, model_by_webhook(component)?)));
    let by_webhook: Vec<_> = by_webhook.collect();
    let old = service
        .components()
        .iter()
        .filter_map(|component| component.implementation.as_ref())
        .find(|implementation| !["model", "containers", "art"].contains(&implementation.field));
    if settings.webhooks == Act::Off || (by_webhook.is_empty() && old.is_none()) {
        return verdict;
    }
    let configuration = settings.webhook_configuration.as_deref();
    let configuration = configuration.unwrap_or(webhooks::CONFIGURATION);
    let Some(webhooks) = Webhooks::live(configuration) else {
        return verdict;
    };
    let mut verdict = match (old, webhooks.services_skipped(labels)) {
        (Some(old), Some(label)) => verdict.warn(speak::line(&format!(
            "KServe's defaulter passes over this namespace ({label}): {} is not rewritten to model",
            old.field
        ))),
        _ => verdict,
    };
    if by_webhook.is_empty() {
        return verdict;
    }
    if !webhooks.has_pod_mutator() {
        return verdict.warn(speak::line(&format!(
            "no Pod gets its model: KServe's webhook is not (yet) in MutatingWebhookConfiguration {configuration}"
        )));
    }
    for (component, pointer) in by_webhook {
        let pod_labels = pod_labels(request, component, written);
        if let Some(skipped) = webhooks.pods_skipped(labels, &pod_labels) {
            verdict = Finding {
                code: "skipped-by-kserve",
                certain: true,
                pointer,
                message: format!(
                    "{pointer}: no Pod of the {} in namespace {} would get its model, since KServe's webhook {} passes it over: {}. The server would end with \
                     \"No such file or directory: '/mnt/models'\". Deploy into another namespace, or have an admin mend the label or the webhook's selector",
                    component.name(),
                    request.namespace,
                    skipped.webhook,
                    skipped.because,
                ),
                line: format!("no Pod gets its model: KServe's webhook passes over it: {}", skipped.because),
            }
            .said(settings.webhooks, verdict);
        }
    }
    verdict
}

/// The labels that a component's Pods are known to get: the service's, and over them the component's.
fn pod_labels(request: &Request, component: &Component<'_>, written: &AsWritten<pod::Component>) -> Labels {
    let object = Document::new(&request.object).ok();
    let labels = object
        .as_ref()
        .and_then(|object| object.get_in(&["metadata", "labels"]));
    let mut labels: Labels = labels
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let own = written.get(component.role).and_then(|own| own.labels.clone());
    labels.extend(own.into_iter().flatten());
    labels
}

/// Where a model is said that only KServe's webhook for Pods brings. Those of `storageUris` are in the Deployment already.
fn model_by_webhook<'a>(component: &'a Component<'_>) -> Option<&'a str> {
    if component.storage_uris {
        return None;
    }
    let model = component.models.first().map(|model| model.pointer.as_str());
    model.or_else(|| {
        let implementation = component.implementation.as_ref()?;
        let by_path = implementation.storage.as_ref()?.path.is_some();
        (by_path || implementation.uri_from_elsewhere).then_some(implementation.pointer.as_str())
    })
}

#[cfg(test)]
mod tests;
