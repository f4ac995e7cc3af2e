use std::convert::Infallible;
use std::time::Duration;

use kube::client::Body;
use serde_json::json;
use tokio::time::timeout;

use super::*;

fn place() -> Place {
    Place {
        namespace: "tidewaiter-system".into(),
        kserve_namespace: "kserve".into(),
        only: Vec::new(),
    }
}

#[tokio::test]
async fn it_waits_for_what_was_delivered() {
    let (open, opened) = tokio::sync::watch::channel(false);
    let service = tower::service_fn(move |request: axum::http::Request<Body>| {
        let mut opened = opened.clone();
        async move {
            let uri = request.uri().to_string();
            if uri.contains("watch=true") {
                std::future::pending::<()>().await;
            }
            if uri.contains("/secrets?") && uri.contains("managed-by") {
                let _ = opened.wait_for(|open| *open).await;
            }
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
            let body = serde_json::to_vec(&list).unwrap_or_default();
            Ok::<_, Infallible>(axum::http::Response::new(Body::from(body)))
        }
    });
    let stop = CancellationToken::new();
    let client = Client::new(service, "default");
    let sources = Sources::watch(&client, &place(), &Changes::default(), &stop);
    let others = async {
        tokio::join!(
            sources.own_secrets.settled(),
            sources.ours.service_accounts.settled(),
            sources.ours.config_maps.settled()
        )
    };
    timeout(Duration::from_secs(10), others)
        .await
        .expect("all others are listed");
    assert!(timeout(Duration::from_millis(200), sources.settled()).await.is_err());
    open.send_replace(true);
    timeout(Duration::from_secs(10), sources.settled())
        .await
        .expect("all are listed");
    stop.cancel();
}

/// As after KServe's namespace was made anew, and the Role that was in it is gone.
#[tokio::test(start_paused = true)]
async fn it_waits_a_minute_for_a_configuration_of_kserve_that_it_may_not_read() {
    let service = tower::service_fn(|request: axum::http::Request<Body>| async move {
        let uri = request.uri().to_string();
        if uri.contains("watch=true") {
            std::future::pending::<()>().await;
        }
        let refused = uri.contains("/namespaces/kserve/configmaps?");
        let body = if refused {
            json!({"kind": "Status", "status": "Failure", "code": 403, "message": "configmaps is forbidden", "reason": "Forbidden"})
        } else {
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})
        };
        let response = axum::http::Response::builder().status(if refused { 403 } else { 200 });
        let response = response.body(Body::from(body.to_string().into_bytes()));
        Ok::<_, Infallible>(response.expect("a response"))
    });
    let client = Client::new(service, "default");
    for (only, settles) in [(vec!["team-a".to_owned()], true), (Vec::new(), false)] {
        let stop = CancellationToken::new();
        let place = Place { only, ..place() };
        let sources = Sources::watch(&client, &place, &Changes::default(), &stop);
        let early = timeout(LASTING * 9 / 10, sources.settled()).await;
        assert!(early.is_err(), "an API server that has just begun refuses everything");
        let late = timeout(LASTING, sources.settled()).await;
        assert_eq!(late.is_ok(), settles, "{:?}", place.only);
        stop.cancel();
    }
}

/// A kubelet writes its node's status every few seconds.
#[tokio::test]
async fn of_a_node_its_architecture_alone_is_news() {
    let (write, written) = tokio::sync::watch::channel(String::new());
    let node = |arch: &str, version: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": "one", "uid": "1", "resourceVersion": version, "annotations": {"written": version},
            "labels": {"kubernetes.io/arch": arch, "pool": version},
        }})
    };
    let service = tower::service_fn(move |request: axum::http::Request<Body>| {
        let mut written = written.clone();
        async move {
            let uri = request.uri().to_string();
            if !uri.contains("/nodes?") {
                std::future::pending::<()>().await;
            }
            let body = if uri.contains("watch=true") {
                written.mark_unchanged();
                let lines = futures::stream::unfold(written, async |mut written| {
                    written.changed().await.ok()?;
                    let line = written.borrow_and_update().clone();
                    Some((Ok::<_, Infallible>(line.into_bytes()), written))
                });
                axum::body::Body::from_stream(lines)
            } else {
                let mut list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}});
                list["items"] = json!([node("amd64", "1")]);
                axum::body::Body::from(list.to_string())
            };
            Ok::<_, Infallible>(axum::http::Response::new(body))
        }
    });
    let (stop, changed) = (CancellationToken::new(), Changes::default());
    let sources = Sources::watch(&Client::new(service, "default"), &place(), &changed, &stop);
    timeout(Duration::from_secs(10), sources.nodes.settled())
        .await
        .expect("nodes are listed");
    let mut news = changed.subscribe();
    for (arch, version, wakes) in [("amd64", "2", false), ("amd64", "3", false), ("arm64", "4", true)] {
        // Until it is watched.
        tokio::time::sleep(Duration::from_millis(200)).await;
        news.mark_unchanged();
        write.send_replace(json!({"type": "MODIFIED", "object": node(arch, version)}).to_string() + "\n");
        let woken = timeout(Duration::from_millis(500), news.changed()).await.is_ok();
        assert_eq!(woken, wakes, "{version}");
    }
    assert_eq!(sources.nodes.all()[0].labels().len(), 1);
    stop.cancel();
}

