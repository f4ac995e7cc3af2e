//! What leaves the release as it is, with the chart's own values: these tests run side by side.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::Release;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{NAMESPACE, backend};
use tidewaiter_e2e::load::{has_credentials, service};
use tidewaiter_e2e::{manifests, path};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, Said, statuses, tls};

use crate::{Test, World};

/// What is the same with every KServe.
pub(crate) const TESTS: &[Test] = &[
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
    (
        "what_is_wrong_with_a_store_is_told_where_its_admin_looks",
        what_is_wrong_with_a_store_is_told_where_its_admin_looks,
    ),
    (
        "a_namespaces_own_secret_opens_its_store_and_nothing_is_copied",
        a_namespaces_own_secret_opens_its_store_and_nothing_is_copied,
    ),
    (
        "whoever_views_the_cluster_reads_the_configuration_and_its_admins_alone_write_it",
        whoever_views_the_cluster_reads_the_configuration_and_its_admins_alone_write_it,
    ),
];

/// By the cluster's own roles, which the chart's join.
fn whoever_views_the_cluster_reads_the_configuration_and_its_admins_alone_write_it(world: &World) -> Result<()> {
    world.release()?;
    let namespace = world.cluster.namespace("roles")?;
    let user = |role: &str| format!("{}-{role}", namespace.name());
    let may = |role: &str, verb: &str, kind: &str| -> Result<bool> {
        let (user, kind) = (user(role), format!("{kind}.tidewaiter.dev"));
        let asked = ["auth", "can-i", verb, &kind, "--as", &user];
        Ok(world.cluster.try_kubectl(&asked, "")?.ok)
    };
    let bindings = ["view", "edit", "admin"].map(|role| (role, user(role)));
    for (role, user) in &bindings {
        let role = format!("--clusterrole={role}");
        let user = format!("--user={user}");
        let name = user.trim_start_matches("--user=");
        world
            .cluster
            .kubectl(&["create", "clusterrolebinding", name, &role, &user])?;
    }
    let in_one = format!("--user={}", user("team"));
    namespace.kubectl(&["create", "rolebinding", "team", "--clusterrole=admin", &in_one])?;
    let judged = (|| {
        for kind in ["storagebackends", "wasmpolicies"] {
            // The controller that joins roles takes a moment.
            let what = format!("who views the cluster reads {kind}");
            world.cluster.until(&what, Duration::from_mins(1), || {
                Ok((may("view", "list", kind)? && may("admin", "create", kind)?).then_some(()))
            })?;
            for (role, writes) in [("view", false), ("edit", false), ("admin", true)] {
                ensure!(may(role, "get", kind)?, "{role} doesn't read {kind}");
                for verb in ["create", "update", "patch", "delete"] {
                    ensure!(
                        may(role, verb, kind)? == writes,
                        "{role} and {verb} {kind}: not as install.md says"
                    );
                }
            }
            ensure!(
                !may("team", "list", kind)?,
                "the admin of one namespace reads {kind}, which are of none"
            );
        }
        ensure!(
            !may("admin", "use", "storagebackends")?,
            "to use a backend is a right of its own"
        );
        Ok(())
    })();
    for (_, user) in &bindings {
        world.cluster.kubectl(&["delete", "clusterrolebinding", user])?;
    }
    judged
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
        // A connection stays with one replica, so that the other may be asked for the first time now.
        let refused = world
            .cluster
            .until("ann is refused the service itself", Duration::from_mins(1), || {
                let said = as_ann(&namespace, &model, &[])?;
                if said.ok {
                    namespace.kubectl(&["delete", "isvc/fraud", "--timeout=60s"])?;
                }
                ensure!(!said.ok, "{authorization}: admitted: {}{}", said.stdout, said.stderr);
                Ok(Some(said))
            })?;
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

        // Who lost the right keeps what she has, and changes it; the right is to begin with it.
        namespace.kubectl(&["delete", "rolebinding", "uses"])?;
        let mut another = model.clone();
        another["metadata"]["name"] = json!("another");
        world
            .cluster
            .until("ann may begin no more", Duration::from_mins(1), || {
                let said = as_ann(&namespace, &another, &["--dry-run=server"])?;
                ensure!(!said.ok, "{authorization}: {}{}", said.stdout, said.stderr);
                Ok(Some(()))
            })?;
        let scaled = r#"{"spec":{"predictor":{"minReplicas":2}}}"#;
        namespace.kubectl(&["patch", "isvc/fraud", "--as=ann", "--type=merge", "-p", scaled])?;
        let after = namespace.get("isvc/fraud")?;
        ensure!(
            has_credentials(&after) && after["spec"]["predictor"]["minReplicas"] == 2,
            "{authorization}: {after}"
        );
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
pub(crate) struct Keyed<'a> {
    release: &'a Release,
    custom: Custom<'a>,
    object: Value,
    secret: String,
    /// The Secret that is delivered.
    pub(crate) copy: String,
    /// A service that uses it.
    pub(crate) model: String,
}

