//! Where nothing is decided: what the user is told, and what the log says to whoever asks.

use super::*;
use tidewaiter_policy::log::Level;

/// The line that the log has of a review that says nothing else.
fn explained(world: &World, object: &Value) -> (Level, String) {
    assert_eq!(review(world, object), Verdict::admit());
    let lines = world.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

fn holding(files: &[(&str, &[u8])]) -> World {
    files.iter().fold(world(), |world, (name, bytes)| {
        world.object(&format!("{URI}/{name}"), *bytes)
    })
}

#[test]
fn files_that_no_server_for_the_format_loads_are_named() {
    let skops = "is a skops file, which KServe's and MLServer's servers don't load; use joblib";
    for (name, file, said) in [
        ("sklearn", "model.skops", format!("may fail: model.skops {skops}")),
        (
            "sklearn",
            "model.onnx",
            "a server for sklearn may find no model: it loads .joblib, .pkl or .pickle, and here is model.onnx"
                .to_owned(),
        ),
        // To the other formats it is a file like any other.
        (
            "xgboost",
            "model.skops",
            "a server for xgboost may find no model: it loads .bst, .json or .ubj, and here is model.skops".to_owned(),
        ),
        (
            "lightgbm",
            "a/name/that/is/much/longer/than/a/line/has/room/for.onnx",
            "a server for lightgbm may find no model: it loads .bst, and here is a/name/that/is/much/longer/th…"
                .to_owned(),
        ),
    ] {
        let verdict = World::review::<ServingVersions>(&holding(&[(file, b"PK")]), &create(&format(name)));
        assert_eq!(verdict.warnings, [said], "{name} {file}");
        assert!(verdict.fills.is_empty() && verdict.denial.is_none());
    }
    // Whatever lies beside it, and also where the URI names it.
    let world = holding(&[("README.md", b"hello"), ("model.skops", b"PK")]);
    let by_name = service(&json!({"modelFormat": {"name": "sklearn"}, "storageUri": format!("{URI}/model.skops")}));
    for object in [format("sklearn"), by_name] {
        assert_eq!(
            review(&world, &object).warnings,
            [format!("may fail: model.skops {skops}")]
        );
    }
    // A file that is loaded counts alone.
    let world = holding(&[("model.joblib", data!("sklearn-1.2.2.joblib")), ("a.skops", b"PK")]);
    assert_eq!(
        fills(&review(&world, &format("sklearn"))),
        pin("kserve-sklearnserver", "v0.11.2")
    );
}

#[test]
fn of_many_files_or_an_archive_nothing_false_is_said() {
    let many = (0..=100).fold(world(), |world, at| world.object(&format!("{URI}/{at:03}.csv"), "1"));
    for (world, part) in [
        (many, "none of the first 100 files at s3://mlflow/1/model has a name"),
        (
            holding(&[("model.tar.gz", b"\x1f\x8b")]),
            "model.tar.gz is unpacked before it is served",
        ),
    ] {
        let (level, line) = explained(&world, &format("sklearn"));
        assert!(
            level == Level::Info && line.starts_with("modelFormat sklearn: ") && line.contains(part),
            "{line}"
        );
    }
    // KServe unpacks one that lies there alone.
    let beside = holding(&[("model.tar.gz", b"\x1f\x8b"), ("notes.md", b"")]);
    assert_eq!(review(&beside, &format("sklearn")).warnings.len(), 1);
}

/// Its user did nothing wrong, and would be told at each apply.
#[test]
fn a_compressed_pickle_is_a_line_of_the_log_and_no_warning() {
    for bytes in [&data!("sklearn-1.9.1-zlib.joblib")[..], b"\x1f\x8b\x08\0"] {
        let (level, line) = explained(&holding(&[("model.joblib", bytes)]), &format("sklearn"));
        assert_eq!(level, Level::Info);
        assert_eq!(
            line,
            "modelFormat sklearn: model.joblib is compressed, so which version saved it can't be seen; the runtime is not checked"
        );
    }
}

#[test]
fn a_zip_archive_in_a_pickles_place_is_told() {
    let verdict = review(&holding(&[("model.joblib", b"PK\x03\x04")]), &format("sklearn"));
    assert_eq!(
        verdict.warnings,
        ["may fail: model.joblib is a zip archive, as skops writes, and scikit-learn's servers load pickles"]
    );
    // With an MLmodel beside it nobody has to look inside.
    let world = mlmodel(holding(&[("model.pkl", b"PK\x03\x04")]), sklearn_model("1.5.2"));
    assert_eq!(review(&world, &format("sklearn")).warnings, Vec::<String>::new());
}

#[test]
fn the_log_says_why_nothing_is_decided() {
    let pytorch = || {
        world().runtime(
            "pytorch",
            Some("1"),
            runtime("torch", "pytorch/torchserve-kfs", "0.9.0", &["v1"]),
        )
    };
    let two = json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {
        "model": {"modelFormat": {"name": "sklearn"}}, "storageUris": [{"uri": "s3://mlflow/1"}, {"uri": "s3://mlflow/2"}]}}});
    let elsewhere = service(&json!({"modelFormat": {"name": "sklearn"}, "storageUri": "pvc://models/fraud"}));
    for (world, object, part) in [
        (
            pytorch(),
            format("pytorch"),
            "modelFormat pytorch: there are no rules for models of this format",
        ),
        (world(), two, "modelFormat sklearn: its model isn't at one URI"),
        (world(), elsewhere, "modelFormat sklearn: runtime not checked: "),
        (
            world(),
            format("tensorflow"),
            "no MLmodel at s3://mlflow/1/model, and a SavedModel isn't looked into",
        ),
        (
            holding(&[("model.bst", b"nothing known")]),
            format("lightgbm"),
            "model.bst doesn't say which version saved it",
        ),
        (
            mlmodel(world(), "flavors:\n  prophet: {}\n"),
            format("sklearn"),
            "the MLmodel at s3://mlflow/1/model names no library for sklearn",
        ),
        (
            mlmodel(world(), "flavors:\n  sklearn: {pickled_model: model.pkl}\n"),
            format("sklearn"),
            "say which scikit-learn saved the model",
        ),
    ] {
        let (level, line) = explained(&world, &object);
        assert!(level == Level::Info && line.contains(part), "{part}: {line}");
    }
}

