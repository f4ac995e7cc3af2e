//! Models come from these stores alone.
//!
//! `model-stores.yaml` beside this crate is the same rule for Gatekeeper. Its parameters are settings here; where a service says its model, in old shapes and new,
//! in canaries, in an `LLMInferenceService` and its adapters, the SDK's view knows.

use serde::Deserialize;
use tidewaiter_policy::core::service::Service;
use tidewaiter_policy::{Policy, Request, Verdict};

/// The policy.
pub struct ModelStores;

/// What the admin sets.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What a model's URI begins with, such as `s3://models/`.
    prefixes: Vec<String>,
}

impl Policy for ModelStores {
    type Settings = Settings;
    const NAME: &'static str = "model-stores";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "Models come from the stores of the house alone";

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"required":["prefixes"],"properties":{"prefixes":{"type":"array","minItems":1,"items":{"type":"string"}}}}"#,
        )
    }

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.prefixes.is_empty() {
            return Err("settings of model-stores: prefixes is empty, and no model could be served; list at least one, such as s3://models/".to_owned());
        }
        Ok(())
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        let Ok(service) = Service::parse(&request.kind, &request.object) else {
            return Verdict::admit();
        };
        let allowed = |uri: &str| settings.prefixes.iter().any(|prefix| uri.starts_with(prefix));
        let mut models = service.components().iter().flat_map(|component| &component.models);
        match models.find(|model| !allowed(&model.uri)) {
            None => Verdict::admit(),
            Some(model) => Verdict::admit().deny(
                "model-store",
                format!(
                    "{}: {} is in none of the stores that models may come from: {}",
                    model.pointer,
                    model.uri,
                    settings.prefixes.join(", ")
                ),
                Some(&model.pointer),
            ),
        }
    }
}

tidewaiter_policy::export!(ModelStores);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidewaiter_policy::testing::{World, create};

    use super::*;

    fn review(kind: &str, spec: &Value) -> Verdict {
        let settings: Settings =
            serde_json::from_value(json!({"prefixes": ["s3://models/", "hf://our-organisation/"]})).unwrap();
        let object = json!({"kind": kind, "metadata": {"name": "fraud"}, "spec": spec});
        World::new().review_with::<ModelStores>(&create(&object), &settings)
    }

    #[test]
    fn models_of_the_house_are_let_through() {
        for spec in [
            json!({"predictor": {"sklearn": {"storageUri": "s3://models/fraud"}}}),
            json!({"predictor": {"model": {"storageUri": "hf://our-organisation/bert"}}}),
            json!({"predictor": {"containers": [{"image": "x"}]}}),
        ] {
            assert_eq!(review("InferenceService", &spec), Verdict::admit(), "{spec}");
        }
    }

    #[test]
    fn others_are_refused_wherever_they_stand() {
        let custom = json!({"predictor": {"containers": [{"env": [{"name": "STORAGE_URI", "value": "gs://x/m"}]}]}});
        for (kind, spec, pointer) in [
            (
                "InferenceService",
                json!({"predictor": {"sklearn": {"storageUri": "gs://x/m"}}}),
                "/spec/predictor/sklearn/storageUri",
            ),
            (
                "InferenceService",
                json!({"predictor": {"storageUris": [{"uri": "s3://models/a"}, {"uri": "gs://x/m"}]}}),
                "/spec/predictor/storageUris/1/uri",
            ),
            ("InferenceService", custom, "/spec/predictor/containers/0/env/0/value"),
            (
                "LLMInferenceService",
                json!({"model": {"uri": "gs://x/m"}}),
                "/spec/model/uri",
            ),
        ] {
            let denial = review(kind, &spec).denial.unwrap();
            assert_eq!(
                denial.message,
                format!(
                    "{pointer}: gs://x/m is in none of the stores that models may come from: s3://models/, hf://our-organisation/"
                )
            );
        }
    }

    #[test]
    fn no_stores_at_all_are_a_slip() {
        assert!(ModelStores::check(&Settings::default()).is_err());
    }
}
