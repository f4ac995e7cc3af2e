use std::fs;

use super::*;
use crate::source::{Options, Source, locate};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        Self(folder)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    async fn prepare(&self, framework: Option<Framework>, wishes: Wishes<'_>) -> Result<Prepared, String> {
        let source = Source::Local(self.0.path().to_owned());
        let options = Options {
            framework,
            ..Options::default()
        };
        let located = locate(&source, &options).await.map_err(|error| error.to_string())?;
        let prepared = prepare(&located, wishes).await;
        prepared.map_err(|error| format!("{error}; {}", error.next()))
    }
}

const PLAIN: Wishes<'static> = Wishes {
    name: "fraud",
    torch_serve: None,
    function: None,
    own_image: false,
};

/// What a folder becomes: its files, each with where it comes from.
async fn laid_out(files: &[(&str, &str)], framework: Option<Framework>) -> Vec<String> {
    let prepared = Folder::new(files).prepare(framework, PLAIN).await.unwrap();
    shown(&prepared)
}

fn shown(prepared: &Prepared) -> Vec<String> {
    let shown = prepared.files.iter().map(|file| match &file.content {
        Content::Source(entry) if entry.path == file.path => file.path.clone(),
        Content::Source(entry) => format!("{} from {}", file.path, entry.path),
        Content::Local(_) => format!("{} from here", file.path),
        Content::Generated(_) => format!("{} written", file.path),
        Content::Packed(_) => format!("{} packed", file.path),
    });
    shown.collect()
}

