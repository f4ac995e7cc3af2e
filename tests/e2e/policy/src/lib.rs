//! A policy for the tests, which does what its settings say, good or bad. Written against the SDK, as anybody's would be.

use serde::Deserialize;
use tidewaiter_policy::storage::{self, Delivery};
use tidewaiter_policy::{Policy, Request, Verdict, cluster};

/// The policy.
#[derive(Debug)]
pub struct Unruly;

/// What it is to do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Default: nothing.
    #[serde(default)]
    pub does: Does,
}

/// What it does to each object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Does {
    /// Admits it.
    #[default]
    Nothing,
    /// Gives it the label `unruly` with this value.
    Label(String),
    /// Refuses it, with this reason.
    Deny(String),
    /// Never answers.
    Loop,
    /// Ends without an answer.
    Trap,
    /// Calls itself for as long as there is a stack.
    Recurse,
    /// Asks for this URI again and again, whatever the store answers.
    Stall(String),
    /// Takes all the memory that there is.
    Hoard,
    /// Answers with 100 MB of warnings.
    Flood,
    /// Fills in what nobody may: the object's name.
    Rename,
    /// Asks for the labels of the object's namespace, which takes the capability `cluster`.
    Ask,
    /// Has a backend's credentials delivered, whosever they are.
    Take(String),
    /// Never says whether its settings can be used.
    Brood,
}

impl Policy for Unruly {
    type Settings = Settings;
    const NAME: &'static str = "unruly";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Does what its settings say.";

    fn check(settings: &Settings) -> Result<(), String> {
        if matches!(settings.does, Does::Brood) {
            spin();
        }
        Ok(())
    }

    fn review(_: &Request, settings: &Settings) -> Verdict {
        match &settings.does {
            Does::Nothing | Does::Brood => Verdict::admit(),
            Does::Label(value) => Verdict::admit().fill("/metadata/labels/unruly", value.as_str(), "the test says so"),
            Does::Deny(reason) => Verdict::admit().deny("unruly", reason.as_str(), None),
            Does::Loop => spin(),
            Does::Trap => panic!("as the settings say"),
            Does::Recurse => Verdict::admit().warn(format!("{} deep", deeper(0))),
            Does::Stall(uri) => loop {
                let _ = std::hint::black_box(storage::stat(uri));
            },
            Does::Hoard => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Does::Flood => (0..100).fold(Verdict::admit(), |verdict, _| verdict.warn("x".repeat(1_000_000))),
            Does::Rename => Verdict::admit().fill("/metadata/name", "mine", "the test says so"),
            Does::Take(backend) => Verdict::admit().credentials(backend.as_str(), Delivery::Annotation),
            Does::Ask => Verdict::admit().warn(format!("{} labels", cluster::namespace_labels().len())),
        }
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Never returns, which its caller can't know.
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 16]);
    if std::hint::black_box(true) {
        deeper(depth + 1) + frame[0]
    } else {
        depth
    }
}

tidewaiter_policy::export!(Unruly);
