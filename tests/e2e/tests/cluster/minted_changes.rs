//! What becomes of a namespace's minted key where its backend, its models or the namespace itself are no longer what they were.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidewaiter_ground::{MINIO_PORT, MINIO_USER};

use crate::minted::{SOON, Store, minting};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_key_whose_models_fill_its_policy_reads_the_whole_prefix_that_is_granted",
        false,
        a_key_whose_models_fill_its_policy_reads_the_whole_prefix_that_is_granted,
    ),
    (
        "a_backend_that_mints_no_more_delivers_its_own_key_and_the_minted_one_is_revoked",
        false,
        a_backend_that_mints_no_more_delivers_its_own_key_and_the_minted_one_is_revoked,
    ),
    (
        "a_key_works_for_a_day_after_it_was_replaced",
        false,
        a_key_works_for_a_day_after_it_was_replaced,
    ),
    (
        "a_key_of_a_namespace_that_is_gone_is_revoked",
        false,
        a_key_of_a_namespace_that_is_gone_is_revoked,
    ),
];

/// So many names of this length are more than MinIO takes in a policy.
const MODELS: usize = 16;
const LENGTH: usize = 250;

fn a_key_whose_models_fill_its_policy_reads_the_whole_prefix_that_is_granted(world: &World) -> Result<()> {
    let store = Store::new(world, "filled", MINIO_PORT)?;
    store.without_pods()?;
    store.apply_and_read("shared", "shared/fraud")?;
    let key = store.key()?;
    let mut long = Vec::new();
    let mut late = 0;
    for number in 0..MODELS {
        let model = store.own(&format!("{number:0>LENGTH$}"));
        store.fill(&model)?;
        late += usize::from(store.apply_and_read(&format!("long-{number}"), &model)?);
        if number == 0 {
            ensure!(!store.reads(&key, &store.own("churn"))?, "it reads what nobody uses");
        }
        long.push(model);
    }
    // MinIO may be slow once on a busy machine, and not as a rule.
    ensure!(
        late < MODELS / 2,
        "{late} of {MODELS} were admitted before their key could read them"
    );
    ensure!(store.key()? == key, "another key was made");
    for model in &long {
        ensure!(store.reads(&key, model)?, "it no longer reads {model}");
    }
    // One prefix stands for all that lie in it, so what lies there beside them is read too, and nothing else is.
    ensure!(
        store.reads(&key, &store.own("churn"))?,
        "the policy still names each model"
    );
    ensure!(store.reads(&key, "shared/fraud")?, "it has lost what is shared");
    for other in ["other/fraud", ""] {
        ensure!(!store.reads(&key, other)?, "it reads {other}");
    }
    Ok(())
}

fn a_backend_that_mints_no_more_delivers_its_own_key_and_the_minted_one_is_revoked(world: &World) -> Result<()> {
    let store = Store::new(world, "unminted", MINIO_PORT)?;
    store.without_pods()?;
    store.apply_and_read("fraud", &store.own("fraud"))?;
    let minted = store.key()?;
    let annotations = || -> Result<_> { Ok(store.namespace.get("isvc/fraud")?["metadata"]["annotations"].take()) };
    let before = annotations()?;

    let with = minting(store.name(), MINIO_PORT, &["{namespace}/"]);
    let mut without = with.clone();
    without["spec"].as_object_mut().context("no spec")?.remove("minting");
    store.custom.change(&without)?;
    let own = world.cluster.until("the backend's own key is delivered", SOON, || {
        let key = store.key()?;
        Ok((key.id == MINIO_USER).then_some(key))
    })?;
    store.until_reads(&minted, &store.own("fraud"), false)?;
    ensure!(store.reads(&own, &store.own("fraud"))?, "what is delivered can't read");
    // A round of the leader's that had begun before may have put one in its place for a moment.
    let records = ["minted-key", "keys-to-revoke"];
    let gone = || {
        let secret = store.secret()?;
        let mut records = records
            .iter()
            .map(|record| &secret["metadata"]["annotations"][format!("tidewaiter.dev/{record}")]);
        Ok(records.all(Value::is_null).then_some(()))
    };
    world.cluster.until("the records of minted keys are gone", SOON, gone)?;
    ensure!(annotations()? == before, "the service was changed");

    store.custom.change(&with)?;
    let again = world.cluster.until("a key is minted again", SOON, || {
        let key = store.key()?;
        Ok((key.id != MINIO_USER).then_some(key))
    })?;
    ensure!(again != minted, "a key that was revoked is in use again");
    store.until_reads(&again, &store.own("fraud"), true)
}

/// A Pod that read the Secret just before can still load its model.
fn a_key_works_for_a_day_after_it_was_replaced(world: &World) -> Result<()> {
    let store = Store::new(world, "overlap", MINIO_PORT)?;
    store.without_pods()?;
    let mut long = minting(store.name(), MINIO_PORT, &["{namespace}/"]);
    long["spec"]["minting"] = json!({"keyLifetime": "30d"});
    store.custom.change(&long)?;
    store.custom.until("Accepted", "True")?;
    store.apply_and_read("fraud", &store.own("fraud"))?;
    // Of the life that a replica which didn't know of it yet may have given it.
    world.cluster.until("the key lives for a month", SOON, || {
        let ends: Timestamp = store.record()?["expires"].as_str().context("no end")?.parse()?;
        Ok((ends > Timestamp::now() + SignedDuration::from_hours(24 * 29)).then_some(()))
    })?;
    let (first, mut record) = (store.key()?, store.record()?);
    // Less than a third of the month is left.
    record["expires"] = json!(Timestamp::now() + SignedDuration::from_hours(24 * 9));
    store.write_record(&record)?;
    let second = world.cluster.until("the next key is there", SOON, || {
        let key = store.key()?;
        Ok((key != first).then_some(key))
    })?;
    let record = store.record()?;
    let end: Timestamp = record["retired"][&first.id].as_str().context("no end")?.parse()?;
    let day = Timestamp::now() + SignedDuration::from_hours(24);
    ensure!(
        end <= day && end > day - SignedDuration::from_mins(10),
        "it is to be revoked at {end}: {record}"
    );
    for key in [&first, &second] {
        ensure!(store.reads(key, &store.own("fraud"))?, "{} can't read", key.id);
    }
    Ok(())
}

/// What MinIO has is compared with the Secrets every ten minutes, and what nobody has at two of these goes.
fn a_key_of_a_namespace_that_is_gone_is_revoked(world: &World) -> Result<()> {
    let store = Store::new(world, "gone", MINIO_PORT)?;
    store.without_pods()?;
    store.apply_and_read("fraud", &store.own("fraud"))?;
    let key = store.key()?;
    let delete = ["delete", "namespace", store.name(), "--timeout=2m"];
    world.cluster.kubectl(&delete)?;
    let half_an_hour = Duration::from_mins(30);
    let revoked = || Ok((!store.reads(&key, &store.own("fraud"))?).then_some(()));
    world.cluster.until("its key is revoked", half_an_hour, revoked)
}
