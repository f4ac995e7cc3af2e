//! Built-in policy `serving-versions` (called `runtime-version` before): the model server that loads the model as it was saved.
//!
//! For a predictor with a model format it finds the runtime that KServe would choose, reads which library saved the model, and asks the catalogue what that
//! runtime's image holds. Where these fit, it fills in nothing. Where they don't, it fills in `runtime` and `runtimeVersion` together, for a release that fits;
//! where there is none, it warns, and refuses a model that would load and answer wrongly. Where only a runtime for protocol v2 supports the format, it fills in
//! `protocolVersion`.
//!
//! Beside the library it looks at Python, numpy, the pickle's protocol, MLflow, and at the packages that the model asks for. A model that brings its own
//! (`environment.tar.gz`) is served whatever the image holds. An image by digest is judged where an admin's catalogue says which release it is. Why it came to what
//! it came to is a line of the log, also where it came to nothing.
//!
//! What it filled in stays while the model's URI, its format and what the user says of the runtime stay the same, without a look into the store. Old
//! per-framework fields are left alone: KServe rewrites them to `model` and the review comes again.

mod choice;
mod model;
mod pin;
mod sticky;

use std::borrow::Cow;

use serde::Deserialize;
use tidewaiter_policy::{
    Policy, Request, Verdict,
    core::service::{Component, Format, Implementation, Role, Service, ServiceKind},
    log::{self, Level},
};

/// Admits a model that is known to be answered wrongly: value `true`.
pub const ALLOW_WRONG_ANSWERS: &str = "tidewaiter.dev/allow-wrong-answers";

const RUNTIME: &str = "/spec/predictor/model/runtime";
const RUNTIME_VERSION: &str = "/spec/predictor/model/runtimeVersion";
const PROTOCOL_VERSION: &str = "/spec/predictor/model/protocolVersion";

/// The policy.
pub struct ServingVersions;

/// What the admin may set.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// When to fill in runtime and version. Default: when the runtime that KServe would choose doesn't fit.
    pub pin: Pin,
    /// What happens to a model that no server here answers rightly. Default: refused.
    pub wrong_answers: WrongAnswers,
}

/// When to fill in runtime and version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// When the runtime that KServe would choose doesn't fit.
    #[default]
    WhenNeeded,
    /// Also when it fits, so that an upgrade of KServe doesn't change it.
    Always,
}

/// What happens to a model that no server here answers rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongAnswers {
    /// Refused.
    #[default]
    Deny,
    /// Admitted with a warning.
    Warn,
}

impl Policy for ServingVersions {
    type Settings = Settings;
    const NAME: &'static str = "serving-versions";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Pins the serving runtime and its version to one that loads the model as it was saved";

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"pin":{"enum":["when-needed","always"],"default":"when-needed","description":"When to fill in runtime and version: where the one that KServe would choose doesn't fit, or always"},"wrongAnswers":{"enum":["deny","warn"],"default":"deny","description":"What happens to a model that no server here answers rightly"}}}"#,
        )
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        // What can't be read here KServe's own schema refuses, in better words.
        let service = match Service::parse(&request.kind, &request.object) {
            Ok(service) => service,
            Err(error) => return left("the object", &error.to_string()),
        };
        if service.is_model_mesh() {
            return left("the service", "ModelMesh chooses its runtime");
        }
        if service.kind() != ServiceKind::InferenceService {
            return left("the service", "it has no serving runtime");
        }
        let mut verdict = Verdict::admit();
        let components = service.components().iter();
        for component in components.filter(|component| component.is_predictor()) {
            let component = as_it_will_be(component, &verdict);
            let predictor = match Predictor::of(&component) {
                Ok(predictor) => predictor,
                Err(why) => {
                    leave(&component.name(), &why);
                    continue;
                }
            };
            verdict = match sticky::kept(request, &predictor) {
                Some(kept) => kept,
                None => pin::review(
                    &Subject {
                        request,
                        service: &service,
                        predictor,
                        settings: *settings,
                    },
                    verdict,
                ),
            };
        }
        verdict
    }
}

