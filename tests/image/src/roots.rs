//! The certificate authorities that Mozilla trusts. The server's TLS reads them from a file when it opens a public store (S3, GCS, Azure, Hugging Face), and an image
//! from scratch has none; a store whose CA is given in its `StorageBackend` needs no file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::layer::File;

/// Where rustls-native-certs looks first. An admin's own bundle is mounted over it, or named in `SSL_CERT_FILE`.
pub const PATH: &str = "etc/ssl/certs/ca-certificates.crt";

/// The bundle as a file of an image.
pub fn file() -> File {
    File::readable(PATH, pem().into_bytes())
}

fn pem() -> String {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(certificate);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn rustls_reads_every_certificate_of_the_bundle() {
        let certificates = CertificateDer::pem_slice_iter(&file().content)
            .collect::<Result<Vec<_>, _>>()
            .expect("PEM");
        assert_eq!(certificates.as_slice(), webpki_root_certs::TLS_SERVER_ROOT_CERTS);
        let (added, ignored) = RootCertStore::empty().add_parsable_certificates(certificates);
        assert!(added > 100 && ignored == 0, "{added} added, {ignored} ignored");
    }
}
