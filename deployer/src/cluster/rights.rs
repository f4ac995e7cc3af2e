//! All the rights that an undertaking takes, asked for once one of them is missing: so that an admin is asked once. And what is missing to store an object, before
//! it is made.

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

    /// Whether this user may store an object by server-side apply, whatever is in it: before anything is made for it, so that nobody waits for nothing. What the API
    /// server doesn't say here, it says when the object is stored.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such namespace; [`Error::Forbidden`] with all that is missing.
    pub async fn may_store(&self, kind: &'static Kind, namespace: &str, name: &str) -> Result<(), Error> {
        let attempt = |verb| Attempt::named(verb, kind, Some(namespace), name);
        let (patch, create) = (attempt("patch"), attempt("create"));
        let (lacks_patch, lacks_create, has_namespace) = futures::join!(
            self.is_missing((kind, patch.verb), &patch),
            self.is_missing((kind, create.verb), &create),
            self.has_namespace(namespace),
        );
        // Most users may not read namespaces.
        if has_namespace == Ok(false) {
            return Err(Error::NotFound {
                attempt: patch,
                message: format!("there is no namespace {namespace}"),
            });
        }
        let attempt = if lacks_patch {
            patch
        } else if lacks_create && self.get(kind, Some(namespace), name).await?.is_none() {
            create
        } else {
            return Ok(());
        };
        let missing = Vec::new();
        Err(self
            .with_all_missing(Error::Forbidden { attempt, missing }, &[kind])
            .await)
    }

    async fn is_missing(&self, (kind, verb): (&Kind, &str), attempt: &Attempt) -> bool {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(kind.group.to_owned()),
                    resource: Some(kind.plural.to_owned()),
                    verb: Some(verb.to_owned()),
                    namespace: attempt.namespace.clone(),
                    // A server-side apply that makes an object names it, too (`patch.go` of the API server's handlers).
                    name: attempt.name.clone(),
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
