//! Built-in policy `serving-protocol`: a service that gets ready also answers, in the protocol and on the port that its users call.
//!
//! It fills in `protocolVersion` where only a runtime for v2 serves the format, and the port for gRPC where none is named. It refuses a protocol that no
//! runtime for the format speaks, ports that Knative or Kubernetes don't take, a port on which the server doesn't listen in that protocol, and a transformer that asks
//! its predictor in another protocol than that speaks.
//!
//! ```text
//! object ─▶ runtime: which one serves it ─▶ protocol: does it speak it?
//!                                        └─▶ ports: object over runtime, by deployment mode and server ─▶ fill, refuse, warn
//! ```

mod just_made;
mod mode;
mod ports;
mod protocol;
mod server;
mod transformer;

use serde::Deserialize;
use tidewaiter_policy::core::containers::Components;
use tidewaiter_policy::core::kserve_config::DeploymentMode;
use tidewaiter_policy::core::service::{Component, Implementation, Role, Service, ServiceKind};
use tidewaiter_policy::runtimes::Runtime;
use tidewaiter_policy::{Mode, Policy, Request, Verdict};

/// The policy.
pub struct ServingProtocol;

/// What the admin may set.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// A protocol that no runtime for the format speaks, or a runtime that doesn't serve the format. Default: refused.
    pub protocol: Mode,
    /// Ports that can't be had, or that lead to where nothing answers. Default: refused.
    pub ports: Mode,
    /// A transformer that asks its predictor in another protocol. Default: refused.
    pub transformer: Mode,
    /// Whether protocol and port are filled in where they are missing. Default: they are.
    pub fill: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocol: Mode::Deny,
            ports: Mode::Deny,
            transformer: Mode::Deny,
            fill: true,
        }
    }
}

impl Policy for ServingProtocol {
    type Settings = Settings;
    const NAME: &'static str = "serving-protocol";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Fills in and checks protocol and ports, so that a service that is ready also answers";
    const OBJECTS: &'static [(&'static str, &'static str)] = &just_made::OBJECTS;

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"protocol":{"enum":["deny","warn","off"],"default":"deny","description":"A protocol that no runtime for the format speaks, or a runtime that doesn't serve the format"},"ports":{"enum":["deny","warn","off"],"default":"deny","description":"Ports that can't be had, or that lead to where nothing answers"},"transformer":{"enum":["deny","warn","off"],"default":"deny","description":"A transformer that asks its predictor in another protocol"},"fill":{"type":"boolean","default":true,"description":"Whether protocol and port are filled in where they are missing"}}}"#,
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
        let mut subject = Subject {
            request,
            service: &service,
            settings: *settings,
            object: None,
            mode: None,
        };
        let mut served = None;
        for component in service.components() {
            let by = component.implementation.as_ref().and_then(|model| {
                let model = protocol::as_it_will_be(&service, component, model, served.as_ref());
                protocol::review(&subject, component, &model, &mut verdict)
            });
            if subject.must_see(component) {
                // Read once, for the few that name ports or arguments.
                subject.look();
                ports::review(&subject, component, by.as_ref(), &mut verdict);
            }
            if component.role == Role::Predictor {
                served = by;
            }
        }
        transformer::review(&mut subject, served.as_ref(), &mut verdict);
        verdict
    }
}

tidewaiter_policy::export!(ServingProtocol);

/// The runtime that serves a predictor.
pub(crate) struct Served {
    pub(crate) runtime: Runtime,
    /// Its protocol: as written, or filled in, or what KServe takes where nothing is said.
    pub(crate) protocol: String,
}

/// One object under review.
struct Subject<'a> {
    request: &'a Request,
    service: &'a Service<'a>,
    settings: Settings,
    /// Its containers, where they have been looked at.
    object: Option<Components>,
    mode: Option<DeploymentMode>,
}

impl Subject<'_> {
    /// Whether a component says anything of ports, or a container that listens elsewhere or stands before the server might.
    fn must_see(&self, component: &Component<'_>) -> bool {
        let is_custom = component
            .implementation
            .as_ref()
            .is_some_and(|at| at.field == "containers" && self.request.object.contains("\"args\""));
        let is_grpc = |at: &Implementation<'_>| {
            at.field == "model"
                && at
                    .protocol_version
                    .as_deref()
                    .is_some_and(|protocol| protocol.starts_with("grpc"))
        };
        let says = |text: &str| self.request.object.contains(text);
        is_custom
            || component.implementation.as_ref().is_some_and(is_grpc)
            || says("\"ports\"")
            || says(ports::TRANSFORMER)
    }

    fn look(&mut self) {
        if self.object.is_none() {
            self.object = Components::parse(&self.request.object);
            self.mode = mode::mode(self.service);
        }
    }

    /// Whether a value may be filled in here: not where the user took it out.
    fn may_fill(&self, component: &Component<'_>, path: &str) -> bool {
        // A canary is an element of a list, into which nothing can be filled.
        self.settings.fill && component.role == Role::Predictor && !self.request.is_withheld(path)
    }
}

/// Adds what was found.
fn found(verdict: &mut Verdict, mode: Mode, code: &str, message: String, short: &str, path: &str) {
    *verdict = std::mem::take(verdict).find(mode, code, message, short, path);
}

#[cfg(test)]
mod tests;
