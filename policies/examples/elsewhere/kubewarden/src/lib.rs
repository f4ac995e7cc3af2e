//! Few replicas with a GPU each.
//!
//! `original.rs` beside this crate is the same rule for Kubewarden. What is WebAssembly already stays so: settings and their check have the same place, and the
//! object is read by the SDK's view, which knows a GPU in every shape of a service.

use serde::Deserialize;
use tidewaiter_policy::core::service::{AsWritten, Service};
use tidewaiter_policy::{Policy, Request, Verdict};

/// The policy.
pub struct GpuReplicas;

/// What the admin sets.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// At least 1. Default: 2.
    max_replicas: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_replicas: 2 }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replicas {
    max_replicas: Option<i64>,
}

impl Policy for GpuReplicas {
    type Settings = Settings;
    const NAME: &'static str = "gpu-replicas";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "A service with a GPU has few replicas";

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"maxReplicas":{"type":"integer","minimum":1,"default":2}}}"#,
        )
    }

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.max_replicas < 1 {
            return Err(format!(
                "settings of gpu-replicas: maxReplicas is {}, and is at least 1",
                settings.max_replicas
            ));
        }
        Ok(())
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        let max = settings.max_replicas;
        let (Ok(service), Some(written)) = (
            Service::parse(&request.kind, &request.object),
            AsWritten::<Replicas>::parse(&request.object),
        ) else {
            return Verdict::admit();
        };
        let mut verdict = Verdict::admit();
        for component in service.components().iter().filter(|component| component.gpu) {
            let pointer = format!("{}/maxReplicas", component.pointer);
            let Some(written) = written.get(component.role) else {
                continue;
            };
            verdict = match written.max_replicas {
                Some(replicas) if replicas <= max => verdict,
                Some(replicas) => verdict.deny(
                    "gpu-replicas",
                    format!("{pointer} is {replicas}, and may be {max} with a GPU each"),
                    Some(&pointer),
                ),
                None => verdict.fill(&pointer, max, "as many as may have a GPU each"),
            };
        }
        verdict
    }
}

tidewaiter_policy::export!(GpuReplicas);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidewaiter_policy::testing::{World, create};

    use super::*;

    fn review(gpus: Value, replicas: Value) -> Verdict {
        let object = json!({"metadata": {"name": "chat"}, "spec": {"predictor": {
            "maxReplicas": replicas, "huggingface": {"resources": {"limits": {"nvidia.com/gpu": gpus}}},
        }}});
        World::new().review::<GpuReplicas>(&create(&object))
    }

    #[test]
    fn few_replicas_with_a_gpu_and_many_without_are_let_through() {
        assert_eq!(review(json!(1), json!(2)), Verdict::admit());
        assert_eq!(review(json!("0"), json!(9)), Verdict::admit());
    }

    #[test]
    fn many_with_a_gpu_are_refused() {
        let denial = review(json!(1), json!(3)).denial.unwrap();
        assert_eq!(
            denial.message,
            "/spec/predictor/maxReplicas is 3, and may be 2 with a GPU each"
        );
        assert_eq!(denial.path.as_deref(), Some("/spec/predictor/maxReplicas"));
    }

    #[test]
    fn what_the_original_refuses_for_its_silence_is_filled_in() {
        let filled = Verdict::admit().fill("/spec/predictor/maxReplicas", 2, "as many as may have a GPU each");
        assert_eq!(review(json!(1), json!(null)), filled);
    }

    #[test]
    fn no_replica_at_all_is_a_slip() {
        assert!(GpuReplicas::check(&Settings { max_replicas: 0 }).is_err());
    }
}
