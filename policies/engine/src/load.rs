use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tidewaiter_core::lines;
use tidewaiter_core::policy_resource::{Capability, FailurePolicy, Limits, Mode};
use wasmtime::component::Component;

use crate::bindings::{PolicyPre, tidewaiter};
use crate::cache::InUse;
use crate::contract::{Imports, VERSION, check_exports, check_grants};
use crate::describe;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::host::State;
use crate::run;
use crate::schema::Schema;

/// Settings go into a policy with every request, so they are no place for data.
const SETTINGS_BYTES: usize = 256 << 10;
/// For each of the two calls at load, beside the policy's own limit: a stop for one that does nothing but wait for a free slot.
const LOAD_BUDGET: Duration = Duration::from_secs(30);
/// How often a component's memory is tried to be sealed.
const SEALS: usize = 10;

/// A policy to load.
#[derive(Clone, Debug)]
pub struct PolicySpec {
    /// The `WasmPolicy`'s name: it is the one that users and admins read.
    pub name: String,
    /// The component's bytes.
    pub component: Bytes,
    /// Settings; null is none.
    pub settings: Value,
    /// What it may import.
    pub capabilities: Vec<Capability>,
    /// What one run may take.
    pub limits: Limits,
    /// What its failure means.
    pub failure: FailurePolicy,
    /// Whether its fills and denials count.
    pub mode: Mode,
}

/// Why a policy can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are a core module.
    #[error(
        "it is a core module, and a policy is a component: `tidewaiter policy build` makes one of a project's module"
    )]
    CoreModule,
    /// The bytes are something else.
    #[error("the policy is no WebAssembly component: its first bytes are not those of one")]
    NotAComponent,
    /// It doesn't compile.
    #[error("the policy doesn't compile: {0}")]
    Compile(String),
    /// It imports interfaces of the contract that it wasn't granted.
    #[error(
        "the policy imports {imports}, which it is not granted; add {capabilities} to its capabilities, or use another policy"
    )]
    NotGranted {
        /// The imports' full names.
        imports: String,
        /// What to grant.
        capabilities: String,
    },
    /// It is built against a contract that came after this one, and needs what came with that.
    #[error(
        "the policy is built against the contract tidewaiter:policy@{version}, and this Tidewaiter speaks tidewaiter:policy@{VERSION}{unknown}; update Tidewaiter, or build the policy against {VERSION}"
    )]
    Future {
        /// The contract's version that it was built against.
        version: String,
        /// A clause on what of it isn't known here; empty where that is all of it.
        unknown: String,
    },
    /// It imports something that isn't in the contract.
    #[error(
        "the policy imports {0}, which is not in the contract tidewaiter:policy@{VERSION}; of WASI there is only what a language's runtime needs to begin, and nothing in it"
    )]
    UnknownImport(String),
    /// It doesn't export what the contract says.
    #[error("the policy doesn't fit the contract tidewaiter:policy@{VERSION}: {0}")]
    Contract(String),
    /// What it says of itself can't be shown to anybody.
    #[error(
        "what the policy says of itself breaks the contract tidewaiter:policy@{VERSION}: {0}; its author has to mend it"
    )]
    Description(String),
    /// The schema that it carries is none, or one that can't be applied within limits.
    #[error("the policy's settings schema can't be used: {0}; its author has to mend it")]
    Schema(String),
    /// It failed when it was asked what it is, or whether its settings can be used.
    #[error("the policy {0} when it was loaded")]
    Failed(Failure),
    /// Its settings don't fit its schema, or it refuses them.
    #[error("the policy refuses its settings: {0}")]
    Settings(String),
}

/// A policy that can review, or counts as one that fails. Cheap to clone.
#[derive(Clone)]
pub struct LoadedPolicy {
    pub(crate) terms: Terms,
    pub(crate) loaded: Result<Arc<Loaded>, Failure>,
}

/// How a policy counts.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) name: Arc<str>,
    pub(crate) failure: FailurePolicy,
    pub(crate) mode: Mode,
    /// Whether it may ask for credentials: it has the capability `storage`.
    pub(crate) delivers: bool,
}

pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    pub(crate) terms: Terms,
    pub(crate) pre: PolicyPre<State>,
    /// JSON text.
    pub(crate) settings: String,
    pub(crate) limits: Limits,
    /// The most memory that a review of it took so far, in MiB; 0 for none yet.
    pub(crate) peak: Arc<AtomicU32>,
    imports: Vec<Capability>,
    description: Option<Description>,
    _file: Option<InUse>,
}

pub use tidewaiter::policy::types::{Description, ObjectKind};

