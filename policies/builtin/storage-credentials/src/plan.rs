//! What is done for one component.

use std::borrow::Cow;

use tidewaiter_policy::core::kserve_config::SHIPPED_ANNOTATION;
use tidewaiter_policy::core::pointer;
use tidewaiter_policy::core::service::{Component, Service};
use tidewaiter_policy::storage::{self, Brought, Delivery, Served};
use tidewaiter_policy::{Request, Verdict};

use crate::need::{Need, Store};
use crate::{Settings, Unserved, line, shortened};

/// What is done for one component.
pub(crate) enum Plan {
    /// It is told of a Secret.
    Deliver {
        /// The Secret's store.
        store: Store,
        /// By what way.
        way: Way,
    },
    /// It has, or gets, nothing; but an annotation on the whole service would change what it loads with.
    Apart,
}

/// By what way KServe is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The object says already what would be filled in.
    Already(Delivery),
    /// The annotation.
    Annotation,
    /// The ServiceAccount.
    ServiceAccount,
    /// A storage key, and the annotation for the Secret that it is in.
    StorageKey,
}

/// Decides, and says to the verdict what there is to say.
pub(crate) fn make(
    request: &Request,
    service: &Service<'_>,
    component: &Component<'_>,
    mut need: Need,
    settings: Settings,
    verdict: &mut Verdict,
) -> Option<Plan> {
    let name = component.name();
    if let Some((reason, pointer)) = need.unsupported {
        deny(verdict, "unsupported-uri", format!("{name}: {reason}"), &pointer);
        return None;
    }
    if need.stores.is_empty() && need.not_granted.is_empty() && need.unserved.is_empty() {
        return need.public.then_some(Plan::Apart);
    }
    let annotation = need
        .stores
        .first()
        .map_or(SHIPPED_ANNOTATION, Store::annotation)
        .to_owned();
    let named = if annotation.is_empty() {
        None
    } else {
        component
            .annotation(&annotation)
            .or_else(|| service.annotation(&annotation))
    };
    if let Some(way) = already(component, named.as_deref(), &need) {
        return Some(Plan::Deliver {
            store: need.stores.remove(0),
            way,
        });
    }
    if let Some(what) = brought(request, service, component, named, &need) {
        // Without a store of ours there is nothing that was left alone, unless what they brought isn't there.
        if what.is_missing {
            say(
                verdict,
                &format!("{name} keeps its own credentials, not usable yet: {}", what.text),
            );
        } else if !need.stores.is_empty() || !need.not_granted.is_empty() {
            say(verdict, &format!("{name} keeps its own credentials: {}", what.text));
        }
        return Some(Plan::Apart);
    }
    refuse_or_warn(&name, &need, settings, verdict)?;
    if need.stores.is_empty() {
        return Some(Plan::Apart);
    }
    let store = need.stores.remove(0);
    match way(service, component, &store) {
        Ok(way) => Some(Plan::Deliver { store, way }),
        Err(hint) => {
            say(
                verdict,
                &format!("{name} gets no credentials of {}: {hint}", store.name()),
            );
            Some(Plan::Apart)
        }
    }
}

/// The denials of a component that brought nothing; none where it is denied.
fn refuse_or_warn(name: &str, need: &Need, settings: Settings, verdict: &mut Verdict) -> Option<()> {
    if let Some((refusal, uri, pointer)) = need.not_granted.first() {
        let allowed = if refusal.allowed.is_empty() {
            "nothing of it".to_owned()
        } else {
            refusal.allowed.join(", ")
        };
        let contact = refusal
            .contact
            .as_ref()
            .map_or_else(|| "the cluster's admin".to_owned(), |contact| format!("`{contact}`"));
        let message = format!(
            "{name}: this namespace may not load {uri} from StorageBackend {}; it may use {allowed}. Move the model there, or ask {contact} for a grant",
            refusal.backend
        );
        deny(verdict, "prefix-not-granted", message, pointer);
        return None;
    }
    if let [first, second, ..] = need.stores.as_slice() {
        let message = format!(
            "{name} has models in two stores, {} and {}, and KServe opens a component's models with one Secret. Put the models into one store, or let \
             another component load one of them",
            first.name(),
            second.name()
        );
        deny(verdict, "two-stores", message, "");
        return None;
    }
    for (uri, pointer) in &need.unserved {
        match settings.unserved {
            Unserved::Deny => {
                let message = format!(
                    "{name}: no StorageBackend serves {uri}, and no credentials of your own are named. Put the model into a store that is served, or name a \
                     Secret by the annotation {SHIPPED_ANNOTATION}"
                );
                deny(verdict, "store-unserved", message, pointer);
                return None;
            }
            Unserved::Warn => say(
                verdict,
                &format!(
                    "{name}: no StorageBackend serves {}; it is loaded without credentials",
                    shortened(uri, 60)
                ),
            ),
        }
    }
    Some(())
}

