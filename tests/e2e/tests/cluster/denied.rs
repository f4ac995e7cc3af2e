//! A Secret that may not be written: a new service is refused in the API server's own words, one whose Secret is there goes on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{NAMESPACE, WRITES, backend, make_up_models, start_another};
use tidewaiter_e2e::server::Identity;
use tidewaiter_e2e::vault::{Rule, VAULT};
use tidewaiter_ground::{Namespace, Said};

use crate::hammer::service;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_quota_refuses_a_service_without_its_secret_and_no_other",
        false,
        a_quota_refuses_a_service_without_its_secret_and_no_other,
    ),
    (
        "missing_rights_refuse_a_service_without_its_secret_and_no_other",
        false,
        missing_rights_refuse_a_service_without_its_secret_and_no_other,
    ),
    (
        "another_admission_policy_refuses_a_service_without_its_secret_and_no_other",
        false,
        another_admission_policy_refuses_a_service_without_its_secret_and_no_other,
    ),
];

/// Said in place of a refusal on an update.
const STALE: &str = "could not be renewed; those there are used";

/// A quota counts Secrets, and doesn't mind that one changes: what was delivered is renewed.
fn a_quota_refuses_a_service_without_its_secret_and_no_other(world: &World) -> Result<()> {
    let forbid = |namespace: &Namespace, secrets: &str| -> Result<()> {
        let quota = json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few-secrets"},
            "spec": {"hard": {"secrets": secrets}},
        });
        namespace.apply(&quota.to_string())?;
        until_forbidden(namespace, "exceeded quota")
    };
    let empty = world.namespace("quota")?;
    forbid(&empty, "0")?;
    let _backend = delivered_to(world, &empty)?;
    refused(&empty, &["exceeded quota: few-secrets", "secrets=1"])?;

    let used = world.namespace("quota-used")?;
    let custom = delivered_to(world, &used)?;
    used.apply(&fraud(&used).to_string())?;
    forbid(&used, "1")?;
    outdate(&custom, &used)?;
    let said = update(&used, 2)?;
    ensure!(!said.stderr.contains(STALE), "{}", said.stderr);
    has_region(&used, "elsewhere")
}

fn missing_rights_refuse_a_service_without_its_secret_and_no_other(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let server = start_another(
        &world.cluster,
        Identity {
            name: "limited",
            port: 8553,
            account: "tidewaiter-limited",
            before_kserve: false,
        },
    )?;
    let empty = world.namespace_of(server.name(), "rights")?;
    let _backend = delivered_to(world, &empty)?;
    refused(
        &empty,
        &["secrets is forbidden", "tidewaiter-limited", "cannot create resource"],
    )?;

    let used = world.namespace_of(server.name(), "rights-used")?;
    let _backend = delivered_to(world, &used)?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "writes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": WRITES},
        "subjects": [{"kind": "ServiceAccount", "namespace": NAMESPACE, "name": "tidewaiter-limited"}],
    });
    used.apply(&binding.to_string())?;
    let may = |wanted: bool| {
        world
            .cluster
            .until("the rights are in force", Duration::from_mins(1), || {
                let account = format!("system:serviceaccount:{NAMESPACE}:tidewaiter-limited");
                let asked = [
                    "auth",
                    "can-i",
                    "patch",
                    "secrets",
                    "-n",
                    used.name(),
                    "--as",
                    account.as_str(),
                ];
                let said = world.cluster.try_kubectl(&asked, "")?;
                ensure!(said.ok == wanted, "{}{}", said.stdout, said.stderr);
                Ok(Some(()))
            })
    };
    may(true)?;
    used.apply(&fraud(&used).to_string())?;
    used.kubectl(&["delete", "rolebinding/writes"])?;
    may(false)?;
    // What is there as wanted needs no write, and so no right. (That it may also be old is shown by the next test: here the installed server, which
    // has all rights, would renew it.)
    let said = update(&used, 2)?;
    ensure!(!said.stderr.contains(STALE), "{}", said.stderr);
    has_region(&used, "us-east-1")
}

