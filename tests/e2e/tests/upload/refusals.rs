//! A store that says no: one sentence that says to what, what to do, and nothing that is left there.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tidewaiter_e2e::files_below;
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::host;
use tidewaiter_ground::tools::Module;
use tidewaiter_minio::{AccessKey, Admin, Grant, NewAccount, Policy, Trust};

use crate::{BUCKET, ROOT, Random, STARTS, World, minio, model};

pub(crate) fn refused(world: &World) -> Result<()> {
    let mut random = Random::new();
    let files = model(&mut random)?;
    let said = |change: &dyn Fn(&mut Command)| -> Result<String> {
        let mut command = world.command(files.path(), "refused")?;
        change(&mut command);
        let Output { status, stderr, .. } = command.stderr(Stdio::piped()).output()?;
        ensure!(status.code() == Some(2), "it ended with {status}");
        Ok(String::from_utf8_lossy(&stderr).into_owned())
    };
    let expect = |said: String, wanted: &str| -> Result<()> {
        ensure!(said.contains(wanted), "{said}");
        ensure!(said.contains("hint: "), "nothing says what to do: {said}");
        ensure!(!said.contains("wrong-secret"), "a key is shown: {said}");
        Ok(())
    };
    expect(
        said(&|command| {
            command.env("AWS_SECRET_ACCESS_KEY", "wrong-secret");
        })?,
        "doesn't accept these credentials (SignatureDoesNotMatch)",
    )?;
    expect(
        said(&|command| {
            command.env("AWS_ACCESS_KEY_ID", "nobody");
        })?,
        "doesn't accept these credentials (InvalidAccessKeyId)",
    )?;
    expect(
        said(&|command| {
            command.args(["--s3-endpoint", "http://127.0.0.1:1"]);
        })?,
        "no answer from 127.0.0.1:1",
    )?;
    ensure!(world.keys("deployed/refused")?.is_empty(), "something was left behind");
    Ok(())
}

/// A store on a small disk: half of the model fits. What was sent of it is of no use, and nobody would find parts of an object.
pub(crate) fn full(world: &World) -> Result<()> {
    if !host::is_root() {
        eprintln!("left out: only root can make a small disk");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (data, pid) = (folder.path().join("data"), folder.path().join("pid"));
    fs::create_dir(&data)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // In a namespace of its own the disk goes with the server.
    let script = r#"mount -t tmpfs -o size=120m tmpfs "$1" && mkdir "$1/$2" && echo $$ >"$3" && exec "$4" server "$1" --address "$5" --quiet"#;
    let minio = minio()?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&data)
        .arg(BUCKET)
        .arg(&pid)
        .arg(&minio)
        .arg(address.to_string());
    let name = "minio-on-a-small-disk";
    world.processes.start(name, &mut command)?;
    let endpoint = format!("http://{address}");
    let mut random = Random::new();
    let files = tempfile::tempdir()?;
    fs::write(files.path().join("small.bin"), random.fill(100_000))?;
    let upload = || -> Result<Output> {
        let mut command = world.command(files.path(), "full")?;
        command.args(["--s3-endpoint", &endpoint]).env("HOME", folder.path());
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?)
    };
    world.processes.wait("a MinIO on a small disk", STARTS, || {
        upload().is_ok_and(|done| done.status.success())
    })?;
    fs::write(files.path().join("weights.bin"), random.fill(150 << 20))?;
    let refused = upload()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(2) && said.contains("the store is full"),
        "{said}"
    );
    let pid = fs::read_to_string(&pid)?;
    let disk = Path::new("/proc")
        .join(pid.trim())
        .join("root")
        .join(data.strip_prefix("/")?);
    let left = files_below(&disk.join(".minio.sys/multipart"))?;
    ensure!(left.is_empty(), "parts are left: {left:?}");
    // Only the model that was whole before is there.
    let models = fs::read_dir(disk.join(BUCKET).join("deployed/full"))?.count();
    ensure!(models == 2, "{models} folders in place of one model and the manifests");
    let journals = files_below(&folder.path().join(".cache/tidewaiter/uploads"))?;
    ensure!(journals.is_empty(), "it would go on with what isn't there");
    world.processes.stop(name)
}

/// What the command says where it ends with an error: one, and one way out.
fn fails(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(
        status.code() == Some(2) && stdout.is_empty(),
        "it ended with {status}: {said}"
    );
    ensure!(
        said.matches("error: ").count() == 1 && said.matches("hint: ").count() == 1,
        "{said}"
    );
    Ok(said)
}

