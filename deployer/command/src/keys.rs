//! Keys of a store as flags: each a value, or @FILE with it. Where none is given, those that the stores' own tools take from the environment.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::str::FromStr;

use clap::Args;
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_deployer::submit::StoreSettings;

use super::Failure;
use super::stores::{ENDPOINTS, REGIONS, first, variable};

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

/// The keys of one store, and how an S3 store is reached.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The store")]
pub(crate) struct KeyArguments {
    /// S3: the access key's ID, or @FILE with it; by default AWS_ACCESS_KEY_ID
    #[arg(long, alias = "aws_access_key_id", value_name = "ID")]
    aws_access_key_id: Option<Given>,
    /// S3: the secret access key, or @FILE with it; by default AWS_SECRET_ACCESS_KEY
    #[arg(long, alias = "aws_secret_access_key", value_name = "KEY")]
    aws_secret_access_key: Option<Given>,
    /// S3: where the store listens, such as http://minio.minio:9000; by default AWS_ENDPOINT_URL, MLFLOW_S3_ENDPOINT_URL, or Amazon's
    #[arg(long, alias = "s3_endpoint", value_name = "URL")]
    s3_endpoint: Option<String>,
    /// S3: the bucket's region; by default AWS_REGION, or us-east-1
    #[arg(long, alias = "s3_region", value_name = "REGION")]
    s3_region: Option<String>,
    /// S3: 0 for plain HTTP, where the endpoint has no scheme
    #[arg(long, alias = "s3_use_https", value_name = "0|1", value_parser = switch)]
    s3_use_https: Option<bool>,
    /// S3: 0 to take any certificate
    #[arg(long, alias = "s3_verify_ssl", value_name = "0|1", value_parser = switch)]
    pub(super) s3_verify_ssl: Option<bool>,
    /// Google Cloud Storage: a service account's JSON key, usually @FILE
    #[arg(long, alias = "google_application_credentials", value_name = "JSON")]
    google_application_credentials: Option<Given>,
    /// Azure: the subscription; by default AZURE_SUBSCRIPTION_ID
    #[arg(long, alias = "azure_subscription_id", value_name = "ID")]
    azure_subscription_id: Option<Given>,
    /// Azure: the service principal; by default AZURE_CLIENT_ID
    #[arg(long, alias = "azure_client_id", value_name = "ID")]
    azure_client_id: Option<Given>,
    /// Azure: its secret, or @FILE with it; by default AZURE_CLIENT_SECRET
    #[arg(long, alias = "azure_client_secret", value_name = "SECRET")]
    azure_client_secret: Option<Given>,
    /// Azure: its tenant; by default AZURE_TENANT_ID
    #[arg(long, alias = "azure_tenant_id", value_name = "ID")]
    azure_tenant_id: Option<Given>,
    /// Azure: a storage account's key, in place of a service principal; by default AZURE_STORAGE_ACCESS_KEY
    #[arg(long, alias = "azure_storage_access_key", value_name = "KEY")]
    azure_storage_access_key: Option<Given>,
    /// Hugging Face: a token, or @FILE with it; by default HF_TOKEN
    #[arg(long, alias = "hf_token", value_name = "TOKEN")]
    hf_token: Option<Given>,
}

/// The names that keys have here, and the variables that hold them where no flag does. What stands before the first `_` is the kind of store.
const KEYS: [(&str, Option<&str>); 9] = [
    ("aws_access_key_id", Some("AWS_ACCESS_KEY_ID")),
    ("aws_secret_access_key", Some("AWS_SECRET_ACCESS_KEY")),
    ("google_application_credentials", None),
    ("azure_subscription_id", Some("AZURE_SUBSCRIPTION_ID")),
    ("azure_client_id", Some("AZURE_CLIENT_ID")),
    ("azure_client_secret", Some("AZURE_CLIENT_SECRET")),
    ("azure_tenant_id", Some("AZURE_TENANT_ID")),
    ("azure_storage_access_key", Some("AZURE_STORAGE_ACCESS_KEY")),
    ("hf_token", Some("HF_TOKEN")),
];

/// What stores of one kind are called in the names of their keys.
fn kind(name: &str) -> &str {
    name.split('_').next().unwrap_or(name)
}

/// The kind of the keys that open a URI.
fn kind_for(uri: &str) -> Option<&'static str> {
    Some(match uri.split_once(':') {
        Some(("s3", _)) => "aws",
        Some(("gs", _)) => "google",
        Some(("hf", _)) => "hf",
        _ if uri.contains(".blob.core.") => "azure",
        _ => return None,
    })
}

/// A store's keys by their names.
pub(super) type Keys = BTreeMap<String, SecretValue>;

impl KeyArguments {
    /// The keys that were given by flags, each read from its file where it names one.
    pub(super) fn flags(&self) -> Result<Keys, Failure> {
        let mut keys = Keys::new();
        for (name, Given(text)) in self.given() {
            keys.insert(name.to_owned(), read(name, text)?);
        }
        Ok(keys)
    }

    /// Whether flags give a key that opens a URI.
    pub(crate) fn has_flags_for(&self, uri: &str) -> bool {
        let wanted = kind_for(uri);
        self.given().any(|(name, _)| Some(kind(name)) == wanted)
    }

    fn given(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        let given = [
            &self.aws_access_key_id,
            &self.aws_secret_access_key,
            &self.google_application_credentials,
            &self.azure_subscription_id,
            &self.azure_client_id,
            &self.azure_client_secret,
            &self.azure_tenant_id,
            &self.azure_storage_access_key,
            &self.hf_token,
        ];
        let named = KEYS.iter().zip(given);
        named.filter_map(|((name, _), given)| Some((*name, given.as_ref()?)))
    }

