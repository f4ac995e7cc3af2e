//! Configuration and certificate change while services arrive, and none is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::custom::{Custom, unasked};
use tidewaiter_e2e::install::{backend, make_up_models, start_another};
use tidewaiter_e2e::policy::unruly_in;
use tidewaiter_e2e::server::{Identity, certificate};
use tidewaiter_ground::Answer;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;

use crate::hammer::{filled, hammer, service};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_changed_backend_is_used_and_no_service_is_lost",
        false,
        a_changed_backend_is_used_and_no_service_is_lost,
    ),
    (
        "a_changed_policy_is_used_and_no_service_is_lost",
        false,
        a_changed_policy_is_used_and_no_service_is_lost,
    ),
    (
        "a_bad_edit_of_a_backend_is_said_in_its_status_and_the_last_good_one_stays",
        false,
        a_bad_edit_of_a_backend_is_said_in_its_status_and_the_last_good_one_stays,
    ),
    (
        "a_bad_edit_of_a_policy_is_said_in_its_status_and_the_last_good_one_stays",
        false,
        a_bad_edit_of_a_policy_is_said_in_its_status_and_the_last_good_one_stays,
    ),
    (
        "a_new_certificate_is_served_and_no_service_is_lost",
        false,
        a_new_certificate_is_served_and_no_service_is_lost,
    ),
];

fn a_changed_backend_is_used_and_no_service_is_lost(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("backend")?;
    make_up_models(&namespace)?;
    let (api, name) = (world.cluster.api()?, namespace.name());
    let granted = |folder: &str| backend(name, name, &[&format!("s3://{name}/{folder}/")]);
    let custom = Custom::apply(&world.cluster, &granted("first"))?;
    custom.until("Accepted", "True")?;
    hammer(&world.cluster, name, &service("fraud", &uri), filled, |go_on| {
        for (now, before) in [("second", "first"), ("third", "second"), ("first", "third")] {
            go_on(5)?;
            custom.change(&granted(now))?;
            let within = |folder: &str| service("fraud", &format!("s3://{name}/{folder}/fraud"));
            world.cluster.until("the change is used", Duration::from_mins(1), || {
                filled(&api.would_create(name, &within(now))?).map(Some)
            })?;
            let refused = api.would_create(name, &within(before))?;
            ensure!(!refused.admitted(), "what is no longer granted is admitted");
        }
        go_on(5)
    })
    .map(drop)
}

fn a_changed_policy_is_used_and_no_service_is_lost(world: &World) -> Result<()> {
    world.policy()?;
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("policy")?;
    let (api, name) = (world.cluster.api()?, namespace.name());
    let labels = |label: &str| unruly_in(name, name, &json!({"label": label}), "fail");
    let custom = Custom::apply(&world.cluster, &labels("first"))?;
    custom.until("Loaded", "True")?;
    let service = service("fraud", &uri);
    // While it is compiled anew, the one before answers: there is no service without a label.
    let labelled = |answer: &Answer| -> Result<()> {
        filled(answer)?;
        ensure!(
            answer.body["metadata"]["labels"]["unruly"].is_string(),
            "no label: {}",
            answer.body["metadata"]
        );
        Ok(())
    };
    world.cluster.until("the policy runs", Duration::from_mins(1), || {
        labelled(&api.would_create(name, &service)?).map(Some)
    })?;
    hammer(&world.cluster, name, &service, labelled, |go_on| {
        for label in ["second", "third"] {
            go_on(5)?;
            custom.change(&labels(label))?;
            world.cluster.until("the change is used", Duration::from_mins(1), || {
                let answer = api.would_create(name, &service)?;
                let found = &answer.body["metadata"]["labels"]["unruly"];
                ensure!(found == label, "the label is {found}");
                Ok(Some(()))
            })?;
        }
        go_on(5)
    })
    .map(drop)
}

fn a_bad_edit_of_a_backend_is_said_in_its_status_and_the_last_good_one_stays(world: &World) -> Result<()> {
    let namespace = world.namespace("bad-backend")?;
    make_up_models(&namespace)?;
    let (api, name) = (world.cluster.api()?, namespace.name());
    let good = backend(name, name, &[&format!("s3://{name}/")]);
    let custom = Custom::apply(&world.cluster, &good)?;
    custom.until("Accepted", "True")?;
    let service = service("fraud", &format!("s3://{name}/fraud"));
    filled(&api.would_create(name, &service)?).context("before the edit")?;

    let mut bad = good.clone();
    bad["spec"]["s3"]["endpoint"] = json!("minio, the one in the cellar");
    custom.change(&unasked(&bad))?;
    let said = custom.until("Accepted", "False")?;
    for part in ["spec.s3.endpoint", "the one in the cellar"] {
        ensure!(said.contains(part), "the status doesn't name {part}: {said}");
    }
    filled(&api.would_create(name, &service)?).context("after the edit")?;

    custom.change(&good)?;
    let said = custom.until("Accepted", "True")?;
    ensure!(said.is_empty(), "mended, and still: {said}");
    filled(&api.would_create(name, &service)?).context("after it was mended")
}

