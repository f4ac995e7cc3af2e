//! The serving runtimes that KServe installs by default, for a configuration without a cluster that lists none.

use serde::Deserialize;

use crate::{
    image::Image,
    runtimes::{ServingRuntime, SupportedFormat},
};

/// The newest release of KServe whose runtimes are known.
pub const NEWEST: &str = "v0.20.0";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    runtimes: Vec<Entry>,
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
/// release's tag; none where the text is no release, or an earlier one.
pub fn of_release(release: &str) -> Option<Vec<ServingRuntime>> {
    let minor: u32 = release.strip_prefix("v0.")?.split('.').next()?.parse().ok()?;
    if minor < 15 {
        return None;
    }
    let file: File = match serde_saphyr::from_str(include_str!("../data/kserve-runtimes.yaml")) {
        Ok(file) => file,
        Err(error) => unreachable!("part of the program, read by its tests: {error}"),
    };
    Some(
        file.runtimes
            .into_iter()
            .filter(|entry| entry.since <= minor)
            .map(|entry| runtime(entry, release, minor))
            .collect(),
    )
}

fn runtime(entry: Entry, release: &str, minor: u32) -> ServingRuntime {
    let formats = entry
        .formats
        .into_iter()
        .filter(|format| (format.from..=format.until).contains(&minor))
        .flat_map(|format| {
            let Format {
                name,
                versions,
                priority,
                auto,
                ..
            } = format;
            versions.into_iter().map(move |version| SupportedFormat {
                name: name.clone(),
                version: Some(version),
                auto_select: Some(auto),
                priority,
            })
        });
    let image = entry
        .images
        .iter()
        .rfind(|shipped| shipped.from <= minor)
        .map(|shipped| Image::parse(&shipped.image.replace("{release}", release)));
    ServingRuntime {
        namespace: None,
        name: entry.name,
        formats: formats.collect(),
        protocols: entry.protocols,
        disabled: false,
        multi_model: false,
        multi_node: false,
        image,
        created: String::new(),
        spec: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::Catalogue, runtimes::Runtimes};

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
    fn other_texts_are_no_release() {
        for text in ["", "0.20.0", "v0.14.1", "v1.0.0", "v0.x"] {
            assert!(of_release(text).is_none(), "{text}");
        }
        assert!(of_release("v0.21.0").is_some());
    }
}
