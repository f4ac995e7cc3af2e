//! KServe's own configuration, from the data of the ConfigMap `inferenceservice-config` in KServe's namespace.
//!
//! Source: `pkg/credentials/service_account_credentials.go`, `pkg/credentials/s3/s3_secret.go` and `config/configmap/inferenceservice.yaml` of KServe
//! 0.15.2 and 0.20.0.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The ConfigMap's name.
pub const CONFIG_MAP: &str = "inferenceservice-config";
/// The annotation that the shipped configuration names.
pub const SHIPPED_ANNOTATION: &str = "serving.kserve.io/storageSecretName";

/// What Tidewaiter needs to know of KServe's configuration. The default is what KServe ships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KserveConfig {
    /// The annotation that names a Secret with credentials; where KServe has none, a ServiceAccount has to name it.
    pub secret_annotation: Option<String>,
    /// The key of an S3 Secret that holds the access key's ID.
    pub s3_access_key_id: String,
    /// The key of an S3 Secret that holds the secret access key; by it KServe knows a Secret as one for S3.
    pub s3_secret_access_key: String,
    /// The key of a GCS Secret that holds the credentials file.
    pub gcs_credentials_file: String,
    /// The Secret that storage keys are looked up in where no annotation names one.
    pub storage_spec_secret: String,
    /// How services are deployed where they don't say so.
    pub deployment_mode: DeploymentMode,
    /// Whether KServe looks for a LocalModelCache.
    pub local_model: bool,
}

/// How KServe deploys a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentMode {
    /// `Knative`, called `Serverless` before 0.16.
    Knative,
    /// `Standard`, called `RawDeployment` before 0.16.
    Standard,
    /// `ModelMesh`
    ModelMesh,
}

impl DeploymentMode {
    /// By any of its names.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Knative" | "Serverless" => Some(Self::Knative),
            "Standard" | "RawDeployment" => Some(Self::Standard),
            "ModelMesh" | "ModelMeshDeployment" => Some(Self::ModelMesh),
            _ => None,
        }
    }
}

