//! The world's answers. In a component the calls are the contract's imports; natively a [`testing::World`](crate::testing::World) answers.

/// One line a call, so that both sides can't drift apart.
macro_rules! host {
    ($interface:ident: $($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)?;)*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// Natively, outside a [`testing::World`](crate::testing::World).
        pub fn $name($($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "wasm32")]
            return crate::bindings::tidewaiter::policy::$interface::$name($($arg),*);
            #[cfg(not(target_arch = "wasm32"))]
            crate::testing::host::$interface::$name($($arg),*)
        }
    )*};
}

/// The model stores of the cluster, inside what the object's namespace may use. Names and answers, never a secret.
pub mod storage {
    pub use crate::bindings::tidewaiter::policy::storage::{
        Brought, Error, Listing, NotGranted, ObjectInfo, Resolution, Served, Unusable,
    };
    pub use crate::bindings::tidewaiter::policy::types::Delivery;

    host! { storage:
        /// Which backend serves this URI for the object's namespace.
        resolve(uri: &str) -> Resolution;
        /// The annotation by which KServe is told the name of a Secret, on an object or a component: `serving.kserve.io/storageSecretName`
        /// unless KServe's configuration names another. None where it names none: then only a `ServiceAccount` brings a Secret.
        secret_annotation() -> Option<String>;
        /// Whether the user brought credentials: by the Secret they name in the annotation [`secret_annotation`], else by the `ServiceAccount` they name,
        /// else by the namespace's `default` `ServiceAccount`.
        brought_credentials(service_account: Option<&str>, secret: Option<&str>) -> Brought;
        /// The object at exactly this URI. Path in the answer: empty.
        stat(uri: &str) -> Result<ObjectInfo, Error>;
        /// The objects below this URI, in the order of their names; at most `limit`, and never more than 1,000. Sizes are in bytes.
        list_objects(uri: &str, limit: u32) -> Result<Listing, Error>;
        /// `length` bytes from `offset`, fewer at the end of the object; at most 1 MiB a call.
        read(uri: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error>;
        /// What stands directly in this folder, in the order of the names; at most `limit`, and never more than 1,000. The path of a folder in it ends in `/`,
        /// and its size is 0.
        list_folder(uri: &str, limit: u32) -> Result<Listing, Error>;
    }
}

/// The serving runtimes of the cluster, and what is known of their images.
pub mod runtimes {
    pub use crate::bindings::tidewaiter::policy::runtimes::{PackageVersion, Release, Runtime};

    host! { runtimes:
        /// The runtimes that support a format in the object's namespace, in the order in which KServe tries them. KServe picks the
        /// first that is not disabled, may be auto-selected, and speaks the service's protocol (`v1` where none is set).
        supporting(format: &str, version: Option<&str>) -> Vec<Runtime>;
        /// The runtime by this name that the object's namespace sees.
        named(name: &str) -> Option<Runtime>;
        /// The `spec` of the runtime by this name, as JSON text. None where there is no such runtime, or where Tidewaiter only knows of it what KServe
        /// installs (a folder that lists no runtimes).
        spec(name: &str) -> Option<String>;
        /// The release of an image by its tag, with the versions of these packages (names as on PyPI). None where the catalogue doesn't know it. A digest
        /// stands in for a tag where an admin's catalogue says which release it is.
        release_of(repository: &str, tag: &str, packages: &[String]) -> Option<Release>;
        /// The releases of an image that the catalogue knows, oldest first, with the versions of these packages (names as on PyPI).
        releases(repository: &str, packages: &[String]) -> Vec<Release>;
        /// Of these packages (names as PyPI normalises them), those that images of this repository are known to be without.
        lacking(repository: &str, packages: &[String]) -> Vec<String>;
    }
}

/// The cluster around the object.
pub mod cluster {
    pub use crate::bindings::tidewaiter::policy::cluster::Label;

    host! { cluster:
        /// Labels of the object's namespace.
        namespace_labels() -> Vec<Label>;
        /// The architectures of the cluster's nodes, as in `kubernetes.io/arch`, sorted, each once.
        node_architectures() -> Vec<String>;
        /// An object of a kind that the `WasmPolicy` declares, as JSON text without `managedFields`, from the object's namespace (or cluster-scoped). Never a
        /// Secret. The error is one line, for the log or a warning.
        get_object(api_version: &str, kind: &str, name: &str) -> Result<Option<String>, String>;
        /// All objects of such a kind in the object's namespace (or of the cluster), in the order of their names. At most 100 objects and 1 MiB in all; where
        /// there is more, the error says which of the two it is.
        list_objects(api_version: &str, kind: &str) -> Result<Vec<String>, String>;
        /// One key of KServe's ConfigMap `inferenceservice-config`, such as `deploy`, as JSON text. None where the key, or the whole ConfigMap, isn't known.
        kserve_config(key: &str) -> Option<String>;
    }

    /// One label of the object's namespace.
    ///
    /// # Panics
    /// As [`namespace_labels`].
    pub fn namespace_label(key: &str) -> Option<String> {
        let label = namespace_labels().into_iter().find(|label| label.key == key);
        label.map(|label| label.value)
    }
}

/// Lines for the server's log, with the policy's and the object's name added.
pub mod log {
    pub use crate::bindings::tidewaiter::policy::log::Level;

    host! { log:
        /// One line.
        write(level: Level, message: &str);
    }
}
