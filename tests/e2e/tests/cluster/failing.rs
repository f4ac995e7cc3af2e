//! Each way in which a deployment fails, made to happen for real: `tidewaiter deploy … -o json` names the cause, says what happened to what, and what to do; and
//! it ends when that is certain, not at `--timeout`. Where Tidewaiter's webhook makes a difference, that is shown beside it.
//!
//! A wrong key, a model that isn't there, a server without its model and a namespace that KServe passes over are in `deploy.rs`.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command::Said;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{backend, make_up_models};
use tidewaiter_e2e::manifests;
use tidewaiter_e2e::server::{NOBODY, REVIEWED_BY};
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::{Mlserver1_7_1, Sklearnserver0_20};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, host, python};

use crate::architecture::load_program_of_the_other_machine;
use crate::deploy::{SMALL, run, tells};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "failing_a_server_out_of_memory_is_told_with_its_limit",
        true,
        failing_a_server_out_of_memory_is_told_with_its_limit,
    ),
    (
        "failing_a_download_out_of_memory_is_told_with_who_limits_it",
        true,
        failing_a_download_out_of_memory_is_told_with_who_limits_it,
    ),
    (
        "failing_a_server_on_another_port_is_told_with_both",
        true,
        failing_a_server_on_another_port_is_told_with_both,
    ),
    (
        "failing_libraries_of_other_versions_are_told_with_both",
        true,
        failing_libraries_of_other_versions_are_told_with_both,
    ),
    (
        "failing_code_that_stayed_in_a_script_is_named",
        true,
        failing_code_that_stayed_in_a_script_is_named,
    ),
    (
        "failing_a_program_of_another_machine_is_told_with_its_node",
        true,
        failing_a_program_of_another_machine_is_told_with_its_node,
    ),
    (
        "failing_at_the_store_is_told_apart",
        true,
        failing_at_the_store_is_told_apart,
    ),
    (
        "failing_a_key_that_tidewaiter_brought_names_its_backend",
        true,
        failing_a_key_that_tidewaiter_brought_names_its_backend,
    ),
    (
        "failing_a_runtime_that_does_not_speak_the_protocol_is_named",
        false,
        failing_a_runtime_that_does_not_speak_the_protocol_is_named,
    ),
    (
        "failing_before_a_node_has_the_pod_is_told",
        true,
        failing_before_a_node_has_the_pod_is_told,
    ),
];

/// With a certain cause, and these words for a person: what is printed for a program, and the same on standard error.
pub(crate) fn failed(said: Said, cause: &str, parts: &[&str]) -> Result<()> {
    let said = said.ended(1)?;
    let report: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:#?}"))?;
    ensure!(report["outcome"] == "failed" && report["cause"] == cause, "{said:#?}");
    let word = |field: &str| report[field].as_str().unwrap_or_default();
    let told = format!("{}\n{}\n{}", word("message"), word("next"), report["evidence"]);
    for part in parts {
        ensure!(told.contains(part), "no `{part}` in {said:#?}");
    }
    tells(&said, &["doesn't come up: ", word("message"), "hint: ", word("next")])
}

/// A deployment of a URI, with the store's keys where there are some.
fn deploy(namespace: &Namespace, key: Option<&str>, uri: &str, more: &[&str]) -> Result<Said> {
    let arguments = [&["deploy", uri, "--name", "fraud", "-o", "json"][..], more].concat();
    run(namespace, key, &arguments)
}

/// The same without keys, so that nobody looks into the model before it is served: the store is opened by a Secret of this name.
fn deploy_unseen(namespace: &Namespace, uri: &str, secret: &str, more: &[&str]) -> Result<Said> {
    deploy(
        namespace,
        None,
        uri,
        &[&["--secret", secret][..], &SMALL, more].concat(),
    )
}

fn make_secret(namespace: &Namespace, name: &str, more: &[&str]) -> Result<()> {
    let arguments = [&["secret", "create", name][..], more].concat();
    run(namespace, Some(MINIO_USER), &arguments)?.ended(0).map(drop)
}

