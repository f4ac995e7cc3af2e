//! Why a service doesn't come up.

/// What kind of reason it is: for programs. Each has been produced on a real cluster, or has its words from the server's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The store wants credentials, and the Pod has none.
    CredentialsMissing,
    /// The store refuses the credentials.
    CredentialsWrong,
    /// The Secret or the ServiceAccount that is named isn't there.
    SecretMissing,
    /// The store can't be reached.
    StoreUnreachable,
    /// There is no such bucket.
    NoBucket,
    /// There is nothing under the path.
    NoModel,
    /// There is something, but not a model of this framework.
    WrongFramework,
    /// The server's libraries don't load what those of the author saved.
    VersionMismatch,
    /// The model needs a package that the server's image lacks.
    PackageMissing,
    /// The image, or a library, is for another kind of processor.
    Architecture,
    /// Nothing listens where KServe asks.
    Ports,
    /// KServe doesn't look at Pods of this namespace.
    ControlPlaneNamespace,
    /// A container was given too little memory.
    OutOfMemory,
    /// An image can't be had.
    ImagePull,
    /// The namespace may have no more.
    Quota,
    /// No node takes the Pod.
    Unschedulable,
    /// No runtime serves this.
    NoRuntime,
    /// The deployment mode isn't installed.
    NoKnative,
    /// A webhook, or the API server, refuses a Pod.
    Refused,
    /// The server ended, and its words are not known.
    ServerFailed,
    /// The service was stopped.
    Stopped,
}

impl Cause {
    /// For scripts: small letters with `-`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialsMissing => "credentials-missing",
            Self::CredentialsWrong => "credentials-wrong",
            Self::SecretMissing => "secret-missing",
            Self::StoreUnreachable => "store-unreachable",
            Self::NoBucket => "no-bucket",
            Self::NoModel => "no-model",
            Self::WrongFramework => "wrong-framework",
            Self::VersionMismatch => "version-mismatch",
            Self::PackageMissing => "package-missing",
            Self::Architecture => "architecture",
            Self::Ports => "ports",
            Self::ControlPlaneNamespace => "control-plane-namespace",
            Self::OutOfMemory => "out-of-memory",
            Self::ImagePull => "image-pull",
            Self::Quota => "quota",
            Self::Unschedulable => "unschedulable",
            Self::NoRuntime => "no-runtime",
            Self::NoKnative => "no-knative",
            Self::Refused => "refused",
            Self::ServerFailed => "server-failed",
            Self::Stopped => "stopped",
        }
    }
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
