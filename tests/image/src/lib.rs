//! The container image of Tidewaiter, made without a container engine.
//!
//! ```text
//!  webhook's source ─▶ binary ──┐
//!  Mozilla's roots ──▶ layer ───┼─▶ oci: blobs and their digests ─▶ layout: a folder, or a tar
//!  built-in policies ▶ compiled ┤
//!  Cargo.lock ───────▶ sbom ────┘
//! ```
//!
//! Everything but [`binary`] is a function of its arguments alone: no clock, no order of a folder or a map, no name of this machine gets into
//! what it returns. [`oci`] knows nothing of Tidewaiter: it takes any files, and makes an image of them.

pub mod binary;
pub mod layer;
pub mod layout;
pub mod oci;
pub mod policies;
pub mod roots;
pub mod sbom;
pub mod source;
pub mod webhook;
