//! What one review by a policy costs: a fresh instance, its call, its memory.

use std::time::Duration;

use serde::Serialize;
use tidewaiter_engine::{Failure, LoadedPolicy};

use crate::subject::Ask;
use crate::world::Prepared;

/// Calls before those that count, while the machine's caches fill.
const WARM_UP: usize = 20;

/// Times in microseconds, of many reviews on fresh instances.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bench {
    /// Reviews that were measured.
    pub calls: usize,
    /// Making an instance.
    pub instantiate_us: Spread,
    /// The call, without host calls.
    pub call_us: Spread,
    /// Both together: what a review costs beyond its host calls.
    pub total_us: Spread,
    /// Host calls, answered from memory.
    pub host_us: Spread,
    /// The most linear memory that an instance had, in KiB.
    pub memory_kib: usize,
}

/// How a measure is spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the calls took no longer.
    pub median: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Measures a policy with an object, in a world that answers from memory.
///
/// # Errors
/// Where the policy fails.
pub async fn bench(policy: &LoadedPolicy, ask: &Ask, world: &Prepared, calls: usize) -> Result<Bench, Failure> {
    let calls = calls.max(1);
    let (mut instantiate, mut call, mut total, mut host) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut memory = 0;
    for index in 0..calls + WARM_UP {
        let answer = ask.answer(policy, world.around(ask.namespace(), false)).await?;
        if index < WARM_UP {
            continue;
        }
        let own = answer.call.saturating_sub(answer.host);
        instantiate.push(answer.instantiate);
        call.push(own);
        total.push(answer.instantiate + own);
        host.push(answer.host);
        memory = memory.max(answer.memory);
    }
    Ok(Bench {
        calls,
        instantiate_us: spread(instantiate),
        call_us: spread(call),
        total_us: spread(total),
        host_us: spread(host),
        memory_kib: memory.div_ceil(1024),
    })
}

fn spread(mut times: Vec<Duration>) -> Spread {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    Spread {
        median: at(times.len() / 2),
        p99: at((times.len() * 99 / 100).min(last)),
        max: at(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_by_their_order() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        let spread = spread(times);
        assert_eq!(
            (spread.median.round(), spread.p99.round(), spread.max.round()),
            (101.0, 199.0, 200.0)
        );
    }
}
