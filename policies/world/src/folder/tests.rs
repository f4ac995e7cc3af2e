use std::fs;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            made.write(name, text);
        }
        made
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn folder(&self) -> Folder {
        Folder::new(self.0.path())
    }
}

fn problems(files: &[(&str, &str)]) -> String {
    let files = Files::new(files);
    let (_, problems) = files.folder().load().unwrap();
    let folder = files.0.path().display().to_string();
    problems
        .iter()
        .map(|problem| problem.to_string().replace(&folder, "FOLDER"))
        .collect::<Vec<_>>()
        .join("\n")
}

const MINIO: &str = "\
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata:
  name: minio
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3:
    endpoint: http://minio:9000
  credentials:
    secretRef: {namespace: minio, name: root}
";

#[test]
fn a_folder_holds_everything_that_a_configuration_is_made_from() {
    let secret = "
# A comment before the first document.
---
apiVersion: v1
kind: Secret
metadata: {name: root, namespace: minio}
data: {rootUser: bWluaW8=}
stringData:
  rootPassword: not-shown
---
---
apiVersion: v1
kind: Namespace
metadata: {name: team-a, labels: {tier: prod}}
---
apiVersion: v1
kind: Node
metadata: {name: one, labels: {kubernetes.io/arch: arm64}}
status: {anything: [goes]}
";
    let json = r#"{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa", "namespace": "team-a"}, "secrets": [{"name": "x"}]}"#;
    let policy = "apiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {name: own}\nspec: {module: {file: own.wasm}}\n";
    let runtime = "apiVersion: serving.kserve.io/v1alpha1\nkind: ClusterServingRuntime\nmetadata: {name: r}\nspec: {containers: []}\n";
    let files = Files::new(&[
        ("a.yaml", MINIO),
        ("b.yml", secret),
        ("c.json", json),
        ("p.yaml", policy),
        ("r.yaml", runtime),
        ("notes.txt", "- ["),
    ]);
    let (objects, problems) = files.folder().load().unwrap();
    assert_eq!(problems, []);
    assert_eq!(
        (objects.backends.len(), objects.policies.len(), objects.runtimes.len()),
        (1, 1, 1)
    );
    let data = objects.secret("minio", "root").unwrap().data.as_ref().unwrap();
    assert_eq!(
        (&data["rootUser"].0[..], &data["rootPassword"].0[..]),
        (&b"minio"[..], &b"not-shown"[..])
    );
    assert_eq!(objects.namespaces["team-a"]["tier"], "prod");
    assert!(objects.architectures.contains("arm64"));
    assert!(objects.service_account("team-a", "sa").is_some());
    assert_eq!(
        objects.places[&ObjectRef::namespaced("Secret", "minio", "root")],
        "b.yml:4"
    );
}

