//! Where models and their stores are, and with which keys: flags before the environment before `~/.aws` and the profile. The library reads none of these.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::Args;
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_core::uri::{Scheme, StorageUri};
use tidewaiter_deployer::source::{Auth, Tracking, without_token};
use tidewaiter_deployer::store::{Access, Azure, AzureIdentity, Gcs, S3, S3Identity};
use tidewaiter_deployer::submit::StoreSettings;

use super::Failure;
use super::keys::{KeyArguments, Keys};

/// Variables with an S3 store's address, the first that is set.
pub(super) const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"];
/// Variables with a bucket's region.
pub(super) const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The stores that models are read from and written to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreArguments {
    #[command(flatten)]
    pub(super) keys: KeyArguments,
    /// S3: the profile of ~/.aws; by default AWS_PROFILE, or default
    #[arg(long, value_name = "NAME", help_heading = "The store")]
    aws_profile: Option<String>,
    /// Ask the store without credentials
    #[arg(long, help_heading = "The store")]
    anonymous: bool,
    /// Certificate authorities that are trusted besides the machine's, in PEM; by default AWS_CA_BUNDLE
    #[arg(long, value_name = "FILE", help_heading = "The store")]
    ca_bundle: Option<PathBuf>,
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
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn first(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| variable(name))
}

impl StoreArguments {
    /// Keys and addresses as they hold now, for this command itself.
    pub(super) fn access(&self) -> Result<Access, Failure> {
        let aws = Aws::read(self.aws_profile.as_deref())?;
        let bundle = self
            .ca_bundle
            .clone()
            .or_else(|| variable("AWS_CA_BUNDLE").map(PathBuf::from));
        let ca_bundle = bundle
            .map(|file| fs::read(&file).map_err(|error| unreadable(&file, &error)))
            .transpose()?;
        let flags = self.keys.flags()?;
        let (endpoint, region) = self.keys.s3();
        let endpoint = endpoint
            .or_else(|| first(&ENDPOINTS))
            .or_else(|| aws.get("endpoint_url"));
        let google_key = flags.get("google_application_credentials").cloned();
        Ok(Access {
            s3: S3 {
                endpoint: endpoint.map(without_user).transpose()?,
                region: region.or_else(|| first(&REGIONS)).or_else(|| aws.get("region")),
                identity: if self.anonymous {
                    S3Identity::Anonymous
                } else {
                    self.s3_identity(&flags, &aws)
                },
                virtual_host: None,
            },
            gcs: Gcs {
                endpoint: None,
                file: if google_key.is_none() { gcs_file()? } else { None },
                credentials: google_key,
                anonymous: self.anonymous,
            },
            azure: Azure {
                endpoint: variable("AZURE_STORAGE_ENDPOINT"),
                identity: if self.anonymous {
                    AzureIdentity::Anonymous
                } else {
                    azure_identity(&self.keys.keys_for("https://account.blob.core.windows.net/")?)
                },
            },
            ca_bundle,
            insecure: self.keys.s3_verify_ssl == Some(false),
            timeout: None,
        })
    }

    /// The keys that open a URI, for whoever is given them: not those of `~/.aws`, which are this user's own. Nor the environment's beside a profile of `~/.aws` that
    /// was named, whose key is used here in place of theirs.
    pub(super) fn keys_for(&self, uri: &str) -> Result<Keys, Failure> {
        if self.aws_profile.is_some()
            && uri.starts_with("s3:")
            && !self.has_flags_for(uri)
            && Aws::read(self.aws_profile.as_deref())?.key().is_some()
        {
            return Ok(Keys::new());
        }
        self.keys.keys_for(uri)
    }

    /// That a store is opened here by a key which isn't put into a cluster, and how to give one that is; none where it is opened by another one, or by none.
    pub(super) fn stays_here(&self, uri: &str) -> Result<Option<String>, Failure> {
        let Ok(uri) = uri.parse::<StorageUri>() else {
            return Ok(None);
        };
        if !self.keys_for(uri.as_str())?.is_empty() {
            return Ok(None);
        }
        Ok(stays_here(&uri, &self.access()?))
    }

    /// Whether flags give a key that opens a URI.
    pub(super) fn has_flags_for(&self, uri: &str) -> bool {
        self.keys.has_flags_for(uri)
    }

    /// Whether there is anything here to look into a store with: a key, or `--anonymous`. The machine's role is none: asking for it takes long where there is none.
    pub(super) fn opens(&self, uri: &StorageUri, access: &Access) -> Result<bool, Failure> {
        Ok(match uri.scheme() {
            Scheme::S3 => access.s3.identity != S3Identity::Machine,
            Scheme::Gs => access.gcs.anonymous || access.gcs.credentials.is_some() || access.gcs.file.is_some(),
            _ if uri.azure().is_some() => access.azure.identity != AzureIdentity::Machine,
            _ => !self.keys_for(uri.as_str())?.is_empty(),
        })
    }