/// A canary with what this very review fills in for the predictor: KServe lays it over that, and it isn't written yet.
fn as_it_will_be<'c, 'a>(component: &'c Component<'a>, verdict: &Verdict) -> Cow<'c, Component<'a>> {
    let is_canary = matches!(component.role, Role::Canary(_));
    let Some(model) = component
        .implementation
        .as_ref()
        .filter(|model| is_canary && model.field == "model")
    else {
        return Cow::Borrowed(component);
    };
    let filled = |own: &Option<Cow<'a, str>>, path: &str| {
        let fill = verdict.fills.iter().find(|fill| own.is_none() && fill.path == path);
        let value = fill.and_then(|fill| serde_json::from_str::<String>(&fill.value).ok());
        value.map(Cow::Owned).or_else(|| own.clone())
    };
    let model = Implementation {
        runtime: filled(&model.runtime, RUNTIME),
        runtime_version: filled(&model.runtime_version, RUNTIME_VERSION),
        protocol_version: filled(&model.protocol_version, PROTOCOL_VERSION),
        ..model.clone()
    };
    let mut component = component.clone();
    component.implementation = Some(model);
    Cow::Owned(component)
}

/// Why something is none of this policy's business. Only for whoever asks: most of it is as it should be.
fn leave(what: &str, why: &str) {
    log::write(Level::Debug, &format!("{what} is left alone: {why}"));
}

fn left(what: &str, why: &str) -> Verdict {
    leave(what, why);
    Verdict::admit()
}

tidewaiter_policy::export!(ServingVersions);

/// A predictor whose runtime can be chosen.
struct Predictor<'a> {
    role: Role,
    model: &'a Implementation<'a>,
    format: &'a Format<'a>,
    /// The model's place, where there is exactly one.
    uri: Option<&'a str>,
    gpu: bool,
}

impl<'a> Predictor<'a> {
    /// Of a component that is a predictor. The error says why its runtime can't be chosen.
    fn of(component: &'a Component<'a>) -> Result<Self, String> {
        let model = match &component.implementation {
            Some(model) if model.field == "model" => model,
            Some(own) if own.field == "containers" => return Err("its server is a container of its own".to_owned()),
            Some(old) => return Err(format!("KServe rewrites {} to model, and asks again", old.field)),
            None => return Err("it has no model".to_owned()),
        };
        if component.multi_node {
            return Err("it runs on several nodes".to_owned());
        }
        let uri = match component.models.as_slice() {
            [only] => Some(only.uri.trim_end_matches('/')),
            _ => None,
        };
        Ok(Self {
            role: component.role,
            model,
            format: model.format.as_ref().ok_or("it says no modelFormat")?,
            uri,
            gpu: component.gpu,
        })
    }

    /// What the user says of the runtime.
    fn own_choice(&self) -> [Option<&str>; 4] {
        [
            self.model.runtime.as_deref(),
            self.model.runtime_version.as_deref(),
            self.model.protocol_version.as_deref(),
            self.model.image.as_deref(),
        ]
    }
}

/// One predictor under review.
struct Subject<'a> {
    request: &'a Request,
    service: &'a Service<'a>,
    predictor: Predictor<'a>,
    settings: Settings,
}

impl Subject<'_> {
    /// Whether a value may be filled in here. Not in a canary, which is an element of a list; not where the user took ours out.
    fn may_fill(&self, paths: &[&str]) -> bool {
        let withheld = |path: &str| {
            self.request.withheld.iter().any(|held| {
                path.strip_prefix(held.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        self.predictor.role == Role::Predictor && !paths.iter().any(|path| withheld(path))
    }

    fn wrong_answers_allowed(&self) -> bool {
        self.settings.wrong_answers == WrongAnswers::Warn
            || self
                .service
                .annotation(ALLOW_WRONG_ANSWERS)
                .is_some_and(|value| value == "true")
    }
}

#[cfg(test)]
mod tests;
