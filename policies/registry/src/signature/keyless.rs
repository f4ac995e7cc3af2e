//! Signatures without a key of the signer's: a certificate of Fulcio's names who signed, a log or a time stamp says when. All is checked offline against a
//! trust root.

use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::types::{Bundle, Sha256Hash};
use sigstore_verify::{SubjectAltName, VerificationPolicy, Verifier};
use tidewaiter_core::verification::Identity;

use super::provider;
use crate::{Digest, Error};

/// Whose certificates and logs count.
pub struct TrustRoot {
    verifier: Verifier,
    /// Without logs of certificates in the root, none is asked for: a Fulcio of one's own may have none.
    has_certificate_logs: bool,
    has_logs: bool,
}

impl TrustRoot {
    /// A `trusted_root.json`, as `cosign trusted-root create` makes it.
    ///
    /// # Errors
    /// Text that is none, or one with keys that can't be used.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        provider::install();
        let wrong = |error: &dyn std::fmt::Display| Error::Settings(format!("the trust root can't be used: {error}"));
        let root = TrustedRoot::from_json(json).map_err(|error| wrong(&error))?;
        if root.certificate_authorities.is_empty() {
            return Err(wrong(&"it names no certificate authority"));
        }
        Ok(Self {
            has_certificate_logs: !root.ctlogs.is_empty(),
            has_logs: !root.tlogs.is_empty(),
            verifier: Verifier::new(&root).map_err(|error| wrong(&error))?,
        })
    }

    /// The one of sigstore's public instance, as it was when `sigstore-trust-root` was released.
    ///
    /// # Errors
    /// None that a test wouldn't have shown.
    pub fn public() -> Result<Self, Error> {
        Self::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT)
    }

    /// Who signed this manifest, if it is one of these.
    pub(super) fn signer(&self, bundle: &str, manifest: &Digest, who: &[Identity]) -> Result<String, String> {
        let bundle = Bundle::from_json(bundle).map_err(|error| format!("can't be read: {error}"))?;
        let digest = Sha256Hash::from_hex(manifest.hex()).map_err(|error| error.to_string())?;
        let mut policy = VerificationPolicy::any_identity();
        if !self.has_certificate_logs {
            policy = policy.skip_sct();
        }
        if !self.has_logs {
            policy = policy.skip_tlog_unsafe();
        }
        let result = self
            .verifier
            .verify(digest, &bundle, &policy)
            .map_err(|error| error.to_string())?;
        let identity = result.identity().map(SubjectAltName::as_str).unwrap_or_default();
        let issuer = result.issuer().unwrap_or_default();
        let named = format!("{identity} (issuer {issuer})");
        if who.iter().any(|who| who.is(issuer, identity)) {
            Ok(named)
        } else {
            Err(format!("is by {named}, whom it doesn't name"))
        }
    }
}
