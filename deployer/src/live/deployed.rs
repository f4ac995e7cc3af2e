//! An `InferenceService` as it stands in the cluster, an `InferenceGraph` that is asked in place of one, or a `TrainedModel` that is asked at another's server.
//!
//! Source of the fields: `pkg/apis/serving/v1beta1/inference_service_status.go` of KServe 0.15.2 and 0.20.0.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Map, Value};
use tidewaiter_core::kserve_config::DeploymentMode;

use crate::cluster::{Attempt, Cluster, Error, Kind, has_condition, kinds};

/// Has KServe take a service's Pods away, and bring them back when it goes.
pub const STOP: &str = "serving.kserve.io/stop";
const MODE: &str = "serving.kserve.io/deploymentMode";
/// One framework each, before there was `model`; KServe's defaulter rewrites them.
const OLD_SHAPES: [&str; 9] = [
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
];

/// A service that is deployed, a graph of services, or a model on the server of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed {
    object: DynamicObject,
}

/// One condition of an object's status.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Condition {
    /// Such as `PredictorReady`.
    #[serde(rename = "type")]
    pub of: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word; empty where there is none.
    pub reason: String,
    /// A sentence; empty where there is none.
    pub message: String,
    /// Since when, as RFC 3339; empty where it isn't told.
    pub since: String,
}

/// A part of a service that has Pods of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// What holds the model.
    Predictor,
    /// What is before it, and asks it.
    Transformer,
    /// What tells why it answers so.
    Explainer,
}

impl Component {
    /// As the spec and Pods' labels have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predictor => "predictor",
            Self::Transformer => "transformer",
            Self::Explainer => "explainer",
        }
    }
}

impl Deployed {
    /// Reads a service.
    ///
    /// # Errors
    /// [`Error::NotFound`]; where the API server says no, or says nothing.
    pub async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self, Error> {
        let found = cluster.get(&kinds::INFERENCE_SERVICE, Some(namespace), name).await?;
        let object = found.ok_or_else(|| Error::NotFound {
            attempt: Attempt::get(&kinds::INFERENCE_SERVICE, Some(namespace), name),
            message: "there is no such service".to_owned(),
        })?;
        Ok(Self::from(object))
    }

