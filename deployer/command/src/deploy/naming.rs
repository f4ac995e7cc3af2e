//! What a service is called that was given no name, and whether the service of that name is another model's.

use kube::api::DynamicObject;
use tidewaiter_deployer::live::Deployed;
use tidewaiter_deployer::service::suggested_name;
use tidewaiter_deployer::source::without_token;
use tidewaiter_deployer::submit::entries;

use super::super::Failure;

/// What folders and files are called whatever model is in them.
const GENERAL: [&str; 8] = [
    "artifact",
    "artifacts",
    "data",
    "export",
    "latest",
    "model",
    "models",
    "saved_model",
];

/// A name for a service that was given none: of `models:/fraud@champion` and `s3://mlflow/fraud/3/model` it is `fraud`.
pub(super) fn named_after(source: &str, namespace: &str) -> Result<String, Failure> {
    match telling(source) {
        Some(part) => Ok(suggested_name(part, namespace)),
        None => Err(Failure {
            message: "the service has no name, and none can be made of its source".to_owned(),
            next: Some("give it one with --name".to_owned()),
        }),
    }
}

/// The part of a source that says which model it is.
fn telling(source: &str) -> Option<&str> {
    if let Some(registered) = source.strip_prefix("models:") {
        let name = registered.trim_matches('/').split(['/', '@']).next();
        return name.filter(|name| !name.is_empty());
    }
    if source.starts_with("runs:") {
        return None;
    }
    let parts = parts(source);
    if is_local(source) {
        return parts.last().copied().filter(|part| *part != "..");
    }
    // The host of a URL is none of the model's.
    let first = usize::from(source.starts_with("http"));
    let mut below = parts.into_iter().skip(first).rev();
    below.find(|part| !is_general(part) && !is_version(part))
}

/// What a service was deployed from, where that is another model than this one, and no version of it.
pub(super) fn other(service: &DynamicObject, from: &str, uri: Option<&str>) -> Option<String> {
    let uri = uri.map(without_token);
    if let Some(newest) = entries(service).into_iter().next() {
        let is_same = is_version_of(&newest.from, &without_token(from)) || (uri.is_some() && newest.storage_uri == uri);
        return (!is_same).then_some(newest.from);
    }
    let there = Deployed::from(service.clone()).storage_uri();
    let Some(there) = there.map(|there| without_token(&there)) else {
        return Some("something that isn't told".to_owned());
    };
    let is_same = uri.is_some_and(|uri| is_version_of(&there, &uri));
    (!is_same).then_some(there)
}

/// The same of a model that isn't here yet, and goes into this folder, under a name that is its content's. None also where that has to be known first: another source may
/// have the same files, and they lie there already.
pub(super) fn other_before(service: &DynamicObject, from: &str, folder: Option<&str>) -> Option<String> {
    let newest = entries(service).into_iter().next();
    let there = newest.and_then(|newest| newest.storage_uri).unwrap_or_default();
    let may_be_same = folder.is_some_and(|folder| is_below(&there, folder));
    other(service, from, folder).filter(|_| !may_be_same)
}

fn is_below(uri: &str, folder: &str) -> bool {
    let folder = folder.split('?').next().unwrap_or_default();
    let below = uri.strip_prefix(folder.trim_end_matches('/'));
    below.is_some_and(|below| below.starts_with('/'))
}

/// That a service would be replaced which nobody named.
pub(super) fn taken(name: &str, namespace: &str, other: &str) -> Failure {
    Failure {
        message: format!(
            "no name was given, and the service {name} in namespace {namespace}, as this one would be called, was deployed from {other}"
        ),
        next: Some(format!(
            "give this one a name of its own by --name; or say --name {name}, and it takes that one's place"
        )),
    }
}

/// Whether two sources are of one model. A path of this machine may be written in many ways, and is another one on the next: its last part has to do.
fn is_version_of(one: &str, other: &str) -> bool {
    let model = |source: &str| -> Vec<String> {
        let registered = source.starts_with("models:");
        let parts = parts(source);
        let of_model: Vec<&str> = if registered || is_local(source) {
            telling(source).into_iter().collect()
        } else {
            parts.into_iter().filter(|part| !is_version(part)).collect()
        };
        of_model.into_iter().map(str::to_owned).collect()
    };
    let kind = |source: &str| {
        let scheme = source.split_once(":/").map(|(scheme, _)| scheme.to_owned());
        scheme.filter(|_| !is_local(source))
    };
    kind(one) == kind(other) && model(one) == model(other)
}

fn is_local(source: &str) -> bool {
    !source.contains(":/") || source.starts_with("file:")
}

/// The parts of a path. What stands behind a URI's `?` may be a key.
fn parts(source: &str) -> Vec<&str> {
    let path = match source.split_once(":/") {
        Some((_, path)) => path.split(['?', '#']).next().unwrap_or_default(),
        None => source,
    };
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}

fn is_general(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part);
    GENERAL.contains(&stem.to_ascii_lowercase().as_str())
}

