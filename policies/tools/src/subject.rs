//! A policy to be tried out: its component with some settings, and objects to review.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use tidewaiter_core::document::Document;
use tidewaiter_core::filled;
use tidewaiter_engine::outcome::{Operation, Outcome, Review};
use tidewaiter_engine::world::World;
use tidewaiter_engine::{
    Answer, Capability, Engine, Failure, FailurePolicy, Limits, LoadError, LoadedPolicy, Mode, PolicySpec, untouched,
};

use crate::told::Told;
use crate::world::BUDGET;

/// What an object is where it doesn't say.
const API_VERSION: &str = "serving.kserve.io/v1beta1";
const KIND: &str = "InferenceService";
/// Where an object is that doesn't say.
pub(crate) const NAMESPACE: &str = "default";

/// Loads a component with settings, granted all that it imports. `name` is what it is called in what is told of it.
///
/// # Errors
/// Where the policy can't be used, or refuses its settings.
pub async fn load(
    engine: &Engine,
    name: &str,
    component: &Bytes,
    settings: &Map<String, Value>,
    limits: Limits,
) -> Result<LoadedPolicy, LoadError> {
    let spec = PolicySpec {
        name: name.to_owned(),
        component: component.clone(),
        settings: Value::Object(settings.clone()),
        capabilities: vec![
            Capability::Storage,
            Capability::Runtimes,
            Capability::Cluster,
            Capability::Log,
        ],
        limits,
        failure: FailurePolicy::Ignore,
        mode: Mode::Enforce,
    };
    engine.load(spec).await
}

/// One request to review an object.
#[derive(Clone, Debug)]
pub struct Ask {
    object: Value,
    document: Document,
    old: Option<Document>,
    operation: Operation,
    namespace: String,
    username: String,
    groups: Vec<String>,
}

/// Why an object can't be reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object to review is a mapping with apiVersion, kind, metadata and spec")]
pub struct NotAnObject;

impl Ask {
    /// To create an object as its user wrote it: without what Tidewaiter filled in.
    ///
    /// # Errors
    /// Where it is none.
    pub fn anew(object: &Value) -> Result<Self, NotAnObject> {
        let document = Document::new(&object.to_string()).map_err(|_| NotAnObject)?;
        let users = filled::strip(document, None).object;
        let object = serde_json::from_str(users.as_str()).map_err(|_| NotAnObject)?;
        Self::written(&object, users.as_str())
    }

    /// To create an object.
    ///
    /// # Errors
    /// Where it is none.
    pub fn create(object: &Value) -> Result<Self, NotAnObject> {
        Self::written(object, &object.to_string())
    }

    /// To create an object whose JSON text is this one.
    ///
    /// # Errors
    /// Where it is none.
    pub(crate) fn written(object: &Value, text: &str) -> Result<Self, NotAnObject> {
        let namespace = object["metadata"]["namespace"].as_str().filter(|name| !name.is_empty());
        Ok(Self {
            document: Document::new(text).map_err(|_| NotAnObject)?,
            old: None,
            operation: Operation::Create,
            namespace: namespace.unwrap_or(NAMESPACE).to_owned(),
            username: "tidewaiter-test".to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            object: object.clone(),
        })
    }

    /// To put the object in the place of an old one.
    ///
    /// # Errors
    /// Where the old one is none.
    pub fn update(self, old: &Value) -> Result<Self, NotAnObject> {
        self.update_written(&old.to_string())
    }

    /// To put the object in the place of an old one whose JSON text is this one.
    ///
    /// # Errors
    /// Where the old one is none.
    pub(crate) fn update_written(mut self, old: &str) -> Result<Self, NotAnObject> {
        self.old = Some(Document::new(old).map_err(|_| NotAnObject)?);
        self.operation = Operation::Update;
        Ok(self)
    }

    /// In this namespace, whatever the object says.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..self
        }
    }

    /// Sent by this user.
    #[must_use]
    pub fn by(self, username: &str, groups: &[String]) -> Self {
        Self {
            username: username.to_owned(),
            groups: groups.to_vec(),
            ..self
        }
    }

    /// With the user's groups the other way round.
    pub(crate) fn reversed(mut self) -> Self {
        self.groups.reverse();
        self
    }

    /// The object's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The object as it came.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// As the engine is asked.
    pub fn review(&self) -> Review<'_> {
        Review {
            operation: self.operation,
            api_version: self.object["apiVersion"].as_str().unwrap_or(API_VERSION),
            kind: self.object["kind"].as_str().unwrap_or(KIND),
            namespace: &self.namespace,
            name: self.object["metadata"]["name"].as_str().unwrap_or_default(),
            object: &self.document,
            old_object: self.old.as_ref(),
            username: &self.username,
            groups: &self.groups,
        }
    }

    /// What the engine makes of it with these policies. None where there is nothing to judge.
    pub async fn reviewed(&self, policies: &[LoadedPolicy], world: Arc<dyn World>) -> Option<Outcome> {
        let review = self.review();
        if untouched(&review, world.secret_annotation().as_deref()).is_some() {
            return None;
        }
        Some(tidewaiter_engine::review(policies, &review, world, BUDGET).await)
    }

    /// The same, as it is told.
    pub async fn told(&self, policy: &LoadedPolicy, world: Arc<dyn World>) -> Told {
        match self.reviewed(std::slice::from_ref(policy), world).await {
            Some(outcome) => Told::new(&outcome, &self.object),
            None => Told::untouched(&self.object),
        }
    }

    /// What one policy answers by itself.
    ///
    /// # Errors
    /// Where it fails.
    pub async fn answer(&self, policy: &LoadedPolicy, world: Arc<dyn World>) -> Result<Answer, Failure> {
        policy.ask(&self.review(), world, BUDGET).await
    }
}
