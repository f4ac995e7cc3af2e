//! Which services had a review fill something in, and at what generation: what the leader before this one knew of them.
//!
//! A manifest that is sent over such a service while nobody answers takes the record off it, and the API server stamps no time on a write that only takes
//! away. So nothing on the object tells it from one that ran before Tidewaiter was installed, and that one is never to be touched. What tells it stands here.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use tidewaiter_world::digest_of;

use super::services::Service;

/// As many are remembered: eight bytes each, on an object whose annotations may have 256 KiB. Beyond, those of a service more are forgotten, always the same.
const AT_MOST: usize = 20_000;
/// Of a uid's digest. Among twenty thousand, one that ran before is mistaken for another once in fifty million times.
const DIGEST: usize = 5;

type Uid = [u8; DIGEST];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AtReview {
    /// With a generation's last byte: enough to see that it is another.
    generations: BTreeMap<Uid, u8>,
}

impl AtReview {
    /// What [`write`](Self::write) wrote. What it can't have written is nothing.
    pub(super) fn read(text: &str) -> Self {
        let bytes = BASE64.decode(text).unwrap_or_default();
        let entries = bytes.as_chunks::<{ DIGEST + 1 }>().0.iter();
        Self {
            generations: entries
                .map(|&[a, b, c, d, e, generation]| ([a, b, c, d, e], generation))
                .collect(),
        }
    }

    pub(super) fn write(&self) -> String {
        let entries = self.generations.iter().take(AT_MOST);
        BASE64.encode(
            entries
                .flat_map(|(uid, generation)| uid.iter().chain([generation]).copied())
                .collect::<Vec<u8>>(),
        )
    }

    /// Whether a service that a review filled something in has lost the record of that since, or has another spec.
    pub(super) fn changed(&self, service: &Service) -> bool {
        let known = self.generations.get(&digest(service));
        known.is_some_and(|generation| !service.adopted || *generation != low(service))
    }

    /// Takes in what there is now. `waits`: what was not judged as it is yet stays as it was. `complete`: whether the services are all there are; one that a
    /// watch doesn't show is forgotten only then.
    pub(super) fn follow(&mut self, services: &[Service], complete: bool, waits: impl Fn(&Service) -> bool) {
        let mut there = BTreeSet::new();
        for service in services {
            let uid = digest(service);
            there.insert(uid);
            if waits(service) {
                continue;
            }
            if service.adopted {
                self.generations.insert(uid, low(service));
            } else {
                self.generations.remove(&uid);
            }
        }
        if complete {
            self.generations.retain(|uid, _| there.contains(uid));
        }
    }
}

/// The last byte of its generation.
fn low(service: &Service) -> u8 {
    service.generation.to_le_bytes()[0]
}

fn digest(service: &Service) -> Uid {
    let digest = digest_of(service.uid.as_bytes());
    let mut uid = Uid::default();
    let hex = digest
        .trim_start_matches("sha256:")
        .as_bytes()
        .as_chunks::<2>()
        .0
        .iter();
    for (byte, hex) in uid.iter_mut().zip(hex) {
        *byte = std::str::from_utf8(hex)
            .ok()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .unwrap_or_default();
    }
    uid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(uid: &str, generation: i64, adopted: bool) -> Service {
        Service {
            generation,
            adopted,
            ..Service::of(uid)
        }
    }

    #[test]
    fn the_next_leader_sees_a_record_that_is_gone_and_a_spec_that_is_another_and_nothing_else() {
        let before = [
            service("filled", 2, true),
            service("edited", 300, true),
            service("old", 1, false),
        ];
        let mut known = AtReview::default();
        known.follow(&before, true, |_| false);
        let mut next = AtReview::read(&known.write());
        assert_eq!(next, known);
        assert!(before.iter().all(|service| !next.changed(service)));
        let after = [
            service("filled", 3, false),
            service("edited", 301, true),
            service("old", 2, false),
        ];
        let changed = |next: &AtReview| -> Vec<bool> { after.iter().map(|service| next.changed(service)).collect() };
        assert_eq!(changed(&next), [true, true, false]);
        // Not judged yet: the leader after this one is to see it too. Then it is as any other.
        next.follow(&after, true, |_| true);
        assert_eq!(changed(&next), [true, true, false]);
        next.follow(&after, true, |_| false);
        assert_eq!(changed(&next), [false, false, false]);
    }

    #[test]
    fn one_that_a_watch_does_not_show_is_remembered_and_one_that_is_gone_is_not() {
        let filled = [service("filled", 1, true)];
        let mut known = AtReview::default();
        known.follow(&filled, false, |_| false);
        known.follow(&[], false, |_| false);
        assert!(known.changed(&service("filled", 1, false)));
        known.follow(&[], true, |_| false);
        assert_eq!(known, AtReview::default());
    }

    #[test]
    fn what_is_remembered_fits_into_an_annotation_and_what_nobody_wrote_is_nothing() {
        let services: Vec<_> = (0..AT_MOST + 100).map(|n| service(&n.to_string(), 1, true)).collect();
        let mut known = AtReview::default();
        known.follow(&services, true, |_| false);
        assert!(known.write().len() <= 200 << 10);
        assert_eq!(AtReview::read("not base64!"), AtReview::default());
    }
}