impl LoadedPolicy {
    /// The `WasmPolicy`'s name.
    pub fn name(&self) -> &Arc<str> {
        &self.terms.name
    }

    /// A policy that can't be loaded: its failure policy decides what that means for the objects that it matches.
    pub fn not_loaded(name: &str, failure: FailurePolicy, mode: Mode) -> Self {
        let name = name.into();
        Self {
            terms: Terms {
                name,
                failure,
                mode,
                delivers: false,
            },
            loaded: Err(Failure::NotLoaded),
        }
    }

    /// The policy as one that fails like this instead of being asked. One that fails already stays as it is.
    #[must_use]
    pub fn failing(&self, failure: Failure) -> Self {
        Self {
            terms: self.terms.clone(),
            loaded: Err(self.loaded.as_ref().err().cloned().unwrap_or(failure)),
        }
    }

    /// What the policy imports of what it is granted, in the order of the contract; nothing where it can't be loaded.
    pub fn imports(&self) -> &[Capability] {
        self.loaded.as_ref().map_or(&[], |loaded| &loaded.imports)
    }

    /// Whether the policy would still load with these settings and capabilities in the place of its own: what [`Engine::load`] checks of them, without
    /// compiling anything. One that can't be loaded takes everything: nobody can say what it would take.
    ///
    /// # Errors
    /// Why not, for the admin.
    pub async fn takes(&self, settings: Value, capabilities: &[Capability]) -> Result<(), LoadError> {
        let Ok(loaded) = &self.loaded else { return Ok(()) };
        check_grants(&loaded.imports, capabilities)?;
        check_settings(loaded, settings).await
    }

    /// What the policy says of itself.
    pub fn description(&self) -> Option<&Description> {
        self.loaded.as_ref().ok()?.description.as_ref()
    }
}

impl fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedPolicy")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Compiles a policy (or takes it from the cache), checks it, and asks it about its settings. Takes as long as a compilation; not for
    /// the way of a request.
    ///
    /// # Errors
    /// Why the policy can't be used, for the admin.
    pub async fn load(&self, spec: PolicySpec) -> Result<LoadedPolicy, LoadError> {
        let settings = spec.settings.clone();
        let loaded = self.described(spec).await?;
        check_settings(&loaded, settings).await?;
        Ok(LoadedPolicy {
            terms: loaded.terms.clone(),
            loaded: Ok(Arc::new(loaded)),
        })
    }

    /// What a component says of itself, whatever it imports of the contract and whatever settings it needs.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for what is wrong with settings and grants.
    pub async fn describe(&self, component: Bytes) -> Result<Description, LoadError> {
        let spec = PolicySpec {
            name: "policy".to_owned(),
            component,
            settings: Value::Null,
            capabilities: vec![
                Capability::Storage,
                Capability::Runtimes,
                Capability::Cluster,
                Capability::Log,
            ],
            limits: Limits::default(),
            failure: FailurePolicy::default(),
            mode: Mode::default(),
        };
        let described = self.described(spec).await?.description;
        described.ok_or_else(|| LoadError::Contract("it doesn't say what it is".to_owned()))
    }

    /// Compiled, checked, and asked what it is; its settings are as they were given.
    async fn described(&self, spec: PolicySpec) -> Result<Loaded, LoadError> {
        match spec.component.get(..8) {
            Some(b"\0asm\x0d\0\x01\0") => {}
            Some(b"\0asm\x01\0\0\0") => return Err(LoadError::CoreModule),
            _ => return Err(LoadError::NotAComponent),
        }
        let (engine, bytes) = (self.clone(), spec.component.clone());
        let turn = Arc::clone(&self.0.compiling).acquire_owned().await;
        let (component, file) = tokio::task::spawn_blocking(move || {
            // Until it is compiled, even where nobody waits for it any more.
            let _turn = turn;
            let (component, file) = engine.compile(&bytes)?;
            unless_busy(|| component.initialize_copy_on_write_image())
                .map_err(|error| LoadError::Failed(Failure::Start(format!("{error:#}"))))?;
            Ok((component, file))
        })
        .await
        .map_err(|error| LoadError::Compile(error.to_string()))??;
        let imports = Imports::of(&self.0.engine, &component, &spec.capabilities)?;
        check_exports(&self.0.engine, &component)?;
        let pre = self
            .0
            .linker
            .instantiate_pre(&component)
            .and_then(PolicyPre::new)
            .map_err(|error| imports.misfit(&error))?;
        let mut loaded = Loaded {
            engine: self.clone(),
            terms: Terms {
                name: spec.name.into(),
                failure: spec.failure,
                mode: spec.mode,
                delivers: spec.capabilities.contains(&Capability::Storage),
            },
            pre,
            settings: settings_text(&spec.settings),
            limits: spec.limits,
            peak: Arc::default(),
            imports: imports.capabilities,
            description: None,
            _file: file,
        };
        let description = at_load(&loaded, async |policy, store| policy.call_describe(store).await).await?;
        describe::check(&description).map_err(LoadError::Description)?;
        loaded.description = Some(description);
        Ok(loaded)
    }

    /// With what keeps its file in the cache, if it has one there.
    fn compile(&self, bytes: &[u8]) -> Result<(Component, Option<InUse>), LoadError> {
        if let Some(shipped) = &self.0.shipped
            && let Some(component) = shipped.component(&self.0.engine, bytes)
        {
            return Ok((component, None));
        }
        let compile = || Component::from_binary(&self.0.engine, bytes);
        match &self.0.cache {
            Some(cache) => cache
                .component(&self.0.engine, bytes, compile)
                .map(|(component, file)| (component, Some(file))),
            None => compile().map(|component| (component, None)),
        }
        .map_err(|error| LoadError::Compile(format!("{error:#}")))
    }
}

