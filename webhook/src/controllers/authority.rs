//! Our own certificate authority and the certificate that it signs, as they stand in one Secret; and when they have to change. No clock, no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use pem::Pem;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Clocks of a cluster differ: what is issued is valid this long before now, so that an API server whose clock is behind takes it.
const SKEW: Duration = Duration::from_hours(1);
const CERTIFICATE: &str = "CERTIFICATE";
const AUTHORITY_NAME: &str = "Tidewaiter's webhook authority";

const CERTIFICATE_KEY: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";
const BUNDLE_KEY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";

/// How long what is issued is valid.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of an authority. At least twice [`Self::certificate`]. Default: 365 days.
    pub authority: Duration,
    /// Of the server's certificate, which is renewed when a third of it is left. Default: 90 days.
    pub certificate: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            authority: Duration::from_hours(365 * 24),
            certificate: Duration::from_hours(90 * 24),
        }
    }
}

/// Why nothing can be issued.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    #[error("the Secret has no {0}")]
    Missing(&'static str),
    #[error("the Secret's {0} can't be read")]
    Unreadable(&'static str),
    #[error("the Secret's certificate and keys don't belong together")]
    Strangers,
    #[error("can't issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing for so many seconds.
    Nothing(u64),
    /// The authority is good; a new certificate.
    Certificate,
    /// A new authority, and a certificate signed by it.
    Authority,
}

/// An authority, the certificate that it signed, and other authorities to be trusted meanwhile.
pub(super) struct Issued {
    certificate: Certificate,
    key: String,
    authority: Certificate,
    authority_key: String,
    /// Authorities of before, whose certificates a replica may still use.
    trusted: Vec<Certificate>,
}

/// One certificate and what of it we go by.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    der: Vec<u8>,
    not_before: i64,
    not_after: i64,
    names: Vec<String>,
    public_key: Vec<u8>,
    authority_id: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
}

impl Certificate {
    fn parse(der: Vec<u8>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.into_iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let (mut id, mut authority_id) = (None, None);
        for extension in parsed.extensions() {
            use x509_parser::extensions::ParsedExtension;
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(key) => id = Some(key.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    authority_id = key.key_identifier.as_ref().map(|key| key.0.to_vec());
                }
                _ => {}
            }
        }
        Some(Self {
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            names: names.collect(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            authority_id,
            id,
            der,
        })
    }

    /// All that can be read in a bundle.
    pub(super) fn all(pem: &[u8]) -> Vec<Self> {
        let sections = pem::parse_many(pem).unwrap_or_default();
        let certificates = sections.into_iter().filter(|section| section.tag() == CERTIFICATE);
        certificates
            .filter_map(|section| Self::parse(section.into_contents()))
            .collect()
    }

    fn pem(&self) -> String {
        pem::encode(&Pem::new(CERTIFICATE, self.der.clone()))
    }

    fn valid_at(&self, now: i64) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

impl Issued {
    /// A new authority and its first certificate. `trusted`: whatever API servers trusted before, and are to trust on.
    pub(super) fn new(
        names: &[String],
        trusted: Vec<Certificate>,
        now: i64,
        lifetimes: Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let mut params = validity(CertificateParams::default(), now, lifetimes.authority);
        params.distinguished_name = named(AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.der().to_vec();
        let authority = Certificate::parse(authority).ok_or(AuthorityError::Unreadable(BUNDLE_KEY))?;
        let authority_key = key.serialize_pem();
        let (certificate, key) = issue(&authority, &authority_key, names, now, lifetimes)?;
        let trusted = trusted.into_iter().filter(|other| *other != authority).collect();
        Ok(Self {
            certificate,
            key,
            authority,
            authority_key,
            trusted,
        })
    }

    /// With a new certificate of the same authority.
    pub(super) fn renewed(self, names: &[String], now: i64, lifetimes: Lifetimes) -> Result<Self, AuthorityError> {
        let (certificate, key) = issue(&self.authority, &self.authority_key, names, now, lifetimes)?;
        Ok(Self {
            certificate,
            key,
            ..self
        })
    }

    /// What stands in a Secret.
    pub(super) fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, AuthorityError> {
        let text = |key: &'static str| -> Result<String, AuthorityError> {
            let bytes = data.get(key).ok_or(AuthorityError::Missing(key))?;
            String::from_utf8(bytes.0.clone()).map_err(|_| AuthorityError::Unreadable(key))
        };
        let certificates = |key: &'static str| text(key).map(|text| Certificate::all(text.as_bytes()));
        let certificate = certificates(CERTIFICATE_KEY)?.into_iter().next();
        let mut trusted = certificates(BUNDLE_KEY)?;
        if trusted.is_empty() {
            return Err(AuthorityError::Unreadable(BUNDLE_KEY));
        }
        let issued = Self {
            certificate: certificate.ok_or(AuthorityError::Unreadable(CERTIFICATE_KEY))?,
            key: text(PRIVATE_KEY)?,
            authority: trusted.remove(0),
            authority_key: text(AUTHORITY_KEY)?,
            trusted,
        };
        let public = |pem: &str, key| {
            let key = KeyPair::from_pem(pem).map_err(|_| AuthorityError::Unreadable(key))?;
            Ok::<_, AuthorityError>(key.public_key_raw().to_vec())
        };
        let together = public(&issued.key, PRIVATE_KEY)? == issued.certificate.public_key
            && public(&issued.authority_key, AUTHORITY_KEY)? == issued.authority.public_key
            && issued.authority.id.is_some()
            && issued.certificate.authority_id == issued.authority.id;
        if together {
            Ok(issued)
        } else {
            Err(AuthorityError::Strangers)
        }
    }

