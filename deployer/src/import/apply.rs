//! Carries a change out.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tidewaiter_core::backend::StorageBackend;

use super::plan::{Change, NewSecret};
use crate::cluster::kinds;
use crate::cluster::{Attempt, Cluster, Error};

/// Who wrote it, for `managedFields`.
const FIELD_MANAGER: &str = "tidewaiter-import";
/// On the copy of a Secret: where it comes from.
const COPIED_FROM: &str = "tidewaiter.dev/copied-from";

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// A Secret was made: `namespace/name`.
    SecretMade(String),
    /// A backend was made.
    BackendMade(String),
    /// A backend was extended.
    BackendExtended(String),
}

/// Makes the Secret, then the backend that names it. `dry_run`: the API server checks it all and stores nothing.
///
/// # Errors
/// The first thing that failed; what was done before stays, and a second run goes on from there.
pub async fn apply(cluster: &Cluster, change: &Change, dry_run: bool) -> Result<Vec<Done>, Error> {
    let mut done = Vec::new();
    if let Some(secret) = &change.secret {
        make_secret(cluster, secret, dry_run).await?;
        done.push(Done::SecretMade(format!("{}/{}", secret.namespace, secret.name)));
    }
    let name = change.name.as_str();
    if change.before.is_none() {
        let api: Api<StorageBackend> = Api::all(cluster.client().clone());
        let made = api.create(&post(dry_run), &change.object()).await;
        made.map_err(|error| failed(cluster, "create", name, &error))?;
        done.push(Done::BackendMade(name.to_owned()));
    } else if change.changes_backend() {
        // Lists are replaced whole, so only over the version that was looked at.
        let spec = &change.after;
        let mut patch = json!({
            "metadata": {"resourceVersion": change.resource_version},
            "spec": {"serves": spec.serves},
        });
        if let Some(grants) = &spec.grants {
            patch["spec"]["grants"] = json!(grants);
        }
        let params = PatchParams {
            dry_run,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api: Api<StorageBackend> = Api::all(cluster.client().clone());
        let patched = api.patch(name, &params, &Patch::Merge(&patch)).await;
        patched.map_err(|error| failed(cluster, "patch", name, &error))?;
        done.push(Done::BackendExtended(name.to_owned()));
    }
    Ok(done)
}

async fn make_secret(cluster: &Cluster, secret: &NewSecret, dry_run: bool) -> Result<(), Error> {
    let object = Secret {
        metadata: ObjectMeta {
            name: Some(secret.name.clone()),
            namespace: Some(secret.namespace.clone()),
            annotations: Some([(COPIED_FROM.to_owned(), secret.copied_from.to_string())].into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(
            secret
                .data
                .iter()
                .map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec())))
                .collect(),
        ),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(cluster.client().clone(), &secret.namespace);
    let made = api.create(&post(dry_run), &object).await;
    made.map(drop).map_err(|error| {
        let attempt = Attempt::named("create", &kinds::SECRET, Some(&secret.namespace), &secret.name);
        cluster.failed(attempt, &error)
    })
}

fn post(dry_run: bool) -> PostParams {
    PostParams {
        dry_run,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    }
}

fn failed(cluster: &Cluster, verb: &'static str, name: &str, error: &kube::Error) -> Error {
    cluster.failed(Attempt::named(verb, &kinds::STORAGE_BACKEND, None, name), error)
}