fn failing_a_server_out_of_memory_is_told_with_its_limit(world: &World) -> Result<()> {
    let (_, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let team = world.team("fail-memory")?;
    // The kubelet ends it by its cgroup: Python with pandas needs several times as much.
    let small = [
        "--request",
        "cpu=50m",
        "--request",
        "memory=64Mi",
        "--limit",
        "memory=64Mi",
    ];
    let more = [&["--runtime", "kserve-sklearnserver"][..], &small].concat();
    failed(
        deploy(&team, Some(MINIO_USER), &uri, &more)?,
        "out-of-memory",
        &[
            "the server needs more memory than the 64Mi that it was given",
            "give it more than that: --limit memory=",
            "OOMKilled",
        ],
    )
}

/// What KServe ships limits it by a `ClusterStorageContainer`, which counts before the `ConfigMap`: here by one of this test's own, that KServe takes for the URIs
/// of this namespace.
fn failing_a_download_out_of_memory_is_told_with_who_limits_it(world: &World) -> Result<()> {
    let cluster = world.cluster()?;
    let team = world.team("fail-download")?;
    let name = team.name();
    let model = Model::make(cluster.cache(), "plain_sklearn", Sklearnserver0_20)?;
    let uri = model.put(cluster.cache(), "mlflow", &format!("{name}/fraud"))?;
    let shipped = cluster.kubectl(&["get", "clusterstoragecontainer", "default", "-o", "json"])?;
    let shipped: Value = serde_json::from_str(&shipped)?;
    let mut container = shipped["spec"]["container"].clone();
    container["resources"] = json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}});
    let small = json!({
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": name},
        "spec": {
            "container": container,
            "supportedUriFormats": [{"prefix": format!("s3://mlflow/{name}/")}],
            "workloadType": "initContainer",
        },
    });
    let _small = Custom::apply(cluster, &small)?;
    let more = [&["--runtime", "kserve-sklearnserver"][..], &SMALL].concat();
    let submitted = [&more[..], &["--no-wait"]].concat();
    deploy(&team, Some(MINIO_USER), &uri, &submitted)?.ended(0)?;
    // Of two that fit, KServe takes either; the service says which.
    let choice = json!({"spec": {"predictor": {"storageContainerName": name}}}).to_string();
    team.kubectl(&["patch", "isvc/fraud", "--type=merge", "-p", &choice])?;
    failed(
        deploy(&team, Some(MINIO_USER), &uri, &more)?,
        "out-of-memory",
        &[
            "the download of the model needs more memory than the 32Mi that it was given",
            "the ClusterStorageContainer for such URIs",
            "OOMKilled",
        ],
    )
}

