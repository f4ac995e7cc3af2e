//! ResourceQuotas: what a Pod takes of them, and whether it can ever be made.
//!
//! Source: `pkg/quota/v1/evaluator/core/pods.go` and `staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go` of Kubernetes 1.36: a Pod
//! takes the larger of what its containers ask together and what the hungriest init container asks; of what a quota limits, each container has to say how much it asks.

use serde::Deserialize;
use tidewaiter_policy::core::quantity::Quantity;

use crate::Added;
use crate::pod::{Amounts, Container, Pod};

/// A ResourceQuota.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResourceQuota {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    hard: Option<Amounts>,
    scopes: Option<Vec<String>>,
    scope_selector: Option<ScopeSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeSelector {
    match_expressions: Option<Vec<ScopeRequirement>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeRequirement {
    scope_name: String,
    operator: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    used: Option<Amounts>,
}

/// Resources of which a quota wants every container to say how much it asks, with the name under which the container says so.
const MUST_BE_SAID: [(&str, Asked); 6] = [
    ("cpu", Asked::Request("cpu")),
    ("requests.cpu", Asked::Request("cpu")),
    ("memory", Asked::Request("memory")),
    ("requests.memory", Asked::Request("memory")),
    ("limits.cpu", Asked::Limit("cpu")),
    ("limits.memory", Asked::Limit("memory")),
];

/// Objects that KServe makes for every service, by the names that quotas count them under.
const COUNTED: [&str; 6] = [
    "pods",
    "count/pods",
    "count/deployments.apps",
    "count/replicasets.apps",
    "services",
    "count/services",
];

#[derive(Debug, Clone, Copy)]
enum Asked<'a> {
    Request(&'a str),
    Limit(&'a str),
}

impl<'a> Asked<'a> {
    /// By the name under which a quota has it; none where a quota doesn't count it by what Pods ask.
    fn named(name: &'a str) -> Option<Self> {
        let known = MUST_BE_SAID.iter().find(|(known, _)| *known == name);
        known.map(|(_, asked)| *asked).or_else(|| {
            if let Some(resource) = name.strip_prefix("requests.") {
                Some(Self::Request(resource))
            } else {
                name.strip_prefix("limits.").map(Self::Limit)
            }
        })
    }

    fn of(self, container: &Container) -> Option<Quantity> {
        match self {
            Self::Request(resource) => container.request(resource),
            Self::Limit(resource) => container.limit(resource),
        }
    }

    fn of_pod(self, pod: &Pod) -> Quantity {
        let said = |container| self.of(container).unwrap_or_default();
        let together: Quantity = pod.containers.iter().map(said).sum();
        pod.init.iter().map(said).fold(together, Quantity::max)
    }
}

/// What a quota says to a Pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// More than the quota has in all: no such Pod is ever made.
    Never {
        resource: String,
        asked: Quantity,
        hard: Quantity,
    },
    /// Containers that don't say how much they ask: no such Pod is ever made, unless another webhook says it for them.
    Unsaid {
        resource: &'static str,
        containers: Vec<String>,
    },
    /// More than is left now.
    NotNow {
        resource: String,
        asked: Quantity,
        left: Quantity,
    },
    /// Fewer Pods than the service is to have at least.
    Fewer {
        resource: String,
        asked: Quantity,
        hard: Quantity,
    },
}

impl Said {
    /// Whether it is certain that the service can't run, where something else than a LimitRange adds to Pods what isn't said, or doesn't.
    pub(crate) fn is_certain(&self, added: Added) -> bool {
        match self {
            Self::Never { .. } => true,
            Self::Unsaid { .. } => added == Added::Never,
            Self::NotNow { .. } | Self::Fewer { .. } => false,
        }
    }
}

/// Reads them. None where one can't be read.
pub(crate) fn read<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Vec<ResourceQuota>> {
    texts.map(|text| serde_json::from_str(text).ok()).collect()
}

impl ResourceQuota {
    pub(crate) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The gravest thing that it says to a Pod of which there are to be `replicas` at least.
    pub(crate) fn says(&self, pod: &Pod, replicas: u32) -> Option<Said> {
        if !self.counts(pod) {
            return None;
        }
        let hard = || self.spec.hard.iter().flatten();
        let one = Quantity::units(1);
        let needs = || {
            hard().filter_map(|(name, hard)| {
                let asked = if COUNTED.contains(&name.as_str()) {
                    one
                } else {
                    Asked::named(name)?.of_pod(pod)
                };
                Some((name, asked, *hard)).filter(|(_, asked, _)| asked.is_positive())
            })
        };
        if let Some((name, asked, hard)) = needs().find(|(_, asked, hard)| asked > hard) {
            return Some(Said::Never {
                resource: name.clone(),
                asked,
                hard,
            });
        }
        if let Some(unsaid) = self.unsaid(pod) {
            return Some(unsaid);
        }
        let for_pods = |name: &str| name == "pods" || name == "count/pods" || !COUNTED.contains(&name);
        let many = needs().find(|(name, asked, hard)| for_pods(name) && asked.times(replicas) > *hard);
        if let Some((name, asked, hard)) = many {
            return Some(Said::Fewer {
                resource: name.clone(),
                asked: asked.times(replicas),
                hard,
            });
        }
        needs().find_map(|(name, asked, hard)| {
            let used = self.status.used.as_ref()?.get(name)?;
            let left = hard.minus(*used).max(Quantity::ZERO);
            (asked > left).then(|| Said::NotNow {
                resource: name.clone(),
                asked,
                left,
            })
        })
    }

    /// Where not all containers are known, nobody can say that one of them is silent.
    fn unsaid(&self, pod: &Pod) -> Option<Said> {
        if !pod.complete {
            return None;
        }
        let hard = self.spec.hard.as_ref()?;
        MUST_BE_SAID
            .iter()
            .filter(|(name, _)| hard.contains_key(*name))
            .find_map(|(name, asked)| {
                let silent = pod.all().filter(|container| asked.of(container).is_none());
                let containers: Vec<_> = silent.map(|container| container.name.clone()).collect();
                (!containers.is_empty()).then_some(Said::Unsaid {
                    resource: name,
                    containers,
                })
            })
    }

    /// Whether it counts this Pod, as far as anybody can say; where not, it says nothing.
    fn counts(&self, pod: &Pod) -> bool {
        let asks = || pod.all().any(|container| !container.asks_nothing());
        let holds = |scope: &str| match scope {
            "NotTerminating" => !pod.terminating,
            "Terminating" => pod.terminating,
            "NotBestEffort" => asks(),
            "BestEffort" => pod.complete && !asks(),
            // Priority classes have a default that isn't seen from here.
            _ => false,
        };
        let selector = self.spec.scope_selector.as_ref();
        let mut requirements = selector
            .into_iter()
            .flat_map(|selector| selector.match_expressions.iter().flatten());
        self.spec.scopes.iter().flatten().all(|scope| holds(scope))
            && requirements.all(|requirement| requirement.operator == "Exists" && holds(&requirement.scope_name))
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
