//! A policy from a registry, in a cluster: opened by a Secret, its state in its status, its trouble in an event.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::policy;
use tidewaiter_e2e::policy::unruly_in;
use tidewaiter_e2e::registry::{PASSWORD, PullSecret, Shop, USER, push};
use tidewaiter_ground::Api;
use tidewaiter_registry::{Credentials, Limits, Registry, SigningKey, nobody};
use tokio::runtime::Runtime;

use crate::hammer::service;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_policy_from_a_registry_is_loaded_and_what_is_wrong_with_it_is_said",
        false,
        a_policy_from_a_registry_is_loaded_and_what_is_wrong_with_it_is_said,
    ),
    (
        "a_registrys_new_password_is_used_once_the_pull_secret_has_it",
        false,
        a_registrys_new_password_is_used_once_the_pull_secret_has_it,
    ),
];

const ADDRESS: &str = "127.0.0.1:5000";
const ROTATED: &str = "127.0.0.1:5003";

/// [`USER`]'s next password, and the two as `htpasswd -B` writes them.
const NEXT: (&str, &str) = (
    "rising-tide",
    "tide:$2a$05$WU4rjT/3r3oxiDmv4f0NKuYTMK.rHujxGdvaVhvCg66WfgBdiCg92\n",
);

fn client(address: &str, password: &str) -> Result<Registry> {
    let known = Credentials::password(address, USER, password);
    Ok(Registry::new(Vec::new(), known, Limits::default())?)
}

/// Whether the policy gives its label to a service of a namespace.
pub(crate) fn labelled(api: &Api, namespace: &str) -> Result<()> {
    let answer = api.would_create(namespace, &service("fraud", "s3://nobody/model"))?;
    let label = &answer.body["metadata"]["labels"]["unruly"];
    ensure!(
        label == "here",
        "status {}: {}, label {label}",
        answer.status,
        answer.message()
    );
    Ok(())
}

/// What `status.digest` says of a policy.
pub(crate) fn digest(world: &World, policy: &str) -> Result<Value> {
    let object: Value = serde_json::from_str(&world.cluster.kubectl(&["get", "wasmpolicy", policy, "-o", "json"])?)?;
    Ok(object["status"]["digest"].clone())
}

fn a_policy_from_a_registry_is_loaded_and_what_is_wrong_with_it_is_said(world: &World) -> Result<()> {
    let (runtime, _shop) = (Runtime::new()?, Shop::open(&world.cluster, "registry", ADDRESS, true)?);
    let (registry, image) = (client(ADDRESS, PASSWORD)?, format!("{ADDRESS}/acme/house:1"));
    let pushed = push(&runtime, &registry, &image, fs::read(policy::unruly()?)?)?;

    let namespace = world.namespace("registry")?;
    let (api, name) = (world.cluster.api()?, namespace.name());
    let mut house = unruly_in(name, name, &json!({"label": "here"}), "fail");
    house["spec"]["module"] = json!({"oci": {"image": image, "pullSecret": "shop"}});
    let custom = Custom::apply(&world.cluster, &house)?;
    let said = custom.until("Loaded", "False")?;
    ensure!(said.contains("Secret/tidewaiter-system/shop isn't there"), "{said}");

    let _secret = PullSecret::apply(&world.cluster, "shop", ADDRESS, PASSWORD)?;
    custom.until("Loaded", "True")?;
    let runs = digest(world, name)?;
    ensure!(runs == json!(pushed.digest), "{runs} runs");
    labelled(&api, name).context("as it came from the registry")?;

    // From now on somebody must have signed it, and nobody did.
    let key = SigningKey::from_pem(&rcgen::KeyPair::generate()?.serialize_pem(), None)?;
    house["spec"]["verify"] = json!({"keys": [key.public().to_pem()]});
    custom.change(&house)?;
    let said = custom.until("Loaded", "False")?;
    ensure!(said.contains("is not signed, and it has to be by key"), "{said}");
    ensure!(said.contains("its last good version stays"), "{said}");
    labelled(&api, name).context("the last good one stays")?;
    world.cluster.until("an event says so", Duration::from_mins(1), || {
        let events = world
            .cluster
            .kubectl(&["get", "events", "--all-namespaces", "-o", "json"])?;
        ensure!(
            events.contains("is not signed, and it has to be by key"),
            "no event says so"
        );
        Ok(Some(()))
    })?;
    runtime.block_on(registry.sign(&image.parse()?, &key, "2026-01-01T00:00:00Z", &nobody))?;
    custom.until("Loaded", "True").map(drop)?;

    // An admin's slip is refused where it can be: in the object itself.
    house["spec"]["verify"] = json!({"key": "x"});
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &house.to_string())?;
    ensure!(!said.ok && said.stderr.contains("verify"), "{}", said.stderr);
    Ok(())
}

