//! What `bench --policies` measures, beside what it should come to.

use std::fmt::Write as _;

use serde::Serialize;

use crate::report::{round, tenth};

/// A ratio that is larger fails the run.
pub(crate) const P99_HOSTILE_VS_QUIET: f64 = 1.5;

/// What `--json` prints; null where a toolchain isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the unit is part of each name")]
pub(crate) struct Figures {
    pub(crate) native_us: f64,
    pub(crate) rust_us: Option<f64>,
    pub(crate) javascript_us: Option<f64>,
    pub(crate) python_us: Option<f64>,
    pub(crate) go_us: Option<f64>,
    /// From `exec` to ready, with a hundred policies in the cache on disk.
    pub(crate) ready_100_warm_ms: f64,
    /// Resident memory for each of a hundred policies, beyond its code.
    pub(crate) mib_each: f64,
    /// The server's p99 for others while hostile policies run, beside its own without; the median of pairs.
    pub(crate) p99_hostile_vs_quiet: f64,
}

impl Figures {
    pub(crate) fn rounded(self) -> Self {
        Self {
            native_us: tenth(self.native_us),
            rust_us: self.rust_us.map(tenth),
            javascript_us: self.javascript_us.map(tenth),
            python_us: self.python_us.map(tenth),
            go_us: self.go_us.map(tenth),
            ready_100_warm_ms: tenth(self.ready_100_warm_ms),
            mib_each: round(self.mib_each),
            p99_hostile_vs_quiet: round(self.p99_hostile_vs_quiet),
        }
    }

    /// With the slowest of the built-in policies, which are in Rust and have the same goal as one's own. Go has none.
    pub(crate) fn goals(&self, slowest_builtin_us: Option<f64>) -> Vec<Goal> {
        let of = |what, unit, most, measured| Goal {
            what,
            unit,
            most,
            measured,
        };
        vec![
            of("house-rules in Rust", "µs", 20.0, self.rust_us),
            of("the slowest built-in policy", "µs", 20.0, slowest_builtin_us),
            of("house-rules in TypeScript", "µs", 1_000.0, self.javascript_us),
            of("house-rules in Python", "µs", 3_000.0, self.python_us),
            of(
                "start to ready with 100 policies, warm cache",
                "ms",
                1_000.0,
                Some(self.ready_100_warm_ms),
            ),
            of(
                "resident, for each of them beyond its code",
                "MiB",
                0.5,
                Some(self.mib_each),
            ),
            of(
                "p99 of others beside hostile ones / without",
                "",
                P99_HOSTILE_VS_QUIET,
                Some(self.p99_hostile_vs_quiet),
            ),
        ]
    }
}

/// What a figure may come to at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    what: &'static str,
    unit: &'static str,
    most: f64,
    /// None where a toolchain isn't there.
    measured: Option<f64>,
}

impl Goal {
    /// The figure decides as it was measured, not as it is printed.
    fn came_to(&self) -> &'static str {
        match self.measured {
            Some(measured) if measured <= self.most => "met",
            Some(_) => "missed",
            None => "not measured",
        }
    }
}

pub(crate) fn table(goals: &[Goal]) -> String {
    let mut text = format!("{:<44}{:>10}{:>10}\n", "goal", "at most", "measured");
    for goal in goals {
        let places = if goal.most < 10.0 { 2 } else { 1 };
        let measured = goal
            .measured
            .map_or_else(|| "-".to_owned(), |figure| format!("{figure:.places$}"));
        let _ = writeln!(
            text,
            "{:<44}{:>10}{measured:>10} {:<4}{}",
            goal.what,
            goal.most,
            goal.unit,
            goal.came_to()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: Figures = Figures {
        native_us: 3.54,
        rust_us: Some(14.26),
        javascript_us: Some(1_000.0),
        python_us: None,
        go_us: Some(817.0),
        ready_100_warm_ms: 1_000.04,
        mib_each: 0.234,
        p99_hostile_vs_quiet: 1.504,
    };

    /// Scripts read them.
    #[test]
    fn the_names_of_the_figures_stay() {
        let printed = serde_json::to_value(FIGURES.rounded()).unwrap();
        assert_eq!(
            printed,
            serde_json::json!({
                "native_us": 3.5, "rust_us": 14.3, "javascript_us": 1_000.0, "python_us": null, "go_us": 817.0,
                "ready_100_warm_ms": 1_000.0, "mib_each": 0.23, "p99_hostile_vs_quiet": 1.5,
            })
        );
    }

    #[test]
    fn each_goal_is_met_or_missed_by_what_was_measured() {
        assert_eq!(
            table(&FIGURES.goals(Some(47.0))),
            "\
goal                                           at most  measured
house-rules in Rust                                 20      14.3 µs  met
the slowest built-in policy                         20      47.0 µs  missed
house-rules in TypeScript                         1000    1000.0 µs  met
house-rules in Python                             3000         - µs  not measured
start to ready with 100 policies, warm cache      1000    1000.0 ms  missed
resident, for each of them beyond its code         0.5      0.23 MiB met
p99 of others beside hostile ones / without        1.5      1.50     missed
"
        );
    }
}
