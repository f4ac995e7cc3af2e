//! The server's outside: sockets, TLS, routes.

pub mod accept;
pub mod certificate;
mod lingering;
pub mod routes;
