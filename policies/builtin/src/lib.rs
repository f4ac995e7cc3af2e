//! The policies that Tidewaiter ships, as WebAssembly components.
