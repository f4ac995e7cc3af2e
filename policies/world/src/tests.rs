//! A configuration from a folder, and reviews in its world, on a real store.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tidewaiter_engine::world::{Brought, Delivery, Resolution, StorageError, World};
use tokio::time::Instant;

use crate::stores::READ_LIMIT;
use crate::testing::{ACCESS_KEY, Answering, S3, SECRET_KEY};
use crate::{AccountFacts, ClusterReader, Configuration, Folder, Labels, Problem, ReviewWorld, SecretFacts, Stores};

const BUILTINS: &[(&str, &[u8])] = &[("storage-credentials", b"one"), ("serving-versions", b"two")];

/// A folder, and the configuration that was last made from it.
struct Setting {
    files: tempfile::TempDir,
    folder: Folder,
    stores: Arc<Stores>,
    configuration: Option<Arc<Configuration>>,
}

impl Setting {
    fn new(text: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let folder = Folder::new(files.path());
        let setting = Self {
            files,
            folder,
            stores: Arc::new(Stores::default()),
            configuration: None,
        };
        setting.write(text);
        setting
    }

    fn write(&self, text: &str) {
        fs::write(self.files.path().join("all.yaml"), text).unwrap();
    }

    fn load(&mut self) -> Vec<Problem> {
        let (objects, mut problems) = self.folder.load().unwrap();
        let (configuration, more) =
            Configuration::build(&objects, self.configuration.as_deref(), BUILTINS, &self.stores);
        configuration.say_what_stays(&mut problems);
        self.configuration = Some(Arc::new(configuration));
        problems.extend(more);
        problems
    }

    fn loaded(&self) -> &Arc<Configuration> {
        self.configuration.as_ref().unwrap()
    }

