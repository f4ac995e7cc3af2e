//! What KServe's storage initializer downloads, with the Secret that `tidewaiter secret create` writes, as KServe puts it into the initializer's container.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_core::kserve_config::KserveConfig;
use tidewaiter_deployer::submit::{Store, StoreSettings, secret_objects};
use tidewaiter_ground::tls::{base64, from_base64};
use tidewaiter_ground::{host, python};
use tidewaiter_store::FRAUD;

use crate::microsoft::{CLIENT, SECRET, TENANT};
use crate::tokens::ACCOUNT;
use crate::world::{Cloud, World};

/// The data of the Secret that is made of these keys.
fn secret(keys: &[(&str, &[u8])]) -> Result<BTreeMap<String, Vec<u8>>> {
    let keys = keys
        .iter()
        .map(|&(key, value)| (key.to_owned(), SecretValue::from(value)));
    let keys = keys.collect();
    let config = KserveConfig::default();
    let store = Store::of(keys, &StoreSettings::default(), &config)?.context("a key makes a store")?;
    let [secret, _] = secret_objects(&store, "fraud", "team-a", &config)?;
    let data = secret["data"].as_object().context("a Secret without data")?;
    data.iter()
        .map(|(key, value)| Ok((key.clone(), from_base64(value.as_str().unwrap_or_default())?)))
        .collect()
}

/// Python with the initializer's packages, trusting who signed the servers' certificates, and nothing of the machine's own settings.
fn initializer(world: &World) -> Result<Command> {
    let mut command = python::command(&[&world.initializer()?])?;
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let is_others = ["GOOGLE_", "AZURE_", "AWS_", "STORAGE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if is_others || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command
        .env("HOME", world.home())
        .env("REQUESTS_CA_BUNDLE", world.authority())
        .env("SSL_CERT_FILE", world.authority());
    Ok(command)
}

fn download(command: &mut Command, uri: &str, folder: &Path) -> Result<()> {
    let call = "import sys; from kserve_storage import Storage; Storage.download(sys.argv[1], sys.argv[2])";
    host::run(command.args(["-c", call, uri]).arg(folder))
}

fn is_there(folder: &Path) -> Result<()> {
    for (name, content) in FRAUD {
        ensure!(
            fs::read(folder.join(name)).with_context(|| format!("{name} was not downloaded"))? == *content,
            "{name} is not what was uploaded"
        );
    }
    Ok(())
}

/// Writes a model there, and says where.
fn put(world: &World, cloud: Cloud) -> Result<String> {
    for (name, content) in FRAUD {
        world.put(cloud, &format!("downloaded/fraud/{name}"), content)?;
    }
    Ok(cloud.uri("downloaded/fraud"))
}

/// The Secret is a volume, and a variable names the file in it.
pub(crate) fn from_google(world: &World) -> Result<()> {
    let uri = put(world, Cloud::Google)?;
    let data = secret(&[("google_application_credentials", &fs::read(world.google_key_file())?)])?;
    let folder = tempfile::tempdir()?;
    let name = KserveConfig::default().gcs_credentials_file;
    let key = folder.path().join(&name);
    fs::write(
        &key,
        data.get(&name).with_context(|| format!("the Secret lacks {name}"))?,
    )?;
    let downloaded = folder.path().join("models");
    world.tokens.given();
    download(
        initializer(world)?.env("GOOGLE_APPLICATION_CREDENTIALS", &key),
        &uri,
        &downloaded,
    )?;
    is_there(&downloaded)?;
    let given = world.tokens.given();
    ensure!(
        given.iter().any(|whom| whom == ACCOUNT),
        "the key was not used: tokens were given to {given:?}"
    );
    Ok(())
}

/// The Secret's keys are variables.
pub(crate) fn from_azure(world: &World) -> Result<()> {
    let uri = put(world, Cloud::Azure)?;
    let data = secret(&[("azure_storage_access_key", world.azure_key.as_bytes())])?;
    let folder = tempfile::tempdir()?;
    let mut command = initializer(world)?;
    for (name, value) in &data {
        command.env(name, String::from_utf8(value.clone())?);
    }
    download(&mut command, &uri, folder.path())?;
    is_there(folder.path())?;

    let wrong = base64(b"another key of sixty-four bytes, which the account doesn't have!");
    let empty = tempfile::tempdir()?;
    let mut command = initializer(world)?;
    let refused = download(command.env("AZURE_STORAGE_ACCESS_KEY", wrong), &uri, empty.path());
    let refused = format!("{:#}", refused.err().context("any key opens it")?);
    ensure!(refused.contains("Azure authentication failed"), "{refused}");
    Ok(())
}

/// The same, in the names that ZenML has for a service principal.
pub(crate) fn from_azure_as_a_service_principal(world: &World) -> Result<()> {
    let uri = put(world, Cloud::Azure)?;
    let data = secret(&[
        ("azure_tenant_id", TENANT.as_bytes()),
        ("azure_client_id", CLIENT.as_bytes()),
        ("azure_client_secret", SECRET.as_bytes()),
    ])?;
    let folder = tempfile::tempdir()?;
    let mut command = initializer(world)?;
    for (name, value) in &data {
        command.env(name, String::from_utf8(value.clone())?);
    }
    world.tokens.given();
    download(&mut command, &uri, folder.path())?;
    is_there(folder.path())?;
    let given = world.tokens.given();
    ensure!(
        given.iter().any(|whom| whom == CLIENT),
        "tokens were given to {given:?}"
    );
    Ok(())
}
