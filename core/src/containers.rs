//! The containers of an InferenceService's components, and of a runtime: ports, arguments, variables, resources. [`crate::service`] leaves them out, since few policies
//! ask for them.
//!
//! Source: `PodSpec` and `Container` of Kubernetes' core/v1, as `pkg/apis/serving/v1beta1` of KServe 0.15.2 and 0.20.0 embeds them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::quantity::Quantity;
use crate::service::Role;

/// The container that KServe takes for the model server.
pub const SERVER: &str = "kserve-container";

/// An InferenceService's components.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct Components {
    spec: Spec,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Spec {
    predictor: Option<Part>,
    transformer: Option<Part>,
    explainer: Option<Part>,
    canary: Option<Vec<Canary>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Canary {
    predictor: Option<Part>,
}

/// The containers of one component.
#[derive(Debug, Deserialize, Default, PartialEq)]
#[serde(default)]
pub struct Part {
    /// Laid over the runtime's [`SERVER`]: `model`. An old per-framework field isn't read: KServe rewrites it.
    pub model: Option<Container>,
    /// The ClusterStorageContainer that it asks for by name.
    #[serde(rename = "storageContainerName")]
    pub storage_container_name: Option<String>,
    containers: Option<Vec<Container>>,
}

/// The `spec` of a `ServingRuntime` or `ClusterServingRuntime`.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct RuntimeContainers {
    containers: Vec<Container>,
}

/// A container.
#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default)]
pub struct Container {
    /// Its name; empty for `model`, which has none.
    pub name: String,
    /// Its image.
    pub image: Option<String>,
    /// What it starts in place of the image's program.
    pub command: Option<Vec<String>>,
    /// What it asks for, and may use.
    pub resources: Resources,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    #[serde(rename = "envFrom")]
    env_from: Option<Vec<IgnoredAny>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default)]
struct Variable {
    name: String,
    value: Option<String>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Empty where it has none.
    pub name: String,
    /// Its number.
    pub container_port: u16,
}

/// What a container asks for, and may use, by the resource's name.
#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default)]
pub struct Resources {
    requests: Option<BTreeMap<String, Quantity>>,
    limits: Option<BTreeMap<String, Quantity>>,
}

/// What an argument or a variable says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// There is none of this name.
    Nothing,
    /// This number.
    Number(u16),
    /// No number, or one that comes from elsewhere (`valueFrom`).
    Unknown,
}

impl Components {
    /// Reads an InferenceService. None where a field is of another type, or an amount is none, which KServe's schema refuses. A canary's `model` has the
    /// resources of the predictor's where it names none of that name, as KServe lays it over that.
    pub fn parse(json: &str) -> Option<Self> {
        let mut components: Self = serde_json::from_str(json).ok()?;
        let Spec { predictor, canary, .. } = &mut components.spec;
        if let Some(stable) = predictor.as_ref().and_then(|predictor| predictor.model.as_ref()) {
            let canaries = canary.iter_mut().flatten();
            for own in canaries.filter_map(|canary| canary.predictor.as_mut()?.model.as_mut()) {
                own.resources.lay_over(&stable.resources);
            }
        }
        Some(components)
    }

    /// The component of this role; none for those of an LLMInferenceService.
    pub fn part(&self, role: Role) -> Option<&Part> {
        match role {
            Role::Predictor => self.spec.predictor.as_ref(),
            Role::Transformer => self.spec.transformer.as_ref(),
            Role::Explainer => self.spec.explainer.as_ref(),
            Role::Canary(index) => self.spec.canary.as_ref()?.get(index)?.predictor.as_ref(),
            Role::Workload | Role::Prefill => None,
        }
    }
}

impl Part {
    /// Its own containers, or those beside the runtime's.
    pub fn containers(&self) -> &[Container] {
        self.containers.as_deref().unwrap_or_default()
    }

    /// The user's own container that KServe takes for the server, and its place in the list: the one of that name, else the first.
    pub fn own_server(&self) -> Option<(usize, &Container)> {
        let containers = self.containers();
        let named = containers.iter().position(|container| container.name == SERVER);
        let index = named.unwrap_or_default();
        Some((index, containers.get(index)?))
    }
}

impl RuntimeContainers {
    /// Reads a runtime's `spec`.
    pub fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// All of them.
    pub fn all(&self) -> &[Container] {
        &self.containers
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }
}

