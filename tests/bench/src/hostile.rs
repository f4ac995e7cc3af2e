//! What others feel of policies that do all that a policy must not: the server's p99 with reviews by such policies beside them, and without.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tidewaiter_e2e::policy::unruly;
use tokio::task::JoinHandle;

use crate::fixture::Fixture;
use crate::load::{Round, Target, round};
use crate::servers::{LASTING, ROUNDS, Server};

/// One review after the other in each.
const CONNECTIONS: usize = 4;

/// Turn by turn, in one server.
pub(crate) struct Hostile {
    pub(crate) quiet: Vec<Round>,
    pub(crate) beside: Vec<Round>,
    /// Reviews by hostile policies in all rounds.
    pub(crate) reviews: usize,
}

pub(crate) async fn measure() -> Result<Hostile> {
    let fixture = Fixture::new().await?;
    fs::copy(unruly()?, fixture.config().join("unruly.wasm"))?;
    let kinds = ["loop", "trap", "hoard", "flood", "rename"];
    for does in kinds {
        let policy = json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": does},
            "spec": {
                "module": {"file": "unruly.wasm"},
                "settings": {"does": does},
                "capabilities": ["cluster", "storage"],
                "match": {"namespaces": [does]},
                "failurePolicy": "ignore",
            },
        });
        fs::write(fixture.config().join(format!("{does}.yaml")), policy.to_string())?;
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
        .map(|does| of_namespace(&fixture.review, does))
        .collect::<Result<_>>()?;
    for review in &reviews {
        let mut connection = target.connect().await?;
        let answer = target.post(&mut connection, review).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(
            answer.contains("\"warnings\""),
            "a hostile policy was not told of: {answer}"
        );
    }
    let sent = Arc::new(AtomicUsize::new(0));
    for _ in 0..ROUNDS {
        hostile.quiet.push(round(&target, &fixture.review, LASTING).await?);
        let running: Vec<_> = (0..CONNECTIONS)
            .map(|at| beside(&target, &reviews, at, &sent))
            .collect();
        hostile.beside.push(round(&target, &fixture.review, LASTING).await?);
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
    Ok(hostile)
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
