//! The ways of a server to its modules: a registry of a private authority, a mirror, a web server.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::tls::Authority;
use tidewaiter_registry::{Credentials, Digest, Limits, Registry};

use crate::gate::Gate;
use crate::serving::{MORE, house, policy, push, says};
use crate::{Door, SEEN, Shop, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_registry_of_a_private_authority_is_believed_where_its_certificate_is_given",
        a_registry_of_a_private_authority_is_believed_where_its_certificate_is_given,
    ),
    (
        "a_mirror_stands_in_for_a_registry_that_is_away",
        a_mirror_stands_in_for_a_registry_that_is_away,
    ),
    (
        "a_module_from_a_web_server_is_what_its_digest_says",
        a_module_from_a_web_server_is_what_its_digest_says,
    ),
];

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// Tags are looked up each second, and hosts reached so.
fn modules(hosts: &Value) -> String {
    json!({"refreshInterval": "1s", "hosts": [hosts]}).to_string()
}

fn client(shop: &Shop) -> Result<Registry> {
    Ok(Registry::new(
        vec![shop.way()],
        Credentials::default(),
        Limits::default(),
    )?)
}

fn a_registry_of_a_private_authority_is_believed_where_its_certificate_is_given(world: &World) -> Result<()> {
    let shop = Shop::open(Door::Private)?;
    let name = format!("{}/serving/private:1", shop.host);
    push(world, &client(&shop)?, &name, world.component.clone())?;
    let stranger = Authority::new("somebody else")?.certificate();
    let others = modules(&json!({"host": shop.host, "ca": stranger}));
    let gate = Gate::start(world, &house(&name, &json!({})), &others)?;
    let reason = format!(
        "{} doesn't answer: nobody whom we trust signed its certificate; give that of its authority, as `ca` in this host's entry or by --ca; \
         it doesn't run, and what it matches is refused",
        shop.host
    );
    gate.until_it_says(&reason, SEEN)?;
    ensure!(
        !gate.review()?.allowed,
        "it is believed without its authority: {}",
        gate.log()
    );
    gate.restart_with(&modules(&json!(shop.way())))?;
    gate.until("its authority is known", SEEN, says("the test says so"))?;
    push(world, &client(&shop)?, &name, world.changed()?)?;
    gate.until("the tag is followed", SEEN, says("the tide says so"))
        .map(drop)
}

fn a_mirror_stands_in_for_a_registry_that_is_away(world: &World) -> Result<()> {
    let (registry, at_mirror) = (World::registry()?, world.name("cache/serving/mirrored:1"));
    let first = push(world, &registry, &at_mirror, world.component.clone())?;
    let mirrored = |resolves_tags: bool| {
        let mirror = json!({"at": world.name("cache"), "resolvesTags": resolves_tags});
        modules(&json!({"host": NOWHERE, "mirrors": [mirror]}))
    };
    // What a tag leads to is for the registry to say.
    let name = format!("{NOWHERE}/serving/mirrored:1");
    let gate = Gate::start(world, &house(&name, &json!({})), &mirrored(false))?;
    gate.until_it_says(&format!("{NOWHERE} doesn't answer: Connection refused"), SEEN)?;
    ensure!(
        !gate.review()?.allowed,
        "the mirror said what the tag is: {}",
        gate.log()
    );
    let exactly = format!("{NOWHERE}/serving/mirrored@{}", first.manifest);
    gate.configure(&house(&exactly, &json!({})))?;
    gate.until("the mirror has it", SEEN, says("the test says so"))?;

    // Where the mirror may say it, what is pinned counts all the same.
    let pinned = house(&name, &json!({"digest": first.digest}));
    gate.configure(&pinned)?;
    gate.restart_with(&mirrored(true))?;
    gate.until("the mirror says what the tag is", SEEN, says("the test says so"))?;
    let second = gate.hammer(says("the test says so"), |go_on| {
        let second = push(world, &registry, &at_mirror, world.changed()?)?;
        gate.until_it_says(
            &format!(
                "and {} came; it is not used; the version of before is used",
                second.digest
            ),
            SEEN,
        )?;
        go_on(MORE)?;
        Ok(second)
    })?;
    let never = Gate::start(world, &pinned, &mirrored(true))?;
    let reason = format!(
        "the component of {name} is not what it is said to be: {} (spec.digest) was announced, and {} came; it is not used; \
         it doesn't run, and what it matches is refused",
        first.digest, second.digest
    );
    never.until_it_says(&reason, SEEN)?;
    ensure!(!never.review()?.allowed, "it runs: {}", never.log());
    Ok(())
}

fn a_module_from_a_web_server_is_what_its_digest_says(world: &World) -> Result<()> {
    // A registry's blob has a URL, as a file of any web server has.
    let shop = Shop::open(Door::Private)?;
    let (registry, name) = (client(&shop)?, format!("{}/serving/web:1", shop.host));
    let digest = push(world, &registry, &name, world.component.clone())?.digest;
    let url = format!("https://{}/v2/serving/web/blobs/{digest}", shop.host);
    let module = |digest: &Digest| policy("house", &json!({"https": {"url": url, "digest": digest}}), &json!({}));
    let ways = modules(&json!(shop.way()));
    let gate = Gate::start(world, &module(&digest), &ways)?;
    gate.until("it is loaded", SEEN, says("the test says so"))?;

    let other = Digest::of(&world.changed()?);
    let lies = |said: &Digest, came: &Digest| {
        format!(
            "{url} of {} is not what it is said to be: {said} was announced, and {came} came; it is not used; ",
            shop.host
        )
    };
    gate.hammer(says("the test says so"), |go_on| {
        gate.configure(&module(&other))?;
        gate.until_it_says(&(lies(&other, &digest) + "its last good version stays"), SEEN)?;
        go_on(MORE)
    })?;

    // The file is replaced under its URL. Whoever has the one of before on disk doesn't ask for it.
    gate.configure(&module(&digest))?;
    shop.falsify(&digest, &world.changed()?)?;
    gate.restart()?;
    ensure!(says("the test says so")(&gate.review()?), "{}", gate.log());
    let never = Gate::start(world, &module(&digest), &ways)?;
    never.until_it_says(
        &(lies(&digest, &other) + "it doesn't run, and what it matches is refused"),
        SEEN,
    )?;
    ensure!(!never.review()?.allowed, "it runs: {}", never.log());
    Ok(())
}