    fn world(&self, namespace: &str) -> ReviewWorld {
        let configuration = Arc::clone(self.loaded());
        let reader = Arc::clone(&configuration);
        ReviewWorld::new(
            configuration,
            Arc::clone(&self.stores),
            reader,
            namespace,
            Instant::now() + Duration::from_secs(5),
        )
    }
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn backend(name: &str, endpoint: &str, rest: &str) -> String {
    format!(
        "---
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {{name: {name}}}
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3: {{endpoint: '{endpoint}'}}
  credentials: {{secretRef: {{namespace: minio, name: root}}}}
{rest}"
    )
}

fn secret(user: &str, password: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: root, namespace: minio}}\nstringData: {{rootUser: {user}, rootPassword: {password}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!("---\napiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

const GRANTS: &str = "  grants:
  - prefixes: ['s3://mlflow/{namespace}/']
  - {namespaces: [admin-*], prefixes: ['s3://mlflow/']}
  contact: '#ml-platform'
";

#[tokio::test]
async fn a_model_is_read_with_the_backends_keys_inside_the_grants() {
    let server = S3::start().await;
    server.put("mlflow/team-a/1/MLmodel", "flavors: {}");
    server.put("mlflow/team-ab/1/MLmodel", "another team's");
    let mut setting = Setting::new(&(backend("minio", &server.endpoint, GRANTS) + &secret(ACCESS_KEY, SECRET_KEY)));
    assert_eq!(told(&setting.load()), "");
    let team_a = setting.world("team-a");

    assert_eq!(
        team_a
            .read("s3://mlflow/team-a/1/MLmodel", 0, READ_LIMIT)
            .await
            .unwrap(),
        "flavors: {}"
    );
    assert_eq!(team_a.stat("s3://mlflow/team-a/1/MLmodel").await.unwrap().size, 11);
    assert_eq!(
        team_a.list_objects("s3://mlflow/team-a/1", 10).await.unwrap().objects[0].path,
        "MLmodel"
    );
    assert!(matches!(
        team_a.read("s3://mlflow/team-a/1/none", 0, 9).await,
        Err(StorageError::NotFound)
    ));
    assert!(matches!(
        team_a.read("s3://mlflow/team-a/1/MLmodel", 0, READ_LIMIT + 1).await,
        Err(StorageError::TooLarge(_))
    ));
    assert_eq!(
        setting
            .world("admin-1")
            .read("s3://mlflow/team-ab/1/MLmodel", 0, 100)
            .await
            .unwrap(),
        "another team's"
    );

    // Nothing of this reaches the store.
    let before = server.requests();
    for uri in [
        "s3://mlflow/team-ab/1/MLmodel",
        "s3://mlflow/team-a",
        "s3://mlflow/",
        "s3://mlflow/team-a/../team-ab/1/MLmodel",
        "s3://mlflow/team-a/%2e%2e/team-ab/1/MLmodel",
        "s3://mlflow/team-a/..%2fteam-ab/1/MLmodel",
        "s3://mlflow/team-a/./1/MLmodel",
        "s3://mlflow//team-ab/1/MLmodel",
        "s3://mlflow/team-a\\..\\team-ab/1/MLmodel",
        "s3://MLFLOW/team-a/1/MLmodel",
        "s3://mlflow/{namespace}/1/MLmodel",
        "s3://other/team-a/1/MLmodel",
        "pvc://claim/team-a",
        "models:/team-a/1",
        "",
    ] {
        let read = team_a.read(uri, 0, 100).await;
        assert!(matches!(read, Err(StorageError::Unserved(_))), "{uri}: {read:?}");
        let listed = team_a.list_objects(uri, 100).await;
        assert!(matches!(listed, Err(StorageError::Unserved(_))), "{uri}: {listed:?}");
    }
    assert_eq!(server.requests(), before);
    let Err(StorageError::Unserved(reason)) = team_a.stat("s3://mlflow/team-ab/1/MLmodel").await else {
        panic!("served")
    };
    assert_eq!(
        reason,
        "namespace team-a may not use this part of StorageBackend minio, only s3://mlflow/team-a/"
    );
}

#[tokio::test]
async fn a_uri_resolves_to_what_the_admin_wrote() {
    let own = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: mine, namespace: team-a, labels: {tidewaiter.dev/storage: ''}, annotations: {tidewaiter.dev/prefix: 's3://mlflow/team-a/own/'}}\n";
    let text = backend("minio", "http://minio:9000", GRANTS) + &secret("a", "b") + own;
    let mut setting = Setting::new(&text);
    assert_eq!(told(&setting.load()), "");
    let world = setting.world("team-a");
    let Resolution::Served(served) = world.resolve("s3://mlflow/team-a/1").await else {
        panic!("not served")
    };
    assert_eq!(
        (served.backend.as_str(), served.secret.as_str(), served.kind.as_str()),
        ("minio", "tidewaiter-minio", "s3")
    );
    assert_eq!(
        (served.delivery, served.anonymous, world.secret_annotation().as_deref()),
        (Delivery::Annotation, false, Some("serving.kserve.io/storageSecretName"))
    );

    let Resolution::NotGranted(refused) = world.resolve("s3://mlflow/team-b/1").await else {
        panic!("granted")
    };
    assert_eq!(
        (refused.backend.as_str(), refused.contact.as_deref()),
        ("minio", Some("#ml-platform"))
    );
    assert_eq!(refused.allowed, ["s3://mlflow/team-a/"]);
    assert!(matches!(world.resolve("s3://mlflow/team-a/own/1").await, Resolution::OwnSecret(name) if name == "mine"));
    assert!(matches!(
        world.read("s3://mlflow/team-a/own/1/MLmodel", 0, 9).await,
        Err(StorageError::Unserved(_))
    ));
    assert!(matches!(world.resolve("gs://else/1").await, Resolution::Unserved));
    assert!(matches!(
        world.resolve("pvc://claim/1").await,
        Resolution::NoCredentials
    ));
    assert!(matches!(
        world.resolve("models:/fraud/1").await,
        Resolution::Unsupported(_)
    ));

    // KServe without an annotation: only a ServiceAccount delivers.
    let bare = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: inferenceservice-config, namespace: kserve}\ndata: {credentials: '{}'}\n";
    setting.write(&(text + bare));
    setting.load();
    let world = setting.world("team-a");
    let Resolution::Served(served) = world.resolve("s3://mlflow/team-a/1").await else {
        panic!("not served")
    };
    assert_eq!(
        (served.delivery, world.secret_annotation()),
        (Delivery::ServiceAccount, None)
    );
    assert!(
        setting
            .loaded()
            .credentials("minio")
            .unwrap()
            .data
            .contains_key("awsAccessKeyID")
    );
}

#[tokio::test]
async fn the_annotation_is_the_one_that_kserves_configuration_names() {
    let map = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: inferenceservice-config, namespace: kserve}}\ndata: {{credentials: '{{\"storageSecretNameAnnotation\": \"{name}\"}}'}}\n"
        )
    };
    for (name, expected) in [("corp.example/secret", Some("corp.example/secret")), ("", None)] {
        let mut setting = Setting::new(&(map(name) + &backend("minio", "http://minio:9000", "") + &secret("a", "b")));
        assert_eq!(told(&setting.load()), "");
        let world = setting.world("a");
        assert_eq!(world.secret_annotation().as_deref(), expected);
        let Resolution::Served(served) = world.resolve("s3://mlflow/1").await else {
            panic!("not served")
        };
        assert_eq!(served.delivery == Delivery::Annotation, expected.is_some(), "{name}");
        // Gone for a moment, as while it is replaced: what was known last holds.
        setting.write(&(backend("minio", "http://minio:9000", "") + &secret("a", "b")));
        setting.load();
        assert_eq!(setting.world("a").secret_annotation().as_deref(), expected);
    }
}

#[tokio::test]
async fn a_hung_store_leaves_time_to_say_so() {
    let hung = Answering::hung().await;
    let mut setting = Setting::new(&(backend("minio", &hung.endpoint, "") + &secret("a", "b")));
    setting.load();
    let deadline = Instant::now() + Duration::from_millis(400);
    let configuration = Arc::clone(setting.loaded());
    let reader = Arc::clone(&configuration);
    let world = ReviewWorld::new(configuration, Arc::clone(&setting.stores), reader, "a", deadline);
    for key in ["MLmodel", "requirements.txt"] {
        let read = world.read(&format!("s3://mlflow/1/{key}"), 0, 9).await;
        assert!(matches!(read, Err(StorageError::Unreachable(_))), "{read:?}");
    }
    assert!(matches!(world.brought_credentials(None, None).await, Brought::Nothing));
    assert!(Instant::now() < deadline);
    assert_eq!(hung.connections(), 1, "the second read had no time left");
}

