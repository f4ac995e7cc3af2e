use serde_json::json;

use super::*;

fn given(value: serde_json::Value) -> Given {
    serde_json::from_value(value).unwrap()
}

fn around(value: serde_json::Value) -> Arc<dyn World> {
    let kinds = [ObjectKind {
        api_version: "v1".into(),
        kind: "ResourceQuota".into(),
    }];
    Prepared::new(&given(value), "team-a", "owner", &kinds)
        .unwrap()
        .around("team-a", false)
}

#[tokio::test]
async fn a_store_that_is_told_of_answers_without_more_words() {
    let world = around(json!({"stores": {
        "s3://mlflow/1/model/MLmodel": "flavors: {}",
        "s3://mlflow/1/model/model.pkl": {"size": 5_000_000_000_u64},
        "s3://mlflow/down/": {"fails": "unreachable"},
        "hf://org/model": {"base64": "AAEC"},
    }}));
    let listing = world.list_objects("s3://mlflow/1/model", 10).await.unwrap();
    let sizes: Vec<_> = listing
        .objects
        .iter()
        .map(|object| (object.path.as_str(), object.size))
        .collect();
    assert_eq!(sizes, [("MLmodel", 11), ("model.pkl", 5_000_000_000)]);
    assert_eq!(
        &*world.read("s3://mlflow/1/model/MLmodel", 8, 99).await.unwrap(),
        b" {}"
    );
    assert_eq!(
        &*world
            .read("s3://mlflow/1/model/model.pkl", 4_999_999_998, 99)
            .await
            .unwrap(),
        [0, 0]
    );
    assert!(matches!(
        world.stat("s3://mlflow/none").await,
        Err(StorageError::NotFound)
    ));
    assert!(matches!(
        world.stat("s3://mlflow/down/x").await,
        Err(StorageError::Unreachable(_))
    ));
    assert!(matches!(
        world.stat("s3://elsewhere/x").await,
        Err(StorageError::Unserved(_))
    ));
}

#[tokio::test]
async fn grants_hold_as_they_do_in_a_cluster() {
    let world = around(json!({
        "stores": {"s3://mlflow/team-a/x": "1", "s3://mlflow/team-b/x": "2"},
        "backends": {"minio": {
            "type": "s3", "serves": ["s3://mlflow/"], "s3": {"endpoint": "http://minio:9000"},
            "credentials": {"secretRef": {"namespace": "minio", "name": "root"}},
            "grants": [{"namespaces": ["*"], "prefixes": ["s3://mlflow/{namespace}/"]}],
        }},
    }));
    assert_eq!(world.stat("s3://mlflow/team-a/x").await.unwrap().size, 1);
    let error = world.stat("s3://mlflow/team-b/x").await.unwrap_err();
    assert!(
        matches!(&error, StorageError::Unserved(reason) if reason.contains("may not use")),
        "{error:?}"
    );
    assert!(matches!(
        world.resolve("s3://mlflow/team-b/x").await,
        Resolution::NotGranted(_)
    ));
    assert!(
        matches!(world.resolve("s3://mlflow/team-a/x").await, Resolution::Served(served) if served.backend == "minio")
    );
}

#[tokio::test]
async fn objects_nodes_and_labels_are_those_of_the_case() {
    let world = around(json!({
        "labels": {"a": "1", "b": "2"}, "nodes": ["arm64", "amd64"],
        "objects": [
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpu", "namespace": "team-a"}, "spec": {}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "team-a"}, "secrets": [{"name": "minio"}]},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "minio", "namespace": "team-a"}, "stringData": {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}},
        ],
    }));
    assert_eq!(world.node_architectures().await, ["amd64", "arm64"]);
    let labels: Vec<_> = world
        .namespace_labels()
        .await
        .into_iter()
        .map(|label| label.key)
        .collect();
    assert_eq!(labels, ["a", "b"]);
    assert!(
        world
            .get_object("owner", "v1", "ResourceQuota", "gpu")
            .await
            .unwrap()
            .unwrap()
            .contains("gpu")
    );
    assert_eq!(world.get_object("owner", "v1", "ResourceQuota", "none").await, Ok(None));
    assert_eq!(
        world.get_object("owner", "v1", "ConfigMap", "x").await.unwrap_err(),
        "WasmPolicy owner doesn't declare ConfigMap (v1) in spec.objects"
    );
    assert!(matches!(world.brought_credentials(None, None).await, Brought::Usable(what) if what.contains("minio")));
}

#[test]
fn what_is_wrong_with_a_world_is_told() {
    let error = |value| {
        Prepared::new(&given(value), "a", "owner", &[])
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(error(json!({"objects": [{"kind": "Secret"}]})).contains("entry 0 needs apiVersion"));
    assert!(error(json!({"stores": {"pvc://x/y": "1"}})).contains("pvc://x/y"));
    assert!(
        error(json!({"objects": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": 7}]}))
            .contains("Secret `x`")
    );
    assert!(
        serde_json::from_value::<Given>(json!({"stores": {"s3://a/b": {"size": -1}}}))
            .unwrap_err()
            .to_string()
            .contains("BYTES")
    );
    assert!(serde_json::from_value::<Given>(json!({"labls": {}})).is_err());
}