impl<'a> Keyed<'a> {
    pub(crate) fn apply(world: &'a World, release: &'a Release, namespace: &Namespace) -> Result<Self> {
        let name = namespace.name();
        let (prefix, secret) = (format!("s3://{name}/"), format!("{name}-key"));
        let mut object = backend(name, name, &[&prefix]);
        object["spec"]["credentials"]["secretRef"]["name"] = json!(secret);
        key(release, &secret, MINIO_USER)?;
        let keyed = Self {
            release,
            custom: Custom::apply(&world.cluster, &object)?,
            object,
            secret,
            copy: format!("secret/tidewaiter-{name}"),
            model: service("fraud", &format!("{prefix}fraud")).to_string(),
        };
        keyed.custom.until("Accepted", "True")?;
        until_known(world, namespace, &prefix)?;
        Ok(keyed)
    }

    pub(crate) fn key(&self, password: &str) -> Result<()> {
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
    let delivered = until_delivered(world, &used, copy)?["data"].take();

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
    // The condition is the leader's word. The API server may ask the other replica, which reads the Secret again within half a minute.
    let minute = Duration::from_mins(1);
    world.cluster.until("whoever has none is refused", minute, || {
        let said = empty.try_apply(&["--server-side"], model)?;
        if said.ok {
            // With what it brought, which would open the store from then on.
            empty.kubectl(&["delete", "isvc/fraud", copy, "--ignore-not-found", "--timeout=60s"])?;
        }
        ensure!(
            !said.ok && said.stderr.contains(secret.as_str()),
            "{}{}",
            said.stdout,
            said.stderr
        );
        Ok(Some(()))
    })?;

    keyed.key(MINIO_USER)?;
    custom.until("Accepted", "True")?;
    until_known(world, &empty, &format!("s3://{}/", used.name()))?;
    empty.apply(model)?;
    until_delivered(world, &empty, copy).map(drop)
}

/// The Secret that a backend delivers, there at once, or by the sweep where the review ran out of time: two cores have
/// four of these tests.
pub(crate) fn until_delivered(world: &World, namespace: &Namespace, copy: &str) -> Result<Value> {
    let delivered = || Ok(namespace.get(copy).ok());
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
    let secret = until_delivered(world, &namespace, &format!("secret/tidewaiter-{name}"))?;
    let root = tls::base64(MINIO_USER.as_bytes());
    ensure!(
        !secret["data"].to_string().contains(&root),
        "the root's key is in the namespace"
    );
    custom.until("Minting", "True").with_context(|| release.diagnosis())?;
    Ok(())
}

/// The conditions and events of a `StorageBackend`, and the warning to whoever deletes it.
fn what_is_wrong_with_a_store_is_told_where_its_admin_looks(world: &World) -> Result<()> {
    let release = world.release()?;
    let users = [world.cluster.namespace("store-a")?, world.cluster.namespace("store-b")?];
    let keyed = Keyed::apply(world, &release, &users[0])?;
    let Keyed { custom, secret, .. } = &keyed;
    let name = users[0].name();
    custom.until("Reachable", "True")?;
    custom.until("CredentialsValid", "True")?;

    until_used_by(world, name, 0)?;
    for namespace in &users {
        namespace.apply(&idle(&format!("s3://{name}/fraud")))?;
    }
    until_used_by(world, name, users.len())?;

    keyed.key("wrong")?;
    let said = custom.until("CredentialsValid", "False")?;
    let refused = format!("{HOST}:{MINIO_PORT} answers 403 SignatureDoesNotMatch: the secret key is wrong");
    ensure!(said == refused, "{said}");
    custom.until("Reachable", "True")?;
    let refused = format!("the store refuses the credentials: {refused}");
    until_told(world, "default", name, ("Warning", &refused))?;
    keyed.key(MINIO_USER)?;
    custom.until("CredentialsValid", "True")?;
    until_told(world, "default", name, ("Normal", &format!("no more: {refused}")))?;

    let mut elsewhere = keyed.object.clone();
    elsewhere["spec"]["s3"]["endpoint"] = json!(format!("http://{HOST}:{NOBODY_LISTENS}"));
    custom.change(&elsewhere)?;
    let said = custom.until("Reachable", "False")?;
    // Behind "not tried again yet", once it has failed often.
    let silent = format!("{HOST}:{NOBODY_LISTENS} refuses connections");
    ensure!(said.ends_with(&silent), "{said}");
    let told = format!("the store can't be reached: {said}");
    until_told(world, "default", name, ("Warning", &told))?;
    custom.until("CredentialsValid", "Unknown")?;
    custom.change(&keyed.object)?;
    custom.until("Reachable", "True")?;
    custom.until("CredentialsValid", "True")?;

    release.kubectl(&["delete", "secret", secret])?;
    let said = custom.until("Accepted", "False")?;
    until_told(world, "default", name, ("Warning", &said))?;
    keyed.key(MINIO_USER)?;
    custom.until("Accepted", "True")?;
    until_told(world, "default", name, ("Normal", &format!("no more: {said}")))?;

    let lines = [
        format!(
            "tidewaiter: services in {}, {} have the credentials of {name}",
            users[0].name(),
            users[1].name()
        ),
        "tidewaiter: these credentials stay as they are, and are renewed no more".to_owned(),
    ];
    let what = format!("storagebackend/{name}");
    let delete = |how: &str| world.cluster.try_kubectl(&["delete", &what, how], "");
    let mut in_a_row = 0;
    let minute = Duration::from_mins(1);
    world
        .cluster
        .until("whoever deletes it is told who uses it", minute, || {
            let said = delete("--dry-run=server")?;
            let is_told = said.ok && said.warnings() == lines;
            in_a_row = if is_told { in_a_row + 1 } else { 0 };
            ensure!(is_told, "{}{}", said.stdout, said.stderr);
            Ok((in_a_row == 5).then_some(()))
        })?;
    world.cluster.get("", &what)?;
    let said = delete("--wait=true")?;
    ensure!(said.ok && said.warnings() == lines, "{}{}", said.stdout, said.stderr);
    for namespace in &users {
        namespace.get(&keyed.copy)?;
    }
    Ok(())
}

/// A port of the ground's own address that no test and no server uses.
const NOBODY_LISTENS: u16 = 9;

/// A service none of whose Pods runs.
fn idle(uri: &str) -> String {
    let mut service = service("fraud", uri);
    service["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
    service.to_string()
}

/// Waits until a backend's status says that so many namespaces have its credentials.
fn until_used_by(world: &World, backend: &str, namespaces: usize) -> Result<()> {
    let what = format!("{namespaces} namespaces have the credentials of {backend}");
    world.cluster.until(&what, Duration::from_mins(2), || {
        let status = world.cluster.get("", &format!("storagebackend/{backend}"))?["status"].take();
        ensure!(status["namespaces"] == namespaces, "status {status}");
        Ok(Some(()))
    })
}

/// Waits until an object has an event of this type with these words.
fn until_told(world: &World, namespace: &str, name: &str, (kind, words): (&str, &str)) -> Result<()> {
    let of_object = format!("involvedObject.name={name}");
    let what = format!("{name} has the event {kind}: {words}");
    world.cluster.until(&what, Duration::from_mins(1), || {
        let events = [
            "get",
            "events",
            "-n",
            namespace,
            "--field-selector",
            &of_object,
            "-o",
            "json",
        ];
        let events: Value = serde_json::from_str(&world.cluster.kubectl(&events)?)?;
        let mut found = events["items"].as_array().into_iter().flatten();
        let is_told = found.any(|event| event["type"] == kind && event["message"] == words);
        ensure!(is_told, "{}", events["items"]);
        Ok(Some(()))
    })
}

/// It has the keys of the store that a backend serves as well.
fn a_namespaces_own_secret_opens_its_store_and_nothing_is_copied(world: &World) -> Result<()> {
    let release = world.release()?;
    let (_, uri) = world.model()?;
    let (own, other) = (
        world.cluster.namespace("own-secret")?,
        world.cluster.namespace("without")?,
    );
    let (api, model) = (world.cluster.api()?, service("fraud", &uri));
    own.apply(&manifests::keys(
        &format!("{HOST}:{MINIO_PORT}"),
        MINIO_USER,
        MINIO_USER,
    ))?;
    own.kubectl(&["label", "secret", "minio", "tidewaiter.dev/storage="])?;
    let lacks = "has the label tidewaiter.dev/storage and no annotation tidewaiter.dev/prefix that says what it opens, such as s3://bucket/path/";
    until_told(world, own.name(), "minio", ("Warning", lacks))?;

    own.kubectl(&[
        "annotate",
        "secret",
        "minio",
        "tidewaiter.dev/prefix=s3://mlflow/shared/",
    ])?;
    let mut in_a_row = 0;
    let minute = Duration::from_mins(1);
    world
        .cluster
        .until("every replica knows the namespace's Secret", minute, || {
            let answer = api.would_create(own.name(), &model)?;
            let mut lines = answer.warnings.iter();
            let is_own = path::annotation(&answer.body, path::SECRET) == Some("minio")
                && lines.any(|line| line.contains("the namespace's own Secret opens it"));
            in_a_row = if is_own { in_a_row + 1 } else { 0 };
            ensure!(is_own, "{}{:?}", answer.message(), answer.warnings);
            Ok((in_a_row == 5).then_some(()))
        })?;
    own.apply(&model.to_string())?;
    other.apply(&idle(&uri))?;
    let named = |namespace: &Namespace, secret: &str| {
        world.cluster.until("the service names its Secret", minute, || {
            let service = namespace.get("isvc/fraud")?;
            ensure!(
                path::annotation(&service, path::SECRET) == Some(secret),
                "metadata {}",
                service["metadata"]
            );
            Ok(Some(()))
        })
    };
    named(&own, "minio")?;
    named(&other, "tidewaiter-minio")?;
    world
        .cluster
        .until("the model is downloaded", Duration::from_mins(5), || {
            let pods = own.pods("fraud")?;
            let mut containers = pods.iter().flat_map(statuses);
            let is_there = containers.any(|container| {
                container["name"] == "storage-initializer" && container["state"]["terminated"]["exitCode"] == 0
            });
            Ok(is_there.then_some(()))
        })
        .with_context(|| format!("{}\n{}", own.diagnosis("fraud"), release.diagnosis()))?;
    let secrets = own.kubectl(&["get", "secrets", "-o", "name"])?;
    ensure!(secrets.trim() == "secret/minio", "there are {secrets}");
    other.get("secret/tidewaiter-minio").map(drop)
}
