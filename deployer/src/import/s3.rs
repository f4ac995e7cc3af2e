//! How KServe would open an S3 store with a Secret.
//!
//! Source: `pkg/credentials/s3` of KServe 0.15.2 and 0.20.0: for each setting a Secret's annotation counts before its data, and that before KServe's own
//! configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidewaiter_core::backend::{CaBundle, S3Settings, TlsSettings};
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_core::endpoint::Endpoint;

use super::Data;

const ANNOTATION: &str = "serving.kserve.io/";

/// What KServe's configuration says of stores where a Secret doesn't: `credentials.s3` of its ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Defaults {
    #[serde(rename = "s3Endpoint")]
    endpoint: String,
    #[serde(rename = "s3UseHttps")]
    use_https: String,
    #[serde(rename = "s3Region")]
    region: String,
    #[serde(rename = "s3VerifySSL")]
    verify_ssl: String,
    #[serde(rename = "s3UseVirtualBucket")]
    use_virtual_bucket: String,
    #[serde(rename = "s3UseAccelerate")]
    use_accelerate: String,
    #[serde(rename = "s3UseAnonymousCredential")]
    use_anonymous_credential: String,
    #[serde(rename = "s3CABundle")]
    ca_bundle: String,
    #[serde(rename = "s3CABundleConfigMap")]
    ca_bundle_config_map: String,
}

impl Defaults {
    /// From the ConfigMap's `data`. What can't be read is reported elsewhere, and is none here.
    pub fn parse(data: &BTreeMap<String, String>) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Credentials {
            s3: Defaults,
        }
        let credentials = data.get("credentials");
        let credentials = credentials.and_then(|text| serde_json::from_str::<Credentials>(text).ok());
        credentials.unwrap_or_default().s3
    }
}

/// A store, as one Secret describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct S3Store {
    pub(super) settings: S3Settings,
    /// KServe doesn't sign its requests.
    pub(super) anonymous: bool,
    /// What can't be taken over.
    pub(super) notes: Vec<String>,
}

/// Where a store's certificates are looked up: the PEM of a ConfigMap of the Secret's namespace.
pub(super) type Bundles<'a> = &'a dyn Fn(&str) -> Option<String>;

/// From a Secret's annotations and data. The error says which setting makes no sense.
pub(super) fn of_secret(
    annotations: &BTreeMap<String, String>,
    data: &Data,
    defaults: &Defaults,
    bundles: Bundles<'_>,
) -> Result<S3Store, String> {
    let setting = |annotation: &str, key: &str, default: &str| {
        let annotated = annotations.get(&format!("{ANNOTATION}{annotation}")).cloned();
        let text = annotated.or_else(|| text(data.get(key)?));
        Some(text.unwrap_or_else(|| default.to_owned())).filter(|text| !text.is_empty())
    };
    Settings {
        endpoint: setting("s3-endpoint", "S3_ENDPOINT", &defaults.endpoint),
        plain: setting("s3-usehttps", "S3_USE_HTTPS", &defaults.use_https).as_deref() == Some("0"),
        region: setting("s3-region", "AWS_DEFAULT_REGION", &defaults.region),
        unverified: setting("s3-verifyssl", "S3_VERIFY_SSL", &defaults.verify_ssl).is_some_and(|text| is_off(&text)),
        virtual_bucket: setting(
            "s3-usevirtualbucket",
            "S3_USER_VIRTUAL_BUCKET",
            &defaults.use_virtual_bucket,
        )
        .is_some_and(|text| is_on(&text)),
        accelerate: setting("s3-useaccelerate", "S3_USE_ACCELERATE", &defaults.use_accelerate)
            .is_some_and(|text| is_on(&text)),
        anonymous: setting(
            "s3-useanoncredential",
            "awsAnonymousCredential",
            &defaults.use_anonymous_credential,
        )
        .is_some_and(|text| is_on(&text)),
        bundle_path: setting("s3-cabundle", "AWS_CA_BUNDLE", &defaults.ca_bundle),
        bundle: setting(
            "s3-cabundle-configmap",
            "AWS_CA_BUNDLE_CONFIGMAP",
            &defaults.ca_bundle_config_map,
        ),
    }
    .store(bundles)
}

/// From one key's JSON in a Secret of storage-config form.
pub(super) fn of_storage_key(json: &BTreeMap<String, String>, bundles: Bundles<'_>) -> Result<S3Store, String> {
    let setting = |key: &str| json.get(key).cloned().filter(|text| !text.is_empty());
    Settings {
        endpoint: setting("endpoint_url"),
        plain: false,
        region: setting("region"),
        unverified: setting("verify_ssl").is_some_and(|text| is_off(&text)),
        virtual_bucket: false,
        accelerate: false,
        anonymous: setting("anonymous").is_some_and(|text| is_on(&text)),
        bundle_path: setting("ca_bundle"),
        bundle: setting("cabundle_configmap"),
    }
    .store(bundles)
}

#[expect(clippy::struct_excessive_bools, reason = "each is a switch of KServe's")]
struct Settings {
    endpoint: Option<String>,
    plain: bool,
    region: Option<String>,
    unverified: bool,
    virtual_bucket: bool,
    accelerate: bool,
    anonymous: bool,
    bundle_path: Option<String>,
    bundle: Option<String>,
}

impl Settings {
    fn store(self, bundles: Bundles<'_>) -> Result<S3Store, String> {
        let endpoint = match &self.endpoint {
            None => None,
            // A scheme counts before the annotation that says which.
            Some(text) if text.contains("://") => Some(text.clone()),
            Some(text) => Some(format!("{}://{text}", if self.plain { "http" } else { "https" })),
        };
        let endpoint = match endpoint {
            None => None,
            Some(url) => match Endpoint::parse(&url) {
                Ok(endpoint) => Some(endpoint.url()),
                Err(reason) => return Err(format!("its endpoint `{url}` {reason}")),
            },
        };
        let mut notes = Vec::new();
        let mut tls = TlsSettings {
            insecure_skip_verify: self.unverified,
            ca_bundle: None,
        };
        match &self.bundle {
            Some(name) if !self.unverified => match bundles(name) {
                Some(pem) => tls.ca_bundle = Some(CaBundle::Inline(pem)),
                None => notes.push(format!(
                    "ConfigMap {name} with its certificate authorities isn't there: add spec.s3.tls.caBundle"
                )),
            },
            None if self.bundle_path.is_some() && !self.unverified => notes.push(
                "its certificate authorities are a file in the container: add them as spec.s3.tls.caBundle".to_owned(),
            ),
            _ => {}
        }
        Ok(S3Store {
            settings: S3Settings {
                endpoint,
                region: self.region,
                path_style: self.virtual_bucket.then_some(false),
                accelerate: self.accelerate,
                tls: (tls != TlsSettings::default()).then_some(tls),
            },
            anonymous: self.anonymous,
            notes,
        })
    }
}

/// Of a value that is a setting, not a secret.
fn text(value: &SecretValue) -> Option<String> {
    std::str::from_utf8(value.expose())
        .ok()
        .map(|text| text.trim().to_owned())
}

/// As KServe's initializer reads a switch (`strtobool` of its `kserve_storage.py`).
fn is_on(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "1" | "true" | "t" | "yes" | "y" | "on"
    )
}

fn is_off(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "0" | "false" | "f" | "no" | "n" | "off"
    )
}
