//! What was filled in stays while its reasons stay: a cluster that gets or loses nodes moves no model.

use tidewaiter_policy::{
    Request, Value,
    core::service::{AsWritten, Component, Role, Service},
};

use crate::image::Written;
use crate::selector_path;

/// The same fill again.
pub(crate) struct Kept {
    pub(crate) path: String,
    pub(crate) value: Value,
}

/// What was filled in for this component, where its model, what serves it and what the user says of nodes are those of the old object. None where there is
/// something to decide. Asks nobody.
pub(crate) fn kept(request: &Request, component: &Component<'_>, written: &Written) -> Option<Kept> {
    if matches!(component.role, Role::Canary(_)) {
        return None;
    }
    let path = selector_path(component);
    let entry = request.filled.iter().find(|entry| entry.path == path)?;
    let old = request.old_object.as_deref()?;
    let old_parts = AsWritten::<Written>::parse(old)?;
    let old_written = old_parts.get(component.role)?;
    let old_service = Service::parse(&request.kind, old).ok()?;
    let old = old_service
        .components()
        .iter()
        .find(|other| other.role == component.role)?;
    let same = component.models == old.models
        && component.implementation == old.implementation
        && written.images().eq(old_written.images())
        && component.gpu == old.gpu
        && component.multi_node == old.multi_node
        && written.placement() == old_written.placement().without_ours();
    same.then(|| Kept {
        path,
        value: entry.parsed(),
    })
}
