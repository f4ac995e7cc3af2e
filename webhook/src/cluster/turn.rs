//! Whose turn it is to list.

use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::watcher::Event;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::timeout;

/// A replica that starts, or begins to lead, lists a dozen kinds. All at once they would take the API server, and the processors of a small node, for as long,
/// and every review that comes meanwhile would wait. (`cargo xtask bench --scale`: creates while replicas roll.)
static LISTING: Semaphore = Semaphore::const_new(1);
/// What a list takes that is small. One that is large, or doesn't come, goes on beside the next one.
const SLICE: Duration = Duration::from_millis(300);
/// Where many are, nobody waits longer than this.
const LONGEST: Duration = Duration::from_secs(2);

/// A watch that begins with its list when that has its turn.
pub(super) fn in_turn<K, E>(
    events: impl Stream<Item = Result<Event<K>, E>> + Send,
) -> impl Stream<Item = Result<Event<K>, E>> + Send {
    in_turn_of(&LISTING, events)
}

fn in_turn_of<K, E>(
    listing: &'static Semaphore,
    events: impl Stream<Item = Result<Event<K>, E>> + Send,
) -> impl Stream<Item = Result<Event<K>, E>> + Send {
    let turn = async { timeout(LONGEST, listing.acquire()).await.ok()?.ok() };
    turn.map(|turn| {
        let mut turn = turn.map(slice);
        events.inspect(move |event| {
            if !matches!(event, Ok(Event::Init | Event::InitApply(_))) {
                turn.take();
            }
        })
    })
    .flatten_stream()
}

/// The turn ends when this is dropped, or a [`SLICE`] later.
fn slice(turn: SemaphorePermit<'static>) -> oneshot::Sender<()> {
    let (end, ended) = oneshot::channel();
    tokio::spawn(async move {
        let _turn = turn;
        let _ = timeout(SLICE, ended).await;
    });
    end
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::stream;
    use tokio::time::Instant;

    use super::*;

    type Shown = Result<Event<u8>, &'static str>;

    fn listing() -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(1)))
    }

    /// Shows these events, and then waits.
    fn watch(listing: &'static Semaphore, events: Vec<Shown>) -> impl Stream<Item = Shown> {
        in_turn_of(listing, stream::iter(events).chain(stream::pending()))
    }

    /// A list that doesn't come.
    fn hangs(listing: &'static Semaphore) -> impl Stream<Item = Shown> {
        watch(listing, vec![Ok(Event::Init)])
    }

    /// How long it takes until it begins.
    async fn begins(watch: impl Stream<Item = Shown>) -> Duration {
        let began = Instant::now();
        assert!(matches!(pin!(watch).next().await, Some(Ok(Event::Init))));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_begins_when_the_one_before_is_whole_or_has_failed() {
        for end in [Ok(Event::InitDone), Err("refused")] {
            let listing = listing();
            let first = vec![Ok(Event::Init), Ok(Event::InitApply(1)), end];
            let (mut first, mut second) = (pin!(watch(listing, first)), pin!(hangs(listing)));
            for _ in 0..2 {
                assert!(first.next().await.is_some_and(|event| event.is_ok()));
                assert!(timeout(SLICE / 4, second.next()).await.is_err());
            }
            let _ = first.next().await;
            assert!(begins(second).await < SLICE / 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_do_not_come_hold_the_next_one_up_for_a_slice_each_and_none_for_long() {
        let listing = listing();
        let all = (0..20).map(|_| async {
            let mut watch = pin!(hangs(listing));
            let waited = begins(&mut watch).await;
            // Until all have begun.
            tokio::time::sleep(LONGEST).await;
            waited
        });
        let waited = futures::future::join_all(all).await;
        assert!(
            waited[0] < SLICE && waited[1] >= SLICE && waited[1] < SLICE * 2,
            "{waited:?}"
        );
        assert!(waited[2] >= SLICE * 2 && waited[19] < LONGEST + SLICE, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_stopped_while_it_lists_gives_its_turn_away() {
        let listing = listing();
        begins(hangs(listing)).await;
        assert!(begins(hangs(listing)).await < SLICE);
    }
}
