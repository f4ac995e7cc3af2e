//! The test ground: a real cluster on one machine, without a container engine, for tests to work on.
//!
//! etcd, the API server, controllers, KServe's manager, MinIO, containerd and a kubelet, each built once through the Go module proxy and
//! kept in a [cache](cache::Cache), run in [namespaces](sandbox) of their own that end with the process that asked for them. Several grounds run side by
//! side. [`Cluster`] is what a test holds.
//!
//! As root there is a node, and Pods run. Without root there is everything but that, in a user namespace.

pub mod api;
pub mod cache;
mod cert_manager;
pub mod cluster;
mod control_plane;
mod definitions;
mod faults;
mod helm;
pub mod host;
pub mod images;
mod knative;
mod kserve;
pub mod minio;
pub mod mlflow;
pub mod models;
mod namespace;
mod network_policies;
mod node;
pub mod npm;
pub mod processes;
pub mod progress;
pub mod python;
pub mod sandbox;
mod services;
pub mod slow;
pub mod tls;
pub mod tools;

pub use api::{Answer, Api};
pub use cluster::{Cluster, Options, Said};
pub use control_plane::{HOST, MINIO_PORT, MINIO_USER};
pub use definitions::Project;
pub use namespace::{Namespace, condition, get, post, statuses};
