//! The gate before a store: how many calls at once, and none at all while the store is known not to answer.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::failure::Failure;

/// A store that nobody has asked for so long, after it was left alone, may well answer again. Longer than the leader's looks are apart.
const FORGOTTEN: Duration = Duration::from_mins(5);

/// When a store is left alone, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Failures in a row after which the store is left alone. A call that has waited for [`Patience::stall`] counts as one while it waits.
    pub failures: u32,
    /// How long the store is left alone before one call may try again.
    pub rest: Duration,
    /// How long a call waits before it is held against the store. Well below a review's budget, so that others are let go in time.
    pub stall: Duration,
    /// Calls at once to one store.
    pub concurrency: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            failures: 3,
            rest: Duration::from_secs(10),
            stall: Duration::from_millis(600),
            concurrency: 32,
        }
    }
}

#[derive(Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        reason: String,
    },
    /// One call is trying whether the store answers again.
    Probing {
        reason: String,
    },
}

/// One store's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    patience: Patience,
    state: Mutex<State>,
    /// Rung when the gate closes on those who wait.
    shut: Notify,
    permits: Semaphore,
}

impl Gate {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            state: Mutex::new(State::Closed { failures: 0 }),
            shut: Notify::new(),
            permits: Semaphore::new(patience.concurrency),
        }
    }

    /// Whether the store is known not to answer. Where nobody has asked it for a while, that isn't known any more.
    pub(crate) fn is_shut(&self) -> bool {
        match &*self.state() {
            State::Closed { .. } => false,
            State::Open { until, .. } => until.elapsed() < FORGOTTEN,
            State::Probing { .. } => true,
        }
    }

    /// Runs a call through the gate, until the deadline at the latest.
    pub(crate) async fn pass<T>(
        &self,
        host: &str,
        deadline: Instant,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let late = || Failure::unreachable(format!("{host} didn't answer in time"));
        // What the review had no time for says nothing of the store.
        let cut = |reason: String| Failure::Unreachable { reason, counts: false };
        if deadline <= Instant::now() {
            return Err(cut(format!("no time was left to ask {host}")));
        }
        // Listening starts before the state is looked at, so that a gate closing in between is not missed.
        let mut shut = pin!(self.shut.notified());
        shut.as_mut().enable();
        let probe = self.admit()?;

        let _permit = tokio::select! {
            permit = self.permits.acquire() => permit.map_err(|_| late())?,
            () = &mut shut => return Err(self.refusal()),
            () = sleep_until(deadline) => return Err(cut(format!("too many calls wait for {host}"))),
        };

        let mut call = pin!(call);
        let patient = Instant::now() + self.patience.stall;
        let first = tokio::select! {
            result = &mut call => Some(result),
            () = &mut shut, if !probe.0 => return Err(self.refusal()),
            () = sleep_until(deadline.min(patient)) => None,
        };
        let stalled = first.is_none();
        let result = if let Some(result) = first {
            result
        } else if deadline < patient {
            return Err(cut(late().to_string()));
        } else {
            // Those who come to this point after the gate was shut go; those who shut it stay, and may still open it.
            if !self.failed(&late()) {
                return Err(self.refusal());
            }
            timeout_at(deadline, call).await.unwrap_or_else(|_| Err(late()))
        };
        match &result {
            Err(failure) if failure.counts() => {
                if !stalled {
                    self.failed(failure);
                }
            }
            _ => *self.state() = State::Closed { failures: 0 },
        }
        probe.done();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a state is never half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self) -> Result<Probe<'_>, Failure> {
        let mut state = self.state();
        match &*state {
            State::Closed { .. } => Ok(Probe(false, self)),
            State::Open { until, reason } if Instant::now() >= *until => {
                *state = State::Probing { reason: reason.clone() };
                Ok(Probe(true, self))
            }
            State::Open { reason, .. } | State::Probing { reason } => Err(refusal(reason)),
        }
    }

    fn refusal(&self) -> Failure {
        match &*self.state() {
            State::Open { reason, .. } | State::Probing { reason } => refusal(reason),
            State::Closed { .. } => refusal("it was slow"),
        }
    }

    /// Holds a failure against the store. False where it was known already.
    fn failed(&self, failure: &Failure) -> bool {
        let mut state = self.state();
        let failures = match &*state {
            State::Closed { failures } => failures + 1,
            State::Open { .. } => return false,
            State::Probing { .. } => self.patience.failures,
        };
        if failures < self.patience.failures {
            *state = State::Closed { failures };
            return true;
        }
        *state = State::Open {
            until: Instant::now() + self.patience.rest,
            reason: failure.to_string(),
        };
        drop(state);
        self.shut.notify_waiters();
        true
    }
}

fn refusal(reason: &str) -> Failure {
    Failure::Unreachable {
        reason: format!("not tried again yet: {reason}"),
        counts: false,
    }
}

/// Whether this call is the one that tries a store again. Dropped before it is done (its review ended), it leaves the trying to the next.
struct Probe<'a>(bool, &'a Gate);

