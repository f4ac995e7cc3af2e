//! What the end-to-end tests, the demo and the benchmark share: Tidewaiter installed on the test ground, and the manifests that users write.

pub mod admission;
pub mod answering;
pub mod author;
pub mod chart;
pub mod command;
pub mod custom;
mod files;
pub mod install;
pub mod let_pass;
pub mod load;
pub mod manifests;
mod memory;
pub mod minio;
pub mod path;
pub mod policy;
mod reenter;
pub mod registry;
pub mod rights;
pub mod runner;
pub mod server;
pub mod shell;
pub mod transcript;
pub mod vault;
pub mod volume;

pub use files::files_below;
pub use install::install;
pub use memory::most_memory;
pub use reenter::{KSERVE, in_the_ground};
pub use server::Server;
