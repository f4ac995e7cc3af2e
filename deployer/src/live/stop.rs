//! Stops and starts a service: KServe takes its Pods away, and brings them back.

use serde_json::json;
use tidewaiter_core::kserve_config::DeploymentMode;

use super::change::{Planned, told};
use super::{Deployed, Error, Release, STOP};

/// Plans to stop a service, or a graph's router; what a graph asks runs on.
///
/// # Errors
/// Where it is stopped, or where KServe would pay no heed: before 0.16 it stops services in Knative mode alone, and no graphs.
pub fn stop(service: &Deployed, release: Release) -> Result<Planned, Error> {
    if service.is_stopped() {
        return Err(Error::already(service, "is stopped already"));
    }
    let reason = match service.mode() {
        _ if release.stops_standard => None,
        _ if service.is_graph() => Some("KServe before 0.16 stops no graphs"),
        Some(DeploymentMode::Standard) => {
            Some("KServe before 0.16 stops services in Knative mode alone, and this one is in Standard mode")
        }
        _ => None,
    };
    if let Some(reason) = reason {
        let next = format!(
            "`kubectl -n {} delete {} {}` takes its Pods away for good; KServe from 0.16 on can stop it",
            service.namespace(),
            service.kind().in_roles(),
            service.name()
        );
        return Err(Error::refused(service, "stopped", reason, &next));
    }
    Ok(Planned::new(json!({"metadata": {"annotations": {STOP: "true"}}})))
}

/// Plans to start a service again.
///
/// # Errors
/// Where it isn't stopped.
pub fn start(service: &Deployed) -> Result<Planned, Error> {
    if !service.is_stopped() {
        return Err(Error::Already {
            service: told(service),
            what: "is not stopped".to_owned(),
        });
    }
    // Gone, not "false": who reads a service's annotations is to find it as it was before.
    Ok(Planned::new(json!({"metadata": {"annotations": {STOP: null}}})))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{deployed, graph};
    use super::*;

    const OLD: Release = Release {
        has_canaries: false,
        stops_standard: false,
    };
    const NEW: Release = Release {
        has_canaries: true,
        stops_standard: true,
    };

    #[test]
    fn a_service_is_stopped_once_and_started_once() {
        let running = deployed(json!({"status": {"deploymentMode": "Standard"}}));
        let patch = stop(&running, NEW).unwrap().patch;
        assert_eq!(patch, json!({"metadata": {"annotations": {STOP: "true"}}}));
        let stopped = deployed(json!({"metadata": {"annotations": {STOP: "True"}}}));
        assert!(matches!(stop(&stopped, NEW), Err(Error::Already { .. })));
        assert_eq!(
            start(&stopped).unwrap().patch,
            json!({"metadata": {"annotations": {STOP: null}}})
        );
        assert!(start(&running).is_err());
    }

    #[test]
    fn an_old_kserve_is_not_asked_for_what_it_would_not_do() {
        let mode = |mode: &str| deployed(json!({"status": {"deploymentMode": mode}}));
        let error = stop(&mode("RawDeployment"), OLD).unwrap_err();
        assert!(error.to_string().contains("before 0.16"), "{error}");
        assert!(stop(&mode("Serverless"), OLD).is_ok());
        let graph = graph(json!({"status": {"deploymentMode": "Serverless"}}));
        let error = stop(&graph, OLD).unwrap_err();
        assert!(error.to_string().contains("stops no graphs"), "{error}");
        assert!(error.next().contains("inferencegraphs"), "{}", error.next());
        assert!(stop(&graph, NEW).is_ok());
    }
}
