//! An InferenceService or LLMInferenceService as Tidewaiter sees it: its components, where their models lie, and what opens them.
//!
//! Source: `pkg/apis/serving/v1beta1` and `v1alpha2` of KServe 0.15.2 and 0.20.0. A view borrows from the JSON text, and reads only what is
//! asked for here; everything else in the object is skipped.

mod as_written;
mod raw;
mod read;

use std::borrow::Cow;

use crate::document::Document;
use crate::filled;
use crate::kserve_config::DeploymentMode;
use crate::pointer;

pub use as_written::AsWritten;

/// The fields of a predictor that KServe's defaulter rewrites into `model` (v1beta1 `PredictorSpec`, v0.15 to v0.20).
pub(crate) const FRAMEWORKS: [&str; 10] = [
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];

/// Whether a component's field of this name says how it is implemented.
fn is_implementation(field: &str) -> bool {
    field == "model" || field == "art" || FRAMEWORKS.contains(&field)
}

/// The kinds that carry models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceKind {
    /// `serving.kserve.io/v1beta1`
    InferenceService,
    /// `serving.kserve.io/v1alpha1` and `v1alpha2`
    LlmInferenceService,
}

impl ServiceKind {
    /// By the name that stands in `kind`.
    pub fn named(kind: &str) -> Option<Self> {
        match kind {
            "InferenceService" => Some(Self::InferenceService),
            "LLMInferenceService" => Some(Self::LlmInferenceService),
            _ => None,
        }
    }
}

/// Whether its user stopped a service (`serving.kserve.io/stop: "true"`): no Pods of it run, and it is never refused. KServe, too, takes the value in any
/// case (`GetForceStopRuntime`).
pub fn is_stopped(object: &Document) -> bool {
    let stop = ["metadata", "annotations", "serving.kserve.io/stop"];
    object
        .get_in(&stop)
        .and_then(|value| serde_json::from_str::<String>(value).ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Why an object couldn't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a kind that carries models.
    #[error("`{0}` is not a kind that Tidewaiter reads; it reads InferenceService and LLMInferenceService")]
    UnknownKind(String),
    /// A field has a type that KServe doesn't know.
    #[error("{pointer} can't be read: {reason}")]
    Field {
        /// JSON Pointer to the field; empty for the object itself.
        pointer: String,
        /// What is there, and what was expected.
        reason: String,
    },
}

/// An InferenceService or LLMInferenceService.
#[derive(Debug, Clone)]
pub struct Service<'a> {
    kind: ServiceKind,
    name: Option<Cow<'a, str>>,
    annotations: raw::Strings<'a>,
    labels: raw::Strings<'a>,
    deleting: bool,
    components: Vec<Component<'a>>,
}

/// What a component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `spec.predictor`
    Predictor,
    /// `spec.transformer`
    Transformer,
    /// `spec.explainer`
    Explainer,
    /// The predictor of an entry of `spec.canary`. What it doesn't say of its runtime, image and protocol is the predictor's, as KServe lays it over that.
    Canary(usize),
    /// An LLMInferenceService's main Pods.
    Workload,
    /// An LLMInferenceService's prefill Pods.
    Prefill,
}

/// A part of a service with Pods of its own.
#[derive(Debug, Clone)]
pub struct Component<'a> {
    /// What it is for.
    pub role: Role,
    /// JSON Pointer to it, such as `/spec/predictor`; `/spec` for an LLMInferenceService's main Pods.
    pub pointer: String,
    /// The ServiceAccount that its user named. Written as an empty text it names none, but its place is taken.
    pub service_account_name: Option<Cow<'a, str>>,
    /// The models that are loaded before it starts, with where each is said.
    pub models: Vec<Model<'a>>,
    /// What the predictor serves with; none for an LLMInferenceService.
    pub implementation: Option<Implementation<'a>>,
    /// Whether it asks for a GPU (or another accelerator that KServe counts as one).
    pub gpu: bool,
    /// Whether it runs on several nodes (`workerSpec`), for which KServe chooses among other runtimes.
    pub multi_node: bool,
    /// Whether its models come from `storageUris`.
    pub storage_uris: bool,
    annotations: raw::Strings<'a>,
    service_account_pointer: String,
}

