//! Asks the model's own server whether the model can answer.
//!
//! A Pod is ready as soon as its server's port is open: KServe has it tried by a TCP connection where the runtime has no probe (`deployment_reconciler.go` of
//! 0.20.0), as `kserve-mlserver` has none. `MLServer` opens its ports first and loads its model then (`mlserver/server.py` of 1.7.1).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use serde_json::Value;

use super::finding::{Cause, Finding};
use super::state::{State, text};
use crate::cluster::{self, Cluster};
use crate::live::{Deployed, storage_uri};
use crate::predict::{self, Connection, Protocol, Server};
use crate::reach::{self, forward_to};

/// How long one answer may take: Pods are looked at in between.
const ANSWER: Duration = Duration::from_secs(5);
/// How long what may be a server's or a connection's beginning is put up with.
const PATIENCE: Duration = Duration::from_secs(20);
/// By which servers are told what to call their model. One that wasn't told may have it from the model's files.
const NAMES: [&str; 3] = ["--model_name", "--model-name", "--served-model-name"];

/// What is known of the model by asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It answers.
    Yes,
    /// It doesn't yet.
    NotYet,
    /// It can't be asked, and why: KServe's word is all there is.
    Nothing(String),
}

/// What one Pod's server says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Ready,
    Loading(String),
    /// It may be a beginning, or stay so.
    Unclear(String),
    Unknown(String),
}

/// Why a server said nothing.
#[derive(Debug)]
enum Silence {
    /// There is no way to it.
    Way(reach::Error),
    /// It answered something else, or nothing.
    Server(predict::Error),
}

/// The question, put again and again.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// The Pods whose servers said yes.
    ready: BTreeSet<String>,
    /// Since when nothing else is heard.
    unclear: Option<Instant>,
    /// The last that was heard.
    words: Option<String>,
}

impl Asking {
    /// Asks each Pod that is to stay and hasn't said yes yet, up to the first that doesn't.
    pub(super) async fn ask(&mut self, cluster: &Cluster, state: &State, sees_pods: bool) -> Said {
        let predictor = &state.service["spec"]["predictor"];
        // A server of several models, which come to it later, has none of the service's name.
        if predictor["model"].is_object() && storage_uri(predictor).is_none() {
            return Said::Yes;
        }
        let pods: Vec<&Value> = state
            .newest_pods()
            .into_iter()
            .filter(|pod| is_predictors(pod))
            .collect();
        if pods.is_empty() {
            let why = "none of its Pods is seen".to_owned();
            let word = if sees_pods {
                Word::Unclear(why)
            } else {
                Word::Unknown(why)
            };
            return self.heard(word).unwrap_or(Said::Yes);
        }
        for pod in pods {
            let name = text(&pod["metadata"]["name"]);
            if self.ready.contains(name) || opens_when_loaded(pod) {
                continue;
            }
            if let Some(said) = self.heard(ask_pod(cluster, state, pod).await) {
                return said;
            }
            self.ready.insert(name.to_owned());
        }
        Said::Yes
    }

    /// What a word comes to; none where it is yes.
    fn heard(&mut self, word: Word) -> Option<Said> {
        match word {
            Word::Ready => {
                self.unclear = None;
                None
            }
            Word::Loading(words) => {
                self.unclear = None;
                self.words = Some(words);
                Some(Said::NotYet)
            }
            Word::Unclear(why) => {
                let since = *self.unclear.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    return Some(Said::Nothing(why));
                }
                self.words = Some(why);
                Some(Said::NotYet)
            }
            Word::Unknown(why) => Some(Said::Nothing(why)),
        }
    }

    /// Why a service that is ready by KServe's word isn't, when there is no more time; none where the model was never asked.
    pub(super) fn at_last(&self, state: &State) -> Option<Finding> {
        let words = self.words.clone()?;
        let (namespace, name) = (state.namespace(), state.name());
        Some(
            Finding::new(
                Cause::ModelNotReady,
                format!("its Pods are ready, but the model in them doesn't answer: {words}"),
                format!("look at what the server does (tidewaiter logs {name} -n {namespace}), or give it more time with --timeout"),
            )
            .certain(false),
        )
    }
}

/// What the user should know of a service that is ready by KServe's word alone.
pub(super) fn remark(why: &str) -> String {
    format!("the model itself could not be asked ({why}): that it is ready is KServe's word")
}

