//! The gate before MinIO's admin API: while it is known not to answer, no review waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Calls in a row without an answer, after which MinIO is left alone.
const SILENT: u32 = 3;
/// For how long, until one call may try again.
const REST: Duration = Duration::from_secs(10);
/// Whoever had less time than this says nothing of MinIO.
const STALL: Duration = Duration::from_millis(600);

/// One MinIO's gate.
#[derive(Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    silent: u32,
    until: Option<Instant>,
}

impl Gate {
    /// None where MinIO isn't to be asked now.
    pub(super) fn enter(&self) -> Option<Call<'_>> {
        let mut state = self.state();
        let now = Instant::now();
        if state.silent >= SILENT {
            if state.until.is_some_and(|until| now < until) {
                return None;
            }
            // This one tries, and the others wait for what comes of it.
            state.until = Some(now + REST);
        }
        drop(state);
        Some(self.enter_anyway())
    }

    /// For whoever has the time.
    pub(super) fn enter_anyway(&self) -> Call<'_> {
        Call {
            gate: self,
            began: Instant::now(),
            ended: false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a state is never half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) {
        let mut state = self.state();
        state.silent = state.silent.saturating_add(1);
        if state.silent >= SILENT {
            state.until = Some(Instant::now() + REST);
        }
    }
}

/// A call on its way. Dropped before it is over, it had no answer for as long as it was waited for.
pub(super) struct Call<'a> {
    gate: &'a Gate,
    began: Instant,
    ended: bool,
}

impl Call<'_> {
    /// MinIO answered, whatever it said.
    pub(super) fn answered(mut self) {
        self.ended = true;
        *self.gate.state() = State::default();
    }

    /// Nobody answers.
    pub(super) fn silent(mut self) {
        self.ended = true;
        self.gate.silent();
    }

    /// It came to nothing before MinIO was asked.
    pub(super) fn cancelled(mut self) {
        self.ended = true;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended && self.began.elapsed() >= STALL {
            self.gate.silent();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_three_silent_calls_one_tries_every_ten_seconds() {
        let gate = Gate::default();
        for _ in 0..SILENT {
            let call = gate.enter().expect("it is open");
            advance(STALL).await;
            drop(call);
        }
        assert!(gate.enter().is_none());
        advance(REST).await;
        let probe = gate.enter().expect("one tries");
        assert!(gate.enter().is_none(), "the others don't");
        probe.silent();
        assert!(gate.enter().is_none());
        advance(REST).await;
        gate.enter().expect("one tries").answered();
        assert!(gate.enter().is_some() && gate.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_time_and_an_answer_in_between_keep_it_open() {
        let gate = Gate::default();
        for _ in 0..2 * SILENT {
            let call = gate.enter().expect("it is open");
            advance(STALL / 2).await;
            drop(call);
        }
        for _ in 0..2 * SILENT {
            gate.enter().expect("it is open").silent();
            gate.enter().expect("it is open").answered();
        }
        assert!(gate.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_time_asks_all_the_same_and_its_answer_opens_the_gate() {
        let gate = Gate::default();
        for _ in 0..SILENT {
            gate.enter_anyway().silent();
        }
        assert!(gate.enter().is_none());
        gate.enter_anyway().answered();
        assert!(gate.enter().is_some());
    }
}
