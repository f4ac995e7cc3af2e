//! The chart's alerts, as Prometheus' own rules engine evaluates them: each fires when it should, and not otherwise.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::World;

/// Tells the process inside where promtool is.
pub(crate) const PROMTOOL: &str = "TIDEWAITER_PROMTOOL";

/// A series, one value a minute, in promtool's notation: `0+2x10` is 0 and ten values more, each 2 larger.
type Series = (&'static str, &'static str);

/// An alert; minutes after the start; the series by then with which it fires; those with which it doesn't.
const ALERTS: &[(&str, u32, &[Series], &[Series])] = &[
    (
        "TidewaiterDown",
        5,
        &[("up{job='tidewaiter',pod='a'}", "0x10")],
        &[
            ("up{job='tidewaiter',pod='a'}", "0x10"),
            ("up{job='tidewaiter',pod='b'}", "1x10"),
        ],
    ),
    (
        "TidewaiterOpenedOnFailure",
        5,
        &[(
            "apiserver_admission_webhook_fail_open_count{name='mutate.tidewaiter.dev'}",
            "0 0 2x10",
        )],
        &[(
            "apiserver_admission_webhook_fail_open_count{name='mutate.somebody.else'}",
            "0 0 2x10",
        )],
    ),
    (
        // The API server has no such series before it happens.
        "TidewaiterOpenedOnFailure",
        14,
        &[
            ("up{job='apiserver',instance='a'}", "1x20"),
            (
                "apiserver_admission_webhook_fail_open_count{job='apiserver',instance='a',name='mutate.tidewaiter.dev'}",
                "_x11 1x10",
            ),
        ],
        // Prometheus has only begun to look, and it may have happened long ago.
        &[
            ("up{job='apiserver',instance='a'}", "_x11 1x10"),
            (
                "apiserver_admission_webhook_fail_open_count{job='apiserver',instance='a',name='mutate.tidewaiter.dev'}",
                "_x11 1x10",
            ),
        ],
    ),
    (
        "TidewaiterRefusedOnFailure",
        14,
        &[
            ("up{job='apiserver',instance='a'}", "1x20"),
            (
                "apiserver_admission_webhook_rejection_count{job='apiserver',instance='a',name='mutate-or-fail.tidewaiter.dev',error_type='calling_webhook_error'}",
                "_x11 1x10",
            ),
        ],
        // It was there all the time, and counts no more.
        &[
            ("up{job='apiserver',instance='a'}", "1x20"),
            (
                "apiserver_admission_webhook_rejection_count{job='apiserver',instance='a',name='mutate-or-fail.tidewaiter.dev',error_type='calling_webhook_error'}",
                "1x20",
            ),
        ],
    ),
    (
        "TidewaiterRefusedOnFailure",
        5,
        &[(
            "apiserver_admission_webhook_rejection_count{name='mutate.tidewaiter.dev',error_type='calling_webhook_error'}",
            "0+1x10",
        )],
        // What a review refused is no fault.
        &[(
            "apiserver_admission_webhook_rejection_count{name='mutate.tidewaiter.dev',error_type='no_error'}",
            "0+1x10",
        )],
    ),
    (
        "TidewaiterReviewsFail",
        12,
        &[("tidewaiter_reviews_total{ending='failed'}", "0+1x20")],
        &[("tidewaiter_reviews_total{ending='refused'}", "0+1x20")],
    ),
    (
        "TidewaiterReviewsSlow",
        20,
        &[
            ("tidewaiter_review_seconds_bucket{le='2.5'}", "0+90x30"),
            ("tidewaiter_review_seconds_bucket{le='5'}", "0+100x30"),
            ("tidewaiter_review_seconds_bucket{le='+Inf'}", "0+100x30"),
        ],
        &[
            ("tidewaiter_review_seconds_bucket{le='2.5'}", "0+100x30"),
            ("tidewaiter_review_seconds_bucket{le='5'}", "0+100x30"),
            ("tidewaiter_review_seconds_bucket{le='+Inf'}", "0+100x30"),
        ],
    ),
    (
        "TidewaiterHandshakesFail",
        25,
        &[("tidewaiter_handshakes_failed_total", "0+2x40")],
        // Somebody's port scan.
        &[("tidewaiter_handshakes_failed_total", "0 0 5x40")],
    ),
    (
        "TidewaiterCertificateEnds",
        70,
        // In seconds since 1970, which is when promtool begins.
        &[("tidewaiter_certificate_expiry_timestamp_seconds", "86400x100")],
        &[("tidewaiter_certificate_expiry_timestamp_seconds", "5000000x100")],
    ),
    (
        "TidewaiterNobodyLeads",
        10,
        &[
            ("tidewaiter_leader{pod='a'}", "0x20"),
            ("tidewaiter_leader{pod='b'}", "0x20"),
        ],
        &[
            ("tidewaiter_leader{pod='a'}", "0x20"),
            ("tidewaiter_leader{pod='b'}", "1x20"),
        ],
    ),
    (
        "TidewaiterCredentialsNotWritten",
        10,
        &[("tidewaiter_credentials_total{result='unreachable'}", "0+1x20")],
        &[("tidewaiter_credentials_total{result='written'}", "0+1x20")],
    ),
    (
        "TidewaiterCredentialsStale",
        20,
        &[("tidewaiter_credentials_age_seconds{backend='minio'}", "0+60x30")],
        &[("tidewaiter_credentials_age_seconds{backend='minio'}", "0 60 120 0x30")],
    ),
    (
        "TidewaiterCredentialsRefused",
        15,
        &[("tidewaiter_backend_credentials_valid{backend='minio',pod='a'}", "0x20")],
        // Another key came in time.
        &[(
            "tidewaiter_backend_credentials_valid{backend='minio',pod='a'}",
            "0x8 1x20",
        )],
    ),
    (
        "TidewaiterSlippedPast",
        5,
        &[("tidewaiter_swept_total{result='refused'}", "0 0 1x20")],
        &[("tidewaiter_swept_total{result='mended'}", "0 0 1x20")],
    ),
    (
        "TidewaiterStoreCutOff",
        15,
        &[("tidewaiter_breaker_open{backend='minio'}", "1x20")],
        &[(
            "tidewaiter_breaker_open{backend='minio'}",
            "1 1 0 1 1 0 1 1 0 1 1 0 1 1 0 1 1",
        )],
    ),
    (
        "TidewaiterPolicyFails",
        12,
        &[("tidewaiter_policy_runs_total{policy='house',ending='failed'}", "0+1x20")],
        &[("tidewaiter_policy_runs_total{policy='house',ending='denied'}", "0+1x20")],
    ),
    (
        "TidewaiterConfigurationProblem",
        20,
        &[("tidewaiter_configuration_problems{pod='a'}", "2x30")],
        &[("tidewaiter_configuration_problems{pod='a'}", "0x10 1 0x20")],
    ),
];

