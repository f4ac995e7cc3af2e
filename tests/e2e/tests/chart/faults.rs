//! Services are created all the time, and something breaks. What their users saw of it is printed: docs/faults.md is made of that.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::Release;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{NAMESPACE, backend, look_for_models};
use tidewaiter_e2e::load::{Load, Outcome, SOON, has_credentials, service};
use tidewaiter_e2e::policy::{install_unruly, unruly_in};
use tidewaiter_ground::models::Model;
use tidewaiter_ground::slow::SlowWay;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, tls};

use crate::life::{state, unchanged};
use crate::shared::key;
use crate::{REPLICAS, Test, World, locked};

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_leader_loses_no_service", a_killed_leader_loses_no_service),
    (
        "what_came_while_no_replica_was_there_is_filled_in_soon",
        what_came_while_no_replica_was_there_is_filled_in_soon,
    ),
    (
        "a_deleted_certificate_comes_back_and_no_service_is_lost",
        a_deleted_certificate_comes_back_and_no_service_is_lost,
    ),
    ("a_replaced_policy_loses_no_service", a_replaced_policy_loses_no_service),
    (
        "rotated_credentials_reach_every_namespace_and_lose_no_service",
        rotated_credentials_reach_every_namespace_and_lose_no_service,
    ),
    (
        "an_api_server_that_restarts_loses_no_service",
        an_api_server_that_restarts_loses_no_service,
    ),
    (
        "an_api_server_that_has_not_read_its_roles_loses_no_service",
        an_api_server_that_has_not_read_its_roles_loses_no_service,
    ),
    (
        "an_etcd_that_restarts_loses_no_service",
        an_etcd_that_restarts_loses_no_service,
    ),
    (
        "a_store_that_hangs_loses_no_service",
        a_store_that_hangs_loses_no_service,
    ),
    (
        "a_store_that_answers_late_loses_no_service",
        a_store_that_answers_late_loses_no_service,
    ),
];

/// Runs `fault` under load, prints what the users saw of it, and checks that nothing was lost.
fn under_load(world: &World, fault: &str, uri: &str, work: impl FnOnce(&Load) -> Result<()>) -> Result<Outcome> {
    world.release()?;
    under(Load::begin(&world.cluster, "fault", uri, EVERY)?, world, fault, work)
}

/// How often a service comes.
pub(crate) const EVERY: Duration = Duration::from_millis(300);

/// The same under this load.
pub(crate) fn under(load: Load, world: &World, fault: &str, work: impl FnOnce(&Load) -> Result<()>) -> Result<Outcome> {
    let release = world.release_as_it_is()?;
    load.go_on(4)?;
    let done = work(&load).and_then(|()| load.go_on(4));
    let outcome = load.finish()?;
    println!("{fault}: {outcome}");
    let checked = done.and_then(|()| outcome.nothing_lost().map(drop));
    checked.with_context(|| format!("{outcome:#?}\n{}", release.diagnosis()))?;
    Ok(outcome)
}

fn a_killed_leader_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let killed = |_: &Load| kill_leader(world, &release);
    under_load(world, "the leader is killed with -9", &uri, killed).map(drop)
}

/// Returns when all replicas are ready again, and one of them leads.
pub(crate) fn kill_leader(world: &World, release: &Release) -> Result<()> {
    let leader = release.leader()?;
    world.cluster.kill_containers(&leader)?;
    until_started_again(world, &[leader])?;
    release.until_ready(REPLICAS)?;
    release.leader().map(drop)
}

/// Waits until each of these Pods, as they were before their containers were killed, has had them started again.
pub(crate) fn until_started_again(world: &World, before: &[Value]) -> Result<()> {
    let minute = Duration::from_mins(1);
    for pod in before {
        let name = format!("pod/{}", pod["metadata"]["name"].as_str().unwrap_or_default());
        world.cluster.until("the container runs again", minute, || {
            let now = world.cluster.get(NAMESPACE, &name)?;
            Ok((restarts(&now) > restarts(pod)).then_some(()))
        })?;
    }
    Ok(())
}

