//! An `InferenceService` is paid for by a cost centre. Its own label says which; without one, the namespace's.
//!
//! `cost-center.yaml` beside this crate is the same rule for Kyverno. Its two rules, one that mutates and one that validates, are one function here: a value
//! that is filled in is the one that was judged.

use serde::Deserialize;
use tidewaiter_policy::{Policy, Request, Verdict, cluster};

const LABEL: &str = "cost-center";

/// The policy.
pub struct CostCenter;

/// Nothing can be set.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Labels {
    cost_center: Option<String>,
}

impl Policy for CostCenter {
    type Settings = Settings;
    const NAME: &'static str = "cost-center";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "Every service says which cost centre pays for it";

    fn review(request: &Request, _: &Settings) -> Verdict {
        let object: Object = serde_json::from_str(&request.object).unwrap_or_default();
        let own = object.metadata.labels.and_then(|labels| labels.cost_center);
        let namespaces = || cluster::namespace_labels().into_iter().find(|label| label.key == LABEL);
        let (center, is_own) = match own {
            Some(own) => (own, true),
            None => match namespaces() {
                Some(label) => (label.value, false),
                None => (String::new(), false),
            },
        };
        if !is_center(&center) {
            return Verdict::admit().deny(
                "no-cost-center",
                format!(
                    "label {LABEL} is missing or is none: write CC- and four digits, or label the namespace {}",
                    request.namespace
                ),
                Some("/metadata/labels"),
            );
        }
        if is_own {
            return Verdict::admit();
        }
        Verdict::admit().fill(
            "/metadata/labels/cost-center",
            center,
            "the cost centre of the namespace",
        )
    }
}

fn is_center(text: &str) -> bool {
    text.strip_prefix("CC-")
        .is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

tidewaiter_policy::export!(CostCenter);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewaiter_policy::testing::{World, create};

    use super::*;

    fn review(namespaces: Option<&str>, labels: &serde_json::Value) -> Verdict {
        let world = namespaces
            .into_iter()
            .fold(World::new(), |world, value| world.namespace_label(LABEL, value));
        world.review::<CostCenter>(&create(&json!({"metadata": {"name": "fraud", "labels": labels}})))
    }

    #[test]
    fn a_service_with_its_own_is_let_through_as_it_is() {
        assert_eq!(
            review(Some("CC-0001"), &json!({"cost-center": "CC-4711"})),
            Verdict::admit()
        );
    }

    #[test]
    fn the_namespaces_is_filled_in() {
        let filled = Verdict::admit().fill(
            "/metadata/labels/cost-center",
            "CC-0001",
            "the cost centre of the namespace",
        );
        assert_eq!(review(Some("CC-0001"), &json!(null)), filled);
        assert_eq!(review(Some("CC-0001"), &json!({"team": "a"})), filled);
    }

    #[test]
    fn one_that_nobody_pays_for_is_refused() {
        for (namespaces, labels) in [
            (None, json!({})),
            (Some("CC-12"), json!({})),
            (Some("CC-0001"), json!({"cost-center": "marketing"})),
        ] {
            let denial = review(namespaces, &labels).denial.unwrap();
            assert_eq!(
                denial.message,
                "label cost-center is missing or is none: write CC- and four digits, or label the namespace team-a"
            );
        }
    }
}
