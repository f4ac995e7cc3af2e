//! The figures, as a table or as one JSON object.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::apply::Apply;
use crate::load::Round;
use crate::policies::Policy;
use crate::servers::{Reviews, Starts};

pub(crate) struct Report {
    /// A review without HTTP and TLS, in microseconds.
    pub(crate) whole_us: f64,
    pub(crate) starts: Starts,
    pub(crate) reviews: Reviews,
    pub(crate) policies: Vec<Policy>,
    /// Or why there are no such figures.
    pub(crate) apply: Result<Apply, String>,
}

/// What `--json` prints. Ratios are medians over the rounds; times are of this machine in this run.
#[derive(Serialize)]
struct Figures {
    review_vs_echo: f64,
    p99_vs_echo: f64,
    policy_us_max: f64,
    ready_warm_ms: f64,
    ready_cold_ms: f64,
    rss_mib: f64,
    /// Null where there is no cluster to measure on.
    apply_vs_none: Option<f64>,
}

impl Report {
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        let figures = self.figures();
        if json {
            println!("{}", serde_json::to_string(&figures)?);
            return Ok(());
        }
        let Reviews { echo, webhook, rss_mib } = &self.reviews;
        println!(
            "{:<44}{:>10}{:>12}{:>12}",
            "HTTP/1.1, TLS, 16 connections", "a second", "p50 µs", "p99 µs"
        );
        for (name, rounds) in [
            ("bare axum + rustls echo of the same bytes", echo),
            ("webhook with all built-in policies", webhook),
        ] {
            let [rate, p50, p99] = [
                median(rounds, |r| r.rate),
                median(rounds, |r| micros(r.p50)),
                median(rounds, |r| micros(r.p99)),
            ];
            println!("{name:<44}{rate:>10.0}{p50:>12.0}{p99:>12.0}");
        }
        let p50_vs_echo = pairs(echo, webhook, |r| micros(r.p50));
        println!(
            "{:<44}{:>10.2}{:>12.2}{:>12.2}",
            "webhook / echo, median of pairs", figures.review_vs_echo, p50_vs_echo, figures.p99_vs_echo
        );
        println!(
            "\n{:<44}{:>10}{:>12}{:>14}",
            "one policy, instance and call", "µs", "native µs", "host calls µs"
        );
        for policy in &self.policies {
            println!(
                "{:<44}{:>10.1}{:>12.1}{:>14.1}",
                policy.name, policy.sandboxed_us, policy.native_us, policy.host_us
            );
        }
        println!("{:<44}{:>10.1}", "a whole review, without HTTP and TLS", self.whole_us);
        println!(
            "\n{:<44}{:>10.0} ms",
            "start to ready, warm cache", figures.ready_warm_ms
        );
        println!("{:<44}{:>10.0} ms", "start to ready, cold cache", figures.ready_cold_ms);
        println!("{:<44}{rss_mib:>10.1} MiB\n", "resident under load");
        match &self.apply {
            Ok(apply) => apply_table(apply),
            Err(why) => println!("Left out: the time of `kubectl apply` through an API server: {why}"),
        }
        Ok(())
    }

    fn figures(&self) -> Figures {
        let Reviews { echo, webhook, rss_mib } = &self.reviews;
        Figures {
            review_vs_echo: round(pairs(echo, webhook, |r| r.rate)),
            p99_vs_echo: round(pairs(echo, webhook, |r| micros(r.p99))),
            policy_us_max: round(
                self.policies
                    .iter()
                    .map(|policy| policy.sandboxed_us)
                    .fold(0.0, f64::max),
            ),
            ready_warm_ms: round(millis(self.starts.warm)),
            ready_cold_ms: round(millis(self.starts.cold)),
            rss_mib: round(*rss_mib),
            apply_vs_none: self
                .apply
                .as_ref()
                .ok()
                .map(|apply| round(pairs(&apply.without, &apply.with, |took| millis(*took)))),
        }
    }
}

fn apply_table(apply: &Apply) {
    println!(
        "{:<54}{:>12}{:>12}",
        "kubectl apply of a new service, real API server", "p50 ms", "p99 ms"
    );
    let row = |name: &str, times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        let at = |share: usize| millis(times[(times.len() * share / 100).min(times.len() - 1)]);
        println!("{name:<54}{:>12.1}{:>12.1}", at(50), at(99));
        (at(50), at(99))
    };
    let without = row("KServe's webhooks alone", &apply.without);
    let with = row("with Tidewaiter's", &apply.with);
    println!(
        "{:<54}{:>12.2}{:>12.2}",
        "with / without (p50: median of pairs)",
        pairs(&apply.without, &apply.with, |took| millis(*took)),
        with.1 / without.1
    );
}

/// The median of the ratios of two sides that took turns.
pub(crate) fn pairs<T>(baseline: &[T], measured: &[T], of: impl Fn(&T) -> f64) -> f64 {
    middle(measured.iter().zip(baseline).map(|(m, b)| of(m) / of(b)).collect())
}

fn median(rounds: &[Round], of: fn(&Round) -> f64) -> f64 {
    middle(rounds.iter().map(of).collect())
}

pub(crate) fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn tenth(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

pub(crate) fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}
