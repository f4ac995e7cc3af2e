//! Built-in policy `model-exists`: a model that isn't where its URI says is refused when the service is applied, not found missing by a Pod.
//!
//! For each URI of the object it asks which backend serves it, and looks there: one listing of one object where all is well. It refuses what certainly fails
//! and warns of what may. What it can't see it lets pass: a store that doesn't answer, one that nobody serves, one that the user opens with credentials of
//! their own.
//!
//! ```text
//! object ─▶ each URI that is new ─▶ place ─▶ look ─▶ all is well: nothing said
//!                                              └──▶ around: what was meant ─▶ whose: would KServe see the same? ─▶ finding: words
//! ```

mod around;
mod finding;
mod look;
mod place;
mod whose;

use serde::Deserialize;
use tidewaiter_policy::core::service::{Component, Service};
use tidewaiter_policy::core::uri::StorageUri;
use tidewaiter_policy::storage::{self, Resolution};
use tidewaiter_policy::{Mode, Policy, Request, Verdict, storage_containers};

use finding::Finding;
use place::Place;

/// Admits a service whose model comes later: value `true`.
pub const ALLOW_MISSING_MODEL: &str = "tidewaiter.dev/allow-missing-model";

/// The policy.
pub struct ModelExists;

/// What the admin may set.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Nothing is at the URI, or only empty files. Default: refused.
    pub missing: Mode,
    /// The URI names one file of a model that is a folder. Default: refused.
    pub incomplete: Mode,
    /// KServe can't load such a URI, as `models:/`, or all of a bucket of Google's. Default: refused.
    pub unsupported: Mode,
    /// The store refuses to show it. Default: a warning, since its admin can mend that while KServe tries again.
    pub forbidden: Mode,
    /// The store doesn't answer. Default: a warning; never refused.
    pub unreachable: Silence,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            missing: Mode::Deny,
            incomplete: Mode::Deny,
            unsupported: Mode::Deny,
            forbidden: Mode::Warn,
            unreachable: Silence::Warn,
        }
    }
}

/// What is said where nothing can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Silence {
    /// A warning.
    Warn,
    /// Nothing.
    Off,
}

impl Policy for ModelExists {
    type Settings = Settings;
    const NAME: &'static str = "model-exists";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Refuses a model that is not where its URI says";
    const OBJECTS: &'static [(&'static str, &'static str)] = &[storage_containers::OBJECT];

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"missing":{"enum":["deny","warn","off"],"default":"deny","description":"Nothing is at the URI, or only empty files"},"incomplete":{"enum":["deny","warn","off"],"default":"deny","description":"The URI names one file of a model that is a folder"},"unsupported":{"enum":["deny","warn","off"],"default":"deny","description":"KServe can't load such a URI, as models:/ or gs://bucket"},"forbidden":{"enum":["deny","warn","off"],"default":"warn","description":"The store refuses to show it"},"unreachable":{"enum":["warn","off"],"default":"warn","description":"The store doesn't answer"}}}"#,
        )
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        // What can't be read here KServe's own schema refuses, in better words.
        let Ok(service) = Service::parse(&request.kind, &request.object) else {
            return Verdict::admit();
        };
        if service.is_being_deleted() || service.is_served_from_local_cache() || service.is_model_mesh() {
            return Verdict::admit();
        }
        let old = request
            .old_object
            .as_ref()
            .and_then(|old| Service::parse(&request.kind, old).ok())
            .filter(|old| !old.is_left_alone());
        let comes_later = service
            .annotation(ALLOW_MISSING_MODEL)
            .is_some_and(|value| value == "true");
        let mut asked: Vec<&str> = Vec::new();
        let mut verdict = Verdict::admit();
        for component in service.components() {
            for model in &component.models {
                if asked.contains(&&*model.uri) || old.as_ref().is_some_and(|old| loads(old, &model.uri)) {
                    continue;
                }
                asked.push(&model.uri);
                let Some(finding) = find(request, &service, component, &model.uri) else {
                    continue;
                };
                verdict = finding.say(&model.pointer, *settings, comes_later, verdict);
            }
        }
        verdict
    }
}

tidewaiter_policy::export!(ModelExists);

/// What was there for the old object is there, or was said of it then.
fn loads(old: &Service<'_>, uri: &str) -> bool {
    let mut models = old.components().iter().flat_map(|component| &component.models);
    models.any(|model| model.uri == uri)
}

/// What is wrong with one URI.
fn find(request: &Request, service: &Service<'_>, component: &Component<'_>, uri: &str) -> Option<Finding> {
    let name = component.name();
    let parsed = StorageUri::parse(uri);
    // Wrong by itself, whoever serves it.
    if let Some(with_slash) = parsed.as_ref().ok().and_then(StorageUri::with_slash_behind_container) {
        return Some(Finding::no_slash(&name, &with_slash));
    }
    let served = match storage::resolve(uri) {
        Resolution::Served(served) => served,
        Resolution::Unsupported(_) if storage_containers::may_fetch(request, uri) => return None,
        Resolution::Unsupported(reason) => return Some(Finding::unsupported(&name, &reason)),
        // Said by the policy that sees to credentials, or nothing to look at.
        Resolution::OwnSecret(_)
        | Resolution::NotGranted(_)
        | Resolution::Unusable(_)
        | Resolution::Unserved
        | Resolution::NoCredentials => return None,
    };
    let parsed = parsed.ok()?;
    let place = Place::of(&parsed)?;
    let finding = Finding::of(&name, &place, &served, component)?;
    let seen = finding.certain && finding.is_of_the_store();
    Some(if seen && !whose::same_store(service, component, &served) {
        finding.by_other_credentials(&name, &served.backend)
    } else {
        finding
    })
}

#[cfg(test)]
mod tests;
