//! What `sigstore-verify` computes with: ring, as everything here, in place of the second TLS library that it would bring by itself.

use ring::digest::{Context, SHA256, SHA384, SHA512};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use sigstore_verify::crypto::{CryptoProvider, Error, HashContext, Result, SigningScheme, install_default_provider};
#[cfg(feature = "keyless-signing")]
use sigstore_verify::crypto::{KeyAlgorithm, SigningKeyPair};
use sigstore_verify::types::HashAlgorithm;

/// Makes ring what signatures are checked with in this process. A second call changes nothing.
pub(super) fn install() {
    static RING: Ring = Ring;
    // Another part of the program may have installed one: that one is as good.
    let _ = install_default_provider(&RING);
}

#[derive(Debug)]
struct Ring;

struct Hash(Context);

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

impl CryptoProvider for Ring {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        let algorithm = match algorithm {
            HashAlgorithm::Sha2256 => &SHA256,
            HashAlgorithm::Sha2384 => &SHA384,
            HashAlgorithm::Sha2512 => &SHA512,
            other => return Err(Error::UnsupportedAlgorithm(format!("{other} digests"))),
        };
        Ok(Box::new(Hash(Context::new(algorithm))))
    }

    fn verify_raw(&self, scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<()> {
        let algorithm: &dyn VerificationAlgorithm = match scheme {
            SigningScheme::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            SigningScheme::EcdsaP256Sha384 => &ECDSA_P256_SHA384_ASN1,
            SigningScheme::EcdsaP384Sha256 => &ECDSA_P384_SHA256_ASN1,
            SigningScheme::EcdsaP384Sha384 => &ECDSA_P384_SHA384_ASN1,
            SigningScheme::Ed25519 => &ED25519,
            SigningScheme::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            SigningScheme::RsaPssSha384 => &RSA_PSS_2048_8192_SHA384,
            SigningScheme::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
            SigningScheme::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            SigningScheme::RsaPkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            SigningScheme::RsaPkcs1Sha512 => &RSA_PKCS1_2048_8192_SHA512,
            other => return Err(Error::UnsupportedAlgorithm(other.name().to_owned())),
        };
        UnparsedPublicKey::new(algorithm, key)
            .verify(data, signature)
            .map_err(|_| Error::Verification(format!("the {} signature doesn't fit", scheme.name())))
    }

    /// Ring has no such check. It is asked for by signatures over a digest alone, which those of images never are: they are over a statement.
    fn verify_prehashed(&self, scheme: SigningScheme, _: &[u8], _: &[u8], _: &[u8]) -> Result<()> {
        Err(Error::UnsupportedAlgorithm(format!(
            "{} over a digest alone",
            scheme.name()
        )))
    }

    #[cfg(feature = "keyless-signing")]
    fn generate_key_pair(&self, algorithm: KeyAlgorithm) -> Result<Box<dyn SigningKeyPair>> {
        match algorithm {
            KeyAlgorithm::EcdsaP256 => Ok(Box::new(short_lived::P256::generate()?)),
            other => Err(Error::UnsupportedAlgorithm(format!("{other:?} keys"))),
        }
    }
}

/// The key of one signature without a key of one's own. Ring signs no digest that somebody else made, and `sigstore-sign` has no other way.
#[cfg(feature = "keyless-signing")]
mod short_lived {
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::signature::hazmat::PrehashSigner as _;
    use p256::ecdsa::{Signature, SigningKey};
    use ring::rand::{SecureRandom as _, SystemRandom};
    use sigstore_verify::crypto::{Error, KeyAlgorithm, Result, SigningKeyPair};

    pub(super) struct P256 {
        key: SigningKey,
        public: Vec<u8>,
    }

    impl P256 {
        pub(super) fn generate() -> Result<Self> {
            let failed = |reason: &str| Error::KeyGeneration(reason.to_owned());
            let mut secret = [0; 32];
            SystemRandom::new()
                .fill(&mut secret)
                .map_err(|_| failed("the machine gives no random numbers"))?;
            // Of 2³² such numbers one is none.
            let key = SigningKey::from_slice(&secret).map_err(|_| failed("an unlucky number; try again"))?;
            let public = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
            Ok(Self { key, public })
        }
    }

    impl SigningKeyPair for P256 {
        fn algorithm(&self) -> KeyAlgorithm {
            KeyAlgorithm::EcdsaP256
        }

        fn public_key_bytes(&self) -> &[u8] {
            &self.public
        }

        fn sign_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
            let signature: Signature = self.key.sign(data);
            Ok(signature.to_der().as_bytes().to_vec())
        }

        fn sign_prehashed(&self, digest: &[u8]) -> Result<Vec<u8>> {
            let signature: Signature = self
                .key
                .sign_prehash(digest)
                .map_err(|error| Error::Signing(error.to_string()))?;
            Ok(signature.to_der().as_bytes().to_vec())
        }
    }
}
