//! LimitRanges: what they fill into a Pod, and what they refuse.
//!
//! Source: `plugin/pkg/admission/limitranger/admission.go` of Kubernetes 1.36. It fills in defaults before anything is counted against a quota.

use serde::Deserialize;

use crate::pod::{Amounts, Container, Pod, fill};

/// A LimitRange.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LimitRange {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    limits: Vec<Item>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Item {
    #[serde(rename = "type")]
    of: String,
    max: Option<Amounts>,
    min: Option<Amounts>,
    #[serde(rename = "default")]
    limits: Option<Amounts>,
    #[serde(rename = "defaultRequest")]
    requests: Option<Amounts>,
}

/// A container that is larger or smaller than a LimitRange lets it be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    pub(crate) limit_range: String,
    /// "container kserve-container asks for 8Gi of memory, and at most 4Gi is allowed".
    pub(crate) what: String,
}

/// Reads them. None where one can't be read.
pub(crate) fn read<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Vec<LimitRange>> {
    texts.map(|text| serde_json::from_str(text).ok()).collect()
}

impl LimitRange {
    /// Fills its defaults into the containers that say nothing.
    pub(crate) fn fill(&self, pod: &mut Pod) {
        for item in self.for_containers() {
            for container in pod.all_mut() {
                fill(&mut container.resources.limits, item.limits.as_ref());
                fill(&mut container.resources.requests, item.requests.as_ref());
            }
        }
    }

    /// The first container that is out of its range, of those that say how much they ask.
    pub(crate) fn refuses(&self, pod: &Pod) -> Option<OutOfRange> {
        let mut items = self.for_containers();
        let what = items.find_map(|item| pod.all().find_map(|container| item.refuses(container)))?;
        Some(OutOfRange {
            limit_range: self.metadata.name.clone(),
            what,
        })
    }

    fn for_containers(&self) -> impl Iterator<Item = &Item> {
        self.spec.limits.iter().filter(|item| item.of == "Container")
    }
}

impl Item {
    fn refuses(&self, container: &Container) -> Option<String> {
        let above = self.max.iter().flatten().find_map(|(resource, max)| {
            let asked = container.limit(resource).max(container.request(resource))?;
            (asked > *max).then_some((resource, asked, "at most", max))
        });
        let below = || {
            self.min.iter().flatten().find_map(|(resource, min)| {
                let asked = container.request(resource)?;
                (asked < *min).then_some((resource, asked, "at least", min))
            })
        };
        let (resource, asked, bound, allowed) = above.or_else(below)?;
        Some(format!(
            "container {} asks for {asked} of {resource}, and {bound} {allowed} is allowed",
            container.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::{Component, Resources};

    fn range(items: Value) -> LimitRange {
        serde_json::from_str(&json!({"metadata": {"name": "small"}, "spec": {"limits": items}}).to_string()).unwrap()
    }

    fn pod(resources: &Value) -> Pod {
        let component: Component =
            serde_json::from_str(&json!({"containers": [{"name": "x", "resources": resources}]}).to_string()).unwrap();
        Pod::of(&component, None, Some(&Resources::default()))
    }

    #[test]
    fn defaults_are_filled_in_where_nothing_is_said() {
        let range = range(json!([
            {"type": "Container", "default": {"memory": "1Gi", "cpu": "1"}, "defaultRequest": {"cpu": "100m"}},
            {"type": "Pod", "max": {"memory": "1Mi"}},
        ]));
        let mut pod = pod(&json!({"limits": {"memory": "3Gi"}}));
        range.fill(&mut pod);
        let said = |amounts: &Option<Amounts>| {
            serde_json::to_string(
                &amounts
                    .iter()
                    .flatten()
                    .map(|(name, amount)| format!("{name} {amount}"))
                    .collect::<Vec<_>>(),
            )
            .unwrap()
        };
        assert_eq!(said(&pod.containers[0].resources.limits), r#"["cpu 1","memory 3Gi"]"#);
        assert_eq!(said(&pod.containers[0].resources.requests), r#"["cpu 100m"]"#);
    }

    #[test]
    fn a_container_out_of_range_is_refused_and_one_that_says_nothing_is_not() {
        let range = range(json!([{"type": "Container", "max": {"memory": "4Gi"}, "min": {"cpu": "100m"}}]));
        let refuses = |resources: &Value| range.refuses(&pod(resources)).map(|refused| refused.what);
        assert_eq!(
            refuses(&json!({"limits": {"memory": "8Gi"}})).unwrap(),
            "container x asks for 8Gi of memory, and at most 4Gi is allowed"
        );
        assert_eq!(
            refuses(&json!({"requests": {"cpu": "10m"}})).unwrap(),
            "container x asks for 10m of cpu, and at least 100m is allowed"
        );
        assert_eq!(
            refuses(&json!({"limits": {"memory": "4Gi"}, "requests": {"cpu": "1"}})),
            None
        );
        assert_eq!(refuses(&json!({})), None);
    }
}