#[tokio::test]
async fn what_the_user_brought_is_found() {
    let text = "
apiVersion: v1
kind: Secret
metadata: {name: good, namespace: a}
stringData: {AWS_ACCESS_KEY_ID: x, AWS_SECRET_ACCESS_KEY: y}
---
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: a}
stringData: {ca.crt: x, token: y}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: a}, secrets: [{name: token}]}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: listed, namespace: a}, secrets: [{name: token}, {name: good}]}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: early, namespace: a}, secrets: [{name: later}]}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: cloud, namespace: a, annotations: {eks.amazonaws.com/role-arn: 'arn:x'}}}
";
    let mut setting = Setting::new(text);
    setting.load();
    let world = setting.world("a");
    let brought =
        async |account: Option<&str>, secret: Option<&str>| match world.brought_credentials(account, secret).await {
            Brought::Nothing => "nothing".to_owned(),
            Brought::Usable(what) => format!("usable: {what}"),
            Brought::Missing(what) => format!("missing: {what}"),
            Brought::Managed(secrets) => format!("managed: {}", secrets.join(" ")),
            Brought::Unknown(what) => format!("unknown: {what}"),
        };
    assert_eq!(brought(None, Some("good")).await, "usable: Secret good");
    assert_eq!(brought(None, Some("later")).await, "missing: Secret later");
    assert_eq!(
        brought(None, Some("token")).await,
        "missing: Secret token, in which KServe knows no key"
    );
    assert_eq!(
        brought(Some("listed"), None).await,
        "usable: ServiceAccount listed with Secret good"
    );
    assert_eq!(
        brought(Some("early"), None).await,
        "missing: ServiceAccount early with Secret later"
    );
    assert_eq!(
        brought(Some("cloud"), None).await,
        "usable: ServiceAccount cloud with an identity of AWS"
    );
    assert_eq!(brought(Some("nobody"), None).await, "missing: ServiceAccount nobody");
    assert_eq!(brought(None, None).await, "nothing");
    assert!(matches!(
        setting.world("b").brought_credentials(None, None).await,
        Brought::Nothing
    ));
}

#[tokio::test]
async fn what_tidewaiter_keeps_in_a_namespace_was_brought_by_nobody() {
    let ours = "{tidewaiter.dev/storage: '', app.kubernetes.io/managed-by: tidewaiter}";
    let text = format!(
        "{}{}---
apiVersion: v1
kind: Secret
metadata: {{name: tidewaiter-minio, namespace: a, labels: {ours}, annotations: {{tidewaiter.dev/prefix: 's3://mlflow/'}}}}
stringData: {{AWS_ACCESS_KEY_ID: x, AWS_SECRET_ACCESS_KEY: y}}
---
apiVersion: v1
kind: Secret
metadata: {{name: good, namespace: a}}
stringData: {{AWS_ACCESS_KEY_ID: x, AWS_SECRET_ACCESS_KEY: y}}
---
apiVersion: v1
kind: Secret
metadata: {{name: tidewaiter-minio, namespace: c}}
stringData: {{AWS_ACCESS_KEY_ID: x, AWS_SECRET_ACCESS_KEY: y}}
---
{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: tidewaiter-minio, namespace: a, labels: {ours}}}, secrets: [{{name: tidewaiter-minio}}]}}
---
{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: both, namespace: a, annotations: {{eks.amazonaws.com/role-arn: 'arn:x'}}}}, secrets: [{{name: good}}, {{name: tidewaiter-minio}}]}}
",
        backend("minio", "http://minio:9000", GRANTS),
        secret("a", "b"),
    );
    let mut setting = Setting::new(&text);
    let problems = told(&setting.load());
    assert!(
        problems.contains("Secret/a/tidewaiter-minio: is kept by Tidewaiter"),
        "{problems}"
    );
    let a = setting.world("a");
    assert!(matches!(a.resolve("s3://mlflow/b/1").await, Resolution::NotGranted(_)));
    let ours = |brought| matches!(brought, Brought::Managed(names) if names == ["tidewaiter-minio"]);
    assert!(ours(a.brought_credentials(None, Some("tidewaiter-minio")).await));
    assert!(ours(a.brought_credentials(Some("tidewaiter-minio"), None).await));
    assert!(ours(a.brought_credentials(Some("both"), None).await));
    // It isn't there yet: the next service brings it.
    let b = setting.world("b");
    assert!(ours(b.brought_credentials(None, Some("tidewaiter-minio")).await));
    assert!(ours(b.brought_credentials(Some("tidewaiter-minio"), None).await));
    // One that the user made.
    let c = setting.world("c");
    assert!(matches!(
        c.brought_credentials(None, Some("tidewaiter-minio")).await,
        Brought::Usable(_)
    ));
}

/// An API server that knows one namespace, counts who asks, and fails at all else.
#[derive(Default)]
struct Failing(std::sync::atomic::AtomicUsize);

#[async_trait::async_trait]
impl ClusterReader for Failing {
    async fn service_account(&self, _: &str, _: &str) -> Result<Option<AccountFacts>, String> {
        Err("refused".to_owned())
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<SecretFacts>, String> {
        Err("refused".to_owned())
    }

    async fn namespace(&self, name: &str) -> Result<Option<Labels>, String> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok((name == "new").then(|| Labels::from([("team".to_owned(), "a".to_owned())])))
    }

