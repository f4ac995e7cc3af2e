//! A key's life: made, changed, disabled, revoked.

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use tidewaiter_minio::{AccessKey, Change, Error, Grant, LIMIT, NewAccount, Policy};

use super::{BUCKET, ROOT, World, in_an_hour, policy, refused};

pub(super) fn a_changed_policy_counts_at_once_and_alone(world: &World) -> Result<()> {
    let iris = policy(&["team-a/iris/"])?;
    let both = policy(&["team-a/iris/", "team-a/wine/"])?;
    let key = world.key(&iris)?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;

    world.update(&key, &Change::policy(&both))?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.reads(&key, "team-a/wine/model.bst")?;
    world.may_not_read(&key, "team-b/secret.bst")?;

    world.update(&key, &Change::policy(&iris))?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;

    // A later end doesn't open anything, though MinIO drops a policy that isn't said again.
    let later = Timestamp::now() + SignedDuration::from_hours(48);
    let change = Change {
        policy: &iris,
        expires: Some(later),
        enabled: None,
    };
    world.update(&key, &change)?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;
    let info = world.runtime.block_on(world.admin.info(key.id()))?;
    ensure!(!info.account.unrestricted && iris.is(&info.policy), "{info:?}");
    let expires = info.account.expires.context("no end")?;
    ensure!(
        expires.as_second() == later.as_second(),
        "it ends at {expires}, not {later}"
    );
    Ok(())
}

pub(super) fn a_revoked_key_is_refused(world: &World) -> Result<()> {
    let key = world.key(&policy(&["team-a"])?)?;
    world.reads(&key, "team-a/iris/model.bst")?;
    ensure!(world.runtime.block_on(world.admin.delete(key.id()))?, "it wasn't there");
    world.may_not_read(&key, "team-a/iris/model.bst")?;
    refused("listing", world.list(&key, "team-a"))?;
    ensure!(
        !world.runtime.block_on(world.admin.delete(key.id()))?,
        "it is still there"
    );
    let policy = policy(&["team-a"])?;
    let change = Change::policy(&policy);
    for error in [
        world.runtime.block_on(world.admin.info(key.id())).err(),
        world.runtime.block_on(world.admin.update(key.id(), &change)).err(),
    ] {
        let error = error.context("a key that is gone was found")?;
        ensure!(matches!(error, Error::NoAccount { .. }), "{error:?}");
        ensure!(error.to_string().contains(key.id()), "{error}");
    }
    Ok(())
}

pub(super) fn a_disabled_key_is_refused_until_it_is_enabled(world: &World) -> Result<()> {
    let policy = policy(&["team-a/iris"])?;
    let key = world.key(&policy)?;
    for enabled in [false, true] {
        let change = Change {
            enabled: Some(enabled),
            ..Change::policy(&policy)
        };
        world.update(&key, &change)?;
        let info = world.runtime.block_on(world.admin.info(key.id()))?;
        ensure!(info.account.enabled == enabled, "{info:?}");
        if enabled {
            world.reads(&key, "team-a/iris/model.bst")?;
        } else {
            world.may_not_read(&key, "team-a/iris/model.bst")?;
        }
    }
    Ok(())
}

pub(super) fn keys_are_listed_and_looked_at_as_they_were_made(world: &World) -> Result<()> {
    let policy = policy(&["team-a/iris", "team-a/wine"])?;
    let expires = in_an_hour();
    let key = AccessKey::random("LISTED")?;
    let account = NewAccount {
        key: &key,
        name: "listed",
        description: "<namespace> \"é\" & others",
        policy: &policy,
        expires,
    };
    world.runtime.block_on(world.admin.add(&account))?;
    let again = world.runtime.block_on(world.admin.add(&account));
    ensure!(
        matches!(&again, Err(Error::Taken { access_key, .. }) if access_key == key.id()),
        "{again:?}"
    );
    let listed = world.runtime.block_on(world.admin.list())?;
    let found: Vec<_> = listed.iter().filter(|account| account.access_key == key.id()).collect();
    let [listed] = found[..] else {
        bail!("{} is listed {} times", key.id(), found.len())
    };
    let info = world.runtime.block_on(world.admin.info(key.id()))?;
    ensure!(policy.is(&info.policy), "{}", info.policy);
    for shown in [listed, &info.account] {
        ensure!(
            shown.user == ROOT
                && shown.name == account.name
                && shown.description == account.description
                && shown.enabled,
            "{shown:?}"
        );
        ensure!(!shown.unrestricted, "{shown:?}");
        ensure!(
            shown.expires.context("no end")?.as_second() == expires.as_second(),
            "{shown:?}"
        );
    }
    Ok(())
}

pub(super) fn the_longest_policy_is_taken_in_any_spelling(world: &World) -> Result<()> {
    // The second has characters that Go writes longer than others do.
    for text in ["x", "<", "é", "\u{2028}"] {
        let grant = |many: usize, fill: usize| -> Result<Grant> {
            Ok(Grant::new(
                BUCKET,
                "team-a/",
                &format!("team-a/{}{}", text.repeat(many), "f".repeat(fill)),
            )?)
        };
        // Its prefix stands in a policy twice, and a prefix that is too long becomes its root.
        let longest = |policy: &Policy| !policy.as_json().contains("team-a/*");
        let mut many = 1;
        while longest(&Policy::new(&[grant(many + 1, 0)?])?) {
            many += 1;
        }
        let mut fill = 0;
        while longest(&Policy::new(&[grant(many, fill + 1)?])?) {
            fill += 1;
        }
        let policy = Policy::new(&[grant(many, fill)?])?;
        let key = world
            .key(&policy)
            .with_context(|| format!("a policy of {many} times {text:?}"))?;
        let info = world.runtime.block_on(world.admin.info(key.id()))?;
        ensure!(policy.is(&info.policy), "{}", info.policy);
        if text == "x" {
            let length = policy.as_json().len();
            ensure!(
                (LIMIT - 1..=LIMIT).contains(&length),
                "a policy of {length} bytes is not the longest"
            );
        }
    }
    Ok(())
}
