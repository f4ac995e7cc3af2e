//! `tidewaiter policy sign`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::path::PathBuf;

use anstream::{eprint, eprintln, println};
use clap::Args;
use tidewaiter_registry::{Reference, SigningKey};

use super::super::{Ending, Failure};
use super::registry::{Bar, RegistryArguments, created, read};

/// Sign a policy in a registry with a key, as `cosign sign --key` does.
///
/// What the reference names now is signed: its manifest, and with it the component. The signature is a bundle of Sigstore's beside it, without an entry in a public
/// log; cosign verifies it by `cosign verify --key cosign.pub --insecure-ignore-tlog`. For signatures without a key, use `cosign sign`: both kinds are verified.
///
/// A key of `cosign generate-key-pair` is opened by the password in COSIGN_PASSWORD.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is signed, 2 an error.

Examples:
  tidewaiter policy sign ghcr.io/acme/house-rules@sha256:0123… --key cosign.key
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out policy.key
  tidewaiter policy sign ghcr.io/acme/house-rules:1.2.0 --key policy.key > policy.pub")]
pub(crate) struct SignArguments {
    /// REGISTRY/PATH/NAME:TAG, or @sha256:… in place of the tag
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// The private key in PEM form: of cosign's, or PKCS #8, ECDSA P-256 or Ed25519
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    registry: RegistryArguments,
}

pub(super) async fn run(arguments: SignArguments) -> Result<Ending, Failure> {
    let password = std::env::var("COSIGN_PASSWORD").ok();
    let key = SigningKey::from_pem(&read(&arguments.key)?, password.as_deref()).map_err(|error| Failure {
        message: format!("{}: {error}", arguments.key.display()),
        next: password
            .is_none()
            .then(|| "a key of cosign's is opened by the password in COSIGN_PASSWORD".to_owned()),
    })?;
    let registry = arguments.registry.open(&arguments.reference)?;
    if arguments.reference.digest().is_none() {
        eprint!("A tag can move: ");
    }
    let bar = Bar::new();
    let signed = registry
        .sign(&arguments.reference, &key, &created()?, &|progress| bar.show(progress))
        .await?;
    drop(bar);
    eprintln!(
        "signed {} with {}. Its public key, for spec.verify.keys of a WasmPolicy:",
        arguments.reference.at(&signed.manifest),
        key.public().name()
    );
    println!("{}", key.public().to_pem().trim_end());
    Ok(Ending::Nothing)
}
