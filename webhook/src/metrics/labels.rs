//! What labels say of a metric, and what their values mean: for docs/reference.md.

/// A label of some metrics.
#[derive(Debug)]
pub struct Label {
    /// As it is written.
    pub name: &'static str,
    /// The metrics that have it, without the prefix `tidewaiter_` and without what is added to a counter's or histogram's name.
    pub of: &'static [&'static str],
    /// What it says.
    pub says: &'static str,
    /// All that it can be, and what that means; empty where that depends on policies or the configuration.
    pub values: &'static [(&'static str, &'static str)],
}

/// Each label, in the order in which a metric has them.
pub const LABELS: &[Label] = &[
    Label {
        name: "endpoint",
        of: &["reviews", "review_seconds"],
        says: "which of the two webhooks was asked",
        values: &[
            ("mutate", "fills in, and refuses"),
            ("validate", "refuses what came by a way around the first"),
        ],
    },
    Label {
        name: "policy",
        of: &["policy_seconds", "policy_runs", "changes", "refusals"],
        says: "the policy's name, or `tidewaiter` where none speaks",
        values: &[],
    },
    Label {
        name: "ending",
        of: &["reviews", "review_seconds"],
        says: "how the review ended",
        values: &[
            (
                "untouched",
                "nothing to judge: leaving, standing still, stopped, ignored, or no policy matches",
            ),
            ("unchanged", "judged, and nothing to change"),
            ("patched", "admitted with what was filled in"),
            ("refused", "by a policy, or by what it asks for; or it was no object"),
            ("failed", "refused because something of Tidewaiter's own failed"),
            ("invalid", "not a review: an HTTP error"),
            (
                "shed",
                "turned away with 503, since too many were being answered: it had no turn within a second",
            ),
        ],
    },
    Label {
        name: "ending",
        of: &["policy_seconds", "policy_runs"],
        says: "how the policy's run ended",
        values: &[
            ("passed", "it had nothing to say"),
            ("acted", "it filled something in, warned, or asked for credentials"),
            ("denied", "it refused the object"),
            (
                "denied_in_vain",
                "it would have refused, which doesn't count: `mode: audit`, a stopped service, or nothing that it judges changed",
            ),
            (
                "failed",
                "it trapped, took too long, or answered what the contract doesn't allow",
            ),
        ],
    },
    Label {
        name: "field",
        of: &["changes"],
        says: "the last part of the field's path, or `annotations` or `labels`; `other` after the first 256 pairs of policy and field",
        values: &[],
    },
    Label {
        name: "code",
        of: &["refusals"],
        says: "the refusal's code, as the policy's page lists them; `other` after the first 256 pairs of policy and code",
        values: &[],
    },
    Label {
        name: "result",
        of: &["credentials"],
        says: "what came of it",
        values: &[
            ("unchanged", "they were there, as they should be"),
            ("written", "by a review, which needed them"),
            (
                "renewed",
                "by the leader, since they were not equal to their source, or gone",
            ),
            ("rotated", "a minted key was replaced before it ended"),
            (
                "collected",
                "deleted, since no service of the namespace used them any more",
            ),
            ("revoked", "a minted key was taken back"),
            (
                "refused",
                "the API server said no, or the backend grants the namespace nothing",
            ),
            ("unreachable", "the API server didn't answer in time"),
            (
                "unusable",
                "the backend's Secret is gone or lacks a key, or no key can be minted",
            ),
            ("stale", "an update was admitted with the older ones that were there"),
            ("untold", "a minted key was written, and its store doesn't take it yet"),
        ],
    },
    Label {
        name: "what",
        of: &["reloads"],
        says: "what is new",
        values: &[
            ("configuration", "StorageBackends, WasmPolicies and what they refer to"),
            ("certificate", "the one for TLS"),
        ],
    },
    Label {
        name: "result",
        of: &["reloads"],
        says: "what came of it",
        values: &[
            ("ok", "all of it is in use"),
            ("failed", "not all of it can be used; what was good before stays"),
        ],
    },
    Label {
        name: "backend",
        of: &[
            "breaker_open",
            "backend_credentials_valid",
            "credentials_stale",
            "credentials_age_seconds",
        ],
        says: "the StorageBackend's name",
        values: &[],
    },
    Label {
        name: "cache",
        of: &["cache_lookups"],
        says: "where it was looked for",
        values: &[
            ("stores", "answers of model stores, in memory"),
            ("policies", "compiled policies, on disk"),
        ],
    },
    Label {
        name: "result",
        of: &["cache_lookups"],
        says: "what came of it",
        values: &[("hit", "it was there"), ("miss", "it was not")],
    },
    Label {
        name: "result",
        of: &["swept"],
        says: "what came of it",
        values: &[
            ("mended", "what it lacked was filled in"),
            ("refused", "it would have been refused, and is left as it is"),
            (
                "standing",
                "it was changed and would be refused if it came now; a review lets that pass where it was so before",
            ),
            ("failed", "what it lacked could not be filled in, and was given up"),
        ],
    },
    Label {
        name: "result",
        of: &["audited"],
        says: "what today's policies say",
        values: &[
            ("pass", "nothing"),
            ("warn", "it would be changed"),
            ("fail", "it would be refused"),
            ("error", "it could not be judged"),
        ],
    },
];

/// The labels of a metric.
pub fn of(metric: &str) -> impl Iterator<Item = &'static Label> {
    LABELS.iter().filter(move |label| label.of.contains(&metric))
}
