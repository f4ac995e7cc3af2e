//! The contract's types and calls, generated from `policies/wit`.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated: the unsafe parts lower and lift values for the component ABI"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "policy",
    additional_derives: [PartialEq],
    default_bindings_module: "tidewaiter_policy::bindings",
    pub_export_macro: true,
    generate_unused_types: true,
    runtime_path: "::tidewaiter_policy::wit_bindgen_rt",
});
