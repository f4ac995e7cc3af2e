//! Real components, most of them hostile: each ends as that policy's failure, and others are answered meanwhile.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "hostile/any.rs"]
mod any;
#[path = "hostile/loading.rs"]
mod loading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Ended, Operation, Outcome, Review};
use tidewaiter_engine::world::{
    Brought, Label, Listing, ObjectInfo, Release, Resolution, Runtime, StorageError, World,
};
use tidewaiter_engine::{
    Capability, Counts, Engine, FailurePolicy, Limits, LoadError, LoadedPolicy, Mode, Options, PolicySpec, compile_for,
};

/// Answers nothing; asked for the nodes, never.
struct Silent;

#[async_trait]
impl World for Silent {
    async fn resolve(&self, _: &str) -> Resolution {
        Resolution::Unserved
    }
    fn secret_annotation(&self) -> Option<String> {
        None
    }
    async fn brought_credentials(&self, _: Option<&str>, _: Option<&str>) -> Brought {
        Brought::Nothing
    }
    async fn stat(&self, _: &str) -> Result<ObjectInfo, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn list_objects(&self, _: &str, _: u32) -> Result<Listing, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn read(&self, _: &str, _: u64, _: u32) -> Result<Bytes, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn list_folder(&self, _: &str, _: u32) -> Result<Listing, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn supporting(&self, _: &str, _: Option<&str>) -> Vec<Runtime> {
        Vec::new()
    }
    async fn named(&self, _: &str) -> Option<Runtime> {
        None
    }
    async fn runtime_spec(&self, _: &str) -> Option<String> {
        None
    }
    async fn release_of(&self, _: &str, _: &str, _: &[String]) -> Option<Release> {
        None
    }
    async fn releases(&self, _: &str, _: &[String]) -> Vec<Release> {
        Vec::new()
    }
    async fn lacking(&self, _: &str, _: &[String]) -> Vec<String> {
        Vec::new()
    }
    async fn namespace_labels(&self) -> Vec<Label> {
        Vec::new()
    }
    async fn node_architectures(&self) -> Vec<String> {
        std::future::pending().await
    }
    async fn get_object(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
    async fn cluster_objects(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    async fn kserve_config(&self, _: &str) -> Option<String> {
        None
    }
}

/// A component of the contract around the body of `review`, which gets the address of its parameters and returns that of its verdict. At 512
/// there is an empty one; one with a single fill (path at 700, value at 800, their lengths given) is at 576.
fn component(body: &str, fill: (&str, &[u8])) -> Bytes {
    built(&Parts {
        body,
        fill,
        ..Parts::default()
    })
}

/// What a component is built from.
#[derive(Clone, Copy)]
struct Parts<'a> {
    body: &'a str,
    fill: (&'a str, &'a [u8]),
    /// What it says that it is called, and its version.
    name: &'a str,
    version: &'a str,
    /// At most 100,000 bytes.
    schema: Option<&'a str>,
    /// The body of `check-settings`, which gets the address and the length of the settings.
    check: &'a str,
    /// The contract's version in its imports.
    contract: &'a str,
    /// What it takes the answer of `node-architectures` for.
    nodes: &'a str,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Self {
            body: "(i32.const 576)",
            fill: (PIN, br#""1.7.1""#),
            name: "test",
            version: "1.0.0",
            schema: None,
            check: "(i32.const 512)",
            contract: "0.1.0",
            nodes: "(list string)",
        }
    }
}

