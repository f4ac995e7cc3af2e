//! What was deployed by whom from what, as a deploy wrote it onto the service.

use serde::Serialize;

use super::Deployed;
use crate::source::without_token;
use crate::submit::{Entry, entries};

/// A deployment that is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// As it was written down.
    #[serde(flatten)]
    pub entry: Entry,
    /// Of the newest one: another model stands in the service by now, which no deploy brought, such as by a promotion, or by kubectl.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub changed_since: bool,
}

/// A service's deployments, the newest first. Empty for one that others deployed, or whose history can't be read.
pub fn history(service: &Deployed) -> Vec<Deployment> {
    let uri = service.storage_uri().map(|uri| without_token(&uri));
    let entries = entries(service.object()).into_iter().enumerate();
    let deployments = entries.map(|(index, entry)| Deployment {
        // An entry without a URI is of an image that brings its model.
        changed_since: index == 0 && entry.storage_uri.is_some() && entry.storage_uri != uri,
        entry,
    });
    deployments.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::deployed;
    use super::*;
    use crate::submit::HISTORY;

    fn told(uri: &str, entries: &serde_json::Value) -> Vec<Deployment> {
        history(&deployed(json!({
            "metadata": {"annotations": {HISTORY: entries.to_string()}},
            "spec": {"predictor": {"model": {"storageUri": uri}}},
        })))
    }

    #[test]
    fn a_model_that_came_without_a_deploy_is_told_so() {
        let entry = |uri: &str| json!({"at": "2026-06-01T12:00:00Z", "by": "ann", "from": uri, "storageUri": uri});
        let entries = json!([entry("s3://m/2"), entry("s3://m/1")]);
        let changed = |uri: &str| {
            let deployments = told(uri, &entries);
            deployments.into_iter().map(|one| one.changed_since).collect::<Vec<_>>()
        };
        assert_eq!(changed("s3://m/2"), [false, false]);
        // As after `tidewaiter promote` of a canary.
        assert_eq!(changed("s3://m/3"), [true, false]);
        assert_eq!(json!(told("s3://m/3", &entries))[0]["changedSince"], true);
        assert_eq!(json!(told("s3://m/2", &entries))[0], entry("s3://m/2"));
        // The token of a URI isn't on record.
        let signed = json!([entry("https://m.blob.core.windows.net/a/b?…")]);
        assert!(!told("https://m.blob.core.windows.net/a/b?sig=x", &signed)[0].changed_since);
        let own = json!([{"at": "2026-06-01T12:00:00Z", "by": "ann", "from": "an/image"}]);
        assert!(!told("s3://m/2", &own)[0].changed_since);
    }
}
