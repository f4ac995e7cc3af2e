//! Services that ran before Tidewaiter came: what its audit finds, `tidewaiter audit` shows and `--fix` mends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command;
use tidewaiter_e2e::load::{has_credentials, service};

use crate::{Shape, Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "what_ran_before_is_reported_by_the_leader_and_adopted_by_the_command",
    what_ran_before_is_reported_by_the_leader_and_adopted_by_the_command,
)];

fn what_ran_before_is_reported_by_the_leader_and_adopted_by_the_command(world: &World) -> Result<()> {
    world.uninstall()?;
    let namespace = world.team("before")?;
    let mut old = service("old", &world.model()?.1);
    old["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
    namespace.apply(&old.to_string())?;
    let release = world.release_in(Shape::Named)?;
    release.definitions(&["--set", "policyReports.enabled=true"])?;
    let reported = |what: &str, is_it: &dyn Fn(&Value) -> bool| {
        world.cluster.until(what, Duration::from_mins(3), || {
            let report = namespace.get("policyreport/tidewaiter")?;
            ensure!(is_it(&report), "{report}");
            Ok(Some(report))
        })
    };
    let would_fill = |report: &Value| {
        let mut results = report["results"].as_array().into_iter().flatten();
        results.any(|result| result["rule"] == "would-be-filled-in" && result["resources"][0]["name"] == "old")
    };
    let report = reported("the leader reports it", &would_fill)?;
    ensure!(report["summary"]["warn"] != 0, "{report}");
    let before = namespace.get("isvc/old")?;
    ensure!(
        !has_credentials(&before),
        "adopted without a word: {}",
        before["metadata"]
    );

    let audit = |more: &[&str], code: i32| {
        let arguments = [&["audit", "-n", namespace.name()], more].concat();
        tidewaiter(world.cluster.kubeconfig(), &arguments, code)
    };
    let shown = audit(&[], 1)?;
    for part in ["old", "storage-credentials"] {
        ensure!(shown.contains(part), "the command doesn't say {part}: {shown}");
    }
    let fixed = audit(&["--fix", "--yes"], 0)?;
    ensure!(fixed.contains("old filled in"), "{fixed}");
    let adopted = namespace.get("isvc/old")?;
    ensure!(has_credentials(&adopted), "no credentials: {}", adopted["metadata"]);
    namespace.get("secret/tidewaiter-minio")?;

    let is_clean = |report: &Value| {
        let summary = &report["summary"];
        !would_fill(report) && summary["warn"] == 0 && summary["fail"] == 0 && summary["error"] == 0
    };
    reported("the next audit finds nothing", &is_clean)?;
    let clean = audit(&[], 0)?;
    ensure!(!clean.contains("storage-credentials"), "{clean}");
    Ok(())
}

/// What the command says on both of its outputs, where it ends with this code.
fn tidewaiter(kubeconfig: &Path, arguments: &[&str], code: i32) -> Result<String> {
    let said = command::tidewaiter(kubeconfig, arguments)?.ended(code)?;
    Ok([said.stdout, said.stderr].join("\n"))
}
