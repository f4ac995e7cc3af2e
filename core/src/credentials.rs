//! From the Secret that an admin has to the one that KServe understands, and back: which Secrets KServe would take.
//!
//! Source: `pkg/credentials` of KServe 0.15.2 and 0.20.0. What is written here means the same to both: the endpoint without its scheme, since
//! 0.15 puts one before it; all of Azure's client keys, since 0.15 refers to each of them.

use std::collections::BTreeMap;
use std::fmt;

use crate::backend::{Backend, BackendType, Credentials, S3Settings, TlsSettings, managed_name};
use crate::kserve_config::KserveConfig;

/// What a Secret holds under a key. It is never shown: `Debug` tells its length.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// The bytes themselves, for whoever hands them to KServe or to a store.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "*** ({} bytes)", self.0.len())
    }
}

impl From<&[u8]> for SecretValue {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<String> for SecretValue {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

/// A Secret for KServe, but for its name ([`managed_name`]), namespace and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretContents {
    /// Kubernetes' type of the Secret.
    pub type_: &'static str,
    /// KServe's settings for S3. Their values are copied into Deployments: nothing secret, and nothing that changes with the keys.
    pub annotations: BTreeMap<String, String>,
    /// Under KServe's key names.
    pub data: BTreeMap<String, SecretValue>,
}

impl SecretContents {
    fn empty() -> Self {
        Self {
            type_: "Opaque",
            annotations: BTreeMap::new(),
            data: BTreeMap::new(),
        }
    }
}

/// Why no Secret for KServe can be made. Tells key names, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The Secret has no credentials for this kind of store.
    #[error(
        "Secret {secret} has no {wanted} for a store of type {kind}; {found}; add the keys, or name them in spec.credentials.secretRef.keys"
    )]
    Missing {
        /// `namespace/name`
        secret: String,
        /// The keys, as KServe calls them.
        wanted: String,
        /// As in `spec.type`.
        kind: &'static str,
        /// What is there instead.
        found: String,
    },
    /// A key that the backend names isn't there, or is empty.
    #[error("Secret {secret} has nothing under `{key}`, which spec.credentials.secretRef.keys names for {role}")]
    NamedKeyMissing {
        /// `namespace/name`
        secret: String,
        /// The key that was named.
        key: String,
        /// For what.
        role: String,
    },
    /// A value is not of the form that KServe reads.
    #[error("Secret {secret}, key {key}: it is not {expected}")]
    Malformed {
        /// `namespace/name`
        secret: String,
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// The prefix of KServe's annotations.
const ANNOTATION_PREFIX: &str = "serving.kserve.io/";

/// The data key for storage-key delivery: in our own Secret there is one for each backend.
pub fn storage_key(backend: &str) -> &str {
    backend
}

/// The Secret by which KServe opens a backend's store, for every delivery: annotation and ServiceAccount read the keys, and for S3 a storage key reads the
/// JSON beside them, so that a change of the delivery leaves services that are running as they are. `source` is the data of the Secret that the backend
/// names; empty for one that is anonymous. The same input gives the same Secret.
///
/// # Errors
/// Where the source lacks a key.
pub fn kserve_secret(
    backend: &Backend,
    source: &BTreeMap<String, Vec<u8>>,
    config: &KserveConfig,
) -> Result<SecretContents, CredentialsError> {
    let source = Source::new(backend, source);
    let mut contents = SecretContents::empty();
    match backend.spec().kind {
        BackendType::S3 => {
            let anonymous = !matches!(backend.spec().credentials, Credentials::SecretRef(_));
            let key = (!anonymous).then(|| source.s3_pair(config)).transpose()?;
            s3(backend, key, config, &mut contents);
        }
        BackendType::Gcs => gcs(&source, config, &mut contents)?,
        BackendType::Azure => azure(&source, &mut contents)?,
        BackendType::HuggingFace => hugging_face(&source, &mut contents)?,
        BackendType::Https => https(backend, &source, &mut contents)?,
        BackendType::Hdfs => hdfs(&source, &mut contents)?,
    }
    Ok(contents)
}

/// The same for a backend of type `s3`, with an access key that was minted for one namespace.
pub fn kserve_secret_with_key(backend: &Backend, id: &str, secret: &str, config: &KserveConfig) -> SecretContents {
    let mut contents = SecretContents::empty();
    s3(backend, Some((id.to_owned(), secret.to_owned())), config, &mut contents);
    contents
}

/// Without a key for one that is anonymous.
fn s3(backend: &Backend, key: Option<(String, String)>, config: &KserveConfig, contents: &mut SecretContents) {
    let none = S3Settings::default();
    let settings = backend.spec().s3.as_ref().unwrap_or(&none);
    let anonymous = key.is_none();
    // KServe looks at the settings of a Secret only if it has a secret key.
    let (id, secret) = key.unwrap_or_default();
    let mut json: BTreeMap<&str, String> = BTreeMap::from([("type", "s3".to_owned())]);
    if !anonymous {
        json.extend([("access_key_id", id.clone()), ("secret_access_key", secret.clone())]);
    }
    contents.data.extend([
        (config.s3_access_key_id.clone(), id.into()),
        (config.s3_secret_access_key.clone(), secret.into()),
    ]);
    let mut annotate = |name: &str, value: &str| {
        contents
            .annotations
            .insert(format!("{ANNOTATION_PREFIX}{name}"), value.to_owned())
    };
    if let Some(endpoint) = settings.parsed_endpoint() {
        annotate("s3-endpoint", &endpoint.host);
        annotate("s3-usehttps", if endpoint.tls { "1" } else { "0" });
        json.insert("endpoint_url", endpoint.url());
    }
    if let Some(region) = &settings.region {
        annotate("s3-region", region);
        json.insert("region", region.clone());
    }
    if settings.path_style == Some(false) {
        annotate("s3-usevirtualbucket", "true");
    }
    if settings.accelerate {
        annotate("s3-useaccelerate", "true");
    }
    match &settings.tls {
        Some(TlsSettings {
            insecure_skip_verify: true,
            ..
        }) => {
            annotate("s3-verifyssl", "0");
            json.insert("verify_ssl", "0".to_owned());
        }
        Some(TlsSettings { ca_bundle: Some(_), .. }) => {
            annotate("s3-cabundle-configmap", &managed_name(backend.name()));
            json.insert("cabundle_configmap", managed_name(backend.name()));
        }
        _ => {}
    }
    if anonymous {
        annotate("s3-useanoncredential", "true");
        json.insert("anonymous", "true".to_owned());
    }
    contents.data.insert(
        storage_key(backend.name()).to_owned(),
        serde_json::json!(json).to_string().into(),
    );
}

fn gcs(source: &Source<'_>, config: &KserveConfig, contents: &mut SecretContents) -> Result<(), CredentialsError> {
    const SPELLINGS: [&str; 7] = [
        "gcloudapplicationcredentialsjson",
        "googleapplicationcredentials",
        "googleapplicationcredentialsjson",
        "credentialsjson",
        "serviceaccountjson",
        "keyjson",
        "credentials",
    ];
    let wanted = "gcloud-application-credentials.json";
    let (key, file) = source.find(wanted, &SPELLINGS)?.ok_or_else(|| source.missing(wanted))?;
    source.json_object(key, file)?;
    contents.data.insert(config.gcs_credentials_file.clone(), file.into());
    Ok(())
}

fn azure(source: &Source<'_>, contents: &mut SecretContents) -> Result<(), CredentialsError> {
    let find = |name: &str| {
        let plain = normal(name);
        let legacy = plain.replacen("azure", "az", 1);
        source.text(name, &[&plain, &legacy])
    };
    let client = (
        find("AZURE_CLIENT_ID")?,
        find("AZURE_CLIENT_SECRET")?,
        find("AZURE_TENANT_ID")?,
    );
    if let (Some(id), Some(secret), Some(tenant)) = client {
        let subscription = find("AZURE_SUBSCRIPTION_ID")?.unwrap_or_default();
        for (key, value) in [
            ("AZURE_CLIENT_ID", id),
            ("AZURE_CLIENT_SECRET", secret),
            ("AZURE_TENANT_ID", tenant),
            ("AZURE_SUBSCRIPTION_ID", subscription),
        ] {
            contents.data.insert(key.to_owned(), value.into());
        }
        return Ok(());
    }
    if let Some(key) = source.text(
        "AZURE_STORAGE_ACCESS_KEY",
        &[
            "azurestorageaccesskey",
            "azurestoragekey",
            "azurestorageaccountkey",
            "accountkey",
        ],
    )? {
        contents.data.insert("AZURE_STORAGE_ACCESS_KEY".to_owned(), key.into());
        return Ok(());
    }
    if let Some(token) = find("AZURE_ACCESS_TOKEN")? {
        contents.data.insert("AZURE_ACCESS_TOKEN".to_owned(), token.into());
        for key in [
            "AZURE_ACCESS_EXPIRES_ON_SECONDS",
            "AZURE_ACCOUNT_NAME",
            "AZURE_SERVICE_URL",
        ] {
            if let Some(value) = find(key)? {
                contents.data.insert(key.to_owned(), value.into());
            }
        }
        return Ok(());
    }
    Err(source.missing("AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID, and no AZURE_STORAGE_ACCESS_KEY"))
}

fn hugging_face(source: &Source<'_>, contents: &mut SecretContents) -> Result<(), CredentialsError> {
    const SPELLINGS: [&str; 6] = [
        "hftoken",
        "token",
        "huggingfacetoken",
        "huggingfacehubtoken",
        "huggingfacehubapitoken",
        "hfapitoken",
    ];
    let token = source
        .text("HF_TOKEN", &SPELLINGS)?
        .ok_or_else(|| source.missing("HF_TOKEN"))?;
    contents.data.insert("HF_TOKEN".to_owned(), token.into());
    Ok(())
}

fn https(backend: &Backend, source: &Source<'_>, contents: &mut SecretContents) -> Result<(), CredentialsError> {
    let host = match source.text("https-host", &["httpshost", "host"])? {
        Some(host) => host,
        None => only_host(backend).ok_or_else(|| source.missing("https-host"))?,
    };
    let (key, headers) = source
        .find("headers", &["headers"])?
        .ok_or_else(|| source.missing("headers"))?;
    source.json_object(key, headers)?;
    contents.data.extend([
        ("https-host".to_owned(), host.into()),
        ("headers".to_owned(), headers.into()),
    ]);
    Ok(())
}

/// The host, where a backend serves one and no other.
fn only_host(backend: &Backend) -> Option<String> {
    let mut hosts = backend
        .serves()
        .iter()
        .map(|pattern| pattern.as_str().split('/').nth(2).unwrap_or_default());
    let first = hosts.next().filter(|host| !host.is_empty() && !host.contains('*'))?;
    hosts.all(|host| host == first).then(|| first.to_owned())
}

fn hdfs(source: &Source<'_>, contents: &mut SecretContents) -> Result<(), CredentialsError> {
    const KEYS: [&str; 11] = [
        "HDFS_NAMENODE",
        "HDFS_ROOTPATH",
        "KERBEROS_PRINCIPAL",
        "KERBEROS_KEYTAB",
        "TLS_CERT",
        "TLS_KEY",
        "TLS_CA",
        "TLS_SKIP_VERIFY",
        "USER_PROXY",
        "HEADERS",
        "N_THREADS",
    ];
    for key in KEYS {
        if let Some((_, value)) = source.find(key, &[&normal(key)])? {
            contents.data.insert(key.to_owned(), value.into());
        }
    }
    if contents.data.contains_key("HDFS_NAMENODE") {
        Ok(())
    } else {
        Err(source.missing("HDFS_NAMENODE"))
    }
}

/// Which kind of store KServe takes a Secret for, by its keys; none where it would pass over it without a word.
pub fn recognise<'a>(keys: impl IntoIterator<Item = &'a str>, config: &KserveConfig) -> Option<BackendType> {
    let keys: Vec<&str> = keys.into_iter().collect();
    let has = |key: &str| keys.contains(&key);
    if has(&config.s3_secret_access_key) {
        // KServe refers to the ID too: without it the Pod doesn't start.
        return has(&config.s3_access_key_id).then_some(BackendType::S3);
    }
    if has(&config.gcs_credentials_file) {
        return Some(BackendType::Gcs);
    }
    if [
        "AZ_CLIENT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_ACCESS_TOKEN",
        "AZURE_STORAGE_ACCESS_KEY",
    ]
    .into_iter()
    .any(has)
    {
        return Some(BackendType::Azure);
    }
    if has("https-host") {
        return has("headers").then_some(BackendType::Https);
    }
    if has("HDFS_NAMENODE") {
        return Some(BackendType::Hdfs);
    }
    has("HF_TOKEN").then_some(BackendType::HuggingFace)
}

