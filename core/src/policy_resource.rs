//! `WasmPolicy`: which policy runs, on what, with what settings, and what it may do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backend::Condition;
use crate::selector::LabelSelector;
use crate::verification::Verification;
use crate::wildcard;

/// A policy: its module, its settings, what it reviews and what it may ask for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(kube::CustomResource, schemars::JsonSchema))]
#[cfg_attr(
    feature = "crd",
    kube(
        doc = "A policy that reviews InferenceServices while they are admitted: which one, of which objects, and what it may ask.",
        group = "tidewaiter.dev",
        version = "v1alpha1",
        kind = "WasmPolicy",
        plural = "wasmpolicies",
        status = "WasmPolicyStatus",
        category = "tidewaiter",
        printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
        printcolumn = r#"{"name": "Order", "type": "integer", "jsonPath": ".spec.order"}"#,
        printcolumn = r#"{"name": "Asks", "type": "string", "jsonPath": ".status.capabilities"}"#,
        printcolumn = r#"{"name": "Loaded", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Loaded')].status"}"#,
        printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WasmPolicySpec {
    /// Where the component comes from.
    pub module: Module,
    /// `sha256:` and 64 hexadecimal digits. A component with another digest is not loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Who must have signed it, for a module from a registry. Default: what the server's own configuration asks of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verification>,
    /// Settings of the policy; its own schema checks them when it is loaded.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[cfg_attr(feature = "crd", schemars(schema_with = "any_object"))]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// What it reviews.
    #[serde(default, rename = "match")]
    pub match_rules: MatchRules,
    /// Policies run from the lowest to the highest, equal ones by name. Default: 100.
    #[serde(default = "default_order")]
    pub order: i32,
    /// Whether its denials count.
    #[serde(default)]
    pub mode: Mode,
    /// What its failure (a trap, too slow, too large, a wrong answer) means.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// What one run may take.
    #[serde(default)]
    pub limits: Limits,
    /// The interfaces that it may import. A component that imports another one is not loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// The objects that it may get by `cluster.get-object`. Secrets can't be listed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectKind>,
}

#[cfg(feature = "crd")]
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn default_order() -> i32 {
    100
}

/// Those that judge what others fill in, such as an image's tag, come after them.
fn builtin_order(name: &str) -> i32 {
    match name {
        "architecture" | "namespace-guard" => 200,
        _ => default_order(),
    }
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Module {
    /// One that Tidewaiter ships, by name: such as `storage-credentials` or `serving-versions`.
    Builtin(String),
    /// A file of the server; a relative path is relative to the configuration's folder.
    File(String),
    /// A key of a ConfigMap (`binaryData`), for components of less than 1 MiB.
    ConfigMap(ConfigMapModule),
    /// From a web server.
    Https(HttpsModule),
    /// From an image registry.
    Oci(OciModule),
}

/// A component in a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapModule {
    /// The ConfigMap's namespace.
    pub namespace: String,
    /// The ConfigMap's name.
    pub name: String,
    /// The key that holds the component.
    pub key: String,
}

/// A component on a web server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpsModule {
    /// Begins with `https://`.
    pub url: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// A component in an image registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciModule {
    /// Such as `registry.example/policies/house-rules:1.2`, or `…@sha256:…` with the digest of its manifest. A tag is looked up again and again, and what it
    /// leads to then is loaded in place of what it led to before, if it is good.
    pub image: String,
    /// A Secret of the type `kubernetes.io/dockerconfigjson` in Tidewaiter's own namespace that opens the registry, before those that the server's own
    /// configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<String>,
}

/// What a policy reviews. Everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchRules {
    /// Default: `InferenceService` and `LLMInferenceService`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Operation>>,
    /// Namespaces, with `*` for any run of characters. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Namespaces that are left alone, with `*` for any run of characters; these win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_namespaces: Vec<String>,
    /// Labels that the namespace has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Labels that the object has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<LabelSelector>,
}

/// What the API server was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change.
    Update,
}

/// Whether a policy's denials count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They refuse the object.
    #[default]
    Enforce,
    /// They are shown as warnings.
    Audit,
}

/// What a policy's failure means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// The object is refused.
    Fail,
    /// The object is reviewed without this policy, with a warning; what the policy filled in earlier stays. The default: a gate that is broken is
    /// no reason to stop a deployment.
    #[default]
    Ignore,
}

