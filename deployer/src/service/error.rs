//! Wishes that can't be fulfilled, each with what to wish for instead.

use crate::model::Framework;

/// Why no object can be made of some wishes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// KServe would refuse the name.
    #[error("KServe refuses the name `{name}`: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: String,
        /// A valid one.
        suggested: String,
    },
    /// Nothing says what the service is to be called.
    #[error("the service has no name")]
    NoName,
    /// Nothing in the cluster serves this framework in this protocol.
    #[error("no serving runtime in this cluster serves {framework} over {protocol}")]
    NoRuntime {
        /// The framework.
        framework: Framework,
        /// As the user wrote it.
        protocol: &'static str,
        /// What there is instead; empty where nothing serves the framework at all.
        instead: String,
    },
    /// The runtime that was named isn't there.
    #[error("there is no serving runtime `{name}` in namespace {namespace} or in the cluster")]
    NoSuchRuntime {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
        /// Those that serve the framework.
        known: Vec<String>,
    },
    /// The runtime that was named doesn't do this.
    #[error("the serving runtime {name} {reason}")]
    RuntimeUnfit {
        /// The name.
        name: String,
        /// The rest of the sentence.
        reason: String,
        /// Those that do.
        known: Vec<String>,
    },
    /// The server would load the model without an error and answer wrongly.
    #[error(
        "the model was saved by {package} {saved}, and {runtime} ({image}) serves it with {held}, which loads it without an error and answers wrongly"
    )]
    WrongAnswers {
        /// What saved it.
        package: &'static str,
        /// In which version.
        saved: String,
        /// The runtime.
        runtime: String,
        /// Its image, with the tag.
        image: String,
        /// The package's version there.
        held: String,
    },
    /// Knative gives a service one port.
    #[error("one service can't answer REST and gRPC in Knative mode: Knative gives each service one port")]
    BothInKnative,
    /// Two wishes, or a wish and the cluster, exclude each other.
    #[error("{problem}")]
    Contradiction {
        /// Which, and why.
        problem: String,
        /// What to do.
        next: String,
    },
}

impl WishError {
    pub(super) fn contradiction(problem: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Contradiction {
            problem: problem.into(),
            next: next.into(),
        }
    }

    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Name { suggested, .. } => format!("call it `{suggested}`: --name {suggested}"),
            Self::NoName => "give it one with --name".to_owned(),
            Self::NoRuntime { instead, framework, .. } if instead.is_empty() => {
                format!("have an admin install a ClusterServingRuntime for {framework}, or bring an image of your own with --image")
            }
            Self::NoRuntime { instead, .. } => instead.clone(),
            Self::NoSuchRuntime { known, .. } | Self::RuntimeUnfit { known, .. } if known.is_empty() => {
                "leave --runtime out, and KServe chooses one".to_owned()
            }
            Self::NoSuchRuntime { known, .. } | Self::RuntimeUnfit { known, .. } => {
                format!("choose one of {}, or leave --runtime out", known.join(", "))
            }
            Self::WrongAnswers {
                package, saved, held, ..
            } => format!(
                "save it with {package} {held} or an earlier version; or serve it with a runtime (--runtime) whose image holds {package} {saved} or a later one. \
                 To serve it all the same: --annotation tidewaiter.dev/allow-wrong-answers=true"
            ),
            Self::BothInKnative => "deploy it twice, with --protocol rest and, under another name, --protocol grpc; or, where your admin permits it, with \
                 --deployment-mode Standard"
                .to_owned(),
            Self::Contradiction { next, .. } => next.clone(),
        }
    }
}