impl Default for KserveConfig {
    fn default() -> Self {
        Self {
            secret_annotation: Some(SHIPPED_ANNOTATION.to_owned()),
            s3_access_key_id: "AWS_ACCESS_KEY_ID".to_owned(),
            s3_secret_access_key: "AWS_SECRET_ACCESS_KEY".to_owned(),
            gcs_credentials_file: "gcloud-application-credentials.json".to_owned(),
            storage_spec_secret: "storage-config".to_owned(),
            deployment_mode: DeploymentMode::Knative,
            local_model: false,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CredentialsPart {
    s3: S3Part,
    gcs: GcsPart,
    storage_spec_secret_name: Option<String>,
    storage_secret_name_annotation: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct S3Part {
    #[serde(rename = "s3AccessKeyIDName")]
    access_key_id_name: Option<String>,
    #[serde(rename = "s3SecretAccessKeyName")]
    secret_access_key_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct GcsPart {
    gcs_credential_file_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DeployPart {
    default_deployment_mode: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LocalModelPart {
    enabled: bool,
}

impl KserveConfig {
    /// Reads the ConfigMap's `data`. A part that can't be read keeps what `last` says, and is reported, a sentence each; a part that is absent means what it
    /// means to KServe: its compiled-in names (`awsAccessKeyID`, `awsSecretAccessKey`), and no annotation.
    pub fn parse(data: &BTreeMap<String, String>, last: Option<&Self>) -> (Self, Vec<String>) {
        let last = last.cloned().unwrap_or_default();
        let mut problems = Vec::new();
        let mut config = last.clone();
        if let Some(part) = read::<CredentialsPart>(data, "credentials", &mut problems) {
            let or = |value: Option<String>, compiled_in: &str| {
                value
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(|| compiled_in.to_owned())
            };
            config.secret_annotation = part.storage_secret_name_annotation.filter(|name| !name.is_empty());
            config.s3_access_key_id = or(part.s3.access_key_id_name, "awsAccessKeyID");
            config.s3_secret_access_key = or(part.s3.secret_access_key_name, "awsSecretAccessKey");
            config.gcs_credentials_file = or(part.gcs.gcs_credential_file_name, "gcloud-application-credentials.json");
            config.storage_spec_secret = or(part.storage_spec_secret_name, "storage-config");
        }
        if let Some(part) = read::<DeployPart>(data, "deploy", &mut problems) {
            match part.default_deployment_mode.as_deref().map(|name| (name, DeploymentMode::named(name))) {
                None => config.deployment_mode = DeploymentMode::Knative,
                Some((_, Some(mode))) => config.deployment_mode = mode,
                Some((name, None)) => problems.push(format!(
                    "ConfigMap {CONFIG_MAP}, key deploy: `{name}` is not a deployment mode; write Standard or Knative (what was known before stays)"
                )),
            }
        }
        if let Some(part) = read::<LocalModelPart>(data, "localModel", &mut problems) {
            config.local_model = part.enabled;
        }
        (config, problems)
    }
}

/// A part of the configuration; its default where the key is absent, none where it can't be read.
fn read<T: Default + for<'de> Deserialize<'de>>(
    data: &BTreeMap<String, String>,
    key: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    let Some(text) = data.get(key) else {
        return Some(T::default());
    };
    match serde_json::from_str(text) {
        Ok(part) => Some(part),
        Err(error) => {
            problems.push(format!(
                "ConfigMap {CONFIG_MAP}, key {key}: it can't be read as JSON ({error}); what was known before stays"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_shipped_configuration_is_the_default() {
        let credentials = r#"{"storageSpecSecretName": "storage-config", "storageSecretNameAnnotation": "serving.kserve.io/storageSecretName",
            "gcs": {"gcsCredentialFileName": "gcloud-application-credentials.json"},
            "s3": {"s3AccessKeyIDName": "AWS_ACCESS_KEY_ID", "s3SecretAccessKeyName": "AWS_SECRET_ACCESS_KEY", "s3Endpoint": ""}}"#;
        let shipped = data(&[
            ("credentials", credentials),
            ("deploy", r#"{"defaultDeploymentMode": "Serverless"}"#),
            (
                "localModel",
                r#"{"enabled": false, "jobNamespace": "kserve-localmodel-jobs"}"#,
            ),
        ]);
        assert_eq!(KserveConfig::parse(&shipped, None), (KserveConfig::default(), vec![]));
    }

    #[test]
    fn what_is_absent_means_what_it_means_to_kserve() {
        let (config, problems) = KserveConfig::parse(&BTreeMap::new(), None);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(config.s3_access_key_id, "awsAccessKeyID");
        assert_eq!(config.s3_secret_access_key, "awsSecretAccessKey");
        assert_eq!(config.secret_annotation, None);
        let (config, _) = KserveConfig::parse(
            &data(&[("credentials", r#"{"storageSecretNameAnnotation": ""}"#)]),
            None,
        );
        assert_eq!(config.secret_annotation, None);
        assert_eq!(config.storage_spec_secret, "storage-config");
    }

    #[test]
    fn names_of_ones_own_are_read() {
        let (config, _) = KserveConfig::parse(
            &data(&[
                (
                    "credentials",
                    r#"{"storageSecretNameAnnotation": "corp.example/secret", "s3": {"s3AccessKeyIDName": "id", "s3SecretAccessKeyName": "key"}}"#,
                ),
                ("deploy", r#"{"defaultDeploymentMode": "RawDeployment"}"#),
                ("localModel", r#"{"enabled": true}"#),
            ]),
            None,
        );
        assert_eq!(
            (
                config.secret_annotation.as_deref(),
                config.s3_access_key_id.as_str(),
                config.s3_secret_access_key.as_str()
            ),
            (Some("corp.example/secret"), "id", "key")
        );
        assert_eq!(
            (config.deployment_mode, config.local_model),
            (DeploymentMode::Standard, true)
        );
    }

    #[test]
    fn garbage_keeps_what_was_known_and_is_reported() {
        let known = KserveConfig {
            secret_annotation: Some("corp.example/secret".into()),
            local_model: true,
            ..KserveConfig::default()
        };
        let (config, problems) = KserveConfig::parse(
            &data(&[
                ("credentials", "{not json"),
                ("deploy", r#"{"defaultDeploymentMode": "Fancy"}"#),
                ("localModel", "yes"),
            ]),
            Some(&known),
        );
        assert_eq!(config, known);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("key credentials"), "{problems:?}");
        assert!(problems[1].contains("`Fancy`"), "{problems:?}");
    }
}
