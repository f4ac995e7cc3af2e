//! How KServe will deploy the service.

use serde::Deserialize;
use tidewaiter_policy::cluster;
use tidewaiter_policy::core::kserve_config::DeploymentMode;
use tidewaiter_policy::core::service::Service;

const ANNOTATION: &str = "serving.kserve.io/deploymentMode";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deploy {
    default_deployment_mode: String,
}

/// The mode that the service names, else the one of KServe's configuration. None where neither is known.
pub(crate) fn mode(service: &Service<'_>) -> Option<DeploymentMode> {
    if let Some(named) = service.annotation(ANNOTATION) {
        return DeploymentMode::named(&named);
    }
    let deploy: Deploy = serde_json::from_str(&cluster::kserve_config("deploy")?).ok()?;
    DeploymentMode::named(&deploy.default_deployment_mode)
}
