//! Write an admission policy for Tidewaiter in Rust.
//!
//! A policy looks at an object that is about to be stored in the cluster and answers with a [`Verdict`]: values to fill in where its user
//! left them out, warnings, a denial, credentials to have at hand. It is a WebAssembly component without WASI: no clock, no network,
//! no files. What it may ask is in [`storage`], [`runtimes`], [`cluster`] and [`log`]; the component imports only those that it calls,
//! and a `WasmPolicy` must grant them.
//!
//! ```
//! use tidewaiter_policy::{Policy, Request, Verdict, schema_of, settings};
//!
//! /// Every service says whose it is.
//! struct Owner;
//!
//! settings! {
//!     struct Settings {
//!         /// The team of services that don't say
//!         #[setting(shown)]
//!         team: Option<String> = None,
//!     }
//! }
//!
//! impl Policy for Owner {
//!     type Settings = Settings;
//!     const NAME: &'static str = "owner";
//!     const VERSION: &'static str = "0.1.0";
//!     const SUMMARY: &'static str = "Every service says whose it is.";
//!
//!     fn settings_schema() -> Option<&'static str> {
//!         schema_of::<Settings>()
//!     }
//!
//!     fn review(request: &Request, settings: &Settings) -> Verdict {
//!         if request.at("/metadata/labels/team").is_some() {
//!             return Verdict::admit();
//!         }
//!         match &settings.team {
//!             Some(team) => Verdict::admit().fill("/metadata/labels/team", team.as_str(), "every service says whose it is"),
//!             None => Verdict::admit().warn(format!("{} belongs to nobody", request.name)),
//!         }
//!     }
//! }
//!
//! // The component's exports. Nothing at all where the crate is compiled natively, for its tests.
//! tidewaiter_policy::export!(Owner);
//!
//! # #[cfg(not(target_arch = "wasm32"))] {
//! use tidewaiter_policy::testing::{World, create};
//! let verdict = World::new().review::<Owner>(&create(&serde_json::json!({"metadata": {"name": "fraud"}})));
//! assert_eq!(verdict.warnings, ["fraud belongs to nobody"]);
//! # }
//! ```
//!
//! - **The request.** [`Request::at`] finds anything in the object by its JSON Pointer. Whoever asks for more takes a [`Request::view`] once: labels, annotations,
//!   and the part of predictor and model that policies look at, typed (`view.predictor()`, `.max_replicas()`, `.model()`, `.storage_uri()`). It is what somebody
//!   wrote: what is missing, or of another type, is none. `core::service` knows more: all shapes in which KServe takes a model.
//! - **The answer.** [`Verdict::admit`] begins it; `fill`, `warn`, `deny` and `credentials` add to it.
//! - **Settings** are what [`settings!`] makes: a struct, its defaults, and with [`schema_of`] the JSON Schema in the component. Tidewaiter refuses settings that
//!   don't fit it. [`Policy::check`] says what types can't.
//! - **Tests** are native: `testing::World` answers what the policy asks.

// The generated code names this crate by its own name, for the sake of the policies that it is expanded into.
extern crate self as tidewaiter_policy;

#[doc(hidden)]
pub mod bindings;
#[cfg(not(target_arch = "wasm32"))]
mod expect;
#[doc(hidden)]
pub mod exports;
mod finding;
mod host;
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod memory;
mod object;
mod runtime;
mod served;
mod settings;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod verdict;

pub use bindings::tidewaiter::policy::types::{
    Credentials, Delivery, Denial, Effect, Entry, Fill, Operation, Request, Verdict,
};
pub use exports::settings;
pub use finding::Mode;
pub use host::{cluster, log, runtimes, storage};
pub use object::{Component, Model, View};
#[doc(hidden)]
pub use serde;
pub use serde_json::Value;
pub use served::{image_of, runtime_of};
pub use settings::{Schema, Setting, schema_of};
#[doc(hidden)]
pub use settings::{schema_of_setting, schema_of_struct};
pub use tidewaiter_core as core;
#[doc(hidden)]
pub use wit_bindgen::rt as wit_bindgen_rt;

/// A policy: what it is, and how it answers.
pub trait Policy {
    /// What the admin may set; [`settings!`] makes it. Unknown fields are refused where the type says so (`#[serde(deny_unknown_fields)]`). No settings
    /// at all are the default.
    type Settings: serde::de::DeserializeOwned + Default;

    /// A DNS label.
    const NAME: &'static str;
    /// The policy's own semantic version.
    const VERSION: &'static str;
    /// One sentence.
    const SUMMARY: &'static str;
    /// API version and kind of what it reads by [`cluster::get_object`] and [`cluster::list_objects`], such as `("v1", "ResourceQuota")`. Its `WasmPolicy` has to
    /// declare them in `spec.objects`; this tells tools what to write there. Default: nothing.
    const OBJECTS: &'static [(&'static str, &'static str)] = &[];

    /// JSON Schema of the settings, as JSON text: [`schema_of`] has it of what [`settings!`] made. Default: none.
    fn settings_schema() -> Option<&'static str> {
        None
    }

    /// What deserialising alone can't say of the settings. Called once, when the policy is loaded. The error says which setting is wrong
    /// and what it may be. Default: all is well.
    ///
    /// # Errors
    /// A sentence for the admin.
    fn check(_settings: &Self::Settings) -> Result<(), String> {
        Ok(())
    }

    /// The answer to one request. The same request, settings and answers of the world must give the same verdict.
    fn review(request: &Request, settings: &Self::Settings) -> Verdict;
}

/// Makes a component of a [`Policy`]: `tidewaiter_policy::export!(MyPolicy);`, once in a crate. Does nothing where the target isn't
/// `wasm32`, so that the same crate is a library for native tests.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the component ABI's exports, generated by wit-bindgen")]
        const _: () = {
            type Component = $crate::exports::Exported<$policy>;
    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}
