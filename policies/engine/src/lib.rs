//! Loads, checks, compiles, caches and runs admission policies. Knows nothing of HTTP or Kubernetes.

mod bindings;
pub mod outcome;
pub mod world;
