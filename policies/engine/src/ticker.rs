//! Time for policies: one thread that advances the engine's epoch while any of them runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Running time is counted in these.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// After this many ticks at which no policy ran, the thread sleeps, since each tick interrupts somebody. Not at once: under load that would be a wake-up for
/// each policy.
const IDLE_TICKS: u32 = 20;

struct Clock {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

pub(crate) struct Ticker {
    clock: Arc<Clock>,
    thread: Option<JoinHandle<()>>,
}

/// A policy that runs. The epoch advances as long as there is one.
pub(crate) struct Running<'a>(&'a Clock);

impl Ticker {
    pub(crate) fn new(engine: &wasmtime::Engine) -> Self {
        let clock = Arc::new(Clock {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let (engine, its) = (engine.clone(), Arc::clone(&clock));
        let thread = thread::Builder::new()
            .name("policy-epoch".to_owned())
            .spawn(move || tick(&engine, &its));
        if let Err(error) = &thread {
            tracing::error!(%error, "no thread for the time limits of policies: they are bound by the review's budget alone");
        }
        Self {
            clock,
            thread: thread.ok(),
        }
    }

    pub(crate) fn run(&self) -> Running<'_> {
        self.clock.running.fetch_add(1, Ordering::SeqCst);
        if self.clock.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.clock)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.clock.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It touches nothing but atomics: a panic there is impossible, and there is no one to tell.
            let _ = thread.join();
        }
    }
}

fn tick(engine: &wasmtime::Engine, clock: &Clock) {
    let mut idle = 0;
    while !clock.stop.load(Ordering::SeqCst) {
        if clock.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_TICKS {
            clock.asleep.store(true, Ordering::SeqCst);
            // A policy that began before `asleep` was set counts itself first: one of both sees the other.
            if clock.running.load(Ordering::SeqCst) == 0 && !clock.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            clock.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        } else {
            // Woken by `unpark` on drop.
            thread::park_timeout(TICK);
            engine.increment_epoch();
        }
    }
}
