//! Who must have signed a policy before it is loaded.

use serde::{Deserialize, Serialize};

use crate::wildcard;

/// One of these signers must have signed the module: by a key, or with an identity (keyless).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Verification {
    /// Public keys in PEM form, as `cosign generate-key-pair` writes to `cosign.pub`: ECDSA P-256 or P-384, Ed25519, RSA of 2048 bits and more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Identities that Fulcio certified, each with who vouched for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keyless: Vec<Identity>,
}

/// Who signed without a key of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// Who vouched for the signer, such as `https://token.actions.githubusercontent.com`.
    pub issuer: String,
    /// An e-mail address or a URI, such as `https://github.com/acme/policies/.github/workflows/release.yaml@refs/tags/*`, with `*` for any run of characters.
    pub identity: String,
}

impl Verification {
    /// All that is wrong with it, a sentence each, beginning with the field, which is within `at`.
    pub fn problems(&self, at: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if self.keys.is_empty() && self.keyless.is_empty() {
            problems.push(format!(
                "{at}: names nobody who may sign; list public keys under `keys`, or identities under `keyless`"
            ));
        }
        for (index, key) in self.keys.iter().enumerate() {
            if key.contains("PRIVATE KEY") {
                problems.push(format!(
                    "{at}.keys[{index}]: is a private key, which has to be thought of as lost now; make another, and put its public key here"
                ));
            } else if !key.contains("-----BEGIN PUBLIC KEY-----") {
                problems.push(format!(
                    "{at}.keys[{index}]: is no public key in PEM form, which begins with -----BEGIN PUBLIC KEY-----"
                ));
            }
        }
        for (index, who) in self.keyless.iter().enumerate() {
            if !who.issuer.starts_with("https://") {
                problems.push(format!(
                    "{at}.keyless[{index}].issuer: `{}` doesn't begin with https://",
                    who.issuer
                ));
            }
            // A `?` is in the URIs of some issuers, so only what would let anybody in is refused.
            if who.identity.bytes().all(|byte| byte == b'*') {
                problems.push(format!(
                    "{at}.keyless[{index}].identity: `{}` lets everybody sign whom the issuer knows; write at least a part of the identity",
                    who.identity
                ));
            }
        }
        problems
    }
}

impl Identity {
    /// Whether this is the signer that a certificate names.
    pub fn is(&self, issuer: &str, identity: &str) -> bool {
        self.issuer == issuer && wildcard::matches(&self.identity, identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(yaml: &str) -> Vec<String> {
        serde_saphyr::from_str::<Verification>(yaml)
            .unwrap()
            .problems("spec.verify")
    }

    #[test]
    fn each_mistake_names_its_field() {
        for (yaml, expected) in [
            ("{}", "spec.verify: names nobody"),
            ("keys: [cosign.pub]", "spec.verify.keys[0]: is no public key"),
            (
                "keys: ['-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----']",
                "spec.verify.keys[0]: is a private key",
            ),
            (
                "keyless: [{issuer: token.actions.githubusercontent.com, identity: a@example.com}]",
                "spec.verify.keyless[0].issuer",
            ),
            (
                "keyless: [{issuer: 'https://accounts.example.com', identity: '*'}]",
                "spec.verify.keyless[0].identity: `*` lets everybody",
            ),
        ] {
            let problems = problems(yaml);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}");
        }
        assert!(serde_saphyr::from_str::<Verification>("key: x").is_err());
    }

    #[test]
    fn an_identity_is_matched_as_a_whole_and_with_its_issuer() {
        let who = Identity {
            issuer: "https://token.example".into(),
            identity: "https://git.example/acme/*@refs/tags/*".into(),
        };
        assert!(who.is(
            "https://token.example",
            "https://git.example/acme/policies@refs/tags/v1"
        ));
        assert!(!who.is(
            "https://token.example",
            "https://git.example/other/policies@refs/tags/v1"
        ));
        assert!(!who.is("https://evil.example", "https://git.example/acme/policies@refs/tags/v1"));
        assert!(!who.is(
            "https://token.example",
            "x https://git.example/acme/policies@refs/tags/v1"
        ));
    }
}
