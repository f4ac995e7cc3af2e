//! The command `tidewaiter`, as an admin runs it: against the real API server, with KServe and the webhook in it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command::tidewaiter;
use tidewaiter_e2e::install::{NAMESPACE, make_up_models};
use tidewaiter_e2e::manifests;
use tidewaiter_e2e::server::REVIEWED_BY;
use tidewaiter_ground::{Cluster, MINIO_PORT, MINIO_USER, Namespace};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "command_imports_what_teams_have_and_a_second_run_does_nothing",
        false,
        command_imports_what_teams_have_and_a_second_run_does_nothing,
    ),
    (
        "command_tells_of_what_it_can_not_decide",
        false,
        command_tells_of_what_it_can_not_decide,
    ),
    (
        "command_has_a_service_that_ran_before_adopted",
        false,
        command_has_a_service_that_ran_before_adopted,
    ),
    (
        "command_says_in_one_message_why_it_can_not_work",
        false,
        command_says_in_one_message_why_it_can_not_work,
    ),
];

const SECRET: &str = "serving.kserve.io/storageSecretName";
const RECORD: &str = "tidewaiter.dev/filled";

/// Has the installed webhook asked about a namespace from now on: what is in it ran before.
fn install_for(namespace: &Namespace) -> Result<()> {
    let label = format!("{REVIEWED_BY}-");
    namespace
        .cluster()
        .kubectl(&["label", "namespace", namespace.name(), &label])
        .map(drop)
}

/// MinIO by another of its addresses than the installed backends have: another store, to anybody who doesn't know.
fn endpoint() -> String {
    format!("127.0.0.1:{MINIO_PORT}")
}

/// A team's Secret, as the guides have it, and a `ServiceAccount` that lists it.
fn secret(name: &str, key: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "annotations": {
                "serving.kserve.io/s3-endpoint": endpoint(),
                "serving.kserve.io/s3-usehttps": "0",
                "serving.kserve.io/s3-region": "us-east-1",
            }},
            "stringData": {"AWS_ACCESS_KEY_ID": MINIO_USER, "AWS_SECRET_ACCESS_KEY": key},
        },
        {
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": format!("{name}-models")},
            "secrets": [{"name": name}],
        },
    ]})
}

fn service(name: &str, account: Option<&str>, uri: &str) -> Value {
    let mut service = crate::hammer::service(name, uri);
    if let Some(account) = account {
        service["spec"]["predictor"]["serviceAccountName"] = json!(account);
    }
    service
}

/// Everything of a namespace that a person made.
fn theirs(namespace: &Namespace) -> Result<Value> {
    let mut list: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "secrets,serviceaccounts,isvc", "-o", "json"])?)?;
    let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let items = items.into_iter().map(|item| {
        json!([
            item["kind"],
            item["metadata"]["name"],
            item["metadata"]["annotations"],
            item["spec"],
            item["data"],
            item["secrets"]
        ])
    });
    Ok(items.collect())
}

/// Takes back what an import made.
struct Imported<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Drop for Imported<'_> {
    fn drop(&mut self) {
        let _ = self
            .cluster
            .kubectl(&["delete", "storagebackend", &self.name, "--wait=false"]);
        let _ = self
            .cluster
            .kubectl(&["delete", "secret", "-n", NAMESPACE, &self.name, "--wait=false"]);
    }
}

