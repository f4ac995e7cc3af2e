//! Every service belongs to a team, loads an allowed model, and stays small.

use serde::Deserialize;
use tidewaiter_policy::{Policy, Request, Verdict, cluster};

/// The policy.
#[derive(Debug)]
pub struct HouseRules;

/// What the admin may set.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Models come from below one of these; none allows all.
    pub prefixes: Vec<String>,
    /// The most replicas of one service.
    pub max_replicas: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefixes: Vec::new(),
            max_replicas: 10,
        }
    }
}

/// What the policy looks at. The rest of the object is passed over, not kept.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Service<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Spec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    labels: Labels<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels<'a> {
    #[serde(borrow)]
    team: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec<'a> {
    #[serde(borrow)]
    predictor: Option<Predictor<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Predictor<'a> {
    min_replicas: Option<i64>,
    max_replicas: i64,
    #[serde(borrow)]
    model: Option<Model<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Model<'a> {
    #[serde(borrow)]
    storage_uri: Option<std::borrow::Cow<'a, str>>,
}

impl Policy for HouseRules {
    type Settings = Settings;
    const NAME: &'static str = "house-rules";
    const VERSION: &'static str = "0.1.0";
    const SUMMARY: &'static str = "Every service belongs to a team, loads an allowed model, and stays small.";

    fn settings_schema() -> Option<&'static str> {
        Some(include_str!("settings.json"))
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        let service: Service<'_> = serde_json::from_str(&request.object).unwrap_or_default();
        let mut verdict = Verdict::admit();
        if service.metadata.labels.team.is_none() {
            let labels = cluster::namespace_labels();
            verdict = match labels.into_iter().find(|label| label.key == "team") {
                Some(team) => verdict.fill(
                    "/metadata/labels/team",
                    team.value,
                    "the namespace belongs to this team",
                ),
                None => verdict.deny(
                    "no-team",
                    format!(
                        "{} belongs to no team; label it, or its namespace, with `team`",
                        request.name
                    ),
                    Some("/metadata/labels/team"),
                ),
            };
        }
        let Some(predictor) = service.spec.predictor else {
            return verdict;
        };
        let uri = predictor.model.and_then(|model| model.storage_uri);
        let prefixes = &settings.prefixes;
        if let Some(uri) = uri
            && !prefixes.is_empty()
            && !prefixes.iter().any(|prefix| uri.starts_with(prefix.as_str()))
        {
            verdict = verdict.deny(
                "model-not-allowed",
                format!("{uri} is not below {}; move the model there", prefixes.join(", ")),
                Some("/spec/predictor/model/storageUri"),
            );
        }
        if predictor.max_replicas > settings.max_replicas {
            verdict = verdict.deny(
                "too-many-replicas",
                format!(
                    "maxReplicas is {}, and {} is the most; ask for fewer",
                    predictor.max_replicas, settings.max_replicas
                ),
                Some("/spec/predictor/maxReplicas"),
            );
        }
        match predictor.min_replicas {
            Some(0) => verdict.warn("minReplicas is 0: the first request waits until the model is loaded"),
            Some(_) => verdict,
            None => verdict.fill(
                "/spec/predictor/minReplicas",
                1,
                "a model that is to answer needs a replica",
            ),
        }
    }
}

tidewaiter_policy::export!(HouseRules);
