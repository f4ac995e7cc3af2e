//! LimitRanges: what they fill into a Pod, and what they refuse.
//!
//! Source: `plugin/pkg/admission/limitranger/admission.go` of Kubernetes 1.36. It fills in defaults before anything is counted against a quota. Containers and
//! Pods have ranges of their own; a Pod takes the larger of what its containers ask together and what the hungriest init container asks.

use serde::Deserialize;

use crate::Added;
use crate::pod::{Amounts, Container, Pod, Resources, fill};

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
    max_limit_request_ratio: Option<Amounts>,
    #[serde(rename = "default")]
    limits: Option<Amounts>,
    #[serde(rename = "defaultRequest")]
    requests: Option<Amounts>,
}

/// A container, or a Pod, that a LimitRange doesn't let be as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    pub(crate) limit_range: String,
    /// Whether no such Pod is ever made. Where not, what is added to it may bring it into range.
    pub(crate) certain: bool,
    /// None where it is the Pod.
    pub(crate) container: Option<String>,
    /// "container kserve-container asks for 8Gi of memory, and at most 4Gi is allowed".
    pub(crate) what: String,
}

/// In which way something is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Above,
    Below,
    /// The limit is too many times the request.
    Apart,
    /// It has to say how much it asks, or may use.
    Unsaid,
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

    /// All that it has against a Pod. `added`: whether something else may still add what a container doesn't say.
    pub(crate) fn refuses(&self, pod: &Pod, added: Added) -> Vec<OutOfRange> {
        let out = |certain, container: Option<&Container>, what| OutOfRange {
            limit_range: self.metadata.name.clone(),
            certain,
            container: container.map(|container| container.name.clone()),
            what,
        };
        let mut all = Vec::new();
        for (item, container) in self
            .for_containers()
            .flat_map(|item| pod.all().map(move |one| (item, one)))
        {
            let subject = format!("container {}", container.name);
            for (way, what) in item.refuses(&subject, &container.resources) {
                match way {
                    // What its runtime says may be missing here, and be filled in by default.
                    Way::Apart | Way::Unsaid if !pod.complete => {}
                    Way::Above | Way::Below | Way::Apart => all.push(out(true, Some(container), what)),
                    Way::Unsaid => all.push(out(added == Added::Never, Some(container), what)),
                }
            }
        }
        let whole = together(pod);
        let is_known = pod.complete && pod.as_one.is_none();
        for item in self.spec.limits.iter().filter(|item| item.of == "Pod") {
            for (way, what) in item.refuses("the Pod", &whole) {
                match way {
                    Way::Above => all.push(out(is_known, None, what)),
                    // Whoever adds a container, as Knative does, adds to what the Pod asks.
                    Way::Below | Way::Apart | Way::Unsaid if is_known => all.push(out(false, None, what)),
                    Way::Below | Way::Apart | Way::Unsaid => {}
                }
            }
        }
        all
    }

    fn for_containers(&self) -> impl Iterator<Item = &Item> {
        self.spec.limits.iter().filter(|item| item.of == "Container")
    }
}

/// What a Pod asks as one.
fn together(pod: &Pod) -> Resources {
    let sum = |amounts: fn(&Container) -> Option<&Amounts>| {
        let mut sum = Amounts::new();
        for (resource, amount) in pod.containers.iter().filter_map(amounts).flatten() {
            let so_far = sum.entry(resource.clone()).or_default();
            *so_far = *so_far + *amount;
        }
        for (resource, amount) in pod.init.iter().filter_map(amounts).flatten() {
            let so_far = sum.entry(resource.clone()).or_default();
            *so_far = (*so_far).max(*amount);
        }
        Some(sum)
    };
    Resources {
        limits: sum(|container| container.resources.limits.as_ref()),
        requests: sum(|container| container.resources.requests.as_ref()),
    }
}

impl Item {
    /// All that it has against who asks for this much.
    fn refuses(&self, subject: &str, asks: &Resources) -> Vec<(Way, String)> {
        let mut all = Vec::new();
        let said = |amounts: &Option<Amounts>, resource: &str| amounts.as_ref()?.get(resource).copied();
        let unsaid = |what: &str, resource: &str| {
            let words = format!("{subject} says no {what} of {resource}, and has to");
            (Way::Unsaid, words)
        };
        for (resource, max) in self.max.iter().flatten() {
            let limit = said(&asks.limits, resource);
            match limit.max(said(&asks.requests, resource)) {
                Some(asked) if asked > *max => all.push((
                    Way::Above,
                    format!("{subject} asks for {asked} of {resource}, and at most {max} is allowed"),
                )),
                _ if limit.is_none() => all.push(unsaid("limit", resource)),
                _ => {}
            }
        }
        for (resource, min) in self.min.iter().flatten() {
            match said(&asks.requests, resource) {
                Some(asked) if asked < *min => all.push((
                    Way::Below,
                    format!("{subject} asks for {asked} of {resource}, and at least {min} is allowed"),
                )),
                None => all.push(unsaid("request", resource)),
                Some(_) => {}
            }
        }
        for (resource, ratio) in self.max_limit_request_ratio.iter().flatten() {
            let positive = |amounts| said(amounts, resource).filter(|amount| amount.is_positive());
            match (positive(&asks.limits), positive(&asks.requests)) {
                (Some(limit), Some(request)) if limit.is_above(*ratio, request) => all.push((
                    Way::Apart,
                    format!(
                        "{subject} asks for {request} of {resource} and may use {limit}, more than {ratio} times as much"
                    ),
                )),
                (Some(_), Some(_)) => {}
                (_, None) => all.push(unsaid("request", resource)),
                (None, _) => all.push(unsaid("limit", resource)),
            }
        }
        all
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
        let refuses = |resources: &Value| certain(&range, &pod(resources), Added::Maybe);
        assert_eq!(
            refuses(&json!({"limits": {"memory": "8Gi"}})),
            ["container x asks for 8Gi of memory, and at most 4Gi is allowed"]
        );
        assert_eq!(
            refuses(&json!({"requests": {"cpu": "10m"}})),
            ["container x asks for 10m of cpu, and at least 100m is allowed"]
        );
        assert!(refuses(&json!({"limits": {"memory": "4Gi"}, "requests": {"cpu": "1"}})).is_empty());
        assert!(refuses(&json!({})).is_empty());
    }

