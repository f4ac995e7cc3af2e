//! Runtimes that were made or changed a moment ago, as by the same `kubectl apply`: what is known of runtimes is behind by up to a second, and KServe's controller
//! sees them. Asked for only before something is refused.

use tidewaiter_policy::cluster;
use tidewaiter_policy::core::runtimes::{Runtimes, ServingRuntime, lists};
use tidewaiter_policy::core::service::Format;
use tidewaiter_policy::{Request, Value};

const VERSION: &str = "serving.kserve.io/v1alpha1";
/// For the policy's own.
pub(crate) const OBJECTS: [(&str, &str); 2] = [(VERSION, "ServingRuntime"), (VERSION, "ClusterServingRuntime")];

/// All of them that the namespace sees. Where they can't be read, what is known stands.
fn now() -> Option<Runtimes> {
    let mut runtimes = Vec::new();
    for (version, kind) in OBJECTS {
        for text in cluster::list_objects(version, kind).ok()? {
            let mut object: Value = serde_json::from_str(&text).ok()?;
            // An item of a list need not say it.
            object["kind"] = kind.into();
            runtimes.extend(ServingRuntime::from_json(&object));
        }
    }
    Some(Runtimes::new(runtimes))
}

/// Whether KServe chooses one by itself for this format and protocol.
pub(crate) fn is_chosen(request: &Request, format: &Format<'_>, protocol: &str) -> bool {
    let select = |now: Runtimes| {
        now.select(&request.namespace, &format.name, format.version.as_deref(), protocol)
            .is_some()
    };
    now().is_some_and(select)
}

/// Whether the one of this name serves this format, in this protocol where one is asked for.
pub(crate) fn serves(request: &Request, name: &str, format: &Format<'_>, protocol: Option<&str>) -> bool {
    let serves = |now: Runtimes| {
        let runtime = now.named(&request.namespace, name)?;
        let spec = runtime.spec.as_deref()?;
        let speaks = protocol.is_none_or(|protocol| runtime.speaks(protocol));
        Some(speaks && lists(spec, &format.name, format.version.as_deref()))
    };
    now().and_then(serves).unwrap_or_default()
}
