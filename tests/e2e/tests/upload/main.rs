//! Uploads by the real command to the real MinIO: killed at random moments, by a slow line, and with a store that says no. It runs on the loopback: no cluster, and
//! no root but for a small disk and a slow line.

mod line;
mod refusals;
mod torch_serve;

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use libtest_mimic::{Arguments, Trial};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use serde_json::Value;
use tempfile::TempDir;
use tidewaiter_deployer::model::Framework;
use tidewaiter_deployer::prepare::TorchServe;
use tidewaiter_deployer::source::Source;
use tidewaiter_deployer::stage::{self, Staged};
use tidewaiter_deployer::store::{Access, S3, S3Identity};
use tidewaiter_deployer::upload;
use tidewaiter_e2e::server::command_binary;
use tidewaiter_e2e::{most_memory, runner};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tools::Module;
use tidewaiter_ground::{host, minio, python};
use tokio::runtime::Runtime;

const ROOT: &str = "minioadmin";
const BUCKET: &str = "models";
const STARTS: Duration = Duration::from_mins(1);
/// How many uploads are killed. The gate counts the tries, of which some come when the upload has ended by itself; `cargo xtask test --all` goes on until so many met
/// one that ran.
const KILLS: usize = 100;
/// More than one part, and files of one request each.
const LARGE: usize = 40 << 20;
const SMALL: usize = 24;
/// What may be on its way at once, and a quarter more.
const IN_MEMORY: u64 = (96 + 24) << 20;

type Test = (&'static str, fn(&World) -> Result<()>);

const TESTS: &[Test] = &[
    ("a_killed_upload_is_completed_and_never_half_there", killed),
    ("what_a_killed_upload_sent_is_not_sent_again", resumed),
    ("a_file_that_changed_under_its_own_date_is_refused", changed),
    ("memory_is_bounded_whatever_sizes_files_have", bounded),
    ("a_store_that_says_no_is_one_sentence", refusals::refused),
    ("a_store_that_is_full_keeps_nothing_of_it", refusals::full),
    (
        "a_bucket_that_may_only_be_read_is_told_with_the_right_that_is_missing",
        refusals::read_only,
    ),
    (
        "a_bucket_whose_quota_is_full_keeps_nothing_of_it_and_takes_it_later",
        refusals::quota,
    ),
    ("a_slow_line_is_waited_for_and_a_cut_one_taken_up_again", line::slow),
    ("a_line_that_stays_cut_is_told_and_goes_on_where_it_was", line::cut),
    ("an_archive_is_what_torchserves_own_tool_makes", torch_serve::made_alike),
    (
        "torchserve_itself_opens_the_archive_as_it_is_configured",
        torch_serve::opened,
    ),
    ("a_saved_model_is_what_tensorflow_opens", saved_model),
];

/// What the gate has no time for, as TensorFlow is a gigabyte and a line is given a minute: `cargo xtask test --all` runs it.
const LONG: [&str; 2] = [
    "a_saved_model_is_what_tensorflow_opens",
    "a_line_that_stays_cut_is_told_and_goes_on_where_it_was",
];

fn tests() -> impl Iterator<Item = &'static Test> {
    TESTS
        .iter()
        .filter(|(name, _)| runner::everything() || !LONG.contains(name))
}

struct World {
    endpoint: String,
    processes: Processes,
    runtime: Runtime,
    store: AmazonS3,
    folder: TempDir,
}

impl World {
    fn start() -> Result<Self> {
        Self::on(tempfile::tempdir()?)
    }

    /// With what lies in this folder.
    fn on(folder: TempDir) -> Result<Self> {
        let processes = Processes::new(folder.path())?;
        let data = folder.path().join("data");
        fs::create_dir_all(data.join(BUCKET))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        processes.start(
            "minio",
            minio::server(&mut Command::new(minio()?), ROOT, &data, &address.to_string()),
        )?;
        // Tests that are built together share the features of rustls.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = format!("http://{address}");
        let store = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(BUCKET)
            .with_access_key_id(ROOT)
            .with_secret_access_key(ROOT)
            .build()?;
        let runtime = Runtime::new()?;
        let asked = || runtime.block_on(store.list(None).try_collect::<Vec<_>>());
        processes.wait("a MinIO that is ready", STARTS, || asked().is_ok())?;
        Ok(Self {
            endpoint,
            processes,
            runtime,
            store,
            folder,
        })
    }

    /// The command, without a terminal and with a home of its own.
    fn command(&self, model: &Path, name: &str) -> Result<Command> {
        self.command_to(BUCKET, model, name)
    }

