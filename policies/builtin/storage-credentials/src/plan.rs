//! What is done for one component.

use tidewaiter_policy::core::lines::{cut, line};
use tidewaiter_policy::core::pointer;
use tidewaiter_policy::core::service::{Component, Service};
use tidewaiter_policy::core::uri::{Scheme, StorageUri};
use tidewaiter_policy::storage::{self, Brought, Delivery, Served};
use tidewaiter_policy::{Request, Verdict};

use crate::need::{Need, Store};
use crate::{Subject, Unserved};

/// Of what is wrong with a backend, a user is told so many characters: whom to ask stands behind it.
const REASON: usize = 400;

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
    subject: &Subject<'_>,
    component: &Component<'_>,
    mut need: Need,
    verdict: &mut Verdict,
) -> Option<Plan> {
    let name = component.name();
    if let Some((reason, pointer)) = need.unsupported {
        deny(verdict, "unsupported-uri", format!("{name}: {reason}"), &pointer);
        return None;
    }
    if need.stores.is_empty() && !need.is_refused() && need.unserved.is_empty() && !need.public {
        return None;
    }
    let named = subject.named(component);
    if need.is_public_alone() && named.is_none() && account_of(component).is_none() {
        return Some(Plan::Apart);
    }
    if let Some(way) = already(component, named.as_deref(), &need) {
        return Some(Plan::Deliver {
            store: need.stores.remove(0),
            way,
        });
    }
    let ours = match brought(subject, component, named.as_deref(), &need) {
        Held::Nothing => Vec::new(),
        Held::Unknown(what) => {
            say(verdict, &format!("{name} may have its own credentials: {what}"));
            Vec::new()
        }
        Held::Ours(secrets) => secrets,
        Held::Own(what) => {
            // Without a store of ours there is nothing that was left alone, unless what they brought isn't there.
            if !need.stores.is_empty() || need.is_refused() {
                say(verdict, &format!("{name} keeps its own credentials: {what}"));
            }
            return Some(Plan::Apart);
        }
        Held::NotYet(what) => {
            if !need.is_public_alone() {
                say(
                    verdict,
                    &format!("{name} keeps its own credentials, not usable yet: {what}"),
                );
            }
            return Some(Plan::Apart);
        }
    };
    refuse_or_warn(subject, &name, &need, &ours, named.as_deref(), verdict)?;
    if need.stores.is_empty() {
        return Some(Plan::Apart);
    }
    let store = need.stores.remove(0);
    if let Some(storage) = component.storage() {
        let key = storage.key.as_deref().unwrap_or_default();
        say(verdict, &format!("{name} keeps its own storage key: {key}"));
        return Some(Plan::Apart);
    }
    match way(subject, component, &store) {
        Ok(way) => Some(Plan::Deliver { store, way }),
        // Its user listed our Secret, as the hint says.
        Err(_) if !ours.is_empty() => Some(Plan::Deliver {
            store,
            way: Way::Already(Delivery::Annotation),
        }),
        Err(hint) => {
            say(verdict, &format!("{name} gets no credentials: {hint}"));
            Some(Plan::Apart)
        }
    }
}

/// Refuses a model that is named by a storage key in one of our Secrets: without a URI there is nothing to judge by the grants.
pub(crate) fn refuse_key_alone(subject: &Subject<'_>, component: &Component<'_>, verdict: &mut Verdict) {
    let Some(at) = component.implementation.as_ref().filter(|at| at.storage.is_some()) else {
        return;
    };
    if !component.models.is_empty() {
        return;
    }
    let (Some(annotation), Some(named)) = (&subject.annotation, subject.named(component)) else {
        return;
    };
    if named.is_empty() {
        return;
    }
    if let Brought::Managed(_) = storage::brought_credentials(None, Some(&named)) {
        let message = format!(
            "{}: Secret {named} is kept by Tidewaiter and opens models that are named by their URI. Write storageUri in place of storage, and take out \
             the annotation {annotation}",
            component.name()
        );
        deny(
            verdict,
            "managed-secret",
            message,
            &pointer::child(&at.pointer, "storage"),
        );
    }
}

/// Says of a model whose URI the object doesn't show that nothing was done for it, unless its user brought what opens it.
pub(crate) fn say_unseen(subject: &Subject<'_>, component: &Component<'_>, verdict: &mut Verdict) {
    let Some(at) = component
        .implementation
        .as_ref()
        .filter(|_| component.models.is_empty())
    else {
        return;
    };
    let named = subject.named(component).filter(|named| !named.is_empty());
    let name = component.name();
    if let Some(storage) = &at.storage {
        // Its store is what a Secret of the namespace says: the one that is named, else KServe's `storage-config`. Without a path KServe downloads nothing.
        let is_asked = storage.path.is_some() || storage.parameters;
        if is_asked && storage.key.is_none() && named.is_none() {
            say(
                verdict,
                &format!(
                    "{name} gets no credentials: storage without key names no store; write storageUri in its place"
                ),
            );
        }
    } else if at.uri_from_elsewhere {
        // The initializer is given what stands in `value` alone (`predictor_custom.go` of KServe), which is nothing.
        let brought = storage::brought_credentials(account_of(component), named.as_deref());
        if !matches!(brought, Brought::Usable(_) | Brought::Missing(_)) {
            say(
                verdict,
                &format!(
                    "{name} gets no credentials: STORAGE_URI by valueFrom can't be seen; write it as a plain value"
                ),
            );
        }
    }
}