fn has_no_journal(home: &Path) -> Result<()> {
    let journals = files_below(&home.join(".cache/tidewaiter/uploads"))?;
    ensure!(
        journals.is_empty(),
        "it would go on with what isn't there: {journals:?}"
    );
    Ok(())
}

/// By MinIO's own word: a key whose policy lists and reads.
pub(crate) fn read_only(world: &World) -> Result<()> {
    let key = AccessKey::random("READS")?;
    let (root, trust) = (AccessKey::new(ROOT, ROOT), Trust::System);
    let admin = Admin::new(world.endpoint.parse()?, None, root, &trust)?;
    let account = NewAccount {
        key: &key,
        name: "reads",
        description: "lists and reads what is deployed",
        policy: &Policy::new(&[Grant::new(BUCKET, "deployed/", "deployed/")?])?,
        expires: Timestamp::now() + SignedDuration::from_hours(1),
    };
    world.runtime.block_on(admin.add(&account))?;
    let mut random = Random::new();
    let small = tempfile::tempdir()?;
    fs::write(small.path().join("model.json"), random.fill(1000))?;
    // Written in one request, and begun as one of several parts.
    for files in [small, model(&mut random)?] {
        let home = tempfile::tempdir()?;
        let mut command = world.command(files.path(), "read-only")?;
        command
            .env("HOME", home.path())
            .env("AWS_ACCESS_KEY_ID", key.id())
            .env("AWS_SECRET_ACCESS_KEY", key.secret());
        let said = fails(&mut command)?;
        for part in [
            "error: not allowed to write s3://models/deployed/read-only/",
            "hint: ask for the right to write there, in the bucket `models` (in S3's words s3:PutObject), or take another key",
        ] {
            ensure!(said.contains(part), "no `{part}` in {said}");
        }
        ensure!(!said.contains(key.secret()), "a key is shown: {said}");
        let left = world.keys("deployed/read-only")?;
        ensure!(left.is_empty(), "something was left behind: {left:?}");
        has_no_journal(home.path())?;
    }
    Ok(())
}

/// MinIO's hard quota of a bucket.
pub(crate) fn quota(world: &World) -> Result<()> {
    const NARROW: &str = "narrow";
    let data = world.folder.path().join("data");
    fs::create_dir(data.join(NARROW))?;
    let limit = |size: &str| {
        let address = world.endpoint.trim_start_matches("http://");
        let bucket = format!("here/{NARROW}");
        let mc = Module::Mc.build(&Cache::open()?)?.join("mc");
        host::run(
            Command::new(mc)
                .env("HOME", world.folder.path())
                .env("MC_HOST_here", format!("http://{ROOT}:{ROOT}@{address}"))
                .args(["quota", "set", &bucket, "--size", size]),
        )
    };
    let mut random = Random::new();
    let files = model(&mut random)?;
    let home = tempfile::tempdir()?;
    let upload = |files: &TempDir| -> Result<Command> {
        let mut command = world.command_to(NARROW, files.path(), "quota")?;
        command.env("HOME", home.path());
        Ok(command)
    };
    // As it is called where there is room.
    let whole = world.upload(files.path(), "quota")?;
    let folder = whole["uri"].as_str().unwrap_or_default();
    let folder = folder.trim_start_matches(&format!("s3://{BUCKET}/")).to_owned();
    let small = tempfile::tempdir()?;
    fs::write(small.path().join("model.json"), random.fill(1000))?;
    limit("4MiB")?;
    let before = upload(&small)?.status()?;
    ensure!(before.success(), "what has room is refused: {before}");
    let there = files_below(&data.join(NARROW))?;

    let said = fails(&mut upload(&files)?)?;
    for part in [
        format!(
            "error: can't write s3://{NARROW}/{folder}/weights.bin: the quota of the bucket `{NARROW}` is full (XMinio"
        ),
        "hint: make room there, ask for a larger quota, or take another store".to_owned(),
    ] {
        ensure!(said.contains(&part), "no `{part}` in {said}");
    }
    let left = files_below(&data.join(NARROW))?;
    ensure!(left == there, "before {there:?}, and after {left:?}");
    // Where MinIO keeps the parts of an object.
    let object = Sha256::digest(format!("{NARROW}/{folder}/weights.bin"));
    let object: String = object.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = files_below(&data.join(".minio.sys/multipart").join(object))?;
    ensure!(parts.is_empty(), "parts are left: {parts:?}");
    has_no_journal(home.path())?;

    limit("1GiB")?;
    let after = upload(&files)?.stdout(Stdio::piped()).output()?;
    let after: Value = serde_json::from_slice(&after.stdout)?;
    ensure!(
        after["uri"] == format!("s3://{NARROW}/{folder}"),
        "with room it is {after}"
    );
    Ok(())
}
