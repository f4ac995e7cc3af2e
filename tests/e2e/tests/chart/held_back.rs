//! Credentials that can't be written where they are used: the leader says how many, and for how long.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidewaiter_e2e::vault::Rule;
use tidewaiter_ground::tls::base64;

use crate::shared::{Keyed, until_delivered};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "credentials_that_cannot_be_written_are_counted_with_their_age",
    credentials_that_cannot_be_written_are_counted_with_their_age,
)];

fn credentials_that_cannot_be_written_are_counted_with_their_age(world: &World) -> Result<()> {
    const ROTATED: &str = "rotated-while-held-back";
    let release = world.release()?;
    let namespace = world.cluster.namespace("held-back")?;
    let name = namespace.name();
    let keyed = Keyed::apply(world, &release, &namespace)?;
    namespace.apply(&keyed.model)?;
    until_delivered(world, &namespace, &keyed.copy)?;
    let told = || {
        let leader = release.leader()?;
        let of = |metric: &str| {
            release.metric(
                &leader,
                &format!("tidewaiter_credentials_{metric}{{backend=\"{name}\"}}"),
            )
        };
        Ok::<_, anyhow::Error>((of("stale")?, of("age_seconds")?))
    };
    ensure!(told()? == (0.0, 0.0), "{:?} before anything is held back", told()?);

    let rule = Rule::apply(&world.cluster, &namespace)?;
    let minutes = Duration::from_mins(2);
    let annotate = [
        "annotate",
        &keyed.copy,
        "tidewaiter-e2e/written=",
        "--dry-run=server",
        "--overwrite",
    ];
    world.cluster.until("the rule is in force", minutes, || {
        Ok(namespace.kubectl(&annotate).is_err().then_some(()))
    })?;
    keyed.key(ROTATED)?;
    let first = world.cluster.until("it is counted", minutes, || {
        let (stale, age) = told()?;
        Ok((stale > 0.0 && age > 0.0).then_some(age))
    })?;
    world.cluster.until("it grows older", minutes, || {
        let (stale, age) = told()?;
        ensure!(stale > 0.0, "nothing is counted any more");
        Ok((age > first).then_some(()))
    })?;

    drop(rule);
    world.cluster.until("nothing is held back", minutes, || {
        let delivered = namespace.get(&keyed.copy)?["data"]["AWS_SECRET_ACCESS_KEY"].clone();
        ensure!(delivered == base64(ROTATED.as_bytes()), "another key is there");
        Ok((told()? == (0.0, 0.0)).then_some(()))
    })
}