fn failing_a_server_on_another_port_is_told_with_both(world: &World) -> Result<()> {
    let (_, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let on = |port| {
        let own = [
            "--framework",
            "sklearn",
            "--image",
            "docker.io/kserve/sklearnserver:v0.20.0",
            "--arg=--model_name=fraud",
            "--arg=--model_dir=/mnt/models",
            port,
        ];
        [&own[..], &SMALL].concat()
    };
    let team = world.namespace_without("fail-port")?;
    failed(
        deploy(&team, Some(MINIO_USER), &uri, &on("--arg=--http_port=8082"))?,
        "ports",
        &[
            "the server listens on port 8082, and KServe asks on port 8080",
            "have it listen on 8080: by its arguments (--arg)",
            "running on http://0.0.0.0:8082",
        ],
    )?;
    // Where it has gRPC by itself.
    failed(
        deploy(&team, Some(MINIO_USER), &uri, &on("--arg=--http_port=8081"))?,
        "ports",
        &["the server can't open a port", "already in use"],
    )?;
    // The webhook says so before there is a Pod.
    let reviewed = world.namespace("fail-port-told")?;
    let dry = [&on("--arg=--http_port=8082")[..], &["--dry-run=server"]].concat();
    let said = deploy(&reviewed, None, &uri, &dry)?.ended(0)?;
    tells(
        &said,
        &["by its arguments it listens on 8082, and KServe sends to 8080; name 8082 in ports"],
    )
}

/// A model that some server doesn't load, saved with the packages of a lock.
fn unloadable(world: &World, kind: &str, lock: &str) -> Result<String> {
    let cache = world.cluster.cache();
    // Two tests may ask for the same.
    let own = tempfile::tempdir_in(world.cluster.folder())?;
    let folder = own.path().join("model");
    let site = python::site(cache, lock)?;
    host::run(
        python::command(&[&site])?
            .current_dir(world.cluster.folder())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/unloadable.py"))
            .arg(kind)
            .arg(&folder),
    )?;
    let model = Model {
        folder,
        request: Value::Null,
        answers: Vec::new(),
    };
    model.put(cache, "mlflow", &format!("shared/unloadable-{kind}"))
}

fn failing_libraries_of_other_versions_are_told_with_both(world: &World) -> Result<()> {
    let uri = unloadable(world, "boosted", "mlserver-1.5.0")?;
    let team = world.namespace_without("fail-versions")?;
    make_secret(&team, "store", &[])?;
    failed(
        deploy_unseen(&team, &uri, "store", &["--framework", "mlflow"])?,
        "version-mismatch",
        &[
            "the server's libraries are of other versions than those that saved the model",
            "--runtime-version",
            "scikit-learn: the model was saved with 1.4.1.post1, the server has 1.7.0",
            "Can't get attribute '__pyx_unpickle_CyHalfBinomialLoss'",
        ],
    )?;
    // Who looks into the model has the release that fits: the command, where it has a key, else the webhook.
    let dry = ["--framework", "mlflow", "--dry-run=server"];
    let looked = deploy(&team, Some(MINIO_USER), &uri, &dry)?.ended(0)?;
    tells(&looked, &["kserve-mlserver is used in release 1.5.0"])?;
    let reviewed = world.namespace("fail-versions-met")?;
    let said = deploy(&reviewed, None, &uri, &dry)?.ended(0)?;
    let object: Value = serde_json::from_str(&said.stdout)?;
    ensure!(
        object["spec"]["predictor"]["model"]["runtimeVersion"] == "1.5.0",
        "{said:#?}"
    );
    Ok(())
}

fn failing_code_that_stayed_in_a_script_is_named(world: &World) -> Result<()> {
    let uri = unloadable(world, "own_class", "sklearnserver-0.20.0")?;
    let team = world.team("fail-class")?;
    make_secret(&team, "store", &[])?;
    let sklearn = ["--framework", "sklearn", "--runtime", "kserve-sklearnserver"];
    failed(
        deploy_unseen(&team, &uri, "store", &sklearn)?,
        "package-missing",
        &[
            "the model needs Doubles, which the script that saved it defined",
            "code_paths",
            "Can't get attribute 'Doubles'",
        ],
    )
}

/// An image says which machine it is for, and may be wrong: what the kernel says counts.
fn failing_a_program_of_another_machine_is_told_with_its_node(world: &World) -> Result<()> {
    let image = "registry.example/serves-elsewhere:1";
    load_program_of_the_other_machine(&world.cluster, image)?;
    let team = world.team("fail-machine")?;
    let own = ["deploy", "--name", "own", "--image", image, "-o", "json"];
    failed(
        run(&team, None, &[&own[..], &SMALL].concat())?,
        "architecture",
        &[
            "the programs of the image registry.example/serves-elsewhere:1 are made for another kind of processor than that of node node1",
            "--node-selector kubernetes.io/arch=",
            "exec format error",
        ],
    )
}

fn failing_at_the_store_is_told_apart(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let team = world.team("fail-store")?;
    make_secret(&team, "store", &[])?;
    make_secret(&team, "closed", &[&format!("--s3-endpoint=http://{HOST}:9")])?;
    let mlflow = ["--framework", "mlflow"];
    // Tidewaiter would bring them.
    if !world.reviewed {
        let without = deploy(&team, None, &uri, &[&mlflow[..], &SMALL].concat())?;
        failed(
            without,
            "credentials-missing",
            &[&format!("the Pod has no credentials for {uri}"), "--secret"],
        )?;
    }
    failed(
        deploy_unseen(&team, "s3://nobodys-bucket/fraud", "store", &mlflow)?,
        "no-bucket",
        &["there is no bucket nobodys-bucket", "the Secret's endpoint"],
    )?;
    failed(
        deploy_unseen(&team, &uri, "closed", &mlflow)?,
        "store-unreachable",
        &[
            &format!("the Pod can't reach the store of {uri}"),
            "--s3-endpoint http://HOST:PORT",
        ],
    )
}

/// A user who may not list runtimes is taken to have those that KServe ships; here the namespace has one of such a name that speaks less.
fn failing_a_runtime_that_does_not_speak_the_protocol_is_named(world: &World) -> Result<()> {
    let runtime = world
        .cluster
        .kubectl(&["get", "clusterservingruntime/kserve-lgbserver", "-o", "json"])?;
    let mut runtime: Value = serde_json::from_str(&runtime)?;
    runtime["kind"] = json!("ServingRuntime");
    runtime["metadata"] = json!({"name": "kserve-lgbserver"});
    runtime["spec"]["protocolVersions"] = json!(["v1"]);
    let runtime = runtime.to_string();
    let lightgbm = ["--framework", "lightgbm", "--runtime", "kserve-lgbserver"];
    let uri = "s3://mlflow/shared/nothing-here";
    let submit = |team: &Namespace| {
        team.apply(&runtime)?;
        let kubeconfig = scientist(team)?;
        let who = ["--kubeconfig", kubeconfig.as_str()];
        deploy(team, None, uri, &[&lightgbm[..], &who].concat())
    };

    let team = world.namespace_without("fail-protocol")?;
    let says = [
        "the serving runtime kserve-lgbserver doesn't speak protocol v2",
        "kubectl get clusterservingruntimes,servingruntimes",
        "Specified runtime does not support specified protocol version",
    ];
    failed(submit(&team)?, "no-runtime", &says)?;

    // The webhook may look, and refuses what would fail.
    let reviewed = world.namespace("fail-protocol-told")?;
    make_up_models(&reviewed)?;
    let refused = submit(&reviewed)?.ended(2)?;
    tells(&refused, &["kserve-lgbserver", "protocol v2"])
}

/// A kubeconfig of somebody who may deploy and look at what becomes of it, and no more.
fn scientist(team: &Namespace) -> Result<String> {
    let name = team.name();
    let role = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "scientist"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "deploys"},
            "rules": [
                {"apiGroups": ["serving.kserve.io"], "resources": ["inferenceservices"], "verbs": ["get", "list", "watch", "create", "patch"]},
                {"apiGroups": [""], "resources": ["pods", "pods/log", "events"], "verbs": ["get", "list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "deploys"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deploys"},
            "subjects": [{"kind": "ServiceAccount", "namespace": name, "name": "scientist"}],
        },
    ]});
    team.apply(&role.to_string())?;
    let file = team.cluster().kubeconfig_of(name, "scientist")?;
    Ok(file.display().to_string())
}

