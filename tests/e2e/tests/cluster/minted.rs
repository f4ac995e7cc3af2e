//! Access keys of MinIO that are minted for each namespace: what they read, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use serde_json::{Value, json};
use tidewaiter_e2e::install::{backend, without_pods};
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::slow::SlowWay;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace};
use tokio::runtime::Runtime;

use crate::serving::answers;
use crate::{Test, World};
use tidewaiter_e2e::custom::Custom;

pub(crate) const TESTS: &[Test] = &[
    (
        "a_minted_key_answers_and_reads_nothing_else",
        true,
        a_minted_key_answers_and_reads_nothing_else,
    ),
    (
        "a_key_is_wider_before_the_service_that_needs_it_is_admitted",
        false,
        a_key_is_wider_before_the_service_that_needs_it_is_admitted,
    ),
    (
        "a_store_that_is_away_delays_what_a_key_may_read_and_refuses_nobody",
        false,
        a_store_that_is_away_delays_what_a_key_may_read_and_refuses_nobody,
    ),
    (
        "a_key_is_replaced_before_it_ends_and_the_last_one_revoked",
        false,
        a_key_is_replaced_before_it_ends_and_the_last_one_revoked,
    ),
    (
        "a_grant_that_is_taken_back_is_taken_from_the_key",
        false,
        a_grant_that_is_taken_back_is_taken_from_the_key,
    ),
];

const MINTED: &str = "tidewaiter.dev/minted-key";
/// The way to MinIO on which answers can be late.
const LATE: u16 = 9105;
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// A bucket and a backend for one test, both called like its namespace.
pub(crate) struct Store<'a> {
    world: &'a World,
    pub(crate) namespace: Namespace,
    model: Model,
    pub(crate) custom: Custom<'a>,
}

/// What is in a namespace's Secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) id: String,
    secret: String,
}

impl<'a> Store<'a> {
    pub(crate) fn new(world: &'a World, name: &str, port: u16) -> Result<Self> {
        let namespace = world.namespace(name)?;
        let model = Model::make(world.cluster.cache(), "fraud", Mlserver1_7_1)?;
        let store = Self {
            world,
            custom: Custom::apply(
                &world.cluster,
                &minting(namespace.name(), port, &["{namespace}/", "shared/"]),
            )?,
            namespace,
            model,
        };
        store
            .model
            .put(world.cluster.cache(), store.name(), &store.own("fraud"))?;
        for prefix in [&store.own("churn"), "shared/fraud", "other/fraud"] {
            store.fill(prefix)?;
        }
        store.custom.until("Accepted", "True")?;
        Ok(store)
    }

    pub(crate) fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Puts something there that may be read or not.
    pub(crate) fn fill(&self, prefix: &str) -> Result<()> {
        let root = Key {
            id: MINIO_USER.to_owned(),
            secret: MINIO_USER.to_owned(),
        };
        let path = Path::from(format!("{prefix}/model.bst"));
        let put = self.store(&root)?;
        Runtime::new()?.block_on(put.put(&path, b"a model".to_vec().into()))?;
        Ok(())
    }

    /// Keeps Pods away: what a test with many services is about is over before.
    pub(crate) fn without_pods(&self) -> Result<()> {
        without_pods(&self.namespace)
    }

    /// A key in the namespace's own folder.
    pub(crate) fn own(&self, model: &str) -> String {
        format!("{}/{model}", self.name())
    }

    /// Applies a service with this model, and says what the API server warned of.
    pub(crate) fn apply(&self, service: &str, key: &str) -> Result<Vec<String>> {
        let uri = format!("s3://{}/{key}", self.name());
        let said = self.namespace.apply(&manifests::bare(service, "mlflow", &uri))?;
        Ok(said.warnings().into_iter().map(str::to_owned).collect())
    }

    /// Applies a service whose model the namespace's key can read when it is admitted; or the user was told that MinIO took its time, and it comes to read it.
    /// Whether it was told.
    pub(crate) fn apply_and_read(&self, service: &str, model: &str) -> Result<bool> {
        let late = is_late(&self.apply(service, model)?);
        let key = self.key()?;
        if late {
            self.until_reads(&key, model, true)?;
        }
        ensure!(
            self.reads(&key, model)?,
            "{service} is admitted, and its model can't be read"
        );
        Ok(late)
    }

    pub(crate) fn secret(&self) -> Result<Value> {
        self.namespace.get(&format!("secret/tidewaiter-{}", self.name()))
    }

