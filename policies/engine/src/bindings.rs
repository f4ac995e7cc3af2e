//! The contract's types and calls, generated from `policies/wit`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy",
    imports: { default: async | trappable },
    exports: { default: async },
});
