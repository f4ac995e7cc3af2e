//! What leaves the release as it is, with the chart's own values: these tests run side by side.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::Release;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{NAMESPACE, backend};
use tidewaiter_e2e::load::{has_credentials, service};
use tidewaiter_e2e::path;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{Cluster, MINIO_USER, Namespace, Said, tls};

use crate::{Test, World};

/// With the newest KServe.
pub(crate) const TESTS: &[Test] = &[
    SERVICE_ACCOUNT,
    STORAGE_KEY,
    AGAIN,
    REFUSES,
    (
        "whoever_may_not_use_a_backend_is_told_whom_to_ask",
        whoever_may_not_use_a_backend_is_told_whom_to_ask,
    ),
    (
        "a_backend_whose_secret_was_deleted_says_so_and_takes_nothing_from_anyone",
        a_backend_whose_secret_was_deleted_says_so_and_takes_nothing_from_anyone,
    ),
    (
        "a_namespace_that_is_being_deleted_holds_nothing_up",
        a_namespace_that_is_being_deleted_holds_nothing_up,
    ),
    (
        "a_key_is_minted_with_the_charts_rights",
        a_key_is_minted_with_the_charts_rights,
    ),
];

/// With every KServe: the way from a manifest to an answer, and what of it depends on KServe.
pub(crate) const OF_KSERVE: &[Test] = &[
    ("a_bare_manifest_answers", |world| answers(world, "mlflow")),
    SERVICE_ACCOUNT,
    STORAGE_KEY,
    AGAIN,
    REFUSES,
    ("fills_a_bare_manifest_and_says_so", |world| {
        path::fills_a_bare_manifest_and_says_so(installed(world)?)
    }),
    ("fills_a_custom_container", |world| {
        path::fills_a_custom_container(installed(world)?)
    }),
    (
        "fills_old_shapes_before_and_after_kserve",
        fills_old_shapes_before_and_after_kserve,
    ),
];

const SERVICE_ACCOUNT: Test = ("service_account_delivery_answers", |world| answers(world, "accounts"));
const STORAGE_KEY: Test = ("storage_key_delivery_answers", |world| answers(world, "keys"));
const AGAIN: Test = ("applying_the_bare_manifest_again_changes_nothing", |world| {
    path::applying_the_bare_manifest_again_changes_nothing(installed(world)?)
});
const REFUSES: Test = ("refuses_a_prefix_that_is_not_granted", |world| {
    path::refuses_a_prefix_that_is_not_granted(installed(world)?)
});

fn installed(world: &World) -> Result<&Cluster> {
    world.release().map(|_| &world.cluster)
}

fn answers(world: &World, bucket: &str) -> Result<()> {
    let release = world.release()?;
    let answers = path::a_bare_manifest_answers(&world.cluster, "fraud", Mlserver1_7_1, bucket);
    answers.map(drop).with_context(|| release.diagnosis())
}

/// The chart's configuration comes after KServe's. A copy of it, for one namespace, comes before.
fn fills_old_shapes_before_and_after_kserve(world: &World) -> Result<()> {
    let release = world.release()?;
    let before = world.cluster.namespace("old-before")?;
    let installed = world.cluster.get("", "mutatingwebhookconfiguration/tidewaiter.dev")?;
    let mut webhooks = installed["webhooks"].clone();
    for webhook in webhooks.as_array_mut().into_iter().flatten() {
        webhook["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": before.name()}});
    }
    let copy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "a-tidewaiter.dev"},
        "webhooks": webhooks,
    });
    release.apply(&copy.to_string())?;
    let alike = path::fills_old_shapes_alike(&world.cluster, &before, &world.cluster.namespace("old-after")?);
    release.kubectl(&["delete", "mutatingwebhookconfiguration", "a-tidewaiter.dev"])?;
    alike
}

