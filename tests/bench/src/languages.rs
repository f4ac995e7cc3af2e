//! The example policy in each language: a fresh instance and its call, beside the same Rust function called natively.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use house_rules::{HouseRules, Settings};
use serde_json::{Value, json};
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Ended, Operation, Review};
use tidewaiter_engine::{Capability, Engine, FailurePolicy, Limits, Mode, Options, PolicySpec, review};
use tidewaiter_policy::Policy as _;
use tidewaiter_policy::testing::{World, create};
use tidewaiter_tools::{Given, Language, Prepared};

use crate::fixture::Fixture;
use crate::goals::{Figures, P99_HOSTILE_VS_QUIET};
use crate::load::Round;
use crate::report::{millis, pairs};
use crate::{crowd, goals, hostile, policies};

const CALLS: usize = 2_000;
const BUDGET: Duration = Duration::from_secs(2);
const NAMESPACE: &str = "team-a";

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
    let of = |language| rows.iter().find(|row| row.language == language).map(|row| row.us);
    let figures = Figures {
        native_us,
        rust_us: of(Language::Rust),
        javascript_us: of(Language::TypeScript),
        python_us: of(Language::Python),
        go_us: of(Language::Go),
        ready_100_warm_ms: millis(crowd.warm),
        mib_each: crowd.mib_each,
        p99_hostile_vs_quiet: pairs(&hostile.quiet, &hostile.beside, p99),
    };
    if json {
        println!("{}", serde_json::to_string(&figures.rounded())?);
        return others_are_undisturbed(&figures);
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
    println!("\nA hundred policies have {:.2} MiB of code each.", crowd.code_mib_each);
    println!("Hostile policies reviewed {} times.\n", hostile.reviews);
    let slowest = builtins.iter().map(|policy| policy.sandboxed_us).reduce(f64::max);
    print!("{}", goals::table(&figures.goals(slowest)));
    others_are_undisturbed(&figures)
}

/// Others shall not feel what hostile policies do: of the goals the one that fails the run, since it is no time of this machine.
fn others_are_undisturbed(figures: &Figures) -> Result<()> {
    let ratio = figures.p99_hostile_vs_quiet;
    ensure!(
        ratio <= P99_HOSTILE_VS_QUIET,
        "beside hostile policies the slowest of a hundred reviews of others takes {ratio:.2} times as long; it may take {P99_HOSTILE_VS_QUIET}"
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
