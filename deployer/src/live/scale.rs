//! How many replicas a component may have.

use serde_json::{Map, Value, json};
use tidewaiter_core::kserve_config::DeploymentMode;

use super::change::Planned;
use super::{Component, Deployed, Error};

const AUTOSCALER: &str = "serving.kserve.io/autoscalerClass";

/// What is asked for; what isn't stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replicas {
    /// At least so many.
    pub min: Option<u32>,
    /// At most so many.
    pub max: Option<u32>,
}

/// Plans a component's replicas, or those of a graph's router.
///
/// # Errors
/// Where the service has no such component, where there would be more at least than at most, and for none at all where its mode doesn't go to zero.
pub fn scale(service: &Deployed, component: Component, wanted: Replicas) -> Result<Planned, Error> {
    let refused = |reason: &str, next: &str| Error::refused(service, "scaled", reason, next);
    // A graph's router has its replicas in the spec itself.
    let graph = service.is_graph() && component == Component::Predictor;
    let part = if graph {
        Some(service.spec())
    } else {
        service.component(component)
    };
    let Some(part) = part else {
        return Err(refused(
            &format!("it has no {}", component.as_str()),
            "`tidewaiter status` shows what it has",
        ));
    };
    let now = |name: &str| part[name].as_u64().and_then(|count| u32::try_from(count).ok());
    // KServe reads an absent minimum as one, and a maximum of zero as none.
    let min = wanted.min.or_else(|| now("minReplicas")).unwrap_or(1);
    let max = wanted.max.or_else(|| now("maxReplicas")).unwrap_or(0);
    if wanted.max == Some(0) {
        return Err(refused(
            "at most 0 replicas means no limit to KServe",
            "`tidewaiter stop` takes its Pods away",
        ));
    }
    if max > 0 && min > max {
        return Err(refused(
            &format!("that is at least {min} and at most {max} replicas"),
            "give both, --min and --max",
        ));
    }
    let class = part["annotations"][AUTOSCALER]
        .as_str()
        .or_else(|| service.annotation(AUTOSCALER));
    let class = class.unwrap_or("hpa");
    if wanted.min == Some(0) && service.mode() == Some(DeploymentMode::Standard) && class == "hpa" {
        return Err(refused(
            "it is in Standard mode, where Kubernetes' own autoscaler keeps at least one replica",
            "`tidewaiter stop` takes its Pods away until `tidewaiter start`; scaling to zero by load needs Knative mode, or KEDA \
             (annotation serving.kserve.io/autoscalerClass: keda)",
        ));
    }
    let mut change = Map::new();
    for (name, wanted) in [("minReplicas", wanted.min), ("maxReplicas", wanted.max)] {
        if let Some(count) = wanted.filter(|&count| now(name) != Some(count)) {
            change.insert(name.to_owned(), json!(count));
        }
    }
    if change.is_empty() {
        return Err(Error::already(service, "has these replicas already"));
    }
    let change = Value::Object(change);
    let mut planned = Planned::new(if graph {
        json!({ "spec": change })
    } else {
        json!({"spec": {component.as_str(): change}})
    });
    if service.mode() == Some(DeploymentMode::Standard) && matches!(class, "none" | "external") && wanted.max.is_some()
    {
        planned.notes.push(format!(
            "its autoscaler class is `{class}`: KServe pays no heed to a maximum"
        ));
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{deployed, graph};
    use super::*;

    fn service(mode: &str, predictor: Value) -> Deployed {
        deployed(json!({"spec": {"predictor": predictor}, "status": {"deploymentMode": mode}}))
    }

    fn of(service: &Deployed, min: Option<u32>, max: Option<u32>) -> Result<Value, String> {
        let planned = scale(service, Component::Predictor, Replicas { min, max });
        planned.map(|planned| planned.patch).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_asked_for_is_written() {
        let two = service("Standard", json!({"minReplicas": 2}));
        assert_eq!(
            of(&two, Some(3), None),
            Ok(json!({"spec": {"predictor": {"minReplicas": 3}}}))
        );
        assert_eq!(
            of(&two, Some(2), Some(4)),
            Ok(json!({"spec": {"predictor": {"maxReplicas": 4}}}))
        );
        assert!(of(&two, Some(2), None).unwrap_err().contains("already"));
        assert!(
            of(&two, None, Some(1))
                .unwrap_err()
                .contains("at least 2 and at most 1")
        );
        assert!(
            scale(
                &two,
                Component::Transformer,
                Replicas {
                    min: Some(1),
                    max: None
                }
            )
            .is_err()
        );
    }

    #[test]
    fn a_graphs_router_is_scaled_in_its_spec() {
        let router = graph(json!({"spec": {"minReplicas": 1, "nodes": {"root": {"routerType": "Sequence"}}}}));
        assert_eq!(
            of(&router, Some(2), Some(3)),
            Ok(json!({"spec": {"minReplicas": 2, "maxReplicas": 3}}))
        );
        assert!(of(&router, Some(1), None).unwrap_err().starts_with("graph "));
        let other = scale(
            &router,
            Component::Transformer,
            Replicas {
                min: Some(2),
                max: None,
            },
        );
        assert!(other.unwrap_err().to_string().contains("it has no transformer"));
    }

    #[test]
    fn zero_is_refused_where_the_mode_has_none() {
        assert!(of(&service("Knative", json!({})), Some(0), None).is_ok());
        let refused = of(&service("RawDeployment", json!({})), Some(0), None).unwrap_err();
        assert!(refused.contains("at least one replica"), "{refused}");
        let keda = json!({"annotations": {AUTOSCALER: "keda"}});
        assert!(of(&service("Standard", keda), Some(0), None).is_ok());
        assert!(of(&service("Knative", json!({})), None, Some(0)).is_err());
    }
}
