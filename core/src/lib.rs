//! The domain, pure: no client, no clock, no I/O. Compiles to WebAssembly, so that policies stand on the same types as the server.
