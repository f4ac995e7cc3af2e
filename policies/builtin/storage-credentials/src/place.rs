//! From the plans to fills and effects.

use tidewaiter_policy::core::lines::{cut, line};
use tidewaiter_policy::core::pointer;
use tidewaiter_policy::core::service::{Component, Service, ServiceKind};
use tidewaiter_policy::storage::Delivery;
use tidewaiter_policy::{Value, Verdict};

use crate::Subject;
use crate::need::Store;
use crate::plan::{Plan, Way};

/// Fills in what the components' plans say.
pub(crate) fn fills(subject: &Subject<'_>, plans: &[Option<Plan>], mut verdict: Verdict) -> Verdict {
    let (request, service) = (subject.request, subject.service);
    let whole = annotates_whole(plans);
    for (component, plan) in service.components().iter().zip(plans) {
        let Some(Plan::Deliver { store, way }) = plan else {
            continue;
        };
        let Some(way) = effective(service, component, store, *way, whole) else {
            verdict = verdict.warn(line(&format!(
                "{} gets no credentials: {}",
                component.name(),
                store.by_hand()
            )));
            continue;
        };
        let fills = fills_of(subject, component, store, way, whole);
        if fills
            .iter()
            .any(|(path, _)| request.withheld.iter().any(|withheld| covers(withheld, path)))
        {
            let name = component.name();
            verdict = verdict.warn(line(&format!(
                "{name} gets no credentials of {}, since they were taken out by hand",
                store.name()
            )));
            continue;
        }
        for (path, value) in fills {
            if !verdict.fills.iter().any(|fill| fill.path == path) {
                verdict = verdict.fill(path, value, reason(store));
            }
        }
        if let Store::Backend(served) = store {
            verdict = verdict.credentials(served.backend.as_str(), delivery(way));
        }
    }
    verdict
}

/// Whether one annotation on the service does for all: where every component that loads a model is told of the same Secret by it.
fn annotates_whole(plans: &[Option<Plan>]) -> bool {
    let mut secret = None;
    plans.iter().flatten().all(|plan| match plan {
        Plan::Deliver {
            store,
            way: Way::Annotation | Way::StorageKey | Way::Already(Delivery::Annotation | Delivery::StorageKey),
        } => *secret.get_or_insert(store.secret()) == store.secret(),
        Plan::Deliver { .. } | Plan::Apart => false,
    })
}

/// KServe looks for an LLMInferenceService's annotation on its metadata alone. Where its Pods differ, each gets a ServiceAccount, unless its user
/// named one.
fn effective(service: &Service<'_>, component: &Component<'_>, store: &Store, way: Way, whole: bool) -> Option<Way> {
    if way != Way::Annotation || whole || service.kind() != ServiceKind::LlmInferenceService {
        return Some(way);
    }
    (component.service_account_name.is_none() && matches!(store, Store::Backend(_))).then_some(Way::ServiceAccount)
}

fn fills_of(
    subject: &Subject<'_>,
    component: &Component<'_>,
    store: &Store,
    way: Way,
    whole: bool,
) -> Vec<(String, Value)> {
    let annotation = subject.annotation.as_deref().map(|name| {
        let parent = if whole {
            "/metadata/annotations".to_owned()
        } else {
            format!("{}/annotations", component.pointer)
        };
        (pointer::child(&parent, name), Value::from(store.secret()))
    });
    match (way, store) {
        (Way::Already(_), _) => Vec::new(),
        (Way::ServiceAccount, Store::Backend(served)) => {
            vec![(
                component.service_account_pointer().to_owned(),
                Value::from(served.service_account.as_str()),
            )]
        }
        (Way::StorageKey, Store::Backend(served)) => {
            let at = component
                .implementation
                .as_ref()
                .map(|implementation| implementation.pointer.as_str())
                .unwrap_or_default();
            let mut fills = Vec::from_iter(annotation);
            fills.push((format!("{at}/storage/key"), Value::from(served.storage_key.as_str())));
            if component.storage_uris {
                // Without parameters KServe doesn't look at the key (CommonStorageInitialization).
                fills.push((
                    format!("{at}/storage/parameters"),
                    Value::Object(serde_json::Map::new()),
                ));
            }
            fills
        }
        (Way::Annotation | Way::ServiceAccount | Way::StorageKey, _) => Vec::from_iter(annotation),
    }
}

fn delivery(way: Way) -> Delivery {
    match way {
        Way::Already(delivery) => delivery,
        Way::Annotation => Delivery::Annotation,
        Way::ServiceAccount => Delivery::ServiceAccount,
        Way::StorageKey => Delivery::StorageKey,
    }
}

fn reason(store: &Store) -> String {
    match store {
        Store::Backend(served) => cut(&format!("StorageBackend {} serves the URI", served.backend), 90),
        Store::Own(_) => "the namespace's own Secret opens it".to_owned(),
    }
}

fn covers(withheld: &str, path: &str) -> bool {
    path.strip_prefix(withheld)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