/// A dead gate lets everything pass; the leader looks after it.
fn what_came_while_no_replica_was_there_is_filled_in_soon(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let (api, namespace) = (world.cluster.api()?, world.cluster.namespace("llm")?);
    // Where this namespace may not read.
    let mut foreign = service("foreign", "s3://mlflow/elsewhere/fraud");
    foreign["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
    let mut moved = service("moved", &uri);
    moved["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
    namespace.apply(&moved.to_string())?;
    world
        .cluster
        .until("the service that will move has its credentials", SOON, || {
            Ok(has_credentials(&namespace.get("isvc/moved")?).then_some(()))
        })?;
    // One of the other kind, which another watch of the leader's shows; KServe 0.15 has none.
    let crd = "crd/llminferenceservices.serving.kserve.io";
    let knows_llms = !world
        .cluster
        .kubectl(&["get", crd, "--ignore-not-found", "--output=name"])?
        .is_empty();
    let llm = json!({
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LLMInferenceService",
        "metadata": {"name": "chat"},
        "spec": {"model": {"uri": format!("s3://mlflow/{}/chat", namespace.name()), "name": "chat"}},
    });
    let before = release.pods()?;
    let come = || -> Result<()> {
        for pod in &before {
            world.cluster.kill_containers(pod)?;
        }
        let past = api.create(namespace.name(), &foreign)?;
        ensure!(past.admitted(), "a replica was there: {}", past.message());
        let there = json!({"spec": {"predictor": {"model": {"storageUri": "s3://mlflow/elsewhere/fraud"}}}});
        namespace.kubectl(&["patch", "isvc/moved", "--type=merge", "-p", &there.to_string()])?;
        if knows_llms {
            namespace.apply(&llm.to_string())?;
        }
        Ok(())
    };
    let outcome = under_load(world, "all replicas are killed with -9", &uri, |load| {
        // Else it starts them again within a second, before all of these came.
        world.cluster.while_kubelet_hangs(come)?;
        load.go_on(5)?;
        until_started_again(world, &before)?;
        release.until_ready(REPLICAS)?;
        if knows_llms {
            world.cluster.until("the LLM has its credentials", SOON, || {
                Ok(has_credentials(&namespace.get("llminferenceservice/chat")?).then_some(()))
            })?;
            until_event(&namespace, "chat", "FilledIn", "filled in now: ")?;
        }
        // What would have been refused is nobody's to delete: it is told.
        for service in ["foreign", "moved"] {
            let words = "may not load s3://mlflow/elsewhere/fraud";
            until_event(&namespace, service, "WouldBeRefused", words)?;
        }
        let left = namespace.get("isvc/foreign")?;
        ensure!(!has_credentials(&left), "it has credentials: {}", left["metadata"]);
        Ok(())
    })?;
    // By what the alerts and the dashboard go.
    let metrics = world.cluster.kubectl(&["get", "--raw", "/metrics"])?;
    let opened = |line: &str| {
        line.starts_with("apiserver_admission_webhook_fail_open_count{name=\"") && line.contains(".tidewaiter.dev\"")
    };
    ensure!(
        metrics.lines().any(opened),
        "the API server counts nothing that it let pass"
    );
    ensure!(outcome.slipped > 0, "a replica was there all the time: {outcome:#?}");
    Ok(())
}

fn until_event(namespace: &Namespace, object: &str, reason: &str, words: &str) -> Result<()> {
    let what = format!("{object} has the event {reason}");
    let selector = format!("involvedObject.name={object},reason={reason}");
    namespace.cluster().until(&what, SOON, || {
        let said = namespace.kubectl(&[
            "get",
            "events",
            "--field-selector",
            &selector,
            "-o",
            "jsonpath={.items[*].message}",
        ])?;
        ensure!(said.contains(words), "{said}");
        Ok(Some(()))
    })
}

/// How often the Pod's container was started again.
pub(crate) fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or(0)
}

/// The next one is of another authority: both are trusted for a while.
fn a_deleted_certificate_comes_back_and_no_service_is_lost(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let certificate = || -> Result<Value> {
        let secret = world.cluster.get(NAMESPACE, "secret/tidewaiter-tls")?;
        Ok(secret["data"]["tls.crt"].clone())
    };
    let trusted = || -> Result<usize> {
        let configuration = world.cluster.get("", "mutatingwebhookconfiguration/tidewaiter.dev")?;
        let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str();
        Ok(bundle.map_or(0, str::len))
    };
    let (old, trusted_before) = (certificate()?, trusted()?);
    let outcome = under_load(world, "the certificate's Secret is deleted", &uri, |load| {
        release.kubectl(&["delete", "secret", "tidewaiter-tls"])?;
        let another = || Ok((certificate()? != old).then_some(()));
        let minute = Duration::from_mins(1);
        world.cluster.until("another certificate is there", minute, another)?;
        load.go_on(10)
    })?;
    let trusted = trusted()?;
    ensure!(
        trusted > trusted_before,
        "a bundle of {trusted} characters after one of {trusted_before}: the old authority and the new one are not both trusted"
    );
    outcome.all_at_once().map(drop)
}

/// While the next version is compiled, the one before answers: no service comes out without the policy's label, which one that fails would have refused.
fn a_replaced_policy_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    install_unruly(&world.cluster)?;
    let namespace = Arc::new(world.cluster.namespace("fault")?);
    let name = namespace.name().to_owned();
    let labels = |label: &str| unruly_in(&name, &name, &json!({"label": label}), "fail");
    let pods = release.until_ready(REPLICAS)?;
    let running = |pod: &Value| release.metric(pod, "tidewaiter_policies");
    let before = pods.iter().map(running).collect::<Result<Vec<_>>>()?;
    let policy = Custom::apply(&world.cluster, &labels("first"))?;
    policy.until("Loaded", "True")?;
    for (pod, before) in pods.iter().zip(before) {
        world
            .cluster
            .until("the replica has compiled it", Duration::from_mins(1), || {
                Ok((running(pod)? > before).then_some(()))
            })?;
    }
    let api = world.cluster.api()?;
    // One replica speaks for all, in the status. Which of them is asked is the API server's to say.
    let until_used = |label: &str| -> Result<()> {
        let mut in_a_row = 0;
        world.cluster.until("the policy is used", Duration::from_mins(1), || {
            let answer = api.would_create(&name, &service("fraud", &uri))?;
            let used = answer.body["metadata"]["labels"]["unruly"] == label;
            in_a_row = if used { in_a_row + 1 } else { 0 };
            Ok((in_a_row == 10).then_some(()))
        })
    };
    until_used("first")?;
    let seen_to: fn(&Value) -> bool =
        |service| has_credentials(service) && service["metadata"]["labels"]["unruly"].is_string();
    let load = Load::begin_in(namespace, &uri, EVERY, seen_to)?;
    let outcome = under(load, world, "a policy is replaced twice", |_| {
        for label in ["second", "third"] {
            policy.change(&labels(label))?;
            policy.until("Loaded", "True")?;
            until_used(label)?;
        }
        Ok(())
    });
    let outcome = outcome.with_context(|| release.diagnosis())?;
    outcome.all_at_once().map(drop)
}