/// One object with a name that can't be must not keep all others from being used.
#[tokio::test]
async fn a_name_that_can_not_be_is_one_that_is_not_there() {
    let service = tower::service_fn(|request: axum::http::Request<Body>| async move {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        if name == "silent" {
            std::future::pending::<()>().await;
        }
        let (code, body) = match name.as_str() {
            "root" => (
                200,
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "root", "namespace": "minio"}}),
            ),
            "broken" => (
                500,
                json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 500, "message": "etcd is away"}),
            ),
            "withdrawn" => (
                403,
                json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 403, "message": "is forbidden"}),
            ),
            _ => (
                400,
                json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 400, "message": "no such name"}),
            ),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let response = axum::http::Response::builder().status(code).body(Body::from(body));
        Ok::<_, Infallible>(response.expect("a response"))
    });
    let client = Client::new(service, "default");
    let names = |names: &[(&str, &str)]| -> Vec<_> {
        names
            .iter()
            .map(|(namespace, name)| ((*namespace).to_owned(), (*name).to_owned()))
            .collect()
    };
    let odd = names(&[
        ("", "root"),
        ("minio", ""),
        ("minio", "a b"),
        ("minio", "../x"),
        ("minio", "UPPER"),
        ("minio", "root"),
    ]);
    let (mut withheld, mut last) = (BTreeMap::new(), Last::default());
    let (found, again) = read::<Secret>(&client, odd.iter(), &mut withheld, &mut last)
        .await
        .expect("the rest is read");
    assert!(!again);
    assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["root"]);
    let odd = ObjectRef::namespaced("Secret", "minio", "UPPER");
    assert_eq!(withheld.get(&odd).map(String::as_str), Some("no such name"));
    // What may be there again in a moment is as it was, and holds up none of the others.
    let both = names(&[("minio", "broken"), ("minio", "root")]);
    let (found, again) = read::<Secret>(&client, both.iter(), &mut withheld, &mut last)
        .await
        .expect("the rest is read");
    assert_eq!((found.len(), again), (1, true));
    let broken = ObjectRef::namespaced("Secret", "minio", "broken");
    assert_eq!(withheld.remove(&broken).as_deref(), Some("etcd is away"));
    let mut before = found[0].clone();
    before.metadata.name = Some("broken".into());
    last.found.insert(both[0].clone(), before);
    let (found, again) = read::<Secret>(&client, both.iter(), &mut withheld, &mut last)
        .await
        .expect("the rest is read");
    assert_eq!((found.len(), again, last.found.len()), (2, true, 2));
    assert!(!withheld.contains_key(&broken));
    // A right that is gone for a moment is one that the API server hasn't read yet; one that stays away is taken.
    let one = names(&[("minio", "withdrawn")]);
    let mut before = found[0].clone();
    before.metadata.name = Some("withdrawn".into());
    last.found.insert(one[0].clone(), before);
    let withdrawn = ObjectRef::namespaced("Secret", "minio", "withdrawn");
    tokio::time::pause();
    for (pause, kept) in [
        (Duration::ZERO, true),
        (LASTING / 2, true),
        (LASTING, false),
        (LASTING, false),
    ] {
        tokio::time::advance(pause).await;
        let (found, again) = read::<Secret>(&client, one.iter(), &mut withheld, &mut last)
            .await
            .expect("the rest is read");
        assert_eq!((found.len(), again), (usize::from(kept), kept));
        assert_eq!(withheld.contains_key(&withdrawn), !kept);
    }
    // One that is never answered holds up the others no longer than that.
    let both = names(&[("minio", "silent"), ("minio", "root")]);
    let begun = tokio::time::Instant::now();
    let (found, again) = read::<Secret>(&client, both.iter(), &mut withheld, &mut last)
        .await
        .expect("the rest is read");
    assert_eq!(
        (found.len(), again, begun.elapsed().as_secs()),
        (1, true, PATIENCE.as_secs())
    );
    let silent = ObjectRef::namespaced("Secret", "minio", "silent");
    assert_eq!(
        withheld.get(&silent).map(String::as_str),
        Some("the API server didn't answer in 3 s")
    );
}

#[tokio::test]
async fn a_backend_of_another_shape_is_known_by_what_it_serves() {
    let service = tower::service_fn(|request: axum::http::Request<Body>| async move {
        let uri = request.uri().to_string();
        if uri.contains("watch=true") {
            std::future::pending::<()>().await;
        }
        let items = if uri.contains("/storagebackends") {
            json!([{"apiVersion": "tidewaiter.dev/v1alpha1", "kind": "StorageBackend", "metadata": {"name": "minio"},
                    "spec": {"type": "s4", "serves": ["s3://mlflow/"], "credentials": {"anonymous": {}}, "contact": "#ml-platform"}}])
        } else {
            json!([])
        };
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
        let body = serde_json::to_vec(&list).unwrap_or_default();
        Ok::<_, Infallible>(axum::http::Response::new(Body::from(body)))
    });
    let stop = CancellationToken::new();
    let client = Client::new(service, "default");
    let sources = Sources::watch(&client, &place(), &Arc::default(), &stop);
    timeout(Duration::from_secs(10), sources.settled())
        .await
        .expect("all are listed");
    let gathered = sources.gather(&client, Vec::new()).await.expect("all are read");
    let regarding = sources
        .reference(&ObjectRef::cluster("StorageBackend", "minio"))
        .expect("it is there");
    assert_eq!(
        (regarding.kind.as_deref(), regarding.namespace),
        (Some("StorageBackend"), None)
    );
    assert!(sources.reference(&ObjectRef::cluster("WasmPolicy", "minio")).is_none());
    let unusable = &gathered.objects.unusable_backends[0];
    assert_eq!(
        (unusable.name.as_str(), unusable.contact.as_deref()),
        ("minio", Some("#ml-platform"))
    );
    assert!(unusable.reason.contains("unknown variant `s4`"), "{}", unusable.reason);
    stop.cancel();
}