/// A key's name without what spellings differ in: `AWS_ACCESS_KEY_ID`, `awsAccessKeyID` and `aws-access-key-id` are one.
fn normal(key: &str) -> String {
    key.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// The Secret that a backend names.
struct Source<'a> {
    /// `namespace/name`
    name: String,
    kind: BackendType,
    data: &'a BTreeMap<String, Vec<u8>>,
    named: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Source<'a> {
    fn new(backend: &'a Backend, data: &'a BTreeMap<String, Vec<u8>>) -> Self {
        let (name, named) = match &backend.spec().credentials {
            Credentials::SecretRef(secret) => (format!("{}/{}", secret.namespace, secret.name), Some(&secret.keys)),
            Credentials::WorkloadIdentity(_) | Credentials::Anonymous(_) => (String::new(), None),
        };
        Self {
            name,
            kind: backend.spec().kind,
            data,
            named,
        }
    }

    /// The key that the backend names for this role, else the first of the spellings that is there and not empty.
    fn find(&self, role: &str, spellings: &[&str]) -> Result<Option<(&'a str, &'a [u8])>, CredentialsError> {
        let value = |key: &str| {
            self.data
                .get_key_value(key)
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| (key.as_str(), value.as_slice()))
        };
        if let Some(key) = self.named.and_then(|named| named.get(role)) {
            let named = || CredentialsError::NamedKeyMissing {
                secret: self.name.clone(),
                key: key.clone(),
                role: role.to_owned(),
            };
            return value(key).ok_or_else(named).map(Some);
        }
        Ok(spellings
            .iter()
            .find_map(|spelling| value(self.data.keys().find(|key| normal(key) == *spelling)?)))
    }

    /// As [`Self::find`], as text without blanks around it: a newline at the end of a key is the most common mistake with Secrets.
    fn text(&self, role: &str, spellings: &[&str]) -> Result<Option<String>, CredentialsError> {
        let Some((key, value)) = self.find(role, spellings)? else {
            return Ok(None);
        };
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(_) => Err(CredentialsError::Malformed {
                secret: self.name.clone(),
                key: key.to_owned(),
                expected: "text",
            }),
        }
    }

    /// The two halves of an S3 key, of one spelling: a Secret may hold a root's and a user's.
    fn s3_pair(&self, config: &KserveConfig) -> Result<(String, String), CredentialsError> {
        const ID: &str = "AWS_ACCESS_KEY_ID";
        const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
        let configured = (normal(&config.s3_access_key_id), normal(&config.s3_secret_access_key));
        let spellings = [
            ("awsaccesskeyid", "awssecretaccesskey"),
            (configured.0.as_str(), configured.1.as_str()),
            ("accesskeyid", "secretaccesskey"),
            ("accesskey", "secretkey"),
            ("minioaccesskey", "miniosecretkey"),
            ("consoleaccesskey", "consolesecretkey"),
            ("rootuser", "rootpassword"),
            ("miniorootuser", "miniorootpassword"),
        ];
        for (id, secret) in spellings {
            if let (Some(id), Some(secret)) = (self.text(ID, &[id])?, self.text(SECRET, &[secret])?) {
                return Ok((id, secret));
            }
        }
        Err(self.missing(
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or accessKey and secretKey, or rootUser and rootPassword)",
        ))
    }

    fn json_object(&self, key: &str, value: &[u8]) -> Result<(), CredentialsError> {
        let malformed = |_| CredentialsError::Malformed {
            secret: self.name.clone(),
            key: key.to_owned(),
            expected: "a JSON object, which KServe reads it as",
        };
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(value)
            .map(drop)
            .map_err(malformed)
    }

    fn missing(&self, wanted: &str) -> CredentialsError {
        // Not which keys it has: the user of a refused object reads this too.
        let found = if self.data.values().all(Vec::is_empty) {
            "it is empty"
        } else {
            "it has others"
        };
        CredentialsError::Missing {
            secret: self.name.clone(),
            wanted: wanted.to_owned(),
            kind: self.kind.as_str(),
            found: found.to_owned(),
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
