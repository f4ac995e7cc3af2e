//! The charts, as the real Helm and a real API server take them. No Pod runs here: what is tested is what an admin types and reads, and what the API
//! server makes of it. The cluster is this test's own, since it has Tidewaiter in and out of it.

mod alerts;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tidewaiter_e2e::server::{COMMAND, certificate, command_binary, webhook_binary};
use tidewaiter_e2e::{in_the_ground, manifests};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::tools::{Kserve, Module};
use tidewaiter_ground::{Cluster, Options, Project, Said};

/// Tells the process inside where Helm is.
const HELM: &str = "TIDEWAITER_HELM";
const NAMESPACE: &str = "tidewaiter-system";
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts");

type Test = (&'static str, fn(&World) -> Result<()>);

const TESTS: &[Test] = &[
    ("both_charts_pass_lint", both_charts_pass_lint),
    ("a_wrong_value_is_named", a_wrong_value_is_named),
    ("what_is_missing_is_said_first", what_is_missing_is_said_first),
    (
        "the_api_server_takes_every_documented_value",
        the_api_server_takes_every_documented_value,
    ),
    (
        "a_field_that_its_project_does_not_have_is_refused",
        a_field_that_its_project_does_not_have_is_refused,
    ),
    (
        "the_server_reads_the_modules_that_the_chart_renders",
        the_server_reads_the_modules_that_the_chart_renders,
    ),
    (
        "what_helm_and_kustomize_make_is_reviewed",
        what_helm_and_kustomize_make_is_reviewed,
    ),
    (
        "policy_reports_are_defined_unless_someone_did",
        policy_reports_are_defined_unless_someone_did,
    ),
    (
        "an_upgrade_keeps_what_the_leader_wrote",
        an_upgrade_keeps_what_the_leader_wrote,
    ),
    (
        "a_dead_gate_is_open_but_where_it_was_asked_to_be_shut",
        a_dead_gate_is_open_but_where_it_was_asked_to_be_shut,
    ),
    (
        "each_alert_fires_when_it_should_and_not_otherwise",
        alerts::each_alert_fires_when_it_should_and_not_otherwise,
    ),
    (
        "an_uninstall_leaves_what_users_need",
        an_uninstall_leaves_what_users_need,
    ),
];

struct World {
    cluster: Cluster,
    helm: PathBuf,
    /// Helm's own state.
    home: PathBuf,
}

impl World {
    fn try_helm(&self, arguments: &[&str]) -> Result<Said> {
        let output = Command::new(&self.helm)
            .args(arguments)
            .current_dir(CHARTS)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .output()
            .context("can't start helm")?;
        Ok(Said::from(output))
    }

    fn helm(&self, arguments: &[&str]) -> Result<String> {
        let said = self.try_helm(arguments)?;
        ensure!(said.ok, "helm {}: {}", arguments.join(" "), said.stderr.trim());
        Ok(said.stdout)
    }

    /// Helm, which has to refuse this in words that hold all of these.
    fn refused(&self, arguments: &[&str], words: &[&str]) -> Result<()> {
        let said = self.try_helm(arguments)?;
        ensure!(!said.ok, "helm {} was not refused", arguments.join(" "));
        for word in words {
            ensure!(
                said.stderr.contains(word),
                "helm {} doesn't say `{word}`: {}",
                arguments.join(" "),
                said.stderr
            );
        }
        Ok(())
    }

    fn apply(&self, objects: &str, more: &[&str]) -> Result<Said> {
        let arguments = [&["apply", "--server-side", "-f", "-"], more].concat();
        let said = self.cluster.try_kubectl(&arguments, objects)?;
        ensure!(said.ok, "{}", said.stderr.trim());
        Ok(said)
    }

    /// The API server, which has to refuse an object for its field `misspelt`.
    fn unknown_field(&self, object: &Value) -> Result<()> {
        let strictly = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ];
        let said = self.cluster.try_kubectl(&strictly, &object.to_string())?;
        ensure!(!said.ok, "{} passed with a misspelt field", object["kind"]);
        ensure!(
            said.stderr.contains(".misspelt: field not declared in schema"),
            "{}",
            said.stderr
        );
        Ok(())
    }

    /// An empty cluster, but for KServe and our namespace, which keeps Pods to the strictest Pod Security level.
    fn clean(&self) -> Result<()> {
        for release in ["tidewaiter", "tidewaiter-crds"] {
            self.helm(&["uninstall", release, "--namespace", NAMESPACE, "--ignore-not-found"])?;
        }
        self.cluster.kubectl(&[
            "delete",
            "--ignore-not-found",
            "crd/storagebackends.tidewaiter.dev",
            "crd/wasmpolicies.tidewaiter.dev",
            "crd/policyreports.wgpolicyk8s.io",
        ])?;
        let strict = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"});
        self.apply(&namespace(NAMESPACE, strict).to_string(), &[]).map(drop)
    }

    /// A cluster with the definitions, and with Tidewaiter if there are arguments for it.
    fn install(&self, arguments: &[&str]) -> Result<()> {
        self.clean()?;
        self.helm(&[
            "install",
            "tidewaiter-crds",
            "tidewaiter-crds",
            "--namespace",
            NAMESPACE,
        ])?;
        if !arguments.is_empty() {
            let install = ["install", "tidewaiter", "tidewaiter", "--namespace", NAMESPACE];
            self.helm(&[&install, arguments].concat())?;
        }
        Ok(())
    }

    /// Has other projects' kinds served, which some values have the chart make objects of.
    fn foreign_kinds(&self) -> Result<()> {
        self.cluster.define(Project::CertManager)?;
        self.cluster.define(Project::PrometheusOperator)
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// The files with values that the chart's README points to, the defaults among them.
fn documented() -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(Path::new(CHARTS).join("tidewaiter/ci"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(files.len() > 5, "the examples of values are gone: {files:?}");
    Ok(files)
}

fn both_charts_pass_lint(world: &World) -> Result<()> {
    world.helm(&["lint", "--strict", "tidewaiter-crds"])?;
    for values in documented()? {
        let values = values.to_str().context("a file's name is not UTF-8")?;
        world.helm(&["lint", "--strict", "tidewaiter", "--values", values])?;
    }
    Ok(())
}

fn a_wrong_value_is_named(world: &World) -> Result<()> {
    let wrong = [
        ("replicass=3", &["'replicass' not allowed"][..]),
        ("image.tga=1", &["/image'", "'tga' not allowed"]),
        ("monitoring.alerts.enable=true", &["/monitoring/alerts'", "'enable'"]),
        ("replicas=two", &["/replicas'", "want integer"]),
        ("certificates.mode=self", &["/certificates/mode'", "'certManager'"]),
        ("image.digest=latest", &["/image/digest'", "sha256"]),
        ("webhook.budget=2 seconds", &["/webhook/budget'"]),
        ("deliveryNamespaces={team_a}", &["/deliveryNamespaces/0'"]),
        (
            "backends.minio.type=s3",
            &["/backends/minio'", "'serves', 'credentials'"],
        ),
        ("backends.Min_io.type=s3", &["/backends'", "'Min_io'"]),
        ("policies.house.order=1", &["/policies/house'", "'module'"]),
        ("webhook.maxBody=64MiB", &["/webhook/maxBody'"]),
        ("log.level=nonsense", &["/log/level'"]),
        (
            "webhook.timeoutSeconds=2",
            &["webhook.budget (2s)", "webhook.timeoutSeconds (2 s)"],
        ),
        (
            "certificates.selfManaged.authorityLifetime=100d",
            &["authorityLifetime (100d) must be at least twice as long"],
        ),
        ("certificates.selfManaged.authorityLifetime=7301d", &["7300d at most"]),
        (
            "certificates.mode=certManager,certificates.certManager.duration=720h",
            &["certManager.duration (720h) must be longer than certificates.certManager.renewBefore (720h)"],
        ),
        (
            r"podLabels.app\.kubernetes\.io/name=mine",
            &["podLabels: app.kubernetes.io/name is what the Deployment"],
        ),
        (
            r"labels.app\.kubernetes\.io/instance=mine",
            &["labels: app.kubernetes.io/instance is what the Deployment"],
        ),
        (
            "podDisruptionBudget.maxUnavailable=0",
            &["podDisruptionBudget.maxUnavailable (0) lets no replica go"],
        ),
        (
            "podDisruptionBudget.maxUnavailable=0%",
            &["podDisruptionBudget.maxUnavailable (0%) lets no replica go"],
        ),
    ];
    for (value, words) in wrong {
        world.refused(&["template", "tidewaiter", "--set", value], words)?;
    }
    // With a short lifetime the alert on its end doesn't fire for ever.
    for (lifetime, seconds) in [("90d", "604800"), ("12h", "7200")] {
        let lifetime = format!("certificates.selfManaged.lifetime={lifetime}");
        let alerts = [
            "template",
            "tidewaiter",
            "--set",
            "monitoring.alerts.enabled=true",
            "--set",
            &lifetime,
        ];
        let rules = world.helm(&alerts)?;
        let asked = format!("tidewaiter_certificate_expiry_timestamp_seconds) - time() < {seconds}\n");
        ensure!(rules.contains(&asked), "{lifetime}: no `{asked}`");
    }
    Ok(())
}

fn what_is_missing_is_said_first(world: &World) -> Result<()> {
    world.clean()?;
    let install = |more: &[&'static str]| {
        let install = [
            "install",
            "tidewaiter",
            "tidewaiter",
            "--namespace",
            NAMESPACE,
            "--dry-run=server",
        ];
        [&install, more].concat()
    };
    world.refused(
        &install(&[]),
        &["CustomResourceDefinitions are missing", "helm install tidewaiter-crds"],
    )?;
    // Where no cluster is asked, nothing of a cluster is missed.
    world.helm(&["template", "tidewaiter"])?;

    world.install(&[])?;
    world.refused(
        &install(&["--set", "deliveryNamespaces={nowhere}"]),
        &["no namespace nowhere"],
    )?;
    world.refused(
        &install(&["--set", "deliveryNamespaces={default},kserveNamespace=elsewhere"]),
        &["no namespace elsewhere"],
    )?;
    let elsewhere = world.helm(&install(&["--set", "kserveNamespace=default"]))?;
    ensure!(
        elsewhere.contains("inferenceservice-config is not in the namespace default"),
        "{elsewhere}"
    );

    // KServe may come later: no reason to refuse.
    let kserve = "inferenceservices.serving.kserve.io";
    world.cluster.kubectl(&["delete", "crd", kserve])?;
    let without = world.try_helm(&install(&[]));
    world.cluster.serve(kserve)?;
    let without = without?;
    ensure!(
        without.ok && without.stdout.contains("no KServe yet"),
        "{}{}",
        without.stdout,
        without.stderr
    );

    world.install(&["--set", "replicas=0"])?;
    let second = [
        "install",
        "other",
        "tidewaiter",
        "--namespace",
        "default",
        "--set",
        "replicas=0",
    ];
    world.refused(
        &second,
        &[
            "release tidewaiter in namespace tidewaiter-system",
            "helm uninstall tidewaiter",
        ],
    )?;
    world.helm(&["uninstall", "tidewaiter", "--namespace", NAMESPACE])?;

    // Someone's own: not Helm's to take.
    let by_hand = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "tidewaiter.dev"}});
    world.apply(&by_hand.to_string(), &[])?;
    let refused = world.refused(
        &install(&[]),
        &["Helm did not install", "ValidatingWebhookConfiguration"],
    );
    world
        .cluster
        .kubectl(&["delete", "validatingwebhookconfiguration", "tidewaiter.dev"])?;
    refused
}

