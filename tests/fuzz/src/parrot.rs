//! A policy that fills in what the request tells it to.
//!
//! The fuzzer is to say what policies answer, and the engine is to meet that answer where it meets all others: coming out of a component. So this is a
//! component that takes the groups of the request's user for its fills. A list of strings and a list of fills, which are three strings each, lie in
//! memory in the same way; the verdict only has to point there. How long the user's name is says how many of the fills are the first policy's.

use serde_json::Value;
use tidewaiter_engine::{Engine, FailurePolicy, Limits, LoadedPolicy, Mode, PolicySpec};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, SizeAlign, TypeDefKind};

/// Which of the fills are a policy's.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    /// As many as the user's name has letters.
    First,
    /// The others. Refuses where the object's kind is empty.
    Second,
}

/// Loads the parrot as a policy of this name.
pub(crate) async fn load(engine: &Engine, name: &str, part: Part, mode: Mode) -> LoadedPolicy {
    let spec = PolicySpec {
        name: name.to_owned(),
        component: component(part).into(),
        settings: Value::Null,
        capabilities: Vec::new(),
        limits: Limits::default(),
        failure: FailurePolicy::Ignore,
        mode,
    };
    engine.load(spec).await.expect("the parrot fits the contract")
}

/// Where the verdict is written, and everything that it may point to beside the request itself.
const VERDICT: usize = 64;
const DESCRIPTION: usize = 256;
const WORDS: usize = 512;
const HEAP: usize = 1024;

fn component(part: Part) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let contract = resolve
        .push_str("policy.wit", include_str!("../../../policies/wit/policy.wit"))
        .expect("the contract is WIT");
    let world = resolve
        .select_world(&[contract], Some("policy"))
        .expect("the contract has its world");
    let mut module =
        wat::parse_str(module(&Layout::of(&resolve), part)).expect("the parrot's module is text of WebAssembly");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .expect("the module takes the contract's description");
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(ComponentEncoder::encode)
        .expect("the module fits the contract")
}

/// Where the canonical ABI has what the parrot reads and writes.
struct Layout {
    kind: usize,
    username: usize,
    groups: usize,
    denial: usize,
    fills: usize,
}

impl Layout {
    fn of(resolve: &Resolve) -> Self {
        let mut sizes = SizeAlign::default();
        sizes.fill(resolve).expect("the contract's types have sizes");
        let field = |record: &str, field: &str| {
            let found = resolve.types.iter().find_map(|(_, def)| match &def.kind {
                TypeDefKind::Record(fields) if def.name.as_deref() == Some(record) => Some(fields),
                _ => None,
            });
            let fields = &found
                .unwrap_or_else(|| panic!("the contract has no record {record}"))
                .fields;
            let at = fields.iter().position(|one| one.name == field);
            let at = at.unwrap_or_else(|| panic!("the contract's record {record} has no field {field}"));
            sizes.field_offsets(fields.iter().map(|one| &one.ty))[at]
                .0
                .size_wasm32()
        };
        Self {
            kind: field("request", "kind"),
            username: field("request", "username"),
            groups: field("request", "groups"),
            denial: field("verdict", "denial"),
            fills: field("verdict", "fills"),
        }
    }
}

fn module(layout: &Layout, part: Part) -> String {
    let Layout {
        kind,
        username,
        groups,
        denial,
        fills,
    } = layout;
    // A list and a string are an address and a length; the payload of an option of such comes a word after its tag.
    let (count, denial, fills) = (username + 4, VERDICT + denial, VERDICT + fills);
    let (address, length, refuses) = match part {
        Part::First => ("(local.get $groups)", "(local.get $first)", "(i32.const 0)".to_owned()),
        Part::Second => (
            "(i32.add (local.get $groups) (i32.mul (local.get $first) (i32.const 24)))",
            "(i32.sub (local.get $all) (local.get $first))",
            format!(
                "(i32.eqz (i32.load (i32.add (local.get $request) (i32.const {}))))",
                kind + 4
            ),
        ),
    };
    format!(
        r#"(module
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const {HEAP}))
  (data (i32.const {WORDS}) "parrot0.1.0")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.div_u (local.get 3) (i32.const 65536)) (i32.const 1))))))
    (local.get $at))
  (func (export "describe") (result i32)
    (i32.store (i32.const {DESCRIPTION}) (i32.const {WORDS}))
    (i32.store offset=4 (i32.const {DESCRIPTION}) (i32.const 6))
    (i32.store offset=8 (i32.const {DESCRIPTION}) (i32.const {version}))
    (i32.store offset=12 (i32.const {DESCRIPTION}) (i32.const 5))
    (i32.const {DESCRIPTION}))
  (func (export "check-settings") (param i32 i32) (result i32) (i32.const 0))
  (func (export "review") (param $request i32) (result i32)
    (local $groups i32) (local $all i32) (local $first i32)
    (local.set $groups (i32.load offset={groups} (local.get $request)))
    (local.set $all (i32.div_u (i32.load offset={group_count} (local.get $request)) (i32.const 3)))
    (local.set $first (i32.load offset={count} (local.get $request)))
    (if {refuses} (then
      (i32.store (i32.const {denial}) (i32.const 1))
      (i32.store offset=4 (i32.const {denial}) (i32.const {WORDS}))
      (i32.store offset=8 (i32.const {denial}) (i32.const 6))
      (i32.store offset=12 (i32.const {denial}) (i32.const {WORDS}))
      (i32.store offset=16 (i32.const {denial}) (i32.const 6))))
    (i32.store (i32.const {fills}) {address})
    (i32.store offset=4 (i32.const {fills}) {length})
    (i32.const {VERDICT})))"#,
        version = WORDS + 6,
        group_count = groups + 4,
    )
}