/// A model's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model<'a> {
    /// As its user wrote it, not parsed.
    pub uri: Cow<'a, str>,
    /// JSON Pointer to the field that says so.
    pub pointer: String,
}

/// How a component is implemented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Implementation<'a> {
    /// The field: `model`, a framework's name (`sklearn`, …), or `containers` for a custom one.
    pub field: &'static str,
    /// JSON Pointer to it, such as `/spec/predictor/model` or `/spec/predictor/containers/0`.
    pub pointer: String,
    /// Where `storage` is set: credentials come by storage key then, and a ServiceAccount's are ignored.
    pub storage: Option<Storage<'a>>,
    /// The serving runtime that its user named. Never there in an old per-framework field.
    pub runtime: Option<Cow<'a, str>>,
    /// The image's tag that its user named.
    pub runtime_version: Option<Cow<'a, str>>,
    /// `v1`, `v2`, `grpc-v1`, `grpc-v2`; absent means `v1` to KServe.
    pub protocol_version: Option<Cow<'a, str>>,
    /// The image that its user put in place of the runtime's.
    pub image: Option<Cow<'a, str>>,
    /// The model's format: `modelFormat`, or what the old per-framework field stands for. None for a custom one.
    pub format: Option<Format<'a>>,
    /// Whether a custom container has its `STORAGE_URI` from elsewhere (`valueFrom`), so that the object doesn't show it.
    pub uri_from_elsewhere: bool,
}

/// A model's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format<'a> {
    /// Such as `mlflow`.
    pub name: Cow<'a, str>,
    /// Such as `1`; matched as a text by KServe.
    pub version: Option<Cow<'a, str>>,
}

/// A predictor's `storage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage<'a> {
    /// The data key in the storage Secret.
    pub key: Option<Cow<'a, str>>,
    /// The path below the store that the key names; then there is no URI.
    pub path: Option<Cow<'a, str>>,
    /// Whether `parameters` is set.
    pub parameters: bool,
}