fn the_api_server_takes_every_documented_value(world: &World) -> Result<()> {
    world.install(&[])?;
    world.foreign_kinds()?;
    for name in ["team-a", "team-b", "kserve-system"] {
        world.apply(&namespace(name, json!({})).to_string(), &[])?;
    }
    for values in documented()? {
        let name = values
            .file_name()
            .and_then(OsStr::to_str)
            .context("a file without a name")?;
        let rendered = world
            .helm(&[
                "template",
                "tidewaiter",
                "tidewaiter",
                "--namespace",
                NAMESPACE,
                "--values",
                values.to_str().context("a file's name is not UTF-8")?,
            ])
            .context(name.to_owned())?;
        // Strictly: a field that the API server doesn't know is an error too.
        let said = world
            .apply(&rendered, &["--dry-run=server", "--validate=strict"])
            .context(name.to_owned())?;
        // Pod Security speaks of a Deployment in a warning. The node's network is what `restricted` is there to forbid.
        let wanted = usize::from(name == "placement-values.yaml");
        ensure!(said.warnings().len() == wanted, "{name}: {}", said.stderr);
    }
    Ok(())
}

/// Kinds of other projects that the chart makes objects of, each with one of the deepest places in which it has fields.
const FOREIGN: [(&str, &str); 4] = [
    ("Certificate", "/spec/issuerRef"),
    ("Issuer", "/spec"),
    ("PrometheusRule", "/spec/groups/0/rules/0"),
    ("ServiceMonitor", "/spec/endpoints/0"),
];