pub(crate) fn each_alert_fires_when_it_should_and_not_otherwise(world: &World) -> Result<()> {
    let manifest = world.helm(&[
        "template",
        "tidewaiter",
        "--show-only",
        "templates/alerts.yaml",
        "--set",
        "monitoring.alerts.enabled=true",
    ])?;
    // A PrometheusRule's `spec` is what a file of rules holds.
    let (_, rules) = manifest.split_once("\nspec:\n").context("the chart has no rules")?;
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let (names, tried): (BTreeSet<_>, BTreeSet<_>) = (names.collect(), ALERTS.iter().map(|&(name, ..)| name).collect());
    ensure!(names == tried, "the chart has {names:?}, and tried here are {tried:?}");

    let folder = world.home.join("alerts");
    fs::create_dir_all(&folder)?;
    let tests: Vec<Value> = ALERTS
        .iter()
        .flat_map(|(name, at, fires, doesn_t)| [case(name, *at, fires, 1), case(name, *at, doesn_t, 0)])
        .collect();
    fs::write(folder.join("rules.yaml"), rules)?;
    // JSON is YAML.
    let tests = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests});
    fs::write(folder.join("tests.yaml"), tests.to_string())?;
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]] {
        let promtool = std::env::var_os(PROMTOOL).context("nobody said where promtool is")?;
        let said = Command::new(promtool).current_dir(&folder).args(arguments).output()?;
        ensure!(
            said.status.success(),
            "promtool {}:\n{}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
    }
    Ok(())
}

fn case(alert: &str, minutes: u32, series: &[Series], fires: u32) -> Value {
    let series: Vec<_> = series
        .iter()
        .map(|(series, values)| json!({"series": series, "values": values}))
        .collect();
    json!({
        "name": format!("{alert} with {series:?}"),
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{
            "expr": format!("min(count(ALERTS{{alertname='{alert}',alertstate='firing'}}) or vector(0))"),
            "eval_time": format!("{minutes}m"),
            "exp_samples": [{"labels": "{}", "value": fires}],
        }],
    })
}
