//! Certificates for the ground's servers.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// A self-signed certificate that is its own authority, and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Pair {
    /// The certificate as a webhook configuration's `caBundle` wants it.
    pub fn bundle(&self) -> String {
        base64(self.certificate.as_bytes())
    }
}

/// Makes a pair for these names and addresses.
pub fn pair(names: &[&str]) -> Result<Pair> {
    let made = rcgen::generate_simple_self_signed(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
    Ok(Pair {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    })
}

/// An authority that signs servers' certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes one.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate, as PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for these names and addresses, and its key.
    pub fn issue(&self, names: &[&str]) -> Result<Pair> {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params
            .distinguished_name
            .push(DnType::CommonName, names.first().copied().unwrap_or_default());
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.0)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What [`base64`] made.
pub fn from_base64(text: &str) -> Result<Vec<u8>> {
    use ::base64::Engine as _;
    Ok(::base64::engine::general_purpose::STANDARD.decode(text)?)
}