impl Container {
    /// Whether anything is said of its ports, be it that there are none.
    pub fn says_ports(&self) -> bool {
        self.ports.is_some()
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port] {
        self.ports.as_deref().unwrap_or_default()
    }

    /// What follows an argument, written `--name=value` or `--name value`, with `-` or `_` inside of the name. The last one counts.
    pub fn argument(&self, name: &str) -> Option<&str> {
        let plain = |text: &str| text.trim_start_matches('-').replace('_', "-");
        let wanted = plain(name);
        let args = self.args.as_deref().unwrap_or_default();
        args.iter().enumerate().rev().find_map(|(index, arg)| {
            arg.starts_with('-').then_some(())?;
            match arg.split_once('=') {
                Some((given, value)) => (plain(given) == wanted).then_some(value),
                None if plain(arg) == wanted => args.get(index + 1).map(String::as_str),
                None => None,
            }
        })
    }

    /// The number that an argument gives.
    pub fn argument_number(&self, name: &str) -> Said {
        self.argument(name).map_or(Said::Nothing, number)
    }

    /// The number that a variable gives. Where variables come from elsewhere (`envFrom`), it may be among them.
    pub fn variable_number(&self, name: &str) -> Said {
        let variable = self.env.iter().flatten().rev().find(|variable| variable.name == name);
        match variable {
            Some(variable) => variable.value.as_deref().map_or(Said::Unknown, number),
            None if self.env_from.as_ref().is_some_and(|from| !from.is_empty()) => Said::Unknown,
            None => Said::Nothing,
        }
    }

    /// What its arguments begin with: a flag, or the program that an image's entry point starts.
    pub fn first_argument(&self) -> Option<&str> {
        self.args.as_deref().unwrap_or_default().first().map(String::as_str)
    }
}

/// Images whose entry point starts what it is given have their server's name there.
const PROGRAMS: [&str; 2] = ["tritonserver", "mlserver"];

/// Whether something else is started than what an image of this repository starts by itself, by the service's container or by its runtime's: what is in the image,
/// and where it listens, says nothing then. KServe puts the service's arguments behind the runtime's (`MergeRuntimeContainers`).
pub fn starts_another(repository: &str, own: &Container, runtime: Option<&Container>) -> bool {
    let command = runtime.and_then(|runtime| runtime.command.as_deref());
    let begins = runtime
        .and_then(Container::first_argument)
        .or_else(|| own.first_argument());
    own.command.is_some()
        || command.is_some_and(|command| !is_its_own(repository, command))
        || begins.is_some_and(|first| !first.starts_with('-') && !PROGRAMS.contains(&first))
}

/// Whether a command starts what the image would start by itself: KServe's runtime for TensorFlow writes it down.
fn is_its_own(repository: &str, command: &[String]) -> bool {
    matches!((repository, command), ("docker.io/tensorflow/serving", [program]) if program == "/usr/bin/tensorflow_model_server")
}

fn number(text: &str) -> Said {
    text.parse().map_or(Said::Unknown, Said::Number)
}

impl Resources {
    fn lay_over(&mut self, others: &Self) {
        for (own, others) in [
            (&mut self.requests, &others.requests),
            (&mut self.limits, &others.limits),
        ] {
            for (name, amount) in others.iter().flatten() {
                own.get_or_insert_default().entry(name.clone()).or_insert(*amount);
            }
        }
    }

    /// What it may use of a resource.
    pub fn limit(&self, name: &str) -> Option<Quantity> {
        self.limits.as_ref()?.get(name).copied()
    }

    /// What it asks for of a resource.
    pub fn request(&self, name: &str) -> Option<Quantity> {
        self.requests.as_ref()?.get(name).copied()
    }

    /// All amounts: what it asks for, then what it may use.
    pub fn amounts(&self) -> impl Iterator<Item = (&str, Quantity)> {
        let both = [&self.requests, &self.limits].into_iter().flatten();
        both.flatten().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// A request that Kubernetes doesn't take with its limit, where one of them may be of the container that this one is laid over: the resource's name, the
    /// request, and the limit, if there is one. Of what nobody may have more than is there, such as GPUs, the two have to be the same.
    ///
    /// Source: `ValidateContainerResourceRequirements` of Kubernetes (`pkg/apis/core/validation/validation.go`).
    pub fn contradiction<'a>(&'a self, under: Option<&Self>) -> Option<(&'a str, Quantity, Option<Quantity>)> {
        let limit = |name: &str| self.limit(name).or_else(|| under?.limit(name));
        let request = |name: &str| self.request(name).or_else(|| under?.request(name));
        self.amounts()
            .filter_map(|(name, _)| Some((name, request(name)?, limit(name))))
            .find(|(name, request, limit)| match limit {
                Some(limit) if is_shared(name) => request > limit,
                Some(limit) => request != limit,
                None => !is_shared(name),
            })
    }
}

