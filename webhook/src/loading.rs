//! Policies on their way into use: compiled, checked and asked beside everything else, so that one that takes long holds up itself alone, and no key.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tidewaiter_engine::LoadError;
use tidewaiter_world::{Loaded, Policy};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::info;

/// What a configuration waits for policies that are new in it, so that it needn't be made twice.
const MOMENT: Duration = Duration::from_secs(2);
/// A policy that failed while it was loaded is tried again after this time: a machine that is busy now may be quiet later.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// All that are on their way, and those that can't be used.
pub(crate) struct Loading {
    entries: HashMap<String, Entry>,
    news: watch::Sender<()>,
    started: bool,
}

/// How far a policy is.
pub(crate) enum Progress {
    UnderWay,
    Done(Box<Loaded>),
    /// Why not, for the admin.
    Failed(String),
}

struct Entry {
    /// As it is asked for.
    policy: Policy,
    /// Why it failed the last time; that holds until this time is over.
    failed: Option<String>,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    outcome: Option<Result<Box<Loaded>, Failed>>,
    /// Nobody waits for it any more, so its end is news.
    late: bool,
}

struct Failed {
    reason: String,
    /// When it may be otherwise; none where it can't be.
    again: Option<Instant>,
}

impl Loading {
    /// `news` is told of what comes late.
    pub(crate) fn new(news: watch::Sender<()>) -> Self {
        Self {
            entries: HashMap::new(),
            news,
            started: false,
        }
    }

    /// Begins to `load` it, where that isn't done already.
    pub(crate) fn begin(
        &mut self,
        policy: &Policy,
        load: impl Future<Output = Result<Loaded, LoadError>> + Send + 'static,
    ) {
        let alike = self.entries.get(&policy.name);
        let alike = alike.filter(|entry| loads_alike(&entry.policy, policy));
        if alike.is_some_and(|entry| entry.next_try().is_none_or(|at| at > Instant::now())) {
            return;
        }
        let failed = alike.and_then(Entry::reason);
        let state = Arc::<Mutex<State>>::default();
        let (news, told) = (self.news.clone(), Arc::clone(&state));
        let task = tokio::spawn(async move {
            let outcome = match AssertUnwindSafe(load).catch_unwind().await {
                Ok(loaded) => loaded.map(Box::new).map_err(Failed::from),
                Err(_) => Err(Failed {
                    reason: "the policy can't be loaded: Tidewaiter failed at it, which is a defect of Tidewaiter's"
                        .to_owned(),
                    again: None,
                }),
            };
            let mut state = lock(&told);
            state.outcome = Some(outcome);
            if state.late {
                news.send_replace(());
            }
        });
        let policy = policy.clone();
        self.entries.insert(
            policy.name.clone(),
            Entry {
                policy,
                failed,
                state,
                task,
            },
        );
    }

    /// Forgets the policies that aren't `wanted`.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| wanted(name));
    }

    /// Waits for those that were just begun: at the start until they are done, since whoever isn't ready is asked by nobody, and later for a moment.
    pub(crate) async fn wait(&mut self) {
        let until = std::mem::replace(&mut self.started, true).then(|| Instant::now() + MOMENT);
        for (policy, entry) in &mut self.entries {
            let is_awaited = {
                let state = lock(&entry.state);
                state.outcome.is_none() && !state.late
            };
            if !is_awaited {
                continue;
            }
            match until {
                Some(until) => drop(timeout_at(until, &mut entry.task).await),
                None => drop((&mut entry.task).await),
            }
            let mut state = lock(&entry.state);
            state.late = state.outcome.is_none();
            if state.late {
                info!(policy, "it is still being compiled, and counts when that is done");
            }
        }
    }

    /// How far it is; what is done is handed over once.
    pub(crate) fn progress(&mut self, policy: &str) -> Progress {
        let Some(entry) = self.entries.get(policy) else {
            return Progress::UnderWay;
        };
        let mut state = lock(&entry.state);
        match state.outcome.take() {
            None => entry.failed.clone().map_or(Progress::UnderWay, Progress::Failed),
            Some(Ok(loaded)) => {
                drop(state);
                self.entries.remove(policy);
                Progress::Done(loaded)
            }
            Some(Err(failed)) => {
                let reason = failed.reason.clone();
                state.outcome = Some(Err(failed));
                Progress::Failed(reason)
            }
        }
    }

    /// When one of those that failed is worth another try; none where nothing would come of it.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.entries.values().filter_map(Entry::next_try).min()
    }
}

impl Entry {
    fn reason(&self) -> Option<String> {
        Some(lock(&self.state).outcome.as_ref()?.as_ref().err()?.reason.clone())
    }

