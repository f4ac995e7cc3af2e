//! The first thing that bytes from the network meet.

use serde_json::value::RawValue;
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Operation, Review};
use tidewaiter_webhook::admission::decode::decode;

/// Whatever comes as a body is decoded or refused, and never a panic. What was decoded stays a question that can be answered: its objects are JSON, and
/// whether there is anything to judge can be told.
///
/// # Panics
/// Where that doesn't hold.
pub fn decode_review(body: &[u8]) {
    let request = match decode(body) {
        Ok(request) => request,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    for object in [request.object, request.old_object].into_iter().flatten() {
        let again: Result<Box<RawValue>, _> = serde_json::from_str(object.get());
        assert!(again.is_ok(), "an object that is no JSON was let through: {object}");
    }
    let document = |raw| Document::of(raw).ok();
    let Some(object) = request.object.and_then(document) else {
        return;
    };
    let old = request.old_object.and_then(document);
    let review = Review {
        operation: if request.operation == "UPDATE" {
            Operation::Update
        } else {
            Operation::Create
        },
        api_version: &request.kind.version,
        kind: &request.kind.kind,
        namespace: request.namespace.as_deref().unwrap_or_default(),
        name: request.name.as_deref().unwrap_or_default(),
        object: &object,
        old_object: old.as_ref(),
        username: &request.user_info.username,
        groups: request.user_info.groups.as_deref().unwrap_or_default(),
    };
    // What it says of garbage is nobody's business; that it says something is.
    let _ = tidewaiter_engine::untouched(&review, Some("serving.kserve.io/storageSecretName"));
}