fn command_imports_what_teams_have_and_a_second_run_does_nothing(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (one, other) = (
        world.namespace_without("import-a")?,
        world.namespace_without("import-b")?,
    );
    // Of this test alone.
    let name = one.name();
    let uri = |model: &str| format!("s3://{name}/{model}");
    for team in [&one, &other] {
        team.apply(&secret(name, MINIO_USER).to_string())?;
        let account = format!("{name}-models");
        team.apply(&service("churn", Some(&account), &uri("churn")).to_string())?;
    }
    let before = [theirs(&one)?, theirs(&other)?];
    let run = |more: &[&str]| {
        let from = ["backend", "import", "--from", one.name(), "--from", other.name()];
        tidewaiter(cluster.kubeconfig(), &[&from[..], more].concat())
    };
    let backend = format!("storagebackend/{name}");
    let is_there = || Ok::<_, anyhow::Error>(cluster.try_kubectl(&["get", &backend], "")?.ok);

    let shown = run(&[])?.ended(1)?;
    for part in [&format!("s3://{name}/"), other.name(), "Secret tidewaiter-system/"] {
        ensure!(shown.stdout.contains(part), "no {part} in {}", shown.stdout);
    }
    ensure!(shown.stderr.contains("--yes"), "{}", shown.stderr);
    ensure!(!is_there()?, "it is made without a yes");

    let printed = run(&["-o", "yaml"])?.ended(0)?;
    let checked = cluster.try_kubectl(&["apply", "--dry-run=server", "-f", "-"], &printed.stdout)?;
    ensure!(checked.ok, "{}\n{}", checked.stderr, printed.stdout);
    ensure!(
        !printed.stdout.contains("kind: Secret") && printed.stderr.contains("AWS_SECRET_ACCESS_KEY"),
        "{printed:#?}"
    );
    let dry = run(&["--dry-run=server"])?.ended(1)?;
    ensure!(dry.stderr.contains("the API server agrees"), "{}", dry.stderr);
    ensure!(!is_there()?, "a dry run makes it");

    let _imported = Imported {
        cluster,
        name: name.to_owned(),
    };
    run(&["--yes"])?.ended(0)?;
    let object = cluster.get(NAMESPACE, &backend)?;
    ensure!(
        object["spec"]["serves"] == json!([format!("s3://{name}/")])
            && object["spec"]["s3"]["endpoint"] == format!("http://{}", endpoint())
            && object["spec"]["grants"] == json!([{"namespaces": [one.name(), other.name()]}]),
        "{}",
        object["spec"]
    );
    let again = run(&[])?.ended(0)?;
    ensure!(again.stderr.contains("Nothing to do."), "{again:#?}");
    ensure!(before == [theirs(&one)?, theirs(&other)?], "it changed what teams have");

    // Whoever comes now says no more than where the model is.
    make_up_models(&one)?;
    install_for(&one)?;
    cluster.until("a bare manifest gets credentials", Duration::from_mins(1), || {
        one.apply(&manifests::bare("bare", "sklearn", &uri("bare")))?;
        let bare = one.get("isvc/bare")?;
        if bare["metadata"]["annotations"][SECRET] == format!("tidewaiter-{name}") {
            return Ok(Some(()));
        }
        one.kubectl(&["delete", "isvc/bare"])?;
        Ok(None)
    })?;
    one.get(&format!("secret/tidewaiter-{name}")).map(drop)
}

fn command_tells_of_what_it_can_not_decide(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let team = world.namespace_without("import-c")?;
    let name = team.name();
    let uri = format!("s3://{name}/model");
    for secret_name in ["first", "second"] {
        team.apply(&secret(secret_name, &format!("{secret_name}-{name}")).to_string())?;
        team.apply(&service(secret_name, Some(&format!("{secret_name}-models")), &uri).to_string())?;
    }
    team.apply(&secret("idle", &format!("idle-{name}")).to_string())?;
    let run = |more: &[&str]| {
        let arguments = [&["backend", "import", "--from", name], more].concat();
        tidewaiter(cluster.kubeconfig(), &arguments)
    };
    let said = run(&["--yes"])?.ended(1)?;
    ensure!(
        said.stderr.matches("conflict:").count() == 1
            && said.stderr.contains(&format!("tidewaiter backend import {name}/first")),
        "{}",
        said.stderr
    );
    ensure!(
        said.stderr.contains(&format!("{name}/idle")) && said.stderr.contains("--serves"),
        "{}",
        said.stderr
    );
    // A name that is another backend's.
    let first = format!("{name}/first");
    let taken = run(&[&first, "--name", "minio", "--yes"])?.ended(1)?;
    ensure!(taken.stderr.contains("StorageBackend minio"), "{}", taken.stderr);
    // A bucket that another backend serves.
    let idle = format!("{name}/idle");
    let served = run(&[&idle, "--serves", "s3://mlflow/", "--yes"])?.ended(1)?;
    ensure!(
        served.stderr.contains("StorageBackend minio serves s3://mlflow/"),
        "{}",
        served.stderr
    );
    // As the messages say.
    let _imported = Imported {
        cluster,
        name: name.to_owned(),
    };
    let prefix = format!("s3://{name}-idle/");
    run(&[&idle, "--serves", &prefix, "--name", name, "--yes"])?.ended(0)?;
    let made = cluster.get(NAMESPACE, &format!("storagebackend/{name}"))?;
    ensure!(made["spec"]["serves"] == json!([prefix]), "{}", made["spec"]);
    Ok(())
}

