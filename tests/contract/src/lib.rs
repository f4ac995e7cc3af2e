//! Asks everything that a policy may ask by the contract 0.1.0, and answers with everything that a verdict may hold.

use serde::Deserialize;
use tidewaiter_policy::log::{self, Level};
use tidewaiter_policy::{Delivery, Operation, Policy, Request, Verdict, cluster, runtimes, storage};

/// See `README.md`.
pub struct Everything;

/// What the admin may set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Refuse the object.
    #[serde(default)]
    pub deny: bool,
}

impl Policy for Everything {
    type Settings = Settings;
    const NAME: &'static str = "everything";
    const VERSION: &'static str = "0.1.0";
    const SUMMARY: &'static str = "Uses all of the contract 0.1.0.";
    const OBJECTS: &'static [(&'static str, &'static str)] = &[("v1", "ConfigMap")];

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"deny":{"type":"boolean","default":false}}}"#,
        )
    }

    fn check(settings: &Settings) -> Result<(), String> {
        log::write(Level::Debug, if settings.deny { "refuses" } else { "admits" });
        Ok(())
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        const URI: &str = "s3://models/fraud";
        let names = ["mlflow".to_owned()];
        let mut verdict = Verdict::admit().warn(format!(
            "{} {} {} {}/{} by {} in {} groups, {} filled, {} withheld, old: {}",
            if request.operation == Operation::Create {
                "create"
            } else {
                "update"
            },
            request.api_version,
            request.kind,
            request.namespace,
            request.name,
            request.username,
            request.groups.len(),
            request.filled.len(),
            request.withheld.len(),
            request.old_object.is_some(),
        ));
        let backend = match storage::resolve(URI) {
            storage::Resolution::Served(served) => served.backend,
            other => return verdict.warn(format!("{other:?}")),
        };
        let answers = [
            format!("annotation {:?}", storage::secret_annotation()),
            format!("brought {:?}", storage::brought_credentials(Some("sa"), None)),
            format!("stat {:?}", storage::stat(URI).map(|object| object.size)),
            format!(
                "list {:?}",
                storage::list_objects(URI, 9).map(|listing| listing.objects.len())
            ),
            format!(
                "folder {:?}",
                storage::list_folder(URI, 9).map(|listing| listing.objects.len())
            ),
            format!("read {:?}", storage::read(URI, 1, 2)),
            format!("supporting {}", runtimes::supporting("mlflow", Some("2")).len()),
            format!("named {:?}", runtimes::named("own").map(|runtime| runtime.digest)),
            format!("spec {:?}", runtimes::spec("own")),
            format!(
                "release {:?}",
                runtimes::release_of("r", "t", &names).map(|release| release.architectures)
            ),
            format!("releases {}", runtimes::releases("r", &names).len()),
            format!("lacking {:?}", runtimes::lacking("r", &names)),
            format!("labels {}", cluster::namespace_labels().len()),
            format!("nodes {:?}", cluster::node_architectures()),
            format!("object {:?}", cluster::get_object("v1", "ConfigMap", "rules")),
            format!("objects {:?}", cluster::list_objects("v1", "ConfigMap")),
            format!("kserve {:?}", cluster::kserve_config("deploy")),
        ];
        for answer in answers {
            log::write(Level::Info, &answer);
            verdict = verdict.warn(answer);
        }
        verdict = verdict
            .fill("/metadata/labels/everything", "asked", "the contract is used up")
            .credentials(backend, Delivery::Annotation);
        if settings.deny {
            verdict = verdict.deny("as-told", "its settings say so", Some("/metadata/name"));
        }
        verdict
    }
}

tidewaiter_policy::export!(Everything);
