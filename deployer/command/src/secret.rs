//! `tidewaiter secret create`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use anstream::eprintln;
use clap::{Args, Subcommand, ValueEnum};
use tidewaiter_deployer::cluster::{Access, Cluster};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::submit::{self, Delivery, Store, SubmitError};

use super::keys::KeyArguments;
use super::profile;
use super::stores::StoreArguments;
use super::{Ending, Failure, GOOD};

/// What to do about Secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    Create(CreateArguments),
}

/// Make a Secret that KServe opens a store with, and a ServiceAccount that names it.
///
/// Takes an artifact store's keys under the names that its guides have, and writes them under those that this cluster's KServe reads. Both objects have the same name: a
/// service names the Secret (`tidewaiter deploy --secret NAME`) or the account (`serviceAccountName: NAME`). What is there already is brought up to date, if this
/// command made it. No key is ever printed; @FILE keeps it out of the shell's history.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 both are there, 2 an error.

Examples:
  tidewaiter secret create s3-kserve-secret --aws_access_key_id=… --aws_secret_access_key=@key.txt --s3_endpoint=http://minio.minio:9000
  tidewaiter secret create gs-kserve-secret --google_application_credentials=@credentials.json
  tidewaiter secret create az-kserve-secret --azure_subscription_id=… --azure_client_id=… --azure_client_secret=@secret.txt --azure_tenant_id=…")]
pub(crate) struct CreateArguments {
    /// What to call both
    #[arg(value_name = "NAME")]
    name: String,
    /// Their namespace; by default the profile's, then that of the kubeconfig's context
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    store: KeyArguments,
    /// server: the API server checks it, and stores nothing
    #[arg(long, value_enum, value_name = "WHERE")]
    dry_run: Option<Where>,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve")]
    kserve_namespace: String,
    /// A profile; by default the current one
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The kubeconfig; by default $KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; by default the profile's, then the current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Who checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// The API server
    Server,
}

pub(super) async fn run(command: Secret) -> Result<Ending, Failure> {
    let Secret::Create(arguments) = command;
    let flags = [
        (Key::KubernetesContext, &arguments.context),
        (Key::KubernetesNamespace, &arguments.namespace),
    ];
    let flags: BTreeMap<Key, String> = flags
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)))
        .collect();
    let settings = profile::settings(arguments.profile.as_deref(), &flags)?;
    let keys = arguments.store.keys()?;
    lasts(StoreArguments::session_token(&keys).is_some())?;
    let cluster = Cluster::connect(&Access {
        kubeconfig: arguments.kubeconfig.clone(),
        context: settings.get(Key::KubernetesContext).map(str::to_owned),
    })
    .await?;
    let namespace = settings
        .get(Key::KubernetesNamespace)
        .unwrap_or(cluster.default_namespace())
        .to_owned();
    let (config, remarks) = submit::kserve_config(&cluster, &arguments.kserve_namespace).await?;
    for remark in remarks {
        eprintln!("{}", super::output::dim(&remark));
    }
    let settings = arguments.store.settings(&keys);
    let store = Store::of(keys, &settings, &config).map_err(SubmitError::from)?;
    let Some(store) = store else {
        return Err(Failure {
            message: "no key was given".to_owned(),
            next: Some(
                "give a store's keys, such as --aws_access_key_id and --aws_secret_access_key: see --help".to_owned(),
            ),
        });
    };
    let name = &arguments.name;
    let delivery = Delivery {
        store: &store,
        name,
        namespace: &namespace,
        config: &config,
        service: None,
        owner: None,
    };
    if arguments.dry_run.is_some() {
        submit::would_deliver(&cluster, &delivery).await?;
        eprintln!("Secret and ServiceAccount {name} would be written: the API server agrees");
        return Ok(Ending::Nothing);
    }
    let delivered = submit::deliver(&cluster, &delivery).await?;
    let did = if delivered.is_new { "made" } else { "up to date" };
    eprintln!("{GOOD}Secret and ServiceAccount {name}{GOOD:#} {did} in namespace {namespace}");
    eprintln!(
        "\nA service uses it by `tidewaiter deploy --secret {name}`, or by `serviceAccountName: {name}` in its predictor."
    );
    Ok(Ending::Nothing)
}

/// Refuses a key that ends within hours, and that KServe has no place for the token of.
fn lasts(has_token: bool) -> Result<(), Failure> {
    if !has_token {
        return Ok(());
    }
    Err(Failure {
        message: "the key of AWS_ACCESS_KEY_ID is a temporary one (AWS_SESSION_TOKEN), which KServe can't open a store with".to_owned(),
        next: Some("give a key that lasts by --aws-access-key-id and --aws-secret-access-key, or have the Pods' ServiceAccount open the store by a role".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_key_is_refused() {
        let failure = lasts(true).unwrap_err();
        assert!(failure.message.contains("AWS_SESSION_TOKEN"), "{failure:?}");
        assert!(failure.next.unwrap().contains("--aws-access-key-id"));
        assert!(lasts(false).is_ok());
    }
}
