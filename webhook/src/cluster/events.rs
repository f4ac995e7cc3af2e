//! What is wrong with an object of the configuration, and that it no longer is, told where its author looks: in the object's events.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tidewaiter_world::{ObjectRef, Problem, digest_of};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::clock;
use crate::namespaces::cluster::FIELD_MANAGER;

/// So long the API server keeps an event, unless its admin says otherwise.
const KEPT: Duration = Duration::from_hours(1);
/// So long an event's text may be, in bytes (`k8s.io/kubernetes/pkg/apis/core/validation/events.go`).
const NOTE: usize = 1024;
/// Where the events of objects are that belong to no namespace: the API server takes them nowhere else (`validateEvent`, same file).
const CLUSTER: &str = "default";
/// Nothing that somebody needs waits longer than this for an API server that doesn't take an event.
const PATIENCE: Duration = Duration::from_secs(2);
/// An event's name begins with its object's, which may itself be as long as a name can be.
const NAME: usize = 200;

/// `Normal` or `Warning`, and the reason in one word.
pub(crate) type Kind = (&'static str, &'static str);

/// The reason of what is wrong with an object by itself.
const INVALID: &str = "Invalid";

/// Something that is wrong with an object, by the word that its condition has for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wrong {
    object: ObjectRef,
    reason: &'static str,
    message: String,
}

impl Wrong {
    /// With a backend whose store doesn't do what it is for.
    pub(crate) fn with_store(backend: &str, reason: &'static str, message: String) -> Self {
        Self {
            object: ObjectRef::cluster("StorageBackend", backend),
            reason,
            message,
        }
    }

    /// With an object of the configuration; none where a whole file is meant.
    fn of(problem: &Problem) -> Option<Self> {
        Some(Self {
            object: problem.object.clone()?,
            reason: INVALID,
            message: problem.message.clone(),
        })
    }

    /// Whether `other` says of the same object that this is so still, be it in other words: a store is out of reach for many reasons in a row.
    fn goes_on_as(&self, other: &Self) -> bool {
        self == other || (self.reason != INVALID && self.object == other.object && self.reason == other.reason)
    }
}

/// Tells each problem once as long as its event is kept.
pub(super) struct Events {
    client: Client,
    told: HashMap<String, Instant>,
    /// What was wrong the last time.
    open: BTreeSet<Wrong>,
}

impl Events {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            told: HashMap::new(),
            open: BTreeSet::new(),
        }
    }

    /// Tells what is wrong with objects that `reference` knows, and what of it is no more. What can't be told is in the log all the same.
    pub(super) async fn tell(
        &mut self,
        problems: &[Problem],
        stores: Vec<Wrong>,
        reference: impl Fn(&ObjectRef) -> Option<ObjectReference>,
    ) {
        self.told.retain(|_, since| since.elapsed() < KEPT);
        let now: BTreeSet<_> = problems.iter().filter_map(Wrong::of).chain(stores).collect();
        let before = std::mem::replace(&mut self.open, now.clone());
        let gone = before
            .iter()
            .filter(|wrong| !now.iter().any(|other| wrong.goes_on_as(other)))
            .map(|wrong| (wrong, ("Normal", "Mended"), "no more: "));
        let all = now.iter().map(|wrong| (wrong, ("Warning", wrong.reason), ""));
        let mut answers = true;
        for (wrong, kind, words) in gone.chain(all) {
            let Some(object) = reference(&wrong.object) else {
                continue;
            };
            if answers {
                let event = event(object, kind, "Configure", &format!("{words}{}", wrong.message));
                answers = self.write(event).await;
            }
            if !answers {
                // In the next round, what is no more as well.
                self.open.insert(wrong.clone());
            }
        }
    }

    /// Whether there was an answer.
    async fn write(&mut self, event: Event) -> bool {
        let name = event.metadata.name.clone().unwrap_or_default();
        if self.told.contains_key(&name) {
            return true;
        }
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            // Another replica told it, or this one before it was restarted.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
            Ok(Err(error)) => {
                debug!(namespace, name, %error, "can't write an event");
                return true;
            }
            Err(_) => {
                debug!(namespace, name, "can't write an event: no answer");
                return false;
            }
        }
        self.told.insert(name, Instant::now());
        true
    }
}

