//! How far a Deployment is with replacing its Pods.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::Api;

use crate::cluster::Cluster;

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rollout {
    /// The Pods that answer are those of the Deployment as it stands.
    Done,
    /// They aren't yet, or nobody could say so this time. With the API server's words where it refuses a Pod of it.
    Going(Option<String>),
    /// There is no such Deployment: not yet, or Knative has it.
    Absent,
    /// It may not be read.
    Unseen,
}

/// While a Deployment replaces its Pods, KServe calls what it belongs to ready by the old ones. `is_of_now`: whether KServe has changed the Deployment already.
pub(super) async fn rollout(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    is_of_now: impl Fn(&Deployment) -> bool,
) -> Rollout {
    let api: Api<Deployment> = Api::namespaced(cluster.client().clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(deployment)) if is_of_now(&deployment) => of_deployment(&deployment),
        Ok(None) => Rollout::Absent,
        Err(kube::Error::Api(status)) if status.code == 403 => Rollout::Unseen,
        Ok(Some(_)) | Err(_) => Rollout::Going(None),
    }
}

fn of_deployment(deployment: &Deployment) -> Rollout {
    let seen = deployment.status.as_ref();
    let of_now = seen.filter(|status| status.observed_generation == deployment.metadata.generation);
    let Some(status) = of_now else {
        return Rollout::Going(None);
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or_default();
    let is_done = updated >= wanted
        && status.replicas.unwrap_or_default() == updated
        && status.available_replicas.unwrap_or_default() >= wanted;
    if is_done {
        Rollout::Done
    } else {
        Rollout::Going(refusal(status))
    }
}

/// A Deployment repeats what its ReplicaSet is told.
fn refusal(status: &DeploymentStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let failure = conditions.find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    failure.message.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::reach::tests::{Answers, cluster};

    async fn told(answer: Value) -> Rollout {
        let path = "/apis/apps/v1/namespaces/team-a/deployments/fraud-predictor";
        let cluster = cluster(Answers::from([(path, answer)]));
        rollout(&cluster, "team-a", "fraud-predictor", |_| true).await
    }

    fn deployment(status: Value) -> Value {
        json!({"metadata": {"name": "fraud-predictor", "generation": 2}, "spec": {"replicas": 1}, "status": status})
    }

    #[tokio::test]
    async fn pods_of_before_are_not_those_of_now() {
        let now = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        assert_eq!(told(deployment(now.clone())).await, Rollout::Done);
        for (field, value) in [
            ("observedGeneration", json!(1)),
            ("updatedReplicas", json!(0)),
            ("replicas", json!(2)),
            ("availableReplicas", json!(0)),
        ] {
            let mut status = now.clone();
            status[field] = value;
            assert_eq!(told(deployment(status)).await, Rollout::Going(None), "{field}");
        }
        assert_eq!(told(deployment(json!({}))).await, Rollout::Going(None));
    }

    #[tokio::test]
    async fn what_the_api_server_has_against_a_pod_is_told_of_the_deployment_as_it_stands_alone() {
        let refused = json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}]);
        let mut status = json!({"observedGeneration": 2, "replicas": 1, "availableReplicas": 1, "conditions": refused});
        let words = Some("exceeded quota: q".to_owned());
        assert_eq!(told(deployment(status.clone())).await, Rollout::Going(words));
        status["observedGeneration"] = json!(1);
        assert_eq!(told(deployment(status)).await, Rollout::Going(None));
    }

    #[tokio::test]
    async fn one_that_may_not_be_read_is_told_from_one_that_could_not_be_read_this_time() {
        let failed = |code: u16| json!({"kind": "Status", "code": code, "reason": "x", "message": "x"});
        assert_eq!(told(failed(403)).await, Rollout::Unseen);
        assert_eq!(told(failed(503)).await, Rollout::Going(None));
        let none = cluster(Answers::default());
        assert_eq!(rollout(&none, "team-a", "x", |_| true).await, Rollout::Absent);
    }
}
