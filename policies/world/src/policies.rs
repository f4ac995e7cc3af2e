//! Which policies run: the `WasmPolicy` objects, their modules fetched and checked, and the built-in ones that no object speaks of.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidewaiter_core::nearest::nearest;
use tidewaiter_core::policy_resource::{Capability, FailurePolicy, Mode, Module, ObjectKind, WasmPolicySpec};
use tidewaiter_engine::{Description, Engine, LoadError, LoadedPolicy, PolicySpec};

use crate::objects::{ObjectRef, Objects, Problem};

/// A component of 16 MiB is a whole JavaScript engine with its program; nothing larger is a policy.
const MAX_MODULE: u64 = 32 * 1024 * 1024;

/// Why a file is no module in a cluster.
pub const NO_FILES: &str = "spec.module.file: files are for a configuration in a folder; push the component to a registry (`tidewaiter policy push`), or \
                            put it into a ConfigMap if it has less than 1 MiB";

/// The policies that come with the program: name and component.
pub type Builtins = [(&'static str, &'static [u8])];

/// A policy that is to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The `WasmPolicy`'s name; for a built-in one without an object, its own.
    pub name: String,
    /// Its settings, match rules, limits and capabilities.
    pub spec: WasmPolicySpec,
    /// The component, of the digest that the object asked for. None where it can't be had and never could: what the policy matches counts as failed.
    pub component: Option<Bytes>,
}

/// A policy as it runs.
pub struct Loaded {
    /// What was loaded: with the default settings where its own can't be used.
    pub policy: Policy,
    /// Answers reviews.
    pub loaded: LoadedPolicy,
    /// What is wrong with it all the same, for its admin.
    pub slip: Option<String>,
}

impl Policy {
    /// What an object asks for, before its module was looked for.
    pub fn of(name: &str, spec: &WasmPolicySpec) -> Self {
        Self {
            name: name.to_owned(),
            spec: granted(spec.clone()),
            component: None,
        }
    }

    /// What becomes of the objects that it matches while it can't be used, for the end of a problem's message.
    pub fn without_it(&self) -> &'static str {
        match (self.spec.failure_policy, self.spec.mode) {
            (FailurePolicy::Fail, Mode::Enforce) => "it doesn't run, and what it matches is refused",
            _ => "it doesn't run, and what it matches is admitted without it",
        }
    }

    /// Loads this component for it. One that Tidewaiter ships keeps tenants apart, and a slip in its settings must not turn it off: where it refuses them, and
    /// no last good version stays in its place, it runs with its default settings.
    ///
    /// # Errors
    /// Where it can't run.
    pub async fn load(&self, engine: &Engine, component: &Bytes, last_stays: bool) -> Result<Loaded, LoadError> {
        let spec = |policy: &Self| PolicySpec {
            name: policy.name.clone(),
            component: component.clone(),
            settings: Value::Object(policy.spec.settings.clone()),
            capabilities: policy.spec.capabilities.clone(),
            limits: policy.spec.limits,
            failure: policy.spec.failure_policy,
            mode: policy.spec.mode,
        };
        let mut policy = self.clone();
        let (loaded, slip) = match engine.load(spec(&policy)).await {
            Ok(loaded) => (loaded, None),
            Err(error @ LoadError::Settings(_))
                if !last_stays
                    && !policy.spec.settings.is_empty()
                    && matches!(policy.spec.module, Module::Builtin(_)) =>
            {
                policy.spec.settings.clear();
                let loaded = engine.load(spec(&policy)).await?;
                let slip = format!("{error}; it runs with its default settings until then");
                (loaded, Some(slip))
            }
            Err(error) => return Err(error),
        };
        Ok(Loaded { policy, loaded, slip })
    }

    /// Grants a policy that Tidewaiter ships what it says that it reads, where its object declares nothing: as it has its capabilities.
    pub fn grant_described(&mut self, description: &Description) {
        if !matches!(self.spec.module, Module::Builtin(_)) || !self.spec.objects.is_empty() {
            return;
        }
        let described = description.objects.iter().map(|object| ObjectKind {
            api_version: object.api_version.clone(),
            kind: object.kind.clone(),
        });
        self.spec.objects = described.collect();
    }

    /// What the policy says that it reads, and its object doesn't declare, in words for its admin. It runs all the same.
    pub fn undeclared(&self, description: &Description) -> Option<String> {
        let declared = |object: &&tidewaiter_engine::ObjectKind| {
            let mut declared = self.spec.objects.iter();
            declared.any(|declared| declared.kind == object.kind && declared.api_version == object.api_version)
        };
        let missing: Vec<String> = description
            .objects
            .iter()
            .filter(|object| !declared(object))
            .map(|object| format!("{} ({})", object.kind, object.api_version))
            .collect();
        (!missing.is_empty()).then(|| {
            format!(
                "spec.objects: the policy reads {}, and this object doesn't declare it, so the policy goes without; declare it there, with the capability `cluster`",
                missing.join(", ")
            )
        })
    }
}

