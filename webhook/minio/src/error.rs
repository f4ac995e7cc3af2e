//! Why MinIO didn't do what it was asked for.

/// Hosts and codes are named, secrets and a server's free text never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What the client was made from can't be used.
    #[error("no client for MinIO's admin API can be made: {0}")]
    Settings(String),
    /// What was asked for can't be had of any MinIO.
    #[error("no such access key can be made: {0}")]
    Request(String),
    /// Nobody answers, or nobody that we trust.
    #[error("MinIO can't be reached: {0}")]
    Unreachable(String),
    /// It answers that it can't at the moment.
    #[error("MinIO at {host} answers {answer}: it is starting, or not well; it is tried again later")]
    Unavailable {
        /// Where.
        host: String,
        /// Status and code.
        answer: String,
    },
    /// It doesn't take the admin's key.
    #[error("MinIO at {host} answers {answer}: {}", refusal(.answer))]
    Credentials {
        /// Where.
        host: String,
        /// Status and code.
        answer: String,
    },
    /// Signatures hold for a quarter of an hour.
    #[error("the clock of {host} and this machine's differ by more than 15 minutes: set both by NTP")]
    Clock {
        /// Where.
        host: String,
    },
    /// The admin's key is good, but may not do this.
    #[error(
        "MinIO at {host} doesn't let this access key do it: its user needs the right `{right}`, and so does the key where it has a policy of its own"
    )]
    Forbidden {
        /// Where.
        host: String,
        /// What is missing.
        right: Right,
    },
    /// It speaks S3 perhaps, but not this.
    #[error(
        "{host} has no admin API of MinIO (it answers {answer}), so no access keys can be made there: give the backend static `credentials` instead; if it is \
         a MinIO, the endpoint has to be its S3 port, not the console's"
    )]
    NotMinio {
        /// Where.
        host: String,
        /// What came instead.
        answer: String,
    },
    /// There is no such access key; or it is another user's, which MinIO doesn't tell apart.
    #[error("MinIO at {host} knows no access key {access_key}: it was revoked, or has ended, or is another user's")]
    NoAccount {
        /// Where.
        host: String,
        /// Which.
        access_key: String,
    },
    /// There is an access key of this ID already.
    #[error("MinIO at {host} has an access key {access_key} already")]
    Taken {
        /// Where.
        host: String,
        /// Which.
        access_key: String,
    },
    /// An access key of this ID belongs to another user.
    #[error("the access key {access_key} of MinIO at {host} is another user's, and stays as it is")]
    Foreign {
        /// Where.
        host: String,
        /// Which.
        access_key: String,
    },
    /// The answer is MinIO's, but can't be read.
    #[error(
        "the answer of {host} can't be decrypted or makes no sense: a proxy changed it, or its MinIO is of another kind than those we know"
    )]
    Unreadable {
        /// Where.
        host: String,
    },
    /// Anything else.
    #[error("MinIO at {host} refuses this: {answer}")]
    Refused {
        /// Where.
        host: String,
        /// Status and code.
        answer: String,
    },
}

impl Error {
    /// Whether the same call may go well later, without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unavailable { .. })
    }

    /// Whether a call for any other access key would end alike: MinIO is away, or has something against who asks. Else it is about this key alone.
    pub fn concerns_all(&self) -> bool {
        match self {
            Self::Settings(_)
            | Self::Unreachable(_)
            | Self::Unavailable { .. }
            | Self::Credentials { .. }
            | Self::Clock { .. }
            | Self::Forbidden { .. }
            | Self::NotMinio { .. }
            | Self::Unreadable { .. } => true,
            Self::Request(_)
            | Self::NoAccount { .. }
            | Self::Taken { .. }
            | Self::Foreign { .. }
            | Self::Refused { .. } => false,
        }
    }
}

fn refusal(answer: &str) -> &'static str {
    if answer.contains("SignatureDoesNotMatch") {
        "the admin's secret key is wrong; correct it in the Secret"
    } else {
        "it doesn't know the admin's access key, or the key was disabled or has ended; correct it in the Secret"
    }
}

/// A right of MinIO's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To make access keys.
    Create,
    /// To change them.
    Update,
    /// To see them.
    List,
    /// To revoke them.
    Remove,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "admin:CreateServiceAccount",
            Self::Update => "admin:UpdateServiceAccount",
            Self::List => "admin:ListServiceAccounts",
            Self::Remove => "admin:RemoveServiceAccount",
        })
    }
}
