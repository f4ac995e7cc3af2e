//! The example policy in each language: a fresh instance and its call, beside the same Rust function called natively.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use house_rules::{HouseRules, Settings};
use serde::Serialize;
use serde_json::{Value, json};
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Ended, Operation, Review};
use tidewaiter_engine::{Capability, Engine, FailurePolicy, Limits, Mode, Options, PolicySpec, review};
use tidewaiter_policy::Policy as _;
use tidewaiter_policy::testing::{World, create};
use tidewaiter_tools::{Given, Language, Prepared};

use crate::fixture::Fixture;
use crate::load::Round;
use crate::report::{self, millis, pairs};
use crate::{crowd, hostile, policies};

const CALLS: usize = 2_000;
const BUDGET: Duration = Duration::from_secs(2);
const NAMESPACE: &str = "team-a";
/// A ratio that is larger fails the run: others shall not feel what hostile policies do.
const P99_HOSTILE_VS_QUIET: f64 = 1.5;

/// One language.
pub(crate) struct Row {
    pub(crate) language: Language,
    /// A fresh instance and its call, without the host call that is in it.
    pub(crate) us: f64,
    /// Of the component.
    pub(crate) kib: usize,
    /// From the component's bytes to a policy that can review, nothing of it in a cache.
    pub(crate) load: Duration,
}

/// What `--json` prints; null where a toolchain isn't there.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the unit is part of each name")]
struct Figures {
    native_us: f64,
    rust_us: Option<f64>,
    javascript_us: Option<f64>,
    python_us: Option<f64>,
    go_us: Option<f64>,
    /// From `exec` to ready, with a hundred policies in the cache on disk.
    ready_100_warm_ms: f64,
    /// Resident memory for each of a hundred policies, beyond its code.
    mib_each: f64,
    /// The server's p99 for others while hostile policies run, beside its own without; the median of pairs.
    p99_hostile_vs_quiet: f64,
}

/// Measures, and prints a table or one JSON object.
pub(crate) async fn run(json: bool) -> Result<()> {
    let native_us = native()?;
    let mut rows = Vec::new();
    for language in Language::ALL {
        match tidewaiter_examples::missing(language) {
            Some(reason) => eprintln!("Left out: {reason}"),
            None => rows.push(measure(language).await.with_context(|| format!("{language}"))?),
        }
    }
    let builtins = policies::measure(&Fixture::new().await?).await?;
    let crowd = crowd::measure().await?;
    let hostile = hostile::measure().await?;
    let p99 = |round: &Round| round.p99.as_secs_f64();
    let p99_hostile_vs_quiet = pairs(&hostile.quiet, &hostile.beside, p99);
    let of = |language| {
        rows.iter()
            .find(|row| row.language == language)
            .map(|row| round(row.us))
    };
    if json {
        let figures = Figures {
            native_us: round(native_us),
            rust_us: of(Language::Rust),
            javascript_us: of(Language::TypeScript),
            python_us: of(Language::Python),
            go_us: of(Language::Go),
            ready_100_warm_ms: round(millis(crowd.warm)),
            mib_each: report::round(crowd.mib_each),
            p99_hostile_vs_quiet: report::round(p99_hostile_vs_quiet),
        };
        println!("{}", serde_json::to_string(&figures)?);
        return others_are_undisturbed(p99_hostile_vs_quiet);
    }
    println!(
        "{:<28}{:>12}{:>12}{:>14}",
        "house-rules, one review", "µs", "KiB", "load ms"
    );
    for row in &rows {
        let load = row.load.as_millis();
        println!("{:<28}{:>12.1}{:>12}{load:>14}", row.language.as_str(), row.us, row.kib);
    }
    println!("{:<28}{native_us:>12.1}", "the Rust function, natively");
    println!("\n{:<28}{:>12}{:>12}", "built-in policies, in Rust", "µs", "native µs");
    for policy in &builtins {
        println!(
            "{:<28}{:>12.1}{:>12.1}",
            policy.name, policy.sandboxed_us, policy.native_us
        );
    }
    println!(
        "\n{:<44}{:>10.0} ms",
        "start to ready with 100 policies, warm cache",
        millis(crowd.warm)
    );
    println!(
        "{:<44}{:>10.2} MiB (the code: {:.2} MiB)",
        "resident, for each of them beyond its code", crowd.mib_each, crowd.code_mib_each
    );
    println!(
        "{:<44}{p99_hostile_vs_quiet:>10.2}    ({} reviews by hostile policies)",
        "p99 of others beside hostile ones / without", hostile.reviews
    );
    others_are_undisturbed(p99_hostile_vs_quiet)
}

fn others_are_undisturbed(p99_hostile_vs_quiet: f64) -> Result<()> {
    ensure!(
        p99_hostile_vs_quiet <= P99_HOSTILE_VS_QUIET,
        "beside hostile policies the slowest of a hundred reviews of others takes {p99_hostile_vs_quiet:.2} times as long; it may take {P99_HOSTILE_VS_QUIET}"
    );
    Ok(())
}

async fn measure(language: Language) -> Result<Row> {
    let component = tidewaiter_examples::component(language)?;
    let kib = component.len() / 1024;
    let engine = Engine::new(Options::default())?;
    let begun = Instant::now();
    let policy = engine
        .load(PolicySpec {
            name: "house-rules".to_owned(),
            component: component.into(),
            settings: settings(),
            capabilities: vec![Capability::Cluster],
            limits: Limits {
                memory_mib: 128,
                ..Limits::default()
            },
            failure: FailurePolicy::Fail,
            mode: Mode::Enforce,
        })
        .await?;
    let load = begun.elapsed();
    let given: Given = serde_json::from_value(json!({"labels": {"team": "fraud"}}))?;
    let world = Prepared::new(&given, NAMESPACE, "house-rules", &[])?;
    let object = Document::new(Fixture::object())?;
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let case = Review {
            operation: Operation::Create,
            api_version: "serving.kserve.io/v1beta1",
            kind: "InferenceService",
            namespace: NAMESPACE,
            name: "fraud",
            object: &object,
            old_object: None,
            username: "ada",
            groups: &[],
        };
        let around = world.around(NAMESPACE, false);
        let outcome = review(std::slice::from_ref(&policy), &case, around, BUDGET).await;
        let run = outcome.runs.first().context("the policy did not run")?;
        ensure!(run.ended == Ended::Acted, "it ended with {:?}", run.ended);
        took.push(run.took.saturating_sub(run.host));
    }
    Ok(Row {
        language,
        us: median(took),
        kib,
        load,
    })
}

fn settings() -> Value {
    json!({"prefixes": ["s3://"], "maxReplicas": 10})
}

fn native() -> Result<f64> {
    let request = create(&serde_json::from_str(Fixture::object())?);
    let settings: Settings = serde_json::from_value(settings())?;
    let mut took = Vec::with_capacity(CALLS);
    World::new().namespace_label("team", "fraud").run(|| {
        for _ in 0..CALLS {
            let begun = Instant::now();
            std::hint::black_box(HouseRules::review(&request, &settings));
            took.push(begun.elapsed());
        }
    });
    Ok(median(took))
}

fn median(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1e6
}

fn round(us: f64) -> f64 {
    (us * 10.0).round() / 10.0
}
