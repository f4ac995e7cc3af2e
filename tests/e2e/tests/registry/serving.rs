//! A server whose policies come from a registry: a tag that moves, a registry that goes away or lies, a signature by somebody else.

use std::collections::BTreeMap;
use std::net::TcpListener;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::tls::base64;
use tidewaiter_registry::{About, Credentials, Digest, Limits, Pushed, Registry, SigningKey, nobody};

use crate::gate::{Gate, Verdict};
use crate::{Door, SEEN, Shop, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_policy_from_a_registry_refuses_a_service",
        a_policy_from_a_registry_refuses_a_service,
    ),
    (
        "a_tag_that_moved_is_followed_and_a_bad_version_replaces_no_good_one",
        a_tag_that_moved_is_followed_and_a_bad_version_replaces_no_good_one,
    ),
    ("a_restart_needs_no_registry", a_restart_needs_no_registry),
    (
        "a_restart_begins_with_what_is_on_disk_whatever_registries_have",
        a_restart_begins_with_what_is_on_disk_whatever_registries_have,
    ),
    (
        "only_what_the_right_key_signed_is_loaded",
        only_what_the_right_key_signed_is_loaded,
    ),
    (
        "a_tag_that_moved_from_under_a_digest_is_refused",
        a_tag_that_moved_from_under_a_digest_is_refused,
    ),
    (
        "what_a_registry_lies_about_answers_no_review",
        what_a_registry_lies_about_answers_no_review,
    ),
    ("a_pull_secret_opens_a_registry", a_pull_secret_opens_a_registry),
];

/// Tags are looked up each second.
const OFTEN: &str = "refreshInterval: 1s\n";

/// Reviews that are answered after something happened.
pub(crate) const MORE: usize = 20;

pub(crate) fn house(image: &str, rest: &Value) -> String {
    policy("house", &json!({"oci": {"image": image}}), rest)
}

pub(crate) fn policy(name: &str, module: &Value, rest: &Value) -> String {
    let mut policy = json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "WasmPolicy",
        "metadata": {"name": name},
        "spec": {
            "module": module,
            "settings": {"does": {"label": "here"}},
            "capabilities": ["cluster", "storage"],
            "failurePolicy": "fail",
        },
    });
    for (key, value) in rest.as_object().into_iter().flatten() {
        policy["spec"][key] = value.clone();
    }
    policy.to_string()
}

pub(crate) fn push(world: &World, registry: &Registry, name: &str, component: Vec<u8>) -> Result<Pushed> {
    let about = About {
        created: "2026-01-01T00:00:00Z".into(),
        author: None,
        annotations: BTreeMap::new(),
    };
    let reference = name.parse()?;
    let pushed = registry.push(&reference, component.into(), &about, &nobody);
    Ok(world.runtime.block_on(pushed)?)
}

/// A component that is no policy.
fn none() -> Vec<u8> {
    b"\0asm\x0d\0\x01\0".to_vec()
}

pub(crate) fn says(word: &'static str) -> impl Fn(&Verdict) -> bool {
    move |verdict| verdict.allowed && verdict.said.contains(word)
}

fn a_policy_from_a_registry_refuses_a_service(world: &World) -> Result<()> {
    let name = world.name("serving/denies:1");
    push(world, &World::registry()?, &name, world.component.clone())?;
    let gate = Gate::start(
        world,
        &house(&name, &json!({"settings": {"does": {"deny": "not on a Friday"}}})),
        OFTEN,
    )?;
    let verdict = gate.review()?;
    ensure!(
        !verdict.allowed && verdict.said.contains("not on a Friday"),
        "{verdict:?}; {}",
        gate.log()
    );
    Ok(())
}

fn a_tag_that_moved_is_followed_and_a_bad_version_replaces_no_good_one(world: &World) -> Result<()> {
    let (registry, name) = (World::registry()?, world.name("serving/moves:1"));
    push(world, &registry, &name, world.component.clone())?;
    let gate = Gate::start(world, &house(&name, &json!({})), OFTEN)?;
    ensure!(says("the test says so")(&gate.review()?), "{}", gate.log());
    push(world, &registry, &name, world.changed()?)?;
    gate.until("the tag is followed", SEEN, says("the tide says so"))?;

    gate.hammer(says("the tide says so"), |go_on| {
        push(world, &registry, &name, none())?;
        gate.until_it_says("its last good version stays", SEEN)?;
        go_on(MORE)
    })?;
    // After a restart the bad one is all that the registry has; the good one is on disk.
    gate.restart()?;
    ensure!(says("the tide says so")(&gate.review()?), "{}", gate.log());
    push(world, &registry, &name, world.component.clone())?;
    gate.until("it is mended", SEEN, says("the test says so")).map(drop)
}