/// The denials of a component that brought nothing; none where it is denied.
///
/// `ours` are Secrets of Tidewaiter's that its user named.
fn refuse_or_warn(
    subject: &Subject<'_>,
    name: &str,
    need: &Need,
    ours: &[String],
    named: Option<&str>,
    verdict: &mut Verdict,
) -> Option<()> {
    if let Some((refusal, uri, pointer)) = need.not_granted.first() {
        let allowed = if refusal.allowed.is_empty() {
            "nothing of it".to_owned()
        } else {
            refusal.allowed.join(", ")
        };
        let contact = whom(refusal.contact.as_deref());
        let message = format!(
            "{name}: this namespace may not load {uri} from StorageBackend {}; it may use {allowed}. Move the model there, or ask {contact} for a grant",
            refusal.backend
        );
        deny(verdict, "prefix-not-granted", message, pointer);
        return None;
    }
    if let Some((unusable, uri, pointer)) = need.unusable.first() {
        let message = format!(
            "{name}: the StorageBackend {} that serves {uri} can't be used: {}. Ask {} to mend it, or bring credentials of your own",
            unusable.backend,
            cut(&unusable.reason, REASON),
            whom(unusable.contact.as_deref())
        );
        deny(verdict, "backend-unusable", message, pointer);
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
    // A backend's key may open more than what the backend serves.
    if let Some(first) = ours.first() {
        let fits = need.stores.first().is_some_and(|store| {
            let overrides = named.is_none() && subject.annotation.is_some();
            overrides || ours.iter().all(|secret| secret == store.secret())
        });
        if !fits || !need.unserved.is_empty() {
            let what = if named.is_some() {
                "the annotation that names it"
            } else {
                "it out of the ServiceAccount's Secrets, or the serviceAccountName"
            };
            let message = format!(
                "{name}: Secret {first} is kept by Tidewaiter, and opens only what its StorageBackend serves; the model lies elsewhere. Take out {what}"
            );
            deny(verdict, "managed-secret", message, "");
            return None;
        }
    }
    // So does it where it is delivered for another model of the component.
    if let Some(store @ Store::Backend(served)) = need.stores.first()
        && let Some((uri, pointer)) = need.unserved.iter().find(|(uri, _)| opens(&served.kind, uri))
    {
        let message = format!(
            "{name} has models in two stores, {} and {uri}, which no StorageBackend serves, and KServe opens a component's models with one Secret. Put \
             the models into one store, or let another component load one of them",
            store.name()
        );
        deny(verdict, "two-stores", message, pointer);
        return None;
    }
    for (uri, pointer) in &need.unserved {
        match subject.settings.unserved {
            Unserved::Deny => {
                let by_hand = subject.annotation.as_ref().map_or_else(
                    || "list a Secret in its ServiceAccount".to_owned(),
                    |annotation| format!("name a Secret by the annotation {annotation}"),
                );
                let message = match unknown_scheme(uri) {
                    Some((scheme, hint)) => format!(
                        "{name}: KServe's storage initializer can't download {uri}, and no StorageBackend serves {scheme}://; {hint}. If a \
                         ClusterStorageContainer downloads it, {by_hand}"
                    ),
                    None => format!(
                        "{name}: no StorageBackend serves {uri}, and no credentials of your own are named. Put the model into a store that is served, or {by_hand}"
                    ),
                };
                deny(verdict, "store-unserved", message, pointer);
                return None;
            }
            Unserved::Warn => match unknown_scheme(uri) {
                Some((scheme, hint)) => say(
                    verdict,
                    &format!("{name}: KServe itself can't download {scheme}://; {hint}"),
                ),
                None => say(
                    verdict,
                    &format!("{name}: no credentials; no StorageBackend serves {uri}"),
                ),
            },
        }
    }
    Some(())
}

/// The scheme of a URI that KServe's storage initializer doesn't know, and what could be meant. Only a ClusterStorageContainer of the admin's can load it.
fn unknown_scheme(uri: &str) -> Option<(String, String)> {
    let (scheme, _) = uri.split_once("://")?;
    if StorageUri::parse(uri).ok()?.scheme() != Scheme::Other {
        return None;
    }
    let hint = match scheme {
        "minio" => "MinIO speaks S3: write s3://bucket/path".to_owned(),
        _ => format!("it knows {}", Scheme::KNOWN),
    };
    // The hint is to fit the line, too.
    Some((cut(scheme, 20), hint))
}

/// Whom a user asks, by a backend's `contact`.
fn whom(contact: Option<&str>) -> String {
    contact.map_or_else(|| "the cluster's admin".to_owned(), |contact| format!("`{contact}`"))
}

/// Whether KServe uses the credentials of this kind of store for a URI, wherever it points.
fn opens(kind: &str, uri: &str) -> bool {
    let scheme = uri.split("://").next().unwrap_or_default();
    match kind {
        "s3" => scheme == "s3",
        "gcs" => scheme == "gs",
        "huggingface" => scheme == "hf",
        "azure" | "https" => scheme == "https",
        "hdfs" => matches!(scheme, "hdfs" | "webhdfs"),
        _ => false,
    }
}

/// The way, where the object names what we would have filled in: someone wrote our names by hand, or sent back what an export showed.
fn already(component: &Component<'_>, named: Option<&str>, need: &Need) -> Option<Way> {
    let [Store::Backend(served)] = need.stores.as_slice() else {
        return None;
    };
    if need.is_refused() {
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

/// What a component has before anything is done.
enum Held {
    /// Nothing that opens a store.
    Nothing,
    /// Its user's own credentials.
    Own(String),
    /// Its user names something that isn't there, or can't be used.
    NotYet(String),
    /// These Secrets of Tidewaiter's, which its user named.
    Ours(Vec<String>),
    /// That can't be seen now, and doesn't change what is done.
    Unknown(String),
}

/// What the user brought along, and keeps.
fn brought(subject: &Subject<'_>, component: &Component<'_>, named: Option<&str>, need: &Need) -> Held {
    // KServe opens the `storageUris` of every component with the predictor's storage key, if that has parameters (CommonStorageInitialization).
    let shared = || {
        subject
            .service
            .predictor()
            .and_then(Component::storage)
            .filter(|storage| component.storage_uris && storage.key.is_some() && storage.parameters)
    };
    if let Some(storage) = component.storage().or_else(shared) {
        // The annotation says which Secret the key is in.
        if let Some(named) = named.filter(|named| !named.is_empty())
            && let Brought::Managed(secrets) = storage::brought_credentials(None, Some(named))
        {
            return Held::Ours(secrets);
        }
        let key = storage.key.as_ref();
        return Held::Own(key.map_or_else(|| "storage".to_owned(), |key| format!("storage key {key}")));
    }
    if named == Some("") {
        return Held::NotYet("an annotation that names no Secret".to_owned());
    }
    let account = account_of(component);
    let delivered = named.is_none()
        && need
            .stores
            .first()
            .is_some_and(|store| is_delivered(subject, component, store));
    // Once delivered it stays: that the namespace's default ServiceAccount was given a Secret since is no reason to restart the model.
    if delivered && account.is_none() {
        return Held::Nothing;
    }
    match storage::brought_credentials(account, named) {
        Brought::Nothing => named.map_or(Held::Nothing, |named| Held::Own(format!("Secret {named}"))),
        Brought::Usable(what) => Held::Own(what),
        Brought::Managed(secrets) => Held::Ours(secrets),
        // A look that failed takes nothing away, and gives nothing that wasn't granted.
        Brought::Unknown(what)
            if (delivered && is_same_account(subject.request, component))
                || (named.is_none() && account.is_none())
                || need.is_refused() =>
        {
            Held::Unknown(what)
        }
        Brought::Missing(what) | Brought::Unknown(what) => Held::NotYet(what),
    }
}

fn account_of<'a>(component: &'a Component<'_>) -> Option<&'a str> {
    component
        .service_account_name
        .as_deref()
        .filter(|account| !account.is_empty())
}

/// Whether the stored object names the same `ServiceAccount` for this component.
fn is_same_account(request: &Request, component: &Component<'_>) -> bool {
    let Some(Ok(old)) = request
        .old_object
        .as_ref()
        .map(|old| Service::parse(&request.kind, old))
    else {
        return false;
    };
    let mut components = old.components().iter();
    components.any(|old| old.pointer == component.pointer && account_of(old) == account_of(component))
}

/// Whether an earlier admission filled this store in.
fn is_delivered(subject: &Subject<'_>, component: &Component<'_>, store: &Store) -> bool {
    let annotation = subject.annotation.as_deref().map(pointer::escape);
    subject.request.filled.iter().any(|entry| {
        let says = |value: &str| entry.parsed().as_str() == Some(value);
        let place = entry.path.strip_prefix("/metadata").or_else(|| entry.path.strip_prefix(component.pointer.as_str()));
        let annotated = place.and_then(|place| place.strip_prefix("/annotations/"));
        if annotated.is_some() && annotated == annotation.as_deref() {
            return says(store.secret());
        }
        matches!(store, Store::Backend(served) if entry.path == component.service_account_pointer() && says(&served.service_account))
    })
}

/// By what way KServe is told of a store. The error says what the user could do where there is none.
fn way(subject: &Subject<'_>, component: &Component<'_>, store: &Store) -> Result<Way, String> {
    let can_annotate = subject.annotation.is_some();
    let Store::Backend(served) = store else {
        return if can_annotate {
            Ok(Way::Annotation)
        } else {
            Err(store.by_hand())
        };
    };
    match served.delivery {
        Delivery::Annotation if can_annotate => Ok(Way::Annotation),
        Delivery::StorageKey if can_annotate => Ok(if takes_storage_key(subject.service, component, served) {
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
