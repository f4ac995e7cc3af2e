//! `tidewaiter policy sign`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::path::{Path, PathBuf};

use anstream::{eprintln, println};
use clap::Args;
use tidewaiter_registry::{Identified, Reference, SigningKey};

use super::super::output::note;
use super::super::{Ending, Failure};
use super::registry::{Bar, RegistryArguments, created, read};

/// Sign a policy in a registry, with a key or with who you are, as `cosign sign` does.
///
/// What the reference names now is signed: its manifest, and with it the component. The signature is a bundle of Sigstore's beside it.
///
/// With --key there is no entry in a public log; cosign verifies it by `cosign verify --key cosign.pub --insecure-ignore-tlog`. A key of `cosign generate-key-pair`
/// is opened by the password in COSIGN_PASSWORD.
///
/// Without --key a token says who signs: --identity-token, else SIGSTORE_ID_TOKEN, else what GitHub, GitLab and others give to their jobs. Sigstore certifies that
/// identity, and its public log shows it to everyone for ever. With --signing-config that is your own Sigstore.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is signed, 2 an error.

Examples:
  tidewaiter policy sign ghcr.io/acme/house-rules@sha256:0123… --key cosign.key
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out policy.key
  tidewaiter policy sign ghcr.io/acme/house-rules:1.2.0 --key policy.key > policy.pub
  tidewaiter policy sign ghcr.io/acme/house-rules:1.2.0    # in a workflow with `permissions: {id-token: write}`")]
pub(crate) struct SignArguments {
    /// REGISTRY/PATH/NAME:TAG, or @sha256:… in place of the tag
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// The private key in PEM form: of cosign's, or PKCS #8, ECDSA P-256 or Ed25519
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file with the token (JWT) that says who signs, in place of a key; it is for the audience `sigstore`
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    identity_token: Option<PathBuf>,
    /// A signing configuration of `cosign signing-config create`, in place of that of Sigstore's public instance
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    signing_config: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArguments,
}

pub(super) async fn run(arguments: SignArguments) -> Result<Ending, Failure> {
    let by = match &arguments.key {
        Some(key) => By::Key(Box::new(signing_key(key)?)),
        None => By::Identity(Box::new(identity(&arguments).await?)),
    };
    let (reference, created) = (&arguments.reference, created()?);
    let registry = arguments.registry.open(reference)?;
    if reference.digest().is_none() {
        note("a tag can move: the digest that it stands for now is signed");
    }
    let bar = Bar::new();
    let watch = |progress| bar.show(progress);
    let done = match &by {
        By::Key(key) => registry.sign(reference, key, &created, &watch).await?,
        By::Identity(who) => registry.sign_as(reference, who, &created, &watch).await?,
    };
    drop(bar);
    let exactly = reference.at(&done.manifest);
    match &by {
        By::Key(key) => {
            let key = key.public();
            eprintln!(
                "signed {exactly} with {}. Its public key, for spec.verify.keys of a WasmPolicy:",
                key.name()
            );
            println!("{}", key.to_pem().trim_end());
        }
        By::Identity(who) => eprintln!(
            "signed {exactly} as {}, for all to see in the log {}. tidewaiter policy verify says what spec.verify.keyless of a WasmPolicy has to name",
            who.name(),
            who.log()
        ),
    }
    Ok(Ending::Nothing)
}

enum By {
    Key(Box<SigningKey>),
    Identity(Box<Identified>),
}

fn signing_key(file: &Path) -> Result<SigningKey, Failure> {
    let password = std::env::var("COSIGN_PASSWORD").ok();
    let key = read(
        file,
        "--key names a private key's file, as `cosign generate-key-pair` or `openssl genpkey` makes one; without --key a token says who signs",
    )?;
    SigningKey::from_pem(&key, password.as_deref()).map_err(|error| Failure {
        message: format!("{}: {error}", file.display()),
        next: password
            .is_none()
            .then(|| "a key of cosign's is opened by the password in COSIGN_PASSWORD".to_owned()),
    })
}

async fn identity(arguments: &SignArguments) -> Result<Identified, Failure> {
    let token = match (&arguments.identity_token, std::env::var("SIGSTORE_ID_TOKEN")) {
        (Some(file), _) => Some(read(file, "--identity-token names a file with a token (JWT)")?),
        (None, Ok(token)) => Some(token),
        (None, Err(_)) => Identified::ambient().await?,
    };
    let token = token.ok_or_else(|| Failure {
        message: "there is neither a key nor a token that says who signs".to_owned(),
        next: Some(
            "--key is for a key; --identity-token, SIGSTORE_ID_TOKEN or a job of GitHub's, GitLab's and others for a token; a person signs by cosign sign"
                .to_owned(),
        ),
    })?;
    let services = arguments.signing_config.as_deref();
    let services = services.map(|file| read(file, "--signing-config names what `cosign signing-config create` wrote"));
    let services = services.transpose()?;
    let ca = arguments.registry.ca()?;
    Ok(Identified::new(&token, services.as_deref(), ca.as_deref())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_is_told_with_what_makes_one() {
        let failure = signing_key(Path::new("nokey")).err().unwrap();
        assert!(failure.message.starts_with("can't read nokey"), "{failure}");
        let next = failure.next.unwrap();
        assert!(
            next.contains("cosign generate-key-pair") && next.contains("without --key"),
            "{next}"
        );
    }
}
