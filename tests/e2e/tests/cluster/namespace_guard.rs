//! The built-in policy `namespace-guard`: what a namespace does to a service without it, in Kubernetes' own words, and what is said with it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::make_up_models;
use tidewaiter_e2e::manifests;
use tidewaiter_e2e::server::{NOBODY, REVIEWED_BY};
use tidewaiter_ground::Namespace;
use tidewaiter_ground::models::SavedWith::Sklearnserver0_20;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_namespace_that_kserve_passes_over_is_told_of",
        true,
        a_namespace_that_kserve_passes_over_is_told_of,
    ),
    (
        "a_namespace_that_an_admins_own_selector_leaves_out_is_told_of",
        true,
        a_namespace_that_an_admins_own_selector_leaves_out_is_told_of,
    ),
    (
        "a_quota_that_stops_a_service_is_told_of",
        false,
        a_quota_that_stops_a_service_is_told_of,
    ),
    (
        "pod_security_that_stops_a_service_is_told_of_and_met",
        false,
        pod_security_that_stops_a_service_is_told_of_and_met,
    ),
];

/// KServe's webhook that brings models into Pods, and where it is configured.
const POD_MUTATOR: &str = "inferenceservice.kserve-webhook-server.pod-mutator";
const WEBHOOKS: &str = "inferenceservice.serving.kserve.io";
const CONFIGURATION: &str = "mutatingwebhookconfiguration";

/// A namespace with these labels, as if Tidewaiter weren't installed.
fn without(world: &World, name: &str, labels: &Value) -> Result<Namespace> {
    let mut labels = labels.clone();
    labels[REVIEWED_BY] = json!(NOBODY);
    world.tidewaiter()?;
    world.cluster.namespace_with(name, &labels)
}

fn with(world: &World, name: &str, labels: &Value) -> Result<Namespace> {
    world.tidewaiter()?;
    world.cluster.namespace_with(name, labels)
}

fn refused(namespace: &Namespace, service: &str, says: &[&str]) -> Result<()> {
    let said = namespace.try_apply(&["--server-side"], service)?;
    ensure!(!said.ok, "admitted: {}", said.stdout);
    for part in says {
        ensure!(said.stderr.contains(part), "no word of {part}: {}", said.stderr);
    }
    Ok(())
}

/// What the events of a namespace say of Pods that aren't made.
fn events(world: &World, namespace: &Namespace, says: &str) -> Result<String> {
    world
        .cluster
        .until(&format!("an event says {says}"), Duration::from_mins(2), || {
            let arguments = [
                "get",
                "events",
                "--field-selector",
                "reason=FailedCreate",
                "-o",
                "jsonpath={.items[*].message}",
            ];
            let events = namespace.kubectl(&arguments)?;
            ensure!(events.contains(says), "{events}");
            Ok(Some(events))
        })
}

fn a_namespace_that_kserve_passes_over_is_told_of(world: &World) -> Result<()> {
    let (_, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let manifest = manifests::bare("iris", "sklearn", &uri);
    let labels = json!({"control-plane": "kserve"});

    let theirs = without(world, "passed-over", &labels)?;
    theirs.apply(&manifest)?;
    world.cluster.until("the server ends", Duration::from_mins(4), || {
        let pods = theirs.pods("iris")?;
        let pod = pods.first().context("no Pod yet")?;
        ensure!(
            pod["spec"]["initContainers"].is_null(),
            "KServe brings the model: {}",
            pod["spec"]
        );
        let logs = world.cluster.logs(pod, "kserve-container")?.concat();
        ensure!(logs.contains("No such file or directory: '/mnt/models'"), "{logs}");
        Ok(Some(()))
    })?;

    let ours = with(world, "passed-over-told", &labels)?;
    let says = [
        "no Pod of the predictor in namespace",
        "inferenceservice.kserve-webhook-server.pod-mutator, in MutatingWebhookConfiguration inferenceservice.serving.kserve.io",
        "the namespace has the label control-plane=kserve",
    ];
    refused(&ours, &manifest, &says)
}

/// The label that an admin's own selector leaves out. No other test's namespace has it.
const LEFT_OUT: &str = "tidewaiter-e2e/left-out";

/// An admin's addition to the selector of KServe's webhook for Pods. Taken out when dropped.
struct Selector<'a>(&'a World);

