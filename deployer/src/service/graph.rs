//! Several services behind one address.
//!
//! Source: `pkg/apis/serving/v1alpha1/inference_graph.go` and `inference_graph_validation.go` of KServe 0.20.0.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ALPHA;
use super::error::WishError;
use super::name::checked_name;
use super::wishes::Wishes;

/// How a graph asks its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Router {
    /// One after the other, each with the answer of the one before.
    Sequence,
    /// One of them, by what is in the request.
    Switch,
    /// All of them, and their answers together.
    Ensemble,
    /// One of them by chance, as often as its weight says.
    Splitter,
}

impl Router {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "Sequence",
            Self::Switch => "Switch",
            Self::Ensemble => "Ensemble",
            Self::Splitter => "Splitter",
        }
    }
}

/// A graph with one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GraphWishes {
    /// Its name.
    pub name: String,
    /// How it asks.
    pub router: Router,
    /// Whom.
    pub steps: Vec<Step>,
}

/// A service of a graph.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// An InferenceService of the same namespace.
    pub service: String,
    /// For a splitter: of a hundred requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// For a switch: a condition in GJSON's words, such as `instances.#(kind=="cat")`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// For a sequence: what it is asked with, `$request` or `$response`; by default the answer of the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Step {
    /// Reads `SERVICE`, for a splitter `SERVICE=WEIGHT`, for a switch `SERVICE=CONDITION`, for a sequence `SERVICE=$request`.
    ///
    /// # Errors
    /// A weight that is none, or something behind `=` that this router doesn't take.
    pub fn parse(router: Router, text: &str) -> Result<Self, WishError> {
        let (service, more) = match text.split_once('=') {
            Some((service, more)) => (service, Some(more)),
            None => (text, None),
        };
        let mut step = Self {
            service: service.to_owned(),
            ..Self::default()
        };
        match (router, more) {
            (_, None) => {}
            (Router::Splitter, Some(weight)) => {
                let read = weight.trim_end_matches('%').parse().map_err(|_| {
                    WishError::contradiction(
                        format!("`{weight}` is no weight of {service}"),
                        "write --step SERVICE=WEIGHT, with weights that make 100 together",
                    )
                })?;
                step.weight = Some(read);
            }
            (Router::Switch, Some(condition)) => step.condition = Some(condition.to_owned()),
            (Router::Sequence, Some(data)) if data.starts_with("$request") || data.starts_with("$response") => {
                step.data = Some(data.to_owned());
            }
            (Router::Sequence, Some(data)) => {
                return Err(WishError::contradiction(
                    format!("`{data}` is nothing that {service} could be asked with"),
                    "write --step SERVICE, --step SERVICE=$request or --step SERVICE=$response",
                ));
            }
            (Router::Ensemble, Some(_)) => {
                return Err(WishError::contradiction(
                    format!(
                        "{service} is asked by an ensemble whatever `={}` says",
                        more.unwrap_or_default()
                    ),
                    "write --step SERVICE",
                ));
            }
        }
        Ok(step)
    }
}

/// What an `InferenceGraph` has a place for: `InferenceGraphSpec` of 0.15.2 and 0.20.0, for the Pods of its router, and what every object has.
const FIELDS: [&str; 15] = [
    "name",
    "namespace",
    "resources",
    "minReplicas",
    "maxReplicas",
    "scaleToZero",
    "scaleTarget",
    "scaleMetric",
    "nodeSelector",
    "serviceAccountName",
    "timeout",
    "labels",
    "annotations",
    "graph",
    "steps",
];

/// Makes the `InferenceGraph`. `also` is what is wished for its router.
///
/// # Errors
/// What KServe's validator would refuse; what is wished for and has no place in a graph.
pub fn graph(wishes: &GraphWishes, also: &Wishes, namespace: &str) -> Result<Value, WishError> {
    also.only("an InferenceGraph", &FIELDS)?;
    let name = checked_name(&wishes.name, namespace)?;
    let least = if wishes.router == Router::Switch { 1 } else { 2 };
    if wishes.steps.len() < least {
        return Err(WishError::contradiction(
            format!(
                "a {} of {} services is none",
                wishes.router.as_str().to_lowercase(),
                wishes.steps.len()
            ),
            "name each of its services with --step",
        ));
    }
    if wishes.router == Router::Splitter {
        let weights: Option<Vec<u32>> = wishes.steps.iter().map(|step| step.weight).collect();
        let sum: u32 = weights.as_ref().map_or(0, |weights| weights.iter().sum());
        if sum != 100 {
            let problem = match weights {
                None => "each service of a splitter needs a weight".to_owned(),
                Some(_) => format!("the weights of a splitter make {sum} together, and have to make 100"),
            };
            return Err(WishError::contradiction(
                problem,
                "write --step SERVICE=WEIGHT for each",
            ));
        }
    }
    if wishes.router == Router::Switch && wishes.steps.iter().any(|step| step.condition.is_none()) {
        return Err(WishError::contradiction(
            "each service of a switch needs a condition",
            "write --step 'SERVICE=CONDITION' for each, such as --step 'cats=instances.#(kind==\"cat\")'",
        ));
    }
    let steps: Vec<Value> = wishes
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let mut written = json!({"serviceName": step.service});
            if let Some(weight) = step.weight {
                written["weight"] = json!(weight);
            }
            if let Some(condition) = &step.condition {
                written["condition"] = json!(condition);
            }
            // Without it, every step is asked with the first request.
            let chained = (wishes.router == Router::Sequence && index > 0).then_some("$response");
            if let Some(data) = step.data.as_deref().or(chained) {
                written["data"] = json!(data);
            }
            written
        })
        .collect();
    let mut object = json!({
        "apiVersion": ALPHA,
        "kind": "InferenceGraph",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodes": {"root": {"routerType": wishes.router.as_str(), "steps": steps}}},
    });
    also.describe(&mut object);
    let spec = &mut object["spec"];
    if !also.resources.is_empty() {
        spec["resources"] = json!(also.resources);
    }
    if !also.node_selector.is_empty() {
        spec["nodeSelector"] = json!(also.node_selector);
    }
    let fewest = if also.scale_to_zero == Some(true) {
        Some(0)
    } else {
        also.min_replicas
    };
    let numbers = [
        ("minReplicas", fewest),
        ("maxReplicas", also.max_replicas),
        ("scaleTarget", also.scale_target),
        ("timeout", also.timeout),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            spec[name] = json!(number);
        }
    }
    if let Some(metric) = also.scale_metric {
        spec["scaleMetric"] = json!(metric.as_str());
    }
    if let Some(account) = &also.service_account_name {
        spec["serviceAccountName"] = json!(account);
    }
    Ok(object)
}