/// Whether a resource is one that KServe counts as a GPU (`DefaultGPUResourceTypeList`), or NVIDIA's slice of one.
pub fn is_gpu(resource: &str) -> bool {
    ["nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi"].contains(&resource)
        || resource.starts_with("nvidia.com/mig")
}

/// Whether there may be asked for less of a resource than is used (`IsOvercommitAllowed`).
pub fn is_shared(resource: &str) -> bool {
    let is_native = !resource.contains('/') || resource.contains("kubernetes.io/");
    is_native && !resource.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_its_part() {
        let json = r#"{"spec": {"predictor": {"model": {"image": "p"}}, "transformer": {"containers": [{"image": "t"}]},
            "explainer": {"containers": null}, "canary": [{}, {"predictor": {"containers": [{"name": "x"}, {"name": "kserve-container"}]}}]}}"#;
        let components = Components::parse(json).unwrap();
        let model = |role| {
            components
                .part(role)
                .and_then(|part| part.model.as_ref()?.image.clone())
        };
        assert_eq!(model(Role::Predictor).as_deref(), Some("p"));
        let server = |role| components.part(role).and_then(Part::own_server).map(|(index, _)| index);
        assert_eq!(
            [
                Role::Transformer,
                Role::Explainer,
                Role::Canary(0),
                Role::Canary(1),
                Role::Canary(2),
                Role::Workload
            ]
            .map(server),
            [Some(0), None, None, Some(1), None, None]
        );
        assert!(
            Components::parse(r#"{"spec": {"predictor": {"model": {"resources": {"limits": {"cpu": "much"}}}}}}"#)
                .is_none()
        );
    }

    #[test]
    fn a_canary_has_the_predictors_resources_where_it_names_none() {
        let json = r#"{"spec": {"predictor": {"model": {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi", "cpu": "2"}}}},
            "canary": [{"predictor": {"model": {"resources": {"limits": {"memory": "4Gi"}}}}}, {"predictor": {"containers": []}}]}}"#;
        let components = Components::parse(json).unwrap();
        let model = |index| components.part(Role::Canary(index)).unwrap().model.as_ref();
        let resources = &model(0).unwrap().resources;
        let amount = |text: &str| serde_json::from_value::<Quantity>(text.into()).ok();
        assert_eq!(
            [
                resources.limit("memory"),
                resources.limit("cpu"),
                resources.request("cpu")
            ],
            [amount("4Gi"), amount("2"), amount("1")]
        );
        assert_eq!(model(1), None);
    }

    #[test]
    fn arguments_and_variables_are_read_as_their_programs_do() {
        let container: Container = serde_json::from_str(
            r#"{"args": ["--http_port=1", "--grpc-port", "2", "--http-port", "3", "--last"], "env": [
                {"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "valueFrom": {}}, {"name": "C", "value": "x"}]}"#,
        )
        .unwrap();
        assert_eq!(container.argument_number("http-port"), Said::Number(3));
        assert_eq!(container.argument_number("--grpc_port"), Said::Number(2));
        assert_eq!((container.argument("last"), container.argument("none")), (None, None));
        let variables = ["A", "B", "C", "D"].map(|name| container.variable_number(name));
        assert_eq!(
            variables,
            [Said::Number(2), Said::Unknown, Said::Unknown, Said::Nothing]
        );
    }

    #[test]
    fn a_request_is_held_against_the_limit_that_will_be() {
        let read = |json: &str| serde_json::from_str::<Resources>(json).unwrap();
        let own = read(r#"{"requests": {"memory": "2Gi"}}"#);
        assert_eq!(own.contradiction(None), None);
        let under = read(r#"{"limits": {"memory": "1Gi", "cpu": 1}, "requests": {"cpu": 2}}"#);
        let amount = |text| Quantity::parse(text).unwrap();
        assert_eq!(
            own.contradiction(Some(&under)),
            Some(("memory", amount("2Gi"), Some(amount("1Gi"))))
        );
        // What is wrong in the runtime alone is not the service's.
        assert_eq!(read("{}").contradiction(Some(&under)), None);
    }
}