/// The registry has another password, the Secret follows with a slip, and then with the right one. Nothing is started anew.
fn a_registrys_new_password_is_used_once_the_pull_secret_has_it(world: &World) -> Result<()> {
    let (runtime, shop) = (
        Runtime::new()?,
        Shop::open(&world.cluster, "registry-of-rotated", ROTATED, true)?,
    );
    let image = format!("{ROTATED}/acme/house:1");
    let mut component = fs::read(policy::unruly()?)?;
    let first = push(&runtime, &client(ROTATED, PASSWORD)?, &image, component.clone())?;
    let namespace = world.namespace("rotated-secret")?;
    let (api, name) = (world.cluster.api()?, namespace.name());
    let secret = PullSecret::apply(&world.cluster, "rotated", ROTATED, PASSWORD)?;
    let mut house = unruly_in(name, name, &json!({"label": "here"}), "fail");
    house["spec"]["module"] = json!({"oci": {"image": image, "pullSecret": "rotated"}});
    let custom = Custom::apply(&world.cluster, &house)?;
    custom.until("Loaded", "True")?;
    labelled(&api, name).context("by the first password")?;

    // The same with a section more, which nobody reads: another component, that is there for whoever has the new password.
    component.extend(*b"\0\x02\x01x");
    fs::write(shop.passwords(), NEXT.1)?;
    let refused = push(&runtime, &client(ROTATED, PASSWORD)?, &image, component.clone());
    let refused = refused
        .err()
        .context("the registry takes the old password")?
        .to_string();
    ensure!(refused.contains("401 Unauthorized"), "{refused}");
    let second = push(&runtime, &client(ROTATED, NEXT.0)?, &image, component)?;
    ensure!(first.digest != second.digest, "the section changes nothing");

    secret.change("low-tide-at-dawn")?;
    // It is read again after half a minute, and not watched.
    let seen = || custom.until("Loaded", "False").map(Some);
    let said = world.cluster.until("the slip is seen", Duration::from_mins(2), seen)?;
    let whole = format!("{ROTATED} refuses {image}: 401 Unauthorized");
    ensure!(
        said.starts_with(&whole)
            && said
                .ends_with("check the credentials for it, and that the name is right; the version of before is used"),
        "{said}"
    );
    ensure!(
        !said.contains("low-tide-at-dawn"),
        "a password is in the status: {said}"
    );
    labelled(&api, name).context("the last good one stays")?;
    let runs = digest(world, name)?;
    ensure!(runs == json!(first.digest), "{runs} runs");

    secret.change(NEXT.0)?;
    world
        .cluster
        .until("the new password is used", Duration::from_mins(2), || {
            let runs = digest(world, name)?;
            ensure!(runs == json!(second.digest), "{runs} runs");
            Ok(Some(()))
        })?;
    let said = custom.until("Loaded", "True")?;
    ensure!(said.is_empty(), "the password is right, and still: {said}");
    labelled(&api, name).context("by the new password")
}
