//! The way to a registry, as the subcommands of `policy` have it in common that go to one.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use indicatif::{ProgressBar, ProgressStyle};
use tidewaiter_registry::{Credentials, Error, Host, Limits, Progress, Reference, Registry};

use super::super::Failure;

/// What is particular about the way to a registry.
#[derive(Debug, Default, Args)]
pub(crate) struct RegistryArguments {
    /// Speak HTTP without TLS; with a registry on this machine that is so anyway
    #[arg(long)]
    pub(super) plain_http: bool,
    /// Certificates in PEM form that the registry may be signed by, beside those that this machine trusts
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    pub(super) ca: Option<PathBuf>,
}

impl RegistryArguments {
    /// Whether it says anything.
    pub(super) fn is_given(&self) -> bool {
        self.plain_http || self.ca.is_some()
    }

    pub(super) fn ca(&self) -> Result<Option<String>, Failure> {
        let ca = self
            .ca
            .as_deref()
            .map(|file| read(file, "--ca names a file with certificates in PEM form"));
        ca.transpose()
    }

    /// With the account that `docker login` or `podman login` left for it.
    pub(crate) fn open(&self, reference: &Reference) -> Result<Registry, Failure> {
        let host = Host {
            host: reference.registry().to_owned(),
            ca: self.ca()?,
            plain_http: self.plain_http,
            mirrors: Vec::new(),
        };
        Ok(Registry::new(
            vec![host],
            account(reference.registry())?,
            Limits::default(),
        )?)
    }
}

/// None for a registry that nobody logged in to: what is public needs no account.
pub(super) fn account(registry: &str) -> Result<Credentials, Failure> {
    // As `docker login` writes it.
    let server = match registry {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    };
    for found in [
        docker_credential::get_credential(server),
        docker_credential::get_podman_credential(server),
    ] {
        match found {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(Credentials::password(registry, &user, &password));
            }
            Ok(DockerCredential::IdentityToken(token)) => return Ok(Credentials::identity_token(registry, &token)),
            // What every helper of Docker's says of a registry that nobody logged in to.
            Err(CredentialRetrievalError::HelperFailure { helper, stdout, .. })
                if !stdout.contains("credentials not found") =>
            {
                return Err(Failure {
                    message: format!("docker-credential-{helper} fails for {registry}: {}", stdout.trim()),
                    next: Some(format!("log in by docker login {registry}")),
                });
            }
            Err(_) => {}
        }
    }
    Ok(Credentials::default())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let next = match &error {
            Error::Refused { host, .. } => Some(format!(
                "log in by docker login {host}, or with DOCKER_CONFIG name the folder of another config.json"
            )),
            Error::Uncertified { .. } => Some(
                "nothing is signed. The token has to be for the audience `sigstore` and of an issuer that Fulcio believes; --signing-config names other services"
                    .to_owned(),
            ),
            Error::Unreachable { .. } => Some(
                "--plain-http is for a registry without TLS, --ca for one with certificates of your own".to_owned(),
            ),
            _ => None,
        };
        Self {
            message: error.to_string(),
            next,
        }
    }
}

/// A file's text; where it can't be read, `next` says what the argument names.
pub(super) fn read(file: &Path, next: &str) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| Failure {
        message: format!("can't read {}: {error}", file.display()),
        next: Some(next.to_owned()),
    })
}

/// Now, or what SOURCE_DATE_EPOCH says: the same input then gives the same digest.
pub(super) fn created() -> Result<String, Failure> {
    let now = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds.parse::<i64>().ok(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok()),
    };
    let now = now.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    now.map(|now| now.to_string()).ok_or_else(|| Failure {
        message: "SOURCE_DATE_EPOCH is no number of seconds since 1970".to_owned(),
        next: None,
    })
}

/// Shows how far it is, on a terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes} {binary_bytes_per_sec}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(super) fn show(&self, progress: Progress) {
        let (done, of) = match progress {
            Progress::Pulled(done, of) => (done, of),
            Progress::Pushing(of) => (0, of),
            Progress::Pushed(of) => (of, of),
        };
        self.0.set_length(of);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