/// What one run of a policy may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Its own running time in milliseconds, without host calls; 1 to 10,000. Default: 100.
    pub time_ms: u32,
    /// Its memory in MiB; 1 to 1,024. Default: 32.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time_ms: 100,
            memory_mib: 32,
        }
    }
}

/// An interface of the contract that a policy may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// `tidewaiter:policy/storage`
    Storage,
    /// `tidewaiter:policy/runtimes`
    Runtimes,
    /// `tidewaiter:policy/cluster`
    Cluster,
    /// `tidewaiter:policy/log`
    Log,
}

impl Capability {
    /// The interface's name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Runtimes => "runtimes",
            Self::Cluster => "cluster",
            Self::Log => "log",
        }
    }
}

/// A kind of objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectKind {
    /// Such as `v1` or `apps/v1`.
    pub api_version: String,
    /// Such as `ConfigMap`.
    pub kind: String,
}

/// What became of a `WasmPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WasmPolicyStatus {
    /// `Loaded`: whether this version of the policy is in use.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The digest of the component that is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The interfaces that this component imports, of those that it is granted: what it can ask about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
}

/// What match rules may name: the kinds that KServe has users and admins write.
pub const KSERVE_KINDS: [&str; 8] = [
    "InferenceService",
    "LLMInferenceService",
    "InferenceGraph",
    "TrainedModel",
    "ServingRuntime",
    "ClusterServingRuntime",
    "LocalModelCache",
    "LLMInferenceServiceConfig",
];

/// The kinds that a policy reviews where its match rules name none.
pub const DEFAULT_KINDS: [&str; 2] = ["InferenceService", "LLMInferenceService"];

/// An object under review, as match rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Such as `InferenceService`.
    pub kind: &'a str,
    /// What the API server was asked to do.
    pub operation: Operation,
    /// The object's namespace.
    pub namespace: &'a str,
    /// Labels of the namespace, where they are known.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// Labels of the object.
    pub labels: &'a BTreeMap<String, String>,
}

/// Whether a policy reviews an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// It does.
    Yes,
    /// It doesn't.
    No,
    /// It depends on the namespace's labels, which aren't known.
    Unknown,
}

impl MatchRules {
    /// All that is wrong with them, as [`WasmPolicySpec::problems`] says it.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        let fields = [
            ("namespaces", self.namespaces.as_deref().unwrap_or_default()),
            ("excludeNamespaces", &self.exclude_namespaces),
        ];
        let patterns = fields.into_iter().flat_map(|(field, patterns)| {
            patterns.iter().filter_map(move |pattern| {
                let problem = wildcard::problem(pattern)?;
                Some(format!("spec.match.{field}: `{pattern}` {problem}"))
            })
        });
        let kinds = self.kinds.iter().flatten();
        let unknown = kinds.filter(|kind| !KSERVE_KINDS.contains(&kind.as_str()));
        let unknown = unknown.map(|kind| {
            format!(
                "spec.match.kinds: `{kind}` is no kind of KServe's; it has {}",
                KSERVE_KINDS.join(", ")
            )
        });
        patterns.chain(unknown)
    }

    /// Whether the policy reviews this object.
    pub fn matches(&self, subject: Subject<'_>) -> Match {
        let among = |patterns: &[String]| {
            patterns
                .iter()
                .any(|pattern| wildcard::matches(pattern, subject.namespace))
        };
        let others_hold = self
            .kinds
            .as_ref()
            .map_or(DEFAULT_KINDS.contains(&subject.kind), |kinds| {
                kinds.iter().any(|kind| kind == subject.kind)
            })
            && self
                .operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&subject.operation))
            && self.namespaces.as_ref().is_none_or(|patterns| among(patterns))
            && !among(&self.exclude_namespaces)
            && self
                .object_selector
                .as_ref()
                .is_none_or(|selector| selector.matches(subject.labels));
        match (others_hold, &self.namespace_selector, subject.namespace_labels) {
            (false, ..) => Match::No,
            (true, Some(_), None) => Match::Unknown,
            (true, Some(selector), Some(labels)) if !selector.matches(labels) => Match::No,
            (true, ..) => Match::Yes,
        }
    }

    /// Whether the namespace's labels are asked for: where not, they needn't be known.
    pub fn needs_namespace_labels(&self) -> bool {
        self.namespace_selector.is_some()
    }

    /// Whether object labels are asked for: where not, they needn't be read.
    pub fn needs_object_labels(&self) -> bool {
        self.object_selector.is_some()
    }
}

