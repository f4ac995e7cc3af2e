//! One call into one policy, on a fresh instance and within its limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{Instant as Deadline, sleep, timeout_at};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::bindings::Policy;
use crate::bindings::tidewaiter::policy::types::{Request, Verdict};
use crate::empty::Empty;
use crate::failure::Failure;
use crate::host::State;
use crate::load::Loaded;
use crate::ticker::TICK;
use crate::world::World;

/// Data that one call may bring from the policy to the server: the largest verdict, and the largest argument of a host call.
const VERDICT_BYTES: usize = 1 << 20;
const VERDICT_ITEMS: usize = 64;
/// How long one runs before it lets others have the thread, in ticks. Most are done long before.
const UNDISTURBED: u64 = 5;
/// How long one may have run, in ticks, before it is slow: from there all that are slow take turns, one to two ticks each time, and others have the rest.
const SLOW: u64 = 10;
/// Between two such turns. One core of one server gives policies that don't end a fifth of its time, however many they are.
const TURN: Duration = Duration::from_millis(6);

/// A verdict or a failure, and what it took.
pub(crate) struct Ran {
    pub(crate) result: Result<Verdict, Failure>,
    pub(crate) took: Duration,
    pub(crate) host: Duration,
}

/// Reviews. Ends at the deadline, whatever the policy does.
pub(crate) async fn review(
    policy: &Loaded,
    request: &Request,
    world: &Arc<dyn World>,
    object: &Arc<str>,
    deadline: Deadline,
) -> Ran {
    let begun = Instant::now();
    let mut state = policy.state();
    state.world = Some(Arc::clone(world));
    state.object = Arc::clone(object);
    let mut host = Duration::ZERO;
    let call = call(policy, state, &mut host, async |instance, store| {
        instance.call_review(store, request, &policy.settings).await
    });
    let result = timeout_at(deadline, call)
        .await
        .unwrap_or(Err(Failure::Budget))
        .and_then(|verdict| {
            within_limits(&verdict)?;
            Ok(verdict)
        });
    Ran {
        result,
        took: begun.elapsed(),
        host,
    }
}

/// Any call of the contract on a fresh instance.
pub(crate) async fn call<T>(
    policy: &Loaded,
    mut state: State,
    host: &mut Duration,
    call: impl AsyncFnOnce(&Policy, &mut Store<State>) -> wasmtime::Result<T>,
) -> Result<T, Failure> {
    let shared = &policy.engine.0;
    // What its reviews have been seen to take at most; the first one as much as it may.
    let seen = policy.peak.load(Ordering::Relaxed);
    let mib = if seen == 0 { policy.limits.memory_mib } else { seen };
    let mut held = shared.room.take(mib).await?;
    if state.world.is_some() {
        held.remember(&policy.peak);
    }
    state.held = Some(held);
    let mut store = Store::new(&shared.engine, state);
    store.limiter(|state| state);
    store.set_hostcall_fuel(VERDICT_BYTES);
    // Time is counted while the guest runs, not while it waits for its turn.
    let most = store.data().ticks;
    let undisturbed = UNDISTURBED.min(most);
    store.set_epoch_deadline(undisturbed);
    // In halves of a tick: whoever comes back from a wait does so somewhere within one, so that its turn of two ends after one and a half on average.
    let (most, mut ran) = (2 * most, 2 * undisturbed);
    let turns = Arc::clone(&shared.turns);
    store.epoch_deadline_callback(move |_| {
        if ran >= most {
            return Ok(UpdateDeadline::Interrupt);
        }
        if ran < 2 * SLOW {
            ran += 2;
            return Ok(UpdateDeadline::Yield(1));
        }
        ran += 3;
        let turns = Arc::clone(&turns);
        let turn = async move {
            let _mine = turns.lock().await;
            sleep(TURN).await;
        };
        Ok(UpdateDeadline::YieldCustom(2, Box::pin(turn)))
    });
    let _running = shared.ticker.run();
    let result = async {
        let instance = policy.pre.instantiate_async(&mut store).await?;
        call(&instance, &mut store).await
    }
    .await;
    let state = store.data();
    *host = state.host;
    result.map_err(|error| failure(&error, policy, store.data()))
}

fn failure(error: &wasmtime::Error, policy: &Loaded, state: &State) -> Failure {
    if state.memory_refused {
        return Failure::Memory(policy.limits.memory_mib);
    }
    if state.no_room {
        return Failure::NoRoom;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Failure::Time(Duration::from_millis(policy.limits.time_ms.into())),
        Some(Trap::UnreachableCodeReached) => {
            Failure::Trap("it panicked, or ran into code that it holds unreachable".to_owned())
        }
        Some(Trap::StackOverflow) => Failure::Trap("its calls are nested too deep for the stack".to_owned()),
        Some(trap) => Failure::Trap(trap.to_string()),
        None => Failure::Trap(error.root_cause().to_string()),
    }
}

pub(crate) fn within_limits(verdict: &Verdict) -> Result<(), Failure> {
    let counts = [
        ("fills", verdict.fills.len()),
        ("warnings", verdict.warnings.len()),
        ("effects", verdict.effects.len()),
    ];
    for (what, count) in counts {
        if count > VERDICT_ITEMS {
            return Err(Failure::Verdict(format!("{count} {what}, more than {VERDICT_ITEMS}")));
        }
    }
    Ok(())
}

impl Loaded {
    pub(crate) fn state(&self) -> State {
        let ticks = Duration::from_millis(self.limits.time_ms.into())
            .as_nanos()
            .div_ceil(TICK.as_nanos());
        State {
            world: None,
            policy: Arc::clone(&self.terms.name),
            object: Arc::clone(&self.terms.name),
            host: Duration::ZERO,
            // The first tick may come at once.
            ticks: u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1),
            memory_max: (self.limits.memory_mib as usize) << 20,
            memory_refused: false,
            held: None,
            no_room: false,
            log_lines: 0,
            empty: Empty::default(),
        }
    }
}
