//! The Pod that KServe makes of a component, as far as the rules of a namespace judge it: what the service says, over what its runtime says, beside what KServe adds.
//!
//! Source: `pkg/apis/serving/v1beta1/predictor.go` (the predictor is a PodSpec), `pkg/controller/v1beta1/inferenceservice/utils/utils.go` (how runtime and
//! service are merged) of KServe 0.15.2 and 0.20.0.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidewaiter_policy::{Value, core::quantity::Quantity};

/// The container that KServe takes for the model server.
pub(crate) const MAIN: &str = "kserve-container";

/// Resource names to amounts.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// What a container asks for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    pub(crate) limits: Option<Amounts>,
    pub(crate) requests: Option<Amounts>,
}

/// A container, as it is written in a service, a runtime or a ClusterStorageContainer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) resources: Resources,
    pub(crate) security_context: Option<ContainerSecurity>,
    pub(crate) ports: Option<Vec<Port>>,
}

/// A container's port.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) host_port: Option<i64>,
}

/// A container's `securityContext`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerSecurity {
    pub(crate) privileged: Option<bool>,
    pub(crate) allow_privilege_escalation: Option<bool>,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) proc_mount: Option<String>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) run_as_user: Option<i64>,
    pub(crate) seccomp_profile: Option<Profile>,
}

/// Linux capabilities.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub(crate) add: Option<Vec<String>>,
    pub(crate) drop: Option<Vec<String>>,
}

/// A seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Profile {
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// A Pod's `securityContext`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSecurity {
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) run_as_user: Option<i64>,
    pub(crate) seccomp_profile: Option<Profile>,
}

/// A volume: its name, and the kind of its source, which is the name of its other member.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) source: BTreeMap<String, Value>,
}

/// A component of a service. It is a PodSpec, with the model server's container under the name of its framework.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Component {
    #[serde(
        alias = "sklearn",
        alias = "xgboost",
        alias = "tensorflow",
        alias = "pytorch",
        alias = "triton",
        alias = "onnx",
        alias = "huggingface",
        alias = "pmml",
        alias = "lightgbm",
        alias = "paddle",
        alias = "art"
    )]
    pub(crate) model: Option<Container>,
    pub(crate) containers: Option<Vec<Container>>,
    pub(crate) init_containers: Option<Vec<Container>>,
    pub(crate) volumes: Option<Vec<Volume>>,
    pub(crate) security_context: Option<PodSecurity>,
    #[serde(rename = "hostIPC")]
    pub(crate) host_ipc: Option<bool>,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: Option<bool>,
    pub(crate) host_network: Option<bool>,
    pub(crate) host_users: Option<bool>,
    pub(crate) min_replicas: Option<i64>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) storage_container_name: Option<String>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) resources: Option<Resources>,
}

/// A (Cluster)ServingRuntime's `spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Runtime {
    pub(crate) containers: Vec<Container>,
    pub(crate) volumes: Option<Vec<Volume>>,
    #[serde(rename = "hostIPC")]
    pub(crate) host_ipc: Option<bool>,
}

/// All that is known of a component's Pod.
#[derive(Debug, Default)]
pub(crate) struct Pod {
    /// With the storage initializer, where there is one.
    pub(crate) init: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) security: PodSecurity,
    /// `hostNetwork`, `hostPID`, `hostIPC`, those that are asked for.
    pub(crate) host: Vec<&'static str>,
    /// Whether its users are the node's own. With users of its own, being root is no matter to newer releases of Kubernetes.
    pub(crate) host_users: bool,
    /// Whether these are all of its containers, with all that they ask. Where not, it asks for at least this.
    pub(crate) complete: bool,
    /// Whether it may end by itself (`activeDeadlineSeconds`), so that quotas for such Pods count it.
    pub(crate) terminating: bool,
    /// What is said of it as one (`resources` of a Pod), which newer releases of Kubernetes take in place of what its containers say.
    pub(crate) as_one: Option<Resources>,
}

impl Pod {
    /// Of a component whose model server comes from `runtime`, where it is known. The initializer is still to be added. `defaults` is what KServe writes into a
    /// service whose server says nothing, over what its runtime says.
    pub(crate) fn of(component: &Component, runtime: Option<&Runtime>, defaults: Option<&Resources>) -> Self {
        let mut containers: Vec<Container> = runtime.map(|runtime| runtime.containers.clone()).unwrap_or_default();
        let own = component.containers.iter().flatten().cloned();
        let model = component.model.clone().map(|model| Container {
            name: MAIN.to_owned(),
            ..model
        });
        let mut written: Vec<Container> = model.into_iter().chain(own).collect();
        if let (Some(server), Some(defaults)) = (written.first_mut(), defaults) {
            fill(&mut server.resources.limits, defaults.limits.as_ref());
            fill(&mut server.resources.requests, defaults.requests.as_ref());
        }
        for container in written {
            match containers.iter_mut().find(|known| known.name == container.name) {
                Some(known) => known.overlay(container),
                None => containers.push(container),
            }
        }
        let volumes = runtime.into_iter().flat_map(|runtime| runtime.volumes.iter().flatten());
        let asks = |host: Option<bool>, name| (host == Some(true)).then_some(name);
        let host_ipc = component
            .host_ipc
            .or_else(|| runtime.and_then(|runtime| runtime.host_ipc));
        Self {
            init: component.init_containers.clone().unwrap_or_default(),
            volumes: volumes.chain(component.volumes.iter().flatten()).cloned().collect(),
            security: component.security_context.clone().unwrap_or_default(),
            host: [
                asks(component.host_network, "hostNetwork"),
                asks(component.host_pid, "hostPID"),
                asks(host_ipc, "hostIPC"),
            ]
            .into_iter()
            .flatten()
            .collect(),
            // A component without `model` is all in its own containers.
            complete: (component.model.is_none() || runtime.is_some()) && defaults.is_some(),
            host_users: component.host_users != Some(false),
            terminating: component.active_deadline_seconds.is_some(),
            as_one: component.resources.clone(),
            containers,
        }
    }