/// The policies in the order in which they run. One that can't be had is a problem, and stays as it was `before`.
pub(crate) fn select(
    objects: &Objects,
    builtins: &Builtins,
    before: &[Policy],
    problems: &mut Vec<Problem>,
) -> Vec<Policy> {
    let mut policies: Vec<Policy> = Vec::new();
    let mut spoken_of: Vec<String> = Vec::new();
    for object in &objects.policies {
        let name = object.metadata.name.clone().unwrap_or_default();
        if let Module::Builtin(builtin) = &object.spec.module {
            spoken_of.push(known_as(builtin, builtins).to_owned());
        }
        let wrong = object.spec.problems();
        let component = if wrong.is_empty() {
            component(&name, &object.spec, objects, builtins)
        } else {
            Err(wrong.join("; "))
        };
        let mut policy = Policy::of(&name, &object.spec);
        match component {
            Ok(component) => {
                policy.component = Some(component);
                policies.push(policy);
                let remark = objects.modules.get(&name).and_then(|module| module.remark.clone());
                problems.extend(remark.map(|(remark, in_use)| Problem {
                    in_use,
                    ..objects.problem(
                        ObjectRef::cluster("WasmPolicy", &name),
                        format!("{remark}; the version of before is used"),
                    )
                }));
            }
            Err(reason) => {
                let last = before.iter().find(|last| last.name == name && last.component.is_some());
                let stays = if let Some(last) = last {
                    policies.push(last.clone());
                    "its last good version stays"
                } else if let Some(fallback) = fallback(&object.spec, &name, builtins) {
                    policies.push(fallback);
                    "the rest of it, and defaults, are used until then"
                } else {
                    if policy.spec.match_rules.problems().next().is_some() {
                        policy.spec = counting_everywhere(&name);
                    }
                    let stays = policy.without_it();
                    policies.push(policy);
                    stays
                };
                problems.push(objects.problem(ObjectRef::cluster("WasmPolicy", &name), format!("{reason}; {stays}")));
            }
        }
        spoken_of.push(known_as(&name, builtins).to_owned());
    }
    for object in objects.unreadable.keys().filter(|object| object.kind == "WasmPolicy") {
        if !policies.iter().any(|policy| policy.name == object.name) {
            let known = known_as(&object.name, builtins);
            let builtin = builtins.iter().find(|(builtin, _)| *builtin == known);
            let spec = counting_everywhere(&object.name);
            policies.push(Policy {
                name: object.name.clone(),
                // A slip in the object of a built-in policy never turns it off.
                spec: if builtin.is_some() { granted(spec) } else { spec },
                component: builtin.map(|(_, component)| Bytes::from_static(component)),
            });
        }
        spoken_of.push(known_as(&object.name, builtins).to_owned());
    }
    for (name, component) in builtins {
        if !spoken_of.iter().any(|spoken| spoken == name) {
            let spec = granted(WasmPolicySpec::builtin(name, &[]));
            policies.push(Policy {
                name: (*name).to_owned(),
                spec,
                component: Some(Bytes::from_static(component)),
            });
        }
    }
    tell_of_twins(&policies, objects, builtins, problems);
    policies.sort_by(|a, b| a.spec.order.cmp(&b.spec.order).then_with(|| a.name.cmp(&b.name)));
    policies
}

/// Two objects of one built-in policy both run, which is hardly what their admin means: a default in one of them contradicts what the other says.
fn tell_of_twins(policies: &[Policy], objects: &Objects, builtins: &Builtins, problems: &mut Vec<Problem>) {
    let builtin = |policy: &Policy| match &policy.spec.module {
        Module::Builtin(name) if policy.component.is_some() => Some(known_as(name, builtins).to_owned()),
        _ => None,
    };
    for policy in policies {
        let Some(name) = builtin(policy) else { continue };
        let twins: Vec<&str> = policies
            .iter()
            .filter(|other| other.name != policy.name && builtin(other).as_ref() == Some(&name))
            .map(|other| other.name.as_str())
            .collect();
        if !twins.is_empty() {
            let message = format!(
                "WasmPolicy/{} loads the built-in policy {name} too, and both run on what both match; leave one of them",
                twins.join(", WasmPolicy/")
            );
            problems.push(Problem {
                in_use: true,
                ..objects.problem(ObjectRef::cluster("WasmPolicy", &policy.name), message)
            });
        }
    }
}

/// A built-in policy keeps tenants apart: one slip in its object must not turn it off.
/// What is right in it counts: a policy that was to watch only still does.
fn fallback(wrong: &WasmPolicySpec, name: &str, builtins: &Builtins) -> Option<Policy> {
    let Module::Builtin(builtin) = &wrong.module else {
        return None;
    };
    let known = |wanted: &str| {
        let wanted = known_as(wanted, builtins);
        builtins.iter().find(|(known, _)| *known == wanted)
    };
    let (builtin, component) = known(builtin).or_else(|| known(name))?;
    let mut spec = granted(WasmPolicySpec::builtin(builtin, &[]));
    (spec.mode, spec.order, spec.failure_policy) = (wrong.mode, wrong.order, wrong.failure_policy);
    spec.settings.clone_from(&wrong.settings);
    if wrong.match_rules.problems().next().is_none() {
        spec.match_rules = wrong.match_rules.clone();
    }
    Some(Policy {
        name: name.to_owned(),
        spec,
        component: Some(Bytes::from_static(component)),
    })
}