/// Nothing that runs is touched, and the next Pod finds the new key.
fn rotated_credentials_reach_every_namespace_and_lose_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let running = world.running()?;
    let before = state(&running)?;
    let set = |password: &str| key(&release, "minio-root", password);
    let outcome = under_load(world, "the store's credentials rotate", &uri, |load| {
        let reached = |password: &str| -> Result<()> {
            let password = tls::base64(password.as_bytes());
            for namespace in [load.namespace(), &*running] {
                let delivered = || {
                    let secret = namespace.get("secret/tidewaiter-minio")?;
                    Ok((secret["data"]["AWS_SECRET_ACCESS_KEY"] == password.as_str()).then_some(()))
                };
                let minute = Duration::from_mins(1);
                world.cluster.until("the new key is delivered", minute, delivered)?;
            }
            Ok(())
        };
        // The replicas learn of it one after another, and services come to both.
        let stays = || {
            let rotated = tls::base64(b"rotated");
            for _ in 0..8 {
                load.go_on(3)?;
                let now = load.namespace().get("secret/tidewaiter-minio")?["data"]["AWS_SECRET_ACCESS_KEY"].take();
                ensure!(now == rotated.as_str(), "the key before is back");
            }
            Ok(())
        };
        let rotated = set("rotated").and_then(|()| reached("rotated")).and_then(|()| stays());
        // For the other tests, whatever came of it.
        set(MINIO_USER)?;
        rotated?;
        reached(MINIO_USER)
    })?;
    outcome.all_at_once()?;
    unchanged(&running, &before)
}

