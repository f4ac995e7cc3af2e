//! A policy for the tests of the tools: it breaks one law, as its settings say. `policy test` has to catch each.

use serde::Deserialize;
use tidewaiter_policy::{Operation, Policy, Request, Value, Verdict, cluster, log};

/// The policy.
#[derive(Debug)]
pub struct Planted;

/// What it does wrong.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Default: nothing.
    #[serde(default)]
    pub breaks: Breaks,
    /// Nobody's business.
    #[serde(default)]
    pub token: String,
    /// Everybody's business.
    #[serde(default)]
    pub team: String,
}

/// Which law.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaks {
    /// None.
    #[default]
    Nothing,
    /// It counts what it filled in before.
    Idempotent,
    /// It takes the first label that it is told of.
    Deterministic,
    /// It fills in whatever the user has there.
    UsersWord,
    /// It refuses what the user chose.
    Stubborn,
    /// It tells its token.
    NoLeak,
    /// It writes its token to the log.
    NoLeakLog,
    /// It panics where a service has no predictor.
    Answers,
    /// It panics where a CPU is a number.
    AnswersAmount,
    /// On an update it takes the first label that it is told of.
    DeterministicUpdate,
    /// On an update it fills in whatever the user has there.
    UsersWordUpdate,
    /// It tells its token on an update.
    NoLeakUpdate,
    /// It panics where there is an old object.
    AnswersUpdate,
    /// It panics where an object is large.
    AnswersLarge,
}

const PASSES: &str = "/metadata/annotations/passes";
const CPU: &str = "/spec/predictor/model/resources/limits/cpu";
const REPLICAS: &str = "/spec/predictor/minReplicas";

impl Policy for Planted {
    type Settings = Settings;
    const NAME: &'static str = "planted";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Breaks one law, as its settings say.";

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type": "object", "additionalProperties": false, "properties": {
                "breaks": {"enum": ["nothing", "idempotent", "deterministic", "users-word", "stubborn", "no-leak",
                    "no-leak-log", "answers", "deterministic-update", "users-word-update", "no-leak-update", "answers-update",
                    "answers-large", "answers-amount"], "default": "nothing"},
                "token": {"type": "string"},
                "team": {"type": "string", "description": "Whose services these are", "x-shown": true}}}"#,
        )
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        let object: Value = request.object.parse().unwrap_or_default();
        let predictor = object["spec"]["predictor"].as_object();
        let replicas = predictor.and_then(|predictor| predictor.get("minReplicas"));
        let own = predictor.is_some() && replicas.is_none();
        let update = request.operation == Operation::Update;
        let admit = Verdict::admit().warn(format!("for {}", settings.team));
        match settings.breaks {
            Breaks::Nothing if own => admit.fill(REPLICAS, 1, "one replica is enough to begin with"),
            Breaks::Idempotent if object.pointer(PASSES).is_none() => {
                admit.fill(PASSES, format!("{}", request.filled.len()), "counted")
            }
            Breaks::DeterministicUpdate if !update => admit,
            Breaks::Deterministic | Breaks::DeterministicUpdate => {
                let labels = cluster::namespace_labels();
                let first = labels.first().map(|label| label.key.clone()).unwrap_or_default();
                admit.warn(format!("of {first}"))
            }
            Breaks::UsersWordUpdate if own || update && predictor.is_some() => {
                admit.fill(REPLICAS, 1, "one replica is enough")
            }
            Breaks::UsersWord if predictor.is_some() => admit.fill(REPLICAS, 1, "one replica is enough"),
            Breaks::Stubborn if own => admit.fill(REPLICAS, 1, "one replica is enough"),
            Breaks::Stubborn if predictor.is_some() => {
                admit.deny("not-mine", "only this policy may set minReplicas", Some(REPLICAS))
            }
            Breaks::NoLeak => admit.warn(format!("asked with {}", settings.token)),
            Breaks::NoLeakUpdate if update => admit.warn(format!("asked with {}", settings.token)),
            Breaks::NoLeakLog => {
                log::write(log::Level::Info, &format!("asked with {}", settings.token));
                admit
            }
            Breaks::AnswersUpdate if request.old_object.is_some() => panic!("a service is never changed"),
            Breaks::AnswersLarge if request.object.len() > 1 << 20 => panic!("a service is never this large"),
            Breaks::AnswersAmount if object.pointer(CPU).is_some_and(Value::is_number) => panic!("an amount is a text"),
            Breaks::Answers if predictor.is_none() => panic!("every service has a predictor"),
            _ => admit,
        }
    }
}

tidewaiter_policy::export!(Planted);