/// A report in the leader's words: its servers here may not write any.
fn report(namespace: &Namespace, service: &Value, audited: &str) -> Value {
    json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": {
            "name": "tidewaiter",
            "namespace": namespace.name(),
            "labels": {"app.kubernetes.io/managed-by": "tidewaiter"},
            "annotations": {"tidewaiter.dev/audited": audited, "tidewaiter.dev/left-out": "0"},
        },
        "summary": {"pass": 0, "warn": 1, "fail": 0, "error": 0, "skip": 0},
        "results": [{
            "source": "tidewaiter", "policy": "storage-credentials", "rule": "would-be-filled-in", "result": "warn", "scored": true,
            "message": "annotation",
            "resources": [{
                "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
                "namespace": namespace.name(), "name": service["metadata"]["name"], "uid": service["metadata"]["uid"],
            }],
        }],
    })
}

/// Has the kind served that audits write. Until then the command says what is missing.
fn define_reports(cluster: &Cluster) -> Result<()> {
    let crd = "crd/policyreports.wgpolicyk8s.io";
    // It may be of an earlier run, where the cluster stays up.
    if !cluster.try_kubectl(&["get", crd], "")?.ok {
        let said = tidewaiter(cluster.kubeconfig(), &["audit", "-A"])?.ended(2)?;
        ensure!(
            said.stderr.contains("doesn't know the kind PolicyReport")
                && said.stderr.contains("policyReports.enabled=true"),
            "{said:#?}"
        );
    }
    let definition = include_str!("../../../../charts/tidewaiter-crds/files/policyreports.yaml");
    let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], definition)?;
    ensure!(said.ok, "{}", said.stderr);
    cluster.until("PolicyReport is served", Duration::from_secs(30), || {
        let wait = ["wait", "--for=condition=Established", crd];
        cluster.kubectl(&wait).map(Some)
    })?;
    Ok(())
}

