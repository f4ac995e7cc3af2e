//! Certificates for servers on the loopback.

use anyhow::Result;

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

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}
