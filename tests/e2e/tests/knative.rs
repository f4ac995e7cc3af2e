//! KServe in Knative mode, as many clusters have it: the real Knative Serving with Kourier before it, and the same ways as elsewhere, from a manifest or the command
//! to an answer at the service's own URL.
//!
//! Without root no Pod runs, and Knative takes longer to build than the gate has time for: `TIDEWAITER_CHART=all` runs these tests, with both releases of
//! KServe or with that which `TIDEWAITER_KSERVE` names.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tidewaiter_e2e::command::{NO_PROFILES, Said, store_keys};
use tidewaiter_e2e::install::{make_up_models, own_mlserver};
use tidewaiter_e2e::runner::{asked_for, ends, everything, selected, trial};
use tidewaiter_e2e::server::{NOBODY, REVIEWED_BY, command_binary};
use tidewaiter_e2e::{Server, in_the_ground, install, manifests, path, server};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::tools::Kserve;
use tidewaiter_ground::{Cluster, HOST, MINIO_PORT, MINIO_USER, Namespace, Options, host};

/// What a test works with.
struct World {
    cluster: Cluster,
    /// Reviews every namespace but those of others.
    _tidewaiter: Server,
}

impl World {
    /// A fresh namespace that Tidewaiter reviews.
    fn namespace(&self, name: &str) -> Result<Namespace> {
        self.cluster.namespace(name)
    }

    /// A fresh namespace as if Tidewaiter weren't installed.
    fn namespace_without(&self, name: &str) -> Result<Namespace> {
        self.cluster.namespace_with(name, &json!({REVIEWED_BY: NOBODY}))
    }

    /// A model that all namespaces may use.
    fn model(&self, kind: &str) -> Result<(Model, String)> {
        path::model(&self.cluster, kind, Mlserver1_7_1, "mlflow")
    }
}

/// A test's name, and the test.
type Test = (&'static str, fn(&World) -> Result<()>);

const TESTS: &[Test] = &[
    ("a_bare_manifest_answers_at_its_url", a_bare_manifest_answers_at_its_url),
    ("grpc_is_led_to_its_port", grpc_is_led_to_its_port),
    (
        "grpc_without_a_port_reaches_nobody_without_tidewaiter_and_answers_with_it",
        grpc_without_a_port_reaches_nobody_without_tidewaiter_and_answers_with_it,
    ),
    (
        "a_canary_has_its_share_and_is_promoted_and_another_rolled_back",
        a_canary_has_its_share_and_is_promoted_and_another_rolled_back,
    ),
    (
        "a_service_that_nobody_asks_has_no_pod_and_wakes",
        a_service_that_nobody_asks_has_no_pod_and_wakes,
    ),
    (
        "what_knative_would_refuse_later_is_refused_at_once",
        what_knative_would_refuse_later_is_refused_at_once,
    ),
];

/// Most of each test is a model server's start.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    ends(run_all(&arguments))
}

