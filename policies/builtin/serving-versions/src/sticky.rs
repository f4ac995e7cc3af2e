//! What was filled in stays while its reasons stay.

use tidewaiter_policy::{Request, Verdict, core::service::Service};

use crate::{PROTOCOL_VERSION, Predictor, RUNTIME, RUNTIME_VERSION};

/// The same fills again, where the model, its format and the user's own words on the runtime are those of the old object. None where there is something
/// to decide. Asks nobody.
pub(crate) fn kept(request: &Request, predictor: &Predictor<'_>) -> Option<Verdict> {
    let ours = |path: &str| request.filled.iter().find(|entry| entry.path == path);
    let entries = [RUNTIME, RUNTIME_VERSION, PROTOCOL_VERSION].map(ours);
    if predictor.role != tidewaiter_policy::core::service::Role::Predictor || entries.iter().all(Option::is_none) {
        return None;
    }

    let old_service = Service::parse(&request.kind, request.old_object.as_deref()?).ok()?;
    let old = Predictor::of(old_service.predictor()?).ok()?;
    let [runtime, runtime_version, protocol_version, image] = old.own_choice();
    let unless_ours = |value, entry: Option<_>| if entry.is_some() { None } else { value };
    let old_choice = [
        unless_ours(runtime, entries[0]),
        unless_ours(runtime_version, entries[1]),
        unless_ours(protocol_version, entries[2]),
        image,
    ];
    let same = predictor.uri == old.uri
        && predictor.format == old.format
        && predictor.gpu == old.gpu
        && predictor.own_choice() == old_choice;
    if !same {
        return None;
    }

    let mut verdict = Verdict::admit();
    // Of a pair that lost a half nothing is left: both or neither.
    let pair = if let [Some(runtime), Some(version), _] = entries {
        vec![runtime, version]
    } else {
        Vec::new()
    };
    for entry in pair.into_iter().chain(entries[2]) {
        verdict = verdict.fill(&entry.path, entry.parsed(), "kept from an earlier admission");
    }
    Some(verdict)
}
