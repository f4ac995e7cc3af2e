//! Serving runtimes and KServe's rules for choosing one.
//!
//! The rules are those of `GetSupportingRuntimes` in KServe's `pkg/apis/serving/v1beta1/predictor_model.go`, the same text from 0.15.2 to 0.20.0.

use serde::Deserialize;

use crate::image::Image;

/// What is read of a `ServingRuntime` or `ClusterServingRuntime` (serving.kserve.io/v1alpha1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingRuntime {
    /// None for a `ClusterServingRuntime`.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// `spec.supportedModelFormats`, in their order.
    pub formats: Vec<SupportedFormat>,
    /// `spec.protocolVersions`; an empty list speaks every protocol, as KServe reads it.
    pub protocols: Vec<String>,
    /// `spec.disabled`.
    pub disabled: bool,
    /// `spec.multiModel`: for `ModelMesh`, never for an `InferenceService` with a model of its own.
    pub multi_model: bool,
    /// `spec.workerSpec` is set: only for services that ask for workers too.
    pub multi_node: bool,
    /// The image of the container `kserve-container`.
    pub image: Option<Image>,
    /// `metadata.creationTimestamp`, RFC 3339 in UTC, empty where unknown. Younger runtimes come first.
    pub created: String,
    /// All of `spec`, as JSON text; none where only what is above is known.
    pub spec: Option<String>,
}

/// One entry of `spec.supportedModelFormats`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SupportedFormat {
    /// Such as `mlflow`.
    pub name: String,
    /// Such as `2`. Compared as text.
    #[serde(default)]
    pub version: Option<String>,
    /// KServe may choose the runtime for this format when a service names no runtime.
    #[serde(default)]
    pub auto_select: Option<bool>,
    /// Higher is tried earlier; none comes last.
    #[serde(default)]
    pub priority: Option<i32>,
}

impl SupportedFormat {
    fn is(&self, format: &str, version: Option<&str>) -> bool {
        self.name == format && version.is_none_or(|version| self.version.as_deref() == Some(version))
    }
}

/// Whether a runtime's `spec` lists a format, and this version of it where one is given. Of a runtime that a service names KServe asks no more
/// (`RuntimeSupportsModel`): also one for several models or nodes serves it, which is never among those that it chooses from.
pub fn lists(spec: &str, format: &str, version: Option<&str>) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        supported_model_formats: Option<Vec<SupportedFormat>>,
    }
    let formats = serde_json::from_str(spec).map(|spec: Spec| spec.supported_model_formats.unwrap_or_default());
    formats.is_ok_and(|formats| formats.iter().any(|entry| entry.is(format, version)))
}

/// Why an object is not taken as a serving runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Neither kind.
    #[error("kind {0:?} is no serving runtime: expected ServingRuntime or ClusterServingRuntime")]
    Kind(String),
    /// A field is missing, or of another type.
    #[error("not a serving runtime: {0}")]
    Shape(#[from] serde_json::Error),
    /// A `ServingRuntime` belongs to a namespace.
    #[error("ServingRuntime {0} has no namespace")]
    Namespace(String),
}

impl ServingRuntime {
    /// Reads either kind from a Kubernetes object. Unknown fields are left alone: the API server has checked them.
    pub fn from_json(object: &serde_json::Value) -> Result<Self, RuntimeError> {
        #[derive(Deserialize)]
        struct Object {
            kind: String,
            metadata: Metadata,
            spec: Spec,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            name: String,
            namespace: Option<String>,
            creation_timestamp: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            #[serde(default)]
            supported_model_formats: Option<Vec<SupportedFormat>>,
            #[serde(default)]
            protocol_versions: Option<Vec<String>>,
            #[serde(default)]
            disabled: Option<bool>,
            #[serde(default)]
            multi_model: Option<bool>,
            #[serde(default, rename = "workerSpec")]
            workers: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            containers: Option<Vec<Container>>,
        }
        #[derive(Deserialize)]
        struct Container {
            name: String,
            image: Option<String>,
        }

        let Object { kind, metadata, spec } = Object::deserialize(object)?;
        let namespace = match kind.as_str() {
            "ClusterServingRuntime" => None,
            "ServingRuntime" => Some(
                metadata
                    .namespace
                    .ok_or_else(|| RuntimeError::Namespace(metadata.name.clone()))?,
            ),
            _ => return Err(RuntimeError::Kind(kind)),
        };
        let image = spec
            .containers
            .unwrap_or_default()
            .into_iter()
            .find(|container| container.name == "kserve-container")
            .and_then(|container| container.image)
            .map(|image| Image::parse(&image));
        Ok(Self {
            namespace,
            name: metadata.name,
            formats: spec.supported_model_formats.unwrap_or_default(),
            protocols: spec.protocol_versions.unwrap_or_default(),
            disabled: spec.disabled.unwrap_or_default(),
            multi_model: spec.multi_model.unwrap_or_default(),
            multi_node: spec.workers.is_some(),
            image,
            created: metadata.creation_timestamp.unwrap_or_default(),
            spec: Some(object["spec"].to_string()),
        })
    }