/// Users are impersonated, as a cluster's own sign-in would name them.
fn whoever_may_not_use_a_backend_is_told_whom_to_ask(world: &World) -> Result<()> {
    world.release()?;
    for authorization in ["requester", "serviceAccount"] {
        let namespace = world.cluster.namespace("asked")?;
        let name = namespace.name();
        let account = format!("system:serviceaccount:{name}:default");
        let subject = if authorization == "requester" { "ann" } else { &account };
        let create = [
            "create",
            "role",
            "services",
            "--verb=*",
            "--resource=inferenceservices.serving.kserve.io",
        ];
        namespace.kubectl(&create)?;
        namespace.kubectl(&["create", "rolebinding", "services", "--role=services", "--user=ann"])?;
        let prefix = format!("s3://{name}/");
        let mut asked = backend(name, name, &[&prefix]);
        asked["spec"]["authorization"] = json!(authorization);
        let asked = Custom::apply(&world.cluster, &asked)?;
        asked.until("Accepted", "True")?;
        let model = service("fraud", &format!("{prefix}fraud"));
        // She may create services by then, and each replica that is asked knows the backend.
        let mut in_a_row = 0;
        world
            .cluster
            .until("ann is refused the backend", Duration::from_mins(1), || {
                let said = as_ann(&namespace, &model, &["--dry-run=server"])?;
                let is_refused = !said.ok && !said.stderr.contains("cannot patch resource");
                in_a_row = if is_refused { in_a_row + 1 } else { 0 };
                ensure!(is_refused, "{authorization}: {}{}", said.stdout, said.stderr);
                Ok((in_a_row == 5).then_some(()))
            })?;
        let refused = as_ann(&namespace, &model, &[])?;
        ensure!(!refused.ok, "{authorization}: admitted: {}", refused.stdout);
        for part in [subject, "may not use the StorageBackend", "#ml-platform", "RoleBinding"] {
            ensure!(
                refused.stderr.contains(part),
                "the refusal doesn't say {part}: {}",
                refused.stderr
            );
        }
        let there = namespace.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
        ensure!(there.is_empty(), "refused, and there is {there}");

        // What the refusal says to ask for.
        let who = format!("--user={subject}");
        namespace.kubectl(&["create", "rolebinding", "uses", "--clusterrole=tidewaiter-use", &who])?;
        world
            .cluster
            .until("the right is in force", Duration::from_mins(1), || {
                let said = as_ann(&namespace, &model, &[])?;
                ensure!(said.ok, "{authorization}: {}", said.stderr);
                Ok(Some(()))
            })?;
        ensure!(
            has_credentials(&namespace.get("isvc/fraud")?),
            "{authorization}: no credentials"
        );
        namespace.get(&format!("secret/tidewaiter-{name}"))?;
    }
    Ok(())
}

fn as_ann(namespace: &Namespace, service: &Value, more: &[&str]) -> Result<Said> {
    let apply = ["apply", "-n", namespace.name(), "--as=ann", "--server-side", "-f", "-"];
    namespace
        .cluster()
        .try_kubectl(&[&apply, more].concat(), &service.to_string())
}

/// Waits until whichever replica is asked knows a backend: that it is accepted says that one of them does.
fn until_known(world: &World, namespace: &Namespace, prefix: &str) -> Result<()> {
    let (api, probe) = (world.cluster.api()?, service("probe", &format!("{prefix}probe")));
    let mut in_a_row = 0;
    world
        .cluster
        .until("every replica knows the backend", Duration::from_mins(1), || {
            let answer = api.would_create(namespace.name(), &probe)?;
            let is_known = answer.admitted() && has_credentials(&answer.body);
            in_a_row = if is_known { in_a_row + 1 } else { 0 };
            ensure!(is_known, "{}{:?}", answer.message(), answer.warnings);
            Ok((in_a_row == 5).then_some(()))
        })
}

/// A backend with a Secret of its own, both named after a namespace.
struct Keyed<'a> {
    release: &'a Release,
    custom: Custom<'a>,
    secret: String,
    /// The Secret that is delivered.
    copy: String,
    /// A service that uses it.
    model: String,
}

impl<'a> Keyed<'a> {
    fn apply(world: &'a World, release: &'a Release, namespace: &Namespace) -> Result<Self> {
        let name = namespace.name();
        let (prefix, secret) = (format!("s3://{name}/"), format!("{name}-key"));
        let mut object = backend(name, name, &[&prefix]);
        object["spec"]["credentials"]["secretRef"]["name"] = json!(secret);
        key(release, &secret, MINIO_USER)?;
        let keyed = Self {
            release,
            custom: Custom::apply(&world.cluster, &object)?,
            secret,
            copy: format!("secret/tidewaiter-{name}"),
            model: service("fraud", &format!("{prefix}fraud")).to_string(),
        };
        keyed.custom.until("Accepted", "True")?;
        until_known(world, namespace, &prefix)?;
        Ok(keyed)
    }

    fn key(&self, password: &str) -> Result<()> {
        key(self.release, &self.secret, password)
    }
}

/// Has a Secret be there that opens MinIO, if this is the password.
pub(crate) fn key(release: &Release, name: &str, password: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "stringData": {"rootUser": MINIO_USER, "rootPassword": password},
    });
    release.apply(&secret.to_string())
}