    /// How the store is reached, and where nothing is said here as it is reached from here: what was uploaded to an address of `~/.aws` or MLflow's is to be read there.
    pub(super) fn settings_as_used(&self, keys: &Keys) -> Result<StoreSettings, Failure> {
        let (said, used) = (self.keys.settings(keys), self.access()?.s3);
        Ok(StoreSettings {
            endpoint: said.endpoint.or(used.endpoint),
            region: said.region.or(used.region),
            ..said
        })
    }

    /// The token of the environment, where the key is the environment's too: they belong together.
    pub(super) fn session_token(keys: &Keys) -> Option<String> {
        token_of(keys, variable)
    }

    /// A key by flags; else that of the profile that was named; else the environment's; else that of `~/.aws`.
    fn s3_identity(&self, flags: &Keys, aws: &Aws) -> S3Identity {
        let text = |name: &str| String::from_utf8(flags.get(name)?.expose().to_vec()).ok();
        let has_flag = flags.contains_key("aws_access_key_id") || flags.contains_key("aws_secret_access_key");
        let id = text("aws_access_key_id").or_else(|| variable("AWS_ACCESS_KEY_ID"));
        let secret = flags.get("aws_secret_access_key").cloned();
        let secret = secret.or_else(|| variable("AWS_SECRET_ACCESS_KEY").map(SecretValue::from));
        let of_profile = || aws.key();
        if self.aws_profile.is_some()
            && !has_flag
            && let Some(key) = of_profile()
        {
            return key;
        }
        match (id, secret) {
            (Some(id), Some(secret)) => S3Identity::Key {
                token: variable("AWS_SESSION_TOKEN")
                    .filter(|_| variable("AWS_ACCESS_KEY_ID").as_ref() == Some(&id))
                    .map(SecretValue::from),
                id,
                secret,
            },
            _ => of_profile().unwrap_or(S3Identity::Machine),
        }
    }
}

fn token_of(keys: &Keys, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let id = keys.get("aws_access_key_id")?;
    let is_environments = variable("AWS_ACCESS_KEY_ID").is_some_and(|of| of.as_bytes() == id.expose());
    variable("AWS_SESSION_TOKEN").filter(|_| is_environments)
}

fn stays_here(uri: &StorageUri, access: &Access) -> Option<String> {
    let (key, flags) = match uri.scheme() {
        Scheme::S3 if matches!(access.s3.identity, S3Identity::Key { .. }) => (
            "a key of ~/.aws".to_owned(),
            "--aws-access-key-id and --aws-secret-access-key",
        ),
        Scheme::Gs => {
            let file = access.gcs.file.as_ref()?;
            (
                format!("the key in {}", file.display()),
                "--google-application-credentials @FILE",
            )
        }
        _ if uri.azure().is_some() && matches!(access.azure.identity, AzureIdentity::AccountKey(_)) => (
            "the key of AZURE_STORAGE_ACCOUNT_KEY".to_owned(),
            "--azure-storage-access-key",
        ),
        _ => return None,
    };
    Some(format!(
        "{} is opened here by {key}, which is your own and is not put into the cluster: unless the service's ServiceAccount opens that store, its Pods can't. Give them \
         a key by {flags}, or make a Secret (`tidewaiter secret create NAME`) and name it by --secret",
        without_token(uri.as_str())
    ))
}

/// What is said of a model that there is no key to look into with.
pub(super) fn unchecked(uri: &StorageUri) -> String {
    let how = match uri.scheme() {
        Scheme::S3 => {
            "give one by --aws-access-key-id and --aws-secret-access-key, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws; or --anonymous, \
             where the store asks for none"
        }
        Scheme::Gs => {
            "give one by --google-application-credentials or GOOGLE_APPLICATION_CREDENTIALS, or log in with `gcloud auth application-default login`; \
             or --anonymous, where the store asks for none"
        }
        _ if uri.azure().is_some() => {
            "give one by --azure-storage-access-key or AZURE_STORAGE_ACCESS_KEY, or --azure-tenant-id, --azure-client-id and --azure-client-secret; \
             or --anonymous, where the store asks for none"
        }
        _ => {
            return format!(
                "nothing of {} was checked: this command doesn't read such stores",
                without_token(uri.as_str())
            );
        }
    };
    format!(
        "nothing of {} was checked, as there is no key here to look with: {how}",
        without_token(uri.as_str())
    )
}

