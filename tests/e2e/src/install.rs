//! Tidewaiter as a cluster has it: CRDs, roles, backends, the server with its certificate, the webhook configurations.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::{Cluster, HOST, MINIO_PORT, MINIO_USER, Namespace, host};

use crate::server::{Identity, REVIEWED_BY, Server, certificate, webhook_binary};

/// Tidewaiter's own namespace.
pub const NAMESPACE: &str = "tidewaiter-system";
/// The value of a namespace's label where Tidewaiter is to come before KServe, and sees the old shapes before KServe rewrites them.
pub const BEFORE_KSERVE: &str = "before-kserve";
/// The label of a namespace whose services ask for models that nobody made: `model-exists` would refuse them.
pub const MADE_UP: (&str, &str) = ("tidewaiter-e2e/models", "made-up");
/// Has a namespace's services ask for models that nobody made.
pub fn make_up_models(namespace: &Namespace) -> Result<()> {
    let label = format!("{}={}", MADE_UP.0, MADE_UP.1);
    let name = namespace.name();
    namespace
        .cluster()
        .kubectl(&["label", "namespace", name, &label, "--overwrite"])
        .map(drop)
}

/// The same for all namespaces of a cluster, where something else than policies is tried.
pub fn make_up_all_models(cluster: &Cluster) -> Result<()> {
    look_for_models_of(cluster, "nowhere")
}

fn look_for_models_of(cluster: &Cluster, namespace: &str) -> Result<()> {
    let alone = json!({"spec": {"match": {"namespaces": [namespace]}}}).to_string();
    cluster
        .kubectl(&["patch", "wasmpolicy", "model-exists", "--type=merge", "-p", &alone])
        .map(drop)
}

/// One namespace whose models are looked for, until this is dropped.
#[derive(Debug)]
pub struct LookedFor(Cluster);

/// Has `model-exists` look for the models of this namespace, in a cluster where [`make_up_all_models`] keeps it from doing so.
pub fn look_for_models(namespace: &Namespace) -> Result<LookedFor> {
    let looked_for = LookedFor(namespace.cluster().clone());
    look_for_models_of(&looked_for.0, namespace.name())?;
    Ok(looked_for)
}

impl Drop for LookedFor {
    fn drop(&mut self) {
        // A test that fails leaves none to be looked for either.
        if let Err(error) = make_up_all_models(&self.0) {
            eprintln!("model-exists goes on to look for models: {error:#}");
        }
    }
}

/// The label of a namespace whose quota keeps Pods away, so that its services cost nothing: `namespace-guard` would refuse them.
pub const NO_PODS: (&str, &str) = ("tidewaiter-e2e/pods", "none");

/// Keeps Pods away from a namespace.
pub fn without_pods(namespace: &Namespace) -> Result<()> {
    let label = format!("{}={}", NO_PODS.0, NO_PODS.1);
    let name = namespace.name();
    namespace
        .cluster()
        .kubectl(&["label", "namespace", name, &label, "--overwrite"])?;
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"},
        "spec": {"hard": {"pods": "0"}},
    });
    namespace.apply(&quota.to_string()).map(drop)
}

/// The cluster role of a server that reads all that the installed one reads.
const READS: &str = "tidewaiter-reads";
/// The cluster role without which such a server can't write credentials.
pub const WRITES: &str = "tidewaiter-writes";

/// Installs it and waits until it is ready. It reviews each namespace that no label gives to another.
pub fn install(cluster: &Cluster) -> Result<Server> {
    let binary = webhook_binary()?;
    install_from(cluster, || Command::new(&binary))
}

/// The same with a server that is started by another command; its arguments are added.
pub fn install_from(cluster: &Cluster, webhook: impl Fn() -> Command) -> Result<Server> {
    let apply = |objects: &str| -> Result<()> {
        let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], objects)?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(())
    };
    apply(&host::output(webhook().arg("crds"))?)?;
    cluster.until("Tidewaiter's CRDs are served", Duration::from_secs(30), || {
        let wait = [
            "wait",
            "--for=condition=Established",
            "crd/storagebackends.tidewaiter.dev",
            "crd/wasmpolicies.tidewaiter.dev",
        ];
        cluster.kubectl(&wait).map(Some)
    })?;
    apply(&roles(cluster)?)?;
    apply(&backends())?;
    let identity = Identity {
        name: "tidewaiter",
        port: 8443,
        account: "tidewaiter",
        before_kserve: false,
    };
    let pair = certificate()?;
    let server = Server::start(cluster, identity, &pair, webhook())?;
    let elsewhere = json!({"key": REVIEWED_BY, "operator": "DoesNotExist"});
    server.ask("tidewaiter.dev", &elsewhere, &[&pair])?;
    let before = json!({"key": REVIEWED_BY, "operator": "In", "values": [BEFORE_KSERVE]});
    server.ask("a-tidewaiter.dev", &before, &[&pair])?;
    Ok(server)
}