    pub(crate) fn key(&self) -> Result<Key> {
        let secret = self.secret()?;
        let text = |name: &str| -> Result<String> {
            let encoded = secret["data"][name].as_str().context("the Secret has no key")?;
            Ok(String::from_utf8(tidewaiter_ground::tls::from_base64(encoded)?)?)
        };
        Ok(Key {
            id: text("AWS_ACCESS_KEY_ID")?,
            secret: text("AWS_SECRET_ACCESS_KEY")?,
        })
    }

    pub(crate) fn record(&self) -> Result<Value> {
        let secret = self.secret()?;
        let record = secret["metadata"]["annotations"][MINTED].as_str();
        Ok(serde_json::from_str(record.context("the Secret has no record")?)?)
    }

    pub(crate) fn write_record(&self, record: &Value) -> Result<()> {
        let annotation = format!("{MINTED}={record}");
        let what = format!("secret/tidewaiter-{}", self.name());
        self.namespace
            .kubectl(&["annotate", "--overwrite", &what, &annotation])
            .map(drop)
    }

    /// Whether a key can list and read what is below a prefix.
    pub(crate) fn reads(&self, key: &Key, prefix: &str) -> Result<bool> {
        let runtime = Runtime::new()?;
        let store = self.store(key)?;
        let list = store.list(Some(&Path::from(prefix))).try_collect::<Vec<_>>();
        let listed = match runtime.block_on(list) {
            Ok(listed) => listed,
            Err(error) if is_refusal(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let first = listed.first().context("nothing is there")?;
        match runtime.block_on(store.get(&first.location)) {
            Ok(_) => Ok(true),
            Err(error) if is_refusal(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn store(&self, key: &Key) -> Result<Arc<AmazonS3>> {
        // The S3 client's TLS takes the process' own provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_endpoint(format!("http://{HOST}:{MINIO_PORT}"))
            .with_allow_http(true)
            .with_bucket_name(self.name())
            .with_region("us-east-1")
            .with_access_key_id(&key.id)
            .with_secret_access_key(&key.secret)
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            })
            .build()?;
        Ok(Arc::new(store))
    }

    /// Waits until a key can, or can't, read what is below a prefix.
    pub(crate) fn until_reads(&self, key: &Key, prefix: &str, expected: bool) -> Result<()> {
        let what = format!("{} {}read {prefix}", key.id, if expected { "can " } else { "can't " });
        self.world
            .cluster
            .until(&what, SOON, || Ok((self.reads(key, prefix)? == expected).then_some(())))
    }
}

fn is_late(warnings: &[String]) -> bool {
    warnings
        .iter()
        .any(|warning| warning.contains("can't read this model yet"))
}

fn is_refusal(error: &object_store::Error) -> bool {
    let words = error.to_string();
    matches!(error, object_store::Error::PermissionDenied { .. }) || words.contains("403 Forbidden")
}

pub(crate) fn minting(name: &str, port: u16, granted: &[&str]) -> Value {
    let prefixes: Vec<_> = granted.iter().map(|prefix| format!("s3://{name}/{prefix}")).collect();
    let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
    let mut backend = backend(name, name, &prefixes);
    backend["spec"]["s3"]["endpoint"] = json!(format!("http://{HOST}:{port}"));
    backend["spec"]["minting"] = json!({"keyLifetime": "1h"});
    backend
}

fn a_minted_key_answers_and_reads_nothing_else(world: &World) -> Result<()> {
    let store = Store::new(world, "minted", MINIO_PORT)?;
    store.apply_and_read("fraud", &store.own("fraud"))?;
    let key = store.key()?;
    ensure!(key.id != MINIO_USER && key.secret != MINIO_USER, "it is the root's own");
    ensure!(
        !store
            .secret()?
            .to_string()
            .contains(&tidewaiter_ground::tls::base64(MINIO_USER.as_bytes())),
        "the root's key is in the namespace"
    );
    for other in [&store.own("churn"), "shared/fraud", "other/fraud", ""] {
        ensure!(!store.reads(&key, other)?, "it reads {other}");
    }
    answers(world, &store.namespace, "fraud", &store.model)?;
    store
        .model
        .check(&store.namespace.infer_grpc("fraud", &store.model.request)?)
}

fn a_key_is_wider_before_the_service_that_needs_it_is_admitted(world: &World) -> Result<()> {
    let store = Store::new(world, "wider", MINIO_PORT)?;
    store.apply_and_read("fraud", &store.own("fraud"))?;
    let key = store.key()?;
    for (service, model) in [("churn", &store.own("churn")[..]), ("both", "shared/fraud")] {
        store.apply_and_read(service, model)?;
    }
    ensure!(store.key()? == key, "another key was made");
    ensure!(store.reads(&key, &store.own("fraud"))?, "it has lost the first model");
    // Two at once: neither takes from the key what the other gave.
    let models: Vec<_> = (0..6).map(|n| store.own(&format!("at-once-{n}"))).collect();
    for model in &models {
        store.fill(model)?;
    }
    std::thread::scope(|scope| {
        let applied: Vec<_> = models
            .iter()
            .enumerate()
            .map(|(n, model)| {
                scope.spawn({
                    let store = &store;
                    move || store.apply(&format!("at-once-{n}"), model)
                })
            })
            .collect();
        applied.into_iter().try_for_each(|applied| match applied.join() {
            Ok(done) => done.map(drop),
            Err(_) => anyhow::bail!("an apply panicked"),
        })
    })?;
    models.iter().try_for_each(|model| store.until_reads(&key, model, true))
}

fn a_store_that_is_away_delays_what_a_key_may_read_and_refuses_nobody(world: &World) -> Result<()> {
    let store = Store::new(world, "away", LATE)?;
    let warnings = store.apply("fraud", &store.own("fraud"))?;
    ensure!(is_late(&warnings), "{warnings:?}");
    // What KServe freezes in the Pod is there, and what it names comes to work.
    let key = store.key()?;
    ensure!(store.record()?["known"] == "no", "{}", store.record()?);
    ensure!(!store.reads(&key, &store.own("fraud"))?, "MinIO knows the key");
    let way = SlowWay::open(&format!("{HOST}:{LATE}"), &format!("{HOST}:{MINIO_PORT}"))?;
    store.until_reads(&key, &store.own("fraud"), true)?;
    let known = |expected: &str| {
        world.cluster.until("the Secret says so", SOON, || {
            Ok((store.record()?["known"] == expected).then_some(()))
        })
    };
    known("yes")?;
    // It hears what it is told, and answers too late.
    way.delay(Duration::from_mins(1));
    let warnings = store.apply("churn", &store.own("churn"))?;
    ensure!(is_late(&warnings), "{warnings:?}");
    known("partly")?;
    way.delay(Duration::ZERO);
    known("yes")?;
    store.until_reads(&key, &store.own("churn"), true)?;
    ensure!(store.key()? == key, "another key was made");
    Ok(())
}

fn a_key_is_replaced_before_it_ends_and_the_last_one_revoked(world: &World) -> Result<()> {
    let store = Store::new(world, "replaced", MINIO_PORT)?;
    store.apply_and_read("fraud", &store.own("fraud"))?;
    let (first, mut record) = (store.key()?, store.record()?);
    // A third of an hour is left.
    record["expires"] = json!(Timestamp::now() + SignedDuration::from_mins(19));
    store.write_record(&record)?;
    let second = world.cluster.until("the next key is there", SOON, || {
        let key = store.key()?;
        Ok((key != first).then_some(key))
    })?;
    ensure!(store.reads(&second, &store.own("fraud"))?, "the next key can't read");
    ensure!(
        store.reads(&first, &store.own("fraud"))?,
        "the last key is revoked already"
    );
    let mut record = store.record()?;
    ensure!(record["retired"][&first.id].is_string(), "{record}");
    record["retired"][&first.id] = json!(Timestamp::now());
    store.write_record(&record)?;
    store.until_reads(&first, &store.own("fraud"), false)?;
    ensure!(
        store.reads(&second, &store.own("fraud"))?,
        "the next key is revoked too"
    );
    // What is changed by hand is no key of ours any more.
    let what = format!("secret/tidewaiter-{}", store.name());
    let mine = r#"{"stringData": {"AWS_SECRET_ACCESS_KEY": "by hand"}}"#;
    store.namespace.kubectl(&["patch", &what, "--patch", mine])?;
    world.cluster.until("the Secret is as it was", SOON, || {
        Ok((store.key()? == second).then_some(()))
    })
}

fn a_grant_that_is_taken_back_is_taken_from_the_key(world: &World) -> Result<()> {
    let store = Store::new(world, "taken", MINIO_PORT)?;
    store.apply_and_read("fraud", &store.own("fraud"))?;
    store.apply_and_read("shared", "shared/fraud")?;
    let key = store.key()?;
    store
        .custom
        .change(&minting(store.name(), MINIO_PORT, &["{namespace}/"]))?;
    store.until_reads(&key, "shared/fraud", false)?;
    ensure!(store.reads(&key, &store.own("fraud"))?, "it has lost its own");
    store.custom.change(&minting(store.name(), MINIO_PORT, &["nobody/"]))?;
    store.until_reads(&key, &store.own("fraud"), false)?;
    store
        .custom
        .change(&minting(store.name(), MINIO_PORT, &["{namespace}/"]))?;
    store.until_reads(&key, &store.own("fraud"), true)
}
