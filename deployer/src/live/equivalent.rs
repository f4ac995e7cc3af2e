//! Which services there are, and which serve the same.

use super::deployed::Deployed;
use crate::cluster::{Cluster, Error, kinds};

/// What two services have to have in common to serve the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// Where the model lies.
    pub storage_uri: String,
    /// What loads it; none for any.
    pub framework: Option<String>,
}

impl Alike {
    /// What a service serves. None for one without a model of its own.
    pub fn to(service: &Deployed) -> Option<Self> {
        Some(Self {
            storage_uri: service.storage_uri()?,
            framework: Some(service.framework().to_owned()),
        })
    }

    fn holds_for(&self, service: &Deployed) -> bool {
        let folder = |uri: &str| uri.trim_end_matches('/').to_owned();
        let is_there = service
            .storage_uri()
            .is_some_and(|uri| folder(&uri) == folder(&self.storage_uri));
        is_there
            && self
                .framework
                .as_deref()
                .is_none_or(|framework| framework == service.framework())
    }
}

/// All services of a namespace, or of all, their graphs, and the models on their servers, by namespace and name. Who may not list graphs, or such models, is shown none.
///
/// # Errors
/// Where the API server doesn't know the kind InferenceService, says no, or says nothing.
pub async fn list(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Deployed>, Error> {
    let (services, graphs, models) = futures::join!(
        cluster.list(&kinds::INFERENCE_SERVICE, namespace),
        cluster.list_if_known(&kinds::INFERENCE_GRAPH, namespace),
        cluster.list_if_known(&kinds::TRAINED_MODEL, namespace),
    );
    let mut all = services?;
    for beside in [graphs, models] {
        match beside {
            Err(Error::Forbidden { .. }) => {}
            beside => all.extend(beside?),
        }
    }
    let mut all: Vec<Deployed> = all.into_iter().map(Deployed::from).collect();
    all.sort_by_key(|one| (one.namespace(), one.name()));
    Ok(all)
}

/// Those that serve the same.
pub fn alike(services: Vec<Deployed>, what: &Alike) -> Vec<Deployed> {
    services.into_iter().filter(|service| what.holds_for(service)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::fixture::deployed;
    use super::*;
    use crate::reach::tests::cluster;

    #[tokio::test]
    async fn graphs_and_trained_models_stand_among_the_services_where_they_may_be_listed() {
        let listed = |kind: &str, names: &[&str]| {
            let items: Vec<_> = names
                .iter()
                .map(|name| json!({"apiVersion": "serving.kserve.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "team-a"}}))
                .collect();
            json!({"kind": format!("{kind}List"), "apiVersion": "serving.kserve.io/v1", "metadata": {}, "items": items})
        };
        let at = |plural: &str, version: &str| format!("/apis/serving.kserve.io/{version}/namespaces/team-a/{plural}");
        let services = (
            at("inferenceservices", "v1beta1"),
            listed("InferenceService", &["a", "c"]),
        );
        let (graphs, models) = (at("inferencegraphs", "v1alpha1"), at("trainedmodels", "v1alpha1"));
        let forbidden = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "eve cannot list it"});
        let unknown = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such kind"});
        let graph = listed("InferenceGraph", &["b"]);
        let mut model = listed("TrainedModel", &["d"]);
        model["items"][0]["spec"] = json!({"inferenceService": "a"});
        let (a, b, c, d) = ("service a", "graph b", "service c", "trained model d");
        for (graphs_are, models_are, expected) in [
            (&graph, &model, &[a, b, c, d][..]),
            (&forbidden, &model, &[a, c, d]),
            (&graph, &unknown, &[a, b, c]),
            (&unknown, &forbidden, &[a, c]),
        ] {
            let answers = BTreeMap::from([
                services.clone(),
                (graphs.clone(), graphs_are.clone()),
                (models.clone(), models_are.clone()),
            ]);
            let all = list(&cluster(answers.into()), Some("team-a")).await.unwrap();
            let all: Vec<_> = all.iter().map(|one| format!("{} {}", one.what(), one.name())).collect();
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn the_same_model_for_another_framework_is_another() {
        let service = |name: &str, format: &str, uri: &str| {
            let model = json!({"modelFormat": {"name": format}, "storageUri": uri});
            deployed(json!({"metadata": {"name": name}, "spec": {"predictor": {"model": model}}}))
        };
        let all = || {
            vec![
                service("a", "sklearn", "s3://m/x"),
                service("b", "sklearn", "s3://m/x/"),
                service("c", "mlflow", "s3://m/x"),
                service("d", "sklearn", "s3://m/y"),
            ]
        };
        let names = |what: &Alike| -> Vec<String> { alike(all(), what).iter().map(Deployed::name).collect() };
        let mut what = Alike::to(&service("z", "sklearn", "s3://m/x")).unwrap();
        assert_eq!(names(&what), ["a", "b"]);
        what.framework = None;
        assert_eq!(names(&what), ["a", "b", "c"]);
    }
}
