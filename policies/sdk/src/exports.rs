//! The contract's exports, for any [`Policy`].

use std::marker::PhantomData;

use crate::Policy;
use crate::bindings::Guest;
use crate::bindings::tidewaiter::policy::types::{Description, ObjectKind, Request, Verdict};

/// The contract's exports of a policy.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Policy> Guest for Exported<P> {
    fn describe() -> Description {
        Description {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            summary: P::SUMMARY.to_owned(),
            settings_schema: P::settings_schema().map(str::to_owned),
            objects: P::OBJECTS
                .iter()
                .map(|(api_version, kind)| ObjectKind {
                    api_version: (*api_version).to_owned(),
                    kind: (*kind).to_owned(),
                })
                .collect(),
        }
    }

    fn check_settings(text: String) -> Result<(), String> {
        P::check(&settings::<P>(&text)?)
    }

    fn review(request: Request, text: String) -> Verdict {
        match settings::<P>(&text) {
            Ok(settings) => P::review(&request, &settings),
            // The engine calls `check-settings` first and with the same text. A trap is then the only answer that is no lie.
            Err(error) => panic!("{error}"),
        }
    }
}

/// A policy's settings from their JSON text. No text, `{}` and `null` are the default.
///
/// # Errors
/// What is wrong, for the admin.
pub fn settings<P: Policy>(text: &str) -> Result<P::Settings, String> {
    match text.trim() {
        "" | "{}" | "null" => Ok(P::Settings::default()),
        text => serde_json::from_str(text).map_err(|error| format!("settings of {}: {error}", P::NAME)),
    }
}