    fn certain(range: &LimitRange, pod: &Pod, added: Added) -> Vec<String> {
        let refused = range.refuses(pod, added).into_iter();
        refused.filter(|one| one.certain).map(|one| one.what).collect()
    }

    fn uncertain(range: &LimitRange, pod: &Pod) -> Vec<String> {
        let refused = range.refuses(pod, Added::Maybe).into_iter();
        refused.filter(|one| !one.certain).map(|one| one.what).collect()
    }

    #[test]
    fn a_limit_too_many_times_its_request_is_refused_after_defaults() {
        let range = range(json!([
            {"type": "Container", "maxLimitRequestRatio": {"cpu": "2.5"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}},
        ]));
        let refuses = |resources: &Value| {
            let mut pod = pod(resources);
            range.fill(&mut pod);
            certain(&range, &pod, Added::Maybe)
        };
        assert_eq!(
            refuses(&json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "2"}})),
            ["container x asks for 500m of cpu and may use 2, more than 2500m times as much"]
        );
        assert_eq!(
            refuses(&json!({"requests": {"cpu": "500m"}})).len(),
            1,
            "the default is 2"
        );
        for fine in [
            json!({}),
            json!({"requests": {"cpu": "800m"}}),
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2500m"}}),
        ] {
            assert!(refuses(&fine).is_empty(), "{fine}");
        }
        // Of an unknown runtime's server nobody knows what the defaults are filled into.
        let mut unknown = pod(&json!({"requests": {"cpu": "500m"}}));
        unknown.complete = false;
        range.fill(&mut unknown);
        assert!(range.refuses(&unknown, Added::Never).is_empty());
    }

    #[test]
    fn who_says_nothing_has_no_ratio_and_is_refused_where_nobody_adds_it() {
        let range = range(json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}]));
        for (asks, says) in [
            (json!({}), "container x says no request of cpu, and has to"),
            (
                json!({"requests": {"cpu": "0"}}),
                "container x says no request of cpu, and has to",
            ),
            (
                json!({"requests": {"cpu": "1"}}),
                "container x says no limit of cpu, and has to",
            ),
        ] {
            assert_eq!(uncertain(&range, &pod(&asks)), [says]);
            assert_eq!(certain(&range, &pod(&asks), Added::Never), [says]);
        }
    }

    #[test]
    fn a_pod_is_as_large_as_its_containers_together_or_as_the_hungriest_before_them() {
        let component: Component = serde_json::from_str(
            &json!({
                "initContainers": [
                    {"name": "i", "resources": {"requests": {"memory": "3Gi"}}},
                    {"name": "j", "resources": {"requests": {"memory": "3Gi"}}},
                ],
                "containers": [
                    {"name": "x", "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}}},
                    {"name": "y", "resources": {"requests": {"memory": "1Gi"}}},
                ],
            })
            .to_string(),
        )
        .unwrap();
        let mut pod = Pod::of(&component, None, Some(&Resources::default()));
        let of_pods = |rules: Value| range(json!([rules]));
        let max = |memory: &str| of_pods(json!({"type": "Pod", "max": {"memory": memory}}));
        assert_eq!(
            certain(&max("3Gi"), &pod, Added::Maybe),
            ["the Pod asks for 4Gi of memory, and at most 3Gi is allowed"]
        );
        assert!(max("4Gi").refuses(&pod, Added::Never).is_empty());
        // What is added to a Pod may bring it into these.
        for (rules, says) in [
            (
                json!({"type": "Pod", "min": {"memory": "4Gi"}}),
                "the Pod asks for 3Gi of memory, and at least 4Gi is allowed",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": {"memory": "1"}}),
                "the Pod asks for 3Gi of memory and may use 4Gi, more than 1 times as much",
            ),
            (
                json!({"type": "Pod", "max": {"cpu": "1"}}),
                "the Pod says no limit of cpu, and has to",
            ),
        ] {
            let range = of_pods(rules);
            assert_eq!(uncertain(&range, &pod), [says]);
            assert!(certain(&range, &pod, Added::Never).is_empty());
        }
        pod.as_one = Some(Resources::default());
        assert_eq!(uncertain(&max("3Gi"), &pod).len(), 1);
        (pod.as_one, pod.complete) = (None, false);
        assert_eq!(uncertain(&max("3Gi"), &pod).len(), 1);
        assert!(
            of_pods(json!({"type": "Pod", "min": {"memory": "4Gi"}}))
                .refuses(&pod, Added::Never)
                .is_empty()
        );
    }
}