fn run_all(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list || !everything() || !host::is_root() {
        return Ok(libtest_mimic::run(arguments, trials(None)).exit_code());
    }
    let releases = asked_for()?.map_or_else(|| Kserve::ALL.to_vec(), |kserve| vec![kserve]);
    if !TESTS.iter().any(|(name, _)| selected(arguments, name)) {
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for kserve in releases {
        let options = Options { node: true, kserve };
        let done = in_the_ground(options, outside, |cluster| run(arguments, cluster))?;
        if done != ExitCode::SUCCESS {
            code = done;
        }
    }
    Ok(code)
}

fn outside() -> Result<Vec<(&'static str, std::ffi::OsString)>> {
    Cluster::prepare_knative(&Cache::open()?)?;
    Ok(vec![(server::COMMAND, command_binary()?.into_os_string())])
}

fn run(arguments: &Arguments, cluster: Cluster) -> Result<ExitCode> {
    cluster.start_knative()?;
    eprintln!("KServe {} in Knative mode:", cluster.options().kserve.version());
    let world = World {
        _tidewaiter: install(&cluster)?,
        cluster,
    };
    Ok(libtest_mimic::run(arguments, trials(Some(&Arc::new(world)))).exit_code())
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    let ignored = !everything() || !host::is_root();
    let tests = TESTS.iter();
    tests
        .map(|&(name, test)| trial(name, test, world).with_ignored_flag(ignored))
        .collect()
}

/// The command in a namespace, with the store's keys at hand.
fn tidewaiter(namespace: &Namespace, words: &[&str]) -> Result<Said> {
    let mut command = Command::new(command_binary()?);
    command
        .args(words)
        .args(["-n", namespace.name()])
        .env("KUBECONFIG", namespace.cluster().kubeconfig())
        .env("TIDEWAITER_PROFILES", NO_PROFILES)
        .envs(store_keys(MINIO_USER))
        .stdin(Stdio::null());
    Ok(Said::from(command.output()?))
}

/// A deployment to its end, or with what there is to be seen of it.
fn deploy(namespace: &Namespace, uri: &str, more: &[&str]) -> Result<Said> {
    let words = ["deploy", uri, "--name", "fraud"];
    tidewaiter(namespace, &[&words[..], more].concat())?
        .ended(0)
        .with_context(|| diagnosis(namespace))
}

/// What Knative says of the service as well.
fn diagnosis(namespace: &Namespace) -> String {
    let knative = "services.serving.knative.dev,revisions,routes,podautoscalers,serverlessservices,ingresses.networking.internal.knative.dev";
    let knative = namespace.kubectl(&["get", knative]);
    format!(
        "{}\n{}",
        namespace.diagnosis("fraud"),
        knative.unwrap_or_else(|error| format!("{error:#}"))
    )
}

/// What the service answers at its own URL, through Kourier.
fn ask(namespace: &Namespace, model: &Model, more: &[&str]) -> Result<Vec<f64>> {
    let data = model.request.to_string();
    let words = ["predict", "fraud", "-o", "json", "--via", "ingress", "--data", &data];
    let said = tidewaiter(namespace, &[&words[..], more].concat())?
        .ended(0)
        .with_context(|| diagnosis(namespace))?;
    ensure!(said.stderr.contains("Kourier kourier-system/kourier"), "{said:?}");
    let answer: Value = serde_json::from_str(&said.stdout)?;
    let numbers = answer["outputs"][0]["data"].as_array().into_iter().flatten();
    Ok(numbers.filter_map(Value::as_f64).collect())
}

fn status(namespace: &Namespace) -> Result<Value> {
    let said = tidewaiter(namespace, &["status", "fraud", "-o", "json"])?;
    serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))
}

fn revisions(namespace: &Namespace) -> Result<usize> {
    Ok(namespace.get("revisions")?["items"].as_array().map_or(0, Vec::len))
}

/// What any tool sends. It comes to a Knative service, which names its Secret; to send it once more makes no revision.
fn a_bare_manifest_answers_at_its_url(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud")?;
    let team = world.namespace("bare")?;
    let manifest = manifests::bare("fraud", "mlflow", &uri);
    team.apply(&manifest)?;
    path::has_credentials(&team, "fraud")?;
    team.ready("fraud").with_context(|| diagnosis(&team))?;
    model.check(&ask(&team, &model, &["--protocol", "v2"])?)?;

    let said = status(&team)?;
    ensure!(said["mode"] == "Knative" && said["ready"] == "True", "{said}");
    for _ in 0..3 {
        team.apply(&manifest)?;
    }
    ensure!(revisions(&team)? == 1, "applying it again made a revision");
    Ok(())
}

fn grpc_is_led_to_its_port(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud")?;
    let team = world.namespace("grpc")?;
    deploy(&team, &uri, &["--protocol", "grpc"])?;
    model.check(&ask(&team, &model, &["--protocol", "grpc"])?)
}