    /// Reads a service; where none has this name, the graph of services that has it, or the model on another's server.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_any(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self, Error> {
        let missing = match Self::read(cluster, namespace, name).await {
            Err(error @ Error::NotFound { .. }) => error,
            read => return read,
        };
        let (graph, model) = futures::join!(
            cluster.get(&kinds::INFERENCE_GRAPH, Some(namespace), name),
            cluster.get(&kinds::TRAINED_MODEL, Some(namespace), name),
        );
        for found in [graph, model] {
            match found {
                Ok(Some(object)) => return Ok(Self::from(object)),
                // Who may read services needn't be allowed to read these, and not every cluster has the kinds: it is about a service first.
                Ok(None) | Err(Error::Forbidden { .. } | Error::UnknownKind { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(missing)
    }

    /// Whom its requests go to: the service that it is a model of, or itself.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn asked(&self, cluster: &Cluster) -> Result<Self, Error> {
        match self.server() {
            Some(server) => Self::read(cluster, &self.namespace(), server).await,
            None => Ok(self.clone()),
        }
    }

    /// Whether it is a graph of services.
    pub fn is_graph(&self) -> bool {
        *self.kind() == kinds::INFERENCE_GRAPH
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        let types = self.object.types.as_ref();
        let is = |kind: &&&'static Kind| types.is_some_and(|types| types.kind == kind.kind);
        let kinds = [&kinds::INFERENCE_GRAPH, &kinds::TRAINED_MODEL];
        kinds.iter().find(is).copied().unwrap_or(&kinds::INFERENCE_SERVICE)
    }

    /// As a person calls it: `service`, `graph`, `trained model`.
    pub fn what(&self) -> &'static str {
        if self.is_graph() {
            "graph"
        } else if self.server().is_some() {
            "trained model"
        } else {
            "service"
        }
    }

    /// The service whose server has this model beside others; none of one that has Pods of its own.
    pub fn server(&self) -> Option<&str> {
        let server = self.spec()["inferenceService"].as_str();
        server.filter(|_| *self.kind() == kinds::TRAINED_MODEL)
    }

    /// How a graph asks its services, such as `Sequence`; none of a service.
    pub fn router(&self) -> Option<&str> {
        self.spec()["nodes"]["root"]["routerType"].as_str()
    }

    /// The services that a graph asks, in its first node's order; none of a service.
    pub fn steps(&self) -> Vec<&str> {
        let steps = self.spec()["nodes"]["root"]["steps"].as_array();
        let steps = steps.into_iter().flatten();
        steps.filter_map(|step| step["serviceName"].as_str()).collect()
    }

    /// By which KServe marks its Pods, or those of its server.
    pub(crate) fn label(&self) -> String {
        match self.server() {
            Some(server) => format!("serving.kserve.io/inferenceservice={server}"),
            None if self.is_graph() => format!("serving.kserve.io/inferencegraph={}", self.name()),
            None => format!("serving.kserve.io/inferenceservice={}", self.name()),
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// Its namespace.
    pub fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    /// The whole object.
    pub fn object(&self) -> &DynamicObject {
        &self.object
    }

    /// An annotation of the service itself.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.object.annotations().get(name).map(String::as_str)
    }

    pub(crate) fn spec(&self) -> &Value {
        &self.object.data["spec"]
    }

    pub(crate) fn status(&self) -> &Value {
        &self.object.data["status"]
    }

    /// A component's part of the spec, if it has that component.
    pub fn component(&self, component: Component) -> Option<&Value> {
        let part = &self.spec()[component.as_str()];
        (!part.is_null()).then_some(part)
    }

    /// How KServe deploys it; none where neither KServe nor an annotation has said so yet.
    pub fn mode(&self) -> Option<DeploymentMode> {
        let status = self.status()["deploymentMode"].as_str();
        let named = status.filter(|mode| !mode.is_empty()).or_else(|| self.annotation(MODE));
        named.and_then(DeploymentMode::named)
    }

    /// Whether it is told to have no Pods.
    pub fn is_stopped(&self) -> bool {
        self.annotation(STOP)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether it is being deleted.
    pub fn is_leaving(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Where it is reached from outside of the cluster, by KServe's word.
    pub fn url(&self) -> Option<&str> {
        self.status()["url"].as_str()
    }

    /// Where it is reached inside of the cluster. A graph's status has but one URL, in Standard mode the one inside.
    pub fn address(&self) -> Option<&str> {
        let own = self.status()["address"]["url"].as_str();
        own.or_else(|| self.url().filter(|url| self.is_graph() && url.contains(".svc.")))
    }

    /// Its conditions, in the status's order.
    pub fn conditions(&self) -> Vec<Condition> {
        let conditions = self.status()["conditions"].as_array();
        let text = |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        let conditions = conditions.into_iter().flatten().map(|condition| Condition {
            of: text(condition, "type"),
            status: text(condition, "status"),
            reason: text(condition, "reason"),
            message: text(condition, "message"),
            since: text(condition, "lastTransitionTime"),
        });
        conditions.collect()
    }

    /// One condition.
    pub fn condition(&self, of: &str) -> Option<Condition> {
        self.conditions().into_iter().find(|condition| condition.of == of)
    }

    /// Whether it can answer: its condition `Ready`.
    pub fn is_ready(&self) -> bool {
        has_condition(&self.object.data, "Ready")
    }

    /// The part of the predictor that names the model: `model`, or the framework's own field as it was written before there was `model`.
    pub fn model(&self) -> Option<(&str, &Value)> {
        let predictor = self.component(Component::Predictor)?;
        let names = std::iter::once("model").chain(OLD_SHAPES);
        let mut found = names.map(|name| (name, &predictor[name]));
        found.find(|(_, model)| !model.is_null())
    }

    /// Such as `sklearn`; `custom` for the user's own containers, `graph` for one of those.
    pub fn framework(&self) -> &str {
        match self.model() {
            None if self.is_graph() => "graph",
            None if self.server().is_some() => self.spec()["model"]["framework"].as_str().unwrap_or_default(),
            Some(("model", model)) => model["modelFormat"]["name"].as_str().unwrap_or_default(),
            Some((framework, _)) => framework,
            None => "custom",
        }
    }

    /// Where its model lies.
    pub fn storage_uri(&self) -> Option<String> {
        if self.server().is_some() {
            return self.spec()["model"]["storageUri"].as_str().map(str::to_owned);
        }
        storage_uri(self.component(Component::Predictor)?)
    }

    /// The protocol that it says it speaks: `v1`, `v2`, `grpc-v2`.
    pub fn protocol(&self) -> Option<&str> {
        let (_, model) = self.model()?;
        model["protocolVersion"].as_str()
    }

    /// Whether its predictor's server has ports, and each is one for gRPC, by the names that KServe and Knative know those by.
    pub fn is_grpc_alone(&self) -> bool {
        let predictor = self.component(Component::Predictor);
        let own = predictor.and_then(|predictor| predictor["containers"].get(0));
        let server = self.model().map(|(_, model)| model).or(own);
        let ports = server.and_then(|server| server["ports"].as_array());
        ports.is_some_and(|ports| !ports.is_empty() && ports.iter().all(speaks_grpc))
    }

    /// The serving runtime that serves it.
    pub fn runtime(&self) -> Option<&str> {
        let status = self.status();
        let names = [&status["servingRuntimeName"], &status["clusterServingRuntimeName"]];
        let chosen = names
            .into_iter()
            .find_map(|name| name.as_str().filter(|name| !name.is_empty()));
        chosen.or_else(|| self.model()?.1["runtime"].as_str())
    }

    /// The component that requests come in by.
    pub fn entry(&self) -> Component {
        if self.component(Component::Transformer).is_some() {
            Component::Transformer
        } else {
            Component::Predictor
        }
    }

    /// The name of the Kubernetes Service of a component in Standard mode. A predictor may have a name of its own from 0.20, as a promoted canary has; a graph's
    /// router has the graph's.
    pub fn service_of(&self, component: Component) -> String {
        if self.is_graph() {
            return self.name();
        }
        service_of(&self.name(), self.spec(), component)
    }

    /// The object without what the API server and KServe keep in it for themselves.
    pub fn plain(&self) -> Value {
        let mut value = serde_json::to_value(&self.object).unwrap_or_default();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        }
        value
    }
}

impl From<DynamicObject> for Deployed {
    fn from(object: DynamicObject) -> Self {
        let mut object = object;
        if !object.data.is_object() {
            object.data = Value::Object(Map::new());
        }
        Self { object }
    }
}

/// [`Deployed::service_of`] of an `InferenceService`. The component's Deployment is called so, too.
pub(crate) fn service_of(name: &str, spec: &Value, component: Component) -> String {
    let own = spec[component.as_str()]["name"].as_str();
    match own.filter(|own| component == Component::Predictor && !own.is_empty()) {
        Some(own) => format!("{name}-{own}-predictor"),
        None => format!("{name}-{}", component.as_str()),
    }
}

/// Whether a port of a container or a Service is known as one for gRPC: KServe goes by such names (`isGrpcPort` of its `service_reconciler.go`).
pub(crate) fn speaks_grpc(port: &Value) -> bool {
    let name = port["name"].as_str().unwrap_or_default().to_ascii_lowercase();
    port["appProtocol"] == "kubernetes.io/h2c" || name.contains("grpc") || name.contains("h2c")
}

/// Where a predictor's model lies, whatever its shape.
pub(crate) fn storage_uri(predictor: &Value) -> Option<String> {
    let models = std::iter::once("model").chain(OLD_SHAPES).map(|name| &predictor[name]);
    for model in models.filter(|model| !model.is_null()) {
        if let Some(uri) = model["storageUri"].as_str() {
            return Some(uri.to_owned());
        }
        if let Some(path) = model["storage"]["path"].as_str() {
            let key = model["storage"]["key"].as_str();
            return Some(key.map_or_else(|| path.to_owned(), |key| format!("{key}:{path}")));
        }
    }
    let several = predictor["storageUris"].as_array().and_then(|uris| uris.first());
    if let Some(uri) = several.and_then(|first| first["uri"].as_str()) {
        return Some(uri.to_owned());
    }
    let containers = predictor["containers"].as_array();
    let variables = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container["env"].as_array());
    let variable = variables.flatten().find(|variable| variable["name"] == "STORAGE_URI")?;
    variable["value"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::fixture::{deployed, trained};
    use super::*;
    use crate::reach::tests::cluster;

    #[test]
    fn what_is_served_is_told_of_every_shape() {
        let told = |predictor: Value| {
            let service = deployed(json!({"spec": {"predictor": predictor}}));
            (service.framework().to_owned(), service.storage_uri())
        };
        let uri = Some("s3://a/b".to_owned());
        assert_eq!(
            told(json!({"model": {"modelFormat": {"name": "mlflow"}, "storageUri": "s3://a/b"}})),
            ("mlflow".to_owned(), uri.clone())
        );
        assert_eq!(
            told(json!({"xgboost": {"storageUri": "s3://a/b"}})),
            ("xgboost".to_owned(), uri.clone())
        );
        assert_eq!(
            told(json!({"containers": [{"env": [{"name": "STORAGE_URI", "value": "s3://a/b"}]}]})),
            ("custom".to_owned(), uri.clone())
        );
        assert_eq!(
            told(json!({"model": {"modelFormat": {"name": "onnx"}}, "storageUris": [{"uri": "s3://a/b"}]})),
            ("onnx".to_owned(), uri)
        );
        assert_eq!(
            told(json!({"containers": [{"image": "x"}]})),
            ("custom".to_owned(), None)
        );
    }

    #[test]
    fn the_mode_is_known_by_all_of_its_names() {
        let mode = |annotation: &str, status: &str| {
            let service = deployed(json!({
                "metadata": {"annotations": {MODE: annotation}},
                "status": {"deploymentMode": status},
            }));
            service.mode()
        };
        assert_eq!(mode("RawDeployment", ""), Some(DeploymentMode::Standard));
        assert_eq!(mode("Standard", "Serverless"), Some(DeploymentMode::Knative));
        assert_eq!(deployed(json!({})).mode(), None);
    }

    #[test]
    fn a_promoted_predictor_has_a_service_of_its_own_name() {
        let service = deployed(json!({"spec": {"predictor": {"name": "v2"}, "transformer": {}}}));
        assert_eq!(service.service_of(Component::Predictor), "fraud-v2-predictor");
        assert_eq!(service.service_of(Component::Transformer), "fraud-transformer");
        assert_eq!(service.entry(), Component::Transformer);
    }

    #[test]
    fn a_graph_is_one_by_its_kind() {
        let graph = deployed(json!({
            "kind": "InferenceGraph",
            "spec": {"nodes": {"root": {"routerType": "Sequence", "steps": [
                {"serviceName": "features"}, {"nodeName": "more"}, {"serviceName": "fraud"},
            ]}}},
            "status": {"url": "http://fraud.team-a.svc.cluster.local"},
        }));
        assert_eq!((graph.framework(), graph.router()), ("graph", Some("Sequence")));
        assert_eq!(graph.steps(), ["features", "fraud"]);
        assert_eq!(graph.label(), "serving.kserve.io/inferencegraph=fraud");
        assert_eq!(graph.service_of(graph.entry()), "fraud");
        assert_eq!(graph.address(), graph.url());
        let service = deployed(json!({"status": {"url": "http://fraud.team-a.svc.cluster.local"}}));
        assert_eq!((service.is_graph(), service.address()), (false, None));
    }

    #[test]
    fn a_trained_model_is_one_by_its_kind_and_its_servers_pods_are_its_own() {
        let model = trained(json!({}));
        assert_eq!((model.what(), model.server()), ("trained model", Some("many")));
        assert_eq!(model.label(), "serving.kserve.io/inferenceservice=many");
        assert_eq!(model.framework(), "sklearn");
        assert_eq!(model.storage_uri().as_deref(), Some("s3://m/fraud"));
        let service = deployed(json!({"spec": {"inferenceService": "many"}}));
        assert_eq!((service.what(), service.server()), ("service", None));
    }

    const OBJECTS: &str = "/apis/serving.kserve.io";

    fn at(version: &str, plural: &str, name: &str) -> String {
        format!("{OBJECTS}/{version}/namespaces/team-a/{plural}/{name}")
    }

    #[tokio::test]
    async fn a_name_is_a_services_first_then_a_graphs_or_a_trained_models() {
        let object = |kind: &str| json!({"apiVersion": "serving.kserve.io/v1", "kind": kind, "metadata": {"name": "fraud", "namespace": "team-a"}});
        let service = (at("v1beta1", "inferenceservices", "fraud"), object("InferenceService"));
        let graphs = at("v1alpha1", "inferencegraphs", "fraud");
        let models = at("v1alpha1", "trainedmodels", "fraud");
        let model = (models.clone(), trained(json!({})).plain());
        let no = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "eve cannot get it"});
        let unknown = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such kind"});
        let read = async |answers: Vec<(String, Value)>| {
            let answers: BTreeMap<_, _> = answers.into_iter().collect();
            let read = Deployed::read_any(&cluster(answers.into()), "team-a", "fraud").await;
            read.map(|found| found.what()).map_err(|error| error.to_string())
        };
        assert_eq!(read(vec![service, model.clone()]).await, Ok("service"));
        assert_eq!(read(vec![model.clone()]).await, Ok("trained model"));
        // Who may not read the one kind, or has it not, is told of the other all the same.
        for kept in [&no, &unknown] {
            assert_eq!(
                read(vec![(graphs.clone(), kept.clone()), model.clone()]).await,
                Ok("trained model")
            );
            let missing = read(vec![(models.clone(), kept.clone())]).await.unwrap_err();
            assert!(missing.ends_with("there is no such service"), "{missing}");
        }
    }

    #[tokio::test]
    async fn a_trained_model_is_asked_at_its_server() {
        let many = json!({"metadata": {"name": "many", "namespace": "team-a"}, "status": {"url": "http://many"}});
        let answers = BTreeMap::from([(at("v1beta1", "inferenceservices", "many"), many)]);
        let cluster = cluster(answers.into());
        let asked = trained(json!({})).asked(&cluster).await.unwrap();
        assert_eq!((asked.name().as_str(), asked.url()), ("many", Some("http://many")));
        let service = deployed(json!({}));
        assert_eq!(service.asked(&cluster).await.unwrap(), service);
        let alone = trained(json!({"spec": {"inferenceService": "gone"}}));
        let error = alone.asked(&cluster).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("gone in namespace team-a: there is no such service"),
            "{error}"
        );
    }
}
