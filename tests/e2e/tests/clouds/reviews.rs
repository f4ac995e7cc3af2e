//! What policies see of a model in the clouds, by the command that runs them as the webhook does: a `StorageBackend` and its Secret in a folder.

use std::fs;
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewaiter_ground::tls::base64;
use tidewaiter_store::FRAUD;

use crate::microsoft::{CLIENT, SECRET, TENANT};
use crate::world::{BUCKET, CLOSED, Cloud, World};

/// A backend as an admin writes it.
fn backend(kind: &str, serves: &str, credentials: &Value) -> Value {
    json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "StorageBackend",
        "metadata": {"name": kind},
        "spec": {"type": kind, "serves": [serves], "credentials": credentials},
    })
}

/// The same, opened by a Secret with this key.
fn with_key(kind: &str, serves: &str, key: &str, value: &str) -> Vec<Value> {
    with_keys(kind, serves, &json!({key: value}))
}

/// The same with several.
fn with_keys(kind: &str, serves: &str, keys: &Value) -> Vec<Value> {
    vec![
        backend(
            kind,
            serves,
            &json!({"secretRef": {"namespace": "tidewaiter-system", "name": kind}}),
        ),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": kind, "namespace": "tidewaiter-system"},
            "stringData": keys,
        }),
    ]
}

fn configuration(objects: &[Value]) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for (number, object) in objects.iter().enumerate() {
        fs::write(folder.path().join(format!("{number}.json")), object.to_string())?;
    }
    Ok(folder)
}

fn service(uri: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud", "namespace": "team-a"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": uri}}},
    })
}

/// What `tidewaiter explain` prints for a program, and with which code it ends.
fn explained(world: &World, cloud: Cloud, configuration: &Path, uri: &str) -> Result<(i32, Value)> {
    let work = tempfile::tempdir()?;
    let file = work.path().join("service.json");
    fs::write(&file, service(uri).to_string())?;
    // What the user's own environment holds is nobody's key here.
    let mut command = world.command(cloud);
    command
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env_remove("AZURE_STORAGE_ACCESS_KEY");
    command.arg("explain").arg(&file).arg("--config").arg(configuration);
    let Output { status, stdout, stderr } = command.args(["-o", "json"]).output()?;
    let printed =
        serde_json::from_slice(&stdout).with_context(|| format!("{status}: {}", String::from_utf8_lossy(&stderr)))?;
    Ok((status.code().context("it was killed")?, printed))
}

/// Of one policy.
fn of<'a>(explained: &'a Value, policy: &str) -> Result<&'a Value> {
    let policies = explained["policies"].as_array().into_iter().flatten();
    let mut policies = policies.filter(|one| one["policy"] == policy);
    policies
        .next()
        .with_context(|| format!("{policy} said nothing: {explained}"))
}

fn looked_into(world: &World, cloud: Cloud, objects: &[Value]) -> Result<()> {
    let configuration = configuration(objects)?;
    for (name, content) in FRAUD {
        world.put(cloud, &format!("reviewed/fraud/{name}"), content)?;
    }
    let there = cloud.uri("reviewed/fraud");
    let (code, found) = explained(world, cloud, configuration.path(), &there)?;
    ensure!(code == 0, "{found}");
    let calls = of(&found, "model-exists")?["calls"].to_string();
    ensure!(calls.contains("storage.list"), "{calls}");
    // The description was read, of which a version follows.
    let versions = of(&found, "serving-versions")?;
    ensure!(versions["calls"].to_string().contains("storage.read"), "{versions}");
    // Why it came to what it came to is one line of the policy's own. The numbers alone stand in other places too.
    let lines = versions["log"].as_array().into_iter().flatten();
    let line = lines.filter_map(|line| line["message"].as_str()).find(|line| {
        line.contains("modelFormat mlflow: xgboost 3.0.2 saved the model under Python 3.11")
            && line.contains("has xgboost 3.0.2")
    });
    ensure!(line.is_some(), "it doesn't say why: {versions}");

    let (code, missing) = explained(world, cloud, configuration.path(), &cloud.uri("reviewed/fruad"))?;
    ensure!(code == 1, "{missing}");
    let told = missing["outcome"].to_string();
    ensure!(told.contains(&format!("Did you mean {there}?")), "{told}");

    // One file of it, which is looked at by itself.
    let (code, file) = explained(world, cloud, configuration.path(), &cloud.uri("reviewed/fraud/MLmodel"))?;
    ensure!(code == 1, "{file}");
    let told = file["outcome"].to_string();
    ensure!(told.contains(&format!("Write {there}")), "{told}");
    Ok(())
}

pub(crate) fn of_google(world: &World) -> Result<()> {
    let key = fs::read_to_string(world.google_key_file())?;
    let serves = format!("gs://{BUCKET}/");
    let name = "gcloud-application-credentials.json";
    looked_into(world, Cloud::Google, &with_key("gcs", &serves, name, &key))?;
    // The same by what of Google's interface MinIO has, whose listings come page by page.
    let anonymous = backend("gcs", &serves, &json!({"anonymous": {}}));
    looked_into(world, Cloud::Interoperable, &[anonymous])
}

pub(crate) fn of_azure(world: &World) -> Result<()> {
    let serves = Cloud::Azure.uri("");
    let objects = with_key("azure", &serves, "AZURE_STORAGE_ACCESS_KEY", &world.azure_key);
    looked_into(world, Cloud::Azure, &objects)
}

pub(crate) fn of_azure_as_a_service_principal(world: &World) -> Result<()> {
    let keys = json!({"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": SECRET});
    world.tokens.given();
    looked_into(world, Cloud::Azure, &with_keys("azure", &Cloud::Azure.uri(""), &keys))?;
    ensure!(world.tokens.given().iter().any(|whom| whom == CLIENT), "by no token");
    let keys = json!({"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": "of-a-stranger"});
    let configuration = configuration(&with_keys("azure", &Cloud::Azure.uri(""), &keys))?;
    let uri = Cloud::Azure.uri("reviewed/fraud");
    let (code, told) = explained(world, Cloud::Azure, configuration.path(), &uri)?;
    let warnings = of(&told, "model-exists")?["warnings"].to_string();
    ensure!(
        code == 0 && warnings.contains("login.microsoftonline.com answers 401"),
        "{warnings}"
    );
    Ok(())
}

pub(crate) fn forbidden(world: &World) -> Result<()> {
    let warned = |cloud: Cloud, objects: &[Value], uri: &str, wanted: &str| -> Result<()> {
        let configuration = configuration(objects)?;
        let (code, told) = explained(world, cloud, configuration.path(), uri)?;
        ensure!(code == 0, "{told}");
        let warnings = of(&told, "model-exists")?["warnings"].to_string();
        ensure!(warnings.contains(wanted), "{warnings}");
        Ok(())
    };
    let wrong = base64(b"another key of sixty-four bytes, which the account doesn't have!");
    warned(
        Cloud::Azure,
        &with_key("azure", &Cloud::Azure.uri(""), "AZURE_STORAGE_ACCESS_KEY", &wrong),
        &Cloud::Azure.uri("reviewed/fraud"),
        "ml.blob.core.windows.net answers 400 InvalidAuthenticationInfo: the credentials are",
    )?;
    let closed = format!("gs://{CLOSED}/");
    warned(
        Cloud::Interoperable,
        &[backend("gcs", &closed, &json!({"anonymous": {}}))],
        &format!("{closed}fraud"),
        "storage.googleapis.com answers 403 AccessDenied",
    )
}