impl<'a> Selector<'a> {
    fn add(world: &'a World) -> Result<Self> {
        let requirement = json!({"key": LEFT_OUT, "operator": "DoesNotExist"});
        let (webhook, _) = Self::found(world)?;
        let place = format!("{webhook}/namespaceSelector/matchExpressions/-");
        Self::patch(world, &json!([{"op": "add", "path": place, "value": requirement}]))?;
        Ok(Self(world))
    }

    /// The paths of KServe's webhook for Pods, and of the addition in it.
    fn found(world: &World) -> Result<(String, Option<String>)> {
        let configuration = world.cluster.get("", &format!("{CONFIGURATION}/{WEBHOOKS}"))?;
        let mut webhooks = configuration["webhooks"].as_array().into_iter().flatten();
        let at = webhooks
            .position(|webhook| webhook["name"] == POD_MUTATOR)
            .context("KServe's webhook for Pods is gone")?;
        let requirements = &configuration["webhooks"][at]["namespaceSelector"]["matchExpressions"];
        let mut requirements = requirements.as_array().into_iter().flatten();
        let added = requirements
            .position(|requirement| requirement["key"] == LEFT_OUT)
            .map(|added| format!("/webhooks/{at}/namespaceSelector/matchExpressions/{added}"));
        Ok((format!("/webhooks/{at}"), added))
    }

    fn patch(world: &World, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        world
            .cluster
            .kubectl(&["patch", CONFIGURATION, WEBHOOKS, "--type=json", "-p", &patch])
            .map(drop)
    }
}

impl Drop for Selector<'_> {
    fn drop(&mut self) {
        if let Ok((_, Some(added))) = Self::found(self.0) {
            // Whoever changed it meanwhile keeps what they wrote.
            let key = json!({"op": "test", "path": format!("{added}/key"), "value": LEFT_OUT});
            let _ = Self::patch(self.0, &json!([key, {"op": "remove", "path": added}]));
        }
    }
}

fn a_namespace_that_an_admins_own_selector_leaves_out_is_told_of(world: &World) -> Result<()> {
    let (_, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let manifest = manifests::bare("iris", "sklearn", &uri);
    let labels = json!({LEFT_OUT: "yes"});
    let theirs = without(world, "left-out", &labels)?;
    let ours = with(world, "left-out-told", &labels)?;
    let told = || {
        let said = ours.try_apply(&["--server-side", "--dry-run=server"], &manifest)?;
        anyhow::Ok(said.stderr.contains(LEFT_OUT))
    };
    ensure!(!told()?, "the label is told of before it means anything");

    let selector = Selector::add(world)?;
    theirs.apply(&manifest)?;
    world
        .cluster
        .until("a Pod without a model is made", Duration::from_mins(2), || {
            let pods = theirs.pods("iris")?;
            let pod = pods.first().context("no Pod yet")?;
            if pod["spec"]["initContainers"].is_null() {
                return Ok(Some(()));
            }
            // Made before the API server knew.
            theirs.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
            anyhow::bail!("KServe brings the model: {}", pod["spec"])
        })?;

    world
        .cluster
        .until("Tidewaiter knows the selector", Duration::from_mins(1), || {
            Ok(told()?.then_some(()))
        })?;
    let says = [
        "no Pod of the predictor in namespace",
        "inferenceservice.kserve-webhook-server.pod-mutator, in MutatingWebhookConfiguration inferenceservice.serving.kserve.io",
        "the namespace has the label tidewaiter-e2e/left-out=yes",
    ];
    refused(&ours, &manifest, &says)?;
    drop(selector);
    world
        .cluster
        .until("Tidewaiter knows that it is gone", Duration::from_mins(1), || {
            Ok((!told()?).then_some(()))
        })
}

fn a_quota_that_stops_a_service_is_told_of(world: &World) -> Result<()> {
    let quota = |hard: Value| {
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "compute"}, "spec": {"hard": hard}})
            .to_string()
    };
    let own = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "own"},
        "spec": {"predictor": {"containers": [
            {"name": "kserve-container", "image": "registry.example/own:1", "resources": {"requests": {"memory": "8Gi"}, "limits": {"memory": "8Gi"}}},
        ]}},
    })
    .to_string();
    let theirs = without(world, "quota-theirs", &json!({}))?;
    theirs.apply(&quota(json!({"requests.memory": "4Gi"})))?;
    theirs.apply(&own)?;
    let events = events(world, &theirs, "exceeded quota: compute")?;
    ensure!(
        events.contains("requested: requests.memory=8Gi") && events.contains("limited: requests.memory=4Gi"),
        "{events}"
    );

    let ours = with(world, "quota-ours", &json!({}))?;
    ours.apply(&quota(json!({"requests.memory": "4Gi"})))?;
    refused(
        &ours,
        &own,
        &[
            "ResourceQuota compute of namespace",
            "one Pod takes 8Gi of requests.memory, and all of it is 4Gi",
            "have the quota raised",
        ],
    )?;
    ours.apply(&quota(json!({"requests.memory": "16Gi"})))?;
    ours.apply(&own).map(drop)
}

