//! The serving runtimes that KServe installs by default, for a configuration without a cluster that lists none.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{containers::SERVER, runtimes::ServingRuntime};

/// The newest release of KServe whose runtimes are known.
pub const NEWEST: &str = "v0.20.0";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    shared: Shared,
    runtimes: Vec<Entry>,
}

/// What all of them say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    spec: Map<String, Value>,
    container: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    since: u32,
    protocols: Vec<String>,
    images: Vec<Shipped>,
    formats: Vec<Format>,
    container: Map<String, Value>,
    #[serde(default)]
    spec: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    image: String,
    #[serde(default)]
    from: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    name: String,
    versions: Vec<String>,
    priority: Option<i32>,
    #[serde(default = "yes")]
    auto: bool,
    #[serde(default)]
    from: u32,
    #[serde(default = "forever")]
    until: u32,
}

fn yes() -> bool {
    true
}

fn forever() -> u32 {
    u32::MAX
}

/// The `ClusterServingRuntime`s of a release such as `v0.20.0`, 0.15 or later. Those of a later release than [`NEWEST`] are taken to be the newest known, with that
/// release's tag; none where the text is no release, or an earlier one. What their specs say beside formats, protocols and image is that of [`NEWEST`].
pub fn of_release(release: &str) -> Option<Vec<ServingRuntime>> {
    let minor: u32 = release.strip_prefix("v0.")?.split('.').next()?.parse().ok()?;
    if minor < 15 {
        return None;
    }
    let File { shared, runtimes } = match serde_saphyr::from_str(include_str!("../data/kserve-runtimes.yaml")) {
        Ok(file) => file,
        Err(error) => unreachable!("part of the program, read by its tests: {error}"),
    };
    Some(
        runtimes
            .into_iter()
            .filter(|entry| entry.since <= minor)
            .map(|entry| runtime(entry, &shared, release, minor))
            .collect(),
    )
}

fn runtime(entry: Entry, shared: &Shared, release: &str, minor: u32) -> ServingRuntime {
    let formats = entry
        .formats
        .iter()
        .filter(|format| (format.from..=format.until).contains(&minor))
        .flat_map(|format| format.versions.iter().map(move |version| supported(format, version)));
    let formats: Vec<Value> = formats.collect();
    let mut container = shared.container.clone();
    container.extend(entry.container);
    container.insert("name".to_owned(), json!(SERVER));
    if let Some(shipped) = entry.images.iter().rfind(|shipped| shipped.from <= minor) {
        let image = shipped.image.replace("{release}", release);
        container.insert("image".to_owned(), json!(image));
    }
    let mut spec = shared.spec.clone();
    spec.extend(entry.spec);
    spec.insert("supportedModelFormats".to_owned(), json!(formats));
    // A runtime without any says nothing of protocols.
    if !entry.protocols.is_empty() {
        spec.insert("protocolVersions".to_owned(), json!(entry.protocols));
    }
    spec.insert("containers".to_owned(), json!([container]));

    let object = json!({"kind": "ClusterServingRuntime", "metadata": {"name": entry.name}, "spec": spec});
    match ServingRuntime::from_json(&object) {
        Ok(runtime) => runtime,
        Err(error) => unreachable!("part of the program, read by its tests: {error}"),
    }
}

