//! Modules that come over the network: fetched beside everything else, looked up again and again, and handed over when they are here.
//!
//! ```text
//! WasmPolicy ─▶ what is asked for ─▶ a task each: disk, registry, disk … ─▶ supplied with the objects ─▶ loaded (`loading.rs`) ─▶ kept on disk once it loads
//! ```
//!
//! A registry that hangs holds up its own policy alone. A configuration waits for a new module for a moment, so that it needn't be made twice.

mod first_look;
mod settings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidewaiter_core::policy_resource::{Module, OciModule, WasmPolicySpec};
use tidewaiter_core::verification::Verification;
use tidewaiter_registry::{Credentials, Error, Fetched, Origin, Registry, Trouble, Wanted, nobody};
use tidewaiter_world::{ObjectRef, Objects, Supplied};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

pub(crate) use first_look::FirstLook;
pub use settings::ModuleSettings;

/// What a configuration waits for modules that were never here, at the start and later.
const AT_START: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(2);
/// After a fetch that failed; doubled up to the interval.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps what the policies ask for.
pub struct Modules {
    settings: Arc<ModuleSettings>,
    entries: HashMap<String, Entry>,
    news: watch::Sender<()>,
    started: bool,
}

/// One policy's module.
struct Entry {
    asked: Asked,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// What is asked for; where this changes, it is fetched anew.
#[derive(Clone, PartialEq)]
struct Asked {
    module: Module,
    digest: Option<String>,
    verify: Option<Verification>,
    credentials: Credentials,
}

/// How far it is.
#[derive(Default)]
struct State {
    /// It loads, and is on disk.
    kept: bool,
    /// None as long as nobody answered.
    outcome: Option<Result<Fetched, String>>,
}

impl Modules {
    /// None are fetched yet. `news` is told when a module came, or what is to be said of one is another.
    pub fn new(settings: ModuleSettings, news: watch::Sender<()>) -> Self {
        Self {
            settings: Arc::new(settings),
            entries: HashMap::new(),
            news,
            started: false,
        }
    }

    pub(crate) fn settings(&self) -> Arc<ModuleSettings> {
        Arc::clone(&self.settings)
    }

    /// Names of Secrets that open registries for all policies.
    pub(crate) fn pull_secrets(&self) -> Vec<String> {
        self.settings.pull_secrets.clone()
    }

    /// Puts into the objects what is here of what their policies ask for, after a moment's wait for what is new.
    pub(crate) async fn supply(&mut self, objects: &mut Objects) {
        let mut said: HashMap<String, String> = HashMap::new();
        let mut asked = HashMap::new();
        for policy in &objects.policies {
            let name = policy.metadata.name.clone().unwrap_or_default();
            if !matches!(policy.spec.module, Module::Oci(_) | Module::Https(_)) || !policy.spec.problems().is_empty() {
                continue;
            }
            match Self::asked(&policy.spec, objects) {
                Ok(found) => drop(asked.insert(name, found)),
                Err(reason) => drop(said.insert(name, reason)),
            }
        }
        // Of an object that can't be read now, the version before stays, and with it its module.
        let unreadable = |name: &str| objects.unreadable.contains_key(&ObjectRef::cluster("WasmPolicy", name));
        self.entries
            .retain(|name, entry| asked.get(name) == Some(&entry.asked) || unreadable(name));
        // What is on disk has loaded once. A newer one may come while others are waited for, and may be no good: it is tried when this one runs, as its news says.
        let mut at_hand: HashMap<String, Supplied> = HashMap::new();
        for (name, asked) in asked {
            if !self.entries.contains_key(&name) {
                match self.begin(&name, &asked) {
                    Ok((entry, on_disk)) => {
                        at_hand.extend(on_disk.map(|supplied| (name.clone(), supplied)));
                        self.entries.insert(name, entry);
                    }
                    Err(error) => drop(said.insert(name, error.to_string())),
                }
            }
        }
        self.wait().await;
        objects.modules = self
            .entries
            .iter()
            .map(|(name, entry)| (name.clone(), at_hand.remove(name).unwrap_or_else(|| entry.supplied())))
            .collect();
        objects.modules.extend(said.into_iter().map(|(name, reason)| {
            let component = Err(reason);
            (
                name,
                Supplied {
                    component,
                    remark: None,
                },
            )
        }));
    }

    /// This component of a policy's is good: after a restart it is here at once.
    pub(crate) fn loaded(&self, policy: &str, component: &Bytes) {
        let Some(entry) = self.entries.get(policy) else { return };
        let mut state = entry.lock();
        let State { kept, outcome } = &mut *state;
        if *kept {
            return;
        }
        if let Some(Ok(fetched)) = outcome
            && fetched.component == *component
        {
            *kept = true;
            if let Err(error) = self.settings.fetcher.keep(fetched) {
                warn!(policy, %error, "the module can't be kept on disk; it will be fetched at the next start");
            }
        }
    }

    fn asked(spec: &WasmPolicySpec, objects: &Objects) -> Result<Asked, String> {
        let credentials = match &spec.module {
            Module::Oci(module) => credentials(module, objects)?,
            _ => Credentials::default(),
        };
        Ok(Asked {
            module: spec.module.clone(),
            digest: spec.digest.clone(),
            verify: spec.verify.clone(),
            credentials,
        })
    }

