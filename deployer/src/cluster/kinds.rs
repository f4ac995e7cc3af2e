//! The kinds of objects that are asked for, and what to do where a cluster doesn't know one.

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Empty for Kubernetes' own.
    pub group: &'static str,
    /// Such as `v1`.
    pub version: &'static str,
    /// Such as `Secret`.
    pub kind: &'static str,
    /// Such as `secrets`.
    pub plural: &'static str,
    /// What to do in a cluster that doesn't know it.
    pub install: &'static str,
}

impl Kind {
    /// As roles have it: `storagebackends.tidewaiter.dev`.
    pub fn in_roles(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

/// Ours, for a store.
pub static STORAGE_BACKEND: Kind = Kind {
    group: "tidewaiter.dev",
    version: "v1alpha1",
    kind: "StorageBackend",
    plural: "storagebackends",
    install: "install Tidewaiter's definitions: helm install tidewaiter-crds charts/tidewaiter-crds --namespace tidewaiter-system",
};
/// KServe's, for a service.
pub static INFERENCE_SERVICE: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1beta1",
    kind: "InferenceService",
    plural: "inferenceservices",
    install: "install KServe, or choose the cluster that has it with --context",
};
/// KServe's, for a language model.
pub static LLM_INFERENCE_SERVICE: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "LLMInferenceService",
    plural: "llminferenceservices",
    install: "install KServe's definition of it",
};
/// KServe's, for what several language models have in common; it may name a model, too.
pub static LLM_INFERENCE_SERVICE_CONFIG: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "LLMInferenceServiceConfig",
    plural: "llminferenceserviceconfigs",
    install: "install KServe's definition of it",
};
/// KServe's, for a model that nodes keep on their disks.
pub static LOCAL_MODEL_CACHE: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "LocalModelCache",
    plural: "localmodelcaches",
    install: "install KServe's definition of it",
};
/// The same for one namespace, from KServe 0.20 on.
pub static LOCAL_MODEL_NAMESPACE_CACHE: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "LocalModelNamespaceCache",
    plural: "localmodelnamespacecaches",
    install: "install KServe's definition of it",
};
/// The Kubernetes Policy Working Group's, for what an audit found.
pub static POLICY_REPORT: Kind = Kind {
    group: "wgpolicyk8s.io",
    version: "v1alpha2",
    kind: "PolicyReport",
    plural: "policyreports",
    install: "install its definition: helm upgrade tidewaiter-crds charts/tidewaiter-crds --namespace tidewaiter-system \
              --set policyReports.enabled=true; the next audit writes the reports",
};
/// KServe's, for a server of models, in a namespace.
pub static SERVING_RUNTIME: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "ServingRuntime",
    plural: "servingruntimes",
    install: "install KServe, or choose the cluster that has it with --context",
};
/// KServe's, for a server of models, for all namespaces.
pub static CLUSTER_SERVING_RUNTIME: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "ClusterServingRuntime",
    plural: "clusterservingruntimes",
    install: "install KServe, or choose the cluster that has it with --context",
};
/// KServe's, for several services behind one address.
pub static INFERENCE_GRAPH: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "InferenceGraph",
    plural: "inferencegraphs",
    install: "install KServe's definition of it",
};
/// KServe's, for a model on a server that has several.
pub static TRAINED_MODEL: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha1",
    kind: "TrainedModel",
    plural: "trainedmodels",
    install: "install KServe's definition of it",
};
/// Kubernetes' own.
pub static SECRET: Kind = core("Secret", "secrets");
/// Kubernetes' own.
pub static SERVICE_ACCOUNT: Kind = core("ServiceAccount", "serviceaccounts");
/// Kubernetes' own.
pub static CONFIG_MAP: Kind = core("ConfigMap", "configmaps");
/// Kubernetes' own.
pub static NAMESPACE: Kind = core("Namespace", "namespaces");

/// Kubernetes' own.
pub static POD: Kind = core("Pod", "pods");
/// The way into a Pod, as roles name it.
pub static POD_FORWARD: Kind = core("Pod", "pods/portforward");
/// What a Pod's containers wrote, as roles name it.
pub static POD_LOG: Kind = core("Pod", "pods/log");
/// What happened to other objects.
pub static EVENT: Kind = core("Event", "events");
/// Kubernetes' own; not an InferenceService.
pub static SERVICE: Kind = core("Service", "services");
/// Kubernetes' own.
pub static NODE: Kind = core("Node", "nodes");
/// Of the plain kind, as KServe makes one for each service in its Standard mode.
pub static INGRESS: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    kind: "Ingress",
    plural: "ingresses",
    install: "every Kubernetes has it: look at what --context leads to",
};
/// Kubernetes' own, for webhooks that fill something in.
pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    group: "admissionregistration.k8s.io",
    version: "v1",
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    install: "every Kubernetes has it: look at what --context leads to",
};
/// Of the Gateway API.
pub static GATEWAY: Kind = Kind {
    group: "gateway.networking.k8s.io",
    version: "v1",
    kind: "Gateway",
    plural: "gateways",
    install: "install the Gateway API",
};

const fn core(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        group: "",
        version: "v1",
        kind,
        plural,
        install: "every Kubernetes has it: look at what --context leads to",
    }
}