/// An address, if it has no password in it: errors name addresses.
fn without_user(endpoint: String) -> Result<String, Failure> {
    let rest = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    match rest.split('/').next().and_then(|authority| authority.rsplit_once('@')) {
        None => Ok(endpoint),
        Some((_, host)) => Err(Failure {
            message: format!("the address of the S3 store at {host} has a user or password in it"),
            next: Some(
                "give the key by --aws-access-key-id and --aws-secret-access-key, and the address without it"
                    .to_owned(),
            ),
        }),
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

/// Where Google's own tools look for a key.
fn gcs_file() -> Result<Option<PathBuf>, Failure> {
    if let Some(file) = variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from) {
        File::open(&file).map_err(|error| unreadable(&file, &error))?;
        return Ok(Some(file));
    }
    let file = home(".config/gcloud/application_default_credentials.json");
    Ok(file.filter(|file| File::open(file).is_ok()))
}

fn azure_identity(keys: &Keys) -> AzureIdentity {
    if let Some(key) = keys.get("azure_storage_access_key") {
        return AzureIdentity::AccountKey(key.clone());
    }
    let text = |name: &str| String::from_utf8(keys.get(name)?.expose().to_vec()).ok();
    match (
        text("azure_tenant_id"),
        text("azure_client_id"),
        keys.get("azure_client_secret"),
    ) {
        (Some(tenant), Some(id), Some(secret)) => AzureIdentity::Client {
            tenant,
            id,
            secret: secret.clone(),
        },
        _ => match variable("AZURE_STORAGE_ACCOUNT_KEY") {
            Some(key) => AzureIdentity::AccountKey(key.into()),
            None => AzureIdentity::Machine,
        },
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

    fn key(&self) -> Option<S3Identity> {
        Some(S3Identity::Key {
            id: self.get("aws_access_key_id")?,
            secret: self.get("aws_secret_access_key")?.into(),
            token: self.get("aws_session_token").map(SecretValue::from),
        })
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
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for endpoint in ["http://me:s3cret@minio:9000", "me:s3cret@minio:9000"] {
            let failure = without_user(endpoint.to_owned()).unwrap_err();
            assert!(failure.message.contains("at minio:9000 has a user"), "{failure:?}");
            assert!(!format!("{failure:?}").contains("s3cret"), "{failure:?}");
        }
        assert!(without_user("http://minio:9000/a@b".to_owned()).is_ok());
    }

    #[test]
    fn a_store_is_looked_into_with_any_key_there_is() {
        let arguments = StoreArguments::default();
        let key = S3Identity::Key {
            id: "AKIA".to_owned(),
            secret: "s3cret".to_owned().into(),
            token: None,
        };
        let opens = |identity| {
            let access = Access {
                s3: S3 {
                    identity,
                    ..S3::default()
                },
                ..Access::default()
            };
            arguments.opens(&"s3://m/1".parse().unwrap(), &access).unwrap()
        };
        // That of ~/.aws among them.
        assert!(opens(key) && opens(S3Identity::Anonymous) && !opens(S3Identity::Machine));
        for (uri, how) in [
            ("s3://m/1", "--aws-access-key-id"),
            ("gs://m/1", "gcloud auth"),
            ("https://me.blob.core.windows.net/m/1", "--azure-storage-access-key"),
            ("pvc://claim/m", "doesn't read such stores"),
        ] {
            let told = unchecked(&uri.parse().unwrap());
            assert!(
                told.starts_with(&format!("nothing of {uri} was checked")) && told.contains(how),
                "{told}"
            );
        }
    }

    #[test]
    fn a_key_that_stays_here_is_told_with_how_to_give_one() {
        let key = S3Identity::Key {
            id: "AKIA".to_owned(),
            secret: "s3cret".to_owned().into(),
            token: None,
        };
        let access = Access {
            s3: S3 {
                identity: key,
                ..S3::default()
            },
            gcs: Gcs {
                file: Some("/home/ann/key.json".into()),
                ..Gcs::default()
            },
            azure: Azure {
                identity: AzureIdentity::AccountKey("s3cret".to_owned().into()),
                ..Azure::default()
            },
            ..Access::default()
        };
        for (uri, key, flag) in [
            ("s3://m/fraud", "a key of ~/.aws", "--aws-access-key-id"),
            (
                "gs://m/fraud",
                "/home/ann/key.json",
                "--google-application-credentials @FILE",
            ),
            (
                "https://me.blob.core.windows.net/m/fraud",
                "AZURE_STORAGE_ACCOUNT_KEY",
                "--azure-storage-access-key",
            ),
        ] {
            let uri: StorageUri = uri.parse().unwrap();
            let told = stays_here(&uri, &access).unwrap();
            assert!(told.starts_with(&format!("{uri} is opened here by ")), "{told}");
            for part in [key, flag, "tidewaiter secret create", "--secret"] {
                assert!(told.contains(part), "{told}");
            }
            assert!(!told.contains("s3cret"), "{told}");
            assert_eq!(stays_here(&uri, &Access::default()), None);
        }
        assert_eq!(stays_here(&"pvc://claim/fraud".parse().unwrap(), &access), None);
    }

    #[test]
    fn a_token_belongs_to_the_key_beside_it_alone() {
        let environment = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("ASIA".to_owned()),
            "AWS_SESSION_TOKEN" => Some("token".to_owned()),
            _ => None,
        };
        let of = |id: &str| {
            let id = ("aws_access_key_id".to_owned(), SecretValue::from(id.to_owned()));
            token_of(&Keys::from([id]), environment)
        };
        assert_eq!((of("ASIA").as_deref(), of("AKIA")), (Some("token"), None));
        assert_eq!(token_of(&Keys::new(), environment), None);
    }

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
