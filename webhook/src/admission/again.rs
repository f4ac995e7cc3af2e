//! A stored object reviewed without a request: for the leader's sweep and audit.

use serde_json::Value;
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Change, Operation, Review};

use super::{Asker, Reviewer};
use crate::metrics::Endpoint;

/// A stored object.
pub(crate) struct Stored<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) object: &'a Document,
    /// Whether it has never been updated.
    pub(crate) new: bool,
}

/// What its review would come to now.
#[derive(Debug)]
pub(crate) struct Reviewed {
    /// The JSON Patch; empty where the object is as it should be.
    pub(crate) patch: Value,
    pub(crate) changes: Vec<Change>,
    /// Who refuses, and with which words.
    pub(crate) refusal: Option<(String, String)>,
    /// The same of an object that was updated before. The update may have been reviewed: one that finds such a refusal there is let through.
    pub(crate) standing: Option<(String, String)>,
    /// Why nothing can be said now, though it may be later.
    pub(crate) failure: Option<String>,
}

impl Reviewer {
    /// Judges a stored object as if it came now. `effects`: whether credentials are made for it. None where there is nothing to judge, or no configuration yet.
    pub(crate) async fn review_again(&self, stored: &Stored<'_>, effects: bool) -> Option<Reviewed> {
        let snapshot = self.snapshot()?;
        let groups = Vec::new();
        let review = Review {
            operation: if stored.new {
                Operation::Create
            } else {
                Operation::Update
            },
            api_version: stored.api_version,
            kind: stored.kind,
            namespace: stored.namespace,
            name: stored.name,
            object: stored.object,
            old_object: None,
            username: "",
            groups: &groups,
        };
        let secret_annotation = snapshot.configuration.kserve().secret_annotation.as_deref();
        if tidewaiter_engine::untouched(&review, secret_annotation).is_some() {
            return None;
        }
        let review = Review {
            old_object: (!stored.new).then_some(stored.object),
            ..review
        };
        let judged = self
            .decide(Endpoint::mutate, &review, Asker::default(), !effects, &snapshot)
            .await?;
        let denial = judged
            .denial()
            .map(|(policy, denial)| (policy.unwrap_or("tidewaiter").to_owned(), denial.message.clone()));
        let (refusal, failure) = match denial {
            Some((_, message)) if judged.code() >= 500 => (None, Some(message)),
            refusal => (refusal, None),
        };
        let standing = judged
            .outcome
            .standing
            .map(|(policy, denial)| (policy.to_string(), denial.message));
        Some(Reviewed {
            refusal,
            standing,
            failure,
            patch: serde_json::to_value(&judged.outcome.patch).unwrap_or_default(),
            changes: judged.outcome.changes,
        })
    }
}
