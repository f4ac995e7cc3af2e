//! Installed, upgraded, left alone and uninstalled.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::manifests;
use tidewaiter_ground::Project;

use crate::{INSTALL, INSTALL_CRDS, NAMESPACE, World};

pub(crate) fn policy_reports_are_defined_unless_someone_did(world: &World) -> Result<()> {
    world.install(&[])?;
    let with_reports = |verb| {
        let chart = [verb, "tidewaiter-crds", "tidewaiter-crds", "--namespace", NAMESPACE];
        [&chart[..], &["--set", "policyReports.enabled=true"]].concat()
    };
    let audited = [&INSTALL[..], &["--dry-run=server"]].concat();
    let notes = world.helm(&audited)?;
    ensure!(notes.contains("The audit has nowhere to write"), "{notes}");
    world.helm(&with_reports("upgrade"))?;
    let notes = world.helm(&audited)?;
    ensure!(!notes.contains("The audit has nowhere to write"), "{notes}");
    // What the audit writes, to the last field.
    let report = json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": {"name": "tidewaiter", "namespace": "default"},
        "summary": {"pass": 1, "warn": 0, "fail": 1, "error": 0, "skip": 0},
        "results": [{
            "source": "tidewaiter", "policy": "storage-credentials", "rule": "refused", "result": "fail", "scored": true, "message": "not granted",
            "resources": [{"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "namespace": "default", "name": "a", "uid": "b"}],
        }],
    });
    let mut misspelt = report.clone();
    misspelt["results"][0]["misspelt"] = json!("");
    let is_strict = || {
        world
            .cluster
            .until("PolicyReport is served", Duration::from_secs(30), || {
                let strictly = ["--dry-run=server", "--validate=strict"];
                world.apply(&report.to_string(), &strictly).map(Some)
            })?;
        world.unknown_field(&misspelt)
    };
    is_strict()?;
    world.helm(&with_reports("upgrade"))?;

    world.cluster.kubectl(&["delete", "crd/policyreports.wgpolicyk8s.io"])?;
    world.cluster.define(Project::Kyverno)?;
    is_strict()?;
    world.refused(&with_reports("upgrade"), &["from someone else"])
}

/// The caBundle is no value of the chart's, and neither Helm's way of writing nor a rollback may take it out.
pub(crate) fn an_upgrade_keeps_what_the_leader_wrote(world: &World) -> Result<()> {
    world.install(&["--set", "replicas=0"])?;
    let bundle = "LS0tLS1CRUdJTg==";
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let configuration = world.cluster.get("", &format!("{kind}/tidewaiter.dev"))?;
        let names = configuration["webhooks"].as_array().context("no webhooks")?.iter();
        let webhooks: Vec<_> = names
            .map(|webhook| json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}}))
            .collect();
        let patch = json!({"webhooks": webhooks}).to_string();
        world.cluster.kubectl(&[
            "patch",
            kind,
            "tidewaiter.dev",
            "--field-manager=tidewaiter",
            "--patch",
            &patch,
        ])?;
    }
    let kept = |timeout: u64| -> Result<()> {
        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            let configuration = world.cluster.get(NAMESPACE, &format!("{kind}/tidewaiter.dev"))?;
            let webhooks = configuration["webhooks"].as_array().context("no webhooks")?;
            ensure!(webhooks.len() >= 2, "{configuration}");
            for webhook in webhooks {
                ensure!(webhook["timeoutSeconds"] == timeout, "{webhook}");
                ensure!(webhook["clientConfig"]["caBundle"] == bundle, "{webhook}");
            }
        }
        Ok(())
    };
    let upgrade = |timeout: &str, more: &[&str]| {
        let timeout = format!("webhook.timeoutSeconds={timeout}");
        let upgrade = ["upgrade", "tidewaiter", "tidewaiter", "--namespace", NAMESPACE];
        let upgrade = [&upgrade[..], &["--set", "replicas=0", "--set", &timeout], more].concat();
        world.helm(&upgrade).map(drop)
    };
    upgrade("7", &[])?;
    kept(7)?;
    upgrade("8", &["--force-conflicts"])?;
    kept(8)?;
    // As Helm 3 writes.
    upgrade("9", &["--server-side=false"])?;
    kept(9)?;
    world.helm(&["rollback", "tidewaiter", "1", "--namespace", NAMESPACE])?;
    kept(5)
}