    /// Whether the runtime answers in this protocol (`v1`, `v2`, `grpc-v1`, `grpc-v2`).
    pub fn speaks(&self, protocol: &str) -> bool {
        self.protocols.is_empty() || self.protocols.iter().any(|spoken| spoken == protocol)
    }

    /// How this runtime supports a format: none, only when named, or also when KServe chooses.
    fn support(&self, format: &str, version: Option<&str>) -> Option<Support> {
        self.formats
            .iter()
            .filter(|entry| entry.is(format, version))
            .map(|entry| {
                if entry.auto_select == Some(true) {
                    Support::AutoSelect
                } else {
                    Support::WhenNamed
                }
            })
            .max()
    }

    /// KServe takes the priority of the first entry with the format's name, whatever its version.
    fn priority(&self, format: &str) -> Option<i32> {
        self.formats
            .iter()
            .find(|entry| entry.name == format)
            .and_then(|entry| entry.priority)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Support {
    WhenNamed,
    AutoSelect,
}

/// A runtime that supports a format.
#[derive(Clone, Copy, Debug)]
pub struct Supporting<'a> {
    /// The runtime.
    pub runtime: &'a ServingRuntime,
    /// KServe may choose it for this format and version; else only a service that names it gets it.
    pub auto_select: bool,
}

/// The runtimes of a cluster, in the order in which KServe looks at them.
#[derive(Clone, Debug, Default)]
pub struct Runtimes {
    runtimes: Vec<ServingRuntime>,
}

impl Runtimes {
    /// An index over all runtimes, of every namespace and of the cluster.
    pub fn new(mut runtimes: Vec<ServingRuntime>) -> Self {
        runtimes.sort_by(|a, b| {
            protocol_rank(&a.protocols)
                .cmp(&protocol_rank(&b.protocols))
                .then_with(|| b.created.cmp(&a.created))
                .then_with(|| a.name.cmp(&b.name))
        });
        Self { runtimes }
    }

    /// The runtimes that support a format, and this version of it where one is given, as seen from a namespace, in the order in which KServe
    /// tries them: the namespace's own before the cluster's, then by priority, then by protocol, age and name. Disabled ones are listed;
    /// runtimes for several models or several nodes are not, as they never serve a plain predictor.
    pub fn supporting(&self, namespace: &str, format: &str, version: Option<&str>) -> Vec<Supporting<'_>> {
        let mut found: Vec<_> = self
            .visible(namespace)
            .filter(|runtime| !runtime.multi_model && !runtime.multi_node)
            .filter_map(|runtime| {
                let support = runtime.support(format, version)?;
                Some(Supporting {
                    runtime,
                    auto_select: support == Support::AutoSelect,
                })
            })
            .collect();
        // Stable, as KServe's sort is for the few runtimes of a cluster: ties keep the order of `new`.
        found.sort_by_key(|found| {
            let priority = found
                .runtime
                .priority(format)
                .map_or(i64::MAX, |priority| -i64::from(priority));
            (found.runtime.namespace.is_none(), priority)
        });
        found
    }