    async fn object(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Option<String>, String> {
        Err("refused".to_owned())
    }

    async fn objects(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>, String> {
        Err("refused".to_owned())
    }
}

fn world_read_by(setting: &Setting, reader: &Arc<Failing>, namespace: &str) -> ReviewWorld {
    ReviewWorld::new(
        Arc::clone(setting.loaded()),
        Arc::clone(&setting.stores),
        Arc::clone(reader) as Arc<dyn ClusterReader>,
        namespace,
        Instant::now() + Duration::from_secs(5),
    )
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_unknown() {
    let mut setting = Setting::new(&(backend("minio", "http://minio:9000", "") + &secret("a", "b")));
    setting.load();
    let world = world_read_by(&setting, &Arc::default(), "a");
    for (account, secret) in [(None, None), (Some("sa"), None), (None, Some("own"))] {
        let brought = world.brought_credentials(account, secret).await;
        assert!(
            matches!(&brought, Brought::Unknown(what) if what.ends_with("can't be read (refused)")),
            "{brought:?}"
        );
    }
    let ours = world.brought_credentials(None, Some("tidewaiter-minio")).await;
    assert!(matches!(ours, Brought::Managed(_)), "{ours:?}");
}

#[tokio::test]
async fn a_namespace_that_no_watch_shows_is_asked_for_once() {
    let grants = "  grants:\n  - {namespaceSelector: {matchLabels: {team: a}}, prefixes: ['s3://mlflow/']}\n";
    let old = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: old, labels: {team: a}}}\n";
    let mut setting = Setting::new(&(backend("minio", "http://minio:9000", grants) + &secret("a", "b") + old));
    assert_eq!(told(&setting.load()), "");
    // `old` is in the configuration, and by now it isn't there any more: its labels grant nothing.
    for (namespace, granted, asked) in [("new", true, 1), ("gone", false, 1), ("old", false, 1)] {
        let reader = Arc::new(Failing::default());
        let world = world_read_by(&setting, &reader, namespace);
        for _ in 0..2 {
            let resolution = world.resolve("s3://mlflow/1").await;
            assert_eq!(matches!(resolution, Resolution::Served(_)), granted, "{namespace}");
        }
        assert_eq!(world.namespace_labels().await.len(), usize::from(granted));
        assert_eq!(
            reader.0.load(std::sync::atomic::Ordering::Relaxed),
            asked,
            "{namespace}"
        );
    }
}

#[tokio::test]
async fn objects_are_for_those_who_declared_them_and_secrets_for_nobody() {
    let objects =
        "{module: {builtin: serving-versions}, capabilities: [cluster], objects: [{apiVersion: v1, kind: ConfigMap}]}";
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: rules, namespace: a}\ndata: {x: y}\n";
    let others = "{module: {builtin: storage-credentials}, capabilities: [cluster], objects: [{apiVersion: v1, kind: ServiceAccount}]}";
    let mut setting = Setting::new(&(policy("own", objects) + &policy("other", others) + map + &secret("a", "b")));
    assert_eq!(told(&setting.load()), "");
    let world = setting.world("a");
    assert!(
        world
            .get_object("own", "v1", "ConfigMap", "rules")
            .await
            .unwrap()
            .unwrap()
            .contains(r#""x":"y""#)
    );
    assert_eq!(world.get_object("own", "v1", "ConfigMap", "none").await, Ok(None));
    assert_eq!(
        setting.world("b").get_object("own", "v1", "ConfigMap", "rules").await,
        Ok(None)
    );
    assert_eq!(
        world.get_object("own", "v1", "ServiceAccount", "default").await,
        Err("WasmPolicy own doesn't declare ServiceAccount (v1) in spec.objects".to_owned())
    );
    assert_eq!(
        world.get_object("other", "v1", "ServiceAccount", "default").await,
        Ok(None)
    );
    assert_eq!(
        world.get_object("other", "v1", "ConfigMap", "rules").await,
        Err("WasmPolicy other doesn't declare ConfigMap (v1) in spec.objects".to_owned())
    );
    assert!(world.get_object("nobody", "v1", "ConfigMap", "rules").await.is_err());
    assert!(
        setting
            .world("minio")
            .get_object("own", "v1", "Secret", "root")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn objects_are_listed_within_limits() {
    let objects =
        "{module: {builtin: serving-versions}, capabilities: [cluster], objects: [{apiVersion: v1, kind: ConfigMap}]}";
    let map = |namespace: &str, name: &str, bytes: usize| {
        let text = "x".repeat(bytes);
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}, managedFields: []}}\ndata: {{x: {text}}}\n"
        )
    };
    let many = |namespace: &str, count: usize, bytes: usize| -> String {
        (0..count)
            .map(|number| map(namespace, &format!("m{number}"), bytes))
            .collect()
    };
    let mut setting = Setting::new(
        &(policy("own", objects)
            + &map("a", "two", 1)
            + &map("a", "one", 1)
            + &many("many", 101, 1)
            + &many("full", 100, 1)
            + &many("large", 5, 250_000)),
    );
    assert_eq!(told(&setting.load()), "");
    let listed = async |namespace: &str| setting.world(namespace).cluster_objects("own", "v1", "ConfigMap").await;
    let two = listed("a").await.unwrap();
    assert_eq!(two.len(), 2);
    assert!(
        two[0].contains(r#""name":"one""#) && two[1].contains(r#""name":"two""#),
        "{two:?}"
    );
    assert!(!two[0].contains("managedFields"), "{two:?}");
    assert_eq!(listed("none").await, Ok(Vec::new()));
    assert_eq!(listed("full").await.map(|all| all.len()), Ok(100));
    assert_eq!(
        listed("many").await,
        Err(
            "objects of kind ConfigMap can't be read (there are more than 100, which is all that a policy gets)"
                .to_owned()
        )
    );
    assert_eq!(
        listed("large").await,
        Err("objects of kind ConfigMap can't be read (they have more than 1 MiB together, which is all that a policy gets)".to_owned())
    );
    let world = setting.world("a");
    assert_eq!(
        world.cluster_objects("own", "v1", "ServiceAccount").await,
        Err("WasmPolicy own doesn't declare ServiceAccount (v1) in spec.objects".to_owned())
    );
    assert!(world.cluster_objects("own", "v1", "Secret").await.is_err());
}

