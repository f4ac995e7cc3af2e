//! Deletes a service, and waits until its Pods are gone.

use std::time::Duration;

use kube::api::{DeleteParams, Preconditions};
use tokio::time::{Instant, sleep};

use super::{Deployed, pods};
use crate::cluster::{Attempt, Cluster, Error};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// What is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether the service itself is.
    pub service: bool,
    /// How many Pods are.
    pub pods: usize,
}

/// How a deletion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// Nothing is left.
    Gone,
    /// The time was up, and this is left.
    Waiting(Progress),
}

/// Deletes this very service, graph, or model on another's server: one that was made anew under its name stays.
///
/// # Errors
/// Where it is gone, or another by now; where the API server says no, or says nothing.
pub async fn delete(cluster: &Cluster, service: &Deployed) -> Result<(), Error> {
    let (namespace, name) = (service.namespace(), service.name());
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: service.object().metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let api = cluster.api(service.kind(), Some(&namespace));
    let deleted = api.delete(&name, &params).await;
    let attempt = || Attempt::named("delete", service.kind(), Some(&namespace), &name);
    deleted.map(drop).map_err(|error| cluster.failed(attempt(), &error))
}

/// Waits until a service's Pods are gone, and the service with `and_service`; of a model on another's server the Pods stay. `progress` is told whenever less is left.
///
/// # Errors
/// Where the API server says no, or says nothing.
pub async fn until_gone(
    cluster: &Cluster,
    service: &Deployed,
    and_service: bool,
    limit: Duration,
    mut progress: impl FnMut(Progress),
) -> Result<Deleted, Error> {
    let (namespace, name) = (service.namespace(), service.name());
    let end = Instant::now() + limit;
    let mut last = None;
    loop {
        let found = if and_service {
            cluster.get(service.kind(), Some(&namespace), &name).await?
        } else {
            None
        };
        let own = found.filter(|found| found.metadata.uid == service.object().metadata.uid);
        let left = Progress {
            service: own.is_some(),
            pods: match service.server() {
                Some(_) => 0,
                None => pods::objects(cluster, service).await?.len(),
            },
        };
        if !left.service && left.pods == 0 {
            return Ok(Deleted::Gone);
        }
        if last != Some(left) {
            progress(left);
            last = Some(left);
        }
        if Instant::now() >= end {
            return Ok(Deleted::Waiting(left));
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::fixture::{deployed, trained};
    use super::*;
    use crate::reach::tests::cluster;

    #[tokio::test]
    async fn a_trained_model_is_gone_while_its_servers_pods_stay() {
        let gone = async |of: &Deployed| {
            let pods = json!({"items": [{"metadata": {"name": "a-pod"}}]});
            let answers = BTreeMap::from([("/api/v1/namespaces/team-a/pods".to_owned(), pods)]);
            until_gone(&cluster(answers.into()), of, true, Duration::ZERO, |_| ())
                .await
                .unwrap()
        };
        assert_eq!(gone(&trained(json!({}))).await, Deleted::Gone);
        let left = Progress {
            service: false,
            pods: 1,
        };
        assert_eq!(gone(&deployed(json!({}))).await, Deleted::Waiting(left));
    }
}