fn supported(format: &Format, version: &str) -> Value {
    let mut supported = json!({"name": format.name, "version": version, "autoSelect": format.auto});
    if let Some(priority) = format.priority {
        supported["priority"] = json!(priority);
    }
    supported
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::Catalogue,
        containers::{RuntimeContainers, Said},
        quantity::Quantity,
        runtimes::Runtimes,
    };

    fn selected(release: &str, format: &str, version: Option<&str>, protocol: &str) -> Option<String> {
        let runtimes = Runtimes::new(of_release(release).unwrap());
        let found = runtimes.select("ns", format, version, protocol)?;
        Some(format!("{} {}", found.name, found.image.as_ref().unwrap()))
    }

    #[test]
    fn each_release_selects_what_kserve_does() {
        for (release, format, version, protocol, expected) in [
            (
                "v0.15.2",
                "mlflow",
                None,
                "v2",
                Some("kserve-mlserver docker.io/seldonio/mlserver:1.5.0"),
            ),
            (
                "v0.20.0",
                "mlflow",
                Some("2"),
                "v2",
                Some("kserve-mlserver docker.io/seldonio/mlserver:1.7.1"),
            ),
            ("v0.20.0", "mlflow", None, "v1", None),
            ("v0.20.0", "mlflow", Some("3"), "v2", None),
            (
                "v0.15.2",
                "xgboost",
                None,
                "v1",
                Some("kserve-xgbserver docker.io/kserve/xgbserver:v0.15.2"),
            ),
            ("v0.15.2", "xgboost", Some("2"), "v1", None),
            (
                "v0.20.0",
                "xgboost",
                Some("2"),
                "v1",
                Some("kserve-xgbserver docker.io/kserve/xgbserver:v0.20.0"),
            ),
            ("v0.20.0", "xgboost", Some("1"), "v1", None),
            // MLServer's priority is the higher one.
            (
                "v0.20.0",
                "xgboost",
                None,
                "v2",
                Some("kserve-mlserver docker.io/seldonio/mlserver:1.7.1"),
            ),
            (
                "v0.20.0",
                "sklearn",
                None,
                "v1",
                Some("kserve-sklearnserver docker.io/kserve/sklearnserver:v0.20.0"),
            ),
            (
                "v0.20.0",
                "tensorflow",
                None,
                "v2",
                Some("kserve-tritonserver nvcr.io/nvidia/tritonserver:23.05-py3"),
            ),
            (
                "v0.20.0",
                "pytorch",
                None,
                "v2",
                Some("kserve-torchserve docker.io/pytorch/torchserve-kfs:0.9.0"),
            ),
        ] {
            assert_eq!(
                selected(release, format, version, protocol).as_deref(),
                expected,
                "{release} {format} {version:?} {protocol}"
            );
        }
    }

    #[test]
    fn the_catalogue_knows_the_images_that_a_release_ships() {
        for release in ["v0.15.2", "v0.16.0", NEWEST] {
            for runtime in of_release(release)
                .unwrap()
                .iter()
                .filter(|runtime| runtime.name != "kserve-vllmserver")
            {
                let image = runtime.image.as_ref().unwrap();
                let releases = Catalogue::built_in().releases(&image.repository, &[""; 0]);
                assert!(
                    releases.iter().any(|known| Some(known.tag) == image.tag.as_deref()),
                    "{release}: {image}"
                );
            }
        }
    }

    #[test]
    fn each_says_what_its_server_may_use_and_where_it_listens() {
        let runtimes = of_release(NEWEST).unwrap();
        let spec = |name: &str| {
            let runtime = runtimes.iter().find(|runtime| runtime.name == name).unwrap();
            runtime.spec.as_deref().unwrap()
        };
        for runtime in &runtimes {
            let containers = RuntimeContainers::parse(spec(&runtime.name)).unwrap();
            let server = containers.named(SERVER).unwrap();
            for amount in [&server.resources.request("memory"), &server.resources.limit("memory")] {
                assert_eq!(*amount, Quantity::parse("2Gi"), "{}", runtime.name);
            }
            assert_eq!(server.resources.limit("cpu"), Quantity::parse("1"), "{}", runtime.name);
        }

        let server = |name: &str| {
            RuntimeContainers::parse(spec(name))
                .unwrap()
                .named(SERVER)
                .cloned()
                .unwrap()
        };
        let mlserver = server("kserve-mlserver");
        assert_eq!(mlserver.image.as_deref(), Some("docker.io/seldonio/mlserver:1.7.1"));
        assert_eq!(mlserver.variable_number("MLSERVER_GRPC_PORT"), Said::Number(9000));
        assert_eq!(
            server("kserve-tritonserver").argument_number("grpc-port"),
            Said::Number(9000)
        );
        assert_eq!(
            server("kserve-tensorflow-serving").command.unwrap(),
            ["/usr/bin/tensorflow_model_server"]
        );

        // Its own in place of what all say.
        let at = |name: &str, pointer: &str| {
            let spec: Value = serde_json::from_str(spec(name)).unwrap();
            spec.pointer(pointer).cloned()
        };
        let non_root = "/containers/0/securityContext/runAsNonRoot";
        assert_eq!(at("kserve-sklearnserver", non_root), Some(json!(true)));
        assert_eq!(at("kserve-vllmserver", non_root), None);
        let port = "/annotations/prometheus.kserve.io~1port";
        assert_eq!(at("kserve-sklearnserver", port), Some(json!("8080")));
        assert_eq!(at("kserve-torchserve", port), Some(json!("8082")));
        assert_eq!(at("kserve-vllmserver", "/protocolVersions"), None);
    }

    #[test]
    fn other_texts_are_no_release() {
        for text in ["", "0.20.0", "v0.14.1", "v1.0.0", "v0.x"] {
            assert!(of_release(text).is_none(), "{text}");
        }
        assert!(of_release("v0.21.0").is_some());
    }
}
