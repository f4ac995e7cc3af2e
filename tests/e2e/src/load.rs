//! Services that are created all the time, while something happens to Tidewaiter: what their users saw, and what was lost.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::install::without_pods;
use crate::let_pass::LetPass;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::{Answer, Api, Cluster, Namespace};

/// How long after its creation a service may come to its credentials: what the leader promises for those that slipped past.
pub const SOON: Duration = Duration::from_mins(1);

/// Creates services at a steady rate until it is finished.
pub struct Load {
    namespace: Arc<Namespace>,
    let_pass: LetPass,
    running: Arc<Running>,
    thread: Option<JoinHandle<Outcome>>,
}

#[derive(Default)]
struct Running {
    stop: AtomicBool,
    created: AtomicUsize,
}

/// What became of the services.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many there are.
    pub created: usize,
    /// How many had no credentials in the answer to their creation.
    pub slipped: usize,
    /// How long after its creation the last of those came to them.
    pub latest: Duration,
    /// Why: what was warned of with the answer, and what the API server wrote of the webhooks that it couldn't ask.
    pub reasons: Vec<String>,
    /// How many the API server let pass because it gave up waiting.
    pub too_late: usize,
    /// Answers that no user should see: of the API server that refused, or couldn't ask its webhooks.
    pub refused: Vec<String>,
    /// Those that had no credentials in time.
    pub lost: Vec<String>,
    /// How many tries had no answer, or that of an API server without its store; each was repeated, as its user would.
    pub unanswered: usize,
    /// How many tries were turned away because nobody answered for Tidewaiter, in a namespace that fails closed; each was repeated, as its user would.
    pub turned_away: usize,
    /// The longest creation that was answered at its first try.
    pub slowest: Duration,
}

impl Load {
    /// Begins, in a namespace of its own, with a service each `every`. No Pod of theirs runs. `{}` in the URI is another number for each: a model that no
    /// cache knows.
    pub fn begin(cluster: &Cluster, name: &str, uri: &str, every: Duration) -> Result<Self> {
        Self::begin_in(Arc::new(cluster.namespace(name)?), uri, every, has_credentials)
    }

    /// The same in this namespace, where nothing else runs. `filled` says whether a service was seen to.
    pub fn begin_in(namespace: Arc<Namespace>, uri: &str, every: Duration, filled: fn(&Value) -> bool) -> Result<Self> {
        // Admission is what is tried here, and two cores are not enough for a model server each.
        without_pods(&namespace)?;
        let running = Arc::new(Running::default());
        let worker = Worker {
            api: namespace.cluster().api()?,
            namespace: namespace.name().to_owned(),
            filled,
            uri: uri.to_owned(),
            every,
            running: Arc::clone(&running),
            waiting: Vec::new(),
            outcome: Outcome::default(),
        };
        Ok(Self {
            let_pass: LetPass::from_now(namespace.cluster()),
            namespace,
            running,
            thread: Some(std::thread::spawn(move || worker.run())),
        })
    }

