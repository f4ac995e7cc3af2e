//! What the end-to-end tests share: Tidewaiter installed on the test ground, and the manifests that users write.

mod install;
pub mod manifests;

pub use install::{Order, Tidewaiter, webhook_binary};