    /// The runtime of this name that a namespace sees: its own, else the cluster's.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&ServingRuntime> {
        self.visible(namespace)
            .filter(|runtime| runtime.name == name)
            .min_by_key(|runtime| runtime.namespace.is_none())
    }

    /// What KServe chooses for a predictor that names no runtime. `protocol` is `v1` where the predictor sets none.
    pub fn select(
        &self,
        namespace: &str,
        format: &str,
        version: Option<&str>,
        protocol: &str,
    ) -> Option<&ServingRuntime> {
        self.supporting(namespace, format, version)
            .into_iter()
            .find(|found| found.auto_select && !found.runtime.disabled && found.runtime.speaks(protocol))
            .map(|found| found.runtime)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ServingRuntime> {
        self.runtimes.iter()
    }

    fn visible(&self, namespace: &str) -> impl Iterator<Item = &ServingRuntime> {
        self.runtimes
            .iter()
            .filter(move |runtime| runtime.namespace.as_deref().is_none_or(|own| own == namespace))
    }
}

fn protocol_rank(protocols: &[String]) -> u8 {
    protocols
        .iter()
        .map(|protocol| match protocol.as_str() {
            "v1" => 1,
            "v2" => 2,
            "grpc-v1" => 3,
            "grpc-v2" => 4,
            _ => 5,
        })
        .min()
        .unwrap_or(5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn runtime(
        name: &str,
        namespace: Option<&str>,
        format: (&str, Option<&str>, Option<bool>, Option<i32>),
        protocols: &[&str],
    ) -> ServingRuntime {
        ServingRuntime {
            namespace: namespace.map(Into::into),
            name: name.into(),
            formats: vec![SupportedFormat {
                name: format.0.into(),
                version: format.1.map(Into::into),
                auto_select: format.2,
                priority: format.3,
            }],
            protocols: protocols.iter().map(|&protocol| protocol.into()).collect(),
            disabled: false,
            multi_model: false,
            multi_node: false,
            image: None,
            created: String::new(),
            spec: None,
        }
    }

    fn names(runtimes: &Runtimes, version: Option<&str>) -> Vec<String> {
        runtimes
            .supporting("ns", "xgboost", version)
            .iter()
            .map(|found| found.runtime.name.clone())
            .collect()
    }

    #[test]
    fn reads_both_kinds() {
        let object = json!({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime",
            "metadata": {"name": "own", "namespace": "team-a", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"supportedModelFormats": [{"name": "mlflow", "version": "2", "autoSelect": true, "priority": 1}],
                "protocolVersions": ["v2"], "multiModel": false, "disabled": true,
                "containers": [{"name": "sidecar", "image": "a:b"}, {"name": "kserve-container", "image": "docker.io/seldonio/mlserver:1.7.1"}]}});
        let runtime = ServingRuntime::from_json(&object).unwrap();
        assert_eq!(runtime.namespace.as_deref(), Some("team-a"));
        assert_eq!(runtime.image, Some(Image::parse("docker.io/seldonio/mlserver:1.7.1")));
        assert!(runtime.disabled && !runtime.multi_node);
        assert_eq!(runtime.formats[0].auto_select, Some(true));

        let cluster = json!({"kind": "ClusterServingRuntime", "metadata": {"name": "c"}, "spec": {"workerSpec": {"containers": []}, "containers": null}});
        let runtime = ServingRuntime::from_json(&cluster).unwrap();
        assert!(runtime.namespace.is_none() && runtime.multi_node && runtime.image.is_none());
    }

    #[test]
    fn refuses_what_is_no_runtime_with_the_reason() {
        let error = |object: serde_json::Value| ServingRuntime::from_json(&object).unwrap_err().to_string();
        assert_eq!(
            error(json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {}})),
            "kind \"Pod\" is no serving runtime: expected ServingRuntime or ClusterServingRuntime"
        );
        assert_eq!(
            error(json!({"kind": "ServingRuntime", "metadata": {"name": "p"}, "spec": {}})),
            "ServingRuntime p has no namespace"
        );
        assert!(error(json!({"kind": "ServingRuntime", "metadata": {}, "spec": {}})).contains("missing field `name`"));
    }

    #[test]
    fn own_runtimes_come_before_the_clusters_then_priority_then_protocol_then_age_then_name() {
        let on = Some(true);
        let mut old = runtime("cluster-v1-old", None, ("xgboost", Some("2"), on, Some(1)), &["v1"]);
        old.created = "2024-01-01T00:00:00Z".into();
        let mut young = runtime("cluster-v1-young", None, ("xgboost", Some("2"), on, Some(1)), &["v1"]);
        young.created = "2026-01-01T00:00:00Z".into();
        let runtimes = Runtimes::new(vec![
            old,
            runtime(
                "other-namespace",
                Some("elsewhere"),
                ("xgboost", Some("2"), on, Some(9)),
                &["v1"],
            ),
            runtime("cluster-none", None, ("xgboost", Some("2"), on, None), &["v1"]),
            runtime("cluster-high", None, ("xgboost", Some("2"), on, Some(5)), &["v2"]),
            runtime("own-b", Some("ns"), ("xgboost", Some("2"), on, None), &["v2"]),
            runtime("own-a", Some("ns"), ("xgboost", Some("2"), on, None), &["v2"]),
            runtime("cluster-v2", None, ("xgboost", Some("2"), on, Some(1)), &["v2"]),
            young,
        ]);
        assert_eq!(
            names(&runtimes, Some("2")),
            [
                "own-a",
                "own-b",
                "cluster-high",
                "cluster-v1-young",
                "cluster-v1-old",
                "cluster-v2",
                "cluster-none"
            ]
        );
    }

    #[test]
    fn versions_are_compared_as_text_and_needed_only_when_given() {
        let runtimes = Runtimes::new(vec![runtime("a", None, ("xgboost", Some("1"), Some(true), None), &[])]);
        assert_eq!(names(&runtimes, None), ["a"]);
        assert_eq!(names(&runtimes, Some("1")), ["a"]);
        assert!(names(&runtimes, Some("1.3")).is_empty());
    }

    #[test]
    fn what_a_runtime_lists_serves_a_service_that_names_it() {
        let spec = json!({"multiModel": true, "supportedModelFormats": [{"name": "xgboost", "version": "1"}, {"name": "sklearn"}]}).to_string();
        for (format, version, expected) in [
            ("xgboost", None, true),
            ("xgboost", Some("1"), true),
            ("xgboost", Some("2"), false),
            ("sklearn", Some("1"), false),
            ("onnx", None, false),
        ] {
            assert_eq!(lists(&spec, format, version), expected, "{format} {version:?}");
        }
        assert!(!lists("{}", "onnx", None) && !lists("[", "onnx", None));
    }

    #[test]
    fn select_wants_auto_select_of_that_version_an_enabled_runtime_and_the_protocol() {
        let mut versions = runtime("versions", None, ("xgboost", Some("1"), Some(true), Some(9)), &["v1"]);
        versions.formats.push(SupportedFormat {
            name: "xgboost".into(),
            version: Some("2".into()),
            auto_select: None,
            priority: None,
        });
        let mut off = runtime("off", None, ("xgboost", Some("2"), Some(true), Some(8)), &["v1"]);
        off.disabled = true;
        let runtimes = Runtimes::new(vec![
            versions,
            off,
            runtime("v2", None, ("xgboost", Some("2"), Some(true), Some(7)), &["v2"]),
            runtime("any", None, ("xgboost", Some("2"), Some(true), Some(1)), &[]),
        ]);
        let select = |version, protocol| {
            runtimes
                .select("ns", "xgboost", version, protocol)
                .map(|runtime| runtime.name.as_str())
        };
        assert_eq!(select(Some("1"), "v1"), Some("versions"));
        assert_eq!(select(Some("2"), "v1"), Some("any"));
        assert_eq!(select(Some("2"), "v2"), Some("v2"));
        assert_eq!(select(None, "v1"), Some("versions"));
        assert_eq!(select(Some("3"), "v2"), None);
        assert_eq!(runtimes.named("ns", "off").map(|runtime| runtime.disabled), Some(true));
    }

    #[test]
    fn a_name_means_the_namespaces_own_runtime_first() {
        let runtimes = Runtimes::new(vec![
            runtime("same", None, ("sklearn", None, None, None), &["v1"]),
            runtime("same", Some("ns"), ("xgboost", None, None, None), &["v2"]),
        ]);
        assert_eq!(
            runtimes
                .named("ns", "same")
                .and_then(|runtime| runtime.namespace.as_deref()),
            Some("ns")
        );
        assert_eq!(
            runtimes
                .named("other", "same")
                .map(|runtime| runtime.namespace.is_none()),
            Some(true)
        );
        assert!(runtimes.named("ns", "none").is_none());
    }
}