fn a_restart_needs_no_registry(world: &World) -> Result<()> {
    let shop = Shop::open(Door::Open)?;
    let name = format!("{}/serving/away:1", shop.host);
    push(world, &World::registry()?, &name, world.component.clone())?;
    let gate = Gate::start(world, &house(&name, &json!({})), OFTEN)?;
    ensure!(says("the test says so")(&gate.review()?), "{}", gate.log());
    shop.stop()?;
    gate.until_it_says("doesn't answer: ", SEEN)?;
    gate.restart()?;
    ensure!(says("the test says so")(&gate.review()?), "{}", gate.log());
    // What was never here is not: its failure policy says what that means.
    gate.configure(&house(&format!("{}/serving/other:1", shop.host), &json!({})))?;
    gate.until_it_says("its last good version stays", SEEN)?;
    ensure!(
        says("the test says so")(&gate.review()?),
        "the last good one stays: {}",
        gate.log()
    );
    shop.start()?;
    push(
        world,
        &World::registry()?,
        &format!("{}/serving/other:1", shop.host),
        world.changed()?,
    )?;
    gate.until("the registry is back", SEEN, says("the tide says so"))
        .map(drop)
}

/// A newer version that is no good comes while another policy's registry is still waited for. Were it tried before the one that loaded once, there would be none.
fn a_restart_begins_with_what_is_on_disk_whatever_registries_have(world: &World) -> Result<()> {
    let (registry, name) = (World::registry()?, world.name("serving/race:1"));
    push(world, &registry, &name, world.component.clone())?;
    let good = house(&name, &json!({}));
    let gate = Gate::start(world, &good, OFTEN)?;
    gate.until("it is loaded", SEEN, says("the test says so"))?;
    gate.stop()?;
    push(world, &registry, &name, none())?;
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let host = silent.local_addr()?;
    let other = json!({"oci": {"image": format!("{host}/serving/other:1")}});
    let other = policy("other", &other, &json!({"failurePolicy": "ignore"}));
    gate.configure(&format!("{good}\n---\n{other}"))?;
    gate.run()?;
    ensure!(
        says("the test says so")(&gate.review()?),
        "it is ready without the good one: {}",
        gate.log()
    );
    gate.hammer(says("the test says so"), |go_on| {
        gate.until_it_says("its last good version stays", SEEN)?;
        let away = format!(
            "WasmPolicy/other: spec.module.oci: {host} doesn't answer: no answer in time; it doesn't run, and what it matches is admitted without it"
        );
        gate.until_it_says(&away, SEEN)?;
        go_on(MORE)
    })
}

fn sign(world: &World, registry: &Registry, name: &str, key: &SigningKey) -> Result<()> {
    let reference = name.parse()?;
    let signed = registry.sign(&reference, key, "2026-01-01T00:00:00Z", &nobody);
    world.runtime.block_on(signed)?;
    Ok(())
}

fn key() -> Result<SigningKey> {
    Ok(SigningKey::from_pem(
        &rcgen::KeyPair::generate()?.serialize_pem(),
        None,
    )?)
}

fn only_what_the_right_key_signed_is_loaded(world: &World) -> Result<()> {
    let (registry, name) = (World::registry()?, world.name("serving/signed:1"));
    let (ours, theirs) = (key()?, key()?);
    let sign = |key: &SigningKey| sign(world, &registry, &name, key);
    push(world, &registry, &name, world.component.clone())?;
    // The admin's word for all policies.
    let modules = json!({"refreshInterval": "1s", "verify": {"keys": [ours.public().to_pem()]}}).to_string();
    let gate = Gate::start(world, &house(&name, &json!({})), &modules)?;
    let verdict = gate.review()?;
    ensure!(!verdict.allowed, "an unsigned policy counts as failed: {verdict:?}");
    gate.until_it_says("is not signed, and it has to be by", SEEN)?;
    sign(&theirs)?;
    gate.until_it_says("is by another key", SEEN)?;
    ensure!(!gate.review()?.allowed, "somebody else signed it");
    sign(&ours)?;
    gate.until("it is signed", SEEN, says("the test says so"))?;

    push(world, &registry, &name, world.changed()?)?;
    sign(&theirs)?;
    gate.until_it_says("the version of before is used", SEEN)?;
    ensure!(says("the test says so")(&gate.review()?), "{}", gate.log());
    // What the policy itself says counts before what is said for all.
    let own = json!({"verify": {"keys": [theirs.public().to_pem()]}});
    gate.configure(&house(&name, &own))?;
    gate.until("their key counts", SEEN, says("the tide says so")).map(drop)
}