fn built(parts: &Parts<'_>) -> Bytes {
    let Parts {
        body,
        fill,
        name,
        version,
        schema,
        check,
        contract,
        nodes,
    } = *parts;
    let escape = |text: &[u8]| text.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let word = |n: usize| {
        n.to_le_bytes()[..4]
            .iter()
            .map(|byte| format!("\\{byte:02x}"))
            .collect::<String>()
    };
    let (path, value) = fill;
    let verdict = [0, 0, 0, 0, 0, 0, 0, 0, 640, 1, 0, 0, 0, 0].map(word).concat();
    let one_fill = [700, path.len(), 800, value.len(), 700, path.len()].map(word).concat();
    let (carried, schema) = (usize::from(schema.is_some()), schema.unwrap_or_default());
    let description = [
        2048,
        name.len(),
        2304,
        version.len(),
        900,
        4,
        carried,
        150_000,
        schema.len(),
        0,
        0,
    ];
    let description = description.map(word).concat();
    let text = format!(
        r#"(component
  (import "tidewaiter:policy/types@{contract}" (instance $types
    (type $operation' (enum "create" "update")) (export "operation" (type $operation (eq $operation')))
    (type $entry' (record (field "path" string) (field "value" string))) (export "entry" (type $entry (eq $entry')))
    (type $request' (record (field "operation" $operation) (field "api-version" string) (field "kind" string)
      (field "namespace" string) (field "name" string) (field "object" string) (field "old-object" (option string))
      (field "filled" (list $entry)) (field "withheld" (list string)) (field "username" string) (field "groups" (list string))))
    (export "request" (type $request (eq $request')))
    (type $fill' (record (field "path" string) (field "value" string) (field "reason" string))) (export "fill" (type $fill (eq $fill')))
    (type $denial' (record (field "code" string) (field "message" string) (field "path" (option string))))
    (export "denial" (type $denial (eq $denial')))
    (type $delivery' (enum "annotation" "service-account" "storage-key")) (export "delivery" (type $delivery (eq $delivery')))
    (type $credentials' (record (field "backend" string) (field "delivery" $delivery))) (export "credentials" (type $credentials (eq $credentials')))
    (type $effect' (variant (case "credentials" $credentials))) (export "effect" (type $effect (eq $effect')))
    (type $verdict' (record (field "denial" (option $denial)) (field "fills" (list $fill)) (field "warnings" (list string))
      (field "effects" (list $effect)))) (export "verdict" (type $verdict (eq $verdict')))
    (type $object-kind' (record (field "api-version" string) (field "kind" string)))
    (export "object-kind" (type $object-kind (eq $object-kind')))
    (type $description' (record (field "name" string) (field "version" string) (field "summary" string)
      (field "settings-schema" (option string)) (field "objects" (list $object-kind))))
    (export "description" (type $description (eq $description')))))
  (import "tidewaiter:policy/cluster@{contract}" (instance $cluster (export "node-architectures" (func (result {nodes})))))
  (alias export $types "request" (type $request))
  (alias export $types "verdict" (type $verdict))
  (alias export $types "description" (type $description))
  (core module $memory
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $next)
      (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 7)) (i32.const -8)))))
  (core instance $memory (instantiate $memory))
  (core func $nodes (canon lower (func $cluster "node-architectures")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $policy
    (import "m" "memory" (memory 4))
    (import "m" "nodes" (func $nodes (param i32)))
    (data (i32.const 576) "{verdict}") (data (i32.const 640) "{one_fill}")
    (data (i32.const 700) "{path}") (data (i32.const 800) "{value}")
    (data (i32.const 900) "test") (data (i32.const 1000) "{description}")
    (data (i32.const 2048) "{name}") (data (i32.const 2304) "{version}") (data (i32.const 150000) "{schema}")
    (func (export "describe") (result i32) (i32.const 1000))
    (func $check (export "check-settings") (param i32 i32) (result i32) {check})
    (func $review (export "review") (param i32) (result i32) {body}))
  (core instance $policy (instantiate $policy (with "m" (instance
    (export "memory" (memory $memory "memory")) (export "nodes" (func $nodes))))))
  (func (export "describe") (result $description)
    (canon lift (core func $policy "describe") (memory (core memory $memory "memory"))))
  (func (export "check-settings") (param "settings" string) (result (result (error string)))
    (canon lift (core func $policy "check-settings") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "review") (param "request" $request) (param "settings" string) (result $verdict)
    (canon lift (core func $policy "review") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))"#,
        path = escape(path.as_bytes()),
        value = escape(value),
        name = escape(name.as_bytes()),
        version = escape(version.as_bytes()),
        schema = escape(schema.as_bytes()),
    );
    wat::parse_str(text).unwrap().into()
}

const PIN: &str = "/spec/predictor/model/runtimeVersion";

fn spec(name: &str, component: Bytes) -> PolicySpec {
    PolicySpec {
        name: name.to_owned(),
        component,
        settings: Value::Null,
        capabilities: vec![Capability::Cluster],
        limits: Limits {
            time_ms: 50,
            memory_mib: 4,
        },
        failure: FailurePolicy::Ignore,
        mode: Mode::Enforce,
    }
}

async fn loaded(engine: &Engine, name: &str, body: &str) -> LoadedPolicy {
    engine
        .load(spec(name, component(body, (PIN, br#""1.7.1""#))))
        .await
        .unwrap()
}

fn object() -> Value {
    json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"model": {}}}})
}

async fn reviewed(policies: &[LoadedPolicy], budget: Duration) -> Outcome {
    let object = Document::new(&object().to_string()).unwrap();
    let review = Review {
        operation: Operation::Create,
        api_version: "serving.kserve.io/v1beta1",
        kind: "InferenceService",
        namespace: "team-a",
        name: "fraud",
        object: &object,
        old_object: None,
        username: "alice",
        groups: &[],
    };
    tidewaiter_engine::review(policies, &review, Arc::new(Silent), budget).await
}

const BUDGET: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_policy_fails_alone() {
    let engine = Engine::new(Options::default()).unwrap();
    let good = loaded(&engine, "good", "(i32.const 576)").await;
    let huge = "(i32.store (i32.const 548) (i32.const 200000)) (i32.const 512)";
    // One string of 200 KB, named sixty times: 12 MB for a host that believes it.
    let aliased = "(local $i i32) (i32.store (i32.const 552) (i32.const 65536)) (i32.store (i32.const 556) (i32.const 60))
        (loop $l (i32.store (i32.add (i32.const 65536) (i32.mul (local.get $i) (i32.const 8))) (i32.const 1024))
          (i32.store (i32.add (i32.const 65540) (i32.mul (local.get $i) (i32.const 8))) (i32.const 200000))
          (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 60)))) (i32.const 512)";
    for (name, body, says) in [
        ("loop", "(loop $l (br $l)) (i32.const 512)", "ran for more than 50 ms"),
        (
            "bomb",
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (i32.const 512)",
            "more than 4 MiB",
        ),
        ("trap", "unreachable", "trapped: it panicked"),
        ("recursion", "(call $review (local.get 0))", "nested too deep"),
        ("huge", huge, "trapped"),
        ("aliased", aliased, "trapped"),
        ("nowhere", "(i32.const -4)", "trapped"),
    ] {
        let bad = loaded(&engine, name, body).await;
        let outcome = reviewed(&[bad, good.clone()], BUDGET).await;
        let Ended::Failed(error) = &outcome.runs[0].ended else {
            panic!("{name}: {:?}", outcome.runs)
        };
        assert!(error.contains(says), "{name}: {error}");
        assert!(
            outcome
                .warnings
                .iter()
                .any(|line| line.contains(&format!("admitted without the policy {name}")))
        );
        assert_eq!(
            (&outcome.runs[1].ended, outcome.patch.len()),
            (&Ended::Acted, 2),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_answered_while_one_loops_and_one_waits() {
    let engine = Engine::new(Options::default()).unwrap();
    let good = loaded(&engine, "good", "(i32.const 576)").await;
    let mut forever = spec("loop", component("(loop $l (br $l)) (i32.const 512)", (PIN, b"1")));
    forever.limits.time_ms = 10_000;
    let forever = engine.load(forever).await.unwrap();
    let waiting = loaded(&engine, "waiting", "(call $nodes (i32.const 512)) (i32.const 512)").await;
    let hostile: Vec<_> = [&forever, &forever, &forever, &waiting]
        .map(|policy| {
            let policy = policy.clone();
            tokio::spawn(async move { reviewed(&[policy], Duration::from_secs(3)).await })
        })
        .into();
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(reviewed(std::slice::from_ref(&good), BUDGET).await.patch.len(), 2);
    }
    assert!(hostile.iter().all(|review| !review.is_finished()) || begun.elapsed() > Duration::from_secs(3));
    for review in hostile {
        let outcome = review.await.unwrap();
        assert!(
            matches!(&outcome.runs[0].ended, Ended::Failed(error) if error.contains("time was over")),
            "{:?}",
            outcome.runs
        );
    }
}

#[tokio::test]
async fn a_wrong_patch_is_the_policys_failure() {
    let engine = Engine::new(Options::default()).unwrap();
    for (path, value) in [
        ("no pointer", "1"),
        ("/metadata/name", r#""x""#),
        (PIN, "{"),
        (PIN, "null"),
        ("/metadata/labels/a b", r#""x""#),
        ("/metadata/labels/team", r#""two words""#),
        ("/spec/predictor/minReplicas", r#""two""#),
    ] {
        let bad = engine
            .load(spec("bad", component("(i32.const 576)", (path, value.as_bytes()))))
            .await
            .unwrap();
        let outcome = reviewed(&[bad], BUDGET).await;
        assert!(
            matches!(&outcome.runs[0].ended, Ended::Failed(error) if error.contains("can't be used")),
            "{path} {value}"
        );
        assert!(outcome.patch.is_empty());
    }
}

#[tokio::test]
async fn what_is_no_policy_is_not_loaded() {
    let engine = Engine::new(Options::default()).unwrap();
    let error = async |spec| engine.load(spec).await.map(|_| ()).unwrap_err();
    assert!(matches!(
        error(spec("a", "hello world".into())).await,
        LoadError::NotAComponent
    ));
    assert!(matches!(error(spec("a", Bytes::new())).await, LoadError::NotAComponent));
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(error(spec("a", module.into())).await, LoadError::CoreModule));
    let cut = component("(i32.const 512)", (PIN, b"1")).slice(..100);
    assert!(matches!(error(spec("a", cut)).await, LoadError::Compile(_)));
    let empty = wat::parse_str("(component)").unwrap();
    assert!(matches!(error(spec("a", empty.into())).await, LoadError::Contract(_)));
    for name in [
        "wasi:sockets/tcp@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:clocks/wall-clock@0.3.0",
    ] {
        let wasi = wat::parse_str(format!(r#"(component (import "{name}" (instance)))"#)).unwrap();
        let message = error(spec("a", wasi.into())).await.to_string();
        assert!(message.contains(&format!("imports {name}")), "{message}");
    }

    let mut ungranted = spec("a", component("(i32.const 512)", (PIN, b"1")));
    ungranted.capabilities.clear();
    let message = error(ungranted).await.to_string();
    assert!(
        message.contains("imports tidewaiter:policy/cluster@0.1.0") && message.contains("add `cluster`"),
        "{message}"
    );
}

#[tokio::test]
async fn who_may_take_all_memory_waits_until_it_is_there() {
    let engine = Engine::new(Options {
        memory_mib: 4,
        ..Options::default()
    })
    .unwrap();
    let hungry = [loaded(&engine, "waiting", "(call $nodes (i32.const 512)) (i32.const 512)").await];
    let good = [loaded(&engine, "good", "(i32.const 576)").await];
    let (mut first, mut second) = (
        Box::pin(reviewed(&hungry, Duration::from_millis(500))),
        Box::pin(reviewed(&good, BUDGET)),
    );
    tokio::select! {
        biased;
        _ = &mut first => {}
        outcome = &mut second => panic!("both have 4 MiB of 4: {:?}", outcome.runs),
    }
    assert_eq!(second.await.patch.len(), 2);
}

#[tokio::test]
async fn the_cache_serves_what_is_ours_and_replaces_the_rest() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("policies");
    let start = async || {
        let engine = Engine::new(Options {
            cache_dir: Some(cache.clone()),
            ..Options::default()
        })
        .unwrap();
        let good = loaded(&engine, "good", "(i32.const 576)").await;
        assert_eq!(reviewed(&[good], BUDGET).await.patch.len(), 2);
        let mut files: Vec<_> = std::fs::read_dir(&cache)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        (files.remove(0), engine.cached())
    };
    let (file, counts) = start().await;
    assert_eq!(counts, Counts { hits: 0, misses: 1 });
    let (whole, inode) = (std::fs::read(&file).unwrap(), || {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap())
    });
    let first = inode();
    assert_eq!(start().await.1, Counts { hits: 1, misses: 0 });
    assert_eq!(inode(), first, "the second start takes it from the cache");

    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut foreign = whole.clone();
    foreign[20] ^= 1;
    let mut newer = whole.clone();
    newer[8] ^= 1;
    for bad in [
        damaged,
        foreign,
        newer,
        whole[..60].to_vec(),
        b"rubbish".to_vec(),
        Vec::new(),
    ] {
        std::fs::write(&file, &bad).unwrap();
        start().await;
        assert_eq!(std::fs::read(&file).unwrap().len(), whole.len(), "it is replaced");
    }
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    start().await;
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600,
        "what others can read isn't trusted"
    );

    // A folder that others can write to is no cache, and no reason not to start.
    std::fs::remove_file(&file).unwrap();
    std::fs::set_permissions(&cache, PermissionsExt::from_mode(0o777)).unwrap();
    let engine = Engine::new(Options {
        cache_dir: Some(cache.clone()),
        ..Options::default()
    })
    .unwrap();
    loaded(&engine, "good", "(i32.const 576)").await;
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
}

#[tokio::test]
async fn what_came_with_the_program_is_used_where_only_its_owner_can_write_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (shipped, cache) = (dir.path().join("shipped"), dir.path().join("cache"));
    let component = component("(i32.const 576)", (PIN, br#""1.7.1""#));
    let (name, bytes) = compile_for(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH), &component).unwrap();
    std::fs::create_dir(&shipped).unwrap();
    let file = shipped.join(name);
    let compiled = async || {
        let engine = Engine::new(Options {
            cache_dir: Some(cache.clone()),
            shipped_dir: Some(shipped.clone()),
            ..Options::default()
        })
        .unwrap();
        let good = loaded(&engine, "good", "(i32.const 576)").await;
        assert_eq!(reviewed(&[good], BUDGET).await.patch.len(), 2);
        // Each time from nothing: what is compiled goes there.
        let compiled = std::fs::read_dir(&cache).unwrap().count();
        std::fs::remove_dir_all(&cache).unwrap();
        compiled
    };
    assert_eq!(compiled().await, 1, "nothing came with it");
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(compiled().await, 0);
    for mode in [0o664, 0o646] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(compiled().await, 1, "others can write it: {mode:o}");
    }
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&shipped, PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(compiled().await, 1, "others can put files there");
    std::fs::set_permissions(&shipped, PermissionsExt::from_mode(0o755)).unwrap();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for bad in [damaged, bytes[..70].to_vec(), Vec::new()] {
        std::fs::write(&file, bad).unwrap();
        assert_eq!(compiled().await, 1);
    }
    let other = if cfg!(target_arch = "x86_64") {
        "aarch64"
    } else {
        "x86_64"
    };
    // Without the other machine's compiler, which only the image's build has, there is nothing to confuse.
    if let Ok((_, foreign)) = compile_for(&format!("{other}-unknown-linux-gnu"), &component) {
        std::fs::write(&file, foreign).unwrap();
        assert_eq!(compiled().await, 1, "code of another machine");
    }
}

/// Those that don't end take turns: they leave most of the processors' time to others, however many they are.
#[tokio::test]
async fn many_that_loop_leave_the_processors_to_others() {
    let engine = Engine::new(Options::default()).unwrap();
    let mut forever = spec("loop", component("(loop $l (br $l)) (i32.const 512)", (PIN, b"1")));
    forever.limits.time_ms = 10_000;
    let forever = engine.load(forever).await.unwrap();
    let looping: Vec<_> = (0..16)
        .map(|_| {
            let forever = forever.clone();
            tokio::spawn(async move { reviewed(&[forever], Duration::from_secs(2)).await })
        })
        .collect();
    // Past what each has at first, all together.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (begun, used) = (Instant::now(), processor_time());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let share = processor_time().saturating_sub(used).as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(share < 0.6, "{share} of a processor, for policies alone");
    for review in looping {
        let outcome = review.await.unwrap();
        assert!(matches!(&outcome.runs[0].ended, Ended::Failed(_)), "{:?}", outcome.runs);
    }
}

/// Of this thread, which runs all policies of its test, so far.
fn processor_time() -> Duration {
    let status = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = status.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
