//! Where models and their stores are, and with which keys: flags before the environment before `~/.aws` and the profile. The library reads none of these.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_core::uri::StorageUri;
use tidewaiter_deployer::source::{Auth, Tracking};
use tidewaiter_deployer::store::{Access, Azure, AzureIdentity, Gcs, S3, S3Identity};

use super::Failure;

/// The stores that models are read from and written to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreArguments {
    /// The S3 store's address, such as https://minio.example:9000; by default AWS_ENDPOINT_URL, MLFLOW_S3_ENDPOINT_URL, or Amazon's
    #[arg(long, value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,
    /// The bucket's region; by default AWS_REGION, that of ~/.aws, or us-east-1
    #[arg(long, value_name = "NAME")]
    pub(crate) s3_region: Option<String>,
    /// The profile of ~/.aws; by default AWS_PROFILE, or default
    #[arg(long, value_name = "NAME")]
    pub(crate) aws_profile: Option<String>,
    /// Ask the store without credentials
    #[arg(long)]
    pub(crate) anonymous: bool,
    /// Certificate authorities that are trusted besides the machine's, in PEM; by default AWS_CA_BUNDLE
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,
}

/// The tracking server.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TrackingArguments {
    /// MLflow's tracking server; by default MLFLOW_TRACKING_URI, or the profile's. Its user or token come from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN
    #[arg(long, value_name = "URL")]
    pub(crate) tracking_server: Option<String>,
    /// Where mlflow-artifacts:/ really lies: what the tracking server was started with as --artifacts-destination. Models are then used there, and not copied
    #[arg(long, value_name = "URI")]
    pub(crate) artifacts_destination: Option<StorageUri>,
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn first(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| variable(name))
}

