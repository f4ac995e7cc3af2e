//! Which services had a review fill something in, at what generation, and when they were last written: what the leader before this one knew of them.
//!
//! The one that follows needn't judge again what stands here as it is.
//!
//! A manifest that is sent over such a service while nobody answers takes the record off it, and the API server stamps no time on a write that only takes
//! away. So nothing on the object tells it from one that ran before Tidewaiter was installed, and that one is never to be touched. What tells it stands here.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use tidewaiter_world::digest_of;

use super::services::Service;

/// As many are remembered: eleven bytes each, on an object whose annotations may have 256 KiB. Beyond, those of a service more are forgotten, always the same.
const AT_MOST: usize = 20_000;
/// Of a uid's digest. Among twenty thousand, one that ran before is mistaken for another once in fifty million times.
const DIGEST: usize = 5;
/// The low bytes of a time in seconds: it is the same again after 18 hours.
const TIME: usize = 2;
const ENTRY: usize = DIGEST + 1 + TIME;

type Uid = [u8; DIGEST];

/// A service as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// A generation's last byte: enough to see that it is another.
    generation: u8,
    written: [u8; TIME],
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AtReview {
    services: BTreeMap<Uid, Seen>,
}

impl AtReview {
    /// What [`write`](Self::write) wrote. What it can't have written is nothing.
    pub(super) fn read(text: &str) -> Self {
        let bytes = BASE64.decode(text).unwrap_or_default();
        let (entries, more) = bytes.as_chunks::<ENTRY>();
        let seen = |generation, written| Seen { generation, written };
        let services = entries
            .iter()
            .map(|&[a, b, c, d, e, generation, t, u]| ([a, b, c, d, e], seen(generation, [t, u])));
        // They are written in order: what isn't was written otherwise, as by a release that knew less of each.
        if !more.is_empty() || !services.clone().is_sorted_by(|(one, _), (next, _)| one < next) {
            return Self::default();
        }
        Self {
            services: services.collect(),
        }
    }

    pub(super) fn write(&self) -> String {
        let entries = self.services.iter().take(AT_MOST);
        BASE64.encode(
            entries
                .flat_map(|(uid, seen)| uid.iter().chain([&seen.generation]).chain(&seen.written).copied())
                .collect::<Vec<u8>>(),
        )
    }

    /// Whether a service that a review filled something in has lost the record of that since, or has another spec.
    pub(super) fn changed(&self, service: &Service) -> bool {
        let known = self.services.get(&digest(service));
        known.is_some_and(|seen| !service.adopted || seen.generation != Seen::of(service).generation)
    }

    /// Whether it was judged as it is, and has its record still.
    pub(super) fn judged(&self, service: &Service) -> bool {
        service.adopted && self.services.get(&digest(service)) == Some(&Seen::of(service))
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
                self.services.insert(uid, Seen::of(service));
            } else {
                self.services.remove(&uid);
            }
        }
        if complete {
            self.services.retain(|uid, _| there.contains(uid));
        }
    }
}

impl Seen {
    fn of(service: &Service) -> Self {
        let ([generation, ..], [low, high, ..]) = (service.generation.to_le_bytes(), service.written.to_le_bytes());
        Self {
            generation,
            written: [low, high],
        }
    }
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
    fn what_was_judged_is_known_until_anything_of_it_is_written() {
        let filled = service("filled", 2, true);
        let mut known = AtReview::default();
        known.follow(&[filled.clone(), service("old", 1, false)], true, |_| false);
        let next = AtReview::read(&known.write());
        assert!(next.judged(&filled));
        assert!(!next.judged(&service("old", 1, false)));
        assert!(!next.judged(&service("filled", 3, true)));
        assert!(!next.judged(&service("filled", 2, false)));
        assert!(!next.judged(&Service {
            written: filled.written + 1,
            ..filled
        }));
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
        assert!(known.write().len() <= 220 << 10);
        assert_eq!(AtReview::read("not base64!"), AtReview::default());
        // Four services by a release that wrote no time.
        let of_before: Vec<u8> = (1..=4).flat_map(|uid| [uid, 9, 9, 9, 9, 1]).collect();
        assert_eq!(of_before.len() % ENTRY, 0);
        assert_eq!(AtReview::read(&BASE64.encode(of_before)), AtReview::default());
    }
}
