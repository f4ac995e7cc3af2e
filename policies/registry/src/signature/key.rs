//! Public and private keys, in the forms that cosign and OpenSSL write.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::sealed;
use crate::{Digest, Error};

/// A key that signatures are checked with.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: &'static (dyn VerificationAlgorithm + Sync),
    bytes: Vec<u8>,
    /// The whole of it, as its PEM form holds it.
    der: Vec<u8>,
}

impl PublicKey {
    /// A `PUBLIC KEY` in PEM form: ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits and more, whose signatures are PKCS #1 1.5 over SHA-256 as cosign makes
    /// them.
    ///
    /// # Errors
    /// Text that is no such key.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Key(format!("the public key can't be used: {why}"));
        let block = pem::parse(text.trim()).map_err(|_| wrong("it is not in PEM form"))?;
        if block.tag() != "PUBLIC KEY" {
            return Err(wrong(&format!("it is a {}, and a PUBLIC KEY is needed", block.tag())));
        }
        let der = block.into_contents();
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| wrong("its content is no key"))?;
        let bytes = info.subject_public_key.data.to_vec();
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok())
            .map(|curve| curve.to_id_string());
        // RFC 5480, RFC 8410, RFC 8017.
        let algorithm: &'static (dyn VerificationAlgorithm + Sync) =
            match (info.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
                ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => &ECDSA_P256_SHA256_ASN1,
                ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => &ECDSA_P384_SHA384_ASN1,
                ("1.3.101.112", _) => &ED25519,
                ("1.2.840.113549.1.1.1", _) => &RSA_PKCS1_2048_8192_SHA256,
                _ => return Err(wrong("only ECDSA P-256 and P-384, Ed25519 and RSA are known here")),
            };
        Ok(Self { algorithm, bytes, der })
    }

    pub(super) fn verifies(&self, data: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.bytes)
            .verify(data, signature)
            .is_ok()
    }

    /// In PEM form, for `spec.verify.keys`.
    pub fn to_pem(&self) -> String {
        pem::encode_config(
            &pem::Pem::new("PUBLIC KEY", self.der.clone()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        )
    }

    /// What a bundle calls the key: the hash of its DER form, as sigstore's bundles have it.
    pub(super) fn hint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.der);
        STANDARD.encode(digest.as_ref())
    }

    /// Short, for messages.
    pub fn name(&self) -> String {
        format!("key {}", &Digest::of(&self.der).hex()[..12])
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A key that signs. Can't be printed.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// What an Ed25519 and an ECDSA P-256 public key in DER form begin with; the key's bytes follow.
const ED25519_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256_DER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl SigningKey {
    /// A private key in PEM form, ECDSA P-256 or Ed25519: PKCS #8 as `openssl genpkey` writes it, or what `cosign generate-key-pair` writes to `cosign.key`,
    /// which the password opens.
    ///
    /// # Errors
    /// Text that is no such key, or a password that doesn't open it.
    pub fn from_pem(text: &str, password: Option<&str>) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Key(format!("the private key can't be used: {why}"));
        let block = pem::parse(text.trim()).map_err(|_| wrong("it is not in PEM form"))?;
        let der = match block.tag() {
            "PRIVATE KEY" => block.into_contents(),
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                let password = password.ok_or_else(|| wrong("it is sealed, and no password was given"))?;
                sealed::open(block.contents(), password).map_err(wrong)?
            }
            "EC PRIVATE KEY" => {
                return Err(wrong(
                    "it is in the older form of OpenSSL; rewrite it by openssl pkcs8 -topk8 -nocrypt",
                ));
            }
            "PUBLIC KEY" => return Err(wrong("it is a public key, and the private one signs")),
            other => return Err(wrong(&format!("it is a {other}"))),
        };
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &SystemRandom::new()) {
            let bytes = pair.public_key().as_ref().to_vec();
            return Ok(Self {
                public: PublicKey {
                    algorithm: &ECDSA_P256_SHA256_ASN1,
                    der: [&P256_DER, bytes.as_slice()].concat(),
                    bytes,
                },
                pair: Pair::P256(pair),
            });
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map_err(|_| wrong("it is neither ECDSA P-256 nor Ed25519 in the form PKCS #8"))?;
        let bytes = pair.public_key().as_ref().to_vec();
        Ok(Self {
            public: PublicKey {
                algorithm: &ED25519,
                der: [&ED25519_DER, bytes.as_slice()].concat(),
                bytes,
            },
            pair: Pair::Ed25519(pair),
        })
    }

    /// The key that its signatures are checked with.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.pair {
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), data);
                let signature =
                    signature.map_err(|_| Error::Key("the system gives no random numbers to sign with".into()))?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(data).as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pkcs8(der: &[u8]) -> String {
        pem::encode(&pem::Pem::new("PRIVATE KEY", der))
    }

    #[test]
    fn what_a_key_signs_its_public_key_verifies_after_a_way_through_pem() {
        let random = SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        for der in [p256.as_ref(), ed25519.as_ref()] {
            let key = SigningKey::from_pem(&pkcs8(der), None).unwrap();
            let public = PublicKey::from_pem(&key.public().to_pem()).unwrap();
            let signature = key.sign(b"statement").unwrap();
            assert!(public.verifies(b"statement", &signature));
            assert!(!public.verifies(b"another", &signature));
            assert_eq!(public.name(), key.public().name());
        }
    }

    #[test]
    fn what_is_no_key_is_told_why_and_not_shown() {
        let private = |text: &str| SigningKey::from_pem(text, None).err().unwrap().to_string();
        let public = |text: &str| PublicKey::from_pem(text).unwrap_err().to_string();
        assert!(private("x").contains("not in PEM form"));
        assert!(private(&pkcs8(b"secret")).contains("neither ECDSA P-256 nor Ed25519"));
        let sealed = pem::encode(&pem::Pem::new("ENCRYPTED SIGSTORE PRIVATE KEY", *b"{}"));
        assert!(private(&sealed).contains("no password was given"));
        assert!(public(&pkcs8(b"secret")).contains("it is a PRIVATE KEY"));
        assert!(!public(&pkcs8(b"secret")).contains("secret"));
    }
}
