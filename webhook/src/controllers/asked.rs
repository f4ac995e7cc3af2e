//! Which services API servers ask the webhook about.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{Api, Client};
use tidewaiter_core::selector::LabelSelector;

/// Each webhook's selectors of namespaces and objects.
pub(super) struct Asked {
    selectors: Vec<(LabelSelector, LabelSelector)>,
    /// When the configuration was made, in seconds since 1970: whatever is older was not asked about.
    pub(super) since: i64,
}

impl Asked {
    /// As the configuration has it now.
    pub(super) async fn read(client: &Client, configuration: &str) -> Result<Self, String> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let configuration = api.get(configuration).await.map_err(|error| error.to_string())?;
        let since = configuration.metadata.creation_timestamp;
        let selectors = configuration.webhooks.into_iter().flatten().map(|webhook| {
            let selector = |selector: Option<_>| -> Result<LabelSelector, String> {
                let selector = serde_json::to_value(selector.unwrap_or_default()).map_err(|error| error.to_string())?;
                serde_json::from_value(selector).map_err(|error| error.to_string())
            };
            Ok((
                selector(webhook.namespace_selector)?,
                selector(webhook.object_selector)?,
            ))
        });
        Ok(Self {
            selectors: selectors.collect::<Result<_, String>>()?,
            since: since.map(|since| since.0.as_second()).unwrap_or_default(),
        })
    }

    /// About each.
    #[cfg(test)]
    pub(super) fn of_all() -> Self {
        let all = || LabelSelector::default();
        Self {
            selectors: vec![(all(), all())],
            since: 0,
        }
    }

    /// Whether any of them is asked about an object with these labels, in a namespace with those.
    pub(super) fn about(&self, namespace: &BTreeMap<String, String>, object: &BTreeMap<String, String>) -> bool {
        let mut webhooks = self.selectors.iter();
        webhooks.any(|(namespaces, objects)| namespaces.matches(namespace) && objects.matches(object))
    }
}
