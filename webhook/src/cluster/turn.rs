//! Whose turn it is to list.

use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::watcher::Event;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A replica that starts, or begins to lead, lists a dozen kinds. All at once they would take the API server, and the processors of a small node, for as long,
/// and every review that comes meanwhile would wait. (`cargo xtask bench --scale`: creates while replicas roll.)
static LISTING: Semaphore = Semaphore::const_new(1);
/// Nobody waits longer than this for lists that are large or don't come.
const LONGEST: Duration = Duration::from_secs(1);

/// A watch that begins with its list when no other one lists.
pub(super) fn in_turn<K, E>(
    events: impl Stream<Item = Result<Event<K>, E>> + Send,
) -> impl Stream<Item = Result<Event<K>, E>> + Send {
    in_turn_of(&LISTING, events)
}

fn in_turn_of<K, E>(
    listing: &'static Semaphore,
    events: impl Stream<Item = Result<Event<K>, E>> + Send,
) -> impl Stream<Item = Result<Event<K>, E>> + Send {
    let turn = async { timeout(LONGEST, listing.acquire()).await.ok() };
    turn.map(|mut turn| {
        events.inspect(move |event| {
            if !matches!(event, Ok(Event::Init | Event::InitApply(_))) {
                turn.take();
            }
        })
    })
    .flatten_stream()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::stream;
    use tokio::time::Instant;

    use super::*;

    type Events = Vec<Result<Event<u8>, &'static str>>;

    fn listing() -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(1)))
    }

    /// Shows these events, and then waits.
    fn watch(listing: &'static Semaphore, events: Events) -> impl Stream<Item = Result<Event<u8>, &'static str>> {
        in_turn_of(listing, stream::iter(events).chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_begins_when_the_one_before_is_whole_or_has_failed() {
        for end in [Ok(Event::InitDone), Err("refused")] {
            let listing = listing();
            let first = vec![Ok(Event::Init), Ok(Event::InitApply(1)), end];
            let (mut first, mut second) = (pin!(watch(listing, first)), pin!(watch(listing, vec![Ok(Event::Init)])));
            for _ in 0..2 {
                assert!(first.next().await.unwrap().is_ok());
                assert!(second.next().now_or_never().is_none());
            }
            let _ = first.next().await;
            assert!(second.next().now_or_never().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_does_not_come_keeps_the_others_for_a_second() {
        let listing = listing();
        let mut hangs = pin!(watch(listing, vec![Ok(Event::Init)]));
        assert!(hangs.next().await.is_some());
        let began = Instant::now();
        let others = (0..9).map(|_| async { pin!(watch(listing, vec![Ok(Event::Init)])).next().await.is_some() });
        assert!(futures::future::join_all(others).await.into_iter().all(|came| came));
        assert!(began.elapsed() >= LONGEST && began.elapsed() < LONGEST * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_stopped_while_it_lists_gives_its_turn_away() {
        let listing = listing();
        {
            let mut stopped = pin!(watch(listing, vec![Ok(Event::Init)]));
            assert!(stopped.next().await.is_some());
        }
        assert!(
            pin!(watch(listing, vec![Ok(Event::Init)]))
                .next()
                .now_or_never()
                .is_some()
        );
    }
}