/// Else it would mean nothing that the API server takes the others.
fn a_field_that_its_project_does_not_have_is_refused(world: &World) -> Result<()> {
    world.install(&[])?;
    world.foreign_kinds()?;
    let mut tried = BTreeSet::new();
    for values in ["monitoring-values.yaml", "cert-manager-values.yaml"] {
        let file = format!("tidewaiter/ci/{values}");
        let chart = ["template", "tidewaiter", "tidewaiter", "--namespace", NAMESPACE];
        let rendered = world.helm(&[&chart[..], &["--values", &file]].concat())?;
        for object in rendered.split("\n---\n") {
            let mut object: Value = serde_saphyr::from_str(object).with_context(|| object.to_owned())?;
            let Some((kind, place)) = FOREIGN.into_iter().find(|&(kind, _)| object["kind"] == kind) else {
                continue;
            };
            let place = object
                .pointer_mut(place)
                .with_context(|| format!("{kind} has no {place}"))?;
            place["misspelt"] = json!("");
            world.unknown_field(&object)?;
            tried.insert(kind);
        }
    }
    ensure!(tried.len() == FOREIGN.len(), "the chart makes only {tried:?}");
    Ok(())
}

/// The values alone are read in `webhook/tests/charts.rs`; what a template makes of lists and texts of several lines is another question.
fn the_server_reads_the_modules_that_the_chart_renders(world: &World) -> Result<()> {
    let folder = world.cluster.folder().join("modules");
    fs::create_dir_all(folder.join("config"))?;
    let pair = certificate()?;
    fs::write(folder.join("tls.crt"), &pair.certificate)?;
    fs::write(folder.join("tls.key"), &pair.key)?;
    for values in [
        "tidewaiter/ci/defaults-values.yaml",
        "tidewaiter/ci/modules-values.yaml",
    ] {
        let rendered = world.helm(&[
            "template",
            "tidewaiter",
            "tidewaiter",
            "--show-only",
            "templates/modules.yaml",
            "--values",
            values,
        ])?;
        let map: Value = serde_saphyr::from_str(&rendered)?;
        let modules = map["data"]["modules.yaml"]
            .as_str()
            .context("the ConfigMap has no modules.yaml")?;
        let asked: Value = serde_saphyr::from_str(&fs::read_to_string(Path::new(CHARTS).join(values))?)?;
        for key in asked["modules"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            ensure!(modules.contains(&format!("{key}:")), "{values}: no {key} in {modules}");
        }
        let (listens, log) = starts(&folder, modules)?;
        ensure!(listens, "{values}: the server doesn't start: {log}\n{modules}");
        let (listens, log) = starts(&folder, &format!("{modules}\nmisspelt: 1\n"))?;
        ensure!(
            !listens && log.contains("misspelt"),
            "{values}: it reads anything: {log}"
        );
    }
    Ok(())
}