impl Probe<'_> {
    fn done(mut self) {
        self.0 = false;
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if !self.0 {
            return;
        }
        let mut state = self.1.state();
        if let State::Probing { reason } = &*state {
            *state = State::Open {
                until: Instant::now(),
                reason: reason.clone(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    fn gate(rest: Duration) -> Arc<Gate> {
        Arc::new(Gate::new(Patience {
            rest,
            stall: Duration::from_millis(50),
            ..Patience::default()
        }))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    async fn fail(gate: &Gate, tried: &AtomicUsize) -> Failure {
        gate.pass("store", soon(), async {
            tried.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(Failure::unreachable("store refuses connections"))
        })
        .await
        .expect_err("the call fails")
    }

    #[tokio::test]
    async fn three_failures_in_a_row_shut_the_gate() {
        let gate = gate(Duration::from_mins(1));
        let tried = AtomicUsize::new(0);
        for _ in 0..10 {
            fail(&gate, &tried).await;
        }
        assert_eq!(tried.load(Ordering::SeqCst), 3);
        assert_eq!(
            fail(&gate, &tried).await.to_string(),
            "not tried again yet: store refuses connections"
        );
    }

    #[tokio::test]
    async fn an_answer_in_between_starts_the_count_again() {
        let gate = gate(Duration::from_mins(1));
        let tried = AtomicUsize::new(0);
        for _ in 0..5 {
            fail(&gate, &tried).await;
            fail(&gate, &tried).await;
            let answer = gate
                .pass("store", soon(), async { Err::<(), _>(Failure::NotFound) })
                .await;
            assert_eq!(answer, Err(Failure::NotFound));
        }
        assert_eq!(tried.load(Ordering::SeqCst), 10);
    }

    #[tokio::test]
    async fn after_a_rest_one_call_tries_and_an_answer_opens_the_gate() {
        let gate = gate(Duration::ZERO);
        let tried = AtomicUsize::new(0);
        for _ in 0..3 {
            fail(&gate, &tried).await;
        }
        assert!(gate.is_shut());
        let mut probe = pin!(gate.pass("store", soon(), async {
            tokio::task::yield_now().await;
            Ok(())
        }));
        assert!(futures::poll!(&mut probe).is_pending());
        fail(&gate, &tried).await;
        assert_eq!(
            tried.load(Ordering::SeqCst),
            3,
            "while one probes, the others aren't tried"
        );
        probe.await.expect("the store answers again");
        assert!(!gate.is_shut());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_nobody_asks_any_more_is_not_told_as_shut_for_ever() {
        let gate = gate(Duration::from_secs(10));
        let tried = AtomicUsize::new(0);
        for _ in 0..3 {
            fail(&gate, &tried).await;
        }
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert!(gate.is_shut(), "it may be asked again in a moment");
        fail(&gate, &tried).await;
        tokio::time::sleep(Duration::from_mins(4)).await;
        assert!(gate.is_shut(), "somebody did");
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert!(!gate.is_shut());
    }

    #[tokio::test]
    async fn a_probe_that_is_dropped_leaves_the_trying_to_the_next() {
        let gate = gate(Duration::ZERO);
        let tried = AtomicUsize::new(0);
        for _ in 0..3 {
            fail(&gate, &tried).await;
        }
        {
            let mut probe = pin!(gate.pass("store", soon(), std::future::pending::<Result<(), Failure>>()));
            assert!(futures::poll!(&mut probe).is_pending());
        }
        gate.pass("store", soon(), async { Ok(()) })
            .await
            .expect("the next one may try");
    }

    #[tokio::test]
    async fn of_fifty_calls_at_once_to_a_hung_store_most_are_let_go_before_their_deadline() {
        let gate = gate(Duration::from_mins(1));
        let ended = join_all((0..50).map(|_| async {
            let deadline = Instant::now() + Duration::from_secs(5);
            let started = Instant::now();
            let result = tokio::time::timeout(
                Duration::from_secs(1),
                gate.pass("store", deadline, std::future::pending::<Result<(), Failure>>()),
            )
            .await;
            (started.elapsed(), result.is_ok())
        }))
        .await;
        let let_go = ended.iter().filter(|(_, early)| *early).count();
        assert_eq!(let_go, 47, "all but the three whose waiting shut the gate");
    }

    #[tokio::test]
    async fn a_call_ends_at_its_deadline() {
        let gate = gate(Duration::from_mins(1));
        let failure = gate
            .pass("store", soon(), std::future::pending::<Result<(), Failure>>())
            .await
            .expect_err("hangs");
        assert_eq!(failure.to_string(), "store didn't answer in time");
    }

    #[tokio::test]
    async fn a_review_out_of_time_is_not_held_against_the_store() {
        let gate = gate(Duration::from_mins(1));
        let tried = AtomicUsize::new(0);
        for ahead in [0, 0, 0, 0, 5, 5, 5, 5] {
            let deadline = Instant::now() + Duration::from_millis(ahead);
            let call = async {
                tried.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<Result<(), Failure>>().await
            };
            gate.pass("store", deadline, call).await.expect_err("there is no time");
        }
        assert_eq!(
            tried.load(Ordering::SeqCst),
            4,
            "without any time the store isn't asked"
        );
        assert!(!gate.is_shut());
    }

    #[tokio::test]
    async fn no_more_calls_at_once_than_allowed() {
        let gate = Arc::new(Gate::new(Patience {
            concurrency: 4,
            ..Patience::default()
        }));
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        join_all((0..20).map(|_| {
            gate.pass("store", soon(), async {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        }))
        .await;
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }
}
