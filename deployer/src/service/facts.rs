//! What has to be known of a cluster before an object is made for it.

use tidewaiter_core::kserve_config::{self, KserveConfig};
use tidewaiter_core::runtimes::Runtimes;

use super::wishes::DeploymentMode;

/// What is known of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// KServe's configuration; what KServe ships where it can't be read.
    pub config: KserveConfig,
    /// All serving runtimes that can be seen.
    pub runtimes: Runtimes,
    /// KServe's release, major and minor, as far as its runtimes' images tell.
    pub release: Option<(u64, u64)>,
    /// How a service of this name is deployed already; a mode never changes.
    pub deployed_as: Option<DeploymentMode>,
    /// Whether the service of this name says its mode itself, and how a service is deployed that doesn't isn't known: then it has to go on saying it.
    pub keeps_mode: bool,
    /// Whether it is `ModelMesh` that serves the service of this name, and not KServe.
    pub is_model_mesh: bool,
}

impl Facts {
    /// How a service is deployed that wishes for this.
    pub fn mode(&self, wished: Option<DeploymentMode>) -> DeploymentMode {
        wished.or(self.deployed_as).unwrap_or_else(|| self.default_mode())
    }

    /// How a new one is that wishes for nothing.
    pub(super) fn default_mode(&self) -> DeploymentMode {
        match self.config.deployment_mode {
            kserve_config::DeploymentMode::Knative => DeploymentMode::Knative,
            // A default of ModelMesh is no mode for a service with a model of its own: KServe takes its own then.
            kserve_config::DeploymentMode::Standard | kserve_config::DeploymentMode::ModelMesh => {
                DeploymentMode::Standard
            }
        }
    }

    /// How this release of KServe calls a mode: both were renamed in 0.16.
    pub fn mode_name(&self, mode: DeploymentMode) -> &'static str {
        let is_old = self.release.is_some_and(|release| release < (0, 16));
        match (mode, is_old) {
            (DeploymentMode::Standard, false) => "Standard",
            (DeploymentMode::Standard, true) => "RawDeployment",
            (DeploymentMode::Knative, false) => "Knative",
            (DeploymentMode::Knative, true) => "Serverless",
        }
    }

    /// The release, from the images of KServe's own servers: their tag is KServe's.
    pub fn release_of(runtimes: &Runtimes) -> Option<(u64, u64)> {
        runtimes
            .iter()
            .filter_map(|runtime| {
                let image = runtime.image.as_ref()?;
                let name = image.repository.rsplit('/').next()?;
                if !matches!(
                    name,
                    "sklearnserver" | "xgbserver" | "lgbserver" | "pmmlserver" | "paddleserver"
                ) {
                    return None;
                }
                let mut parts = image.tag.as_deref()?.strip_prefix('v')?.split('.');
                Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
            })
            .max()
    }
}