fn written<'a>(prepared: &'a Prepared, path: &str) -> &'a str {
    let file = prepared.files.iter().find(|file| file.path == path).expect(path);
    match &file.content {
        Content::Generated(bytes) => std::str::from_utf8(bytes).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

async fn refused(files: &[(&str, &str)]) -> String {
    Folder::new(files).prepare(None, PLAIN).await.unwrap_err()
}

#[tokio::test]
async fn what_is_said_of_an_archive_is_refused_where_none_is_made() {
    let handler = TorchServe::default();
    let class = TorchServe {
        model_class: Some("net.py".into()),
        ..TorchServe::default()
    };
    let version = TorchServe {
        version: "2.0".to_owned(),
        ..TorchServe::default()
    };
    let function = Function {
        predict: "house.answer".to_owned(),
        pre: None,
        post: None,
        load: None,
    };
    for (files, said, function, told) in [
        (
            &[("churn.pkl", PICKLE)][..],
            &handler,
            None,
            "--handler is for PyTorch weights, of which an archive for TorchServe is made, and this is a model for sklearn",
        ),
        (
            &[("model-store/a.mar", "x"), ("config/config.properties", "")],
            &class,
            None,
            "--model-class is for PyTorch weights, of which an archive for TorchServe is made, and this is an archive already",
        ),
        (
            &[("net.pt", "x"), ("house.py", "def answer(model, data): ...")],
            &version,
            Some(&function),
            "--model-version is for PyTorch weights, of which an archive for TorchServe is made, and a function answers here",
        ),
    ] {
        let wishes = Wishes {
            torch_serve: Some(said),
            function,
            ..PLAIN
        };
        let framework = function.map(|_| Framework::Custom);
        let error = Folder::new(files).prepare(framework, wishes).await.unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
    let wishes = Wishes {
        torch_serve: Some(&handler),
        ..PLAIN
    };
    Folder::new(&[("net.pt", "x")]).prepare(None, wishes).await.unwrap();
}

const LIGHTGBM: &str = "tree\nversion=v4\nnum_class=1\n";
const XGBOOST: &str = r#"{"learner":{"x":1},"version":[3,0,2]}"#;
const PICKLE: &str = "cos\nx\n(csklearn.svm\nSVC\n.";

#[tokio::test]
async fn one_file_gets_the_name_that_servers_look_for() {
    assert_eq!(
        laid_out(&[("churn.pkl", PICKLE)], None).await,
        ["model.pkl from churn.pkl"]
    );
    assert_eq!(
        laid_out(&[("churn.txt", LIGHTGBM)], None).await,
        ["model.bst from churn.txt"]
    );
    assert_eq!(
        laid_out(&[("booster.model", XGBOOST)], None).await,
        ["model.json from booster.model"]
    );
    let prepared = Folder::new(&[("model.json", XGBOOST), ("readme.md", "")])
        .prepare(None, PLAIN)
        .await
        .unwrap();
    assert_eq!(
        (shown(&prepared), prepared.in_place.as_deref()),
        (vec!["model.json".to_owned()], Some(""))
    );
    // KServe's own server would load it under its name, MLServer would not.
    let prepared = Folder::new(&[("fraud.json", XGBOOST)])
        .prepare(None, PLAIN)
        .await
        .unwrap();
    assert!(prepared.would_do && prepared.in_place.is_none());
    // Another JSON file beside it, and KServe's server refuses to choose.
    let prepared = Folder::new(&[("model.json", XGBOOST), ("metrics.json", "{}")])
        .prepare(None, PLAIN)
        .await
        .unwrap();
    assert_eq!(
        (shown(&prepared).len(), prepared.in_place, prepared.would_do),
        (1, None, false)
    );
}

#[tokio::test]
async fn each_says_what_it_made() {
    let told = async |files: &[(&str, &str)], wishes: Wishes<'_>| {
        let prepared = Folder::new(files).prepare(None, wishes).await.unwrap();
        prepared.notes.join("\n")
    };
    let code = Folder::new(&[("handle.py", "def handle(): pass\n")]);
    let archive = TorchServe {
        handler: code.path("handle.py").display().to_string(),
        ..TorchServe::default()
    };
    let archive = Wishes {
        torch_serve: Some(&archive),
        ..PLAIN
    };
    for (files, wishes, parts) in [
        (
            &[("churn.pkl", PICKLE)][..],
            PLAIN,
            &["churn.pkl is uploaded as model.pkl"][..],
        ),
        (&[("saved_model.pb", "x")], PLAIN, &["put into a folder 1"]),
        (
            &[("net.onnx", "x")],
            PLAIN,
            &["fraud/1/model.onnx and fraud/config.pbtxt is made"],
        ),
        (
            &[("1/model.onnx", "x"), ("config.pbtxt", "backend: \"onnxruntime\"\n")],
            PLAIN,
            &["put into a folder fraud"],
        ),
        (
            &[("a/config.pbtxt", "platform: \"ensemble\"\n")],
            PLAIN,
            &["a/1/ensemble is written"],
        ),
        (
            &[("mnist.pt", "weights")],
            archive,
            &[
                "fraud.mar is made of ",
                "config/config.properties is written for one model fraud",
            ],
        ),
    ] {
        let told = told(files, wishes).await;
        for part in parts {
            assert!(told.contains(part), "no `{part}` in {told}");
        }
    }
}

#[tokio::test]
async fn what_no_server_would_load_is_refused_before_it_is_sent() {
    let refused_as = |said: String, what: &str| assert!(said.starts_with(what), "{said}");
    refused_as(
        refused(&[("m.skops", "PK")]).await,
        "m.skops is a skops file, which neither",
    );
    let said = Folder::new(&[("m.pkl", PICKLE)])
        .prepare(Some(Framework::Xgboost), PLAIN)
        .await
        .unwrap_err();
    refused_as(said, "the model at ");
    refused_as(
        refused(&[("MLmodel", "flavors:\n  sklearn: {}\n")]).await,
        "the MLmodel has no python_function flavor",
    );
    let function =
        "flavors:\n  python_function: {loader_module: mlflow.sklearn}\n  sklearn: {pickled_model: model.pkl}\n";
    refused_as(
        refused(&[("MLmodel", function)]).await,
        "the MLmodel names model.pkl as the sklearn model",
    );
    refused_as(
        refused(&[("1/saved_model.pb", "x"), ("1/variables/variables.index", "x")]).await,
        "1/variables is not whole",
    );
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    refused_as(
        refused(&[
            ("config.json", "{}"),
            ("model-1.safetensors", "x"),
            ("model.safetensors.index.json", index),
        ])
        .await,
        "model.safetensors.index.json names 2 files of weights, and 1 are missing, such as model-2.safetensors",
    );
    refused_as(refused(&[("model.pt", "x")]).await, "model.pt is weights alone");
}

#[tokio::test]
async fn what_save_pretrained_wrote_is_served_as_it_is_and_its_user_told_what_is_amiss() {
    let whole = [
        ("config.json", r#"{"architectures": ["BertForMaskedLM"]}"#),
        ("model.safetensors", "x"),
        ("tokenizer.json", "{}"),
    ];
    let prepared = Folder::new(&whole).prepare(None, PLAIN).await.unwrap();
    assert_eq!(
        (prepared.framework, prepared.in_place.as_deref()),
        (Framework::Huggingface, Some(""))
    );
    assert_eq!(shown(&prepared), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(prepared.notes, Vec::<String>::new());

    let half = [
        ("config.json", "{}"),
        ("pytorch_model.bin", "x"),
        ("adapter_config.json", "{}"),
    ];
    let notes = Folder::new(&half).prepare(None, PLAIN).await.unwrap().notes;
    let begins: Vec<&str> = notes.iter().filter_map(|note| note.split(':').next()).collect();
    assert_eq!(
        begins,
        [
            "Its config.json names no architecture",
            "It is an adapter",
            "It has no tokenizer",
            "Its weights are a pickle (.bin)",
        ]
    );
    let said = refused(&[("config.json", "{"), ("model.safetensors", "x")]).await;
    assert_eq!(
        said,
        "config.json is no JSON; copy the whole folder that save_pretrained wrote"
    );
}

#[tokio::test]
async fn a_model_without_a_signature_is_served_and_its_user_told_what_that_means() {
    let unsigned = "flavors:\n  python_function: {loader_module: mlflow.xgboost}\n  xgboost: {data: model.ubj}\n";
    let signed = format!("{unsigned}signature:\n  inputs: '[{{\"type\": \"double\", \"name\": \"age\"}}]'\n");
    let notes = async |mlmodel: &str| {
        let folder = Folder::new(&[("MLmodel", mlmodel), ("model.ubj", "{")]);
        folder.prepare(None, PLAIN).await.unwrap().notes
    };
    let told = notes(unsigned).await.join(" ");
    assert!(
        told.contains("no signature: inputs are not checked")
            && told.contains("mlflow.models.infer_signature makes one"),
        "{told}"
    );
    assert!(notes(&signed).await.is_empty());
}

#[tokio::test]
async fn a_saved_model_lies_in_a_numbered_folder() {
    assert_eq!(
        laid_out(&[("saved_model.pb", "x"), ("assets/a", "x")], None).await,
        ["1/assets/a from assets/a", "1/saved_model.pb from saved_model.pb"]
    );
    let prepared = Folder::new(&[("2/saved_model.pb", "x"), ("10/saved_model.pb", "x")])
        .prepare(None, PLAIN)
        .await
        .unwrap();
    assert_eq!(prepared.in_place.as_deref(), Some(""));
    assert_eq!(prepared.notes, ["Of its 2 versions, 10 is served: the highest."]);
}

#[tokio::test]
async fn onnx_becomes_a_repository_of_triton() {
    let prepared = Folder::new(&[("net.onnx", "x"), ("net.onnx.data", "x")])
        .prepare(None, PLAIN)
        .await
        .unwrap();
    assert_eq!(
        shown(&prepared),
        [
            "fraud/1/model.onnx from net.onnx",
            "fraud/1/net.onnx.data from net.onnx.data",
            "fraud/config.pbtxt written"
        ]
    );
    assert_eq!(
        written(&prepared, "fraud/config.pbtxt"),
        "name: \"fraud\"\nbackend: \"onnxruntime\"\n"
    );
}

#[tokio::test]
async fn tritons_repository_is_checked_by_its_rules() {
    let config = "name: \"a\"\nplatform: \"onnxruntime_onnx\"\ninput [ { name: \"x\" } ]\n";
    assert_eq!(
        laid_out(&[("a/config.pbtxt", config), ("a/1/model.onnx", "x")], None)
            .await
            .len(),
        2
    );
    let said = |files: Vec<(&'static str, &'static str)>| async move { refused(&files).await };
    assert!(
        said(vec![("b/config.pbtxt", "name: \"a\"\n"), ("b/1/model.onnx", "x")])
            .await
            .contains("calls the model `a`")
    );
    assert!(
        said(vec![("a/config.pbtxt", "backend: \"onnxruntime\"\n")])
            .await
            .contains("has no numbered version")
    );
    let named = said(vec![
        ("a/config.pbtxt", "backend: \"onnxruntime\"\n"),
        ("a/1/net.onnx", "x"),
    ])
    .await;
    assert!(
        named.contains("a/1 has no model.onnx, which the backend onnxruntime loads; it has net.onnx"),
        "{named}"
    );
    let open = said(vec![("a/config.pbtxt", "input [\n"), ("a/1/model.onnx", "x")]).await;
    assert!(open.contains("line 1: `[` is never closed"), "{open}");
    let torch = said(vec![
        ("a/config.pbtxt", "backend: \"pytorch\"\n"),
        ("a/1/model.pt", "x"),
    ])
    .await;
    assert!(torch.contains("names no input and output"), "{torch}");
    // An ensemble needs a numbered folder, and a store has no empty ones.
    let ensemble = laid_out(
        &[("e/config.pbtxt", "platform: \"ensemble\"\n"), ("a/1/model.onnx", "x")],
        None,
    )
    .await;
    assert_eq!(ensemble, ["a/1/model.onnx", "e/1/ensemble written", "e/config.pbtxt"]);
    // The folder of one model alone.
    assert_eq!(
        laid_out(
            &[("config.pbtxt", "backend: \"onnxruntime\"\n"), ("1/model.onnx", "x")],
            None
        )
        .await,
        [
            "fraud/1/model.onnx from 1/model.onnx",
            "fraud/config.pbtxt from config.pbtxt"
        ]
    );
}

#[tokio::test]
async fn an_archive_is_packed_of_weights_class_and_handler() {
    let folder = Folder::new(&[("mnist.pt", "weights")]);
    let code = Folder::new(&[
        ("mnist.py", "class Net: pass\n"),
        ("mnist_handler.py", "def handle(): pass\n"),
    ]);
    let wish = TorchServe {
        model_class: Some(code.path("mnist.py")),
        handler: code.path("mnist_handler.py").display().to_string(),
        ..TorchServe::default()
    };
    let wishes = Wishes {
        torch_serve: Some(&wish),
        ..PLAIN
    };
    let prepared = folder.prepare(None, wishes).await.unwrap();
    assert_eq!(
        shown(&prepared),
        ["config/config.properties written", "model-store/fraud.mar packed"]
    );
    let properties = written(&prepared, "config/config.properties");
    assert!(
        properties.contains("model_store=/mnt/models/model-store\n"),
        "{properties}"
    );
    assert!(properties.contains(r#""marName":"fraud.mar""#), "{properties}");
    assert!(prepared.notes.iter().any(|note| note.contains("limited maintenance")));

    let Content::Packed(archive) = &prepared.files[1].content else {
        panic!()
    };
    let (one, two) = (code.path("one.mar"), code.path("two.mar"));
    pack(archive, folder.0.path(), &one).unwrap();
    pack(archive, folder.0.path(), &two).unwrap();
    assert!(
        fs::read(&one).unwrap() == fs::read(&two).unwrap(),
        "the same content has to be the same bytes"
    );
    let mut zip = zip::ZipArchive::new(fs::File::open(&one).unwrap()).unwrap();
    let names: Vec<_> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert_eq!(
        names,
        ["mnist.pt", "mnist.py", "mnist_handler.py", "MAR-INF/MANIFEST.json"]
    );
    let manifest: serde_json::Value = serde_json::from_reader(zip.by_name("MAR-INF/MANIFEST.json").unwrap()).unwrap();
    assert_eq!(
        manifest["model"],
        serde_json::json!({
            "modelName": "fraud", "serializedFile": "mnist.pt", "modelFile": "mnist.py", "handler": "mnist_handler.py", "modelVersion": "1.0",
        })
    );
}

#[tokio::test]
async fn a_custom_model_that_nothing_serves_is_refused_with_each_way_to_serve_it() {
    let prepared = async |files: &[(&str, &str)], own_image: bool| {
        let wishes = Wishes { own_image, ..PLAIN };
        Folder::new(files).prepare(Some(Framework::Custom), wishes).await
    };
    let files = [("weights.bin", "x")];
    let refused = prepared(&files, false).await.unwrap_err();
    for way in ["--predict", "--image", "model-settings.json"] {
        assert!(refused.contains(way), "{refused}");
    }
    assert_eq!(prepared(&files, true).await.unwrap().in_place.as_deref(), Some(""));
    let told = [("weights.bin", "x"), ("own/model-settings.json", "{}")];
    let told = prepared(&told, false).await.unwrap();
    assert_eq!(told.notes, ["Its model-settings.json tells MLServer what to run."]);
}

#[tokio::test]
async fn a_function_is_served_from_the_models_folder() {
    let function = |predict: &str| Function {
        predict: predict.into(),
        pre: None,
        post: Some("serve.post".into()),
        load: None,
    };
    let folder = Folder::new(&[
        ("model.joblib", PICKLE),
        (
            "serve.py",
            "def predict(model, data):\n    return data\n\ndef post(answer):\n    return answer\n",
        ),
        ("own/__init__.py", ""),
    ]);
    let prepare = |wish: Function| {
        let folder = &folder;
        async move {
            let wishes = Wishes {
                function: Some(&wish),
                ..PLAIN
            };
            folder.prepare(Some(Framework::Custom), wishes).await
        }
    };
    let prepared = prepare(function("serve.predict")).await.unwrap();
    assert_eq!(
        shown(&prepared),
        [
            "model-settings.json written",
            "model.joblib",
            "own/__init__.py",
            "serve.py",
            "tidewaiter_runtime.py written"
        ]
    );
    let settings: serde_json::Value = serde_json::from_str(written(&prepared, "model-settings.json")).unwrap();
    assert_eq!(settings["implementation"], "tidewaiter_runtime.Runtime");
    assert_eq!(
        settings["parameters"]["extra"],
        serde_json::json!({"predict": "serve.predict", "post": "serve.post"})
    );
    let said = prepare(function("serve.answer")).await.unwrap_err();
    assert_eq!(said, "serve.py has no function `answer`; it has predict, post");
    let said = prepare(function("other.predict")).await.unwrap_err();
    assert!(
        said.starts_with(
            "`other.predict` needs a file other.py in the model's folder; there is own/__init__.py, serve.py"
        ),
        "{said}"
    );
    let said = prepare(function("predict")).await.unwrap_err();
    assert!(said.ends_with("write module.function"), "{said}");
}
