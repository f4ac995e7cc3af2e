//! Every line that a user is told fits, uncut: with KServe's own runtimes, the built-in catalogue, and names as people give them.

use std::collections::BTreeSet;

use tidewaiter_policy::core::catalogue::Catalogue;
use tidewaiter_policy::core::kserve_runtimes::{NEWEST, of_release};
use tidewaiter_policy::core::runtimes::Runtimes;
use tidewaiter_policy::runtimes::Runtime;
use tidewaiter_policy::testing;

use super::*;

/// As MLflow names what it logs.
const LOGGED: &str = "s3://mlflow/1/models/m-0123456789abcdef0123456789abcdef/artifacts";
const PACKAGES: [&str; 6] = ["scikit-learn", "xgboost", "lightgbm", "tensorflow", "numpy", "mlflow"];

/// All lines of a verdict: what is filled in, then its warnings.
fn lines(verdict: &Verdict) -> Vec<String> {
    let fills = verdict.fills.iter().map(testing::line);
    fills.chain(verdict.warnings.iter().cloned()).collect()
}

pub(super) fn all_uncut(verdict: &Verdict) {
    for line in lines(verdict) {
        let length = line.chars().count();
        assert!(length <= 120 && !line.ends_with('…'), "{length} characters: {line}");
    }
    for fill in &verdict.fills {
        assert!(
            fill.reason.chars().count() <= 90 && !fill.reason.ends_with('…'),
            "{}",
            fill.reason
        );
    }
}

/// What KServe installs, and what is known of it.
fn installed() -> World {
    let runtimes = Runtimes::new(of_release(NEWEST).unwrap());
    let mut world = World::new().serve("s3://mlflow/", "minio");
    let mut repositories = BTreeSet::new();
    for format in ["mlflow", "sklearn", "xgboost", "lightgbm", "tensorflow"] {
        for found in runtimes.supporting("team-a", format, None) {
            let image = found.runtime.image.as_ref().unwrap();
            repositories.insert(image.repository.clone());
            let runtime = Runtime {
                name: found.runtime.name.clone(),
                repository: image.repository.clone(),
                tag: image.tag.clone().unwrap(),
                digest: String::new(),
                protocols: found.runtime.protocols.clone(),
                auto_select: found.auto_select,
                disabled: found.runtime.disabled,
            };
            world = world.runtime(format, None, runtime);
        }
    }
    for repository in repositories {
        for release in Catalogue::built_in().releases(&repository, &PACKAGES) {
            let packages = release.packages.iter().map(|package| PackageVersion {
                name: package.name.to_owned(),
                version: package.version.to_owned(),
                exact: package.exact,
            });
            let release = Release {
                tag: release.tag.to_owned(),
                python: release.python.to_owned(),
                packages: packages.collect(),
                architectures: release.architectures.to_vec(),
            };
            world = world.release_as(&repository, release);
        }
    }
    world
}

/// The format that a service names, and an `MLmodel` beside the model.
fn logged() -> Vec<(&'static str, String)> {
    let mut models = Vec::new();
    let mut add = |format: &'static str, members: &str| {
        let text = format!(
            "flavors:\n  python_function:\n    python_version: 3.11.7\n    loader_module: mlflow.{format}\n  {format}: {{{members}}}\n"
        );
        models.push((format, text.clone()));
        models.push(("mlflow", text));
    };
    for version in [
        "0.24.2",
        "1.0.2",
        "1.3.2",
        "1.4.1.post1",
        "1.5.1",
        "1.6.1",
        "1.7.0",
        "1.9.1",
    ] {
        for form in ["pickle", "cloudpickle", "skops"] {
            add(
                "sklearn",
                &format!("pickled_model: model.pkl, serialization_format: {form}, sklearn_version: {version}"),
            );
        }
    }
    for version in ["0.82", "1.5.0", "1.7.6", "2.0.3", "2.1.4", "3.0.2", "3.2.0"] {
        for data in ["model.ubj", "model.xgb"] {
            add("xgboost", &format!("xgb_version: {version}, data: {data}"));
        }
    }
    for version in ["3.3.5", "4.6.0"] {
        add("lightgbm", &format!("lgb_version: {version}, data: model.lgb"));
    }
    for version in ["1.15.0", "2.14.1", "2.18.0"] {
        add("tensorflow", &format!("keras_version: {version}"));
    }
    models
}