    /// Where its services are.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Waits until so many more services were created.
    pub fn go_on(&self, more: usize) -> Result<()> {
        let target = self.running.created.load(Ordering::Relaxed) + more;
        let limit = Instant::now() + Duration::from_mins(2);
        while self.running.created.load(Ordering::Relaxed) < target {
            ensure!(Instant::now() < limit, "fewer than {more} services in two minutes");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Creates no more, and waits until each has its credentials or its time is over.
    pub fn finish(mut self) -> Result<Outcome> {
        self.end()
    }

    fn end(&mut self) -> Result<Outcome> {
        self.running.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the load is finished")?;
        match thread.join() {
            Ok(mut outcome) => {
                outcome.too_late = self.let_pass.too_late();
                outcome.reasons.extend(self.let_pass.lines());
                if let Err(error) = self.have_secrets() {
                    outcome.lost.push(format!("{error:#}"));
                }
                Ok(outcome)
            }
            Err(_) => bail!("the thread that creates services panicked"),
        }
    }

    /// The Secrets that the services name are there, each with a key.
    fn have_secrets(&self) -> Result<()> {
        let services: Value = serde_json::from_str(&self.namespace.kubectl(&["get", "isvc", "-o", "json"])?)?;
        let services = services["items"].as_array().into_iter().flatten();
        let secrets: BTreeSet<&str> = services.filter_map(secret).collect();
        for secret in secrets {
            let what = format!("services name the Secret {secret}, and it has a key");
            self.namespace.cluster().until(&what, SOON, || {
                let secret = self.namespace.get(&format!("secret/{secret}"))?;
                let key = secret["data"]["AWS_SECRET_ACCESS_KEY"].as_str();
                Ok(key.is_some_and(|key| !key.is_empty()).then_some(()))
            })?;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A test that fails leaves no load behind for the next one.
        self.running.stop.store(true, Ordering::Relaxed);
    }
}

impl Outcome {
    /// Nothing was refused, and nothing was lost.
    pub fn nothing_lost(&self) -> Result<&Self> {
        ensure!(
            self.created > 0 && self.refused.is_empty() && self.lost.is_empty(),
            "{self:#?}"
        );
        Ok(self)
    }

    /// The same, and each had its credentials at once.
    pub fn all_at_once(&self) -> Result<&Self> {
        self.all_at_once_but(0)
    }

    /// The same, where each review may take up to what the API server waits for: one may be too late, on a machine that stands still now and then, if the API
    /// server says that it was that.
    pub fn all_at_once_but_one_too_late(&self) -> Result<&Self> {
        self.all_at_once_but(self.too_late.min(1))
    }

    fn all_at_once_but(&self, slipped: usize) -> Result<&Self> {
        self.nothing_lost()?;
        ensure!(
            self.slipped <= slipped && self.unanswered == 0 && self.turned_away == 0,
            "{self:#?}"
        );
        Ok(self)
    }
}

/// As a row of a table of faults says it.
impl Display for Outcome {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            created,
            slipped,
            latest,
            reasons: _,
            too_late: _,
            refused,
            lost,
            unanswered,
            turned_away,
            slowest,
        } = self;
        write!(
            to,
            "{created} services; {} filled in at once (the slowest in {} ms), {slipped} within {} s",
            created - slipped,
            slowest.as_millis(),
            latest.as_secs() + u64::from(latest.subsec_nanos() > 0),
        )?;
        write!(
            to,
            "; tries without an answer: {unanswered}; turned away: {turned_away}; refused: {}; lost: {}",
            refused.len(),
            lost.len()
        )
    }
}

struct Worker {
    api: Api,
    namespace: String,
    filled: fn(&Value) -> bool,
    uri: String,
    every: Duration,
    running: Arc<Running>,
    waiting: Vec<(String, Instant)>,
    outcome: Outcome,
}

impl Worker {
    fn run(mut self) -> Outcome {
        let mut next = Instant::now();
        let mut looked = next;
        let mut turn = 0;
        while !self.running.stop.load(Ordering::Relaxed) {
            self.create(turn);
            if !self.waiting.is_empty() && looked.elapsed() > Duration::from_secs(1) {
                self.look();
                looked = Instant::now();
            }
            turn += 1;
            // What took long isn't made up for by a burst.
            next = (next + self.every).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        while !self.waiting.is_empty() {
            self.look();
            std::thread::sleep(Duration::from_millis(500));
        }
        self.outcome
    }

    /// Tries until there is an answer, as any client does.
    fn create(&mut self, turn: usize) {
        let name = &format!("load-{turn}");
        let service = service(name, &self.uri.replace("{}", &turn.to_string()));
        let first = Instant::now();
        let mut tries = 0;
        loop {
            let asked = Instant::now();
            tries += 1;
            match self.api.create(&self.namespace, &service) {
                Ok(answer) if answer.admitted() => {
                    if tries == 1 {
                        self.outcome.slowest = self.outcome.slowest.max(asked.elapsed());
                    }
                    return self.created(name, (self.filled)(&answer.body), answer.warnings);
                }
                // An earlier try was stored, and its answer lost.
                Ok(answer) if answer.status == 409 && tries > 1 => return self.created(name, false, answer.warnings),
                Ok(answer) if is_shut(&answer) => self.outcome.turned_away += 1,
                Ok(answer) if !without_store(&answer) => {
                    let refused = format!("{name}: {} {}", answer.status, answer.message());
                    return self.outcome.refused.push(refused);
                }
                Ok(_) | Err(_) => self.outcome.unanswered += 1,
            }
            if first.elapsed() > SOON {
                return self.outcome.refused.push(format!("{name}: no answer within a minute"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn created(&mut self, name: &str, filled: bool, warnings: Vec<String>) {
        self.outcome.created += 1;
        self.running.created.fetch_add(1, Ordering::Relaxed);
        if !filled {
            self.outcome.slipped += 1;
            let warned = warnings.into_iter().map(|warning| format!("{name}: {warning}"));
            self.outcome.reasons.extend(warned);
            self.waiting.push((name.to_owned(), Instant::now()));
        }
    }

    /// Looks after those that had no credentials at once.
    fn look(&mut self) {
        let found = self.api.services(&self.namespace);
        let services = found.ok().filter(Answer::admitted).map(|answer| answer.body);
        let services = services.as_ref().and_then(|list| list["items"].as_array());
        let seen_to = self.filled;
        let filled = |name: &str| {
            let mut services = services.into_iter().flatten();
            services.any(|service| service["metadata"]["name"] == name && seen_to(service))
        };
        let outcome = &mut self.outcome;
        self.waiting.retain(|(name, since)| {
            if filled(name) {
                outcome.latest = outcome.latest.max(since.elapsed());
                return false;
            }
            if since.elapsed() > SOON {
                outcome.lost.push(name.clone());
                return false;
            }
            true
        });
    }
}

/// A service that is to be filled in.
pub fn service(name: &str, uri: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": uri}}},
    })
}

/// Whether a service is told of its credentials.
pub fn has_credentials(service: &Value) -> bool {
    secret(service).is_some()
}

/// The Secret with a service's credentials.
fn secret(service: &Value) -> Option<&str> {
    service["metadata"]["annotations"]["serving.kserve.io/storageSecretName"].as_str()
}

/// Whether the API server was at a loss without our doing: it has no store, or KServe's own webhook, which reads from it, has no answer.
fn without_store(answer: &Answer) -> bool {
    (answer.status >= 500 || answer.status == 429) && !answer.message().contains("tidewaiter.dev")
}

/// Whether a namespace fails closed, and nobody answered for it.
fn is_shut(answer: &Answer) -> bool {
    answer.status >= 500
        && answer.message().contains("failed calling webhook")
        && answer.message().contains("-or-fail.tidewaiter.dev")
}