impl WasmPolicySpec {
    /// A policy that Tidewaiter ships, with all defaults and these capabilities.
    pub fn builtin(name: &str, capabilities: &[Capability]) -> Self {
        Self {
            module: Module::Builtin(name.to_owned()),
            digest: None,
            verify: None,
            settings: serde_json::Map::new(),
            match_rules: MatchRules::default(),
            order: builtin_order(name),
            mode: Mode::default(),
            failure_policy: FailurePolicy::default(),
            limits: Limits::default(),
            capabilities: capabilities.to_vec(),
            objects: Vec::new(),
        }
    }

    /// All that is wrong with it, a sentence each, beginning with the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.match_rules.problems().collect();
        if !(1..=10_000).contains(&self.limits.time_ms) {
            problems.push(format!(
                "spec.limits.timeMs: {} is not between 1 and 10,000",
                self.limits.time_ms
            ));
        }
        if !(1..=1024).contains(&self.limits.memory_mib) {
            problems.push(format!(
                "spec.limits.memoryMiB: {} is not between 1 and 1,024",
                self.limits.memory_mib
            ));
        }
        if self.objects.iter().any(|object| object.kind == "Secret") {
            problems.push("spec.objects: a policy never gets a Secret; leave it out".to_owned());
        }
        if !self.objects.is_empty() && !self.capabilities.contains(&Capability::Cluster) {
            problems.push(
                "spec.objects: objects are read by the capability `cluster`; add it to spec.capabilities".to_owned(),
            );
        }
        let https = if let Module::Https(module) = &self.module {
            Some(&module.digest)
        } else {
            None
        };
        for digest in [self.digest.as_ref(), https].into_iter().flatten() {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                problems.push(format!(
                    "spec.digest: `{digest}` is not `sha256:` and 64 hexadecimal digits in small letters"
                ));
            }
        }
        if let Some(verify) = &self.verify {
            problems.extend(verify.problems("spec.verify"));
            if !matches!(self.module, Module::Oci(_)) {
                problems.push(
                    "spec.verify: signatures are kept in registries, so only a module under `oci` can have one; take it out, or push the module".to_owned(),
                );
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> WasmPolicySpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_the_module_is_needed() {
        let spec = spec(r#"{"module": {"builtin": "runtime-version"}}"#);
        assert_eq!(spec, WasmPolicySpec::builtin("runtime-version", &[]));
        assert_eq!(
            (spec.order, spec.mode, spec.failure_policy),
            (100, Mode::Enforce, FailurePolicy::Ignore)
        );
        assert_eq!((spec.limits.time_ms, spec.limits.memory_mib), (100, 32));
        assert_eq!(spec.problems(), Vec::<String>::new());
    }

    #[test]
    fn every_module_form_is_read() {
        for (json, expected) in [
            (r#"{"file": "a.wasm"}"#, Module::File("a.wasm".into())),
            (
                r#"{"configMap": {"namespace": "a", "name": "b", "key": "c"}}"#,
                Module::ConfigMap(ConfigMapModule {
                    namespace: "a".into(),
                    name: "b".into(),
                    key: "c".into(),
                }),
            ),
            (
                r#"{"https": {"url": "u", "digest": "d"}}"#,
                Module::Https(HttpsModule {
                    url: "u".into(),
                    digest: "d".into(),
                }),
            ),
            (
                r#"{"oci": {"image": "i"}}"#,
                Module::Oci(OciModule {
                    image: "i".into(),
                    pull_secret: None,
                }),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Module>(json).unwrap(), expected);
        }
    }

    #[test]
    fn match_rules_all_hold_and_exclusion_wins() {
        let prod = BTreeMap::from([("tier".to_owned(), "prod".to_owned())]);
        let none = BTreeMap::new();
        let subject = |kind, namespace| Subject {
            kind,
            operation: Operation::Create,
            namespace,
            namespace_labels: Some(&prod),
            labels: &none,
        };
        let expected = |holds| if holds { Match::Yes } else { Match::No };
        for (rules, kind, namespace, holds) in [
            ("{}", "InferenceService", "a", true),
            ("{}", "LLMInferenceService", "a", true),
            ("{}", "InferenceGraph", "a", false),
            (r#"{"kinds": ["InferenceGraph"]}"#, "InferenceGraph", "a", true),
            (r#"{"operations": ["UPDATE"]}"#, "InferenceService", "a", false),
            (r#"{"namespaces": ["team-*"]}"#, "InferenceService", "team-a", true),
            (
                r#"{"namespaces": ["team-*"], "excludeNamespaces": ["team-a"]}"#,
                "InferenceService",
                "team-a",
                false,
            ),
            (r#"{"namespaces": []}"#, "InferenceService", "team-a", false),
            (
                r#"{"namespaceSelector": {"matchLabels": {"tier": "prod"}}}"#,
                "InferenceService",
                "a",
                true,
            ),
            (
                r#"{"objectSelector": {"matchLabels": {"tier": "prod"}}}"#,
                "InferenceService",
                "a",
                false,
            ),
        ] {
            let rules: MatchRules = serde_json::from_str(rules).unwrap();
            assert_eq!(
                rules.matches(subject(kind, namespace)),
                expected(holds),
                "{rules:?} on {kind} in {namespace}"
            );
        }
    }

    #[test]
    fn without_the_namespaces_labels_only_their_selector_is_open() {
        let none = BTreeMap::new();
        let matches = |rules: &str| {
            let rules: MatchRules = serde_json::from_str(rules).unwrap();
            rules.matches(Subject {
                kind: "InferenceService",
                operation: Operation::Create,
                namespace: "a",
                namespace_labels: None,
                labels: &none,
            })
        };
        assert_eq!(matches("{}"), Match::Yes);
        let absent = r#"{"namespaceSelector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}}"#;
        assert_eq!(matches(absent), Match::Unknown);
        assert_eq!(matches(r#"{"namespaceSelector": {}, "namespaces": ["b"]}"#), Match::No);
        assert_eq!(
            matches(r#"{"namespaceSelector": {}, "objectSelector": {"matchLabels": {"a": "b"}}}"#),
            Match::No
        );
    }

    #[test]
    fn each_mistake_names_its_field() {
        for (json, expected) in [
            (
                r#"{"module": {"builtin": "x"}, "match": {"namespaces": ["a?"]}}"#,
                "spec.match.namespaces: `a?`",
            ),
            (
                r#"{"module": {"builtin": "x"}, "match": {"kinds": ["InferenceServices"]}}"#,
                "spec.match.kinds: `InferenceServices` is no kind of KServe's",
            ),
            (
                r#"{"module": {"builtin": "x"}, "limits": {"timeMs": 0}}"#,
                "spec.limits.timeMs: 0",
            ),
            (
                r#"{"module": {"builtin": "x"}, "limits": {"memoryMiB": 4096}}"#,
                "spec.limits.memoryMiB: 4096",
            ),
            (
                r#"{"module": {"builtin": "x"}, "digest": "md5:abc"}"#,
                "spec.digest: `md5:abc`",
            ),
            (
                r#"{"module": {"https": {"url": "u", "digest": "sha256:ABC"}}}"#,
                "spec.digest: `sha256:ABC`",
            ),
            (
                r#"{"module": {"oci": {"image": "r.example/a"}}, "verify": {}}"#,
                "spec.verify: names nobody",
            ),
            (
                r#"{"module": {"builtin": "x"}, "verify": {"keys": ["-----BEGIN PUBLIC KEY-----"]}}"#,
                "spec.verify: signatures are kept in registries",
            ),
            (
                r#"{"module": {"builtin": "x"}, "capabilities": ["cluster"], "objects": [{"apiVersion": "v1", "kind": "Secret"}]}"#,
                "never gets a Secret",
            ),
            (
                r#"{"module": {"builtin": "x"}, "objects": [{"apiVersion": "v1", "kind": "ConfigMap"}]}"#,
                "add it to spec.capabilities",
            ),
        ] {
            let problems = spec(json).problems();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(expected), "{problems:?}");
        }
        assert!(serde_json::from_str::<WasmPolicySpec>(r#"{"module": {"builtin": "x"}, "modes": "audit"}"#).is_err());
    }

    #[cfg(feature = "crd")]
    #[test]
    fn settings_are_kept_whole_by_the_api_server() {
        use kube::CustomResourceExt;
        let crd = serde_json::to_value(WasmPolicy::crd()).unwrap();
        let settings =
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["settings"];
        assert_eq!(settings["x-kubernetes-preserve-unknown-fields"], true);
    }
}