/// Whether the server comes up with these modules, and what it says.
fn starts(folder: &Path, modules: &str) -> Result<(bool, String)> {
    fs::write(folder.join("modules.yaml"), modules)?;
    let mut server = Command::new(webhook_binary()?)
        .current_dir(folder)
        .args([
            "--config",
            "config",
            "--modules",
            "modules.yaml",
            "--cache-dir",
            "cache",
        ])
        .args(["--tls-cert", "tls.crt", "--tls-key", "tls.key"])
        .args(["--listen", "127.0.0.1:0", "--log-format", "text"])
        .stderr(Stdio::piped())
        .spawn()
        .context("can't start the server")?;
    let log = BufReader::new(server.stderr.take().context("the server has no standard error")?);
    let mut said = String::new();
    let listens = log.lines().map_while(Result::ok).any(|line| {
        said.push_str(&line);
        said.push('\n');
        line.contains("listening")
    });
    // It may have ended by itself.
    let _ = server.kill();
    server.wait()?;
    Ok((listens, said))
}

/// A chart and an overlay as users have them, with a protocol that a runtime speaks or none does.
fn what_helm_and_kustomize_make_is_reviewed(world: &World) -> Result<()> {
    let folder = world.cluster.folder().join("reviewed");
    for (name, text) in [
        ("config/policy.yaml", POLICY),
        ("chart/Chart.yaml", "{apiVersion: v2, name: fraud, version: 0.1.0}\n"),
        ("chart/values.yaml", "protocol: v2\n"),
        (
            "chart/templates/service.yaml",
            &SERVICE.replace("PROTOCOL", "{{ .Values.protocol }}"),
        ),
        ("base/service.yaml", &SERVICE.replace("PROTOCOL", "v1")),
        ("base/kustomization.yaml", "resources: [service.yaml]\n"),
        (
            "prod/kustomization.yaml",
            "namespace: team-a\nnamePrefix: prod-\nresources: [../base]\n",
        ),
        ("mended/kustomization.yaml", MENDED),
    ] {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().context("a file in no folder")?)?;
        fs::write(file, text)?;
    }
    let chart = folder.join("chart").display().to_string();
    let kustomized = |overlay: &str| {
        world
            .cluster
            .kubectl(&["kustomize", &folder.join(overlay).display().to_string()])
    };

    let rendered = world.helm(&["template", "fraud", &chart, "--set", "protocol=v1"])?;
    let (code, reviewed) = review(&folder, &rendered)?;
    let object = &reviewed["objects"][0];
    ensure!(
        code == Some(1) && object["verdict"] == "refused" && object["template"] == "fraud/templates/service.yaml",
        "{reviewed}"
    );
    let finding = &object["findings"][0];
    let line = finding["line"].as_u64().and_then(|line| usize::try_from(line).ok());
    let line = line.and_then(|line| rendered.lines().nth(line.checked_sub(1)?));
    ensure!(
        finding["code"] == "protocol-unspoken" && line.is_some_and(|line| line.trim() == "protocolVersion: v1"),
        "line {line:?}: {reviewed}"
    );
    let (code, reviewed) = review(&folder, &world.helm(&["template", "fraud", &chart])?)?;
    ensure!(code == Some(0), "{reviewed}");

    let (code, reviewed) = review(&folder, &kustomized("prod")?)?;
    let object = &reviewed["objects"][0];
    ensure!(
        code == Some(1) && object["name"] == "prod-fraud" && object["namespace"] == "team-a",
        "{reviewed}"
    );
    ensure!(object["findings"][0]["code"] == "protocol-unspoken", "{reviewed}");
    let (code, reviewed) = review(&folder, &kustomized("mended")?)?;
    ensure!(code == Some(0), "{reviewed}");
    Ok(())
}

