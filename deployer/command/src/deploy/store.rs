//! Keys of a store, for `deploy` and `secret create`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::str::FromStr;

use clap::Args;
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_deployer::store::{Access, AzureIdentity, S3Identity};
use tidewaiter_deployer::submit::StoreSettings;

use super::super::{Failure, stores};

/// A value, or @FILE with it. It is never shown.
#[derive(Clone)]
pub(crate) struct Given(String);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Given {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// The keys of one store. Each is a value, or @FILE with it; variables of the environment are those of the stores' own tools.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The store's keys")]
pub(crate) struct StoreArguments {
    /// S3: the access key's ID
    #[arg(
        long,
        alias = "aws_access_key_id",
        value_name = "ID",
        env = "AWS_ACCESS_KEY_ID",
        hide_env_values = true
    )]
    aws_access_key_id: Option<Given>,
    /// S3: the secret access key
    #[arg(
        long,
        alias = "aws_secret_access_key",
        value_name = "KEY",
        env = "AWS_SECRET_ACCESS_KEY",
        hide_env_values = true
    )]
    aws_secret_access_key: Option<Given>,
    /// S3: where the store listens, such as http://minio.minio:9000; Amazon's by default
    #[arg(long, alias = "s3_endpoint", value_name = "URL", env = "AWS_ENDPOINT_URL")]
    s3_endpoint: Option<String>,
    /// S3: its region
    #[arg(long, alias = "s3_region", value_name = "REGION", env = "AWS_DEFAULT_REGION")]
    s3_region: Option<String>,
    /// S3: 0 for plain HTTP, where the endpoint has no scheme
    #[arg(long, alias = "s3_use_https", value_name = "0|1", value_parser = switch)]
    s3_use_https: Option<bool>,
    /// S3: 0 to take any certificate
    #[arg(long, alias = "s3_verify_ssl", value_name = "0|1", value_parser = switch)]
    s3_verify_ssl: Option<bool>,
    /// Google Cloud Storage: a service account's JSON key, usually @FILE
    #[arg(long, alias = "google_application_credentials", value_name = "JSON")]
    google_application_credentials: Option<Given>,
    /// Azure: the subscription
    #[arg(
        long,
        alias = "azure_subscription_id",
        value_name = "ID",
        env = "AZURE_SUBSCRIPTION_ID",
        hide_env_values = true
    )]
    azure_subscription_id: Option<Given>,
    /// Azure: the service principal
    #[arg(
        long,
        alias = "azure_client_id",
        value_name = "ID",
        env = "AZURE_CLIENT_ID",
        hide_env_values = true
    )]
    azure_client_id: Option<Given>,
    /// Azure: its secret
    #[arg(
        long,
        alias = "azure_client_secret",
        value_name = "SECRET",
        env = "AZURE_CLIENT_SECRET",
        hide_env_values = true
    )]
    azure_client_secret: Option<Given>,
    /// Azure: its tenant
    #[arg(
        long,
        alias = "azure_tenant_id",
        value_name = "ID",
        env = "AZURE_TENANT_ID",
        hide_env_values = true
    )]
    azure_tenant_id: Option<Given>,
    /// Azure: a storage account's key, in place of a service principal
    #[arg(
        long,
        alias = "azure_storage_access_key",
        value_name = "KEY",
        env = "AZURE_STORAGE_ACCESS_KEY",
        hide_env_values = true
    )]
    azure_storage_access_key: Option<Given>,
    /// Hugging Face: a token
    #[arg(
        long,
        alias = "hf_token",
        value_name = "TOKEN",
        env = "HF_TOKEN",
        hide_env_values = true
    )]
    hf_token: Option<Given>,
}

