//! Whom to trust: one configuration for REST and gRPC.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::Error;

/// The authorities that this machine trusts, and these.
pub(super) fn config(authorities: Option<&[u8]>, alpn: &[&[u8]]) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    // A machine may have certificates that nobody can read; one that has none at all still trusts those named here.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = authorities {
        let mut any = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| Error::Authority(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| Error::Authority(error.to_string()))?;
            any = true;
        }
        if !any {
            return Err(Error::Authority("there is none".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Authority(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Whether a connection failed by its certificate, anywhere among the causes.
pub(super) fn is_about_certificates(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("certificate") || text.contains("UnknownIssuer") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The cause that says something.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_refused() {
        for wrong in [&b""[..], b"nonsense"] {
            let error = config(Some(wrong), &[]).unwrap_err();
            assert!(matches!(error, Error::Authority(_)), "{error}");
        }
        config(None, &[b"h2"]).unwrap();
    }
}
