//! Credentials in a cluster where nobody else sees to them: the Secret and the ServiceAccount of KServe's guides, made for one service.

use kube::ResourceExt as _;
use kube::api::{DynamicObject, Preconditions};
use serde_json::{Value, json};
use tidewaiter_core::kserve_config::KserveConfig;

use super::apply::{apply, owned, propose};
use super::conflict::SubmitError;
use super::store::{MANAGED_BY, MANAGER, Store, secret_objects};
use crate::cluster::{Cluster, Kind, kinds};

/// Credentials, and whom they are for.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// What they open.
    pub store: &'a Store,
    /// What the Secret, and the ServiceAccount that names it, are called.
    pub name: &'a str,
    /// Where they are to be.
    pub namespace: &'a str,
    /// KServe's, which says how keys are called.
    pub config: &'a KserveConfig,
    /// The service that they are made for; none for whoever names them.
    pub service: Option<&'a str>,
    /// What both go with when it is deleted.
    pub owner: Option<&'a DynamicObject>,
}

/// What was made.
pub struct Delivered {
    /// The Secret, and the ServiceAccount that names it, have this name.
    pub name: String,
    /// Whether neither was there before: they can be taken away again.
    pub is_new: bool,
    /// Whether either is another than before.
    pub is_changed: bool,
    /// The Secret and the ServiceAccount as they were written.
    made: [DynamicObject; 2],
}

/// The service that they were made for.
const SERVICE: &str = "tidewaiter.dev/service";

static OBJECTS: [&Kind; 2] = [&kinds::SECRET, &kinds::SERVICE_ACCOUNT];

impl Delivery<'_> {
    /// In the order of [`OBJECTS`].
    fn objects(&self) -> Result<[Value; 2], SubmitError> {
        let objects = secret_objects(self.store, self.name, self.namespace, self.config)?;
        Ok(objects.map(|mut object| {
            if let Some(service) = self.service {
                object["metadata"]["labels"][SERVICE] = json!(service);
            }
            match self.owner {
                Some(owner) => owned(object, owner),
                None => object,
            }
        }))
    }
}

impl Delivered {
    /// The Secret and the ServiceAccount as they were written, and not as somebody made them anew.
    pub fn made(&self) -> [Preconditions; 2] {
        self.made.each_ref().map(|made| Preconditions {
            uid: made.metadata.uid.clone(),
            resource_version: made.metadata.resource_version.clone(),
        })
    }
}

/// Makes the Secret and the ServiceAccount, or brings them up to date.
///
/// # Errors
/// Where one may not be written, or is there and was made by somebody else or for something else.
pub async fn deliver(cluster: &Cluster, delivery: &Delivery<'_>) -> Result<Delivered, SubmitError> {
    // Both are asked for first: a Secret without its account would stay behind.
    let there = would_deliver(cluster, delivery).await?;
    let made = write(cluster, delivery, there.each_ref().map(Option::as_ref)).await?;
    let version = |object: &DynamicObject| object.metadata.resource_version.clone();
    let is_changed = there
        .iter()
        .zip(&made)
        .any(|(there, made)| there.as_ref().and_then(version) != version(made));
    Ok(Delivered {
        name: delivery.name.to_owned(),
        is_new: there.iter().all(Option::is_none),
        is_changed,
        made,
    })
}

/// Gives what was delivered its owner, which was stored after it. Both are as they were written a moment ago, so that there is nothing to ask first; where somebody
/// was faster, theirs stays.
///
/// # Errors
/// As for [`deliver`].
pub async fn bind(cluster: &Cluster, delivery: &Delivery<'_>, delivered: &Delivered) -> Result<(), SubmitError> {
    write(cluster, delivery, delivered.made.each_ref().map(Some))
        .await
        .map(drop)
}

/// Has the API server check both, and stores nothing. The objects as they are.
///
/// # Errors
/// As for [`deliver`].
pub async fn would_deliver(
    cluster: &Cluster,
    delivery: &Delivery<'_>,
) -> Result<[Option<DynamicObject>; 2], SubmitError> {
    let asked = async {
        let there = mine(cluster, delivery).await?;
        for ((kind, object), there) in OBJECTS.into_iter().zip(&delivery.objects()?).zip(&there) {
            propose(cluster, kind, object, there.as_ref(), false).await?;
        }
        Ok(there)
    };
    match asked.await {
        Ok(there) => Ok(there),
        Err(error) => Err(SubmitError::with_all_missing(error, cluster, &OBJECTS).await),
    }
}

/// Stores both over what was seen of them. Who deploys the same service at once may bring other keys.
async fn write(
    cluster: &Cluster,
    delivery: &Delivery<'_>,
    seen: [Option<&DynamicObject>; 2],
) -> Result<[DynamicObject; 2], SubmitError> {
    let ([secret, account], [of_secret, of_account]) = (delivery.objects()?, seen);
    let [secret_kind, account_kind] = OBJECTS;
    let secret = apply(cluster, secret_kind, &secret, of_secret, false).await?;
    let account = apply(cluster, account_kind, &account, of_account, false).await?;
    Ok([secret.object, account.object])
}

/// The objects as they are, in the order of [`OBJECTS`]. What is there has to be this command's own, and for the same service.
async fn mine(cluster: &Cluster, delivery: &Delivery<'_>) -> Result<[Option<DynamicObject>; 2], SubmitError> {
    let &Delivery {
        name,
        namespace,
        service,
        ..
    } = delivery;
    let mut found = [None, None];
    for (kind, found) in OBJECTS.into_iter().zip(&mut found) {
        let Some(there) = cluster.get(kind, Some(namespace), name).await? else {
            continue;
        };
        if !is_mine(&there, service) {
            return Err(SubmitError::Foreign {
                kind: kind.kind,
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            });
        }
        *found = Some(there);
    }
    Ok(found)
}

