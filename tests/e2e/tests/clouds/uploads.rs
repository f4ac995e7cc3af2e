//! What the command sends, what it says when it may not, and what it finds in what is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewaiter_e2e::files_below;
use tidewaiter_ground::tls::base64;
use tidewaiter_store::FRAUD;

use crate::microsoft::{CLIENT, SECRET, TENANT};
use crate::tokens::REFRESH_TOKEN;
use crate::world::{BUCKET, CLOSED, Cloud, World, random};

/// A file of two parts, and one of five, of which three are on their way at once.
const LARGE: usize = 40 << 20;
const LARGER: usize = 160 << 20;

/// An `MLflow` model, in a folder.
fn fraud() -> Result<TempDir> {
    let model = tempfile::tempdir()?;
    for (name, content) in FRAUD {
        fs::write(model.path().join(name), content)?;
    }
    Ok(model)
}

/// One large file, in a folder.
fn large(bytes: usize) -> Result<TempDir> {
    let model = tempfile::tempdir()?;
    fs::write(model.path().join("weights.bin"), random(bytes)?)?;
    Ok(model)
}

fn text<'a>(printed: &'a Value, field: &str) -> Result<&'a str> {
    printed[field]
        .as_str()
        .with_context(|| format!("no {field} in {printed}"))
}

/// Each file is there as it is here, below a folder that is named by all of them, and so is the manifest.
fn check(world: &World, cloud: Cloud, model: &Path, name: &str, printed: &Value) -> Result<()> {
    let base = format!("deployed/{name}");
    let digest = text(printed, "uri")?
        .strip_prefix(&cloud.uri(&format!("{base}/")))
        .with_context(|| format!("it is elsewhere: {printed}"))?;
    let manifest = format!("{base}/manifests/{digest}.json");
    ensure!(text(printed, "manifest")? == cloud.uri(&manifest), "{printed}");
    let noted: Value = serde_json::from_slice(&world.read(cloud, &manifest)?)?;
    ensure!(noted["digest"] == digest, "{noted}");
    let mut expected = vec![manifest];
    for file in fs::read_dir(model)? {
        let file = file?;
        let key = format!("{base}/{digest}/{}", file.file_name().display());
        ensure!(
            world.read(cloud, &key)? == fs::read(file.path())?,
            "{key} is not what it is here"
        );
        expected.push(key);
    }
    expected.sort();
    let there = world.keys(cloud, &base)?;
    ensure!(there == expected, "{there:?}");
    ensure!(
        noted["files"].as_array().map(Vec::len) == Some(expected.len() - 1),
        "{noted}"
    );
    Ok(())
}

fn once(world: &World, cloud: Cloud) -> Result<()> {
    let model = fraud()?;
    let name = "once";
    let bytes: usize = FRAUD.iter().map(|(_, content)| content.len()).sum();
    let first = world.upload(cloud, model.path(), name)?;
    ensure!(first["sent"] == bytes && first["reused"] == 0, "{first}");
    check(world, cloud, model.path(), name, &first)?;
    let written = world.written(cloud, &format!("deployed/{name}"))?;
    let last = written.values().max();
    let mut manifests = written.iter().filter(|(key, _)| key.contains("/manifests/"));
    ensure!(
        manifests.all(|(_, at)| Some(at) == last),
        "the manifest is not the last: {written:#?}"
    );

    let second = world.upload(cloud, model.path(), name)?;
    ensure!(second["sent"] == 0 && second["reused"] == bytes, "{second}");
    ensure!(second["uri"] == first["uri"], "{second}");
    let now = world.written(cloud, &format!("deployed/{name}"))?;
    ensure!(now == written, "it wrote again: {now:#?}");

    // Other content goes beside it.
    fs::write(model.path().join("requirements.txt"), "xgboost==3.0.2\n")?;
    let other = world.upload(cloud, model.path(), name)?;
    ensure!(other["uri"] != first["uri"], "{other}");

    let mut command = world.command(cloud);
    inspected(command.args(["inspect", text(&first, "uri")?]))
}