impl StoreArguments {
    /// Keys and addresses as they hold now.
    pub(super) fn access(&self) -> Result<Access, Failure> {
        let aws = Aws::read(self.aws_profile.as_deref())?;
        let bundle = self
            .ca_bundle
            .clone()
            .or_else(|| variable("AWS_CA_BUNDLE").map(PathBuf::from));
        let ca_bundle = bundle
            .map(|file| fs::read(&file).map_err(|error| unreadable(&file, &error)))
            .transpose()?;
        Ok(Access {
            s3: S3 {
                endpoint: self
                    .s3_endpoint
                    .clone()
                    .or_else(|| first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"]))
                    .or_else(|| aws.get("endpoint_url")),
                region: self
                    .s3_region
                    .clone()
                    .or_else(|| first(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
                    .or_else(|| aws.get("region")),
                identity: if self.anonymous {
                    S3Identity::Anonymous
                } else {
                    s3_identity(&aws)
                },
                virtual_host: None,
            },
            gcs: Gcs {
                endpoint: None,
                credentials: gcs_credentials()?,
                anonymous: self.anonymous,
            },
            azure: Azure {
                endpoint: variable("AZURE_STORAGE_ENDPOINT"),
                identity: if self.anonymous {
                    AzureIdentity::Anonymous
                } else {
                    azure_identity()
                },
            },
            ca_bundle,
            insecure: false,
            timeout: None,
        })
    }
}

impl TrackingArguments {
    /// The tracking server, if there is one. `profile` is what the settings say.
    pub(super) fn tracking(&self, profile: Option<&str>) -> Result<Option<Tracking>, Failure> {
        let server = self.tracking_server.clone();
        let Some(server) = server.or_else(|| profile.map(str::to_owned)) else {
            return Ok(None);
        };
        let auth = match (variable("MLFLOW_TRACKING_TOKEN"), variable("MLFLOW_TRACKING_USERNAME")) {
            (_, Some(user)) => Auth::Basic {
                user,
                password: variable("MLFLOW_TRACKING_PASSWORD").unwrap_or_default().into(),
            },
            (Some(token), None) => Auth::Token(token.into()),
            (None, None) => Auth::None,
        };
        let bundle = variable("MLFLOW_TRACKING_SERVER_CERT_PATH").map(PathBuf::from);
        let ca_bundle = bundle
            .map(|file| fs::read(&file).map_err(|error| unreadable(&file, &error)))
            .transpose()?;
        Ok(Some(Tracking {
            auth,
            ca_bundle,
            insecure: variable("MLFLOW_TRACKING_INSECURE_TLS").is_some_and(|value| value == "true"),
            ..Tracking::open(server)
        }))
    }
}

fn s3_identity(aws: &Aws) -> S3Identity {
    let of_environment = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
    // A key and a session's token belong together.
    let token = |is_set: bool| is_set.then(|| variable("AWS_SESSION_TOKEN")).flatten();
    let (key, token) = match of_environment {
        Some(key) => (Some(key), token(true)),
        None => (
            aws.get("aws_access_key_id").zip(aws.get("aws_secret_access_key")),
            aws.get("aws_session_token"),
        ),
    };
    match key {
        Some((id, secret)) => S3Identity::Key {
            id,
            secret: secret.into(),
            token: token.map(SecretValue::from),
        },
        None => S3Identity::Machine,
    }
}

fn gcs_credentials() -> Result<Option<SecretValue>, Failure> {
    if let Some(file) = variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from) {
        let key = fs::read(&file).map_err(|error| unreadable(&file, &error))?;
        return Ok(Some(SecretValue::from(key.as_slice())));
    }
    let file = home(".config/gcloud/application_default_credentials.json");
    Ok(file
        .and_then(|file| fs::read(file).ok())
        .map(|key| SecretValue::from(key.as_slice())))
}

fn azure_identity() -> AzureIdentity {
    if let Some(key) = first(&["AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]) {
        return AzureIdentity::AccountKey(key.into());
    }
    let application = (
        variable("AZURE_TENANT_ID"),
        variable("AZURE_CLIENT_ID"),
        variable("AZURE_CLIENT_SECRET"),
    );
    match application {
        (Some(tenant), Some(id), Some(secret)) => AzureIdentity::Client {
            tenant,
            id,
            secret: secret.into(),
        },
        _ => AzureIdentity::Machine,
    }
}

fn home(path: &str) -> Option<PathBuf> {
    env::home_dir().map(|home| home.join(path))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure {
        message: format!("can't read {}: {error}", file.display()),
        next: Some("look whether the path is right, and who may read it".to_owned()),
    }
}

/// One profile of `~/.aws/credentials` and `~/.aws/config`; the first says more.
struct Aws(BTreeMap<String, String>);

impl Aws {
    fn read(profile: Option<&str>) -> Result<Self, Failure> {
        let named = profile.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
        let name = named.as_deref().unwrap_or("default");
        let file = |variable_name: &str, path: &str| {
            let file = variable(variable_name).map(PathBuf::from).or_else(|| home(path))?;
            fs::read_to_string(file).ok()
        };
        let config = file("AWS_CONFIG_FILE", ".aws/config").unwrap_or_default();
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials").unwrap_or_default();
        // In config each but `default` is called `profile NAME`.
        let mut values = section(&config, &format!("profile {name}"));
        if name == "default" {
            values.extend(section(&config, "default"));
        }
        values.extend(section(&credentials, name));
        if values.is_empty() && named.is_some() {
            return Err(Failure {
                message: format!("~/.aws has no profile `{name}`"),
                next: Some("name one of ~/.aws/config by --aws-profile or AWS_PROFILE".to_owned()),
            });
        }
        Ok(Self(values))
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }
}

fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.trim_end_matches(']').trim() == name;
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            values.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_at_the_next_one() {
        let text =
            "[default]\nregion = eu-1\n# region = no\n[profile dev]\nregion=eu-2\nendpoint_url = http://minio:9000\n";
        assert_eq!(
            section(text, "default"),
            BTreeMap::from([("region".into(), "eu-1".into())])
        );
        assert_eq!(section(text, "profile dev")["endpoint_url"], "http://minio:9000");
        assert!(section(text, "dev").is_empty());
    }
}
