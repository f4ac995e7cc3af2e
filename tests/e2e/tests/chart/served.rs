//! What model servers answer, and what policies that go wrong come to, where Tidewaiter runs as the chart's Pods. `tests/cluster` has more of both, with a server
//! beside the cluster.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::answering;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::load::{has_credentials, service};
use tidewaiter_e2e::policy::{install_unruly, unruly_in};

use crate::faults::restarts;
use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("what_kserves_python_sdk_sends_answers", |world| {
        let release = world.release()?;
        answering::what_kserves_python_sdk_sends_answers(&world.cluster).with_context(|| release.diagnosis())
    }),
    ("an_old_shape_answers", |world| {
        let release = world.release()?;
        answering::an_old_shape_answers(&world.cluster).with_context(|| release.diagnosis())
    }),
    (
        "a_policy_that_goes_wrong_fails_alone",
        a_policy_that_goes_wrong_fails_alone,
    ),
];

/// Of images that the ground has for the newest KServe alone.
pub(crate) const NEWEST: &[Test] = &[
    ("a_model_of_older_libraries_answers_from_an_older_image", |world| {
        let release = world.release()?;
        answering::a_model_of_older_libraries_answers_from_an_older_image(&world.cluster)
            .with_context(|| release.diagnosis())
    }),
    ("a_model_that_would_answer_wrongly_is_refused", |world| {
        let release = world.release()?;
        answering::a_model_that_would_answer_wrongly_is_refused(&world.cluster).with_context(|| release.diagnosis())
    }),
];

/// Its own objects are refused with what it did; others get what they need, and no container ends.
fn a_policy_that_goes_wrong_fails_alone(world: &World) -> Result<()> {
    let release = world.release()?;
    install_unruly(&world.cluster)?;
    let (theirs, others) = (world.cluster.namespace("hostile")?, world.cluster.namespace("others")?);
    let (name, api) = (theirs.name(), world.cluster.api()?);
    let model = service("fraud", &world.model()?.1);
    let does = |what: &str| unruly_in(name, name, &json!(what), "fail");
    let ended = || -> Result<u64> { Ok(release.pods()?.iter().map(restarts).sum()) };
    let before = ended()?;
    let policy = Custom::apply(&world.cluster, &does("nothing"))?;
    policy.until("Loaded", "True")?;
    for (what, says) in [
        ("loop", "ran for more than 100 ms"),
        ("trap", "trapped"),
        ("hoard", "memory"),
        ("flood", "memory"),
        ("rename", "/metadata/name"),
    ] {
        policy.change(&does(what))?;
        policy.until("Loaded", "True")?;
        let mut in_a_row = 0;
        let what = format!("the policy does `{what}`, whichever replica answers");
        world.cluster.until(&what, Duration::from_mins(2), || {
            let answer = api.would_create(name, &model)?;
            let is_refused = !answer.admitted() && answer.message().contains(says);
            in_a_row = if is_refused { in_a_row + 1 } else { 0 };
            ensure!(is_refused, "{} {:?}", answer.message(), answer.warnings);
            let answer = api.would_create(others.name(), &model)?;
            ensure!(
                answer.admitted() && has_credentials(&answer.body),
                "{} {:?}",
                answer.message(),
                answer.warnings
            );
            Ok((in_a_row == 5).then_some(()))
        })?;
    }
    ensure!(
        release.pods()?.len() == REPLICAS && ended()? == before,
        "{}",
        release.diagnosis()
    );
    Ok(())
}
