//! Built-in policy `storage-credentials`: a model in a store of the cluster is opened without its user doing anything.
//!
//! For each component with a model it asks which backend serves the URI, and fills in what makes KServe use that backend's credentials: the annotation
//! that names a Secret, a ServiceAccount, or a storage key, as the backend says. Whoever brought credentials of their own keeps them.
//!
//! ```text
//! object ─▶ need: what each component's models need ─▶ plan: brought, refused, or how to deliver ─▶ place: the fills
//! ```

mod need;
mod place;
mod plan;

use std::borrow::Cow;

use serde::Deserialize;
use tidewaiter_policy::core::lines::line;
use tidewaiter_policy::core::service::{Component, Service};
use tidewaiter_policy::{Policy, Request, Verdict, storage, storage_containers};

use plan::Plan;

/// The policy.
pub struct StorageCredentials;

/// What the admin may set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What becomes of a model in a store that no backend serves, without credentials of its user's. Default: `warn`.
    #[serde(default)]
    pub unserved: Unserved,
}

/// What becomes of a model in a store that nobody serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unserved {
    /// It is admitted with a warning.
    #[default]
    Warn,
    /// It is refused.
    Deny,
}

impl Policy for StorageCredentials {
    type Settings = Settings;
    const NAME: &'static str = "storage-credentials";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Gives each model the credentials of the store that it lies in.";
    const OBJECTS: &'static [(&'static str, &'static str)] = &[storage_containers::OBJECT];

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"unserved":{"enum":["warn","deny"],"default":"warn","description":"What becomes of a model in a store that no backend serves"}}}"#,
        )
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        let service = match Service::parse(&request.kind, &request.object) {
            Ok(service) => service,
            // KServe refuses it in its own words; this is only to say why nothing was filled in.
            Err(error) => return Verdict::admit().warn(line(&format!("no credentials: {error}"))),
        };
        // A cached model is mounted, and ModelMesh brings its own storage-config.
        if service.is_being_deleted() || service.is_served_from_local_cache() || service.is_model_mesh() {
            return Verdict::admit();
        }
        let subject = Subject {
            request,
            service: &service,
            settings: *settings,
            annotation: storage::secret_annotation(),
        };
        let mut verdict = Verdict::admit();
        let mut plans: Vec<Option<Plan>> = Vec::with_capacity(service.components().len());
        for component in service.components() {
            plan::refuse_key_alone(&subject, component, &mut verdict);
            plan::say_unseen(&subject, component, &mut verdict);
            plans.push(
                need::of(component, request).and_then(|need| plan::make(&subject, component, need, &mut verdict)),
            );
        }
        if request.object.contains("serviceAccountName")
            && service
                .predictor()
                .is_some_and(|predictor| predictor.service_account_name.is_none())
            && let Some((name, _)) = service.misplaced_service_account()
        {
            verdict = verdict.warn(line(&format!(
                "serviceAccountName {name} was dropped by the API server; write it in spec.predictor itself (kserve#4209)"
            )));
        }
        // A refused object gets nothing.
        if verdict.denial.is_some() {
            verdict
        } else {
            place::fills(&subject, &plans, verdict)
        }
    }
}

/// One object under review.
struct Subject<'a> {
    request: &'a Request,
    service: &'a Service<'a>,
    settings: Settings,
    /// By which KServe is told of a Secret; none where only a ServiceAccount tells it.
    annotation: Option<String>,
}

impl<'a> Subject<'a> {
    /// The Secret that the annotation names for a component.
    fn named(&self, component: &Component<'a>) -> Option<Cow<'a, str>> {
        let annotation = self.annotation.as_deref()?;
        component
            .annotation(annotation)
            .or_else(|| self.service.annotation(annotation))
    }
}

tidewaiter_policy::export!(StorageCredentials);

#[cfg(test)]
mod tests;