/// A configuration under which nothing is looked for in stores: there are none.
const POLICY: &str = "
apiVersion: tidewaiter.dev/v1alpha1
kind: WasmPolicy
metadata: {name: model-exists}
spec:
  module: {builtin: model-exists}
  match: {namespaces: [nowhere]}
";

const SERVICE: &str = "
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: fraud
spec:
  predictor:
    model:
      modelFormat: {name: mlflow}
      protocolVersion: PROTOCOL
      storageUri: s3://mlflow/fraud
";

const MENDED: &str = "
resources: [../base]
patches:
  - target: {kind: InferenceService}
    patch: |
      - {op: replace, path: /spec/predictor/model/protocolVersion, value: v2}
";

/// What `tidewaiter review` says of manifests on standard input, and how it ends.
fn review(folder: &Path, manifests: &str) -> Result<(Option<i32>, Value)> {
    let mut command = Command::new(command_binary()?)
        .current_dir(folder)
        .args(["review", "-", "--config", "config", "-o", "json"])
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("can't start tidewaiter")?;
    // It reads all of it before it writes.
    let mut stdin = command.stdin.take().context("tidewaiter has no standard input")?;
    stdin.write_all(manifests.as_bytes())?;
    drop(stdin);
    let output = command.wait_with_output()?;
    let complained = String::from_utf8_lossy(&output.stderr);
    let said = serde_json::from_slice(&output.stdout).with_context(|| complained.into_owned())?;
    Ok((output.status.code(), said))
}

