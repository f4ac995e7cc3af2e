//! The chart's dashboard, as Prometheus' own parser reads what each of its panels asks.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::Said;

use crate::World;
use crate::alerts::PROMTOOL;

/// What Grafana puts in the place of its variables.
const FILLED: &[(&str, &str)] = &[("$__rate_interval", "5m"), ("$namespace", "tidewaiter-system")];

pub(crate) fn prometheus_can_read_what_each_panel_asks(world: &World) -> Result<()> {
    let manifest = world.helm(&[
        "template",
        "tidewaiter",
        "--show-only",
        "templates/dashboard.yaml",
        "--set",
        "monitoring.dashboard.enabled=true",
    ])?;
    let (_, dashboard) = manifest
        .split_once("tidewaiter.json: |")
        .context("the chart has no dashboard")?;
    let dashboard: Value = serde_json::from_str(dashboard)?;
    let mut asked = Vec::new();
    questions(&dashboard["panels"], &mut asked);
    ensure!(asked.len() > 10, "{asked:?}");

    let folder = world.home.join("dashboard");
    fs::create_dir_all(&folder)?;
    for (panel, question) in &asked {
        let filled = FILLED.iter().fold(question.clone(), |question, (variable, value)| {
            question.replace(variable, value)
        });
        ensure!(
            !filled.contains('$'),
            "{panel}: nobody knows a variable of `{question}`"
        );
        let said = read(&folder, &filled)?;
        ensure!(said.ok, "{panel}: `{question}`: {}{}", said.stdout, said.stderr);
    }
    // What it can't read, it refuses.
    let said = read(&folder, "sum by (le) (rate(tidewaiter_reviews_total))")?;
    ensure!(!said.ok, "promtool takes a rate of what is no range");
    Ok(())
}

/// As the expression of a rule: promtool parses those, and asks no server.
fn read(folder: &std::path::Path, question: &str) -> Result<Said> {
    let rules = json!({"groups": [{"name": "dashboard", "rules": [{"record": "panel:asks", "expr": question}]}]});
    // JSON is YAML.
    fs::write(folder.join("rules.yaml"), rules.to_string())?;
    let promtool = std::env::var_os(PROMTOOL).context("nobody said where promtool is")?;
    let check = ["check", "rules", "rules.yaml"];
    Ok(Said::from(
        Command::new(promtool).current_dir(folder).args(check).output()?,
    ))
}

/// The title of each panel, also of those in rows, with each expression that it asks.
fn questions(panels: &Value, asked: &mut Vec<(String, String)>) {
    for panel in panels.as_array().into_iter().flatten() {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked.push((title.to_owned(), target["expr"].as_str().unwrap_or_default().to_owned()));
        }
        questions(&panel["panels"], asked);
    }
}