#[test]
fn mistakes_are_told_with_their_place_and_what_was_meant() {
    let wrong = |from: &str, to: &str| problems(&[("a.yaml", &MINIO.replace(from, to))]);
    let cases = [
        ("unknown field", wrong("endpoint:", "endpont:")),
        (
            "unknown field without a near one",
            wrong("    endpoint:", "    banana:"),
        ),
        (
            "unknown field of metadata",
            wrong("name: minio\n", "name: minio\n  lables: {}\n"),
        ),
        ("wrong type", wrong("serves: ['s3://mlflow/']", "serves: s3://mlflow/")),
        ("unknown variant", wrong("type: s3", "type: s4")),
        (
            "no credentials",
            wrong(
                "credentials:\n    secretRef: {namespace: minio, name: root}",
                "credentials: {}",
            ),
        ),
        (
            "two kinds of credentials",
            wrong("  credentials:\n", "  credentials:\n    anonymous: {}\n"),
        ),
        ("unknown kind of credentials", wrong("secretRef", "secretref")),
        (
            "no module",
            problems(&[(
                "p.yaml",
                "apiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {name: own}\nspec: {module: {}}\n",
            )]),
        ),
        (
            "two modules",
            problems(&[(
                "p.yaml",
                "apiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {name: own}\nspec: {module: {file: a, builtin: b}}\n",
            )]),
        ),
        ("missing field", wrong("  serves: ['s3://mlflow/']\n", "")),
        ("twice the same key", wrong("type: s3", "type: s3\n  type: gcs")),
        ("unknown kind", wrong("kind: StorageBackend", "kind: StorageBackends")),
        ("kind of no use", wrong("kind: StorageBackend", "kind: Deployment")),
        ("no kind", wrong("kind: StorageBackend\n", "")),
        ("wrong version", wrong("v1alpha1", "v1")),
        (
            "a namespace too many",
            wrong("name: minio\n", "name: minio\n  namespace: x\n"),
        ),
        (
            "a namespace too few",
            problems(&[("a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n")]),
        ),
        ("not YAML", problems(&[("a.yaml", "kind: [unclosed\n")])),
        (
            "duplicate name",
            problems(&[("a.yaml", MINIO), ("b.yaml", &format!("# again\n{MINIO}"))]),
        ),
        (
            "second document",
            problems(&[(
                "a.yaml",
                &format!(
                    "{MINIO}---\n{}",
                    MINIO.replace("  s3:", "  s33:").replace("name: minio", "name: other")
                ),
            )]),
        ),
        ("empty folder", problems(&[])),
    ];
    let all: Vec<_> = cases
        .iter()
        .map(|(name, text)| format!("{name}\n  {}", text.replace('\n', "\n  ")))
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn no_message_shows_what_stands_in_a_secret() {
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: y}\n";
    for body in [
        "data: {key: hunter2!}\n",
        "data: hunter2\n",
        "stringData: [hunter2]\n",
        "stringData: {key: {hunter2: hunter2}}\n",
        "stringData:\n  key: hunter2\n key: hunter2\n",
        "stringData: {key: &hunter2 *hunter2}\n",
    ] {
        let told = problems(&[("a.yaml", &format!("{head}{body}"))]);
        assert!(!told.is_empty() && !told.contains("hunter2"), "{body}: {told}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let error = Folder::new("/nowhere/at/all").load().err().unwrap().to_string();
    assert_eq!(
        error,
        "the configuration folder /nowhere/at/all can't be read: No such file or directory (os error 2)"
    );
}

#[test]
fn what_can_no_longer_be_read_is_remembered() {
    let files = Files::new(&[("a.yaml", MINIO)]);
    let mut folder = files.folder();
    folder.load().unwrap();
    let minio = [ObjectRef::cluster("StorageBackend", "minio")];
    for broken in [MINIO.replace("endpoint:", "endpont:"), "kind: [".to_owned()] {
        files.write("a.yaml", &broken);
        for _ in 0..2 {
            let (objects, problems) = folder.load().unwrap();
            assert_eq!((objects.backends.len(), problems.len()), (0, 1));
            assert!(objects.unreadable.keys().eq(&minio), "{:?}", objects.unreadable);
        }
    }
    files.write("a.yaml", MINIO);
    let (objects, problems) = folder.load().unwrap();
    assert_eq!(
        (objects.backends.len(), problems.len(), objects.unreadable.len()),
        (1, 0, 0)
    );
}

#[test]
fn changes_are_seen_in_files_in_modules_and_through_a_volumes_link() {
    let files = Files::new(&[("a.yaml", MINIO), ("m.wasm", "1")]);
    files.write("p.yaml", "apiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {name: own}\nspec: {module: {file: m.wasm}}\n");
    let mut folder = files.folder();
    folder.load().unwrap();
    assert!(!folder.is_changed());
    files.write("m.wasm", "22");
    assert!(folder.is_changed());
    folder.load().unwrap();
    files.write("b.yaml", "");
    assert!(folder.is_changed());
    folder.load().unwrap();
    fs::remove_file(files.0.path().join("b.yaml")).unwrap();
    assert!(folder.is_changed());

    // As the kubelet does it: the files are links through `..data`, which is exchanged for another.
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    for version in ["..1", "..2"] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("a.yaml"), MINIO).unwrap();
    }
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut folder = Folder::new(volume.path());
    assert_eq!(folder.load().unwrap().0.backends.len(), 1);
    assert!(!folder.is_changed());
    std::os::unix::fs::symlink("..2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    assert!(folder.is_changed());
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let told = problems(&[("a.yaml", &"#".repeat(5 * 1024 * 1024))]);
    assert_eq!(
        told,
        "a.yaml: has 5242880 bytes; a file of a configuration has 4194304 at most; nothing of it is used"
    );
}
