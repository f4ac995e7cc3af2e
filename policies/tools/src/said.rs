//! What policies write to the log while they run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber as _;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// One line of a policy's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Whose it is.
    pub policy: String,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// As the policy wrote it.
    pub message: String,
}

/// Runs something, and gives what policies write to the log in it.
pub async fn listening<T>(run: impl Future<Output = T>) -> (T, Vec<LogLine>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let done = run.with_subscriber(Listener(Arc::clone(&lines))).await;
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    (done, lines)
}

/// Takes the events that name a policy and an object, as the engine writes a policy's lines.
struct Listener(Arc<Mutex<Vec<LogLine>>>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.fields().field("policy").is_some()
            && metadata.fields().field("object").is_some()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut line = LogLine {
            level: level.to_owned(),
            ..LogLine::default()
        };
        event.record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for LogLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "policy" => value.clone_into(&mut self.policy),
            "message" => value.clone_into(&mut self.message),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_lines_of_policies_are_heard() {
        let (done, lines) = listening(async {
            tracing::info!("something else");
            tokio::task::yield_now().await;
            let (policy, object) = ("owner", "team-a/fraud");
            tracing::info!(policy, object, "{}", "it has no team");
            7
        })
        .await;
        let line = LogLine {
            policy: "owner".into(),
            level: "info".into(),
            message: "it has no team".into(),
        };
        assert_eq!((done, lines), (7, vec![line]));
    }
}