fn command_has_a_service_that_ran_before_adopted(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    define_reports(cluster)?;
    let team = world.namespace_without("before-us")?;
    let uri = format!("s3://mlflow/{}/model", team.name());
    team.apply(&service("old", None, &uri).to_string())?;
    let old = team.get("isvc/old")?;
    let audit = |more: &[&str]| {
        let arguments = [&["audit", "-n", team.name()], more].concat();
        tidewaiter(cluster.kubeconfig(), &arguments)
    };
    let never = audit(&[])?.ended(2)?;
    ensure!(never.stderr.contains("no report of Tidewaiter's"), "{never:#?}");
    team.apply(&report(&team, &old, "2026-06-01T12:00:00Z").to_string())?;
    let found = audit(&[])?.ended(1)?;
    ensure!(
        found.stdout.contains("storage-credentials")
            && found.stderr.contains("Scanned")
            && found.stderr.contains("ago"),
        "{found:#?}"
    );
    let json: Value = serde_json::from_str(&audit(&["-o", "json"])?.ended(1)?.stdout)?;
    ensure!(
        json["findings"][0]["service"] == "old" && json["scans"][0]["ageSeconds"].is_number(),
        "{json}"
    );

    // Nobody reviews it here: nothing may be left on it.
    let unreviewed = audit(&["--fix", "--yes"])?.ended(1)?;
    ensure!(
        unreviewed.stderr.contains("Tidewaiter was not asked"),
        "{}",
        unreviewed.stderr
    );
    let untouched = team.get("isvc/old")?;
    ensure!(
        untouched["metadata"]["annotations"] == old["metadata"]["annotations"],
        "{untouched}"
    );

    install_for(&team)?;
    // The law: a label edit never adopts.
    team.kubectl(&["label", "isvc/old", "edited=true"])?;
    let labelled = team.get("isvc/old")?;
    ensure!(labelled["metadata"]["annotations"][RECORD].is_null(), "{labelled}");

    let shown = cluster.until("the webhook is asked", Duration::from_secs(30), || {
        let shown = audit(&["--fix"])?.ended(1)?;
        Ok(shown.stdout.contains(SECRET).then_some(shown))
    })?;
    ensure!(
        shown.stdout.contains("+ ") && shown.stderr.contains("--yes"),
        "{shown:#?}"
    );
    let untouched = team.get("isvc/old")?;
    ensure!(untouched["metadata"]["annotations"][RECORD].is_null(), "{untouched}");

    let fixed = audit(&["--fix", "--yes"])?.ended(0)?;
    ensure!(fixed.stderr.contains("old filled in"), "{}", fixed.stderr);
    let adopted = team.get("isvc/old")?;
    let metadata = &adopted["metadata"];
    ensure!(
        metadata["annotations"][SECRET] == "tidewaiter-minio"
            && metadata["annotations"][RECORD]
                .as_str()
                .is_some_and(|record| record.contains("tidewaiter-minio")),
        "{metadata}"
    );
    team.get("secret/tidewaiter-minio")?;
    let owners: Value =
        serde_json::from_str(&team.kubectl(&["get", "isvc/old", "-o", "json", "--show-managed-fields"])?)?;
    ensure!(
        !owners["metadata"]["managedFields"]
            .to_string()
            .contains("tidewaiter-audit"),
        "what was filled in has an owner: {}",
        owners["metadata"]["managedFields"]
    );
    // Its user applies the bare manifest again, and keeps what was filled in.
    team.apply(&service("old", None, &uri).to_string())?;
    let again = team.get("isvc/old")?;
    ensure!(
        again["metadata"]["annotations"][RECORD] == metadata["annotations"][RECORD],
        "{again}"
    );
    let nothing = audit(&["--fix", "--yes"])?.ended(0)?;
    ensure!(
        nothing.stderr.contains("nothing is missing any more"),
        "{}",
        nothing.stderr
    );
    Ok(())
}

fn command_says_in_one_message_why_it_can_not_work(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let team = world.namespace("errors")?;
    let run = |arguments: &[&str]| -> Result<String> {
        let said = tidewaiter(cluster.kubeconfig(), arguments)?.ended(2)?;
        ensure!(
            said.stderr.matches("error:").count() == 1
                && said.stderr.matches("hint:").count() == 1
                && said.stdout.is_empty(),
            "{said:#?}"
        );
        Ok(said.stderr)
    };
    let context = run(&["audit", "--context", "elsewhere"])?;
    ensure!(context.contains("no context `elsewhere`"), "{context}");
    let file = run(&["audit", "--kubeconfig", "/nowhere"])?;
    ensure!(file.contains("no cluster to work on"), "{file}");
    let secret = run(&["backend", "import", &format!("{}/none", team.name())])?;
    ensure!(
        secret.contains("is not a Secret that KServe opens a store with"),
        "{secret}"
    );

    team.kubectl(&["create", "serviceaccount", "nobody"])?;
    let nobody = cluster.kubeconfig_of(team.name(), "nobody")?;
    for (arguments, missing) in [
        (
            ["backend", "import"],
            "not allowed to list storagebackends.tidewaiter.dev in all namespaces",
        ),
        (
            ["audit", "-A"],
            "not allowed to list policyreports.wgpolicyk8s.io in all namespaces",
        ),
    ] {
        let said = tidewaiter(&nobody, &arguments)?.ended(2)?;
        ensure!(
            said.stderr.contains(missing) && said.stderr.contains("ask for a role"),
            "{said:#?}"
        );
    }

    let unreachable = cluster.folder().join("kubeconfig-nowhere");
    let config = std::fs::read_to_string(cluster.kubeconfig())?;
    std::fs::write(&unreachable, config.replace("127.0.0.1:443", "127.0.0.1:1"))?;
    let said = tidewaiter(&unreachable, &["audit", "-A"])?.ended(2)?;
    ensure!(said.stderr.contains("no answer from the API server"), "{said:#?}");
    Ok(())
}