/// Made by this command, for this service, or for nobody's in particular.
fn is_mine(there: &DynamicObject, service: Option<&str>) -> bool {
    let label = |name: &str| there.labels().get(name).map(String::as_str);
    label(MANAGED_BY) == Some(MANAGER) && label(SERVICE) == service
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use tidewaiter_core::credentials::SecretValue;
    use tonic::codegen::http::{Request, Response};

    use super::super::StoreSettings;
    use super::*;

    type Asked = Arc<Mutex<Vec<String>>>;

    /// An API server that has none of the objects and stores what it is given, but for one kind; and what it was asked.
    fn server(refused: &'static str) -> (Cluster, Asked) {
        let asked = Asked::default();
        let noted = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let noted = Arc::clone(&noted);
            async move {
                let (head, body) = request.into_parts();
                let kind = head.uri.path().rsplit('/').nth(1).unwrap_or_default().to_owned();
                let dry = head.uri.query().is_some_and(|query| query.contains("dryRun=All"));
                let line = format!("{}{} {kind}", if dry { "dry " } else { "" }, head.method);
                noted.lock().unwrap().push(line);
                let no = |code: u16, reason: &str, message: &str| {
                    let status = json!({"kind": "Status", "code": code, "reason": reason, "message": message, "details": {"name": "fraud-store"}});
                    (code, status)
                };
                let (code, answer) = if kind == "v1" {
                    let mut review: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                    let asked = &review["spec"]["resourceAttributes"];
                    let allowed = asked["resource"] != refused || asked["verb"] == "get";
                    review["status"] = json!({"allowed": allowed});
                    (201, review)
                } else if head.method == "GET" {
                    no(404, "NotFound", "not found")
                } else if kind == refused {
                    no(403, "Forbidden", "User \"eve\" cannot patch it")
                } else {
                    let mut object: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                    object["metadata"]["uid"] = json!(kind);
                    object["metadata"]["resourceVersion"] = json!("7");
                    (200, object)
                };
                let response = Response::builder().status(code);
                response.body(Body::from(serde_json::to_vec(&answer).unwrap_or_default()))
            }
        });
        let client = kube::Client::new(service, "default");
        (
            Cluster::new(client, "default".to_owned(), "https://k8s".to_owned()),
            asked,
        )
    }

    pub(in super::super) fn store() -> Store {
        let keys = [("aws_access_key_id", "id"), ("aws_secret_access_key", "key")];
        let keys: BTreeMap<_, _> = keys
            .into_iter()
            .map(|(key, value)| (key.to_owned(), SecretValue::from(value.to_owned())))
            .collect();
        Store::of(keys, &StoreSettings::default(), &KserveConfig::default())
            .unwrap()
            .unwrap()
    }

    fn delivery<'a>(store: &'a Store, config: &'a KserveConfig) -> Delivery<'a> {
        Delivery {
            store,
            name: "fraud-store",
            namespace: "team-a",
            config,
            service: Some("fraud"),
            owner: None,
        }
    }

    #[tokio::test]
    async fn a_right_that_is_missing_is_told_and_nothing_is_stored() {
        let (store, config) = (store(), KserveConfig::default());
        for refused in ["secrets", "serviceaccounts"] {
            let (cluster, asked) = server(refused);
            let dry = would_deliver(&cluster, &delivery(&store, &config)).await.unwrap_err();
            let real = deliver(&cluster, &delivery(&store, &config)).await.err().unwrap();
            assert_eq!(dry, real);
            assert_eq!(
                format!("{dry}; {}", dry.next()),
                format!(
                    "not allowed to patch {refused} fraud-store in namespace team-a; ask for a role with the verbs patch and create on {refused} in namespace team-a"
                )
            );
            let asked = asked.lock().unwrap();
            assert!(!asked.iter().any(|line| line.starts_with("PATCH")), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn both_are_asked_for_before_either_is_stored_and_get_their_owner_without_asking_again() {
        let (store, config) = (store(), KserveConfig::default());
        let (cluster, asked) = server("");
        let delivery = delivery(&store, &config);
        let done = deliver(&cluster, &delivery).await.unwrap();
        assert!(done.is_new && done.is_changed);
        assert_eq!(done.made()[1].uid.as_deref(), Some("serviceaccounts"));
        let owner = object(json!({}));
        let again = Delivery {
            owner: Some(&owner),
            ..delivery
        };
        bind(&cluster, &again, &done).await.unwrap();
        assert_eq!(
            *asked.lock().unwrap(),
            [
                "GET secrets",
                "GET serviceaccounts",
                "dry PATCH secrets",
                "dry PATCH serviceaccounts",
                "PATCH secrets",
                "PATCH serviceaccounts",
                "PATCH secrets",
                "PATCH serviceaccounts",
            ]
        );
    }

    fn object(labels: Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "fraud-store", "labels": labels}})).unwrap()
    }

    #[test]
    fn what_somebody_else_made_or_another_service_has_is_not_changed() {
        let of_fraud = object(json!({MANAGED_BY: MANAGER, SERVICE: "fraud"}));
        let shared = object(json!({MANAGED_BY: MANAGER}));
        let of_helm = object(json!({MANAGED_BY: "Helm", SERVICE: "fraud"}));
        assert!(is_mine(&of_fraud, Some("fraud")) && is_mine(&shared, None));
        // Services use by name what `secret create` made: a deploy that brings other keys must not change it for all of them.
        assert!(!is_mine(&shared, Some("fraud")) && !is_mine(&of_fraud, None));
        assert!(!is_mine(&of_fraud, Some("churn")));
        assert!(!is_mine(&of_helm, Some("fraud")) && !is_mine(&object(json!({})), None));
    }
}
