//! Whether the model has room: in its server's memory, on its Pod's disk, and in the storage initializer that downloads it.

use serde::Deserialize;
use tidewaiter_policy::core::containers::{Container, SERVER};
use tidewaiter_policy::core::quantity::Quantity;
use tidewaiter_policy::core::storage_container::{API_VERSION, Chosen, KIND, StorageContainer, choose};
use tidewaiter_policy::{Mode, Verdict, cluster};

use crate::{Subject, size};

/// How many times its memory limit a model may have that the initializer downloads from Hugging Face: with 1Gi it was killed over models of more than 8 GB
/// (kserve#5326), and 2Gi did for 14 GB, 16Gi for 40 GB (kserve#5162).
const HUB_TIMES: u32 = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initializer {
    memory_limit: Option<String>,
}

pub(crate) fn review(subject: &Subject<'_>, verdict: &mut Verdict) {
    let settings = subject.settings;
    let (at, server) = if let Some(model) = &subject.part.model {
        (format!("{}/model/resources", subject.component.pointer), model)
    } else {
        let Some((index, container)) = subject.part.own_server() else {
            return;
        };
        let at = format!("{}/containers/{index}/resources", subject.component.pointer);
        (at, container)
    };
    let under = subject.spec.and_then(|spec| spec.named(SERVER));
    let limit = |name: &str, mode: Mode| {
        (mode != Mode::Off).then_some(())?;
        let of = |container: &Container| container.resources.limit(name);
        of(server).or_else(|| under.and_then(of))
    };
    // What is computed on a GPU lies in its memory, and is read by way of pages that can be given back.
    let memory = limit("memory", settings.memory).filter(|_| !subject.component.gpu);
    let disk = limit("ephemeral-storage", settings.disk).filter(|_| !subject.is_cached);
    let initializer = initializer(subject).filter(|_| !subject.is_cached);
    if subject.component.models.is_empty() || (memory.is_none() && disk.is_none() && initializer.is_none()) {
        return;
    }
    let Some(bytes) = size::of(subject.component) else {
        return;
    };
    let amount = i64::try_from(bytes).map_or(Quantity::units(i64::MAX), Quantity::units);
    let model = size::written(bytes);
    if let Some(memory) = memory.filter(|memory| amount > *memory) {
        subject.found(
            verdict,
            settings.memory,
            "memory-too-small",
            &format!(
                "the model has {model} in the store, and its server may use {memory} of memory: it would be killed while it loads the model. Raise limits.memory in {at}"
            ),
            &format!("the model has {model}, and its server may use {memory} of memory; raise limits.memory"),
            &at,
        );
    }
    if let Some(disk) = disk.filter(|disk| amount > *disk) {
        subject.found(
            verdict,
            settings.disk,
            "disk-too-small",
            &format!(
                "the model has {model} in the store, is downloaded to the Pod's disk, and the Pod may use {disk} of it: it would be evicted. Raise \
                 limits.ephemeral-storage in {at}"
            ),
            &format!("the model has {model}, and its Pod may use {disk} of disk; raise limits.ephemeral-storage"),
            &at,
        );
    }
    if let Some((limit, admin)) = initializer.filter(|(limit, _)| amount > limit.times(HUB_TIMES)) {
        subject.found(
            verdict,
            settings.initializer,
            "initializer-too-small",
            &format!(
                "the model has {model}, and KServe's storage initializer, which may use {limit} of memory, is known to be killed over less from Hugging Face (kserve#5162). \
                 Ask the admin to raise {admin}"
            ),
            &format!("{model} may be too much for KServe's storage initializer with {limit} (kserve#5162)"),
            &at,
        );
    }
}

/// The initializer's memory limit, where it matters, and what an admin raises: a ClusterStorageContainer counts before KServe's configuration.
fn initializer(subject: &Subject<'_>) -> Option<(Quantity, String)> {
    let mut models = subject.component.models.iter();
    let model = models.find(|model| model.uri.starts_with("hf://"))?;
    (subject.settings.initializer != Mode::Off).then_some(())?;
    let listed = cluster::list_objects(API_VERSION, KIND).unwrap_or_default();
    let all: Option<Vec<StorageContainer<Container>>> =
        listed.iter().map(|text| serde_json::from_str(text).ok()).collect();
    let all = all?;
    let named = subject.part.storage_container_name.as_deref();
    match choose(&all, &model.uri, named) {
        Chosen::Unknown => return None,
        Chosen::Configured => {}
        Chosen::One(chosen) => {
            if let Some(limit) = chosen.container().resources.limit("memory") {
                let name = chosen.name();
                return Some((limit, format!("limits.memory of spec.container in the {KIND} {name}")));
            }
        }
    }
    let configured: Initializer = serde_json::from_str(&cluster::kserve_config("storageInitializer")?).ok()?;
    let limit = Quantity::parse(&configured.memory_limit?)?;
    let raised = "memoryLimit of storageInitializer in the ConfigMap inferenceservice-config";
    Some((limit, raised.to_owned()))
}