fn policy_reports_are_defined_unless_someone_did(world: &World) -> Result<()> {
    world.install(&[])?;
    let with_reports = |verb| {
        let chart = [verb, "tidewaiter-crds", "tidewaiter-crds", "--namespace", NAMESPACE];
        [&chart[..], &["--set", "policyReports.enabled=true"]].concat()
    };
    let audited = [
        "install",
        "tidewaiter",
        "tidewaiter",
        "--namespace",
        NAMESPACE,
        "--dry-run=server",
    ];
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
fn an_upgrade_keeps_what_the_leader_wrote(world: &World) -> Result<()> {
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

fn a_dead_gate_is_open_but_where_it_was_asked_to_be_shut(world: &World) -> Result<()> {
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

fn an_uninstall_leaves_what_users_need(world: &World) -> Result<()> {
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
    let install = [
        "install",
        "tidewaiter-crds",
        "tidewaiter-crds",
        "--namespace",
        NAMESPACE,
    ];
    world.helm(&install).map(drop)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each has the cluster for itself.
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let options = Options {
        node: false,
        kserve: Kserve::V0_20,
    };
    let done = in_the_ground(
        options,
        || {
            let cache = Cache::open()?;
            Cluster::prepare_definitions(&[Project::CertManager, Project::PrometheusOperator, Project::Kyverno])?;
            Ok(vec![
                (HELM, Module::Helm.build(&cache)?.join("helm").into()),
                (COMMAND, command_binary()?.into()),
                (
                    alerts::PROMTOOL,
                    Module::Prometheus.build(&cache)?.join("promtool").into(),
                ),
            ])
        },
        |cluster| {
            let helm = std::env::var_os(HELM).context("nobody said where Helm is")?.into();
            let home = cluster.folder().join("helm");
            let world = Arc::new(World { cluster, helm, home });
            Ok(libtest_mimic::run(&arguments, trials(Some(&world))).exit_code())
        },
    );
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    TESTS
        .iter()
        .map(|&(name, test)| {
            let world = world.cloned();
            Trial::test(name, move || {
                let run = || test(&*world.context("tests run inside the ground alone")?);
                run().map_err(|error: anyhow::Error| format!("{error:#}").into())
            })
        })
        .collect()
}