/// The watches have to begin anew, and who may use this backend depends on labels that they show.
fn an_api_server_that_restarts_loses_no_service(world: &World) -> Result<()> {
    let away = |load: &Load| {
        world.cluster.without_api_server(|| {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        })?;
        load.go_on(10)
    };
    without_api_server(world, "the API server is away for 5 s", away)
}

/// Before an API server has read its roles, it refuses whatever it is asked by anybody but its admins. How long that takes is chance, so here it has none.
fn an_api_server_that_has_not_read_its_roles_loses_no_service(world: &World) -> Result<()> {
    world.release()?;
    let ours = ["-A", "-l", "app.kubernetes.io/name=tidewaiter", "-o", "json"];
    let bindings = [&["get", "clusterrolebindings,rolebindings"], &ours[..]].concat();
    let mut bindings: Value = serde_json::from_str(&world.cluster.kubectl(&bindings)?)?;
    for binding in bindings["items"].as_array_mut().into_iter().flatten() {
        binding["metadata"]["resourceVersion"].take();
    }
    let bindings = bindings.to_string();
    let away = |load: &Load| {
        let withdrawn = world.cluster.try_kubectl(&["delete", "-f", "-"], &bindings)?;
        ensure!(withdrawn.ok, "{}", withdrawn.stderr);
        let done = world
            .cluster
            .without_api_server(|| Ok(()))
            .and_then(|()| load.go_on(40));
        let restored = world.cluster.try_kubectl(&["create", "-f", "-"], &bindings)?;
        ensure!(restored.ok, "{}", restored.stderr);
        done.and_then(|()| load.go_on(10))
    };
    without_api_server(world, "the API server restarts, and has no roles for a while", away)
}

/// `away` has the API server restart, under a load that uses a backend whose Secret is read by name, and whose grant asks for a namespace's labels.
fn without_api_server(world: &World, fault: &str, away: impl FnOnce(&Load) -> Result<()>) -> Result<()> {
    let release = world.release()?;
    let mut labelled = backend("minio-labelled", "labelled", &["s3://labelled/"]);
    let any_name = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]});
    labelled["spec"]["grants"][0]["namespaceSelector"] = any_name;
    let labelled = Custom::apply(&world.cluster, &labelled)?;
    labelled.until("Accepted", "True")?;
    let outcome = under_load(world, fault, "s3://labelled/fraud", |load| {
        // Until it has read its roles, nothing that it refuses is a right that is missing.
        locked(&world.rights).excuse(&world.cluster, || away(load))
    })?;
    ensure!(outcome.unanswered > 0, "the API server was never away: {outcome:#?}");
    release.until_ready(REPLICAS).map(drop)
}