    /// And what is on disk of it.
    fn begin(&self, name: &str, asked: &Asked) -> Result<(Entry, Option<Supplied>), Error> {
        let ways = &self.settings.ways;
        let wanted = ways.wanted(&asked.module, asked.digest.as_deref(), asked.verify.as_ref())?;
        // What is on disk is there at once; whether it is still what there is shows when the registry answers.
        let on_disk = self.settings.fetcher.last_good(&wanted);
        let supplied = on_disk.as_ref().map(|fetched| Supplied {
            component: Ok(fetched.component.clone()),
            remark: None,
        });
        let outcome = on_disk.map(Ok);
        let state = Arc::new(Mutex::new(State { kept: false, outcome }));
        let task = Task {
            policy: name.to_owned(),
            settings: Arc::clone(&self.settings),
            registry: ways.registry(asked.credentials.clone()),
            wanted,
            state: Arc::clone(&state),
            news: self.news.clone(),
        };
        let entry = Entry {
            asked: asked.clone(),
            state,
            task: tokio::spawn(task.run()),
        };
        Ok((entry, supplied))
    }

    async fn wait(&mut self) {
        let patience = if std::mem::replace(&mut self.started, true) {
            LATER
        } else {
            AT_START
        };
        let until = Instant::now() + patience;
        let mut news = self.news.subscribe();
        let waits = |entries: &HashMap<String, Entry>| entries.values().any(|entry| entry.lock().outcome.is_none());
        while waits(&self.entries) && timeout_at(until, news.changed()).await.is_ok() {}
    }
}

impl Entry {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn supplied(&self) -> Supplied {
        match &self.lock().outcome {
            None => Supplied {
                component: Err("it is on its way, and its server hasn't answered yet".into()),
                remark: None,
            },
            Some(Err(reason)) => Supplied {
                component: Err(reason.clone()),
                remark: None,
            },
            Some(Ok(fetched)) => Supplied {
                component: Ok(fetched.component.clone()),
                remark: fetched
                    .trouble
                    .as_ref()
                    .map(|trouble| (trouble.message.clone(), trouble.harmless)),
            },
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks a module up, again and again.
struct Task {
    policy: String,
    settings: Arc<ModuleSettings>,
    registry: Registry,
    wanted: Wanted,
    state: Arc<Mutex<State>>,
    news: watch::Sender<()>,
}

impl Task {
    async fn run(self) {
        let mut pause = RETRY;
        loop {
            let fetched = self.settings.fetcher.fetch(&self.registry, &self.wanted, &nobody).await;
            let settled = matches!(&fetched, Ok(fetched) if fetched.trouble.is_none());
            self.tell(fetched);
            let interval = self.settings.ways.interval;
            if settled {
                // What has a digest never changes: nobody needs to be asked again.
                if self.is_exact() {
                    return;
                }
                pause = RETRY;
                sleep(interval).await;
            } else {
                sleep(pause.min(interval)).await;
                pause = (pause * 2).min(interval.max(RETRY));
            }
        }
    }

    fn is_exact(&self) -> bool {
        match &self.wanted.origin {
            Origin::Https(..) => true,
            Origin::Oci(reference) => reference.digest().is_some(),
        }
    }

    fn tell(&self, fetched: Result<Fetched, Error>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match (fetched, &state.outcome) {
            // Without a disk, the last good one is in memory.
            (Err(error), Some(Ok(before))) => {
                let mut last = before.clone();
                last.trouble = Some(Trouble::of(&error, &self.wanted));
                Ok(last)
            }
            (fetched, _) => fetched.map_err(|error| error.to_string()),
        };
        let same = match (&outcome, &state.outcome) {
            (Ok(now), Some(Ok(before))) => now.digest == before.digest && now.trouble == before.trouble,
            (Err(now), Some(Err(before))) => now == before,
            _ => false,
        };
        if let Ok(fetched) = &outcome
            && !same
        {
            info!(policy = self.policy, digest = %fetched.digest, signer = fetched.signer.as_deref(), "module fetched");
        }
        state.outcome = Some(outcome);
        state.kept &= same;
        drop(state);
        if !same {
            self.news.send_replace(());
        }
    }
}

/// The accounts of the policy's own Secret, and then of those that the admin named for all. One that isn't there is a reason only where the policy asks for it:
/// what is public needs none.
fn credentials(module: &OciModule, objects: &Objects) -> Result<Credentials, String> {
    let mut found = Credentials::default();
    if let Some(name) = &module.pull_secret {
        found = found.and(accounts(name, objects).map_err(|reason| format!("pullSecret: {reason}"))?);
    }
    for name in &objects.pull_secrets {
        match accounts(name, objects) {
            Ok(accounts) => found = found.and(accounts),
            Err(reason) => warn!("pullSecrets: {reason}; registries that need it will refuse"),
        }
    }
    Ok(found)
}

fn accounts(name: &str, objects: &Objects) -> Result<Credentials, String> {
    let content = objects.docker_config(name)?;
    Credentials::docker_config(content).map_err(|error| format!("Secret {name} {error}"))
}