pub(crate) fn a_dead_gate_is_open_but_where_it_was_asked_to_be_shut(world: &World) -> Result<()> {
    world.install(&["--set", "replicas=0"])?;
    let bare = manifests::bare("fraud", "mlflow", "s3://mlflow/fraud");
    let open = world.cluster.namespace("open")?;
    open.apply(&bare)?;

    let shut = world
        .cluster
        .namespace_with("shut", &json!({"tidewaiter.dev/failure-policy": "fail"}))?;
    let refused = shut.try_apply(&["--server-side"], &bare)?;
    ensure!(
        !refused.ok && refused.stderr.contains("mutate-or-fail.tidewaiter.dev"),
        "{}",
        refused.stderr
    );
    // The way out for one service, without anyone's help.
    let mut ignored: Value = json!({"metadata": {"labels": {"tidewaiter.dev/ignore": ""}}});
    ignored["apiVersion"] = json!("serving.kserve.io/v1beta1");
    ignored["kind"] = json!("InferenceService");
    ignored["metadata"]["name"] = json!("fraud");
    ignored["spec"] =
        json!({"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": "s3://mlflow/fraud"}}});
    shut.apply(&ignored.to_string())?;
    // Without the label it is Tidewaiter's again, but standing still and leaving it may always.
    shut.kubectl(&["label", "isvc", "fraud", "tidewaiter.dev/ignore-"])?;
    let change = r#"{"spec":{"predictor":{"minReplicas":2}}}"#;
    match shut.kubectl(&["patch", "isvc", "fraud", "--type=merge", "--patch", change]) {
        Ok(_) => bail!("a change passed though nobody reviewed it"),
        Err(error) => ensure!(error.to_string().contains("tidewaiter.dev"), "{error:#}"),
    }
    // A broken service may always be stopped. That opens no way round the review: neither to change it meanwhile, nor to start it again.
    shut.kubectl(&["annotate", "isvc", "fraud", "serving.kserve.io/stop=true"])?;
    for passed in [
        &["patch", "isvc", "fraud", "--type=merge", "--patch", change][..],
        &["annotate", "isvc", "fraud", "serving.kserve.io/storageSecretName=other"],
        &["annotate", "isvc", "fraud", "serving.kserve.io/stop-"],
    ] {
        match shut.kubectl(passed) {
            Ok(_) => bail!("{passed:?} passed though nobody reviewed it"),
            Err(error) => ensure!(error.to_string().contains("tidewaiter.dev"), "{error:#}"),
        }
    }
    shut.kubectl(&["delete", "isvc", "fraud", "--timeout=30s"]).map(drop)
}

pub(crate) fn an_uninstall_leaves_what_users_need(world: &World) -> Result<()> {
    world.install(&["--set", "replicas=0"])?;
    let users = world.cluster.namespace("users")?;
    let delivered = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tidewaiter-minio", "labels": {"app.kubernetes.io/managed-by": "tidewaiter", "tidewaiter.dev/backend": "minio"}},
    });
    users.apply(&delivered.to_string())?;
    let own = json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "StorageBackend",
        "metadata": {"name": "own"},
        "spec": {"type": "hdfs", "serves": ["hdfs://models/"], "credentials": {"anonymous": {}}},
    });
    world.apply(&own.to_string(), &[])?;
    for release in ["tidewaiter", "tidewaiter-crds"] {
        world.helm(&["uninstall", release, "--namespace", NAMESPACE])?;
    }
    users.get("secret/tidewaiter-minio")?;
    let backends = world.cluster.kubectl(&["get", "storagebackends", "-o", "name"])?;
    ensure!(
        backends.trim() == "storagebackend.tidewaiter.dev/own",
        "the chart's own backends go and the admin's stay: {backends}"
    );
    for kind in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "clusterroles",
        "clusterrolebindings",
    ] {
        let left = world.cluster.kubectl(&["get", kind, "-o", "name"])?;
        ensure!(!left.contains("tidewaiter"), "left behind: {left}");
    }
    // And back again, over what stayed.
    world.helm(&INSTALL_CRDS).map(drop)
}