async fn ask_pod(cluster: &Cluster, state: &State, pod: &Value) -> Word {
    let Ok(service) = serde_json::from_value::<DynamicObject>(state.service.clone()) else {
        return Word::Unknown("the service can't be read".to_owned());
    };
    // An image of the user's own may speak either.
    let protocols: &[Protocol] = match Protocol::of(&Deployed::from(service)) {
        Protocol::V1 => &[Protocol::V1, Protocol::V2],
        Protocol::V2 => &[Protocol::V2, Protocol::V1],
        Protocol::Grpc => &[Protocol::Grpc],
    };
    for protocol in protocols {
        let asked = tokio::time::timeout(ANSWER * 2, is_ready(cluster, state, pod, *protocol)).await;
        match asked {
            Err(_) => {
                return Word::Unclear(format!(
                    "a port of Pod {} isn't forwarded in time",
                    text(&pod["metadata"]["name"])
                ));
            }
            Ok(Err(Silence::Server(predict::Error::NoRoute { .. }))) => {}
            Ok(answer) => return understood(answer, is_told(pod)),
        }
    }
    Word::Unknown("its server isn't asked for it in any protocol that is known here".to_owned())
}

async fn is_ready(cluster: &Cluster, state: &State, pod: &Value, protocol: Protocol) -> Result<bool, Silence> {
    let endpoint = forward_to(cluster, state.namespace(), pod, protocol.way()).await;
    let endpoint = endpoint.map_err(Silence::Way)?;
    let connection = Connection {
        timeout: ANSWER,
        ..Connection::default()
    };
    let server = Server::connect(&endpoint, protocol, state.name(), &connection).await;
    let answer = match server {
        Ok(mut server) => server.is_ready().await,
        Err(error) => Err(error),
    };
    answer.map_err(Silence::Server)
}

fn understood(answer: Result<bool, Silence>, is_told: bool) -> Word {
    match answer {
        Ok(true) => Word::Ready,
        Ok(false) => Word::Loading("its server says that it isn't ready".to_owned()),
        Err(Silence::Way(reach::Error::Cluster(error @ cluster::Error::Forbidden { .. }))) => {
            Word::Unknown(format!("{error}; {}", error.next()))
        }
        Err(Silence::Way(error)) => Word::Unclear(error.to_string()),
        Err(Silence::Server(error)) => match error {
            predict::Error::NotAllowed { .. } => Word::Unknown(error.to_string()),
            // It takes the connection, and is busy.
            predict::Error::Timeout { .. } | predict::Error::Failed { .. } => Word::Loading(error.to_string()),
            // KServe's own servers begin without a model that they can't load.
            predict::Error::NoModel { .. } if is_told => Word::Loading(error.to_string()),
            error => Word::Unclear(error.to_string()),
        },
    }
}

fn is_predictors(pod: &Value) -> bool {
    matches!(text(&pod["metadata"]["labels"]["component"]), "" | "predictor")
}

fn servers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["spec"]["containers"].as_array().into_iter().flatten()
}

/// Triton loads its models before it opens a port (`main.cc`: `TRITONSERVER_ServerNew`, then `StartEndpoints`). It knows them by their folders' names, and doesn't
/// tell one that it has no such model from one that isn't ready.
fn opens_when_loaded(pod: &Value) -> bool {
    servers(pod).any(|container| text(&container["image"]).contains("tritonserver"))
}

