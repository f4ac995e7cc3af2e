//! Where the user lets a component's Pods run, as far as it is about the machine.
//!
//! Source: `pkg/scheduler` and `component-helpers/scheduling` of Kubernetes: terms of a required node affinity are alternatives, what stands in one holds together.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The label of nodes, now and before Kubernetes 1.14.
const LABELS: [&str; 2] = [ARCH, "beta.kubernetes.io/arch"];
/// The label of nodes.
pub(crate) const ARCH: &str = "kubernetes.io/arch";

/// Node selector and affinity of a component, or of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Placement {
    pub(crate) node_selector: Option<BTreeMap<String, String>>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) node_name: Option<String>,
}

/// A Pod's affinity, as far as it is about nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<Required>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Required {
    node_selector_terms: Vec<Term>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Term {
    match_expressions: Option<Vec<Requirement>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

impl Placement {
    /// A service's, over its runtime's: what a service says of a label or of node affinity counts.
    pub(crate) fn over(mut self, runtime: Self) -> Self {
        let mut selector = runtime.node_selector.unwrap_or_default();
        selector.extend(self.node_selector.take().into_iter().flatten());
        let required = |affinity: &Option<Affinity>| {
            affinity
                .as_ref()
                .and_then(|affinity| affinity.node_affinity.as_ref()?.required.as_ref())
                .is_some()
        };
        Self {
            node_selector: (!selector.is_empty()).then_some(selector),
            affinity: if required(&self.affinity) {
                self.affinity
            } else {
                runtime.affinity
            },
            node_name: self.node_name,
        }
    }

    /// Without a value of the label that this policy filled in.
    pub(crate) fn without_ours(mut self) -> Self {
        if let Some(selector) = &mut self.node_selector {
            selector.remove(ARCH);
            if selector.is_empty() {
                self.node_selector = None;
            }
        }
        self
    }

    /// Whether it names a node: then no scheduler looks for one.
    pub(crate) fn names_a_node(&self) -> bool {
        self.node_name.as_deref().is_some_and(|name| !name.is_empty())
    }

    /// Whether its Pods may run on such a machine, as far as the label says. What else it asks of a node isn't seen from here.
    pub(crate) fn allows(&self, architecture: &str) -> bool {
        let by_selector = LABELS.iter().all(|label| {
            let wanted = self.node_selector.as_ref().and_then(|selector| selector.get(*label));
            wanted.is_none_or(|wanted| wanted == architecture)
        });
        let terms = self.terms();
        by_selector && (terms.is_empty() || terms.iter().any(|term| term.allows(architecture)))
    }

    /// Whether it says anything about the machine.
    pub(crate) fn is_about_machines(&self) -> bool {
        let mut selector = self.node_selector.iter().flatten();
        let mut requirements = self.terms().iter().flat_map(Term::requirements);
        selector.any(|(key, _)| LABELS.contains(&key.as_str()))
            || requirements.any(|requirement| LABELS.contains(&requirement.key.as_str()))
    }

    /// Whether it asks for certain nodes, by whatever label: there may be none of them yet.
    pub(crate) fn asks_for_nodes(&self) -> bool {
        let mut selector = self.node_selector.iter().flatten();
        selector.next().is_some() || !self.terms().is_empty()
    }

    fn terms(&self) -> &[Term] {
        let affinity = self
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.required.as_ref());
        required.map_or(&[], |required| &required.node_selector_terms)
    }
}

impl Term {
    fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.match_expressions.iter().flatten()
    }

    fn allows(&self, architecture: &str) -> bool {
        let mut about = self
            .requirements()
            .filter(|requirement| LABELS.contains(&requirement.key.as_str()));
        about.all(|requirement| requirement.allows(architecture))
    }
}

impl Requirement {
    fn allows(&self, architecture: &str) -> bool {
        let listed = self.values.iter().flatten().any(|value| value == architecture);
        match self.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            // Every node has the label.
            "DoesNotExist" => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn placement(value: &Value) -> Placement {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    fn required(terms: &Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    #[test]
    fn a_machine_is_allowed_where_selector_and_one_term_of_the_affinity_allow_it() {
        let arch = |operator: &str, values: &[&str]| json!({"key": ARCH, "operator": operator, "values": values});
        let other = json!({"key": "pool", "operator": "In", "values": ["gpu"]});
        for (value, amd64, arm64, about) in [
            (json!({}), true, true, false),
            (json!({"nodeSelector": {"pool": "gpu"}}), true, true, false),
            (json!({"nodeSelector": {ARCH: "arm64"}}), false, true, true),
            (
                json!({"nodeSelector": {"beta.kubernetes.io/arch": "amd64"}}),
                true,
                false,
                true,
            ),
            (
                required(&json!([{"matchExpressions": [arch("In", &["amd64", "arm64"])]}])),
                true,
                true,
                true,
            ),
            (
                required(&json!([{"matchExpressions": [arch("NotIn", &["arm64"]), other]}])),
                true,
                false,
                true,
            ),
            (
                required(&json!([{"matchExpressions": [arch("In", &["arm64"])]}, {"matchExpressions": [other]}])),
                true,
                true,
                true,
            ),
            (
                required(&json!([{"matchExpressions": [{"key": ARCH, "operator": "DoesNotExist"}]}])),
                false,
                false,
                true,
            ),
            (
                json!({"affinity": {"podAffinity": {}}, "tolerations": [{"key": ARCH, "value": "arm64"}]}),
                true,
                true,
                false,
            ),
        ] {
            let found = placement(&value);
            let says = (found.allows("amd64"), found.allows("arm64"), found.is_about_machines());
            assert_eq!(says, (amd64, arm64, about), "{value}");
        }
    }

    #[test]
    fn a_service_says_more_than_its_runtime() {
        let runtime = placement(&json!({"nodeSelector": {ARCH: "amd64", "pool": "cpu"}}));
        let silent = placement(&json!({})).over(runtime.clone());
        assert!(silent.allows("amd64") && !silent.allows("arm64"));
        let own = placement(&json!({"nodeSelector": {ARCH: "arm64"}})).over(runtime);
        assert!(own.allows("arm64") && !own.allows("amd64"));
        assert_eq!(
            placement(&json!({"nodeSelector": {ARCH: "arm64"}})).without_ours(),
            Placement::default()
        );
    }
}
