//! Built-in policy `runtime-version`.