#[tokio::test]
async fn a_key_of_kserves_configuration_is_json_or_nothing() {
    let map = |deploy: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: inferenceservice-config, namespace: kserve}}\ndata:\n  deploy: '{deploy}'\n  broken: '{{not'\n"
        )
    };
    let good = r#"{"defaultDeploymentMode": "Standard"}"#;
    let mut setting = Setting::new(&map(good));
    assert_eq!(told(&setting.load()), "");
    assert_eq!(setting.world("a").kserve_config("deploy").await.as_deref(), Some(good));
    for key in ["broken", "ingress"] {
        assert_eq!(setting.world("a").kserve_config(key).await, None, "{key}");
    }
    setting.write(&map("{not"));
    assert_ne!(told(&setting.load()), "");
    assert_eq!(setting.world("a").kserve_config("deploy").await.as_deref(), Some(good));
    setting.write("");
    setting.load();
    assert_eq!(setting.world("a").kserve_config("deploy").await.as_deref(), Some(good));
}

#[tokio::test]
async fn all_of_a_runtime_can_be_seen_where_it_is_known() {
    let runtime = |kind: &str, name: &str, namespace: &str, port: u16| {
        format!(
            "---\napiVersion: serving.kserve.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\nspec:\n  supportedModelFormats: [{{name: own, autoSelect: true}}]\n  containers:\n  - {{name: kserve-container, image: 'r.local/own@sha256:0a', ports: [{{containerPort: {port}}}]}}\n"
        )
    };
    let mut setting = Setting::new(
        &(runtime("ClusterServingRuntime", "own", "", 80) + &runtime("ServingRuntime", "own", ", namespace: a", 81)),
    );
    assert_eq!(told(&setting.load()), "");
    let port = async |namespace: &str| {
        let spec = setting.world(namespace).runtime_spec("own").await?;
        let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
        spec["containers"][0]["ports"][0]["containerPort"].as_u64()
    };
    assert_eq!((port("a").await, port("b").await), (Some(81), Some(80)));
    assert_eq!(setting.world("a").runtime_spec("none").await, None);
    let found = setting.world("b").named("own").await.unwrap();
    assert_eq!((found.tag.as_str(), found.digest.as_str()), ("", "sha256:0a"));
    // Without any, the runtimes are those that KServe installs, with all that their specs say.
    let mut shipped = Setting::new("");
    shipped.load();
    let world = shipped.world("a");
    assert!(world.named("kserve-mlserver").await.is_some());
    let spec = world.runtime_spec("kserve-sklearnserver").await.unwrap();
    let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
    let limits = &spec["containers"][0]["resources"]["limits"];
    assert_eq!(*limits, serde_json::json!({"cpu": "1", "memory": "2Gi"}));
    let release = world.release_of("seldonio/mlserver", "1.7.1", &[]).await.unwrap();
    assert_eq!(release.architectures, ["amd64"]);
    let asked = ["mlflow", "imbalanced-learn"].map(str::to_owned);
    assert_eq!(world.lacking("seldonio/mlserver", &asked).await, ["imbalanced-learn"]);
}

#[test]
fn a_built_in_policy_goes_by_its_former_name_too() {
    let mut setting = Setting::new(&policy(
        "pins",
        "{module: {builtin: runtime-version}, capabilities: [storage], order: 7}",
    ));
    assert_eq!(told(&setting.load()), "");
    let policies = setting.loaded().policies();
    let names: Vec<_> = policies
        .iter()
        .map(|policy| (policy.name.as_str(), policy.spec.order))
        .collect();
    assert_eq!(names, [("pins", 7), ("storage-credentials", 100)]);
    assert_eq!(policies[0].component.as_deref(), Some(&b"two"[..]));
    // What it didn't need then is granted now.
    assert!(
        policies[0]
            .spec
            .capabilities
            .contains(&tidewaiter_engine::Capability::Log)
    );
    // An object of the former name alone speaks of it, as it did.
    let mut former = Setting::new(&policy(
        "runtime-version",
        "{module: {builtin: runtime-version}, mode: audit}",
    ));
    assert_eq!(told(&former.load()), "");
    assert_eq!(former.loaded().policies().len(), 2);
    let twins =
        policy("old", "{module: {builtin: runtime-version}}") + &policy("new", "{module: {builtin: serving-versions}}");
    assert!(told(&Setting::new(&twins).load()).contains("loads the built-in policy serving-versions too"));
}

