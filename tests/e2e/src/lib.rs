//! What the end-to-end tests, the demo and the benchmark share: Tidewaiter installed on the test ground, and the manifests that users write.

mod install;
pub mod manifests;
mod reenter;

pub use install::{Order, Tidewaiter, WITHOUT, webhook_binary};
pub use reenter::in_the_ground;