/// Knative's proxy in the Pod leads all requests to one port, 8080 where none is named.
fn grpc_without_a_port_reaches_nobody_without_tidewaiter_and_answers_with_it(world: &World) -> Result<()> {
    const PROXY: u16 = 8013;
    let (model, uri) = world.model("fraud")?;
    let object = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "protocolVersion": "grpc-v2", "storageUri": uri}}},
    });
    let speaks_grpc = |namespace| own_mlserver(namespace, |spec| spec["protocolVersions"] = json!(["v2", "grpc-v2"]));
    let by_the_proxy = |namespace: &Namespace| {
        let pods = namespace.pods("fraud")?;
        let address = pods.first().and_then(|pod| pod["status"]["podIP"].as_str());
        let address = format!("{}:{PROXY}", address.context("no Pod has an address")?);
        namespace.infer_grpc_at(&address, "fraud", &model.request)
    };
    let without = world.namespace_without("grpc-without")?;
    speaks_grpc(&without)?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::with_keys(&object, &endpoint, MINIO_USER, MINIO_USER))?;
    without.ready("fraud").with_context(|| diagnosis(&without))?;
    let answer = by_the_proxy(&without);
    ensure!(answer.is_err(), "gRPC is answered without a port: {answer:?}");

    let with = world.namespace("grpc-with")?;
    speaks_grpc(&with)?;
    world
        .cluster
        .until("the runtime is known", Duration::from_mins(1), || {
            let said = with.try_apply(&["--server-side", "--dry-run=server"], &object.to_string())?;
            ensure!(said.ok && said.stderr.contains("model.ports"), "{}", said.stderr);
            Ok(Some(()))
        })?;
    with.apply(&object.to_string())?;
    let port = with.get("isvc/fraud")?["spec"]["predictor"]["model"]["ports"].clone();
    let wanted = json!([{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}]);
    ensure!(port == wanted, "ports {port}");
    with.ready("fraud").with_context(|| diagnosis(&with))?;
    model.check(&by_the_proxy(&with)?)?;
    model.check(&ask(&with, &model, &["--protocol", "grpc"])?)
}

/// Where Tidewaiter isn't. One question tells the two models apart.
fn a_canary_has_its_share_and_is_promoted_and_another_rolled_back(world: &World) -> Result<()> {
    let (first, first_uri) = world.model("fraud")?;
    let (second, second_uri) = world.model("prices")?;
    ensure!(first.request == second.request && second.check(&first.answers).is_err());
    let team = world.namespace_without("canary")?;
    // How many of the answers are of the first model, and how many of the second.
    let shares = |questions: usize| -> Result<(usize, usize)> {
        let mut count = (0, 0);
        for _ in 0..questions {
            let answer = ask(&team, &first, &["--protocol", "v2"])?;
            match (first.check(&answer).is_ok(), second.check(&answer).is_ok()) {
                (true, false) => count.0 += 1,
                (false, true) => count.1 += 1,
                _ => anyhow::bail!("no model's answer: {answer:?}"),
            }
        }
        Ok(count)
    };
    let until = |what: &str, all: fn((usize, usize)) -> bool| {
        world.cluster.until(what, Duration::from_mins(2), || {
            let count = shares(8)?;
            ensure!(all(count), "answers of the first and of the second: {count:?}");
            Ok(Some(()))
        })
    };
    deploy(&team, &first_uri, &[])?;
    ensure!(shares(2)? == (2, 0), "another model answers");

    let with = deploy(&team, &second_uri, &["--canary-percent", "50"])?;
    let led = |newest: u64, before: u64| {
        let what = format!("the newest revision has {newest} %, and the one before {before} %");
        world.cluster.until(&what, Duration::from_secs(30), || {
            let said = status(&team)?;
            let percent = |at: usize| said["canaries"][at]["percent"].as_u64();
            ensure!(
                percent(0) == Some(newest) && percent(1) == Some(before),
                "{}\n{}",
                said["canaries"],
                team.get("isvc/fraud")?["status"]["components"]
            );
            Ok(Some(()))
        })
    };
    led(50, 50).with_context(|| format!("{with:?}\n{}", diagnosis(&team)))?;
    until("both revisions answer", |(first, second)| first > 0 && second > 0)?;
    tidewaiter(&team, &["rollback", "fraud"])?.ended(0)?;
    until("the first alone answers", |(_, second)| second == 0)?;
    tidewaiter(&team, &["split", "fraud", "20"])?.ended(0)?;
    led(20, 80)?;
    tidewaiter(&team, &["promote", "fraud"])?.ended(0)?;
    until("the second alone answers", |(first, _)| first == 0)?;
    let led = tidewaiter(&team, &["promote", "fraud"])?.ended(0)?;
    ensure!(led.stderr.contains("Nothing to do."), "{led:?}");
    Ok(())
}

