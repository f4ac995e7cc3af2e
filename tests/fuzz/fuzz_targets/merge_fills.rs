//! Whatever a record of fills says in a new and an old object: the patch applies to the object as it came, and a second pass has nothing to do.
//! The input is the two objects' JSON texts with a newline between them. No policy runs, so all that was ours is withdrawn.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::Value;
use tidewaiter_engine::outcome::{Operation, Review};
use tidewaiter_engine::review;
use tidewaiter_world::{ClusterReader, Configuration, Objects, ReviewWorld, Stores};
use tokio::runtime::Runtime;
use tokio::time::Instant;

const BUDGET: Duration = Duration::from_secs(2);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));
static NOTHING: LazyLock<(Arc<Configuration>, Arc<Stores>)> = LazyLock::new(|| {
    let stores = Arc::new(Stores::default());
    (Configuration::build(&Objects::default(), None, &[], &stores).0, stores)
});

libfuzzer_sys::fuzz_target!(|texts: &str| {
    let (object, old) = texts.split_once('\n').map_or((texts, None), |(object, old)| (object, Some(old)));
    let Some((patch, mut value)) = pass(object, old) else { return };
    json_patch::patch(&mut value, &json_patch::Patch(patch)).expect("the patch applies");
    let (again, _) = pass(&value.to_string(), old).expect("an object stays one");
    assert!(again.is_empty(), "the second pass changes {again:?}");
});

fn pass(object: &str, old: Option<&str>) -> Option<(Vec<json_patch::PatchOperation>, Value)> {
    let value: Value = serde_json::from_str(object).ok()?;
    let request = Review {
        operation: if old.is_some() { Operation::Update } else { Operation::Create },
        api_version: "serving.kserve.io/v1beta1",
        kind: "InferenceService",
        namespace: "team",
        name: "fraud",
        object,
        old_object: old,
        username: "ada",
        groups: &[],
    };
    let (configuration, stores) = &*NOTHING;
    let reader = Arc::clone(configuration) as Arc<dyn ClusterReader>;
    let outcome = RUNTIME.block_on(async {
        let world = ReviewWorld::new(Arc::clone(configuration), Arc::clone(stores), reader, "team", Instant::now() + BUDGET);
        review(&[], &request, Arc::new(world), BUDGET).await
    });
    outcome.denial.is_none().then_some((outcome.patch, value))
}