fn pod_security_that_stops_a_service_is_told_of_and_met(world: &World) -> Result<()> {
    let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let own = |security: Value| {
        json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "own"},
            "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "registry.example/own:1", "securityContext": security}]}},
        })
        .to_string()
    };
    let privileged = own(json!({"privileged": true}));
    // What KServe's own runtimes say of theirs.
    let careful = own(json!({
        "allowPrivilegeEscalation": false, "privileged": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
    }));

    let theirs = without(world, "restricted-theirs", &restricted)?;
    theirs.apply(&careful)?;
    events(
        world,
        &theirs,
        "violates PodSecurity \"restricted:latest\": seccompProfile",
    )?;

    let ours = with(world, "restricted-ours", &restricted)?;
    refused(
        &ours,
        &privileged,
        &[
            "enforces Pod Security level restricted",
            "privileged: true in container kserve-container",
        ],
    )?;
    let said = ours.apply(&careful)?;
    ensure!(
        said.warnings()
            .iter()
            .any(|line| line.contains("spec.predictor.securityContext.seccompProfile")),
        "{}",
        said.stderr
    );
    world.cluster.until("a Pod is made", Duration::from_mins(2), || {
        Ok(ours.pods("own")?.into_iter().next())
    })?;

    // A model brings KServe's initializer, which says nothing of itself until its admin does.
    let (_, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let said = ours.apply(&manifests::bare("iris", "sklearn", &uri))?;
    ensure!(
        said.warnings()
            .iter()
            .any(|line| line.contains("allowPrivilegeEscalation: false in storage-initializer")),
        "{}",
        said.stderr
    );
    events(
        world,
        &ours,
        "\"storage-initializer\" must set securityContext.allowPrivilegeEscalation=false",
    )?;
    let secured = json!({
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": ours.name()},
        "spec": {
            "container": {"name": "storage-initializer", "image": "docker.io/kserve/storage-initializer:v0.20.0", "securityContext": {
                "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]},
            }},
            "supportedUriFormats": [{"prefix": format!("{uri}/secured")}],
            "workloadType": "initContainer",
        },
    });
    make_up_models(&ours)?;
    let _secured = Custom::apply(&world.cluster, &secured)?;
    let mut service: Value = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "secured"},
        "spec": {"predictor": {
            "storageContainerName": ours.name(),
            "model": {"modelFormat": {"name": "sklearn"}, "storageUri": format!("{uri}/secured")},
        }},
    });
    service["spec"]["predictor"]["model"]["runtime"] = json!("kserve-sklearnserver");
    ours.apply(&service.to_string())?;
    let pod = world
        .cluster
        .until("a Pod with an initializer is made", Duration::from_mins(2), || {
            Ok(ours.pods("secured")?.into_iter().next())
        })?;
    ensure!(
        pod["spec"]["initContainers"][0]["name"] == "storage-initializer"
            && pod["spec"]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
        "{}",
        pod["spec"]
    );
    Ok(())
}
