//! What a service that is ready should be looked at for, all the same.

use super::finding::{Cause, Finding};
use super::state::State;
use super::words;

/// MLflow names every package; those that load a model are the ones that matter.
const LOADING: [&str; 6] = [
    "scikit-learn:",
    "xgboost:",
    "lightgbm:",
    "numpy:",
    "tensorflow:",
    "torch:",
];

/// What the servers' logs say of a service that is ready: libraries of other versions than the model's, a sentence each; or that there is no model at all,
/// which KServe's own servers get ready without.
///
/// # Errors
/// The reason why it won't answer.
pub fn remarks(state: &State) -> Result<Vec<String>, Box<Finding>> {
    let mut found = Vec::new();
    for ((_, container), log) in &state.logs {
        if container != "kserve-container" {
            continue;
        }
        if let Some(finding) = words::of_server(state, log)
            && finding.cause == Cause::WrongFramework
        {
            return Err(Box::new(finding));
        }
        let versions = words::versions(log);
        found.extend(
            versions
                .into_iter()
                .filter(|line| LOADING.iter().any(|package| line.starts_with(package))),
        );
    }
    found.sort();
    found.dedup();
    Ok(found)
}