fn a_service_that_nobody_asks_has_no_pod_and_wakes(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud")?;
    let team = world.namespace("zero")?;
    deploy(&team, &uri, &["--scale-to-zero"])?;
    let until_none = |what: &str| {
        world.cluster.until(what, Duration::from_mins(3), || {
            Ok(team.pods("fraud")?.is_empty().then_some(()))
        })
    };
    until_none("the service has no Pod")?;
    let idle = status(&team)?;
    ensure!(idle["ready"] == "True", "{idle}");
    // The first question waits for the Pod.
    model.check(&ask(&team, &model, &["--protocol", "v2", "--timeout", "3m"])?)?;
    ensure!(!team.pods("fraud")?.is_empty(), "no Pod answered");

    if world.cluster.options().kserve == Kserve::V0_20 {
        tidewaiter(&team, &["stop", "fraud"])?.ended(0)?;
        until_none("a stopped service has no Pod")?;
        tidewaiter(&team, &["start", "fraud"])?.ended(0)?;
        team.ready("fraud").with_context(|| diagnosis(&team))?;
        model.check(&ask(&team, &model, &["--protocol", "v2", "--timeout", "3m"])?)?;
    }
    tidewaiter(&team, &["delete", "fraud", "--yes"])?.ended(0)?;
    until_none("a deleted service has no Pod")
}

/// A service's predictor, what Knative says of it once KServe has made the service, and what Tidewaiter says before.
type Refused = (Value, &'static str, &'static str);

fn what_knative_would_refuse_later_is_refused_at_once(world: &World) -> Result<()> {
    let without = world.namespace_without("refused-without")?;
    let with = world.namespace("refused")?;
    make_up_models(&with)?;
    let model = |ports: Value| json!({"model": {"modelFormat": {"name": "mlflow"}, "protocolVersion": "v2", "storageUri": "s3://mlflow/shared/made-up", "ports": ports}});
    let cases: [(&str, Refused); 2] = [
        (
            "two",
            (
                model(json!([{"containerPort": 8080, "name": "http1"}, {"containerPort": 9000, "name": "h2c"}])),
                "more than one container port is set",
                "Knative takes one port for all containers",
            ),
        ),
        (
            "named",
            (
                model(json!([{"containerPort": 8080, "name": "rest"}])),
                "Port name rest is not allowed",
                "Knative takes no port of the name rest",
            ),
        ),
    ];
    for (name, (predictor, theirs, ours)) in cases {
        let object = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": name}, "spec": {"predictor": predictor}});
        without.apply(&object.to_string())?;
        let what = format!("Knative refuses {name}: {theirs}");
        world.cluster.until(&what, Duration::from_mins(1), || {
            let events = without.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"])?;
            ensure!(events.contains(theirs), "{events}");
            Ok(Some(()))
        })?;
        let said = with.try_apply(&["--server-side"], &object.to_string())?;
        ensure!(!said.ok && said.stderr.contains(ours), "{said:?}");
    }

    // What only Knative's admin can allow (`kubernetes.podspec-nodeselector`), the deployer tells in Knative's words.
    let (_, uri) = world.model("fraud")?;
    let words = ["deploy", &uri, "--name", "placed", "--node-selector", "disk=ssd"];
    let said = tidewaiter(&without, &[&words[..], &["--timeout", "2m"]].concat())?.ended(1)?;
    ensure!(
        said.stderr.contains("must not set the field(s)") && said.stderr.contains("nodeSelector"),
        "{said:?}"
    );
    Ok(())
}