/// Starts a further server beside the installed one, with an account that may read, and write where the test binds it to [`WRITES`].
pub fn start_another(cluster: &Cluster, identity: Identity) -> Result<Server> {
    let account = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": NAMESPACE, "name": identity.account}},
        binding(READS, identity.account),
    ]});
    let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], &account.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    let pair = certificate()?;
    let server = Server::start(cluster, identity, &pair, Command::new(webhook_binary()?))?;
    server.ask_for_its_own(&[&pair])?;
    Ok(server)
}

fn binding(role: &str, account: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{account}:{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": NAMESPACE, "name": account}],
    })
}

/// The chart's own roles for the installed server, so that a right which the chart lacks is missing in every test; and what they allow in two parts, for servers
/// that are to have less.
fn roles(cluster: &Cluster) -> Result<String> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/tidewaiter");
    let template = ["template", "tidewaiter", chart, "--namespace", NAMESPACE];
    let rendered = cluster.helm(&[&template[..], &["--show-only", "templates/rbac.yaml"]].concat())?;
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": NAMESPACE, "name": "tidewaiter"}}),
    ];
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for object in rendered.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(object).with_context(|| object.to_owned())?;
        if object["kind"] == "ClusterRole" {
            for rule in object["rules"].as_array().into_iter().flatten() {
                let is_of_credentials = rule["resources"]
                    .as_array()
                    .is_some_and(|all| all.contains(&json!("secrets")));
                let with_verbs = |verbs: [&str; 3]| {
                    let mut rule = rule.clone();
                    rule["verbs"] = json!(verbs);
                    rule
                };
                if is_of_credentials {
                    reads.push(with_verbs(["get", "list", "watch"]));
                    writes.push(with_verbs(["create", "patch", "delete"]));
                } else {
                    reads.push(rule.clone());
                }
            }
        }
        objects.push(object);
    }
    ensure!(
        writes.len() == 1,
        "the chart's rule about credentials isn't one: {writes:?}"
    );
    for (name, rules) in [(READS, reads), (WRITES, writes)] {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        }));
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
}

/// MinIO, as an admin would describe it, and where models are looked for: a namespace may use its own folder, and what all share. A second bucket's credentials come by
/// ServiceAccount, a third's by storage key.
pub(crate) fn backends() -> String {
    let of = |name: &str, bucket: &str, delivery: &str| {
        let mut backend = backend(
            name,
            bucket,
            &[
                &format!("s3://{bucket}/{{namespace}}/"),
                &format!("s3://{bucket}/shared/"),
            ],
        );
        backend["spec"]["delivery"] = json!(delivery);
        backend
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        of("minio", "mlflow", "annotation"),
        of("minio-accounts", "accounts", "serviceAccount"),
        of("minio-keys", "keys", "storageKey"),
        {
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": "model-exists"},
            "spec": {
                "module": {"builtin": "model-exists"},
                "match": {"namespaceSelector": {"matchExpressions": [{"key": MADE_UP.0, "operator": "DoesNotExist"}]}},
            },
        },
        {
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": "namespace-guard"},
            "spec": {
                "module": {"builtin": "namespace-guard"},
                "order": 200,
                "match": {"namespaceSelector": {"matchExpressions": [{"key": NO_PODS.0, "operator": "DoesNotExist"}]}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": "minio-root"},
            "stringData": {"rootUser": MINIO_USER, "rootPassword": MINIO_USER},
        },
    ]})
    .to_string()
}

/// Says in the catalogue what these repositories hold, in a `ConfigMap` of this name.
pub fn extend_catalogue(cluster: &Cluster, name: &str, repositories: &Value) -> Result<()> {
    let catalogue = json!({"schema": 1, "repositories": repositories});
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"tidewaiter.dev/catalogue": "extend"}},
        "data": {"catalogue.yaml": catalogue.to_string()},
    });
    let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], &map.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    Ok(())
}

/// A runtime of the namespace's own, as KServe's for MLServer is but for a change. It has the name of KServe's: to that one alone KServe says the model's name,
/// folder and class.
pub fn own_mlserver(namespace: &Namespace, change: impl FnOnce(&mut Value)) -> Result<()> {
    let known = ["get", "clusterservingruntime/kserve-mlserver", "-o", "json"];
    let mut runtime: Value = serde_json::from_str(&namespace.cluster().kubectl(&known)?)?;
    runtime["kind"] = json!("ServingRuntime");
    runtime["metadata"] = json!({"name": "kserve-mlserver"});
    change(&mut runtime["spec"]);
    namespace.apply(&runtime.to_string()).map(drop)
}

/// A backend for a bucket of the ground's MinIO, of which every namespace may use these prefixes.
pub fn backend(name: &str, bucket: &str, granted: &[&str]) -> Value {
    json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "StorageBackend",
        "metadata": {"name": name},
        "spec": {
            "type": "s3",
            "serves": [format!("s3://{bucket}/")],
            "s3": {"endpoint": format!("http://{HOST}:{MINIO_PORT}"), "region": "us-east-1"},
            "credentials": {"secretRef": {"namespace": NAMESPACE, "name": "minio-root"}},
            "grants": [{"namespaces": ["*"], "prefixes": granted}],
            "contact": "#ml-platform",
        },
    })
}