fn another_admission_policy_refuses_a_service_without_its_secret_and_no_other(world: &World) -> Result<()> {
    let empty = world.namespace("vault")?;
    let _rule = Rule::apply(&world.cluster, &empty)?;
    until_forbidden(&empty, VAULT)?;
    let _backend = delivered_to(world, &empty)?;
    refused(&empty, &["ValidatingAdmissionPolicy", VAULT])?;

    let used = world.namespace("vault-used")?;
    let custom = delivered_to(world, &used)?;
    used.apply(&fraud(&used).to_string())?;
    let rule = Rule::apply(&world.cluster, &used)?;
    until_forbidden(&used, VAULT)?;
    passes_while_forbidden(&custom, &used)?;

    drop(rule);
    world.cluster.until("the rule is gone", Duration::from_mins(1), || {
        make_secret(&used).and_then(|said| {
            ensure!(said.ok, "{}", said.stderr);
            Ok(Some(()))
        })
    })?;
    renews(&used)
}

/// A backend of the namespace's own, so that its credentials can be outdated without touching others.
fn delivered_to<'a>(world: &'a World, namespace: &Namespace) -> Result<Custom<'a>> {
    make_up_models(namespace)?;
    let name = namespace.name();
    let custom = Custom::apply(&world.cluster, &backend(name, name, &[&format!("s3://{name}/")]))?;
    custom.until("Accepted", "True")?;
    Ok(custom)
}

/// A service that no node takes: its model isn't there.
fn fraud(namespace: &Namespace) -> Value {
    let mut service = service("fraud", &format!("s3://{}/fraud", namespace.name()));
    service["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
    service
}

fn refused(namespace: &Namespace, says: &[&str]) -> Result<()> {
    let said = namespace.try_apply(&["--server-side"], &fraud(namespace).to_string())?;
    ensure!(!said.ok, "admitted: {}", said.stdout);
    let secret = format!("{}/tidewaiter-{}", namespace.name(), namespace.name());
    for part in says.iter().chain(&[secret.as_str()]) {
        ensure!(
            said.stderr.contains(part),
            "the refusal doesn't say {part}: {}",
            said.stderr
        );
    }
    let there = namespace.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "there is {there}");
    Ok(())
}

/// The Secret is older than the backend now, so that the next review wants to write it.
fn outdate(custom: &Custom<'_>, namespace: &Namespace) -> Result<()> {
    let name = namespace.name();
    let mut changed = backend(name, name, &[&format!("s3://{name}/")]);
    changed["spec"]["s3"]["region"] = json!("elsewhere");
    custom.change(&changed)?;
    custom.until("Accepted", "True").map(drop)
}

fn update(namespace: &Namespace, replicas: u32) -> Result<Said> {
    let change = json!({"spec": {"predictor": {"minReplicas": replicas}}}).to_string();
    let name = namespace.name();
    let said = namespace
        .cluster()
        .try_kubectl(&["patch", "-n", name, "isvc/fraud", "--type=merge", "-p", &change], "")?;
    ensure!(said.ok, "an update is refused: {}", said.stderr);
    Ok(said)
}

fn passes_while_forbidden(custom: &Custom<'_>, namespace: &Namespace) -> Result<()> {
    outdate(custom, namespace)?;
    let said = update(namespace, 2)?;
    ensure!(
        said.warnings().iter().any(|line| line.contains(STALE)),
        "no word of the old credentials: {}",
        said.stderr
    );
    has_region(namespace, "us-east-1").context("something wrote the Secret all the same")
}

fn renews(namespace: &Namespace) -> Result<()> {
    let said = update(namespace, 3)?;
    ensure!(!said.stderr.contains(STALE), "{}", said.stderr);
    has_region(namespace, "elsewhere")
}

fn has_region(namespace: &Namespace, region: &str) -> Result<()> {
    let secret = namespace.get(&format!("secret/tidewaiter-{}", namespace.name()))?;
    let found = &secret["metadata"]["annotations"]["serving.kserve.io/s3-region"];
    ensure!(found == region, "the Secret's region is {found}, not {region}");
    Ok(())
}

fn make_secret(namespace: &Namespace) -> Result<Said> {
    let name = namespace.name();
    let create = ["create", "secret", "generic", "any", "--dry-run=server", "-n", name];
    namespace.cluster().try_kubectl(&create, "")
}

/// Rules are in force a moment after they are stored.
fn until_forbidden(namespace: &Namespace, says: &str) -> Result<()> {
    let cluster = namespace.cluster();
    cluster.until("Secrets are forbidden", Duration::from_mins(1), || {
        let said = make_secret(namespace)?;
        ensure!(!said.ok && said.stderr.contains(says), "{}{}", said.stdout, said.stderr);
        Ok(Some(()))
    })
}
