//! One policy at a time: instance and call in the sandbox, beside the same Rust function called natively.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::Value;
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Operation, Review};
use tidewaiter_engine::{Capability, Engine, FailurePolicy, Limits, LoadedPolicy, Mode, Options, PolicySpec, review};
use tidewaiter_policy::Policy as _;
use tidewaiter_policy::testing::{World, create};
use tidewaiter_store::FRAUD;
use tidewaiter_world::{ClusterReader, Configuration, Folder, ReviewWorld, Stores};

use crate::fixture::Fixture;

const CALLS: usize = 5_000;
const BUDGET: Duration = Duration::from_secs(2);

/// What one policy costs for one review, in microseconds.
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    /// A fresh instance and its call, beyond host calls.
    pub(crate) sandboxed_us: f64,
    /// What its host calls took.
    pub(crate) host_us: f64,
    /// The same function, natively, its host calls answered from memory.
    pub(crate) native_us: f64,
}

pub(crate) async fn measure(fixture: &Fixture) -> Result<Vec<Policy>> {
    let stores = Arc::new(Stores::new(tidewaiter_world::Limits::default()));
    let (objects, problems) = Folder::new(fixture.config()).load()?;
    ensure!(problems.is_empty(), "the configuration has problems: {problems:?}");
    let (configuration, problems) = Configuration::build(&objects, None, &[], &stores);
    ensure!(problems.is_empty(), "the configuration has problems: {problems:?}");
    let configuration = Arc::new(configuration);
    let engine = Engine::new(Options::default())?;
    let object = Document::new(Fixture::object())?;
    let mut policies = Vec::new();
    for builtin in tidewaiter_builtin::POLICIES {
        let policy = load(&engine, builtin).await?;
        let native_us = native(builtin.name)?;
        let (mut own, mut host) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
        for _ in 0..CALLS {
            let reader = Arc::clone(&configuration) as Arc<dyn ClusterReader>;
            let deadline = tokio::time::Instant::now() + BUDGET;
            let world = ReviewWorld::new(configuration.clone(), stores.clone(), reader, "team", deadline);
            let outcome = review(std::slice::from_ref(&policy), &case(&object), Arc::new(world), BUDGET).await;
            ensure!(
                outcome.denial.is_none(),
                "{} refuses the benchmark's object: {:?}",
                builtin.name,
                outcome.denial
            );
            let run = outcome.runs.first().context("the policy did not run")?;
            own.push(run.took.saturating_sub(run.host));
            host.push(run.host);
        }
        policies.push(Policy {
            name: builtin.name,
            sandboxed_us: median(own),
            host_us: median(host),
            native_us,
        });
    }
    Ok(policies)
}

/// Prints what each built-in policy is, imports and weighs.
pub(crate) fn list() -> Result<()> {
    println!("{:<24}{:>9}  imports", "policy", "KiB");
    for builtin in tidewaiter_builtin::POLICIES {
        let decoded = wit_component::decode(builtin.component)?;
        let resolve = decoded.resolve();
        let wit_component::DecodedWasm::Component(_, world) = &decoded else {
            bail!("{} is no component", builtin.name)
        };
        let imports: BTreeSet<_> = resolve.worlds[*world]
            .imports
            .keys()
            .map(|key| resolve.name_world_key(key))
            .collect();
        let imports = Vec::from_iter(imports).join(", ");
        println!("{:<24}{:>9.1}  {imports}", builtin.name, kib(builtin.component.len()));
    }
    Ok(())
}

async fn load(engine: &Engine, builtin: &tidewaiter_builtin::Builtin) -> Result<LoadedPolicy> {
    let spec = PolicySpec {
        name: builtin.name.to_owned(),
        component: Bytes::from_static(builtin.component),
        settings: Value::Null,
        capabilities: vec![
            Capability::Storage,
            Capability::Runtimes,
            Capability::Cluster,
            Capability::Log,
        ],
        limits: Limits::default(),
        failure: FailurePolicy::Fail,
        mode: Mode::Enforce,
    };
    Ok(engine.load(spec).await?)
}

fn case(object: &Document) -> Review<'_> {
    Review {
        operation: Operation::Create,
        api_version: "serving.kserve.io/v1beta1",
        kind: "InferenceService",
        namespace: "team",
        name: "fraud",
        object,
        old_object: None,
        username: "ada",
        groups: &[],
    }
}

/// The median of as many native calls. What the world answers is what it answers in the sandbox.
fn native(name: &str) -> Result<f64> {
    let mut world = World::new()
        .serve("s3://mlflow/", "minio")
        .runtime("mlflow", None, mlserver())
        .release(
            "docker.io/seldonio/mlserver",
            "1.7.1",
            "3.10",
            &[("xgboost", "3.0.2"), ("mlflow", "2.22.1"), ("scikit-learn", "1.7.0")],
        );
    for (file, content) in FRAUD {
        world = world.object(&format!("s3://mlflow/1/models/m-1/artifacts/{file}"), *content);
    }
    let request = create(&serde_json::from_str::<Value>(Fixture::object())?);
    let call: fn(&tidewaiter_policy::Request) -> tidewaiter_policy::Verdict = match name {
        "storage-credentials" => |request| {
            storage_credentials::StorageCredentials::review(request, &storage_credentials::Settings::default())
        },
        "serving-versions" => {
            |request| serving_versions::ServingVersions::review(request, &serving_versions::Settings::default())
        }
        "architecture" => |request| architecture::Architecture::review(request, &architecture::Settings::default()),
        "namespace-guard" => {
            |request| namespace_guard::NamespaceGuard::review(request, &namespace_guard::Settings::default())
        }
        "model-exists" => |request| model_exists::ModelExists::review(request, &model_exists::Settings::default()),
        "serving-protocol" => {
            |request| serving_protocol::ServingProtocol::review(request, &serving_protocol::Settings::default())
        }
        "resources" => |request| resources::Resources::review(request, &resources::Settings::default()),
        other => bail!("no native function for {other}"),
    };
    let mut took = Vec::with_capacity(CALLS);
    world.run(|| {
        for _ in 0..CALLS {
            let start = Instant::now();
            std::hint::black_box(call(&request));
            took.push(start.elapsed());
        }
    });
    Ok(median(took))
}

fn mlserver() -> tidewaiter_policy::runtimes::Runtime {
    tidewaiter_policy::runtimes::Runtime {
        name: "kserve-mlserver".to_owned(),
        repository: "docker.io/seldonio/mlserver".to_owned(),
        tag: "1.7.1".to_owned(),
        digest: String::new(),
        protocols: vec!["v2".to_owned()],
        auto_select: true,
        disabled: false,
    }
}

fn median(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1e6
}

#[allow(clippy::cast_precision_loss, reason = "a size of some 100 KiB")]
fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}
