//! A model on a server that has several.
//!
//! Source: `pkg/apis/serving/v1alpha1/trained_model.go` and `trainedmodel_webhook.go` of KServe 0.20.0, and its controller, which takes only a service whose predictor
//! has no model of its own.

use serde_json::{Value, json};
use tidewaiter_core::service::Service;

use super::ALPHA;
use super::error::WishError;
use super::wishes::Wishes;
use crate::model::Framework;

/// A model for a multi-model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedWishes {
    /// Its name there.
    pub name: String,
    /// The InferenceService that is the server.
    pub service: String,
    /// What loads it.
    pub framework: Framework,
    /// How much memory it takes there, as a quantity; the server's memory limits how many it takes.
    pub memory: String,
}

/// What a `TrainedModel` has a place for, and what says which model it is: all else is its server's.
const FIELDS: [&str; 18] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "source",
    "framework",
    "artifactStore",
    "predict",
    "pre",
    "post",
    "load",
    "modelClass",
    "handler",
    "extraFiles",
    "requirements",
    "modelVersion",
    "server",
    "memory",
];

/// Whether a model of this name can be added to a service, given as it is in the cluster; none where nobody looked. `also` is what is wished for beside.
///
/// # Errors
/// Where the service is none that takes models, or the name none for one; what is wished for and has no place in a `TrainedModel`.
pub fn may_be_added(
    name: &str,
    service: &str,
    also: &Wishes,
    namespace: &str,
    server: Option<&Value>,
) -> Result<(), WishError> {
    also.only("a TrainedModel", &FIELDS)?;
    let server = server.map(Value::to_string);
    let server = server
        .as_deref()
        .and_then(|server| Service::parse("InferenceService", server).ok());
    let predictor = server.as_ref().and_then(Service::predictor);
    // In whatever shape: ModelMesh's services, which each have a model, stay as they were written. Of a custom server KServe goes by what its environment says
    // (`IsMMSPredictor` in `utils.go`).
    let has_model = predictor.is_some_and(|predictor| {
        let is_custom = predictor
            .implementation
            .as_ref()
            .is_some_and(|server| server.field == "containers");
        !is_custom && (!predictor.models.is_empty() || predictor.storage_uris || predictor.storage().is_some())
    });
    if has_model {
        return Err(WishError::contradiction(
            format!("{service} has a model of its own, and KServe adds models only to a server without one"),
            "name another --server, or leave it out",
        ));
    }
    let well_formed = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        && name.starts_with(|c: char| c.is_ascii_lowercase());
    if !well_formed {
        return Err(WishError::Name {
            name: name.to_owned(),
            reason: "a trained model's is made of small letters, digits and '-'".to_owned(),
            suggested: super::name::suggested_name(name, namespace),
        });
    }
    Ok(())
}

/// Makes the `TrainedModel` for a server.
///
/// # Errors
/// As for [`may_be_added`].
pub fn trained_model(
    wishes: &TrainedWishes,
    also: &Wishes,
    uri: &str,
    namespace: &str,
    server: Option<&Value>,
) -> Result<Value, WishError> {
    let TrainedWishes { name, service, .. } = wishes;
    may_be_added(name, service, also, namespace, server)?;
    let mut object = json!({
        "apiVersion": ALPHA,
        "kind": "TrainedModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"inferenceService": service, "model": {
            "storageUri": uri,
            "framework": wishes.framework.as_str(),
            "memory": wishes.memory,
        }},
    });
    also.describe(&mut object);
    Ok(object)
}
