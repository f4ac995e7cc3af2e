//! Built-in policy `resources`: what a service may use fits its model and its server.
//!
//! It refuses what KServe and Kubernetes certainly refuse: a request above its limit, and a second container for the server beside `model`. It warns where the model, by its size in the store, is larger than
//! the memory or the disk that its server may use, where KServe's storage initializer may be killed while it downloads, and where a GPU is asked for that nobody uses.
//!
//! ```text
//! object ─▶ each predictor, transformer, explainer ─▶ containers: contradictions, GPU
//!                                                  └─▶ limits known? ─▶ size: one listing a model ─▶ memory, disk, initializer
//! ```

mod containers;
mod gpu;
mod room;
mod size;

use serde::Deserialize;
use tidewaiter_policy::core::containers::{Components, Part, RuntimeContainers};
use tidewaiter_policy::core::service::{Component, Service, ServiceKind};
use tidewaiter_policy::core::storage_container;
use tidewaiter_policy::runtimes::{self, Runtime};
use tidewaiter_policy::{Mode, Policy, Request, Verdict, runtime_of};

/// The policy.
pub struct Resources;

/// What the admin may set.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// A request above its limit, or a second server's container. Default: refused, since Kubernetes and KServe do.
    pub contradiction: Mode,
    /// The model is larger than the memory that its server may use. Default: a warning.
    pub memory: Mode,
    /// The model is larger than the disk that its Pod may use. Default: a warning, since another container may add to that.
    pub disk: Mode,
    /// The storage initializer has little memory for a model of this size. Default: a warning.
    pub initializer: Mode,
    /// A GPU is asked for that the server doesn't use. Default: a warning.
    pub gpu: Mode,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            contradiction: Mode::Deny,
            memory: Mode::Warn,
            disk: Mode::Warn,
            initializer: Mode::Warn,
            gpu: Mode::Warn,
        }
    }
}

impl Policy for Resources {
    type Settings = Settings;
    const NAME: &'static str = "resources";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Says where memory, disk and GPU don't fit the model or its server";

    const OBJECTS: &'static [(&'static str, &'static str)] =
        &[(storage_container::API_VERSION, storage_container::KIND)];

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"contradiction":{"enum":["deny","warn","off"],"default":"deny","description":"A request above its limit, or a container for the server that KServe doesn't take"},"memory":{"enum":["deny","warn","off"],"default":"warn","description":"The model is larger than the memory that its server may use"},"disk":{"enum":["deny","warn","off"],"default":"warn","description":"The model is larger than the disk that its Pod may use"},"initializer":{"enum":["deny","warn","off"],"default":"warn","description":"The storage initializer has little memory for a model of this size"},"gpu":{"enum":["deny","warn","off"],"default":"warn","description":"A GPU is asked for that the server doesn't use"}}}"#,
        )
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        let mut verdict = Verdict::admit();
        // What can't be read here KServe's own schema refuses, in better words.
        let Ok(service) = Service::parse(&request.kind, &request.object) else {
            return verdict;
        };
        if service.kind() != ServiceKind::InferenceService || service.is_being_deleted() || service.is_model_mesh() {
            return verdict;
        }
        let Some(object) = Components::parse(&request.object) else {
            return verdict;
        };
        let old = Old::of(request);
        for component in service.components() {
            let Some(part) = object.part(component.role) else {
                continue;
            };
            if old.as_ref().is_some_and(|old| old.is_same(component, part)) {
                continue;
            }
            let runtime = runtime_of(component).filter(|_| component.is_predictor());
            let spec = runtime
                .as_ref()
                .and_then(|runtime| RuntimeContainers::parse(&runtimes::spec(&runtime.name)?));
            let subject = Subject {
                settings: *settings,
                component,
                part,
                runtime: runtime.as_ref(),
                spec: spec.as_ref(),
                is_cached: service.is_served_from_local_cache(),
            };
            containers::review(&subject, &mut verdict);
            gpu::review(&subject, &mut verdict);
            room::review(&subject, &mut verdict);
        }
        verdict
    }
}

tidewaiter_policy::export!(Resources);

/// One component under review.
struct Subject<'a> {
    settings: Settings,
    component: &'a Component<'a>,
    part: &'a Part,
    /// By which it is served; none where that isn't known, or it has a server of its own.
    runtime: Option<&'a Runtime>,
    /// What is known of that runtime.
    spec: Option<&'a RuntimeContainers>,
    /// Its model is mounted: nothing is downloaded.
    is_cached: bool,
}

impl Subject<'_> {
    /// Says what was found, as the setting wants it.
    fn found(&self, verdict: &mut Verdict, mode: Mode, code: &str, what: &str, short: &str, path: &str) {
        let name = self.component.name();
        *verdict =
            std::mem::take(verdict).find(mode, code, format!("{name}: {what}"), &format!("{name}: {short}"), path);
    }
}

/// The object as it is stored, where it was judged.
struct Old<'a> {
    service: Service<'a>,
    object: Components,
}

impl<'a> Old<'a> {
    fn of(request: &'a Request) -> Option<Self> {
        let text = request.old_object.as_deref()?;
        Some(Self {
            service: Service::parse(&request.kind, text)
                .ok()
                .filter(|service| !service.is_left_alone())?,
            object: Components::parse(text)?,
        })
    }

    /// Whether nothing of what is judged here changed.
    fn is_same(&self, component: &Component<'_>, part: &Part) -> bool {
        let mut components = self.service.components().iter();
        components.any(|old| {
            let choice = |component: &Component<'_>| {
                component.implementation.as_ref().map(|at| {
                    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
                    (text(&at.runtime), text(&at.runtime_version), text(&at.image))
                })
            };
            old.role == component.role
                && old.models == component.models
                && choice(old) == choice(component)
                && self.object.part(old.role) == Some(part)
        })
    }
}

#[cfg(test)]
mod tests;