#[test]
fn built_in_policies_run_unless_an_object_speaks_of_them() {
    let names = |text: &str| {
        let mut setting = Setting::new(text);
        let problems = told(&setting.load());
        let policies = setting.loaded().policies();
        (
            policies
                .iter()
                .map(|policy| format!("{}:{}", policy.name, policy.spec.order))
                .collect::<Vec<_>>()
                .join(" "),
            problems,
        )
    };
    assert_eq!(names("# nothing\n").0, "serving-versions:100 storage-credentials:100");
    assert_eq!(
        names(&policy(
            "storage-credentials",
            "{module: {builtin: storage-credentials}, order: 5}"
        ))
        .0,
        "storage-credentials:5 serving-versions:100"
    );
    assert_eq!(
        names(&policy("ours", "{module: {builtin: storage-credentials}, order: 7}")).0,
        "ours:7 serving-versions:100"
    );
    let builtin = "{module: {builtin: storage-credentials}}";
    let (active, problems) = names(&(policy("ours", builtin) + &policy("storage-credentials", builtin)));
    assert_eq!(active, "ours:100 serving-versions:100 storage-credentials:100");
    assert_eq!(
        problems,
        "all.yaml:2: WasmPolicy/ours: WasmPolicy/storage-credentials loads the built-in policy storage-credentials too, and both run on what both match; \
         leave one of them\n\
         all.yaml:7: WasmPolicy/storage-credentials: WasmPolicy/ours loads the built-in policy storage-credentials too, and both run on what both match; \
         leave one of them"
    );
    let (active, problems) = names(&policy(
        "storage-credentials",
        "{module: {builtin: storage-credential}}",
    ));
    assert_eq!(active, "serving-versions:100 storage-credentials:100");
    assert_eq!(
        problems,
        "all.yaml:2: WasmPolicy/storage-credentials: spec.module.builtin: there is no built-in policy `storage-credential`; did you mean \
         `storage-credentials`?; the rest of it, and defaults, are used until then"
    );
    let (active, problems) = names(&policy(
        "storage-credentials",
        "{module: {builtin: storage-credential}, failurePolicy: fail, match: {namespaces: [a?]}}",
    ));
    assert_eq!(active, "serving-versions:100 storage-credentials:100");
    assert!(
        problems.ends_with("; the rest of it, and defaults, are used until then"),
        "{problems}"
    );
}

#[test]
fn a_module_is_taken_from_its_file_and_its_digest_counts() {
    let mut setting = Setting::new(&policy("own", "{module: {file: own.wasm}}"));
    let problems = told(&setting.load());
    assert!(
        problems.contains("spec.module.file: own.wasm can't be read: No such file"),
        "{problems}"
    );
    assert!(
        problems.ends_with("; it doesn't run, and what it matches is admitted without it"),
        "{problems}"
    );
    // A second look makes it no good version.
    assert_eq!(told(&setting.load()), problems);
    fs::write(setting.files.path().join("own.wasm"), "component").unwrap();
    assert_eq!(told(&setting.load()), "");
    let own = |setting: &Setting| {
        setting
            .loaded()
            .policies()
            .iter()
            .find(|policy| policy.name == "own")
            .unwrap()
            .component
            .clone()
            .unwrap()
    };
    assert_eq!(own(&setting), "component");

    let digest = crate::digest_of(b"another");
    setting.write(&policy(
        "own",
        &format!("{{module: {{file: own.wasm}}, digest: '{digest}'}}"),
    ));
    let problems = told(&setting.load());
    assert!(
        problems.contains("spec.digest: the component has sha256:")
            && problems.ends_with("its last good version stays"),
        "{problems}"
    );
    assert_eq!(own(&setting), "component");
    fs::write(setting.files.path().join("own.wasm"), "another").unwrap();
    assert_eq!(told(&setting.load()), "");
    assert_eq!(own(&setting), "another");
}

