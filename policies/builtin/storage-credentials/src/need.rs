//! What the models of one component need to be loaded.

use tidewaiter_policy::core::service::{Component, Model};
use tidewaiter_policy::storage::{self, NotGranted, Resolution, Served, Unusable};
use tidewaiter_policy::{Request, storage_containers};

/// What a component's models need, in the order of its models.
pub(crate) struct Need {
    /// Stores that need credentials, each once.
    pub(crate) stores: Vec<Store>,
    /// Models that the namespace may not load, with the field that names them.
    pub(crate) not_granted: Vec<(NotGranted, String, String)>,
    /// Models whose backend can't be used.
    pub(crate) unusable: Vec<(Unusable, String, String)>,
    /// Models that no backend serves.
    pub(crate) unserved: Vec<(String, String)>,
    /// A model that KServe can't load: why, and the field that names it.
    pub(crate) unsupported: Option<(String, String)>,
    /// A model that needs nothing, but is downloaded: from a public store.
    pub(crate) public: bool,
}

/// A store that needs credentials.
pub(crate) enum Store {
    /// One of the cluster's.
    Backend(Served),
    /// One that the namespace has a Secret for, by the Secret's name.
    Own(String),
}

impl Store {
    /// The Secret that opens it.
    pub(crate) fn secret(&self) -> &str {
        match self {
            Self::Backend(served) => &served.secret,
            Self::Own(name) => name,
        }
    }

    /// What the user could do where nothing can be filled in.
    pub(crate) fn by_hand(&self) -> String {
        format!("list Secret {} in its ServiceAccount", self.secret())
    }

    /// As a person calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Backend(served) => format!("StorageBackend {}", served.backend),
            Self::Own(name) => format!("Secret {name}"),
        }
    }
}

/// What a component needs; none where it loads no model by a URI, as a server of many models does.
pub(crate) fn of(component: &Component<'_>, request: &Request) -> Option<Need> {
    let mut need = Need {
        stores: Vec::new(),
        not_granted: Vec::new(),
        unusable: Vec::new(),
        unserved: Vec::new(),
        unsupported: None,
        public: false,
    };
    let mut asked: Vec<&str> = Vec::new();
    for Model { uri, pointer } in &component.models {
        if asked.contains(&&**uri) {
            continue;
        }
        asked.push(uri);
        match storage::resolve(uri) {
            Resolution::Served(served) if served.anonymous => need.public = true,
            Resolution::Served(served) => need.push(Store::Backend(served)),
            Resolution::OwnSecret(name) => need.push(Store::Own(name)),
            Resolution::NotGranted(refusal) => need.not_granted.push((refusal, uri.to_string(), pointer.clone())),
            Resolution::Unusable(unusable) => need.unusable.push((unusable, uri.to_string(), pointer.clone())),
            Resolution::Unserved => need.unserved.push((uri.to_string(), pointer.clone())),
            Resolution::NoCredentials => {}
            Resolution::Unsupported(_) if storage_containers::may_fetch(request, uri) => {
                need.unserved.push((uri.to_string(), pointer.clone()));
            }
            Resolution::Unsupported(reason) => need.unsupported = need.unsupported.or(Some((reason, pointer.clone()))),
        }
    }
    (!component.models.is_empty()).then_some(need)
}

impl Need {
    /// Whether all that it loads is open to everyone.
    pub(crate) fn is_public_alone(&self) -> bool {
        self.public && self.stores.is_empty() && !self.is_refused() && self.unserved.is_empty()
    }

    /// Whether it loads a model that its namespace can't have from the store, unless it brought credentials.
    pub(crate) fn is_refused(&self) -> bool {
        !self.not_granted.is_empty() || !self.unusable.is_empty()
    }

    fn push(&mut self, store: Store) {
        if !self.stores.iter().any(|known| known.secret() == store.secret()) {
            self.stores.push(store);
        }
    }
}