    /// The same with another bucket.
    fn command_to(&self, bucket: &str, model: &Path, name: &str) -> Result<Command> {
        let mut command = Command::new(command_binary()?);
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("AWS_ACCESS_KEY_ID", ROOT)
            .env("AWS_SECRET_ACCESS_KEY", ROOT)
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .arg("upload")
            .arg(model)
            .args([
                "--to",
                &format!("s3://{bucket}/deployed/"),
                "--name",
                name,
                "-o",
                "json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }

    fn upload(&self, model: &Path, name: &str) -> Result<Value> {
        let output = self
            .command(model, name)?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Kills an upload after a while; whether it had ended by then.
    fn kill_after(&self, wait: Duration, model: &Path, name: &str) -> Result<bool> {
        let mut running = self.command(model, name)?.spawn()?;
        sleep(wait);
        let ended = running.try_wait()?.is_some();
        running.kill()?;
        running.wait()?;
        Ok(ended)
    }

    fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.store.list(Some(&Key::from(prefix))).try_collect::<Vec<_>>();
        let listed = self.runtime.block_on(listed)?;
        Ok(listed.into_iter().map(|object| object.location.to_string()).collect())
    }

    /// A manifest is only there when each file is, with the content that it had here.
    fn check(&self, model: &Path, name: &str) -> Result<usize> {
        let base = format!("deployed/{name}");
        let manifests = self.keys(&format!("{base}/manifests"))?;
        for manifest in &manifests {
            let read = self.read(manifest)?;
            let manifest: Value = serde_json::from_slice(&read)?;
            let digest = manifest["digest"].as_str().context("a manifest without a digest")?;
            let files = manifest["files"].as_array().context("a manifest without files")?;
            ensure!(files.len() == SMALL + 1, "the manifest has {} files", files.len());
            for file in files {
                let path = file["path"].as_str().context("a file without a path")?;
                let there = self.read(&format!("{base}/{digest}/{path}"));
                let there = there.with_context(|| format!("the manifest is there, and {path} is not"))?;
                ensure!(there == fs::read(model.join(path))?, "{path} is not what it was here");
            }
        }
        Ok(manifests.len())
    }

    fn access(&self) -> Access {
        Access {
            s3: S3 {
                endpoint: Some(self.endpoint.clone()),
                identity: S3Identity::Key {
                    id: ROOT.to_owned(),
                    secret: ROOT.to_owned().into(),
                    token: None,
                },
                ..S3::default()
            },
            ..Access::default()
        }
    }

    /// The model of a folder, laid out and uploaded.
    fn stage(&self, model: &Path, framework: Framework, torch_serve: Option<TorchServe>) -> Result<Staged> {
        let options = stage::Options {
            framework: Some(framework),
            stores: self.access(),
            artifact_store: Some(format!("s3://{BUCKET}/deployed/").parse()?),
            name: "net".to_owned(),
            torch_serve,
            ..stage::Options::default()
        };
        let source = Source::Local(model.to_owned());
        self.runtime
            .block_on(stage::stage(&source, &options, &|_| {}))
            .map_err(|error| anyhow::anyhow!("{error}; {}", error.next()))
    }

    fn read(&self, key: &str) -> Result<Vec<u8>> {
        let key = Key::from(key);
        let read = self
            .runtime
            .block_on(async { self.store.get(&key).await?.bytes().await });
        Ok(read?.to_vec())
    }
}

/// MinIO's server.
fn minio() -> Result<PathBuf> {
    Ok(Module::Minio.build(&Cache::open()?)?.join("minio"))
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.processes.stop("minio");
    }
}

/// Numbers that nobody foresees; not for secrets.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: usize) -> Vec<u8> {
        (0..bytes.div_ceil(8))
            .flat_map(|_| self.next().to_le_bytes())
            .take(bytes)
            .collect()
    }
}

/// One file of several parts, and many small ones.
fn model(random: &mut Random) -> Result<TempDir> {
    let model = tempfile::tempdir()?;
    fs::write(model.path().join("weights.bin"), random.fill(LARGE))?;
    fs::create_dir(model.path().join("parts"))?;
    for number in 0..SMALL {
        fs::write(model.path().join(format!("parts/{number}.bin")), random.fill(100_000))?;
    }
    Ok(model)
}

fn killed(world: &World) -> Result<()> {
    let mut random = Random::new();
    let mut round = 0;
    let (mut tries, mut kills) = (0, 0);
    let mut half = 0;
    while (if runner::everything() { kills } else { tries }) < KILLS {
        let files = model(&mut random)?;
        let name = format!("round-{round}");
        // How long it takes undisturbed; a moment of each model's own upload is then chosen.
        let began = Instant::now();
        world.upload(files.path(), &format!("whole-{round}"))?;
        let whole = began.elapsed();
        for _ in 0..10 {
            let share = u32::try_from(random.next() % 1000)?;
            let ended = world.kill_after(whole * share / 1000, files.path(), &name)?;
            tries += 1;
            kills += usize::from(!ended);
            let manifests = world.check(files.path(), &name)?;
            half += usize::from(manifests == 0 && !ended);
            if manifests > 0 {
                break;
            }
        }
        let uploaded = world.upload(files.path(), &name)?;
        ensure!(world.check(files.path(), &name)? == 1, "no manifest after {uploaded}");
        round += 1;
    }
    ensure!(
        half > KILLS / 4,
        "only {half} of {tries} uploads were killed half way: the test shows little"
    );
    Ok(())
}

