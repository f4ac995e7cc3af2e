//! What others feel of policies that do all that a policy must not: the server's p99 with reviews by such policies beside them, and without.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tidewaiter_e2e::policy::{liar, unruly};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fixture::Fixture;
use crate::load::{Round, Target, round};
use crate::servers::{LASTING, ROUNDS, Server};

/// One review after the other in each: one for what waits, and the others for the rest, turn by turn.
const CONNECTIONS: usize = 4;

/// In reviews, all that law 7 of DESIGN names, and what else a policy can do to a server. The first one waits.
fn kinds() -> [(&'static str, Value); 8] {
    [
        // Host calls to a store that takes connections and says nothing.
        ("stall", json!({"stall": "s3://silent/model"})),
        ("loop", json!("loop")),
        ("trap", json!("trap")),
        ("hoard", json!("hoard")),
        ("flood", json!("flood")),
        ("rename", json!("rename")),
        ("recurse", json!("recurse")),
        // A little less than settings may have.
        ("settings", json!({"label": "x".repeat(250 << 10)})),
    ]
}

/// Turn by turn, in one server.
pub(crate) struct Hostile {
    pub(crate) quiet: Vec<Round>,
    pub(crate) beside: Vec<Round>,
    /// Reviews by hostile policies in all rounds.
    pub(crate) reviews: usize,
}

pub(crate) async fn measure() -> Result<Hostile> {
    let fixture = Fixture::new().await?;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let backend = json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "StorageBackend",
        "metadata": {"name": "silent"},
        "spec": {
            "type": "s3",
            "serves": ["s3://silent/"],
            "s3": {"endpoint": format!("http://{}", silent.local_addr()?)},
            "credentials": {"anonymous": {}},
        },
    });
    fs::write(fixture.config().join("silent.yaml"), backend.to_string())?;
    let component = fs::read(unruly()?)?;
    fs::write(fixture.config().join("unruly.wasm"), &component)?;
    let kinds = kinds();
    for (name, does) in &kinds {
        write(&fixture, name, &policy(name, "unruly.wasm", &json!({"does": does})))?;
    }
    let server = Server::webhook(&fixture)?;
    server.answering(&fixture).await?;
    let target = server.target(&fixture);
    let mut hostile = Hostile {
        quiet: Vec::new(),
        beside: Vec::new(),
        reviews: 0,
    };
    let reviews: Vec<Bytes> = kinds
        .iter()
        .map(|(name, _)| of_namespace(&fixture.review, name))
        .collect::<Result<_>>()?;
    for ((name, _), review) in kinds.iter().zip(&reviews) {
        let mut connection = target.connect().await?;
        let answer = target.post(&mut connection, review).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(
            answer.contains("\"warnings\""),
            "the policy {name} did nothing that is told: {answer}"
        );
    }
    // Calls itself what nothing may be called.
    fs::write(fixture.config().join("liar.wasm"), liar(&component)?)?;
    let sent = Arc::new(AtomicUsize::new(0));
    for turn in 0..ROUNDS {
        hostile.quiet.push(round(&target, &fixture.review, LASTING).await?);
        let (waits, others) = reviews.split_at(1);
        let running: Vec<_> = (0..CONNECTIONS)
            .map(|at| beside(&target, if at == 0 { waits } else { others }, at, &sent))
            .collect();
        // The configuration is loaded again meanwhile, with what lies in it.
        write(&fixture, "liar", &policy("liar", "liar.wasm", &json!({"turn": turn})))?;
        hostile.beside.push(round(&target, &fixture.review, LASTING).await?);
        fs::remove_file(fixture.config().join("liar.yaml"))?;
        for task in running {
            if task.is_finished() {
                task.await??;
            } else {
                task.abort();
            }
        }
        // What is under way ends with its connection, once the server has seen that it is gone.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    hostile.reviews = sent.load(Ordering::Relaxed);
    ensure!(
        hostile.reviews >= kinds.len() * ROUNDS,
        "hardly any hostile policy ran: {} reviews",
        hostile.reviews
    );
    Ok(hostile)
}

fn policy(name: &str, file: &str, settings: &Value) -> Value {
    json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "WasmPolicy",
        "metadata": {"name": name},
        "spec": {
            "module": {"file": file},
            "settings": settings,
            "capabilities": ["cluster", "storage"],
            "match": {"namespaces": [name]},
            "failurePolicy": "ignore",
        },
    })
}

fn write(fixture: &Fixture, name: &str, object: &Value) -> Result<()> {
    fs::write(fixture.config().join(format!("{name}.yaml")), object.to_string()).context("cannot write a policy")
}

/// Sends reviews for hostile policies, one after the other, until it is aborted.
fn beside(target: &Target, reviews: &[Bytes], first: usize, sent: &Arc<AtomicUsize>) -> JoinHandle<Result<()>> {
    let (target, reviews, sent) = (target.clone(), reviews.to_vec(), Arc::clone(sent));
    tokio::spawn(async move {
        let mut connection = target.connect().await?;
        for review in reviews.iter().cycle().skip(first) {
            target.post(&mut connection, review).await?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// The same review of a service in another namespace.
fn of_namespace(review: &Bytes, namespace: &str) -> Result<Bytes> {
    let mut review: Value = serde_json::from_slice(review)?;
    let request = review.get_mut("request").context("a review without a request")?;
    request["namespace"] = json!(namespace);
    request["object"]["metadata"]["namespace"] = json!(namespace);
    Ok(review.to_string().into())
}