    fn next_try(&self) -> Option<Instant> {
        lock(&self.state).outcome.as_ref()?.as_ref().err()?.again
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl From<LoadError> for Failed {
    fn from(error: LoadError) -> Self {
        Self {
            reason: error.to_string(),
            again: matches!(error, LoadError::Failed(_)).then(|| Instant::now() + TRY_AGAIN),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether what is compiled of a policy is the same: what it matches and when it runs is not.
pub(crate) fn loads_alike(a: &Policy, b: &Policy) -> bool {
    let (a_spec, b_spec) = (&a.spec, &b.spec);
    a.component == b.component
        && a_spec.settings == b_spec.settings
        && a_spec.capabilities == b_spec.capabilities
        && a_spec.limits == b_spec.limits
        && a_spec.failure_policy == b_spec.failure_policy
        && a_spec.mode == b_spec.mode
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use serde_json::json;
    use tidewaiter_engine::{Failure, LoadedPolicy};
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    fn policy(name: &str, settings: &serde_json::Value) -> Policy {
        let spec = json!({"module": {"builtin": "serving-versions"}, "settings": settings});
        Policy::of(name, &serde_json::from_value(spec).unwrap())
    }

    fn loaded(policy: &Policy) -> Loaded {
        let spec = &policy.spec;
        Loaded {
            loaded: LoadedPolicy::not_loaded(&policy.name, spec.failure_policy, spec.mode),
            policy: policy.clone(),
            slip: None,
        }
    }

    fn failed(loading: &mut Loading, policy: &Policy) -> String {
        match loading.progress(&policy.name) {
            Progress::Failed(reason) => reason,
            Progress::UnderWay => "it is under way".to_owned(),
            Progress::Done(_) => "it is done".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_holds_nobody_up_and_its_end_is_news() {
        let news = watch::Sender::new(());
        let mut told = news.subscribe();
        let mut loading = Loading::new(news);
        loading.wait().await;
        let (slow, quick) = (policy("slow", &json!({})), policy("quick", &json!({})));
        let (end, ended) = oneshot::channel();
        loading.begin(&slow, async { ended.await.unwrap() });
        loading.begin(&quick, ready(Ok(loaded(&quick))));
        let began = Instant::now();
        loading.wait().await;
        assert_eq!(began.elapsed(), MOMENT);
        assert!(matches!(loading.progress("quick"), Progress::Done(_)));
        assert!(matches!(loading.progress("slow"), Progress::UnderWay));
        assert!(!told.has_changed().unwrap(), "what was waited for is no news");

        // It is waited for once, and not begun again.
        loading.begin(&slow, async { panic!("it is under way") });
        let began = Instant::now();
        loading.wait().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        end.send(Ok(loaded(&slow))).ok().unwrap();
        told.changed().await.unwrap();
        assert!(matches!(loading.progress("slow"), Progress::Done(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_start_all_are_waited_for() {
        let mut loading = Loading::new(watch::Sender::new(()));
        let slow = policy("slow", &json!({}));
        let load = {
            let slow = slow.clone();
            async move {
                sleep(10 * MOMENT).await;
                Ok(loaded(&slow))
            }
        };
        loading.begin(&slow, load);
        loading.wait().await;
        assert!(matches!(loading.progress("slow"), Progress::Done(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_where_it_may_fare_otherwise_or_is_another() {
        let mut loading = Loading::new(watch::Sender::new(()));
        let (busy, broken) = (policy("busy", &json!({})), policy("broken", &json!({})));
        loading.begin(&busy, ready(Err(LoadError::Failed(Failure::Budget))));
        loading.begin(&broken, ready(Err(LoadError::NotAComponent)));
        loading.wait().await;
        for _ in 0..2 {
            assert!(failed(&mut loading, &busy).contains("when it was loaded"));
            assert!(failed(&mut loading, &broken).contains("no WebAssembly component"));
            loading.begin(&busy, async { panic!("it is too early") });
            loading.begin(&broken, async { panic!("it is broken still") });
            loading.wait().await;
        }
        assert_eq!(loading.next_try(), Some(Instant::now() + TRY_AGAIN));
        sleep(TRY_AGAIN).await;
        let (end, ended) = oneshot::channel();
        loading.begin(&busy, async { ended.await.unwrap() });
        loading.wait().await;
        assert!(
            failed(&mut loading, &busy).contains("when it was loaded"),
            "until it is known"
        );
        end.send(Ok(loaded(&busy))).ok().unwrap();
        let mended = policy("broken", &json!({"mode": "off"}));
        loading.begin(&mended, ready(Ok(loaded(&mended))));
        loading.wait().await;
        sleep(MOMENT).await;
        for name in ["busy", "broken"] {
            assert!(matches!(loading.progress(name), Progress::Done(_)), "{name}");
        }
        assert_eq!(loading.next_try(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_wanted_no_more_ends_and_one_that_panics_says_so() {
        let mut loading = Loading::new(watch::Sender::new(()));
        loading.wait().await;
        let (gone, bad) = (policy("gone", &json!({})), policy("bad", &json!({})));
        let (alive, mut ends) = oneshot::channel::<()>();
        loading.begin(&gone, async move {
            let _alive = alive;
            pending().await
        });
        loading.begin(&bad, async { panic!("as the test wants") });
        loading.wait().await;
        assert!(failed(&mut loading, &bad).contains("a defect of Tidewaiter's"));
        assert!(
            ends.try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
        loading.retain(|name| name != "gone");
        assert!(ends.await.is_err(), "it ended");
    }
}
