//! How KServe will deploy the service.

use serde::Deserialize;
use tidewaiter_policy::cluster;
use tidewaiter_policy::core::kserve_config::DeploymentMode;
use tidewaiter_policy::core::service::Service;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Services {
    #[serde(rename = "serviceClusterIPNone")]
    cluster_ip_none: bool,
}

/// The mode that the service names, else the one of KServe's configuration. None where neither is known.
pub(crate) fn mode(service: &Service<'_>) -> Option<DeploymentMode> {
    service.deployment_mode(cluster::kserve_config("deploy").as_deref())
}

/// Whether the names of KServe's Services lead to the Pods themselves (`serviceClusterIPNone`), and so to every port. KServe's default is that they don't.
pub(crate) fn is_headless() -> bool {
    let services = cluster::kserve_config("service").and_then(|text| serde_json::from_str::<Services>(&text).ok());
    services.unwrap_or_default().cluster_ip_none
}