/// The way, where the object names what we would have filled in: someone wrote our names by hand, or sent back what an export showed.
fn already(component: &Component<'_>, named: Option<&str>, need: &Need) -> Option<Way> {
    let [Store::Backend(served)] = need.stores.as_slice() else {
        return None;
    };
    if !need.not_granted.is_empty() {
        return None;
    }
    let ours = named == Some(served.secret.as_str());
    if let Some(storage) = component.storage() {
        return (ours && storage.key.as_deref() == Some(served.storage_key.as_str()))
            .then_some(Way::Already(Delivery::StorageKey));
    }
    if ours {
        return Some(Way::Already(Delivery::Annotation));
    }
    let account = component.service_account_name.as_deref();
    (named.is_none() && account == Some(served.service_account.as_str()))
        .then_some(Way::Already(Delivery::ServiceAccount))
}

struct Own {
    text: String,
    is_missing: bool,
}

/// What the user brought along, and keeps.
fn brought(
    request: &Request,
    service: &Service<'_>,
    component: &Component<'_>,
    named: Option<Cow<'_, str>>,
    need: &Need,
) -> Option<Own> {
    // KServe opens the `storageUris` of every component with the predictor's storage key, if that has parameters (CommonStorageInitialization).
    let shared = || {
        service
            .predictor()
            .and_then(Component::storage)
            .filter(|storage| component.storage_uris && storage.key.is_some() && storage.parameters)
    };
    if let Some(storage) = component.storage().or_else(shared) {
        let text = storage
            .key
            .as_ref()
            .map_or_else(|| "storage".to_owned(), |key| format!("storage key {key}"));
        return Some(Own {
            text,
            is_missing: false,
        });
    }
    if named.as_deref() == Some("") {
        return Some(Own {
            text: "an annotation that names no Secret".to_owned(),
            is_missing: true,
        });
    }
    let account = component
        .service_account_name
        .as_deref()
        .filter(|account| !account.is_empty());
    // Once delivered it stays: that the namespace's default ServiceAccount was given a Secret since is no reason to restart the model.
    if named.is_none()
        && account.is_none()
        && need
            .stores
            .first()
            .is_some_and(|store| is_delivered(request, component, store))
    {
        return None;
    }
    match storage::brought_credentials(account, named.as_deref()) {
        Brought::Nothing if named.is_some() => Some(Own {
            text: format!("Secret {}", named.unwrap_or_default()),
            is_missing: false,
        }),
        Brought::Nothing => None,
        Brought::Usable(what) => Some(Own {
            text: what,
            is_missing: false,
        }),
        Brought::Missing(what) => Some(Own {
            text: what,
            is_missing: true,
        }),
    }
}

/// Whether an earlier admission filled this store in.
fn is_delivered(request: &Request, component: &Component<'_>, store: &Store) -> bool {
    let annotation = pointer::escape(store.annotation());
    request.filled.iter().any(|entry| {
        let says = |value: &str| entry.parsed().as_str() == Some(value);
        let place = entry.path.strip_prefix("/metadata").or_else(|| entry.path.strip_prefix(component.pointer.as_str()));
        if place.and_then(|place| place.strip_prefix("/annotations/")) == Some(annotation.as_str()) {
            return says(store.secret());
        }
        matches!(store, Store::Backend(served) if entry.path == component.service_account_pointer() && says(&served.service_account))
    })
}

/// By what way KServe is told of a store. The error says what the user could do where there is none.
fn way(service: &Service<'_>, component: &Component<'_>, store: &Store) -> Result<Way, String> {
    let can_annotate = !store.annotation().is_empty();
    let Store::Backend(served) = store else {
        return if can_annotate {
            Ok(Way::Annotation)
        } else {
            Err(store.by_hand())
        };
    };
    match served.delivery {
        Delivery::Annotation if can_annotate => Ok(Way::Annotation),
        Delivery::StorageKey if can_annotate => Ok(if takes_storage_key(service, component, served) {
            Way::StorageKey
        } else {
            Way::Annotation
        }),
        // Its user's own ServiceAccount stays; the annotation works with any.
        _ if component.service_account_name.is_none() => Ok(Way::ServiceAccount),
        _ if can_annotate => Ok(Way::Annotation),
        _ => Err(store.by_hand()),
    }
}

/// KServe reads storage keys for a predictor's models, and for S3 among what we deliver. With `storageUris` it takes the predictor's for a transformer's and an
/// explainer's too, which may lie elsewhere.
fn takes_storage_key(service: &Service<'_>, component: &Component<'_>, served: &Served) -> bool {
    let shares = component.storage_uris
        && service
            .components()
            .iter()
            .any(|other| !other.is_predictor() && other.storage_uris);
    let is_model = component
        .implementation
        .as_ref()
        .is_some_and(|implementation| implementation.field != "containers");
    component.is_predictor() && served.kind == "s3" && is_model && !shares
}

fn deny(verdict: &mut Verdict, code: &str, message: String, pointer: &str) {
    *verdict = std::mem::take(verdict).deny(code, message, (!pointer.is_empty()).then_some(pointer));
}

fn say(verdict: &mut Verdict, text: &str) {
    *verdict = std::mem::take(verdict).warn(line(text));
}