/// What the command that looks into a model says of this one.
fn inspected(command: &mut Command) -> Result<()> {
    let output = command.args(["-o", "json"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let inspected: Value = serde_json::from_slice(&output.stdout)?;
    let bytes: usize = FRAUD.iter().map(|(_, content)| content.len()).sum();
    ensure!(
        inspected["versions"]["xgboost"] == "3.0.2" && inspected["bytes"] == bytes,
        "{inspected}"
    );
    Ok(())
}

pub(crate) fn to_google(world: &World) -> Result<()> {
    once(world, Cloud::Interoperable)
}

pub(crate) fn to_azure(world: &World) -> Result<()> {
    once(world, Cloud::Azure)?;
    let writes = world.writes_to_azure("/deployed/once/")?;
    ensure!(
        writes.get(FRAUD.len()).is_some_and(|last| last.contains("/manifests/")),
        "the manifest is not the last: {writes:#?}"
    );
    // Twice other content, and nothing in between.
    ensure!(writes.len() == 2 * (FRAUD.len() + 1), "{writes:#?}");
    Ok(())
}

fn parts(world: &World, cloud: Cloud) -> Result<()> {
    let model = large(LARGE)?;
    let printed = world.upload(cloud, model.path(), "parts")?;
    ensure!(printed["sent"] == LARGE, "{printed}");
    check(world, cloud, model.path(), "parts", &printed)?;
    let again = world.upload(cloud, model.path(), "parts")?;
    ensure!(again["sent"] == 0, "{again}");
    Ok(())
}

pub(crate) fn in_parts_to_google(world: &World) -> Result<()> {
    parts(world, Cloud::Interoperable)?;
    let left = files_below(&world.minio_data().join(".minio.sys/multipart"))?;
    ensure!(left.is_empty(), "parts are left: {left:?}");
    Ok(())
}

pub(crate) fn in_blocks_to_azure(world: &World) -> Result<()> {
    parts(world, Cloud::Azure)?;
    let writes = world.writes_to_azure("/deployed/parts/")?;
    let blocks = writes.iter().filter(|write| write.contains("comp=block&"));
    ensure!(blocks.count() == 2, "{writes:#?}");
    let lists = writes.iter().filter(|write| write.contains("comp=blocklist"));
    ensure!(lists.count() == 1, "{writes:#?}");
    Ok(())
}

/// Kills an upload when the store has one of its parts, and gives back the store's marks for those that the command noted as there.
fn kill_half_way(world: &World, cloud: Cloud, model: &Path, name: &str) -> Result<BTreeSet<String>> {
    let mut running = world
        .uploading(cloud, model, name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let began = Instant::now();
    while noted(world)?.is_empty() {
        ensure!(running.try_wait()?.is_none(), "it ended before a part of it was there");
        ensure!(began.elapsed() < Duration::from_mins(2), "no part was ever sent");
        sleep(Duration::from_millis(5));
    }
    running.kill()?;
    running.wait()?;
    noted(world)
}

/// The store's marks for parts, as they stand in the command's own notes.
fn noted(world: &World) -> Result<BTreeSet<String>> {
    let mut parts = BTreeSet::new();
    for file in files_below(&world.home().join(".cache/tidewaiter/uploads"))? {
        let lines = fs::read_to_string(file)?;
        let lines = lines
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parts.extend(lines.filter_map(|line| Some(line["mark"].as_str()?.to_owned())));
    }
    Ok(parts)
}

/// The store's marks for the parts that were there when it was killed.
fn resumed(world: &World, cloud: Cloud) -> Result<BTreeSet<String>> {
    let name = "resumed";
    let model = large(LARGER)?;
    let there = kill_half_way(world, cloud, model.path(), name)?;
    ensure!(there.len() < 5, "all parts were sent before it was killed");
    let manifests = world.keys(cloud, &format!("deployed/{name}"))?;
    ensure!(manifests.is_empty(), "something looks whole: {manifests:?}");
    let printed = world.upload(cloud, model.path(), name)?;
    check(world, cloud, model.path(), name, &printed)?;
    ensure!(noted(world)?.is_empty(), "notes of it are left");
    Ok(there)
}

pub(crate) fn resumed_to_google(world: &World) -> Result<()> {
    resumed(world, Cloud::Interoperable)?;
    // Had it begun anew, the first upload's parts would still be there.
    let left = files_below(&world.minio_data().join(".minio.sys/multipart"))?;
    ensure!(left.is_empty(), "parts are left: {left:?}");
    Ok(())
}

pub(crate) fn resumed_to_azure(world: &World) -> Result<()> {
    let there = resumed(world, Cloud::Azure)?;
    let writes = world.writes_to_azure("/deployed/resumed/")?;
    for mark in there {
        // As a URL has it, without the padding, which may be escaped.
        let id = base64(mark.as_bytes());
        let id = id.trim_end_matches('=');
        let sent = writes.iter().filter(|write| write.contains(id)).count();
        ensure!(sent == 1, "block {id} was sent {sent} times: {writes:#?}");
    }
    Ok(())
}

/// Azure keeps blocks for a week, and until somebody makes the blob of theirs.
pub(crate) fn forgotten_by_azure(world: &World) -> Result<()> {
    let name = "forgotten";
    let model = large(LARGER)?;
    kill_half_way(world, Cloud::Azure, model.path(), name)?;
    let writes = world.writes_to_azure(&format!("/deployed/{name}/"))?;
    let path = writes.first().and_then(|write| write.split("PUT ").nth(1));
    let path = path.and_then(|path| path.split(['?', ' ']).next());
    let (_, key) = path
        .and_then(|path| path.split_once(&format!("/{BUCKET}/")))
        .with_context(|| format!("no path in {writes:#?}"))?;
    world.put_in_parts(Cloud::Azure, key, b"somebody else's")?;
    let printed = world.upload(Cloud::Azure, model.path(), name)?;
    check(world, Cloud::Azure, model.path(), name, &printed)?;
    let mut lists = world.writes_to_azure(&format!("/deployed/{name}/"))?;
    lists.retain(|write| write.contains("comp=blocklist"));
    let was_forgotten = lists.len() == 3 && lists[1].contains(" 400 ");
    ensure!(was_forgotten, "the blocks were not forgotten: {lists:#?}");
    Ok(())
}

/// What the command says when it ends with an error.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{}: {said}", output.status);
    Ok(said)
}

/// In the environment as Azure's own tools have it.
pub(crate) fn by_a_service_principal(world: &World) -> Result<()> {
    let model = fraud()?;
    let as_principal = |secret: &str, name: &str| {
        let mut command = world.uploading(Cloud::Azure, model.path(), name);
        command
            .env_remove("AZURE_STORAGE_ACCESS_KEY")
            .env("AZURE_TENANT_ID", TENANT)
            .env("AZURE_CLIENT_ID", CLIENT)
            .env("AZURE_CLIENT_SECRET", secret);
        command
    };
    world.tokens.given();
    let Output { status, stdout, stderr } = as_principal(SECRET, "principal").output()?;
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    ensure!(world.tokens.given().iter().any(|whom| whom == CLIENT), "by no token");
    check(
        world,
        Cloud::Azure,
        model.path(),
        "principal",
        &serde_json::from_slice(&stdout)?,
    )?;
    expect(
        &said(&mut as_principal("hidden", "stranger"))?,
        &[
            "ml.blob.core.windows.net doesn't accept these credentials (AADSTS7000215)",
            "hint: look at AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
        ],
    )?;
    let there = world.keys(Cloud::Azure, "deployed/stranger")?;
    ensure!(there.is_empty(), "a stranger left {there:?}");
    Ok(())
}

fn expect(said: &str, wanted: &[&str]) -> Result<()> {
    for part in wanted {
        ensure!(said.contains(part), "`{part}` is not in: {said}");
    }
    ensure!(!said.contains("hidden"), "a key is shown: {said}");
    Ok(())
}

pub(crate) fn refused_by_azure(world: &World) -> Result<()> {
    let model = fraud()?;
    let uploading = || world.uploading(Cloud::Azure, model.path(), "refused");
    let wrong = base64(b"hidden hidden hidden hidden hidden hidden hidden hidden hidden!!");
    expect(
        &said(uploading().env("AZURE_STORAGE_ACCESS_KEY", wrong))?,
        // Azurite, which takes tokens too, says this of a wrong signature, where Azure says `AuthenticationFailed`.
        &[
            "ml.blob.core.windows.net doesn't accept these credentials (InvalidAuthenticationInfo)",
            "hint: look at the key and its secret",
        ],
    )?;
    expect(
        &said(uploading().env("AZURE_STORAGE_ACCESS_KEY", "hidden, and no base64"))?,
        &[
            "these settings make no client for ml.blob.core.windows.net",
            "hint: look at",
        ],
    )?;
    let mut elsewhere = world.command(Cloud::Azure);
    elsewhere.arg("upload").arg(model.path());
    expect(
        &said(elsewhere.args(["--to", "https://ml.blob.core.windows.net/nothing/deployed/"]))?,
        &[
            "ml.blob.core.windows.net has no container `nothing`",
            "hint: make the container `nothing`",
        ],
    )?;
    let mut unknown = world.command(Cloud::Azure);
    unknown.arg("upload").arg(model.path());
    expect(
        &said(unknown.args(["--to", "https://nobody.blob.core.windows.net/models/"]))?,
        &["no answer from nobody.blob.core.windows.net", "hint: "],
    )?;
    let there = world.keys(Cloud::Azure, "deployed/refused")?;
    ensure!(there.is_empty(), "something was left behind: {there:?}");
    Ok(())
}

/// Not of a bucket that isn't there: `MinIO` doesn't tell that to who has no key of its own, and fake-gcs-server calls it an error of its own.
pub(crate) fn refused_by_google(world: &World) -> Result<()> {
    let model = fraud()?;
    let to = |cloud: Cloud, bucket: &str| {
        let mut command = world.command(cloud);
        command.arg("upload").arg(model.path());
        command.args(["--to", &format!("gs://{bucket}/deployed/")]);
        command
    };
    expect(
        &said(&mut to(Cloud::Interoperable, CLOSED))?,
        &[
            "not allowed to list gs://closed/deployed/",
            "hint: ask for the right to list there, in the bucket `closed` (in Google's words storage.objects.list)",
        ],
    )?;
    let broken = write(
        world,
        "broken.json",
        &json!({"type": "service_account", "private_key": "hidden"}),
    )?;
    expect(
        &said(to(Cloud::Google, BUCKET).env("GOOGLE_APPLICATION_CREDENTIALS", broken))?,
        &[
            "these settings make no client for storage.googleapis.com",
            "hint: look at",
        ],
    )?;
    // Neither a key nor a machine that Google gave an account.
    expect(
        &said(to(Cloud::Google, BUCKET).env_remove("GOOGLE_APPLICATION_CREDENTIALS"))?,
        &[
            "there are no credentials for storage.googleapis.com",
            "hint: give a key: GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
        ],
    )
}

/// Of a person who logged in by `gcloud auth application-default login`, and of one whose log-in is no longer good.
pub(crate) fn by_gcloud(world: &World) -> Result<()> {
    for (name, content) in FRAUD {
        world.put(Cloud::Google, &format!("gcloud/fraud/{name}"), content)?;
    }
    let inspecting = || {
        let mut command = world.command(Cloud::Google);
        command.args(["inspect", &Cloud::Google.uri("gcloud/fraud")]);
        command
    };
    let person = |token: &str| json!({"type": "authorized_user", "client_id": "gcloud", "client_secret": "hidden", "refresh_token": token});
    let home = world.home().join(".config/gcloud");
    fs::create_dir_all(&home)?;
    let file = home.join("application_default_credentials.json");
    world.tokens.given();
    let by_variable = write(world, "person.json", &person(REFRESH_TOKEN))?;
    inspected(inspecting().env("GOOGLE_APPLICATION_CREDENTIALS", by_variable))?;
    let given = world.tokens.given();
    ensure!(
        given.iter().any(|whom| whom == REFRESH_TOKEN),
        "nobody asked: {given:?}"
    );

    fs::write(&file, person(REFRESH_TOKEN).to_string())?;
    inspected(inspecting().env_remove("GOOGLE_APPLICATION_CREDENTIALS"))?;
    let given = world.tokens.given();
    ensure!(
        given.iter().any(|whom| whom == REFRESH_TOKEN),
        "nobody asked: {given:?}"
    );

    fs::write(&file, person("hidden").to_string())?;
    let told = said(inspecting().env_remove("GOOGLE_APPLICATION_CREDENTIALS"));
    expect(
        &told?,
        &[
            "storage.googleapis.com doesn't accept these credentials (invalid_grant)",
            "hint: log in again: `gcloud auth application-default login`",
        ],
    )?;
    // The key of a service account is a file there as well.
    inspected(&mut inspecting())?;

    // Of a kind that can't be used, which is told, and is in nobody's way who needs no key.
    fs::write(&file, json!({"type": "external_account"}).to_string())?;
    let told = said(inspecting().env_remove("GOOGLE_APPLICATION_CREDENTIALS"));
    let anonymous = inspected(
        inspecting()
            .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
            .arg("--anonymous"),
    );
    fs::remove_file(file)?;
    expect(
        &told?,
        &["a Google key of the kind `external_account` can't be used here"],
    )?;
    anonymous
}

fn write(world: &World, name: &str, content: &Value) -> Result<PathBuf> {
    let file = world.home().join(name);
    fs::write(&file, content.to_string())?;
    Ok(file)
}
