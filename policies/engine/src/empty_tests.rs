use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::Component;

use super::*;
use crate::{Engine, Options};

fn state() -> State {
    State {
        world: None,
        policy: Arc::from("p"),
        object: Arc::from("team-a/fraud"),
        host: Duration::ZERO,
        ticks: 1,
        memory_max: 1 << 20,
        memory_refused: false,
        held: None,
        no_room: false,
        log_lines: 0,
        empty: Empty::default(),
    }
}

/// Each function of these, called as a language's runtime does.
const RUNTIME: &str = r#"(component
    (import "wasi:random/random@0.2.6" (instance $random (export "get-random-u64" (func (result u64)))))
    (import "wasi:random/insecure@0.2.1" (instance $insecure (export "get-insecure-random-u64" (func (result u64)))))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
    (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))
    (core func $random (canon lower (func $random "get-random-u64")))
    (core func $insecure (canon lower (func $insecure "get-insecure-random-u64")))
    (core func $now (canon lower (func $clock "now")))
    (core func $exit (canon lower (func $exit "exit")))
    (core module $module
        (import "host" "random" (func $random (result i64)))
        (import "host" "insecure" (func $insecure (result i64)))
        (import "host" "now" (func $now (result i64)))
        (import "host" "exit" (func $exit (param i32)))
        (func (export "random") (result i64) (call $random))
        (func (export "insecure") (result i64) (call $insecure))
        (func (export "now") (result i64) (call $now))
        (func (export "exit") (call $exit (i32.const 0))))
    (core instance $instance (instantiate $module (with "host" (instance
        (export "random" (func $random)) (export "insecure" (func $insecure)) (export "now" (func $now)) (export "exit" (func $exit))))))
    (func (export "random") (result u64) (canon lift (core func $instance "random")))
    (func (export "insecure") (result u64) (canon lift (core func $instance "insecure")))
    (func (export "now") (result u64) (canon lift (core func $instance "now")))
    (func (export "exit") (canon lift (core func $instance "exit"))))"#;

struct Runtime {
    store: Store<State>,
    instance: wasmtime::component::Instance,
}

impl Runtime {
    async fn new(engine: &Engine) -> Self {
        let shared = &engine.0;
        let component = Component::new(&shared.engine, RUNTIME).unwrap();
        let mut store = Store::new(&shared.engine, state());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = shared.linker.instantiate_async(&mut store, &component).await.unwrap();
        Self { store, instance }
    }

    async fn number(&mut self, name: &str) -> u64 {
        let function = self
            .instance
            .get_typed_func::<(), (u64,)>(&mut self.store, name)
            .unwrap();
        function.call_async(&mut self.store, ()).await.unwrap().0
    }
}

#[tokio::test]
async fn every_instance_draws_the_same_numbers_and_time_stands_still() {
    let engine = Engine::new(Options::default()).unwrap();
    let mut drawn = Vec::new();
    for _ in 0..2 {
        let mut runtime = Runtime::new(&engine).await;
        let (first, second) = (runtime.number("random").await, runtime.number("random").await);
        assert_ne!(first, second);
        drawn.push((first, second, runtime.number("insecure").await));
        assert_eq!(runtime.number("now").await, NOW);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(runtime.number("now").await, NOW);
    }
    assert_eq!(drawn[0], drawn[1]);
}

#[tokio::test]
async fn who_exits_has_failed_even_with_success() {
    let engine = Engine::new(Options::default()).unwrap();
    let mut runtime = Runtime::new(&engine).await;
    let exit = runtime
        .instance
        .get_typed_func::<(), ()>(&mut runtime.store, "exit")
        .unwrap();
    let error = exit.call_async(&mut runtime.store, ()).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("exited instead of answering"),
        "{error:#}"
    );
}

#[test]
fn only_what_is_on_the_list_is_there_and_only_of_wasi_0_2() {
    for name in INTERFACES {
        assert!(has(&format!("{name}@0.2.0")) && has(&format!("{name}@0.2.12")));
        assert!(!has(name) && !has(&format!("{name}@0.3.0")) && !has(&format!("{name}@1.2.0")));
    }
    for name in [
        "wasi:sockets/tcp@0.2.0",
        "wasi:http/types@0.2.0",
        "wasi:cli/run@0.2.0",
        "wasi:clocks/timezone@0.2.0",
    ] {
        assert!(!has(name), "{name}");
    }
}

#[test]
fn what_is_printed_is_as_bounded_as_what_is_logged() {
    let mut state = state();
    print(&mut state, b"half a ");
    assert_eq!((state.log_lines, state.empty.line.len()), (0, 7));
    print(&mut state, b"line\n\nand more");
    assert_eq!(
        (state.log_lines, state.empty.line.as_slice()),
        (1, b"and more".as_slice())
    );
    print(&mut state, &vec![b'x'; 1 << 20]);
    assert_eq!(state.empty.line.len(), LINE_MAX);
    for _ in 0..1000 {
        print(&mut state, b"again\n");
    }
    assert_eq!(state.log_lines, 32);
}