/// Linux refuses to seal the memory that every instance begins with (EBUSY) while anything else has its pages in hand, such as the kernel's own reclaim. It
/// waits some 150 ms by itself before it says so (mm/memfd.c, `memfd_wait_for_pins`).
fn unless_busy(mut seal: impl FnMut() -> wasmtime::Result<()>) -> wasmtime::Result<()> {
    let is_busy = |error: &wasmtime::Error| {
        let cause = error.root_cause().downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ResourceBusy)
    };
    for _ in 1..SEALS {
        match seal() {
            Err(error) if is_busy(&error) => {}
            done => return done,
        }
    }
    seal()
}

/// JSON text; of no settings it is an empty object.
fn settings_text(settings: &Value) -> String {
    if settings.is_null() {
        "{}".to_owned()
    } else {
        settings.to_string()
    }
}

/// Against the schema first, then by the policy itself.
async fn check_settings(loaded: &Loaded, settings: Value) -> Result<(), LoadError> {
    let text = settings_text(&settings);
    if text.len() > SETTINGS_BYTES {
        return Err(LoadError::Settings(format!(
            "they have {} bytes, and may have {SETTINGS_BYTES}",
            text.len()
        )));
    }
    let description = loaded.description.as_ref();
    if let Some(schema) = description.and_then(|description| description.settings_schema.clone()) {
        let fit = move || {
            let settings = if settings.is_null() { json!({}) } else { settings };
            let schema = Schema::parse(&schema).map_err(LoadError::Schema)?;
            schema.check(&settings).map_err(LoadError::Settings)
        };
        // On a thread of its own: it may take some milliseconds, and what panics there ends there.
        tokio::task::spawn_blocking(fit)
            .await
            .map_err(|_| LoadError::Schema("it can't be applied".to_owned()))??;
    }
    at_load(loaded, async |policy, store| {
        policy.call_check_settings(store, &text).await
    })
    .await?
    .map_err(|refused| LoadError::Settings(lines::cut(&refused, lines::MESSAGE)))
}

async fn at_load<T>(
    loaded: &Loaded,
    call: impl AsyncFnOnce(&crate::bindings::Policy, &mut wasmtime::Store<State>) -> wasmtime::Result<T>,
) -> Result<T, LoadError> {
    let mut host = Duration::ZERO;
    let call = run::call(loaded, loaded.state(), &mut host, call);
    tokio::time::timeout(LOAD_BUDGET, call)
        .await
        .unwrap_or(Err(Failure::Budget))
        .map_err(LoadError::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_kernel_is_asked_again() {
        const EBUSY: i32 = 16;
        const ENOMEM: i32 = 12;
        let tries = |refused: usize, with: i32| {
            let mut tries = 0;
            let done = unless_busy(|| {
                tries += 1;
                if tries <= refused {
                    return Err(io::Error::from_raw_os_error(with).into());
                }
                Ok(())
            });
            (tries, done.map_err(|error| error.to_string()))
        };
        assert_eq!(tries(2, EBUSY), (3, Ok(())));
        let (often, refused) = tries(usize::MAX, EBUSY);
        assert_eq!(often, SEALS);
        assert!(refused.unwrap_err().contains("busy"));
        let (once, refused) = tries(usize::MAX, ENOMEM);
        assert_eq!(once, 1);
        assert!(refused.is_err());
    }
}