/// For a policy of which nobody can say what it matches: no service is refused for it, and none loses what it filled in.
fn counting_everywhere(name: &str) -> WasmPolicySpec {
    WasmPolicySpec::builtin(name, &[])
}

/// A built-in policy whose object grants nothing has what it needs: to read its object's settings and to forget its grants would stop it.
fn granted(mut spec: WasmPolicySpec) -> WasmPolicySpec {
    if !matches!(spec.module, Module::Builtin(_)) {
        return spec;
    }
    if spec.capabilities.is_empty() {
        spec.capabilities = vec![Capability::Storage, Capability::Runtimes, Capability::Cluster];
    }
    // A line of the log does nothing, and an object that was written before the policy wrote any goes on to load it.
    if !spec.capabilities.contains(&Capability::Log) {
        spec.capabilities.push(Capability::Log);
    }
    spec
}

/// Names that built-in policies had before, which go on to load them.
const FORMERLY: [(&str, &str); 1] = [("runtime-version", "serving-versions")];

/// The name that a built-in policy has now.
pub fn known_as<'n>(name: &'n str, builtins: &Builtins) -> &'n str {
    if builtins.iter().any(|(builtin, _)| *builtin == name) {
        return name;
    }
    let renamed = FORMERLY.iter().find(|(before, _)| *before == name);
    renamed.map_or(name, |(_, now)| now)
}

/// A policy that Tidewaiter ships, by its name.
///
/// # Errors
/// There is none of this name, and what may have been meant.
pub fn builtin(name: &str, builtins: &Builtins) -> Result<&'static [u8], String> {
    let known = known_as(name, builtins);
    let found = builtins.iter().find(|(builtin, _)| *builtin == known);
    found.map(|(_, component)| *component).ok_or_else(|| {
        let names: Vec<&str> = builtins.iter().map(|(name, _)| *name).collect();
        match nearest(name, &names) {
            Some(meant) => {
                format!("spec.module.builtin: there is no built-in policy `{name}`; did you mean `{meant}`?")
            }
            None => format!(
                "spec.module.builtin: there is no built-in policy `{name}`, only {}",
                names.join(", ")
            ),
        }
    })
}

fn component(policy: &str, spec: &WasmPolicySpec, objects: &Objects, builtins: &Builtins) -> Result<Bytes, String> {
    let component = match &spec.module {
        Module::Builtin(name) => Bytes::from_static(builtin(name, builtins)?),
        Module::File(file) => {
            let Some(base) = &objects.base else {
                return Err(NO_FILES.to_owned());
            };
            Bytes::from(read(&base.join(file)).map_err(|reason| format!("spec.module.file: {file} {reason}"))?)
        }
        Module::ConfigMap(reference) => {
            let name = format!("ConfigMap/{}/{}", reference.namespace, reference.name);
            let map = objects
                .config_map(&reference.namespace, &reference.name)
                .ok_or_else(|| {
                    let map = ObjectRef::namespaced("ConfigMap", &reference.namespace, &reference.name);
                    let why = objects.why_missing(&map);
                    format!("spec.module.configMap: {name} {why}; create it, or correct the reference")
                })?;
            let value = map.binary_data.as_ref().and_then(|data| data.get(&reference.key));
            Bytes::from(
                value
                    .ok_or_else(|| {
                        format!(
                            "spec.module.configMap: {name} has no `{}` in its binaryData",
                            reference.key
                        )
                    })?
                    .0
                    .clone(),
            )
        }
        Module::Https(_) => supplied(policy, "spec.module.https", objects)?,
        Module::Oci(_) => supplied(policy, "spec.module.oci", objects)?,
    };
    has_digest(&component, spec.digest.as_deref())?;
    Ok(component)
}

/// Whether a component is the one that its object asks for, where it asks for one.
///
/// # Errors
/// It is another one.
pub fn has_digest(component: &[u8], digest: Option<&str>) -> Result<(), String> {
    let Some(wanted) = digest else { return Ok(()) };
    let found = digest_of(component);
    if found == wanted {
        return Ok(());
    }
    Err(format!(
        "spec.digest: the component has {found}, and the object asks for {wanted}; one of them was changed"
    ))
}

fn supplied(policy: &str, field: &str, objects: &Objects) -> Result<Bytes, String> {
    match objects.modules.get(policy) {
        Some(module) => module.component.clone().map_err(|reason| format!("{field}: {reason}")),
        None => Err(format!("{field}: nobody fetches modules here; use file or configMap")),
    }
}

/// `sha256:` and the digest in hexadecimal digits, as a `WasmPolicy` writes it.
pub fn digest_of(component: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(component)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path)
        .map_err(|error| format!("can't be read: {error}"))?
        .len();
    if length > MAX_MODULE {
        return Err(format!("has {length} bytes; a module has {MAX_MODULE} at most"));
    }
    std::fs::read(path).map_err(|error| format!("can't be read: {error}"))
}
