//! What was deployed by whom from what, as a deploy writes it onto the service.

use serde::{Deserialize, Serialize};

use super::Deployed;

/// A JSON array of [`Deployment`], the newest first.
const ANNOTATION: &str = "tidewaiter.dev/history";

/// One deployment. What an older deploy didn't write is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    /// When, as RFC 3339 has it.
    pub at: String,
    /// By whom.
    pub by: String,
    /// From what, as the user wrote it.
    pub from: String,
    /// Where the model lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,
    /// What loads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// By which runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Of which release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// In which protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// The deploy itself put the model there: nobody else has a claim to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uploaded: bool,
}

/// A service's deployments, the newest first. Empty for one that others deployed, or whose history can't be read.
pub fn history(service: &Deployed) -> Vec<Deployment> {
    let text = service.annotation(ANNOTATION);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The models that deploys of this service put into a store, and that none of `others` is served from.
pub fn uploaded(service: &Deployed, others: &[Deployed]) -> Vec<String> {
    let mut uris: Vec<String> = Vec::new();
    for uri in history(service)
        .into_iter()
        .filter(|one| one.uploaded)
        .filter_map(|one| one.storage_uri)
    {
        if !uris.contains(&uri) {
            uris.push(uri);
        }
    }
    let own = |other: &&Deployed| other.name() != service.name() || other.namespace() != service.namespace();
    for other in others.iter().filter(own) {
        let of_history = history(other).into_iter().filter_map(|one| one.storage_uri);
        let used: Vec<String> = other.storage_uri().into_iter().chain(of_history).collect();
        uris.retain(|uri| !used.iter().any(|used| overlap(uri, used)));
    }
    uris
}

/// Whether one lies within the other.
fn overlap(one: &str, other: &str) -> bool {
    let folder = |uri: &str| format!("{}/", uri.trim_end_matches('/'));
    let (one, other) = (folder(one), folder(other));
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::deployed;
    use super::*;

    fn with_history(name: &str, history: Value, uri: &str) -> Deployed {
        deployed(json!({
            "metadata": {"name": name, "annotations": {ANNOTATION: history.to_string()}},
            "spec": {"predictor": {"model": {"storageUri": uri}}},
        }))
    }

    #[test]
    fn a_history_of_others_is_none() {
        assert_eq!(history(&deployed(json!({}))), []);
        assert_eq!(history(&with_history("a", json!("nonsense"), "s3://a/b")), []);
        let one = with_history(
            "a",
            json!([{"at": "t", "by": "eve", "from": "./model", "later": 1}]),
            "s3://a/b",
        );
        assert_eq!(history(&one)[0].by, "eve");
    }

    #[test]
    fn what_others_are_served_from_is_not_ours_to_remove() {
        let entry = |uri: &str, uploaded: bool| json!({"storageUri": uri, "uploaded": uploaded});
        let all = json!([
            entry("s3://a/one", true),
            entry("s3://a/two", true),
            entry("s3://a/three", false),
            entry("s3://a/one", true),
        ]);
        let service = with_history("a", all, "s3://a/one");
        assert_eq!(
            uploaded(&service, std::slice::from_ref(&service)),
            ["s3://a/one", "s3://a/two"]
        );
        let other = with_history("b", json!([]), "s3://a/one/");
        assert_eq!(uploaded(&service, &[other]), ["s3://a/two"]);
        let below = with_history("b", json!([]), "s3://a/two/model");
        assert_eq!(uploaded(&service, &[below]), ["s3://a/one"]);
        let before = with_history("b", json!([entry("s3://a/two", false)]), "s3://a/other");
        assert_eq!(uploaded(&service, &[before]), ["s3://a/one"]);
    }
}
