//! How large a model is, by what lies in the store.

use tidewaiter_policy::core::service::Component;
use tidewaiter_policy::storage::{self, Resolution};

/// Objects that are added up at most; of a model with more there is a lower bound.
const MANY: u32 = 1_000;

/// Bytes that a component's models have at least. None where nothing of it can be seen, or nothing is downloaded.
pub(crate) fn of(component: &Component<'_>) -> Option<u64> {
    let sizes = component.models.iter().filter_map(|model| of_model(&model.uri));
    sizes.reduce(u64::saturating_add).filter(|size| *size > 0)
}

fn of_model(uri: &str) -> Option<u64> {
    if !matches!(storage::resolve(uri), Resolution::Served(_)) {
        return None;
    }
    let uri = uri.trim_end_matches('/');
    let listing = storage::list_objects(uri, MANY).ok();
    let listed = listing.map(|listing| {
        let sizes = listing.objects.iter().map(|object| object.size);
        sizes.fold(0, u64::saturating_add)
    });
    match listed {
        Some(0) | None => storage::stat(uri).ok().map(|object| object.size),
        listed => listed,
    }
}

/// As a person reads it: `3.2 GiB`.
pub(crate) fn written(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenths = (u128::from(bytes % (1 << shift)) * 10) >> shift;
            return format!("{whole}.{tenths} {unit}");
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_people_do() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (3_435_973_837, "3.2 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(written(bytes), text);
        }
    }
}
