use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder with these files.
async fn look(files: &[(&str, &[u8])], claimed: Option<Framework>) -> Result<(Model, Found), String> {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let (opened, entries) = Folder::Local(folder.path().to_owned()).list().await.unwrap();
    let looked = identify(&opened, &entries, claimed).await;
    let place = folder.path().display().to_string();
    looked.map_err(|error| format!("{error}; {}", error.next()).replace(&place, "HERE"))
}

async fn framework(files: &[(&str, &[u8])]) -> Framework {
    look(files, None).await.unwrap().0.framework
}

const LIGHTGBM: &[u8] = b"tree\nversion=v4\nnum_class=1\n";
const XGBOOST: &[u8] = br#"{"learner":{"x":1},"version":[3,0,2]}"#;
/// `pickle.dumps(collections.OrderedDict())`, but for the module's name.
const PICKLE: &[u8] = b"\x80\x03csklearn.svm\nSVC\nq\x00)Rq\x01.";

#[tokio::test]
async fn a_framework_is_told_by_names_and_content() {
    assert_eq!(framework(&[("model.txt", LIGHTGBM)]).await, Framework::Lightgbm);
    assert_eq!(framework(&[("model.bst", LIGHTGBM)]).await, Framework::Lightgbm);
    assert_eq!(
        framework(&[("a.json", XGBOOST), ("b.json", b"{}")]).await,
        Framework::Xgboost
    );
    assert_eq!(
        framework(&[("m.pkl", PICKLE), ("readme.txt", b"hi")]).await,
        Framework::Sklearn
    );
    assert_eq!(framework(&[("m.onnx", b"1")]).await, Framework::Onnx);
    assert_eq!(
        framework(&[("1/saved_model.pb", b"1"), ("1/variables/v", b"1")]).await,
        Framework::Tensorflow
    );
    assert_eq!(framework(&[("saved_model.pb", b"1")]).await, Framework::Tensorflow);
    assert_eq!(
        framework(&[("a/config.pbtxt", b""), ("a/1/model.onnx", b"1")]).await,
        Framework::Triton
    );
    assert_eq!(
        framework(&[("a/1/model.savedmodel/saved_model.pb", b"1")]).await,
        Framework::Triton
    );
    assert_eq!(
        framework(&[
            ("config.json", b"{}"),
            ("model.safetensors", b"1"),
            ("onnx/model.onnx", b"1")
        ])
        .await,
        Framework::Huggingface
    );
    assert_eq!(
        framework(&[("model-store/a.mar", b"1"), ("config/config.properties", b"1")]).await,
        Framework::Pytorch
    );
    assert_eq!(framework(&[("model.pt", b"1")]).await, Framework::Pytorch);
    assert_eq!(
        framework(&[("model-settings.json", b"{}"), ("m.joblib", PICKLE)]).await,
        Framework::Custom
    );
}

#[tokio::test]
async fn mlflows_own_models_are_read_whole() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../core/tests/data/mlmodel/3.17-xgboost");
    let (folder, entries) = Folder::Local(data).list().await.unwrap();
    let (model, found) = identify(&folder, &entries, None).await.unwrap();
    assert_eq!(model.framework, Framework::Mlflow);
    assert_eq!(model.versions["xgboost"], "3.2.0");
    assert_eq!(model.versions["mlflow"], "3.17.2");
    assert_eq!(model.versions["python"], "3.11.7");
    assert!(model.versions.contains_key("pandas"), "{:?}", model.versions);
    assert_eq!(model.signature.unwrap().inputs.len(), 1);
    assert!(matches!(found, Found::Mlflow { root, .. } if root.is_empty()));
}

#[tokio::test]
async fn a_flavor_can_be_asked_for_by_its_framework() {
    let mlmodel = b"flavors:\n  xgboost:\n    data: model.xgb\n    xgb_version: 3.0.2\n";
    let files: &[(&str, &[u8])] = &[("MLmodel", mlmodel), ("model.xgb", XGBOOST)];
    let (model, found) = look(files, Some(Framework::Xgboost)).await.unwrap();
    assert_eq!((model.framework, model.files), (Framework::Xgboost, 1));
    assert!(matches!(found, Found::File { path, .. } if path == "model.xgb"));
    let refused = look(files, Some(Framework::Sklearn)).await.unwrap_err();
    assert_eq!(
        refused,
        "the model at HERE is no sklearn model: MLflow saved it as xgboost; leave --framework out, or name the folder of the model that is meant"
    );
}

#[tokio::test]
async fn what_is_no_model_or_two_is_refused_with_what_is_there() {
    let refused = look(&[("readme.md", b"hi"), ("a.csv", b"1")], None).await.unwrap_err();
    assert!(
        refused.starts_with("there is no model at HERE: it has a.csv, readme.md; name the folder"),
        "{refused}"
    );
    let refused = look(&[("a.joblib", PICKLE), ("b.txt", LIGHTGBM)], None)
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        "there are several models at HERE: a.joblib (sklearn), b.txt (lightgbm); name one of them, or put each into a folder of its own"
    );
    let (model, _) = look(&[("a.joblib", PICKLE), ("b.txt", LIGHTGBM)], Some(Framework::Lightgbm))
        .await
        .unwrap();
    assert_eq!(model.framework, Framework::Lightgbm);
    let refused = look(&[("a.joblib", PICKLE)], Some(Framework::Onnx)).await.unwrap_err();
    assert!(
        refused.starts_with("the model at HERE is no onnx model: there is a.joblib (sklearn)"),
        "{refused}"
    );
    let refused = look(
        &[
            ("a/MLmodel", b"flavors: {sklearn: {}}"),
            ("b/MLmodel", b"flavors: {sklearn: {}}"),
        ],
        None,
    )
    .await;
    assert!(
        refused
            .unwrap_err()
            .contains("several models at HERE: a (mlflow), b (mlflow)")
    );
    let refused = look(&[("MLmodel", b"nonsense")], None).await.unwrap_err();
    assert!(
        refused.contains("MLmodel: the MLmodel file has no `flavors`"),
        "{refused}"
    );
}

#[tokio::test]
async fn versions_come_from_the_bytes_and_from_what_lies_beside() {
    let (model, _) = look(
        &[
            ("model.json", XGBOOST),
            ("requirements.txt", b"numpy==1.26.4\nxgboost>=2\nimbalanced_learn\n"),
        ],
        None,
    )
    .await
    .unwrap();
    assert_eq!(model.versions["numpy"], "1.26.4");
    assert_eq!(model.versions["xgboost"], "3.0.2");
    assert_eq!(model.lists, ["numpy", "xgboost", "imbalanced-learn"]);
    assert_eq!(model.files, 1);
}