/// Whether the server was told the model's name, which is the service's.
fn is_told(pod: &Value) -> bool {
    let words = servers(pod).flat_map(|container| [&container["command"], &container["args"]]);
    let mut words = words.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    words.any(|word| NAMES.iter().any(|name| word.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reach::tests::{Answers, cluster};
    use crate::wait::{Options, Outcome, Stage, wait};

    fn state(predictor: Value, container: Value) -> State {
        let pod = json!({"metadata": {"name": "fraud-predictor-1", "namespace": "team-a"}, "spec": {"containers": [container]}});
        State {
            service: json!({
                "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
                "metadata": {"name": "fraud", "namespace": "team-a"}, "spec": {"predictor": predictor},
            }),
            pods: vec![pod],
            ..State::default()
        }
    }

    fn mlserver() -> State {
        let model = json!({"model": {"modelFormat": {"name": "mlflow"}, "protocolVersion": "v2", "storageUri": "s3://m/fraud"}});
        state(
            model,
            json!({"name": "kserve-container", "image": "docker.io/seldonio/mlserver:1.7.1"}),
        )
    }

    fn server(error: predict::Error) -> Result<bool, Silence> {
        Err(Silence::Server(error))
    }

    fn no_model() -> predict::Error {
        predict::Error::NoModel {
            model: "fraud".to_owned(),
            words: "Model with name fraud does not exist.".to_owned(),
        }
    }

    #[tokio::test]
    async fn where_no_port_may_be_forwarded_kserves_word_counts_and_the_right_is_named() {
        let said = Asking::default()
            .ask(&cluster(Answers::forbidding()), &mlserver(), true)
            .await;
        let Said::Nothing(why) = said else { panic!("{said:?}") };
        insta::assert_snapshot!(remark(&why), @"the model itself could not be asked (not allowed to create pods/portforward fraud-predictor-1 in namespace team-a; ask for a role with the verb create on pods/portforward in namespace team-a): that it is ready is KServe's word");
    }

    /// What comes of a wait for a service that KServe calls ready, where the API server answers so to who wants a port forwarded.
    async fn waited(forward: Value) -> Outcome {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let mut state = mlserver();
        state.service["metadata"]["generation"] = json!(1);
        state.service["status"] = json!({"observedGeneration": 1, "conditions": ready});
        let mut pod = state.pods.remove(0);
        pod["status"] = json!({"conditions": ready});
        let list = |item: &Value| json!({"metadata": {"resourceVersion": "1"}, "items": [item]});
        let services = "/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices";
        let answers = Answers::from([
            (services, list(&state.service)),
            (
                "/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices/fraud",
                state.service.clone(),
            ),
            ("/api/v1/namespaces/team-a/pods", list(&pod)),
            ("/api/v1/namespaces/team-a/pods/fraud-predictor-1/portforward", forward),
        ]);
        let options = Options {
            namespace: "team-a".to_owned(),
            name: "fraud".to_owned(),
            timeout: Duration::from_secs(1),
            sent: None,
        };
        wait(&cluster(answers), &options, |_| {}).await.unwrap()
    }

    #[tokio::test]
    async fn a_service_is_ready_when_its_model_is_and_not_when_kserve_says_so() {
        let outcome = waited(json!({"kind": "Status", "code": 500, "message": "no such port"})).await;
        let Outcome::TimedOut { stage, finding, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(stage, Stage::Load);
        assert_eq!(finding.map(|finding| finding.cause), Some(Cause::ModelNotReady));
        let message = "pods \"x\" is forbidden: User \"eve\" cannot create resource \"pods/portforward\"";
        let no = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": message});
        let outcome = waited(no).await;
        let Outcome::Ready { remarks, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            remarks[0].contains("not allowed to create pods/portforward"),
            "{remarks:?}"
        );
    }

    #[test]
    fn a_model_that_is_loading_is_asked_again_for_as_long_as_it_takes() {
        let mut asking = Asking::default();
        assert_eq!(asking.at_last(&mlserver()), None, "nobody asked it");
        let word = understood(Ok(false), false);
        assert_eq!(asking.heard(word), Some(Said::NotYet));
        let finding = asking.at_last(&mlserver()).unwrap();
        assert_eq!((finding.cause, finding.certain), (Cause::ModelNotReady, false));
        assert!(finding.next.contains("tidewaiter logs fraud -n team-a"), "{finding:?}");
        let busy = predict::Error::Timeout {
            url: "http://127.0.0.1:1/".to_owned(),
            seconds: 5,
        };
        asking.unclear = Instant::now().checked_sub(PATIENCE);
        assert_eq!(asking.heard(understood(server(busy), false)), Some(Said::NotYet));
        assert_eq!(asking.heard(understood(Ok(true), false)), None);
    }

    #[test]
    fn a_server_that_was_told_the_name_and_has_no_such_model_has_none() {
        assert!(matches!(understood(server(no_model()), true), Word::Loading(_)));
        let told = |args: Value| is_told(&json!({"spec": {"containers": [{"args": args}]}}));
        assert!(told(json!(["--model_name=fraud"])) && told(json!(["--served-model-name", "fraud"])));
        assert!(!told(json!(["--http_port=8080"])));
    }

    #[test]
    fn a_server_that_calls_its_model_otherwise_is_believed_after_a_while() {
        let mut asking = Asking::default();
        assert_eq!(asking.heard(understood(server(no_model()), false)), Some(Said::NotYet));
        asking.unclear = Instant::now().checked_sub(PATIENCE);
        let said = asking.heard(understood(server(no_model()), false));
        assert!(
            matches!(&said, Some(Said::Nothing(why)) if why.contains("the server has no model `fraud`")),
            "{said:?}"
        );
    }

    #[tokio::test]
    async fn who_can_not_say_it_is_not_asked() {
        // No answer of this cluster's would be a yes.
        let cluster = cluster(Answers::forbidding());
        let triton =
            json!({"model": {"modelFormat": {"name": "onnx"}, "protocolVersion": "v2", "storageUri": "s3://m/fraud"}});
        let triton = state(triton, json!({"image": "nvcr.io/nvidia/tritonserver:23.05-py3"}));
        assert_eq!(Asking::default().ask(&cluster, &triton, true).await, Said::Yes);
        let several = state(json!({"model": {"modelFormat": {"name": "sklearn"}}}), json!({}));
        assert_eq!(Asking::default().ask(&cluster, &several, true).await, Said::Yes);
        let mut unseen = mlserver();
        unseen.pods.clear();
        assert_eq!(
            Asking::default().ask(&cluster, &unseen, true).await,
            Said::NotYet,
            "its Pods may come"
        );
        assert!(matches!(
            Asking::default().ask(&cluster, &unseen, false).await,
            Said::Nothing(_)
        ));
    }
}