impl<'a> Service<'a> {
    /// Reads an object of this kind from its JSON text.
    ///
    /// # Errors
    /// A kind that carries no models, or a field whose type KServe doesn't know, by its pointer.
    pub fn parse(kind: &str, json: &'a str) -> Result<Self, ParseError> {
        match ServiceKind::named(kind) {
            Some(ServiceKind::InferenceService) => read::inference_service(json),
            Some(ServiceKind::LlmInferenceService) => read::llm_inference_service(json),
            None => Err(ParseError::UnknownKind(kind.to_owned())),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> ServiceKind {
        self.kind
    }

    /// Its name, where it has one yet.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The components that are there, the predictor first.
    pub fn components(&self) -> &[Component<'a>] {
        &self.components
    }

    /// The predictor.
    pub fn predictor(&self) -> Option<&Component<'a>> {
        self.components
            .iter()
            .find(|component| component.role == Role::Predictor)
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<Cow<'a, str>> {
        self.annotations.get(name)
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<Cow<'a, str>> {
        self.labels.get(name)
    }

    /// Whether it is being deleted.
    pub fn is_being_deleted(&self) -> bool {
        self.deleting
    }

    /// Whether its user stopped it, or has Tidewaiter ignore it. It isn't judged then, and when it is so no longer it is judged as a new one.
    pub fn is_left_alone(&self) -> bool {
        self.label(filled::IGNORE).is_some()
            || self
                .annotation("serving.kserve.io/stop")
                .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether KServe serves its model from a LocalModelCache, so that nothing is downloaded.
    pub fn is_served_from_local_cache(&self) -> bool {
        self.label("internal.serving.kserve.io/localmodel").is_some()
    }

    /// How KServe deploys it: what its annotation says, else `deploy`, the text of that key of KServe's configuration. None where neither is known.
    pub fn deployment_mode(&self, deploy: Option<&str>) -> Option<DeploymentMode> {
        if let Some(mode) = self.annotation("serving.kserve.io/deploymentMode") {
            return DeploymentMode::named(&mode);
        }
        let deploy: raw::Deploy<'_> = serde_json::from_str(deploy?).ok()?;
        DeploymentMode::named(&deploy.default_deployment_mode?.0)
    }

    /// Whether ModelMesh, not KServe's own controller, deploys it.
    pub fn is_model_mesh(&self) -> bool {
        self.annotation("serving.kserve.io/deploymentMode")
            .is_some_and(|mode| mode == "ModelMesh" || mode == "ModelMeshDeployment")
    }

    /// A `serviceAccountName` that its user wrote below a framework (`sklearn:`), where the API server drops it without a word (kserve#4209): the
    /// name, and the pointer to where it was written. Known only after `kubectl apply`.
    pub fn misplaced_service_account(&self) -> Option<(String, String)> {
        let text = self.annotation("kubectl.kubernetes.io/last-applied-configuration")?;
        let applied: raw::LastApplied<'_> = serde_json::from_str(&text).ok()?;
        applied.spec?.predictor?.0.iter().find_map(|(field, value)| {
            is_implementation(&field.0).then_some(())?;
            let name = serde_json::from_str::<raw::Misplaced<'_>>(value.get())
                .ok()?
                .service_account_name?;
            Some((
                name.0.into_owned(),
                format!("{}/serviceAccountName", pointer::child("/spec/predictor", &field.0)),
            ))
        })
    }
}

impl<'a> Component<'a> {
    /// As a person calls it: `predictor`, `canary 0`, `prefill`.
    pub fn name(&self) -> Cow<'static, str> {
        match self.role {
            Role::Predictor => "predictor".into(),
            Role::Transformer => "transformer".into(),
            Role::Explainer => "explainer".into(),
            Role::Canary(index) => format!("canary {index}").into(),
            Role::Workload => "workload".into(),
            Role::Prefill => "prefill".into(),
        }
    }

    /// An annotation of the component itself.
    pub fn annotation(&self, name: &str) -> Option<Cow<'a, str>> {
        self.annotations.get(name)
    }

    /// JSON Pointer to where its ServiceAccount is named.
    pub fn service_account_pointer(&self) -> &str {
        &self.service_account_pointer
    }

    /// Whether this is a predictor, the main one or a canary's.
    pub fn is_predictor(&self) -> bool {
        matches!(self.role, Role::Predictor | Role::Canary(_))
    }

    /// As `buildCanaryPredictor` in `components/predictor.go` of KServe 0.20 merges a canary and its predictor.
    fn lay_over(&mut self, predictor: &Self) {
        self.gpu |= predictor.gpu;
        self.multi_node |= predictor.multi_node;
        if let Some((own, stable)) = self.implementation.as_mut().zip(predictor.implementation.as_ref()) {
            own.lay_over(stable);
        }
    }

    /// Where `storage` is set.
    pub fn storage(&self) -> Option<&Storage<'a>> {
        self.implementation.as_ref()?.storage.as_ref()
    }
}

impl Implementation<'_> {
    /// Takes from a predictor's what a canary's doesn't say of its runtime, image and protocol, where both are of one field.
    fn lay_over(&mut self, predictor: &Self) {
        if self.field != predictor.field {
            return;
        }
        for (own, stable) in [
            (&mut self.runtime, &predictor.runtime),
            (&mut self.runtime_version, &predictor.runtime_version),
            (&mut self.protocol_version, &predictor.protocol_version),
            (&mut self.image, &predictor.image),
        ] {
            if own.is_none() {
                own.clone_from(stable);
            }
        }
    }
}

#[cfg(test)]
mod tests;
