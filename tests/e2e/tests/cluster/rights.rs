//! Who may not: rights that are missing in the store and in the cluster are told, all at once, and nothing is left behind.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewaiter_e2e::minio::reading_key;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER};
use tokio::runtime::Runtime;

use crate::deploy::{deploy, model, tells};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "deploy_to_a_bucket_that_may_only_be_read_leaves_nothing",
        false,
        deploy_to_a_bucket_that_may_only_be_read_leaves_nothing,
    ),
    (
        "deploy_names_all_rights_that_its_secret_takes_and_leaves_nothing",
        false,
        deploy_names_all_rights_that_its_secret_takes_and_leaves_nothing,
    ),
];

/// A key of the real MinIO's that reads: what the cluster would take can't be uploaded.
fn deploy_to_a_bucket_that_may_only_be_read_leaves_nothing(world: &World) -> Result<()> {
    // The store's bucket is there once anything lies in it.
    let (model, _) = model(world)?;
    let team = world.namespace_without("deploy-read-only")?;
    let endpoint = format!("http://{HOST}:{MINIO_PORT}");
    let prefix = format!("{}/", team.name());
    let key = Runtime::new()?.block_on(reading_key("mlflow", &prefix))?;
    let folder = model.folder.display().to_string();
    let store = format!("s3://mlflow/{prefix}");
    let keys = [
        format!("--s3-endpoint={endpoint}"),
        format!("--aws-access-key-id={}", key.id()),
        format!("--aws-secret-access-key={}", key.secret()),
    ];
    let keys = keys.each_ref().map(String::as_str);
    let said = deploy(
        &team,
        None,
        &folder,
        &[&["--artifact-store", &store][..], &keys].concat(),
    )?
    .ended(2)?;
    tells(
        &said,
        &[
            &format!("error: not allowed to write {store}fraud/"),
            "hint: ask for the right to write there, in the bucket `mlflow` (in S3's words s3:PutObject), or take another key",
        ],
    )?;
    ensure!(
        said.stderr.matches("error:").count() == 1 && !said.stderr.contains(key.secret()),
        "{said:#?}"
    );
    let there = team.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "a refused deploy left {there}");
    Ok(())
}

/// A resource, and what may be done with it.
type Right<'a> = (&'a str, &'a [&'a str]);

/// Who may deploy, and not yet make Secrets, is told of all that is missing at once.
fn deploy_names_all_rights_that_its_secret_takes_and_leaves_nothing(world: &World) -> Result<()> {
    let (_, uri) = model(world)?;
    let team = world.namespace_without("deploy-rights")?;
    let name = team.name();
    let account = "serviceaccounts";
    let may = |rights: &[(&str, &[&str])]| {
        let mut rules = vec![
            json!({"apiGroups": ["serving.kserve.io"], "resources": ["inferenceservices"],
            "verbs": ["get", "list", "watch", "create", "patch"]}),
        ];
        rules.extend(
            rights
                .iter()
                .map(|(resource, verbs)| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs})),
        );
        let group = "rbac.authorization.k8s.io";
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "scientist"}},
            {"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "deploys"}, "rules": rules},
            {
                "apiVersion": format!("{group}/v1"),
                "kind": "RoleBinding",
                "metadata": {"name": "deploys"},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": "deploys"},
                "subjects": [{"kind": "ServiceAccount", "namespace": name, "name": "scientist"}],
            },
        ]});
        team.apply(&objects.to_string()).map(drop)
    };
    may(&[])?;
    let kubeconfig = team.cluster().kubeconfig_of(name, "scientist")?;
    let kubeconfig = kubeconfig.display().to_string();
    let who = ["--kubeconfig", kubeconfig.as_str(), "--no-wait"];
    let whole: &[&str] = &["get", "patch", "create"];
    let steps: [(&[Right<'_>], &str); 4] = [
        (
            &[],
            "the verbs get, patch and create on secrets, and the verbs get, patch and create on serviceaccounts",
        ),
        (
            &[("secrets", &["get"]), (account, &["get"])],
            "the verbs patch and create on secrets, and the verbs patch and create on serviceaccounts",
        ),
        (
            &[("secrets", &["get", "patch"]), (account, whole)],
            "the verb create on secrets",
        ),
        // Both are asked for before either is made.
        (
            &[("secrets", whole), (account, &["get", "patch"])],
            "the verb create on serviceaccounts",
        ),
    ];
    for (rights, missing) in steps {
        may(rights)?;
        let next = format!("ask for a role with {missing} in namespace {name}");
        // The API server learns of a role a moment later.
        world
            .cluster
            .until(&format!("it says: {next}"), Duration::from_mins(1), || {
                let said = deploy(&team, Some(MINIO_USER), &uri, &who)?.ended(2)?;
                Ok(said.stderr.contains(&next).then_some(()))
            })?;
        let left = ["secret/fraud-store", "serviceaccount/fraud-store", "isvc/fraud"];
        let left = [&["get", "--ignore-not-found", "-o", "name"][..], &left].concat();
        let left = team.kubectl(&left)?;
        ensure!(left.is_empty(), "a refused deploy left {left}");
    }
    may(&[("secrets", whole), (account, whole)])?;
    world
        .cluster
        .until("who may make both deploys", Duration::from_mins(1), || {
            let said = deploy(&team, Some(MINIO_USER), &uri, &who)?;
            Ok((said.code == Some(0)).then_some(()))
        })?;
    team.get("isvc/fraud").map(drop)
}
