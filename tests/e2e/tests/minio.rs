//! Minted access keys on the real MinIO, with the S3 client that Tidewaiter reads stores with. It runs on the loopback: no cluster, no root.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use libtest_mimic::{Arguments, Trial};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use reqwest::{Client, Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::minio;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tls::Authority;
use tidewaiter_ground::tools::Module;
use tidewaiter_minio::{AccessKey, Admin, Change, Error, Grant, LIMIT, NewAccount, Policy, Right, Trust, encrypt};
use tokio::runtime::Runtime;

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
        a_key_reads_its_prefix_and_nothing_else,
    ),
    (
        "a_key_does_what_kserves_initializer_does",
        a_key_does_what_kserves_initializer_does,
    ),
    (
        "a_changed_policy_counts_at_once_and_alone",
        a_changed_policy_counts_at_once_and_alone,
    ),
    ("a_revoked_key_is_refused", a_revoked_key_is_refused),
    (
        "a_disabled_key_is_refused_until_it_is_enabled",
        a_disabled_key_is_refused_until_it_is_enabled,
    ),
    (
        "keys_are_listed_and_looked_at_as_they_were_made",
        keys_are_listed_and_looked_at_as_they_were_made,
    ),
    (
        "the_longest_policy_is_taken_in_any_spelling",
        the_longest_policy_is_taken_in_any_spelling,
    ),
    ("a_wrong_key_of_the_admin_is_told", a_wrong_key_of_the_admin_is_told),
    ("a_missing_right_is_named", a_missing_right_is_named),
    (
        "the_user_that_the_page_describes_makes_keys_and_no_more",
        the_user_that_the_page_describes_makes_keys_and_no_more,
    ),
    (
        "a_key_sees_and_revokes_its_siblings_and_makes_none",
        a_key_sees_and_revokes_its_siblings_and_makes_none,
    ),
    (
        "a_certificate_is_checked_as_the_backend_says",
        a_certificate_is_checked_as_the_backend_says,
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

fn a_key_reads_its_prefix_and_nothing_else(world: &World) -> Result<()> {
    let key = world.key(&policy(&["team-a/iris/"])?)?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.reads(&key, "team-a/iris/deep/er.json")?;
    let names = world.list(&key, "team-a/iris")?;
    ensure!(
        names == ["team-a/iris/deep/er.json", "team-a/iris/model.bst"],
        "{names:?}"
    );

    for name in [
        "team-a/iris-2/model.bst",
        "team-a/wine/model.bst",
        "team-ab/secret.bst",
        "secret.bst",
    ] {
        world.may_not_read(&key, name)?;
    }
    // Nor does it learn whether there is something.
    world.may_not_read(&key, "team-b/nothing.bst")?;
    for folder in ["", "team-a", "team-a/wine", "team-b"] {
        refused(&format!("listing {folder}"), world.list(&key, folder))?;
    }
    let store = world.store(&key)?;
    for name in ["team-a/iris/model.bst", "team-a/iris/new.bst", "team-b/new.bst"] {
        let path = Path::from(name);
        let written = world.runtime.block_on(store.put(&path, b"x".to_vec().into()));
        refused(&format!("writing {name}"), written)?;
        // A client may delete one by one, or many in one request, which is answered with 200 and a refusal for each.
        let status = world.status(&key, Method::DELETE, &format!("{BUCKET}/{name}"))?;
        ensure!(status == StatusCode::FORBIDDEN, "deleting {name}: {status}");
        ensure!(
            world.runtime.block_on(store.delete(&path)).is_err(),
            "deleting {name} is allowed"
        );
    }
    for name in OBJECTS {
        world.reads(&root(), name)?;
    }
    for (method, path) in [
        (Method::GET, ""),
        (Method::HEAD, "other"),
        (Method::GET, "other?list-type=2&prefix=team-a%2Firis%2F"),
        (Method::GET, "models?list-type=2"),
        (Method::GET, "models?policy"),
        (Method::PUT, "new-bucket"),
        (Method::DELETE, "models"),
        (Method::GET, "minio/admin/v3/list-users"),
    ] {
        let status = world.status(&key, method.clone(), path)?;
        // Of all buckets it sees those that it may list, in a listing that isn't refused.
        let expected = if path.is_empty() {
            status.is_success()
        } else {
            status == StatusCode::FORBIDDEN
        };
        ensure!(expected, "{method} /{path}: {status}");
    }
    Ok(())
}

/// The calls of `_download_s3` in kserve-storage 0.20.0: whether the bucket is there, all that begins with the URI's path, each of them.
fn a_key_does_what_kserves_initializer_does(world: &World) -> Result<()> {
    for path in ["team-a/iris", "team-a/iris/", "team-a/iris/model.bst", "team-a"] {
        let key = world.key(&policy(&[path])?)?;
        let status = world.status(&key, Method::HEAD, BUCKET)?;
        ensure!(status == StatusCode::OK, "{path}: HEAD of the bucket: {status}");
        let status = world.status(&key, Method::GET, &format!("{BUCKET}?location"))?;
        ensure!(status == StatusCode::OK, "{path}: the bucket's region: {status}");
        let encoded = path.replace('/', "%2F");
        let status = world.status(
            &key,
            Method::GET,
            &format!("{BUCKET}?list-type=2&prefix={encoded}&encoding-type=url"),
        )?;
        ensure!(status == StatusCode::OK, "{path}: listing: {status}");
        for name in OBJECTS.iter().filter(|name| name.starts_with(path)) {
            if name.starts_with("team-ab") {
                // Not granted, whatever it is called.
                world.may_not_read(&key, name)?;
            } else {
                world.reads(&key, name)?;
            }
        }
    }
    Ok(())
}

fn a_changed_policy_counts_at_once_and_alone(world: &World) -> Result<()> {
    let iris = policy(&["team-a/iris/"])?;
    let both = policy(&["team-a/iris/", "team-a/wine/"])?;
    let key = world.key(&iris)?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;

    world.update(&key, &Change::policy(&both))?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.reads(&key, "team-a/wine/model.bst")?;
    world.may_not_read(&key, "team-b/secret.bst")?;

    world.update(&key, &Change::policy(&iris))?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;

    // A later end doesn't open anything, though MinIO drops a policy that isn't said again.
    let later = Timestamp::now() + SignedDuration::from_hours(48);
    let change = Change {
        policy: &iris,
        expires: Some(later),
        enabled: None,
    };
    world.update(&key, &change)?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;
    let info = world.runtime.block_on(world.admin.info(key.id()))?;
    ensure!(!info.account.unrestricted && iris.is(&info.policy), "{info:?}");
    let expires = info.account.expires.context("no end")?;
    ensure!(
        expires.as_second() == later.as_second(),
        "it ends at {expires}, not {later}"
    );
    Ok(())
}

fn a_revoked_key_is_refused(world: &World) -> Result<()> {
    let key = world.key(&policy(&["team-a"])?)?;
    world.reads(&key, "team-a/iris/model.bst")?;
    ensure!(world.runtime.block_on(world.admin.delete(key.id()))?, "it wasn't there");
    world.may_not_read(&key, "team-a/iris/model.bst")?;
    refused("listing", world.list(&key, "team-a"))?;
    ensure!(
        !world.runtime.block_on(world.admin.delete(key.id()))?,
        "it is still there"
    );
    let policy = policy(&["team-a"])?;
    let change = Change::policy(&policy);
    for error in [
        world.runtime.block_on(world.admin.info(key.id())).err(),
        world.runtime.block_on(world.admin.update(key.id(), &change)).err(),
    ] {
        let error = error.context("a key that is gone was found")?;
        ensure!(matches!(error, Error::NoAccount { .. }), "{error:?}");
        ensure!(error.to_string().contains(key.id()), "{error}");
    }
    Ok(())
}

fn a_disabled_key_is_refused_until_it_is_enabled(world: &World) -> Result<()> {
    let policy = policy(&["team-a/iris"])?;
    let key = world.key(&policy)?;
    for enabled in [false, true] {
        let change = Change {
            enabled: Some(enabled),
            ..Change::policy(&policy)
        };
        world.update(&key, &change)?;
        let info = world.runtime.block_on(world.admin.info(key.id()))?;
        ensure!(info.account.enabled == enabled, "{info:?}");
        if enabled {
            world.reads(&key, "team-a/iris/model.bst")?;
        } else {
            world.may_not_read(&key, "team-a/iris/model.bst")?;
        }
    }
    Ok(())
}

fn keys_are_listed_and_looked_at_as_they_were_made(world: &World) -> Result<()> {
    let policy = policy(&["team-a/iris", "team-a/wine"])?;
    let expires = in_an_hour();
    let key = AccessKey::random("LISTED")?;
    let account = NewAccount {
        key: &key,
        name: "listed",
        description: "<namespace> \"é\" & others",
        policy: &policy,
        expires,
    };
    world.runtime.block_on(world.admin.add(&account))?;
    let again = world.runtime.block_on(world.admin.add(&account));
    ensure!(
        matches!(&again, Err(Error::Taken { access_key, .. }) if access_key == key.id()),
        "{again:?}"
    );
    let listed = world.runtime.block_on(world.admin.list())?;
    let found: Vec<_> = listed.iter().filter(|account| account.access_key == key.id()).collect();
    let [listed] = found[..] else {
        bail!("{} is listed {} times", key.id(), found.len())
    };
    let info = world.runtime.block_on(world.admin.info(key.id()))?;
    ensure!(policy.is(&info.policy), "{}", info.policy);
    for shown in [listed, &info.account] {
        ensure!(
            shown.user == ROOT
                && shown.name == account.name
                && shown.description == account.description
                && shown.enabled,
            "{shown:?}"
        );
        ensure!(!shown.unrestricted, "{shown:?}");
        ensure!(
            shown.expires.context("no end")?.as_second() == expires.as_second(),
            "{shown:?}"
        );
    }
    Ok(())
}

fn the_longest_policy_is_taken_in_any_spelling(world: &World) -> Result<()> {
    // The second has characters that Go writes longer than others do.
    for text in ["x", "<", "é", "\u{2028}"] {
        let grant = |many: usize, fill: usize| -> Result<Grant> {
            Ok(Grant::new(
                BUCKET,
                "team-a/",
                &format!("team-a/{}{}", text.repeat(many), "f".repeat(fill)),
            )?)
        };
        // Its prefix stands in a policy twice, and a prefix that is too long becomes its root.
        let longest = |policy: &Policy| !policy.as_json().contains("team-a/*");
        let mut many = 1;
        while longest(&Policy::new(&[grant(many + 1, 0)?])?) {
            many += 1;
        }
        let mut fill = 0;
        while longest(&Policy::new(&[grant(many, fill + 1)?])?) {
            fill += 1;
        }
        let policy = Policy::new(&[grant(many, fill)?])?;
        let key = world
            .key(&policy)
            .with_context(|| format!("a policy of {many} times {text:?}"))?;
        let info = world.runtime.block_on(world.admin.info(key.id()))?;
        ensure!(policy.is(&info.policy), "{}", info.policy);
        if text == "x" {
            let length = policy.as_json().len();
            ensure!(
                (LIMIT - 1..=LIMIT).contains(&length),
                "a policy of {length} bytes is not the longest"
            );
        }
    }
    Ok(())
}

fn a_wrong_key_of_the_admin_is_told(world: &World) -> Result<()> {
    for (key, words) in [
        (
            AccessKey::new(ROOT, "not-the-secret"),
            "403 SignatureDoesNotMatch: the admin's secret key is wrong",
        ),
        (
            AccessKey::new("nobody", "not-the-secret"),
            "403 InvalidAccessKeyId: it doesn't know the admin's access key",
        ),
    ] {
        let error = world.runtime.block_on(world.minio.admin(&key, &Trust::System)?.list());
        let error = error.err().context("a wrong key was taken")?;
        ensure!(matches!(error, Error::Credentials { .. }), "{error:?}");
        let said = format!("{error} {error:?}");
        ensure!(said.contains(words) && !said.contains("not-the-secret"), "{said}");
    }
    Ok(())
}

/// A minted key's policy has no right to make others.
fn a_missing_right_is_named(world: &World) -> Result<()> {
    let policy = policy(&["team-a"])?;
    let key = world.key(&policy)?;
    let poor = world.minio.admin(&key, &Trust::System)?;
    let wider = AccessKey::random("WIDER")?;
    let account = NewAccount {
        key: &wider,
        name: "wider",
        description: "",
        policy: &policy,
        expires: in_an_hour(),
    };
    let other = world.key(&policy)?;
    let change = Change::policy(&policy);
    for (error, right, words) in [
        (
            world.runtime.block_on(poor.add(&account)).err(),
            Right::Create,
            "`admin:CreateServiceAccount`",
        ),
        (
            world.runtime.block_on(poor.update(other.id(), &change)).err(),
            Right::Update,
            "`admin:UpdateServiceAccount`",
        ),
        (
            world.runtime.block_on(poor.update(key.id(), &change)).err(),
            Right::Update,
            "`admin:UpdateServiceAccount`",
        ),
    ] {
        let error = error.with_context(|| format!("a key without {words} has it"))?;
        ensure!(
            matches!(error, Error::Forbidden { right: said, .. } if said == right),
            "{error:?}"
        );
        ensure!(error.to_string().contains(words), "{error}");
    }
    Ok(())
}

/// What docs/minio.md tells an admin to do, with the policy that stands there.
fn the_user_that_the_page_describes_makes_keys_and_no_more(world: &World) -> Result<()> {
    const PAGE: &str = include_str!("../../../docs/minio.md");
    let json = PAGE.split("```json").nth(1).and_then(|rest| rest.split("```").next());
    let rights = json.context("the page has a policy")?.replace("mlflow", BUCKET);
    let user = AccessKey::new("tidewaiter", "a-password-of-the-users");
    let made = json!({"secretKey": user.secret(), "status": "enabled"}).to_string();
    let body = encrypt(ROOT, made.as_bytes()).map_err(|failed| anyhow::anyhow!("{failed:?}"))?;
    for (path, body) in [
        ("add-user?accessKey=tidewaiter", body),
        ("add-canned-policy?name=tidewaiter", rights.into_bytes()),
        (
            "set-user-or-group-policy?isGroup=false&policyName=tidewaiter&userOrGroup=tidewaiter",
            Vec::new(),
        ),
    ] {
        let status = world.send(&root(), Method::PUT, &format!("minio/admin/v3/{path}"), body)?;
        ensure!(status.is_success(), "{path}: {status}");
    }

    let admin = world.minio.admin(&user, &Trust::System)?;
    let (narrow, wide) = (policy(&["team-a/iris/"])?, policy(&["team-a/iris/", "team-a/wine/"])?);
    let key = AccessKey::random("USERS")?;
    let account = NewAccount {
        key: &key,
        name: "team-a",
        description: "",
        policy: &narrow,
        expires: in_an_hour(),
    };
    world.runtime.block_on(admin.add(&account))?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;
    // It may change no key at all, so it makes its own anew: the same ID and secret, that reads more or less.
    let roots = world.key(&narrow)?;
    for other in [&key, &roots] {
        let changed = world.runtime.block_on(admin.update(other.id(), &Change::policy(&wide)));
        ensure!(
            matches!(
                changed,
                Err(Error::Forbidden {
                    right: Right::Update,
                    ..
                })
            ),
            "it changes {}: {changed:?}",
            other.id()
        );
    }
    for (policy, reads) in [(&wide, true), (&narrow, false), (&wide, true)] {
        let began = Instant::now();
        world
            .runtime
            .block_on(admin.replace(&NewAccount { policy, ..account }))?;
        eprintln!("made anew in {:?}, a body's encryption and all", began.elapsed());
        world.reads(&key, "team-a/iris/model.bst")?;
        if reads {
            world.reads(&key, "team-a/wine/model.bst")?;
        } else {
            world.may_not_read(&key, "team-a/wine/model.bst")?;
        }
    }
    let info = world.runtime.block_on(admin.info(key.id()))?;
    ensure!(info.account.enabled && wide.is(&info.policy), "{info:?}");
    ensure!(
        world.runtime.block_on(admin.list())?.len() == 1,
        "it sees other keys than its own"
    );
    // Root's keys are none of its: it can neither see, replace nor revoke them.
    let seen = world.runtime.block_on(admin.info(roots.id()));
    ensure!(matches!(seen, Err(Error::Forbidden { .. })), "{seen:?}");
    let taken = NewAccount { key: &roots, ..account };
    let replaced = world.runtime.block_on(admin.replace(&taken));
    ensure!(
        matches!(&replaced, Err(Error::Foreign { access_key, .. }) if access_key == roots.id()),
        "{replaced:?}"
    );
    ensure!(
        !world.runtime.block_on(admin.delete(roots.id()))?,
        "it revokes root's key"
    );
    world.reads(&roots, "team-a/iris/model.bst")?;
    ensure!(
        world.runtime.block_on(admin.delete(key.id()))?,
        "it can't revoke its key"
    );
    // What can't be made leaves the key that is there alone.
    world.runtime.block_on(admin.add(&account))?;
    let over = NewAccount {
        expires: Timestamp::now(),
        ..account
    };
    ensure!(world.runtime.block_on(admin.replace(&over)).is_err(), "it has ended");
    world.reads(&key, "team-a/iris/model.bst")?;
    world.runtime.block_on(admin.delete(key.id()))?;

    for (method, path) in [
        (Method::GET, "minio/admin/v3/list-users"),
        (Method::PUT, &format!("{BUCKET}/team-a/iris/model.bst")),
        (Method::DELETE, &format!("{BUCKET}/team-a/iris/model.bst")),
    ] {
        let status = world.status(&user, method.clone(), path)?;
        ensure!(status == StatusCode::FORBIDDEN, "{method} {path}: {status}");
    }
    Ok(())
}

/// A limit of MinIO's that docs/minio.md names, and one that it hasn't: should it fail, the page says too much or too little.
fn a_key_sees_and_revokes_its_siblings_and_makes_none(world: &World) -> Result<()> {
    let own = policy(&["team-a/iris"])?;
    ensure!(
        own.as_json().contains(r#"{"Effect":"Deny","Action":["admin:*"]}"#),
        "{}",
        own.as_json()
    );
    let (key, sibling) = (world.key(&own)?, world.key(&own)?);
    let holder = world.minio.admin(&key, &Trust::System)?;
    let listed = world.runtime.block_on(holder.list())?;
    ensure!(
        listed.iter().any(|account| account.access_key == sibling.id()),
        "MinIO hides siblings now: {listed:?}"
    );
    let info = world.runtime.block_on(holder.info(sibling.id()))?;
    ensure!(own.is(&info.policy), "{info:?}");
    let further = AccessKey::random("FURTHER")?;
    let account = NewAccount {
        key: &further,
        name: "further",
        description: "",
        policy: &own,
        expires: in_an_hour(),
    };
    let made = world.runtime.block_on(holder.add(&account));
    ensure!(matches!(made, Err(Error::Forbidden { .. })), "{made:?}");
    ensure!(
        world.runtime.block_on(holder.delete(sibling.id()))?,
        "MinIO keeps siblings from each other now"
    );
    world.may_not_read(&sibling, "team-a/iris/model.bst")
}

fn a_certificate_is_checked_as_the_backend_says(world: &World) -> Result<()> {
    let authority = Authority::new("minio")?;
    let minio = Minio::start(Some(&authority))?;
    let bundle = Trust::Bundle(authority.certificate());
    let list = |trust: &Trust| -> Result<_> { Ok(world.runtime.block_on(minio.admin(&root(), trust)?.list())) };
    minio.processes.wait("a MinIO with TLS", STARTS, || {
        list(&bundle).is_ok_and(|answer| answer.is_ok())
    })?;
    list(&Trust::Anybody)?.context("any certificate is good enough")?;
    for trust in [Trust::System, Trust::Bundle(Authority::new("another")?.certificate())] {
        let error = list(&trust)?.err().context("a certificate of nobody's was taken")?;
        ensure!(
            error.to_string().contains("nobody we trust signed the certificate"),
            "{error}"
        );
    }
    Ok(())
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    TESTS
        .iter()
        .map(|&(name, test)| {
            let world = world.cloned();
            Trial::test(name, move || {
                let run = || test(&*world.context("there is no MinIO")?);
                run().map_err(|error: anyhow::Error| format!("{error:#}").into())
            })
        })
        .collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    match World::start() {
        Ok(world) => libtest_mimic::run(&arguments, trials(Some(&Arc::new(world)))).exit_code(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
