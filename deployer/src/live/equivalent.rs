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

/// All services of a namespace, or of all, and their graphs, by namespace and name. Who may not list graphs is shown none.
///
/// # Errors
/// Where the API server doesn't know the kind InferenceService, says no, or says nothing.
pub async fn list(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Deployed>, Error> {
    let (services, graphs) = futures::join!(
        cluster.list(&kinds::INFERENCE_SERVICE, namespace),
        cluster.list_if_known(&kinds::INFERENCE_GRAPH, namespace),
    );
    let graphs = match graphs {
        Err(Error::Forbidden { .. }) => Vec::new(),
        graphs => graphs?,
    };
    let mut all: Vec<Deployed> = services?.into_iter().map(Deployed::from).collect();
    all.extend(graphs.into_iter().map(Deployed::from));
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
    async fn graphs_stand_among_the_services_where_they_may_be_listed() {
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
        let graphs = at("inferencegraphs", "v1alpha1");
        let forbidden = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "eve cannot list it"});
        let unknown = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such kind"});
        let both = &[("a", false), ("b", true), ("c", false)][..];
        let alone = &[("a", false), ("c", false)][..];
        for (answer, expected) in [
            (listed("InferenceGraph", &["b"]), both),
            (forbidden, alone),
            (unknown, alone),
        ] {
            let answers = BTreeMap::from([services.clone(), (graphs.clone(), answer)]);
            let all = list(&cluster(answers.into()), Some("team-a")).await.unwrap();
            let all: Vec<_> = all.iter().map(|one| (one.name(), one.is_graph())).collect();
            let all: Vec<_> = all.iter().map(|(name, is_graph)| (name.as_str(), *is_graph)).collect();
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