fn resumed(world: &World) -> Result<()> {
    let mut random = Random::new();
    let files = model(&mut random)?;
    // Until something is there and not all of it.
    let mut wait = Duration::from_millis(100);
    loop {
        world.kill_after(wait, files.path(), "resumed")?;
        if !world.keys("deployed/resumed")?.is_empty() {
            break;
        }
        wait += Duration::from_millis(50);
        ensure!(wait < Duration::from_mins(1), "nothing was ever sent");
    }
    let again = world.upload(files.path(), "resumed")?;
    ensure!(again["reused"].as_u64() > Some(0), "everything was sent again: {again}");
    let third = world.upload(files.path(), "resumed")?;
    ensure!(third["sent"] == 0, "the same content was sent again: {third}");
    Ok(())
}

/// Of parts and what is left for the last of them, of files that are no parts and of small ones.
fn bounded(world: &World) -> Result<()> {
    const MIB: u64 = 1 << 20;
    let most = |name: &str, sizes: &[u64]| -> Result<u64> {
        let model = tempfile::tempdir()?;
        for (number, &bytes) in sizes.iter().enumerate() {
            File::create(model.path().join(number.to_string()))?.set_len(bytes)?;
        }
        let mut running = world.command(model.path(), name)?.spawn()?;
        let most = most_memory(&mut running)?;
        ensure!(running.wait()?.success(), "{name} was not uploaded");
        Ok(most)
    };
    let least = most("one-byte", &[1])?;
    for (name, sizes) in [
        ("tens", vec![10 * MIB; 40]),
        ("nearly-parts", vec![30 * MIB; 16]),
        ("parts", [vec![65 * MIB; 5], vec![MIB - 1; 100]].concat()),
    ] {
        let beyond = most(name, &sizes)?.saturating_sub(least);
        ensure!(beyond <= IN_MEMORY, "{name} took {} MiB more", beyond / MIB);
    }
    Ok(())
}

/// Written between the reading and the sending, in the same size and with the date that it had: nothing but the digest that the store was told shows it.
fn changed(world: &World) -> Result<()> {
    for file in ["weights.bin", "parts/3.bin"] {
        let files = model(&mut Random::new())?;
        let options = upload::Options {
            root: format!("s3://{BUCKET}/deployed/").parse()?,
            name: "changed".to_owned(),
            stores: world.access(),
            journal: None,
        };
        let sent = world.runtime.block_on(async {
            let items = upload::of_folder(files.path()).await?;
            let pending = upload::prepare(items, &options, &|_| {}).await?;
            let path = files.path().join(file);
            let date = fs::metadata(&path)?.modified()?;
            let mut content = fs::read(&path)?;
            *content.last_mut().context("an empty file")? ^= 1;
            fs::write(&path, content)?;
            fs::File::options().append(true).open(&path)?.set_modified(date)?;
            anyhow::Ok(pending.send(&|_| {}).await)
        })?;
        let expected = upload::Error::Changed { file: file.to_owned() };
        ensure!(sent == Err(expected), "{sent:?}");
        ensure!(world.keys("deployed/changed/manifests")?.is_empty(), "{file} was sent");
    }
    Ok(())
}

fn saved_model(world: &World) -> Result<()> {
    let site = python::site(&Cache::open()?, "tensorflow-2.19.1")?;
    let tensorflow = |what: &str, folder: &Path| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/saved_model.py");
        host::run(python::command(&[&site])?.args([script, what]).arg(folder))
    };
    let folder = tempfile::tempdir()?;
    let (made, deployed) = (folder.path().join("made"), folder.path().join("deployed"));
    tensorflow("make", &made)?;
    let staged = world.stage(&made, Framework::Tensorflow, None)?;
    for key in world.keys(staged.uri.key())? {
        let below = key.strip_prefix(staged.uri.key()).context("another model's file")?;
        let file = deployed.join(below.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a file in a folder")?)?;
        fs::write(file, world.read(&key)?)?;
    }
    tensorflow("open", &deployed)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        let trials = tests().map(|(name, _)| Trial::test(*name, || Ok(())));
        return libtest_mimic::run(&arguments, trials.collect()).exit_code();
    }
    let world = match World::start() {
        Ok(world) => std::sync::Arc::new(world),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let trials = tests().map(|&(name, test)| runner::trial(name, test, Some(&world)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
