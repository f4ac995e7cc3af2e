//! All the rights that an undertaking takes, asked for once one of them is missing: so that an admin is asked once.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::{Attempt, Cluster, Error, Kind};

/// What it takes to store an object by server-side apply, whether it is there or not.
const STORES: [&str; 3] = ["get", "patch", "create"];

impl Cluster {
    /// An error; one of a missing right with all that are missing to store objects of these kinds under the name that was tried. Where the API server doesn't say,
    /// as it came.
    pub(crate) async fn with_all_missing(&self, error: Error, kinds: &[&'static Kind]) -> Error {
        let Error::Forbidden { attempt, .. } = error else {
            return error;
        };
        let rights = kinds.iter().flat_map(|&kind| STORES.map(|verb| (kind, verb)));
        let asked = rights.map(async |right| (self.is_missing(right, &attempt).await).then_some(right));
        let missing = join_all(asked).await.into_iter().flatten().collect();
        Error::Forbidden { attempt, missing }
    }

    async fn is_missing(&self, (kind, verb): (&Kind, &str), attempt: &Attempt) -> bool {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(kind.group.to_owned()),
                    resource: Some(kind.plural.to_owned()),
                    verb: Some(verb.to_owned()),
                    namespace: attempt.namespace.clone(),
                    // What is to be made has no name yet, to a role.
                    name: attempt.name.clone().filter(|_| verb != "create"),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client().clone());
        let said = api.create(&PostParams::default(), &review).await;
        said.is_ok_and(|said| said.status.is_some_and(|status| !status.allowed))
    }
}
