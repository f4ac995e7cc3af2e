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

/// All services of a namespace, or of all, by namespace and name.
///
/// # Errors
/// Where the API server doesn't know the kind, says no, or says nothing.
pub async fn list(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Deployed>, Error> {
    let listed = cluster.list(&kinds::INFERENCE_SERVICE, namespace).await?;
    let mut services: Vec<Deployed> = listed.into_iter().map(Deployed::from).collect();
    services.sort_by_key(|service| (service.namespace(), service.name()));
    Ok(services)
}

/// Those that serve the same.
pub fn alike(services: Vec<Deployed>, what: &Alike) -> Vec<Deployed> {
    services.into_iter().filter(|service| what.holds_for(service)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::deployed;
    use super::*;

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
