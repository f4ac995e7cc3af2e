//! The policies that Tidewaiter ships, as WebAssembly components.

/// A policy and its component.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// The policy's name, such as `storage-credentials`.
    pub name: &'static str,
    /// The component's bytes.
    pub component: &'static [u8],
}

/// All of them, in the order in which they run by default.
pub const POLICIES: &[Builtin] = include!(concat!(env!("OUT_DIR"), "/policies.rs"));

/// The policy of this name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    POLICIES.iter().find(|policy| policy.name == name)
}
