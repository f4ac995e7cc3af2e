//! What an admin writes: every documented value, and what is said of a wrong one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{CHARTS, INSTALL, NAMESPACE, World, namespace};

/// The files with values that the chart's README points to, the defaults among them.
fn documented() -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(Path::new(CHARTS).join("tidewaiter/ci"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(files.len() > 5, "the examples of values are gone: {files:?}");
    Ok(files)
}

pub(crate) fn both_charts_pass_lint(world: &World) -> Result<()> {
    world.helm(&["lint", "--strict", "tidewaiter-crds"])?;
    for values in documented()? {
        let values = values.to_str().context("a file's name is not UTF-8")?;
        world.helm(&["lint", "--strict", "tidewaiter", "--values", values])?;
    }
    Ok(())
}

pub(crate) fn a_wrong_value_is_named(world: &World) -> Result<()> {
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
            "webhook.timeoutSeconds=4",
            &[
                "webhook.budget (2s) must be at least 2500ms less",
                "webhook.timeoutSeconds (4 s)",
            ],
        ),
        (
            "modules.cacheMiB=512",
            &[
                "cache.sizeLimit (512Mi)",
                "cache.compiledMiB (256), modules.cacheMiB (512)",
            ],
        ),
        (
            "cache.compiledMiB=1000,cache.sizeLimit=1Gi",
            &["cache.sizeLimit (1Gi)", "cache.compiledMiB (1000)"],
        ),
        (
            "extraEnv[0].name=TIDEWAITER_BUDGET",
            &[
                "extraEnv: TIDEWAITER_BUDGET is for the chart to set",
                "set webhook.budget",
            ],
        ),
        (
            "extraEnv[0].name=TIDEWAITER_CONFIG",
            &["extraEnv: TIDEWAITER_CONFIG is for a server without a cluster"],
        ),
        ("extraEnv[0].name=POD_NAME", &["extraEnv: POD_NAME is the chart's own"]),
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

pub(crate) fn what_is_missing_is_said_first(world: &World) -> Result<()> {
    world.clean()?;
    let install = |more: &[&'static str]| [&INSTALL, &["--dry-run=server"][..], more].concat();
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

pub(crate) fn the_api_server_takes_every_documented_value(world: &World) -> Result<()> {
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
pub(crate) fn a_field_that_its_project_does_not_have_is_refused(world: &World) -> Result<()> {
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
