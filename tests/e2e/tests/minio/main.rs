//! Minted access keys on the real MinIO, with the S3 client that Tidewaiter reads stores with. It runs on the loopback: no cluster, no root.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use libtest_mimic::{Arguments, Trial};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use reqwest::{Client, Method, StatusCode};
use tempfile::TempDir;
use tidewaiter_e2e::runner::{ends, trial};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::minio;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tls::Authority;
use tidewaiter_ground::tools::Module;
use tidewaiter_minio::{AccessKey, Admin, Change, Grant, NewAccount, Policy, Trust};
use tokio::runtime::Runtime;

mod life;
mod rights;
mod told;

const ROOT: &str = "minioadmin";
const BUCKET: &str = "models";
const STARTS: Duration = Duration::from_mins(1);

/// What is in the store. `team-ab` and `iris-2` are named like something that is granted and wanted.
const OBJECTS: &[&str] = &[
    "team-a/iris/model.bst",
    "team-a/iris/deep/er.json",
    "team-a/iris-2/model.bst",
    "team-a/wine/model.bst",
    "team-ab/secret.bst",
    "team-b/secret.bst",
    "secret.bst",
];

type Test = (&'static str, fn(&World) -> Result<()>);

const TESTS: &[Test] = &[
    (
        "a_key_reads_its_prefix_and_nothing_else",
        rights::a_key_reads_its_prefix_and_nothing_else,
    ),
    (
        "a_key_does_what_kserves_initializer_does",
        rights::a_key_does_what_kserves_initializer_does,
    ),
    (
        "a_changed_policy_counts_at_once_and_alone",
        life::a_changed_policy_counts_at_once_and_alone,
    ),
    ("a_revoked_key_is_refused", life::a_revoked_key_is_refused),
    (
        "a_disabled_key_is_refused_until_it_is_enabled",
        life::a_disabled_key_is_refused_until_it_is_enabled,
    ),
    (
        "keys_are_listed_and_looked_at_as_they_were_made",
        life::keys_are_listed_and_looked_at_as_they_were_made,
    ),
    (
        "the_longest_policy_is_taken_in_any_spelling",
        life::the_longest_policy_is_taken_in_any_spelling,
    ),
    (
        "a_wrong_key_of_the_admin_is_told",
        told::a_wrong_key_of_the_admin_is_told,
    ),
    ("a_missing_right_is_named", told::a_missing_right_is_named),
    (
        "the_user_that_the_page_describes_makes_keys_and_no_more",
        rights::the_user_that_the_page_describes_makes_keys_and_no_more,
    ),
    (
        "a_key_sees_and_revokes_its_siblings_and_makes_none",
        rights::a_key_sees_and_revokes_its_siblings_and_makes_none,
    ),
    (
        "a_certificate_is_checked_as_the_backend_says",
        told::a_certificate_is_checked_as_the_backend_says,
    ),
];

struct Minio {
    endpoint: String,
    processes: Processes,
    folder: TempDir,
}

impl Minio {
    /// Starts one on a free port, with TLS where it has an authority.
    fn start(authority: Option<&Authority>) -> Result<Self> {
        let program = Module::Minio.build(&Cache::open()?)?.join("minio");
        let folder = tempfile::tempdir()?;
        let processes = Processes::new(folder.path())?;
        let data = folder.path().join("data");
        fs::create_dir_all(data.join(BUCKET))?;
        fs::create_dir_all(data.join("other"))?;
        let certificates = folder.path().join("certificates");
        fs::create_dir_all(&certificates)?;
        if let Some(authority) = authority {
            let pair = authority.issue(&["127.0.0.1"])?;
            fs::write(certificates.join("public.crt"), pair.certificate)?;
            fs::write(certificates.join("private.key"), pair.key)?;
        }
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        processes.start(
            "minio",
            minio::server(&mut Command::new(program), ROOT, &data, &address.to_string())
                .arg("--certs-dir")
                .arg(&certificates),
        )?;
        let scheme = if authority.is_some() { "https" } else { "http" };
        Ok(Self {
            endpoint: format!("{scheme}://{address}"),
            processes,
            folder,
        })
    }

    fn admin(&self, key: &AccessKey, trust: &Trust) -> Result<Admin> {
        Ok(Admin::new(self.endpoint.parse()?, None, key.clone(), trust)?)
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        if let Err(error) = self.processes.stop("minio") {
            eprintln!("MinIO of {} may still run: {error:#}", self.folder.path().display());
        }
    }
}

struct World {
    minio: Minio,
    admin: Admin,
    runtime: Runtime,
    web: Client,
}

impl World {
    fn start() -> Result<Self> {
        let minio = Minio::start(None)?;
        let runtime = Runtime::new()?;
        let admin = minio.admin(&root(), &Trust::System)?;
        let asked = || runtime.block_on(admin.list());
        minio
            .processes
            .wait("a MinIO that is ready", STARTS, || asked().is_ok())?;
        let store = store(&minio.endpoint, &root())?;
        for name in OBJECTS {
            runtime.block_on(store.put(&Path::from(*name), name.as_bytes().to_vec().into()))?;
        }
        Ok(Self {
            admin,
            minio,
            runtime,
            web: Client::new(),
        })
    }

    fn key(&self, policy: &Policy) -> Result<AccessKey> {
        let key = AccessKey::random("TEAMA")?;
        let account = NewAccount {
            key: &key,
            name: "team-a",
            description: "models of namespace team-a",
            policy,
            expires: in_an_hour(),
        };
        self.runtime.block_on(self.admin.add(&account))?;
        Ok(key)
    }

    fn update(&self, key: &AccessKey, change: &Change<'_>) -> Result<()> {
        Ok(self.runtime.block_on(self.admin.update(key.id(), change))?)
    }

    fn store(&self, key: &AccessKey) -> Result<AmazonS3> {
        store(&self.minio.endpoint, key)
    }

    fn read(&self, key: &AccessKey, name: &str) -> Result<String, object_store::Error> {
        let store = self.store(key).map_err(|error| object_store::Error::Generic {
            store: "test",
            source: error.into(),
        })?;
        let bytes = self
            .runtime
            .block_on(async { store.get(&Path::from(name)).await?.bytes().await })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn reads(&self, key: &AccessKey, name: &str) -> Result<()> {
        let said = self.read(key, name).with_context(|| format!("{name} can't be read"))?;
        ensure!(said == name, "{name} holds `{said}`");
        Ok(())
    }

    fn may_not_read(&self, key: &AccessKey, name: &str) -> Result<()> {
        refused(&format!("reading {name}"), self.read(key, name))
    }

    /// The names below a folder.
    fn list(&self, key: &AccessKey, folder: &str) -> Result<Vec<String>, object_store::Error> {
        let store = self.store(key).map_err(|error| object_store::Error::Generic {
            store: "test",
            source: error.into(),
        })?;
        let prefix = Path::from(folder);
        let found: Vec<_> = self
            .runtime
            .block_on(store.list((!folder.is_empty()).then_some(&prefix)).try_collect())?;
        let mut names: Vec<_> = found.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        Ok(names)
    }

    /// The status of a request that no S3 library sends.
    fn status(&self, key: &AccessKey, method: Method, path: &str) -> Result<StatusCode> {
        self.send(key, method, path, Vec::new())
    }

    fn send(&self, key: &AccessKey, method: Method, path: &str, body: Vec<u8>) -> Result<StatusCode> {
        let url = format!("{}/{path}", self.minio.endpoint);
        let credential = AwsCredential {
            key_id: key.id().to_owned(),
            secret_key: key.secret().to_owned(),
            token: None,
        };
        let mut signed = HttpRequest::new(body.clone().into());
        *signed.method_mut() = method.clone();
        *signed.uri_mut() = url.parse()?;
        AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut signed, None)?;
        let request = self
            .web
            .request(method, url)
            .headers(signed.headers().clone())
            .body(body);
        Ok(self.runtime.block_on(request.send())?.status())
    }
}

fn root() -> AccessKey {
    AccessKey::new(ROOT, ROOT)
}

fn in_an_hour() -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(1)
}

fn store(endpoint: &str, key: &AccessKey) -> Result<AmazonS3> {
    let once = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    Ok(AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_access_key_id(key.id())
        .with_secret_access_key(key.secret())
        .with_retry(once)
        .build()?)
}

/// In the root `team-a`.
fn policy(prefixes: &[&str]) -> Result<Policy> {
    let grants: Vec<_> = prefixes
        .iter()
        .map(|prefix| Grant::new(BUCKET, "team-a", prefix))
        .collect::<Result<_, _>>()?;
    Ok(Policy::new(&grants)?)
}

fn refused<T>(what: &str, answer: Result<T, object_store::Error>) -> Result<()> {
    match answer {
        Ok(_) => bail!("{what} is allowed"),
        Err(object_store::Error::PermissionDenied { .. }) => Ok(()),
        // A refused listing is of no kind of its own.
        Err(other) => {
            ensure!(
                other.to_string().contains("403 Forbidden"),
                "{what} is refused, but not with 403: {other}"
            );
            Ok(())
        }
    }
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    TESTS.iter().map(|&(name, test)| trial(name, test, world)).collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    ends(World::start().map(|world| libtest_mimic::run(&arguments, trials(Some(&Arc::new(world)))).exit_code()))
}
