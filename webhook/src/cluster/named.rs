//! Watches of single `ConfigMap`s: of those that hold modules, so that a new version is seen at once. Only that they changed is kept of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PartialObjectMeta;
use kube::{Api, Client};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::watched::{Changes, everything, follow};

/// A namespace and a name.
type Name = (String, String);

/// One watch for each name, as long as something refers to it.
pub(super) struct Named {
    changed: Changes,
    stop: CancellationToken,
    watches: Mutex<BTreeMap<Name, DropGuard>>,
}

impl Named {
    pub(super) fn new(changed: &Changes, stop: &CancellationToken) -> Self {
        Self {
            changed: changed.clone(),
            stop: stop.clone(),
            watches: Mutex::default(),
        }
    }

    /// Watches these from now on, and no others.
    pub(super) fn watch(&self, client: &Client, names: &BTreeSet<Name>) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|name, _| names.contains(name));
        for name in names {
            let (namespace, map) = name;
            if watches.contains_key(name) || namespace.is_empty() || map.is_empty() {
                continue;
            }
            let stop = self.stop.child_token();
            let api: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client.clone(), namespace);
            let config = everything().fields(&format!("metadata.name={map}"));
            let _ = follow(api, config, "ConfigMap (a policy's module)", &self.changed, &stop);
            watches.insert(name.clone(), stop.drop_guard());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;

    use kube::client::Body;
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;

    /// An API server that lists one map, and tells of a change when it is told to.
    #[tokio::test]
    async fn a_change_of_a_map_is_seen_as_long_as_something_refers_to_it() {
        let (change, changes) = tokio::sync::watch::channel(());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let service = tower::service_fn({
            let asked = Arc::clone(&asked);
            move |request: axum::http::Request<Body>| {
                let (uri, mut changes) = (request.uri().to_string(), changes.clone());
                asked.lock().unwrap().push(uri.clone());
                async move {
                    let map = |version: &str| {
                        json!({
                            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                            "metadata": {"namespace": "a", "name": "policies", "uid": "1", "resourceVersion": version},
                        })
                    };
                    let body = if uri.contains("watch=true") {
                        changes.mark_unchanged();
                        let _ = changes.changed().await;
                        json!({"type": "MODIFIED", "object": map("2")}).to_string() + "\n"
                    } else {
                        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": [map("1")]});
                        list.to_string()
                    };
                    Ok::<_, Infallible>(axum::http::Response::new(Body::from(body.into_bytes())))
                }
            }
        });
        let (client, news) = (Client::new(service, "default"), Changes::default());
        let named = Named::new(&news, &CancellationToken::new());
        let mut seen = news.subscribe();
        named.watch(&client, &[("a".to_owned(), "policies".to_owned())].into());
        timeout(Duration::from_secs(10), seen.changed()).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(
            asked
                .lock()
                .unwrap()
                .iter()
                .all(|uri| uri.contains("/namespaces/a/configmaps?") && uri.contains("metadata.name%3Dpolicies"))
        );
        seen.mark_unchanged();
        change.send_replace(());
        timeout(Duration::from_secs(10), seen.changed()).await.unwrap().unwrap();

        named.watch(&client, &BTreeSet::new());
        tokio::time::sleep(Duration::from_millis(200)).await;
        seen.mark_unchanged();
        change.send_replace(());
        assert!(
            timeout(Duration::from_millis(500), seen.changed()).await.is_err(),
            "nobody refers to it"
        );
    }
}
