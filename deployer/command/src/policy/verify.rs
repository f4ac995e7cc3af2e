//! `tidewaiter policy verify`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::path::PathBuf;
use std::sync::Arc;

use anstream::{eprintln, println};
use clap::Args;
use tidewaiter_core::verification::{Identity, Verification};
use tidewaiter_registry::{Error, Reference, TrustRoot, Verifier};

use super::super::{BAD, Ending, Failure, GOOD};
use super::registry::{RegistryArguments, read};

const KEY_OR_IDENTITY: &str = "--key names a public key's file, such as cosign.pub; of what was signed without a key, --certificate-identity and \
                               --certificate-oidc-issuer name who may have signed";

/// Say who signed a policy in a registry, as a WasmPolicy with `spec.verify` would.
///
/// Signatures of cosign's count: by one of the keys, or keyless by the identity. A keyless one is checked offline, against Sigstore's public trust root or your own.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 somebody signed it who may, 1 nobody did, 2 an error.

Examples:
  tidewaiter policy verify ghcr.io/acme/house-rules:1.2.0 --key cosign.pub
  tidewaiter policy verify ghcr.io/acme/house-rules:1.2.0 \\
      --certificate-identity 'https://github.com/acme/house-rules/.github/workflows/release.yaml@refs/tags/*' \\
      --certificate-oidc-issuer https://token.actions.githubusercontent.com")]
pub(crate) struct VerifyArguments {
    /// REGISTRY/PATH/NAME:TAG, or @sha256:… in place of the tag
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// A public key in PEM form that may have signed it; may be given several times
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Who may have signed it without a key, with * for any run of characters
    #[arg(long = "certificate-identity", value_name = "IDENTITY", requires = "issuer")]
    identity: Option<String>,
    /// Who must have vouched for that identity
    #[arg(long = "certificate-oidc-issuer", value_name = "URL", requires = "identity")]
    issuer: Option<String>,
    /// A trusted_root.json in place of that of Sigstore's public instance
    #[arg(long, value_name = "FILE", requires = "identity")]
    trusted_root: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArguments,
}

pub(super) async fn run(arguments: VerifyArguments) -> Result<Ending, Failure> {
    if arguments.keys.is_empty() && arguments.identity.is_none() {
        return Err(Failure {
            message: format!("nobody is named who may have signed {}", arguments.reference),
            next: Some(KEY_OR_IDENTITY.to_owned()),
        });
    }
    let keys = arguments.keys.iter().map(|file| read(file, KEY_OR_IDENTITY));
    let who = Verification {
        keys: keys.collect::<Result<_, _>>()?,
        keyless: arguments
            .identity
            .zip(arguments.issuer)
            .map(|(identity, issuer)| Identity { issuer, identity })
            .into_iter()
            .collect(),
    };
    let wrong = who.problems("verify");
    if !wrong.is_empty() {
        return Err(Failure {
            message: wrong.join("; "),
            next: None,
        });
    }
    let root = arguments.trusted_root.as_deref();
    let root = root.map(|file| read(file, "--trusted-root names a trusted_root.json of Sigstore's"));
    let root = root.transpose()?;
    let root = root.map(|root| TrustRoot::from_json(&root)).transpose()?.map(Arc::new);
    let verifier = Verifier::new(&who, root)?;
    let registry = arguments.registry.open(&arguments.reference)?;
    match registry.verify(&arguments.reference, &verifier).await {
        Ok((manifest, signer)) => {
            println!("{GOOD}signed{GOOD:#} {} by {signer}", arguments.reference.at(&manifest));
            Ok(Ending::Nothing)
        }
        Err(Error::Untrusted(reason)) => {
            eprintln!("{BAD}not signed{BAD:#}: {reason}");
            Ok(Ending::Something)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Policy;
    use super::*;
    use crate::arguments::{Arguments, Command};

    #[tokio::test]
    async fn who_names_nobody_is_told_of_both_ways() {
        for more in [&[][..], &["--key", "nokey"]] {
            let words = ["tidewaiter", "policy", "verify", "r.example/house:1"];
            let words = words.iter().chain(more);
            let Command::Policy {
                command: Policy::Verify(arguments),
            } = Arguments::parse_from(words).command
            else {
                panic!("another command")
            };
            let next = run(arguments).await.unwrap_err().next.unwrap();
            assert!(
                next.contains("--key") && next.contains("--certificate-identity"),
                "{next}"
            );
        }
    }
}