#[test]
fn the_log_says_what_is_left_alone_to_whoever_wants_details() {
    let custom = json!({"spec": {"predictor": {"containers": [{"name": "kserve-container"}]}}});
    let mut nodes = format("sklearn");
    nodes["spec"]["predictor"]["workerSpec"] = json!({});
    let mut mesh = format("sklearn");
    mesh["metadata"]["annotations"] = json!({"serving.kserve.io/deploymentMode": "ModelMesh"});
    for (object, part) in [
        (custom, "predictor is left alone: its server is a container of its own"),
        (
            json!({"spec": {"predictor": {"sklearn": {"storageUri": URI}}}}),
            "predictor is left alone: KServe rewrites sklearn to model, and asks again",
        ),
        (
            json!({"spec": {"predictor": {}}}),
            "predictor is left alone: it has no model",
        ),
        (
            json!({"spec": {"predictor": {"model": {"storageUri": URI}}}}),
            "predictor is left alone: it says no modelFormat",
        ),
        (nodes, "predictor is left alone: it runs on several nodes"),
        (mesh, "the service is left alone: ModelMesh chooses its runtime"),
        (
            json!({"kind": "LLMInferenceService", "spec": {"model": {"uri": "hf://a/b"}}}),
            "the service is left alone: it has no serving runtime",
        ),
        (
            json!({"spec": {"predictor": {"model": 7}}}),
            "the object is left alone: /spec/predictor/model can't be read",
        ),
    ] {
        let (level, line) = explained(&world(), &object);
        assert!(level == Level::Debug && line.starts_with(part), "{part}: {line}");
    }
}
