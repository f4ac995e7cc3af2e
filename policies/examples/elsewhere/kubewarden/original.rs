//! Kubewarden: few replicas with a GPU each. `lib.rs` of a policy on `kubewarden-policy-sdk`; policy.yaml runs it.

use guest::prelude::*;
use kubewarden_policy_sdk::wapc_guest as guest;
use kubewarden_policy_sdk::{
    accept_request, protocol_version_guest, reject_request, request::ValidationRequest, settings::Validatable,
    validate_settings,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    max_replicas: i64,
}

impl Validatable for Settings {
    fn validate(&self) -> Result<(), String> {
        if self.max_replicas < 1 {
            return Err("maxReplicas is at least 1".to_owned());
        }
        Ok(())
    }
}

#[no_mangle]
pub extern "C" fn wapc_init() {
    register_function("validate", validate);
    register_function("validate_settings", validate_settings::<Settings>);
    register_function("protocol_version", protocol_version_guest);
}

fn validate(payload: &[u8]) -> CallResult {
    let request: ValidationRequest<Settings> = ValidationRequest::new(payload)?;
    let max = request.settings.max_replicas;
    let predictor = &request.request.object["spec"]["predictor"];
    let limits = &predictor["model"]["resources"]["limits"];
    let gpu = ["nvidia.com/gpu", "amd.com/gpu"].iter().any(|name| !limits[name].is_null());
    match predictor["maxReplicas"].as_i64() {
        _ if !gpu => accept_request(),
        Some(replicas) if replicas <= max => accept_request(),
        Some(replicas) => reject_request(
            Some(format!("maxReplicas is {replicas}, and may be {max} with a GPU each")),
            None,
            None,
            None,
        ),
        None => reject_request(
            Some(format!("maxReplicas is not set; with a GPU each it may be {max}")),
            None,
            None,
            None,
        ),
    }
}