    /// All its containers; those that run before the others first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Container> {
        self.init.iter().chain(&self.containers)
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Container> {
        self.init.iter_mut().chain(&mut self.containers)
    }
}

/// Writes what isn't said yet.
pub(crate) fn fill(amounts: &mut Option<Amounts>, defaults: Option<&Amounts>) {
    for (name, amount) in defaults.into_iter().flatten() {
        amounts.get_or_insert_default().entry(name.clone()).or_insert(*amount);
    }
}

impl Container {
    /// What another one says counts, and what only this one says stays: as Kubernetes merges containers.
    pub(crate) fn overlay(&mut self, over: Self) {
        let amounts = |under: &mut Option<Amounts>, over: Option<Amounts>| {
            if let Some(over) = over {
                under.get_or_insert_default().extend(over);
            }
        };
        amounts(&mut self.resources.limits, over.resources.limits);
        amounts(&mut self.resources.requests, over.resources.requests);
        match (&mut self.security_context, over.security_context) {
            (Some(under), Some(over)) => under.overlay(over),
            (under, Some(over)) => *under = Some(over),
            (_, None) => {}
        }
        if over.ports.is_some() {
            self.ports = over.ports;
        }
    }

    /// What Kubernetes itself fills in: who has a limit and says nothing of a request asks for the limit.
    pub(crate) fn with_requests_of_limits(&mut self) {
        fill(&mut self.resources.requests, self.resources.limits.as_ref());
    }

    /// Whether it is of the kind that Kubernetes calls best effort.
    pub(crate) fn asks_nothing(&self) -> bool {
        let compute = |amounts: &Option<Amounts>| {
            let mut amounts = amounts.iter().flatten();
            amounts.any(|(name, amount)| (name == "cpu" || name == "memory") && amount.is_positive())
        };
        !compute(&self.resources.limits) && !compute(&self.resources.requests)
    }

    pub(crate) fn limit(&self, resource: &str) -> Option<Quantity> {
        self.resources.limits.as_ref()?.get(resource).copied()
    }

    pub(crate) fn request(&self, resource: &str) -> Option<Quantity> {
        self.resources.requests.as_ref()?.get(resource).copied()
    }
}

impl ContainerSecurity {
    fn overlay(&mut self, over: Self) {
        fn set<T>(under: &mut Option<T>, over: Option<T>) {
            if over.is_some() {
                *under = over;
            }
        }
        set(&mut self.privileged, over.privileged);
        set(&mut self.allow_privilege_escalation, over.allow_privilege_escalation);
        set(&mut self.proc_mount, over.proc_mount);
        set(&mut self.run_as_non_root, over.run_as_non_root);
        set(&mut self.run_as_user, over.run_as_user);
        set(&mut self.seccomp_profile, over.seccomp_profile);
        if let Some(over) = over.capabilities {
            let under = self.capabilities.get_or_insert_default();
            set(&mut under.add, over.add);
            set(&mut under.drop, over.drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn component(value: &Value) -> Component {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    fn runtime(value: &Value) -> Runtime {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn a_service_says_more_than_its_runtime_and_what_it_leaves_out_is_the_runtimes() {
        let runtime = runtime(&json!({"containers": [
            {"name": MAIN, "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1"}},
             "securityContext": {"runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}},
            {"name": "sidecar"},
        ]}));
        let component = component(&json!({
            "sklearn": {"resources": {"requests": {"memory": "4Gi"}}, "securityContext": {"privileged": true}},
            "hostNetwork": true,
        }));
        let pod = Pod::of(&component, Some(&runtime), Some(&Resources::default()));
        let names: Vec<_> = pod.all().map(|container| container.name.as_str()).collect();
        assert_eq!(names, [MAIN, "sidecar"]);
        let main = &pod.containers[0];
        assert_eq!(
            (main.request("cpu"), main.request("memory"), main.limit("memory")),
            (Some(q("1")), Some(q("4Gi")), None)
        );
        let security = main.security_context.as_ref().unwrap();
        assert_eq!(
            (security.privileged, security.run_as_non_root),
            (Some(true), Some(true))
        );
        assert_eq!(
            security.capabilities.as_ref().unwrap().drop,
            Some(vec!["ALL".to_owned()])
        );
        assert_eq!(pod.host, ["hostNetwork"]);
        assert!(pod.complete);
        assert!(!Pod::of(&component, None, Some(&Resources::default())).complete);
    }

    #[test]
    fn a_limit_is_a_request_where_none_is_said() {
        let component = component(&json!({"containers": [
            {"name": "x", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}},
        ]}));
        let mut pod = Pod::of(&component, None, Some(&Resources::default()));
        pod.all_mut().for_each(Container::with_requests_of_limits);
        assert!(pod.complete);
        assert_eq!(pod.containers[0].request("memory"), Some(q("1Gi")));
        assert_eq!(pod.containers[0].request("cpu"), Some(q("1")));
    }
}