    /// As [`Self::read`] reads it.
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let texts = [
            (CERTIFICATE_KEY, self.certificate.pem()),
            (PRIVATE_KEY, self.key.clone()),
            (BUNDLE_KEY, self.all().map(Certificate::pem).collect()),
            (AUTHORITY_KEY, self.authority_key.clone()),
        ];
        texts
            .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
            .into()
    }

    /// What there is to do now. A certificate never outlives its authority, so that one is replaced a certificate's life before it ends.
    pub(super) fn due(&self, names: &[String], now: i64, lifetimes: Lifetimes) -> Due {
        let (last_of_authority, last_of_certificate) = (
            self.authority.not_after - seconds(lifetimes.certificate),
            self.certificate.not_after - seconds(lifetimes.certificate / 3),
        );
        // One that isn't valid yet was issued by a replica whose clock was ahead. One that is valid for longer than is asked for was issued before that was.
        let odd = |certificate: &Certificate, lifetime| {
            certificate.not_before > now || certificate.not_after > now + seconds(lifetime) + seconds(SKEW)
        };
        if now >= last_of_authority || odd(&self.authority, lifetimes.authority) {
            Due::Authority
        } else if now >= last_of_certificate
            || odd(&self.certificate, lifetimes.certificate)
            || self.certificate.names != names
        {
            Due::Certificate
        } else {
            let next = last_of_authority.min(last_of_certificate) - now;
            Due::Nothing(next.unsigned_abs())
        }
    }

    /// All authorities, this one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.authority).chain(&self.trusted)
    }

    /// What API servers are to trust now, as PEM.
    pub(super) fn bundle(&self, now: i64) -> String {
        self.all()
            .filter(|authority| authority.valid_at(now))
            .map(Certificate::pem)
            .collect()
    }
}

/// Those that are worth trusting at a time, each once.
pub(super) fn valid(certificates: impl IntoIterator<Item = Certificate>, now: i64) -> Vec<Certificate> {
    let mut kept: Vec<Certificate> = Vec::new();
    for certificate in certificates {
        if certificate.valid_at(now) && !kept.contains(&certificate) {
            kept.push(certificate);
        }
    }
    kept
}

fn issue(
    authority: &Certificate,
    authority_key: &str,
    names: &[String],
    now: i64,
    lifetimes: Lifetimes,
) -> Result<(Certificate, String), AuthorityError> {
    let issuer = Issuer::from_ca_cert_der(&authority.der.as_slice().into(), KeyPair::from_pem(authority_key)?)?;
    let mut params = validity(CertificateParams::new(names)?, now, lifetimes.certificate);
    params.distinguished_name = named(names.first().map_or("tidewaiter", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = Certificate::parse(params.signed_by(&key, &issuer)?.der().to_vec());
    let certificate = certificate.ok_or(AuthorityError::Unreadable(CERTIFICATE_KEY))?;
    Ok((certificate, key.serialize_pem()))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    // A common name holds 64 characters; who is meant stands in the alternative names.
    distinguished.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    distinguished
}

fn validity(mut params: CertificateParams, now: i64, lifetime: Duration) -> CertificateParams {
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = at(now - seconds(SKEW));
    params.not_after = at(now + seconds(lifetime));
    params
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