    /// The keys of the store that flags give keys of, with what they leave out from the environment. Without a flag all that the environment has.
    pub(crate) fn keys(&self) -> Result<Keys, Failure> {
        let flags = self.flags()?;
        Ok(with_environment(flags, variable))
    }

    /// Of keys for several stores, as an environment may hold them, those that open a URI.
    pub(crate) fn keys_for(&self, uri: &str) -> Result<Keys, Failure> {
        let Some(wanted) = kind_for(uri) else {
            return Ok(Keys::new());
        };
        let mut flags = self.flags()?;
        flags.retain(|name, _| kind(name) == wanted);
        let mut keys = with_environment(flags, variable);
        keys.retain(|name, _| kind(name) == wanted);
        Ok(keys)
    }

    /// How the store of these keys is reached. What the environment says of S3 counts with keys of S3 alone: the user may work with several stores.
    pub(crate) fn settings(&self, keys: &Keys) -> StoreSettings {
        let is_s3 = keys.keys().any(|name| kind(name) == "aws");
        let environment = |names: &[&str]| is_s3.then(|| first(names)).flatten();
        StoreSettings {
            endpoint: self.s3_endpoint.clone().or_else(|| environment(&ENDPOINTS)),
            region: self.s3_region.clone().or_else(|| environment(&REGIONS)),
            use_https: self.s3_use_https,
            verify_ssl: self.s3_verify_ssl,
        }
    }

    /// The S3 store's address and region as flags give them, the address with its scheme.
    pub(super) fn s3(&self) -> (Option<String>, Option<String>) {
        let endpoint = self.s3_endpoint.as_ref().map(|endpoint| match self.s3_use_https {
            _ if endpoint.contains("://") => endpoint.clone(),
            Some(false) => format!("http://{endpoint}"),
            _ => format!("https://{endpoint}"),
        });
        (endpoint, self.s3_region.clone())
    }
}

fn with_environment(flags: Keys, variable: impl Fn(&str) -> Option<String>) -> Keys {
    let wanted: Vec<String> = flags.keys().map(|name| kind(name).to_owned()).collect();
    let mut keys = flags;
    for (name, of) in KEYS {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|wanted| wanted == kind(name));
        if let Some(value) = of.filter(|_| is_wanted && !keys.contains_key(name)).and_then(&variable) {
            keys.insert(name.to_owned(), SecretValue::from(value));
        }
    }
    keys
}

fn read(name: &str, text: &str) -> Result<SecretValue, Failure> {
    let Some(file) = text.strip_prefix('@') else {
        return Ok(SecretValue::from(text.to_owned()));
    };
    let read = fs::read(file).map_err(|error| Failure {
        message: format!("can't read {file} for {name}: {error}"),
        next: Some(format!(
            "write --{}=@FILE, with a file that is there",
            name.replace('_', "-")
        )),
    })?;
    Ok(SecretValue::from(read.trim_ascii_end()))
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "0" | "false" => Ok(false),
        "1" | "true" => Ok(true),
        _ => Err("write 0 or 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(flags: &[&str], environment: &[&str]) -> Vec<String> {
        let flags = flags
            .iter()
            .map(|name| ((*name).to_owned(), SecretValue::from("flag".to_owned())));
        let keys = with_environment(flags.collect(), |name| {
            environment.contains(&name).then(|| "variable".to_owned())
        });
        let told = |(name, value): (String, SecretValue)| format!("{name} {}", String::from_utf8_lossy(value.expose()));
        keys.into_iter().map(told).collect()
    }

    #[test]
    fn the_environment_of_another_store_is_left_alone() {
        let aws = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        assert_eq!(
            names(&["google_application_credentials"], &aws),
            ["google_application_credentials flag"]
        );
        assert_eq!(
            names(&["azure_client_secret"], &["AZURE_CLIENT_ID", "AWS_ACCESS_KEY_ID"]),
            ["azure_client_id variable", "azure_client_secret flag"]
        );
        assert_eq!(
            names(&[], &aws),
            ["aws_access_key_id variable", "aws_secret_access_key variable"]
        );
    }

    /// Alone, as every command that opens stores has them.
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        _keys: KeyArguments,
    }

    #[test]
    fn who_gave_keys_of_two_stores_is_told_flags_that_there_are() {
        use tidewaiter_deployer::submit::Store;
        let keys = ["aws_access_key_id", "hf_token"].map(|name| (name.to_owned(), SecretValue::from("x".to_owned())));
        let config = tidewaiter_core::kserve_config::KserveConfig::default();
        let error = Store::of(Keys::from(keys), &StoreSettings::default(), &config).unwrap_err();
        let next = error.next();
        let command = <Line as clap::CommandFactory>::command();
        let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let named: Vec<_> = next.split(' ').filter_map(|word| word.strip_prefix("--")).collect();
        assert_eq!(named.len(), KEYS.len(), "{next}");
        for flag in named {
            assert!(known.contains(&flag.trim_end_matches(',')), "{flag} is no flag");
        }
    }

    #[test]
    fn an_address_of_s3_is_no_other_stores() {
        let arguments = KeyArguments::default();
        let google = Keys::from([(
            "google_application_credentials".to_owned(),
            SecretValue::from("{}".to_owned()),
        )]);
        assert_eq!(arguments.settings(&google), StoreSettings::default());
    }
}