/// Whoever deploys has no key there, and none to give.
fn failing_a_key_that_tidewaiter_brought_names_its_backend(world: &World) -> Result<()> {
    let team = world.namespace("fail-brought")?;
    let name = team.name();
    let uri = format!("s3://{name}/fraud");
    team.apply(&manifests::keys(
        &format!("{HOST}:{MINIO_PORT}"),
        MINIO_USER,
        "not-its-secret",
    ))?;
    let mut wrong = backend(name, name, &[&format!("s3://{name}/")]);
    wrong["spec"]["credentials"] = json!({"secretRef": {"namespace": name, "name": "minio"}});
    let wrong = Custom::apply(&world.cluster, &wrong)?;
    wrong.until("Accepted", "True")?;
    failed(
        deploy(&team, None, &uri, &[&["--framework", "sklearn"][..], &SMALL].concat())?,
        "credentials-wrong",
        &[
            &format!("the store refuses the credentials for {uri}, which are those of the Secret tidewaiter-{name}"),
            &format!("ask whoever keeps the StorageBackend {name}"),
        ],
    )
}

fn failing_before_a_node_has_the_pod_is_told(world: &World) -> Result<()> {
    let uri = "s3://mlflow/shared/nothing-here";
    let team = world.namespace_without("fail-early")?;
    make_secret(&team, "store", &[])?;
    let deploy = |namespace: &Namespace, name: &str, more: &[&str]| {
        let words = ["deploy", uri, "--name", name, "--framework", "mlflow", "-o", "json"];
        run(namespace, None, &[&words[..], &SMALL, more].concat())
    };
    failed(
        deploy(&team, "secret", &["--secret", "nobodys"])?,
        "secret-missing",
        &[
            &format!(
                "the Secret nobodys that the service names isn't in namespace {}",
                team.name()
            ),
            &format!("tidewaiter secret create nobodys -n {}", team.name()),
        ],
    )?;
    failed(
        deploy(&team, "node", &["--secret", "store", "--node-selector", "nowhere=true"])?,
        "unschedulable",
        &["no node has the labels that the Pod asks for", "--node-selector"],
    )?;
    let image = "registry.example/nobodys:1";
    let own = ["deploy", "--name", "image", "--image", image, "-o", "json"];
    failed(
        run(&team, None, &[&own[..], &SMALL].concat())?,
        "image-pull",
        &[&format!("the node can't get the image {image}"), "--image"],
    )?;
    failed(
        deploy(&team, "mode", &["--secret", "store", "--deployment-mode", "Knative"])?,
        "no-knative",
        &["Knative isn't installed in this cluster", "--deployment-mode Standard"],
    )?;

    team.apply(
        &json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
            .to_string(),
    )?;
    failed(
        deploy(&team, "quota", &["--secret", "store"])?,
        "quota",
        &["has used up its quota", "exceeded quota: none"],
    )?;
    let strict = json!({REVIEWED_BY: NOBODY, "pod-security.kubernetes.io/enforce": "restricted"});
    let strict = world.cluster.namespace_with("fail-strict", &strict)?;
    make_secret(&strict, "store", &[])?;
    failed(
        deploy(&strict, "strict", &["--secret", "store"])?,
        "refused",
        &[
            "admits only Pods that are more restricted than this one",
            "violates PodSecurity",
        ],
    )
}
