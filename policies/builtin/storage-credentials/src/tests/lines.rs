//! Every line that a user is told fits, uncut, with names as people give them.

use super::*;

/// As MLflow names what it logs.
const LOGGED: &str = "s3://mlflow/1/models/m-0123456789abcdef0123456789abcdef/artifacts";

fn all_uncut(verdict: &Verdict) -> Vec<String> {
    let fills = verdict.fills.iter().map(testing::line);
    let lines: Vec<String> = fills.chain(verdict.warnings.iter().cloned()).collect();
    for line in &lines {
        let length = line.chars().count();
        assert!(length <= 120 && !line.ends_with('…'), "{length} characters: {line}");
    }
    lines
}

/// A component with this model, in one of the places where KServe has components.
fn of(component: &str, uri: &str) -> Value {
    let container = json!({"env": [{"name": "STORAGE_URI", "value": uri}]});
    if component == "predictor" {
        return service(json!({"predictor": {"model": {"storageUri": uri}}}));
    }
    service(json!({"predictor": {"model": {"storageUri": "s3://other/1"}}, component: {"containers": [container]}}))
}

#[test]
fn what_is_said_of_any_component_fits_its_line() {
    let mut told = Vec::new();
    let mut tell = |world: &World, object: &Value, withheld: &[&str]| {
        let mut request = create(object);
        request.withheld = withheld.iter().map(|path| (*path).to_owned()).collect();
        told.extend(all_uncut(&world.review::<StorageCredentials>(&request)));
    };
    let unreadable = |what: &str| Brought::Unknown(format!("{what} can't be read (no answer in time)"));
    for backend in ["minio", "s3", "mlflow-minio"] {
        for component in ["predictor", "transformer", "explainer"] {
            let object = of(component, LOGGED);
            for delivery in [Delivery::Annotation, Delivery::ServiceAccount, Delivery::StorageKey] {
                let served = Served {
                    delivery,
                    ..served(backend)
                };
                let world = world().resolve("s3://mlflow/", Resolution::Served(served));
                tell(&world, &object, &[]);
                tell(&world.clone().secret_annotation(None), &object, &[]);
                tell(
                    &world,
                    &object,
                    &["/metadata/annotations", &format!("/spec/{component}/annotations")],
                );
                for brought in [
                    Brought::Usable("ServiceAccount sa-minio with Secret minio-credentials".to_owned()),
                    Brought::Usable("ServiceAccount sa-minio with an identity of Google Cloud".to_owned()),
                    Brought::Missing("ServiceAccount sa-minio with Secret minio-credentials".to_owned()),
                    Brought::Missing("Secret minio-credentials, in which KServe knows no key".to_owned()),
                    unreadable("ServiceAccount sa-minio"),
                    unreadable("Secret minio-credentials"),
                ] {
                    let mut object = object.clone();
                    object["spec"][component]["serviceAccountName"] = json!("sa-minio");
                    tell(
                        &world.clone().brought(Some("sa-minio"), None, brought.clone()),
                        &object,
                        &[],
                    );
                    tell(&world.clone().brought(None, None, brought), &of(component, LOGGED), &[]);
                    // Without an annotation and with a ServiceAccount of the user's nothing can be delivered.
                    tell(&world.clone().secret_annotation(None), &object, &[]);
                }
                let mut key = object.clone();
                key["spec"]["predictor"]["model"]["storage"] = json!({"key": "minio-credentials"});
                tell(&world, &key, &[]);
            }
            let own = world().resolve("s3://mlflow/", Resolution::OwnSecret("minio-credentials".to_owned()));
            tell(&own, &object, &[]);
            tell(&own.secret_annotation(None), &object, &[]);
            tell(&world().resolve("s3://mlflow/", Resolution::Unserved), &object, &[]);
            tell(&world(), &of(component, "a-scheme-of-some-length://m"), &[]);
            let container = json!({"env": [{"name": "STORAGE_URI", "valueFrom": {}}]});
            tell(&world(), &service(json!({component: {"containers": [container]}})), &[]);
            tell(
                &world(),
                &service(json!({component: {"model": {"storage": {"path": "p"}}}})),
                &[],
            );
        }
    }
    for part in [
        "serving.kserve.io/storageSecretName = \"tidewaiter-mlflow-minio\": StorageBackend mlflow-minio serves the URI",
        "transformer's storageSecretName = \"tidewaiter-mlflow-minio\"",
        "spec.explainer.serviceAccountName = \"tidewaiter-mlflow-minio\"",
        "spec.predictor.model.storage.key = ",
        "the namespace's own Secret opens it",
        "transformer: no credentials; no StorageBackend serves s3://mlflow/1/models/",
        "transformer keeps its own credentials: ServiceAccount sa-minio with an identity of Google Cloud",
        "transformer keeps its own credentials, not usable yet: ServiceAccount sa-minio with Secret minio-credentials",
        "transformer keeps its own credentials, not usable yet: Secret minio-credentials can't be read (no answer in time)",
        "transformer may have its own credentials: Secret minio-credentials can't be read (no answer in time)",
        "predictor keeps its own credentials: storage key minio-credentials",
        "transformer gets no credentials: list Secret tidewaiter-mlflow-minio in its ServiceAccount",
        "transformer gets no credentials of StorageBackend mlflow-minio, since they were taken out by hand",
    ] {
        assert!(
            told.iter().any(|line| line.contains(part)),
            "nobody was told: {part}\n{told:#?}"
        );
    }
}