fn a_backend_whose_secret_was_deleted_says_so_and_takes_nothing_from_anyone(world: &World) -> Result<()> {
    let release = world.release()?;
    let (used, empty) = (
        world.cluster.namespace("keyless-used")?,
        world.cluster.namespace("keyless")?,
    );
    let keyed = Keyed::apply(world, &release, &used)?;
    let Keyed {
        custom,
        secret,
        copy,
        model,
        ..
    } = &keyed;
    used.apply(model)?;
    let delivered = used.get(copy)?["data"].clone();

    release.kubectl(&["delete", "secret", secret])?;
    let said = custom.until("Accepted", "False")?;
    ensure!(
        said.contains(secret.as_str()),
        "the condition doesn't name the Secret: {said}"
    );
    // What was delivered opens the store still, and whoever uses it goes on.
    ensure!(used.get(copy)?["data"] == delivered, "the delivered Secret was changed");
    used.kubectl(&[
        "patch",
        "isvc/fraud",
        "--type=merge",
        "-p",
        r#"{"spec":{"predictor":{"minReplicas":2}}}"#,
    ])?;
    let refused = empty.try_apply(&["--server-side"], model)?;
    ensure!(
        !refused.ok && refused.stderr.contains(secret.as_str()),
        "{}{}",
        refused.stdout,
        refused.stderr
    );

    keyed.key(MINIO_USER)?;
    custom.until("Accepted", "True")?;
    until_known(world, &empty, &format!("s3://{}/", used.name()))?;
    empty.apply(model)?;
    // At once, or by the sweep where the review ran out of time: two cores have four of these tests.
    let delivered = || Ok(empty.get(copy).is_ok().then_some(()));
    world
        .cluster
        .until("the credentials are there", Duration::from_mins(1), delivered)
}

/// It is held by an object that somebody has yet to let go of. Everybody else's credentials rotate meanwhile.
fn a_namespace_that_is_being_deleted_holds_nothing_up(world: &World) -> Result<()> {
    let release = world.release()?;
    let (leaving, staying) = (world.cluster.namespace("leaving")?, world.cluster.namespace("staying")?);
    let keyed = Keyed::apply(world, &release, &staying)?;
    for namespace in [&leaving, &staying] {
        namespace.apply(&keyed.model)?;
    }
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.com/held"]}});
    leaving.apply(&held.to_string())?;
    world
        .cluster
        .kubectl(&["delete", "namespace", leaving.name(), "--wait=false"])?;
    world
        .cluster
        .until("its services and Secrets are gone", Duration::from_mins(1), || {
            let left = leaving.kubectl(&["get", "isvc,secrets", "-o", "name"])?;
            Ok(left.is_empty().then_some(()))
        })?;
    let late = leaving.try_apply(&["--server-side"], &keyed.model)?;
    ensure!(
        !late.ok && late.stderr.contains("is being terminated"),
        "{}{}",
        late.stdout,
        late.stderr
    );

    keyed.key("rotated")?;
    world
        .cluster
        .until("the new key is delivered", Duration::from_mins(2), || {
            let key = &staying.get(&keyed.copy)?["data"]["AWS_SECRET_ACCESS_KEY"];
            Ok((*key == tls::base64(b"rotated").as_str()).then_some(()))
        })?;
    leaving.kubectl(&[
        "patch",
        "configmap/held",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    world
        .cluster
        .until("the namespace is gone", Duration::from_mins(1), || {
            let said = world.cluster.try_kubectl(&["get", "namespace", leaving.name()], "")?;
            Ok((!said.ok).then_some(()))
        })
}

fn a_key_is_minted_with_the_charts_rights(world: &World) -> Result<()> {
    let release = world.release()?;
    let namespace = world.cluster.namespace("minted")?;
    let name = namespace.name();
    let prefix = format!("s3://{name}/");
    let mut object = backend(name, name, &[&prefix]);
    object["spec"]["minting"] = json!({"keyLifetime": "1h"});
    let custom = Custom::apply(&world.cluster, &object)?;
    custom.until("Accepted", "True")?;
    until_known(world, &namespace, &prefix)?;
    namespace.apply(&service("fraud", &format!("{prefix}fraud")).to_string())?;
    let secret = namespace.get(&format!("secret/tidewaiter-{name}"))?;
    let root = tls::base64(MINIO_USER.as_bytes());
    ensure!(
        !secret["data"].to_string().contains(&root),
        "the root's key is in the namespace"
    );
    custom.until("Minting", "True").with_context(|| release.diagnosis())?;
    Ok(())
}