fn an_etcd_that_restarts_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    under_load(world, "etcd is away for 5 s", &uri, |load| {
        world.cluster.without_etcd(|| {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        })?;
        load.go_on(10)
    })?;
    release.until_ready(REPLICAS).map(drop)
}

fn a_store_that_hangs_loses_no_service(world: &World) -> Result<()> {
    world.release()?;
    while_looked_for(world, "MinIO hangs", "mlflow", |go_on| {
        world.cluster.while_store_hangs(go_on)
    })
}

fn a_store_that_answers_late_loses_no_service(world: &World) -> Result<()> {
    world.release()?;
    let way = SlowWay::open(&format!("{HOST}:{LATE}"), &format!("{HOST}:{MINIO_PORT}"))?;
    let mut late = backend("minio-late", "late", &["s3://late/shared/"]);
    late["spec"]["s3"]["endpoint"] = json!(format!("http://{HOST}:{LATE}"));
    let late = Custom::apply(&world.cluster, &late)?;
    late.until("Accepted", "True")?;
    while_looked_for(world, "MinIO answers after 5 s", "late", |go_on| {
        way.delay(Duration::from_secs(5));
        let done = go_on();
        way.delay(Duration::ZERO);
        done
    })
}

/// Where the late way to MinIO listens.
const LATE: u16 = 9102;

/// Services are created whose models `model-exists` looks for, each another one of this bucket, that no cache knows. `during` has the store not answer while it
/// calls what it is given, which goes on with the load.
fn while_looked_for(
    world: &World,
    fault: &str,
    bucket: &str,
    during: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()>,
) -> Result<()> {
    let uri = numbered_models(world, bucket)?;
    let namespace = Arc::new(world.cluster.namespace("looked-for")?);
    let _looked_for = look_for_models(&namespace)?;
    let api = world.cluster.api()?;
    let would_create = |name: &str| api.would_create(namespace.name(), &service(name, &uri.replace("{}", name)));
    let mut in_a_row = 0;
    let minute = Duration::from_mins(1);
    world.cluster.until("whichever replica is asked looks", minute, || {
        let answer = would_create("missing")?;
        let is_refused = answer.message().contains("and KServe would find no model");
        in_a_row = if is_refused { in_a_row + 1 } else { 0 };
        ensure!(is_refused, "{}{:?}", answer.message(), answer.warnings);
        Ok((in_a_row == 5).then_some(()))
    })?;
    let load = Load::begin_in(Arc::clone(&namespace), &uri, EVERY, has_credentials)?;
    let outcome = under(load, world, fault, |load| {
        during(&|| {
            load.go_on(10)?;
            let answer = would_create("unseen")?;
            let mut lines = answer.warnings.iter();
            ensure!(
                answer.admitted() && lines.any(|line| line.contains("predictor: model not looked for: ")),
                "the store answered all the same: {}{:?}",
                answer.message(),
                answer.warnings
            );
            Ok(())
        })
    })?;
    outcome.all_at_once_but_one_too_late()?;
    ensure!(
        outcome.slowest > Duration::from_secs(1),
        "nobody waited for the store: {outcome:#?}"
    );
    Ok(())
}

/// More than a load asks for between two faults.
const MODELS: usize = 100;

/// Models in a bucket of MinIO, as far as anybody looks at them: `{}` in the URI is the number of each.
fn numbered_models(world: &World, bucket: &str) -> Result<String> {
    let (model, _) = world.model()?;
    let folder = world.cluster.folder().join("numbered-models");
    for number in 0..MODELS {
        let one = folder.join(number.to_string());
        fs::create_dir_all(&one)?;
        fs::copy(model.folder.join("MLmodel"), one.join("MLmodel"))?;
    }
    let all = Model { folder, ..model }.put(world.cluster.cache(), bucket, "shared/numbered")?;
    Ok(format!("{all}/{{}}"))
}
