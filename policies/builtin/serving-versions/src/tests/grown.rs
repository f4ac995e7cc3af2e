//! What decides beside the library itself: Python, the pickle, MLflow, packages, a packed environment, images by digest; and the explanation.

use super::*;
use tidewaiter_policy::log::Level;

/// A model of MLflow with these requirements.
fn packed(world: World, requirements: &str) -> World {
    mlmodel(world, *data!("mlmodel/2.22-xgboost/MLmodel"))
        .object(&format!("{URI}/requirements.txt"), requirements)
        .holds(MLSERVER, &["mlflow", "xgboost", "pandas", "skops"])
}

#[test]
fn packages_that_the_image_lacks_are_named_unless_the_model_brings_its_own() {
    let needy = packed(
        world(),
        "mlflow==2.22.1\nxgboost==3.0.2\nimbalanced-learn==0.13.0\ncategory_encoders\npytest\n",
    );
    let verdict = review(&needy, &format("mlflow"));
    assert_eq!(
        verdict.warnings,
        [
            "may fail: kserve-mlserver lacks imbalanced-learn and 1 more, which the model needs; pack its environment.tar.gz"
        ]
    );
    assert!(verdict.denial.is_none());
    let brings = needy.object(&format!("{URI}/environment.tar.gz"), "tar");
    let verdict = review(&brings, &format("mlflow"));
    assert_eq!(
        (fills(&verdict), verdict.warnings.len()),
        (vec![("protocolVersion", json!("v2"))], 0)
    );

    let content = packed(world(), "mlflow==2.22.1\nxgboost==3.0.2\npandas\n");
    assert!(review(&content, &format("mlflow")).warnings.is_empty());
    assert_eq!(
        content.calls().stat,
        0,
        "nobody looks for an environment that isn't needed"
    );
}

#[test]
fn what_would_be_answered_wrongly_is_served_by_the_environment_that_it_brings() {
    let world = mlmodel(world(), *data!("mlmodel/3.17-xgboost/MLmodel"));
    assert!(review(&world, &format("mlflow")).denial.is_some());
    let world = world.object(&format!("{URI}/environment.tar.gz"), "tar");
    let verdict = review(&world, &format("mlflow"));
    assert!(verdict.denial.is_none() && verdict.warnings.is_empty(), "{verdict:?}");
}

#[test]
fn a_newer_mlflow_that_logged_the_model_is_a_remark() {
    let newer = String::from_utf8(data!("mlmodel/2.22-xgboost/MLmodel").to_vec()).unwrap();
    let newer = newer.replace("mlflow_version: 2.22", "mlflow_version: 3.22");
    assert!(newer.contains("mlflow_version: 3."), "{newer}");
    let world = mlmodel(world(), newer);
    let verdict = review(&world, &format("mlflow"));
    assert!(
        verdict.warnings.len() == 1 && verdict.warnings[0].contains("a newer MLflow logged it"),
        "{verdict:?}"
    );
}

#[test]
fn a_pickle_that_the_images_python_can_not_read_is_told() {
    let old = runtime("old", "registry.local/sklearn", "1", &["v1"]);
    let world = World::new()
        .serve("s3://mlflow/", "minio")
        .runtime("sklearn", Some("1"), old)
        .release("registry.local/sklearn", "1", "3.7", &[("scikit-learn", "1.9.1")])
        .object(&format!("{URI}/model.pkl"), *data!("sklearn-1.9.1-protocol5.pkl"));
    let verdict = review(&world, &format("sklearn"));
    assert!(
        verdict
            .warnings
            .iter()
            .any(|line| line.contains("pickle protocol 5 needs Python 3.8")),
        "{verdict:?}"
    );
}

#[test]
fn an_image_by_digest_is_judged_where_the_admin_said_which_release_it_is() {
    let mut by_digest = runtime("house", "registry.local/mlserver", "", &["v2"]);
    by_digest.digest = "sha256:0a".to_owned();
    let unmapped = mlmodel(world(), *data!("mlmodel/3.17-xgboost/MLmodel")).runtime("own", None, by_digest);
    let named = service(&json!({"modelFormat": {"name": "mlflow"}, "runtime": "house", "protocolVersion": "v2"}));
    let verdict = review(&unmapped, &named);
    assert_eq!(
        verdict.warnings,
        ["saved by xgboost 3.2.0; the catalogue does not know the image registry.local/mlserver by digest"]
    );
    let mapped = unmapped.release(
        "registry.local/mlserver",
        "sha256:0a",
        "3.10",
        &[("xgboost", "3.0.2"), ("mlflow", "2.22.1")],
    );
    let verdict = review(&mapped, &named);
    assert_eq!(
        verdict.denial.map(|denial| denial.code).as_deref(),
        Some("wrong-answers")
    );

    // A digest is no tag to pin to, whatever the admin wants pinned.
    let fitting = mlmodel(mapped, *data!("mlmodel/2.22-xgboost/MLmodel"));
    let always: Settings = serde_json::from_value(json!({"pin": "always"})).unwrap();
    let verdict = fitting.review_with::<ServingVersions>(&create(&named), &always);
    assert!(verdict.fills.is_empty() && verdict.denial.is_none(), "{verdict:?}");
}

#[test]
fn why_it_came_to_what_it_came_to_is_one_line_of_the_log() {
    let explained = |world: &World, object: &Value| {
        review(world, object);
        let lines = world.lines();
        assert!(
            lines.iter().all(|(level, _)| *level == Level::Info) && lines.len() == 1,
            "{lines:?}"
        );
        lines[0].1.clone()
    };
    let world = mlmodel(world(), *data!("mlmodel/3.17-xgboost/MLmodel"));
    let line = explained(&world, &format("mlflow"));
    for part in [
        "modelFormat mlflow: xgboost 3.2.0 saved the model under Python 3.",
        "logged by MLflow 3.17",
        "kserve-mlserver (docker.io/seldonio/mlserver:1.7.1) has xgboost 3.0.2: it would answer wrongly",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