#[test]
fn what_is_wrong_with_objects_is_told() {
    let minio = |rest: &str| backend("minio", "http://minio:9000", rest);
    let problems = |text: String| told(&Setting::new(&text).load());
    let bad_catalogue = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ours, namespace: a, labels: {tidewaiter.dev/catalogue: add}}\n";
    let bundle = minio("").replace(
        "9000'}",
        "9000', tls: {caBundle: {configMap: {namespace: minio, name: ca}}}}",
    );
    let cases = [
        ("no Secret", problems(minio(""))),
        ("a Secret that is not base64", problems(minio("") + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: root, namespace: minio}\ndata: {rootUser: hunter2!}\n")),
        ("a Secret without keys", problems(minio("") + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: root, namespace: minio}\nstringData: {user: x}\n")),
        ("overlap", problems(minio("") + &backend("other", "http://other:9000", "") + &secret("a", "b"))),
        ("bad pattern", problems(minio("").replace("s3://mlflow/", "s3://ml?low/") + &secret("a", "b"))),
        ("bad endpoint", problems(backend("minio", "ftp://minio", "") + &secret("a", "b"))),
        ("no CA bundle", problems(bundle + &secret("a", "b"))),
        ("own Secret without prefix", problems("apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: a, labels: {tidewaiter.dev/storage: ''}}\n".into())),
        ("own Secret with a bad prefix", problems("apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: a, labels: {tidewaiter.dev/storage: ''}, annotations: {tidewaiter.dev/prefix: bucket/path}}\n".into())),
        ("catalogue label", problems(bad_catalogue.into())),
        ("catalogue that leads nowhere", problems(bad_catalogue.replace("catalogue: add", "catalogue: extend") + "data:\n  catalogue.yaml: |\n    schema: 1\n    repositories: [{name: registry.local/a, like: registry.local/b}]\n")),
        ("catalogue with a typo", problems(bad_catalogue.replace("catalogue: add", "catalogue: extend") + "data:\n  catalogue.yaml: |\n    schema: 1\n    repositories:\n      - name: registry.local/a\n        relases: []\n")),
        ("catalogue that is no YAML", problems(bad_catalogue.replace("catalogue: add", "catalogue: extend") + "data:\n  catalogue.yaml: |\n    schema: 1\n    repositories: [\n")),
        ("catalogue with packages by other names", problems(bad_catalogue.replace("catalogue: add", "catalogue: extend") + "data:\n  catalogue.yaml: |\n    schema: 1\n    repositories:\n      - name: registry.local/a\n        releases:\n          - {tags: [v1], packages: {sklearn: '1.5', Scikit_Learn: '1.5', xgbost: '3.0', numba: '1', numpy: '2.0'}}\n")),
        ("runtime", problems("{apiVersion: serving.kserve.io/v1alpha1, kind: ClusterServingRuntime, metadata: {name: r}, spec: {disabled: 'no'}}".into())),
        ("policy limits", problems(policy("own", "{module: {builtin: serving-versions}, limits: {timeMs: 0}}"))),
    ];
    let all: Vec<_> = cases
        .iter()
        .map(|(name, text)| format!("{name}\n  {}", text.replace('\n', "\n  ")))
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn the_last_good_version_stays_when_a_new_one_is_bad() {
    let good = backend("minio", "http://minio:9000", "") + &secret("a", "b");
    let mut setting = Setting::new(&good);
    assert_eq!(told(&setting.load()), "");
    for bad in [
        good.replace("endpoint", "endpont"),
        good.replace("http://minio:9000", "ftp://minio"),
        good.replace("  type: s3", "  type: [s3"),
    ] {
        setting.write(&bad);
        assert!(!setting.load().is_empty());
        assert!(
            matches!(setting.world("a").resolve("s3://mlflow/1").await, Resolution::Served(_)),
            "{bad}"
        );
        assert!(setting.loaded().credentials("minio").is_ok(), "{bad}");
    }
    setting.write("# all gone\n");
    setting.load();
    assert!(matches!(
        setting.world("a").resolve("s3://mlflow/1").await,
        Resolution::Unserved
    ));
}

#[tokio::test]
async fn a_backend_that_never_was_usable_is_told_by_its_name_and_contact() {
    let good = backend("minio", "http://minio:9000", GRANTS) + &secret("a", "b");
    let broad = backend("all", "http://minio:9000", "").replace("s3://mlflow/", "s3://");
    for (bad, reason) in [
        (
            good.replace("endpoint", "endpont"),
            "there is no field `endpont` here; did you mean `endpoint`?",
        ),
        (
            good.replace("http://minio:9000", "ftp://minio"),
            "spec.s3.endpoint: `ftp://minio` has the scheme `ftp`",
        ),
        (good.replace("type: s3", "type: s4"), "`s4` is not known here"),
    ] {
        let mut setting = Setting::new(&(bad + &broad));
        let problems = told(&setting.load());
        assert!(
            problems.contains(reason) && problems.ends_with("; it isn't used"),
            "{problems}"
        );
        let world = setting.world("team-a");
        let Resolution::Unusable(unusable) = world.resolve("s3://mlflow/team-a/1").await else {
            panic!("told as something else")
        };
        assert_eq!(
            (unusable.backend.as_str(), unusable.contact.as_deref()),
            ("minio", Some("#ml-platform"))
        );
        assert!(unusable.reason.starts_with(reason), "{}", unusable.reason);
        let read = world.read("s3://mlflow/team-a/1/MLmodel", 0, 9).await;
        assert!(
            matches!(&read, Err(StorageError::Forbidden(reason)) if reason.contains("StorageBackend minio can't be used")),
            "{read:?}"
        );
        // What it doesn't serve is no concern of it.
        assert!(matches!(world.resolve("s3://other/1").await, Resolution::Served(_)));
        assert!(matches!(world.resolve("gs://other/1").await, Resolution::Unserved));

        // Once it was good, its last good version stays.
        setting.write(&(good.clone() + &broad));
        assert_eq!(told(&setting.load()), "");
        assert!(matches!(
            setting.world("team-a").resolve("s3://mlflow/team-a/1").await,
            Resolution::Served(_)
        ));
    }
    // Nothing says what it serves.
    let mut setting = Setting::new(&good.replace("serves: ['s3://mlflow/']", "serves: s3"));
    setting.load();
    let resolution = setting.world("team-a").resolve("s3://mlflow/team-a/1").await;
    assert!(matches!(resolution, Resolution::Unserved), "{resolution:?}");
}

#[test]
fn what_becomes_of_an_object_that_cannot_be_read_is_said() {
    let good = backend("minio", "http://minio:9000", "") + &secret("a", "b");
    let builtin = policy(
        "storage-credentials",
        "{module: {builtin: storage-credentials}, order: 5}",
    );
    let mut setting = Setting::new(&good);
    setting.load();
    setting.write(&good.replace("endpoint", "endpont"));
    let problems = told(&setting.load());
    assert!(
        problems.ends_with("`endpoint`?; its last good version stays"),
        "{problems}"
    );

    let own = policy("own", "{modul: {builtin: storage-credentials}}");
    let mut setting = Setting::new(&(own + &builtin.replace("order", "ordre")));
    let problems = told(&setting.load());
    let stays: Vec<_> = problems.lines().map(|line| line.rsplit("; ").next().unwrap()).collect();
    assert_eq!(
        stays,
        [
            "it doesn't run, and what it matches is admitted without it",
            "the policy runs with its defaults until then"
        ],
        "{problems}"
    );
    let runs: Vec<_> = setting
        .loaded()
        .policies()
        .iter()
        .filter(|policy| policy.component.is_some())
        .collect();
    assert_eq!(
        runs.iter().map(|policy| &*policy.name).collect::<Vec<_>>(),
        ["serving-versions", "storage-credentials"]
    );
}

#[tokio::test]
async fn runtimes_and_releases_are_known_without_a_cluster() {
    let catalogue = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: ours, namespace: a, labels: {tidewaiter.dev/catalogue: extend}}
data:
  catalogue.yaml: |
    schema: 1
    repositories:
      - {name: registry.local/mlserver, like: docker.io/seldonio/mlserver}
";
    let mut setting = Setting::new(catalogue);
    assert_eq!(told(&setting.load()), "");
    let world = setting.world("a");
    let runtimes = world.supporting("mlflow", Some("1")).await;
    let mlserver = runtimes
        .iter()
        .find(|runtime| runtime.name == "kserve-mlserver")
        .unwrap();
    assert_eq!(
        (mlserver.repository.as_str(), mlserver.protocols.as_slice()),
        ("docker.io/seldonio/mlserver", &["v2".to_owned()][..])
    );
    assert!(mlserver.auto_select && !mlserver.disabled && !mlserver.tag.is_empty());
    assert_eq!(world.named("kserve-mlserver").await.unwrap().tag, mlserver.tag);
    assert!(world.named("nothing").await.is_none());
    let releases = world.releases("registry.local/mlserver", &["xgboost".to_owned()]).await;
    assert!(
        releases
            .iter()
            .any(|release| release.tag == mlserver.tag && release.packages[0].name == "xgboost")
    );

    // One that can't be read leaves what was known.
    setting.write(&catalogue.replace("schema: 1", "schema: 9"));
    assert!(told(&setting.load()).contains("schema: 9"));
    assert!(
        !setting
            .world("a")
            .releases("registry.local/mlserver", &[])
            .await
            .is_empty()
    );
}

#[test]
fn a_client_is_kept_until_its_settings_or_keys_change() {
    let text = |password: &str, contact: &str| {
        backend("minio", "http://minio:9000", &format!("  contact: {contact}\n")) + &secret("a", password)
    };
    let mut setting = Setting::new(&text("b", "one"));
    setting.load();
    let client = |setting: &Setting| setting.loaded().client("minio").unwrap().id;
    let first = client(&setting);
    setting.write(&text("b", "other"));
    setting.load();
    assert_eq!(client(&setting), first);
    setting.write(&text("c", "other"));
    setting.load();
    assert_ne!(client(&setting), first);
}

#[tokio::test]
async fn models_on_the_hub_and_the_web_are_found_where_their_uris_say() {
    let text = "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {name: hub}
spec: {type: huggingface, serves: ['hf://'], credentials: {anonymous: {}}, huggingface: {endpoint: 'http://127.0.0.1:9'}}
---
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {name: web}
spec: {type: https, serves: ['https://models.example/team-a/'], credentials: {anonymous: {}}}
";
    let mut setting = Setting::new(text);
    assert_eq!(told(&setting.load()), "");
    let world = setting.world("a");
    let Resolution::Served(served) = world.resolve("hf://org/model:v1").await else {
        panic!("not served")
    };
    assert!(served.anonymous);
    let read = world.read("hf://org/model:v1/sub/config.json", 0, 9).await;
    assert!(
        matches!(&read, Err(StorageError::Unreachable(reason)) if reason == "127.0.0.1:9 refuses connections"),
        "{read:?}"
    );
    for uri in [
        "hf://org/model/../other/x",
        "hf://org/model/%2e%2e/x",
        "https://models.example/team-a/../team-b/m",
        "https://models.example/team-b/m",
        "https://models.example\\@evil.example/team-a/m",
        "https://models.example/team-a/m\u{e9}",
    ] {
        let read = world.read(uri, 0, 9).await;
        assert!(matches!(read, Err(StorageError::Unserved(_))), "{uri}: {read:?}");
    }
}
