//! Write an admission policy for Tidewaiter in Rust.