fn a_bad_edit_of_a_policy_is_said_in_its_status_and_the_last_good_one_stays(world: &World) -> Result<()> {
    world.policy()?;
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("bad-policy")?;
    let (api, name) = (world.cluster.api()?, namespace.name());
    let service = service("fraud", &uri);
    let labelled = |label: &str| -> Result<()> {
        let answer = api.would_create(name, &service)?;
        filled(&answer)?;
        let found = &answer.body["metadata"]["labels"]["unruly"];
        ensure!(found == label, "the label is {found}, not {label}");
        Ok(())
    };
    let good = unruly_in(name, name, &json!({"label": "good"}), "fail");
    let custom = Custom::apply(&world.cluster, &good)?;
    custom.until("Loaded", "True")?;
    labelled("good").context("before the edits")?;

    let mut settings = unruly_in(name, name, &json!("sing"), "fail");
    let mut digest = unruly_in(name, name, &json!({"label": "other"}), "fail");
    digest["spec"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let mut module = unruly_in(name, name, &json!({"label": "other"}), "fail");
    module["spec"]["module"]["configMap"]["name"] = json!("elsewhere");
    settings["spec"]["order"] = json!(7);
    let mut ungranted = unruly_in(name, name, &json!({"label": "other"}), "fail");
    ungranted["spec"]["capabilities"] = json!([]);
    for (bad, says) in [
        (&settings, "sing"),
        (&digest, "spec.digest"),
        (&ungranted, "which it is not granted"),
        (&module, "ConfigMap/tidewaiter-system/elsewhere isn't there"),
    ] {
        custom.change(&unasked(bad))?;
        let said = custom.until("Loaded", "False")?;
        for part in [says, "last good version stays"] {
            ensure!(said.contains(part), "the status doesn't say {part}: {said}");
        }
        labelled("good").context(said)?;
    }

    custom.change(&unruly_in(name, name, &json!({"label": "mended"}), "fail"))?;
    let said = custom.until("Loaded", "True")?;
    ensure!(said.is_empty(), "mended, and still: {said}");
    labelled("mended")
}

/// The API server's own view of a rotation: it trusts old and new while the files are swapped, and at last the new one alone.
fn a_new_certificate_is_served_and_no_service_is_lost(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let server = start_another(
        &world.cluster,
        Identity {
            name: "rotated",
            port: 8543,
            account: "tidewaiter-rotated",
            before_kserve: false,
        },
    )?;
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace_of(server.name(), "rotated")?;
    let (api, name, service) = (world.cluster.api()?, namespace.name(), service("fraud", &uri));
    world.cluster.until("it is asked", Duration::from_mins(1), || {
        filled(&api.would_create(name, &service)?).map(Some)
    })?;

    // Else the end of this test would prove nothing: whom the API server doesn't trust, it doesn't ask.
    let first = certificate()?;
    server.ask_for_its_own(&[&first])?;
    world
        .cluster
        .until("an unknown certificate is refused", Duration::from_mins(1), || {
            let answer = api.would_create(name, &service)?;
            ensure!(
                answer.message().contains("x509"),
                "status {}: {}",
                answer.status,
                answer.message()
            );
            Ok(Some(()))
        })?;

    server.volume().update(&first)?;
    world
        .cluster
        .until("the first certificate is trusted", Duration::from_mins(1), || {
            filled(&api.would_create(name, &service)?).map(Some)
        })?;
    let mut before = first;
    for _ in 0..2 {
        let after = certificate()?;
        server.ask_for_its_own(&[&before, &after])?;
        let swapped = hammer(&world.cluster, name, &service, filled, |go_on| {
            go_on(20)?;
            std::thread::sleep(SEEN);
            let loaded = server.metric(CERTIFICATES)?;
            server.volume().update(&after)?;
            world
                .cluster
                .until("the certificate is loaded", Duration::from_mins(1), || {
                    let now = server.metric(CERTIFICATES)?;
                    ensure!(now > loaded, "{now} certificates were loaded");
                    Ok(Some(()))
                })?;
            go_on(20)?;
            server.ask_for_its_own(&[&after])?;
            std::thread::sleep(SEEN);
            go_on(20)
        })?;
        ensure!(swapped >= 60, "{swapped} services");
        before = after;
    }
    Ok(())
}

/// The API server sees a change of a webhook configuration within this time. A rotation leaves hours for that.
const SEEN: Duration = Duration::from_secs(3);

/// How often a certificate was loaded.
const CERTIFICATES: &str = r#"tidewaiter_reloads_total{what="certificate",result="ok"}"#;
