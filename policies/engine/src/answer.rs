//! One policy's own answer, before it is merged with anything: for those who write policies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::bindings::tidewaiter::policy::types::Verdict;
use crate::failure::Failure;
use crate::load::LoadedPolicy;
use crate::outcome::Review;
use crate::room::Held;
use crate::world::World;
use crate::{review, run};

/// What a policy answers to one object, and what that took.
#[derive(Clone, Debug)]
pub struct Answer {
    /// As the policy gave it.
    pub verdict: Verdict,
    /// Making the fresh instance.
    pub instantiate: Duration,
    /// The call, host calls included.
    pub call: Duration,
    /// Of which spent waiting for host calls.
    pub host: Duration,
    /// The linear memory that the instance had at its end, in bytes.
    pub memory: usize,
}

impl LoadedPolicy {
    /// Asks this policy alone, as if it were the only one.
    ///
    /// # Errors
    /// Where it gives no verdict, or one that breaks the limits. Whether its fills can be merged is [`review`](crate::review())'s to say.
    pub async fn ask(&self, review: &Review<'_>, world: Arc<dyn World>, budget: Duration) -> Result<Answer, Failure> {
        let loaded = self.loaded.as_ref().map_err(Clone::clone)?;
        let request = review::request(review, &world);
        let mut state = loaded.state();
        state.world = Some(world);
        state.object = format!("{}/{}", review.namespace, review.name).into();
        let (mut host, mut instantiate, mut memory) = (Duration::ZERO, Duration::ZERO, 0);
        let begun = Instant::now();
        let call = run::call(loaded, state, &mut host, async |instance, store| {
            instantiate = begun.elapsed();
            let verdict = instance.call_review(&mut *store, &request, &loaded.settings).await?;
            memory = store.data().held.as_ref().map_or(0, Held::bytes);
            Ok(verdict)
        });
        let verdict = timeout(budget, call).await.unwrap_or(Err(Failure::Budget))?;
        run::within_limits(&verdict)?;
        Ok(Answer {
            verdict,
            instantiate,
            call: begun.elapsed().saturating_sub(instantiate),
            host,
            memory,
        })
    }
}
