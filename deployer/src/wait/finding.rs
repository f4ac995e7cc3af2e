//! Why a service doesn't come up.

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What kind of reason it is: for programs. Each has been produced on a real cluster, or has its words from the server's source.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[$doc])* $name,)*
        }

        impl Cause {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// For scripts: small letters with `-`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

causes! {
    /// The store wants credentials, and the Pod has none.
    CredentialsMissing = "credentials-missing",
    /// The store refuses the credentials.
    CredentialsWrong = "credentials-wrong",
    /// The Secret or the ServiceAccount that is named isn't there.
    SecretMissing = "secret-missing",
    /// The store can't be reached.
    StoreUnreachable = "store-unreachable",
    /// There is no such bucket.
    NoBucket = "no-bucket",
    /// There is nothing under the path.
    NoModel = "no-model",
    /// There is something, but not a model of this framework.
    WrongFramework = "wrong-framework",
    /// The server's libraries don't load what those of the author saved.
    VersionMismatch = "version-mismatch",
    /// The model needs a package, or code of its author's, that the server's image lacks.
    PackageMissing = "package-missing",
    /// The image, or a library, is for another kind of processor.
    Architecture = "architecture",
    /// Nothing listens where KServe asks.
    Ports = "ports",
    /// KServe doesn't look at Pods of this namespace.
    ControlPlaneNamespace = "control-plane-namespace",
    /// A container was given too little memory.
    OutOfMemory = "out-of-memory",
    /// An image can't be had.
    ImagePull = "image-pull",
    /// The namespace may have no more.
    Quota = "quota",
    /// No node takes the Pod.
    Unschedulable = "unschedulable",
    /// No runtime serves this.
    NoRuntime = "no-runtime",
    /// The deployment mode isn't installed.
    NoKnative = "no-knative",
    /// A webhook, or the API server, refuses a Pod.
    Refused = "refused",
    /// The server ended, and its words are not known.
    ServerFailed = "server-failed",
    /// The server runs, and its model isn't ready to answer.
    ModelNotReady = "model-not-ready",
    /// The service was stopped.
    Stopped = "stopped",
}

/// A reason, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub cause: Cause,
    /// What happened to what.
    pub message: String,
    /// What to do.
    pub next: String,
    /// The cluster's own words, the most telling last.
    pub evidence: Vec<String>,
    /// Waiting won't help.
    pub certain: bool,
}

impl Finding {
    pub(super) fn new(cause: Cause, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            next: next.into(),
            evidence: Vec::new(),
            certain: true,
        }
    }

    pub(super) fn seen(mut self, evidence: impl Into<String>) -> Self {
        let evidence = evidence.into();
        if !evidence.is_empty() {
            self.evidence.push(evidence);
        }
        self
    }

    pub(super) fn certain(mut self, certain: bool) -> Self {
        self.certain = certain;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_scripts_has_every_cause() {
        let page = include_str!("../../../docs/deploy.md");
        let (_, causes) = page.split_once("\n| cause | what it means |\n").unwrap();
        let (causes, _) = causes.split_once("\n\n").unwrap();
        let told: Vec<&str> = causes.lines().filter_map(|row| row.split('`').nth(1)).collect();
        let all: Vec<&str> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(told, all, "docs/deploy.md, \"For scripts\"");
    }
}