#[test]
fn what_is_said_of_any_model_in_any_of_kserves_servers_fits_its_line() {
    let mut told = BTreeSet::new();
    let settings = [json!({}), json!({"pin": "always"}), json!({"wrongAnswers": "warn"})];
    let settings = settings.map(|settings| serde_json::from_value::<Settings>(settings).unwrap());
    for (format, mlmodel) in logged() {
        for numpy in ["1.26.4", "2.0.2"] {
            let world = installed()
                .object(&format!("{LOGGED}/MLmodel"), mlmodel.clone())
                .object(&format!("{LOGGED}/requirements.txt"), format!("numpy=={numpy}\n"));
            for own in [
                json!({}),
                json!({"protocolVersion": "v1"}),
                json!({"protocolVersion": "v2"}),
                json!({"runtime": "kserve-predictiveserver"}),
                json!({"runtime": "kserve-sklearnserver"}),
                json!({"image": "docker.io/kserve/sklearnserver:latest"}),
                json!({"resources": {"limits": {"nvidia.com/gpu": 1}}}),
            ] {
                let mut model = own;
                model["modelFormat"] = json!({"name": format});
                model["storageUri"] = json!(LOGGED);
                let mut request = create(&service(&model));
                let mut tell = |request: &Request, settings| {
                    let verdict = world.review_with::<ServingVersions>(request, settings);
                    all_uncut(&verdict);
                    told.extend(lines(&verdict));
                };
                for settings in &settings {
                    tell(&request, settings);
                }
                request.withheld = vec![PROTOCOL_VERSION.to_owned()];
                tell(&request, &settings[0]);
            }
        }
    }
    // No proof by want of cases: each of the policy's lines was among them.
    for part in [
        "a version belongs to its runtime",
        "; v0.20.0 has 1.5.2",
        "= \"kserve-mlserver\": kserve-sklearnserver has scikit-learn 1.5.2",
        "= \"1.7.1\": saved by scikit-learn 1.7.0",
        "a pickle from numpy 2 fails under numpy 1",
        "the admin wants every model pinned",
        "kserve-mlserver speaks v2, and none that fits speaks v1",
        "speaks v1; set protocolVersion: v2, which kserve-mlserver speaks",
        ", served by ",
        "may fail: saved by ",
        "wrong answers: saved by ",
        "the catalogue does not know the image ",
        "may not find the model: it does not look for ",
        "speaks protocol v1",
    ] {
        assert!(
            told.iter().any(|line| line.contains(part)),
            "nobody was told: {part}\n{told:#?}"
        );
    }
}

#[test]
fn what_is_said_of_a_model_that_cannot_be_looked_at_fits_its_line() {
    let forbidden = "minio.minio.svc:9000 answers 403 InvalidAccessKeyId: the store doesn't know the access key";
    let unserved = "namespace team-a may not use this part of StorageBackend minio, only s3://mlflow/team-a/";
    for (format, error, expected) in [
        ("mlflow", None, "a server for mlflow will find no model: no MLmodel at "),
        ("sklearn", None, "runtime not checked: nothing is at "),
        (
            "mlflow",
            Some(Error::Forbidden(forbidden.to_owned())),
            "runtime not checked: minio.minio.svc:9000 answers 403",
        ),
        (
            "mlflow",
            Some(Error::Unserved(unserved.to_owned())),
            "runtime not checked: namespace team-a may not",
        ),
        (
            "mlflow",
            Some(Error::TooLarge(123_456_789)),
            "runtime not checked: 123456789 bytes",
        ),
    ] {
        let world = error
            .into_iter()
            .fold(installed(), |world, error| world.failing("s3://mlflow/", error));
        let verdict = world.review::<ServingVersions>(&create(&stored(format)));
        all_uncut(&verdict);
        assert!(verdict.warnings[0].starts_with(expected), "{:?}", verdict.warnings);
    }
    for text in ["flavors:\n\t- x", "a: b", "flavors: ["] {
        let world = installed().object(&format!("{LOGGED}/MLmodel"), text);
        let verdict = world.review::<ServingVersions>(&create(&stored("mlflow")));
        all_uncut(&verdict);
        assert!(
            verdict.warnings[0].starts_with("runtime not checked: the MLmodel: "),
            "{:?}",
            verdict.warnings
        );
    }
}

fn stored(format: &str) -> Value {
    service(&json!({"modelFormat": {"name": format}, "storageUri": LOGGED}))
}