/// Tells something of one object, once. What can't be told is in the log all the same.
pub(crate) async fn announce(client: &Client, object: ObjectReference, kind: Kind, message: &str) {
    let event = event(object, kind, "Review", message);
    let api: Api<Event> = Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or_default());
    match timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => debug!(%error, "can't write an event"),
        Err(_) => debug!("can't write an event: no answer"),
    }
}

/// Named by its object and text, so that all replicas together write one.
fn event(object: ObjectReference, (type_, reason): Kind, action: &str, message: &str) -> Event {
    let name = object.name.clone().unwrap_or_default();
    let identity = format!("{} {message}", object.uid.as_deref().unwrap_or_default());
    let digest = digest_of(identity.as_bytes());
    let digest = digest.trim_start_matches("sha256:");
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", &name[..name.floor_char_boundary(NAME)], &digest[..16])),
            // Of an object that belongs to no namespace, too.
            namespace: Some(object.namespace.clone().unwrap_or_else(|| CLUSTER.to_owned())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(clock::now())),
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(action.to_owned()),
        note: Some(message[..message.floor_char_boundary(NOTE)].to_owned()),
        reporting_controller: Some(format!("{FIELD_MANAGER}.dev/webhook")),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        regarding: Some(object),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server that keeps what is created, and knows each name once.
    fn server() -> (Client, Arc<Mutex<Vec<Value>>>) {
        server_that_answers(Arc::new(AtomicBool::new(true)))
    }

    /// The same while this holds.
    fn server_that_answers(answers: Arc<AtomicBool>) -> (Client, Arc<Mutex<Vec<Value>>>) {
        let kept = Arc::new(Mutex::new(Vec::<Value>::new()));
        let keep = Arc::clone(&kept);
        let service = tower::service_fn(move |request: axum::http::Request<Body>| {
            let keep = Arc::clone(&keep);
            let answers = answers.load(Ordering::Relaxed);
            async move {
                if !answers {
                    std::future::pending::<()>().await;
                }
                let path = request.uri().path();
                let namespace = path.strip_prefix("/apis/events.k8s.io/v1/namespaces/");
                let namespace = namespace
                    .and_then(|path| path.strip_suffix("/events"))
                    .map(str::to_owned);
                let body = request.into_body().collect_bytes().await.unwrap();
                let event: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(event["metadata"]["namespace"].as_str(), namespace.as_deref());
                let mut kept = keep.lock().unwrap();
                let there = kept
                    .iter()
                    .any(|other| other["metadata"]["name"] == event["metadata"]["name"]);
                let (code, answer) = if there {
                    let status = json!({"kind": "Status", "status": "Failure", "reason": "AlreadyExists", "message": "there", "code": 409});
                    (409, status)
                } else {
                    kept.push(event.clone());
                    (201, event)
                };
                let mut response = axum::http::Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = axum::http::StatusCode::from_u16(code).unwrap();
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        (Client::new(service, "default"), kept)
    }

    fn problem(kind: &str, name: &str) -> Problem {
        Problem {
            object: Some(ObjectRef::namespaced(kind, "a", name)),
            at: None,
            message: "the prefix `x` has no scheme".into(),
            in_use: false,
        }
    }

    fn known(object: &ObjectRef) -> ObjectReference {
        ObjectReference {
            kind: Some(object.kind.clone()),
            namespace: object.namespace.clone(),
            name: Some(object.name.clone()),
            uid: Some("uid".into()),
            ..ObjectReference::default()
        }
    }

    fn reference(object: &ObjectRef) -> Option<ObjectReference> {
        (object.kind == "Secret").then(|| known(object))
    }

    #[tokio::test]
    async fn a_problem_of_a_secret_is_one_event_whoever_tells_it_and_how_often() {
        let (client, kept) = server();
        let problems = [problem("Secret", "mine"), problem("StorageBackend", "minio")];
        let (mut one, mut other) = (Events::new(client.clone()), Events::new(client));
        for events in [&mut one, &mut other] {
            events.tell(&problems, Vec::new(), reference).await;
            events.tell(&problems, Vec::new(), reference).await;
        }
        let kept = kept.lock().unwrap();
        let [event] = &**kept else { panic!("{kept:?}") };
        assert_eq!(event["regarding"]["name"], "mine");
        assert_eq!(event["regarding"]["uid"], "uid");
        assert_eq!(
            (&event["type"], &event["note"]),
            (&json!("Warning"), &json!("the prefix `x` has no scheme"))
        );
    }

    #[tokio::test]
    async fn an_object_of_no_namespace_has_events_too_also_when_a_problem_goes() {
        let (client, kept) = server();
        let mut events = Events::new(client);
        let problem = Problem {
            object: Some(ObjectRef::cluster("WasmPolicy", "house")),
            ..problem("WasmPolicy", "house")
        };
        events
            .tell(std::slice::from_ref(&problem), Vec::new(), |object| Some(known(object)))
            .await;
        events.tell(&[problem], Vec::new(), |object| Some(known(object))).await;
        events.tell(&[], Vec::new(), |object| Some(known(object))).await;
        events.tell(&[], Vec::new(), |object| Some(known(object))).await;
        let kept = kept.lock().unwrap();
        let told: Vec<_> = kept
            .iter()
            .map(|event| (&event["type"], &event["reason"], &event["note"]))
            .collect();
        let words = "the prefix `x` has no scheme";
        assert_eq!(
            told,
            [
                (&json!("Warning"), &json!("Invalid"), &json!(words)),
                (&json!("Normal"), &json!("Mended"), &json!(format!("no more: {words}"))),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_nobody_takes_hold_up_nothing_and_are_told_once_they_are_taken() {
        let answers = Arc::new(AtomicBool::new(true));
        let (client, kept) = server_that_answers(Arc::clone(&answers));
        let mut events = Events::new(client);
        let problems = ["first", "second", "third"].map(|name| problem("Secret", name));
        events.tell(&problems[..1], Vec::new(), reference).await;
        answers.store(false, Ordering::Relaxed);
        let began = Instant::now();
        events.tell(&problems[1..], Vec::new(), reference).await;
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
        answers.store(true, Ordering::Relaxed);
        events.tell(&problems[1..], Vec::new(), reference).await;
        let kept = kept.lock().unwrap();
        let mut told: Vec<_> = kept
            .iter()
            .map(|event| {
                (
                    event["reason"].as_str().unwrap(),
                    event["regarding"]["name"].as_str().unwrap(),
                )
            })
            .collect();
        told[1..].sort_unstable();
        assert_eq!(
            told,
            [
                ("Invalid", "first"),
                ("Invalid", "second"),
                ("Invalid", "third"),
                ("Mended", "first")
            ]
        );
    }

    #[tokio::test]
    async fn a_store_that_is_silent_in_other_words_is_no_store_that_answers() {
        let (client, kept) = server();
        let mut events = Events::new(client);
        let silent = |why: &str| vec![Wrong::with_store("minio", "NoAnswer", why.to_owned())];
        for stores in [silent("refuses"), silent("not tried again yet: refuses"), Vec::new()] {
            events.tell(&[], stores, |object| Some(known(object))).await;
        }
        let kept = kept.lock().unwrap();
        let told: Vec<_> = kept.iter().map(|event| (&event["reason"], &event["note"])).collect();
        let words = [
            "refuses",
            "not tried again yet: refuses",
            "no more: not tried again yet: refuses",
        ]
        .map(|words| json!(words));
        assert_eq!(
            told,
            [
                (&json!("NoAnswer"), &words[0]),
                (&json!("NoAnswer"), &words[1]),
                (&json!("Mended"), &words[2]),
            ]
        );
        assert!(kept.iter().all(|event| event["metadata"]["namespace"] == "default"));
    }

    #[test]
    fn a_name_and_a_text_of_any_length_fit() {
        let long = ObjectReference {
            name: Some("s".repeat(253)),
            ..ObjectReference::default()
        };
        let event = event(long, ("Warning", "Invalid"), "Configure", &"é".repeat(2000));
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert_eq!(event.note.unwrap().len(), 1024);
    }
}
