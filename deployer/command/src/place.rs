//! Which cluster and which namespace a command about services is for: flags before the environment before the profile.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use tidewaiter_deployer::cluster::{Access, Cluster};
use tidewaiter_deployer::live;
use tidewaiter_deployer::profile::{Key, Settings};

use super::arguments::AccessArguments;
use super::{Failure, profile};

/// Where services are.
#[derive(Debug, Args)]
pub(crate) struct PlaceArguments {
    /// The services' namespace; by default that of TIDEWAITER_NAMESPACE, the profile, or the kubeconfig's context
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The profile, in place of the current one
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
}

/// One service.
#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// The service's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// A cluster, and a namespace of it.
pub(super) struct Place {
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
    pub(super) settings: Settings,
}

impl PlaceArguments {
    /// Connects. `more` are flags of the command itself.
    pub(super) async fn open(self, more: &[(Key, Option<&String>)]) -> Result<Place, Failure> {
        let access = Access::from(self.access);
        let own = [
            (Key::KubernetesContext, access.context.as_ref()),
            (Key::KubernetesNamespace, self.namespace.as_ref()),
        ];
        let flags = own
            .iter()
            .chain(more)
            .filter_map(|(key, value)| Some((*key, (*value)?.clone())));
        let flags: BTreeMap<Key, String> = flags.collect();
        let settings = profile::settings(self.profile.as_deref(), &flags)?;
        let access = Access {
            context: settings.get(Key::KubernetesContext).map(str::to_owned),
            ..access
        };
        let cluster = Cluster::connect(&access).await?;
        let namespace = settings
            .get(Key::KubernetesNamespace)
            .unwrap_or(cluster.default_namespace());
        Ok(Place {
            namespace: namespace.to_owned(),
            cluster,
            settings,
        })
    }
}

impl From<live::Error> for Failure {
    fn from(error: live::Error) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

/// A span of time of a flag.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    tidewaiter_core::duration::parse(text)
}

/// How long ago, as kubectl has it: `5d`, `3h`, `12m`, `40s`.
pub(super) fn age(since: Option<jiff::Timestamp>, now: jiff::Timestamp) -> String {
    let Some(since) = since else {
        return "?".to_owned();
    };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
