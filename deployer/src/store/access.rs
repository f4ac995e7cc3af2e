//! How each kind of store is opened.

use std::path::PathBuf;
use std::time::Duration;

use tidewaiter_core::credentials::SecretValue;

/// Addresses and keys, one set a kind of store. Debug shows no key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// For `s3://`.
    pub s3: S3,
    /// For `gs://`.
    pub gcs: Gcs,
    /// For Azure's blob storage.
    pub azure: Azure,
    /// Certificate authorities in PEM that are trusted besides the machine's.
    pub ca_bundle: Option<Vec<u8>>,
    /// Whether any certificate is taken.
    pub insecure: bool,
    /// How long a store may take to answer, a minute by default; where it is sent a file, ten times as long since something of it moved.
    pub timeout: Option<Duration>,
}

/// S3, and what speaks its protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3 {
    /// `https://minio.example:9000`; Amazon's by default.
    pub endpoint: Option<String>,
    /// Of the bucket; `us-east-1` by default, which is what MinIO says too.
    pub region: Option<String>,
    /// Who asks.
    pub identity: S3Identity,
    /// Whether the bucket's name goes before the host's, as with Amazon; by default only there.
    pub virtual_host: Option<bool>,
}

/// Who asks an S3 store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum S3Identity {
    /// The role of the machine, where Amazon gave it one.
    #[default]
    Machine,
    /// Nobody: requests are not signed.
    Anonymous,
    /// A key.
    Key {
        /// `AKIA…`
        id: String,
        /// Its secret.
        secret: SecretValue,
        /// Of a temporary key.
        token: Option<SecretValue>,
    },
}

/// Google Cloud Storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gcs {
    /// In place of Google's.
    pub endpoint: Option<String>,
    /// The JSON key of a service account.
    pub credentials: Option<SecretValue>,
    /// In its place a file with such a key, or the one that `gcloud auth application-default login` wrote; the machine's own account by default.
    pub file: Option<PathBuf>,
    /// Whether requests carry no credentials.
    pub anonymous: bool,
}

/// Azure's blob storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Azure {
    /// In place of Azure's.
    pub endpoint: Option<String>,
    /// Who asks.
    pub identity: AzureIdentity,
}

/// Who asks Azure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AzureIdentity {
    /// The identity of the machine, where Azure gave it one.
    #[default]
    Machine,
    /// Nobody.
    Anonymous,
    /// The storage account's key.
    AccountKey(SecretValue),
    /// An application's secret.
    Client {
        /// `AZURE_TENANT_ID`
        tenant: String,
        /// `AZURE_CLIENT_ID`
        id: String,
        /// `AZURE_CLIENT_SECRET`
        secret: SecretValue,
    },
}

impl S3 {
    /// The endpoint's host, for errors.
    pub(super) fn host(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => host(endpoint),
            None => "s3.amazonaws.com".to_owned(),
        }
    }
}

/// The host and port of a URL; the text itself where it is none.
pub(super) fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_shown() {
        let access = Access {
            s3: S3 {
                identity: S3Identity::Key {
                    id: "AKIA".into(),
                    secret: "hidden".to_owned().into(),
                    token: Some("hidden".to_owned().into()),
                },
                ..S3::default()
            },
            gcs: Gcs {
                credentials: Some("hidden".to_owned().into()),
                ..Gcs::default()
            },
            azure: Azure {
                identity: AzureIdentity::AccountKey("hidden".to_owned().into()),
                ..Azure::default()
            },
            ..Access::default()
        };
        assert!(!format!("{access:?}").contains("hidden"));
    }

    #[test]
    fn an_endpoint_is_named_without_a_password() {
        assert_eq!(host("https://me:hidden@minio:9000/x"), "minio:9000");
        assert_eq!(host("minio"), "minio");
    }
}