impl StoreArguments {
    /// The keys that were given, each read from its file where it names one.
    pub(crate) fn keys(&self) -> Result<BTreeMap<String, SecretValue>, Failure> {
        let given = [
            ("aws_access_key_id", &self.aws_access_key_id),
            ("aws_secret_access_key", &self.aws_secret_access_key),
            ("google_application_credentials", &self.google_application_credentials),
            ("azure_subscription_id", &self.azure_subscription_id),
            ("azure_client_id", &self.azure_client_id),
            ("azure_client_secret", &self.azure_client_secret),
            ("azure_tenant_id", &self.azure_tenant_id),
            ("azure_storage_access_key", &self.azure_storage_access_key),
            ("hf_token", &self.hf_token),
        ];
        let mut keys = BTreeMap::new();
        for (name, value) in given {
            let Some(Given(text)) = value else { continue };
            let value = match text.strip_prefix('@') {
                Some(file) => {
                    let read = fs::read(file).map_err(|error| Failure {
                        message: format!("can't read {file} for {name}: {error}"),
                        next: Some(format!(
                            "write --{}=@FILE, with a file that is there",
                            name.replace('_', "-")
                        )),
                    })?;
                    SecretValue::from(read.trim_ascii_end())
                }
                None => SecretValue::from(text.clone()),
            };
            keys.insert(name.to_owned(), value);
        }
        Ok(keys)
    }

    /// Of keys for several stores, as an environment may hold them, those that open a URI.
    pub(crate) fn keys_for(&self, uri: &str) -> Result<BTreeMap<String, SecretValue>, Failure> {
        let prefix = if uri.starts_with("s3:") {
            "aws_"
        } else if uri.starts_with("gs:") {
            "google_"
        } else if uri.starts_with("hf:") {
            "hf_"
        } else if uri.contains(".blob.core.") {
            "azure_"
        } else {
            return Ok(BTreeMap::new());
        };
        let mut keys = self.keys()?;
        keys.retain(|name, _| name.starts_with(prefix));
        Ok(keys)
    }

    /// How the store is reached, where it is S3.
    pub(crate) fn settings(&self) -> StoreSettings {
        StoreSettings {
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            use_https: self.s3_use_https,
            verify_ssl: self.s3_verify_ssl,
        }
    }

    /// The same, and where nothing is said here as the store is reached from here: what was uploaded to an address of `~/.aws` or MLflow's is to be read there.
    pub(crate) fn settings_as_used(&self) -> Result<StoreSettings, Failure> {
        let (said, used) = (self.settings(), self.access()?.s3);
        Ok(StoreSettings {
            endpoint: said.endpoint.or(used.endpoint),
            region: said.region.or(used.region),
            ..said
        })
    }

    /// The token of the environment, where the key is the environment's too: they belong together.
    pub(crate) fn session_token(&self) -> Option<String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Given(id) = self.aws_access_key_id.as_ref()?;
        variable("AWS_SESSION_TOKEN").filter(|_| variable("AWS_ACCESS_KEY_ID").as_ref() == Some(id))
    }

    /// The same for this command itself, which looks into the store and uploads to it: as `inspect` and `upload` find their keys, in `~/.aws` too, unless keys are given here.
    pub(crate) fn access(&self) -> Result<Access, Failure> {
        let keys = self.keys()?;
        let text = |name: &str| {
            let value = keys.get(name)?;
            String::from_utf8(value.expose().to_vec()).ok()
        };
        let mut access = stores::StoreArguments::default().access()?;
        access.insecure = self.s3_verify_ssl == Some(false);
        if let Some(endpoint) = &self.s3_endpoint {
            access.s3.endpoint = Some(match self.s3_use_https {
                _ if endpoint.contains("://") => endpoint.clone(),
                Some(false) => format!("http://{endpoint}"),
                _ => format!("https://{endpoint}"),
            });
        }
        if self.s3_region.is_some() {
            access.s3.region.clone_from(&self.s3_region);
        }
        if let (Some(id), Some(secret)) = (text("aws_access_key_id"), keys.get("aws_secret_access_key")) {
            access.s3.identity = S3Identity::Key {
                id,
                secret: secret.clone(),
                token: self.session_token().map(SecretValue::from),
            };
        }
        if let Some(key) = keys.get("google_application_credentials") {
            access.gcs.credentials = Some(key.clone());
        }
        if let Some(key) = keys.get("azure_storage_access_key") {
            access.azure.identity = AzureIdentity::AccountKey(key.clone());
        } else if let (Some(tenant), Some(id), Some(secret)) = (
            text("azure_tenant_id"),
            text("azure_client_id"),
            keys.get("azure_client_secret"),
        ) {
            access.azure.identity = AzureIdentity::Client {
                tenant,
                id,
                secret: secret.clone(),
            };
        }
        Ok(access)
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "0" | "false" => Ok(false),
        "1" | "true" => Ok(true),
        _ => Err("write 0 or 1".to_owned()),
    }
}