/// A number, `v2`, a run's or a logged model's ID, a digest.
fn is_version(part: &str) -> bool {
    const SHORTEST: usize = 16;
    let number = part.strip_prefix('v').unwrap_or(part);
    let is_number = number.starts_with(|c: char| c.is_ascii_digit())
        && number
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    let id = part.strip_prefix("m-").unwrap_or(part);
    let is_id = id.len() >= SHORTEST && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    is_number || is_id
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_service_is_named_after_its_source() {
        for (source, name) in [
            ("models:/fraud/3", "fraud"),
            ("models:/Fraud_Model@champion", "fraud-model"),
            ("models:/model/3", "model"),
            ("s3://mlflow/teams/churn/", "churn"),
            ("./models/iris", "iris"),
            ("./model", "model"),
            ("gs://bucket/a/b.v2", "b-v2"),
        ] {
            assert_eq!(named_after(source, "team-a").unwrap(), name, "{source}");
        }
        assert!(named_after("runs:/4f0c/model", "team-a").is_err());
        assert!(named_after(".", "team-a").is_err() && named_after("..", "team-a").is_err());
    }

    #[test]
    fn what_is_called_as_any_other_is_named_after_what_it_lies_in() {
        let run = "4f0c2ba09d3f4be0a6c1b6f7c2f6a9d1";
        for (source, name) in [
            ("s3://teams/churn/model", "churn"),
            ("s3://teams/churn/3/model.onnx", "churn"),
            ("gs://teams/churn/v2/artifacts/model/", "churn"),
            ("pvc://churn/model", "churn"),
            (&format!("s3://mlflow/1/{run}/artifacts/model"), "mlflow"),
        ] {
            assert_eq!(named_after(source, "team-a").unwrap(), name, "{source}");
        }
        for source in [
            "s3://models/model",
            "https://acme.blob.core.windows.net/models/model",
            &format!("mlflow-artifacts:/1/{run}/artifacts/model"),
        ] {
            assert!(named_after(source, "team-a").is_err(), "{source}");
        }
    }

    #[test]
    fn no_key_of_a_uri_gets_into_a_name() {
        for (source, name) in [
            (
                "https://acme.blob.core.windows.net/teams/churn?sv=2024&sig=a/b3cret",
                "churn",
            ),
            ("s3://teams/churn#sig", "churn"),
        ] {
            assert_eq!(named_after(source, "team-a").unwrap(), name, "{source}");
        }
    }

    fn service(history: Option<(&str, &str)>, uri: Option<&str>) -> DynamicObject {
        let mut object = json!({
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "churn"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}},
        });
        if let Some(uri) = uri {
            object["spec"]["predictor"]["model"]["storageUri"] = Value::from(uri);
        }
        if let Some((from, uri)) = history {
            let entries = json!([{"at": "", "by": "ann", "from": from, "storageUri": uri}]);
            object["metadata"]["annotations"] = json!({"tidewaiter.dev/history": entries.to_string()});
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn another_models_service_is_not_taken_for_this_ones() {
        let there = |from: &str, uri: &str| service(Some((from, uri)), Some(uri));
        for (there, from, uri) in [
            (
                there("models:/churn/3", "s3://m/a"),
                "models:/churn@champion",
                "s3://m/b",
            ),
            (
                there("s3://m/churn/3", "s3://m/churn/3"),
                "s3://m/churn/4",
                "s3://m/churn/4",
            ),
            (
                there("./churn", "s3://m/churn/ab"),
                "/home/ann/churn/",
                "s3://m/churn/cd",
            ),
            (there("models:/churn/3", "s3://m/a"), "s3://m/a", "s3://m/a"),
            (
                service(None, Some("s3://m/churn/1")),
                "s3://m/churn/2",
                "s3://m/churn/2",
            ),
        ] {
            assert_eq!(other(&there, from, Some(uri)), None, "{from}");
        }
        for (there, from, uri, told) in [
            (
                there("models:/churn/3", "s3://m/a"),
                "s3://x/churn",
                "s3://x/churn",
                "models:/churn/3",
            ),
            // Both were uploaded to the store's folder of this name.
            (
                there("s3://x/churn", "s3://m/churn/ab"),
                "./churn",
                "s3://m/churn/cd",
                "s3://x/churn",
            ),
            (
                there("s3://a/churn/1", "s3://a/churn/1"),
                "s3://b/churn/1",
                "s3://b/churn/1",
                "s3://a/churn/1",
            ),
            (
                service(None, Some("s3://a/churn")),
                "s3://b/churn",
                "s3://b/churn",
                "s3://a/churn",
            ),
            (
                service(None, None),
                "s3://b/churn",
                "s3://b/churn",
                "something that isn't told",
            ),
        ] {
            assert_eq!(other(&there, from, Some(uri)).as_deref(), Some(told), "{from}");
        }
        // Before it is here: which of two is in the folder that it goes into, only its content tells.
        let before = |there: &DynamicObject| other_before(there, "mlflow-artifacts:/1/churn", Some("s3://m/churn"));
        assert_eq!(before(&there("s3://x/churn", "s3://m/churn/ab")), None);
        assert_eq!(before(&there("mlflow-artifacts:/2/churn", "s3://x/churn")), None);
        let elsewhere = before(&there("s3://x/churn", "s3://m/churner/ab"));
        assert_eq!(elsewhere.as_deref(), Some("s3://x/churn"));
        assert_eq!(
            before(&service(None, Some("s3://x/churn"))).as_deref(),
            Some("s3://x/churn")
        );
        assert_eq!(before(&service(None, Some("s3://m/churn/0f0f0f0f0f0f0f0f"))), None);
        let failure = taken("churn", "team-a", "models:/churn/3");
        assert!(failure.next.unwrap().contains("--name churn"));
    }
}