fn a_tag_that_moved_from_under_a_digest_is_refused(world: &World) -> Result<()> {
    let (registry, name) = (World::registry()?, world.name("serving/pinned:1"));
    let first = push(world, &registry, &name, world.component.clone())?;
    let gate = Gate::start(world, &house(&name, &json!({"digest": first.digest})), OFTEN)?;
    ensure!(says("the test says so")(&gate.review()?), "{}", gate.log());
    let second = gate.hammer(says("the test says so"), |go_on| {
        let second = push(world, &registry, &name, world.changed()?)?;
        gate.until_it_says(second.digest.as_str(), SEEN)?;
        go_on(MORE)?;
        Ok(second)
    })?;
    gate.configure(&house(&name, &json!({"digest": second.digest})))?;
    gate.until("the other digest is asked for", SEEN, says("the tide says so"))
        .map(drop)
}

fn what_a_registry_lies_about_answers_no_review(world: &World) -> Result<()> {
    // One of its own: what it keeps is changed behind its back.
    let shop = Shop::open(Door::Open)?;
    let (registry, name) = (World::registry()?, format!("{}/serving/lies:1", shop.host));
    let (ours, theirs) = (key()?, key()?);
    push(world, &registry, &name, world.component.clone())?;
    sign(world, &registry, &name, &ours)?;
    let by_us = json!({"verify": {"keys": [ours.public().to_pem()]}});
    let gate = Gate::start(world, &house(&name, &by_us), OFTEN)?;
    gate.until("it is loaded", SEEN, says("the test says so"))?;

    let whole = world.changed()?;
    let (mut longer, mut other) = (whole.clone(), whole.clone());
    longer.push(0);
    other[whole.len() / 2] ^= 1;
    let size = whole.len();
    // Under another tag, so that no server sees it before it is false.
    let next = push(
        world,
        &registry,
        &format!("{}/serving/lies:next", shop.host),
        whole.clone(),
    )?;
    let lies = |bytes: &[u8], announced: &str, came: &str| -> Result<String> {
        shop.falsify(&next.digest, bytes)?;
        Ok(format!(
            "the layer {} of {}/serving/lies@{} of {} is not what it is said to be: {announced} was announced, and {came} came; it is not used; \
             the version of before is used",
            next.digest, shop.host, next.manifest, shop.host
        ))
    };
    let bytes = |count: usize| format!("{count} bytes");
    gate.hammer(says("the test says so"), |go_on| {
        let mut reason = lies(&whole[..size - 1], &bytes(size), &bytes(size - 1))?;
        // What is there already isn't sent again: only the tag moves.
        push(world, &registry, &name, whole.clone())?;
        gate.until_it_says(&reason, SEEN)?;
        go_on(MORE)?;
        reason = lies(&longer, &bytes(size), &bytes(size + 1))?;
        gate.until_it_says(&reason, SEEN)?;
        go_on(MORE)?;
        reason = lies(&other, next.digest.as_str(), Digest::of(&other).as_str())?;
        gate.until_it_says(&reason, SEEN)?;
        go_on(MORE)?;
        sign(world, &registry, &name, &theirs)?;
        shop.falsify(&next.digest, &whole)?;
        gate.until_it_says("is by another key; the version of before is used", SEEN)?;
        go_on(MORE)?;
        shop.while_it_hangs(|| {
            gate.until_it_says(
                &format!(
                    "{} doesn't answer: no answer in time; the version of before is used",
                    shop.host
                ),
                SEEN,
            )?;
            go_on(MORE)
        })
    })?;
    sign(world, &registry, &name, &ours)?;
    gate.until("what is signed and whole is followed", SEEN, says("the tide says so"))
        .map(drop)
}

fn a_pull_secret_opens_a_registry(world: &World) -> Result<()> {
    let shop = Shop::open(Door::Shut)?;
    let name = format!("{}/serving/shut:1", shop.host);
    let logged_in = Credentials::password(&shop.host, "tide", "water");
    push(
        world,
        &Registry::new(Vec::new(), logged_in, Limits::default())?,
        &name,
        world.component.clone(),
    )?;
    let oci = json!({"module": {"oci": {"image": name, "pullSecret": "shop"}}});
    let secret = |password: &str| {
        let auths = json!({"auths": {&shop.host: {"auth": base64(format!("tide:{password}").as_bytes())}}}).to_string();
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"namespace": "tidewaiter-system", "name": "shop"},
            "data": {".dockerconfigjson": base64(auths.as_bytes())},
        })
        .to_string()
    };
    let policy = house(&name, &oci);
    let gate = Gate::start(world, &policy, OFTEN)?;
    gate.until_it_says("pullSecret: Secret/shop isn't there", SEEN)?;
    gate.configure(&format!("{policy}\n---\n{}", secret("low-tide-at-dawn")))?;
    gate.until_it_says("401 Unauthorized", SEEN)?;
    gate.configure(&format!("{policy}\n---\n{}", secret("water")))?;
    gate.until("the password is right", SEEN, says("the test says so"))?;
    ensure!(!gate.log().contains("low-tide-at-dawn"), "a password is in the log");
    Ok(())
}
