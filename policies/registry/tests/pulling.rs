//! Policies to and from a registry that keeps its word, and from ones that don't.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use std::time::Duration;

use harness::{Door, Fake, Fault, about, component, mirrored, registry, waiting};
use tidewaiter_registry::{Credentials, Digest, Error, Host, Progress, nobody};

#[tokio::test]
async fn what_is_pushed_is_pulled_and_is_a_wasm_artifact() {
    let fake = Fake::start().await;
    let (registry, reference) = (
        registry(Vec::new(), Credentials::default()),
        fake.reference("acme/rules:1"),
    );
    let pushed = registry
        .push(&reference, component("log"), &about(), &nobody)
        .await
        .unwrap();
    let steps = std::sync::Mutex::new(Vec::new());
    let pulled = registry
        .pull(&reference, &|step| steps.lock().unwrap().push(step))
        .await
        .unwrap();
    assert_eq!(pulled.component, component("log"));
    assert_eq!((&pulled.manifest, &pulled.digest), (&pushed.manifest, &pushed.digest));
    let size = component("log").len() as u64;
    assert_eq!(steps.lock().unwrap().last(), Some(&Progress::Pulled(size, size)));
    assert_eq!(
        registry.pull(&reference.at(&pushed.manifest), &nobody).await.unwrap(),
        pulled
    );

    let inside = fake.inside.lock().unwrap();
    let (_, manifest) = &inside.manifests[&("acme/rules".to_owned(), "1".to_owned())];
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let config = &inside.blobs[manifest["config"]["digest"].as_str().unwrap()];
    let config: serde_json::Value = serde_json::from_slice(config).unwrap();
    let expected = serde_json::json!({
        "created": "2026-01-02T03:04:05Z", "architecture": "wasm", "os": "wasip2", "layerDigests": [pushed.digest],
        "component": {"exports": [], "imports": ["tidewaiter:policy/log@0.1.0"], "target": null},
    });
    assert_eq!(config, expected);
}

#[tokio::test]
async fn a_blob_that_is_there_is_not_sent_again() {
    let fake = Fake::start().await;
    let registry = registry(Vec::new(), Credentials::default());
    registry
        .push(&fake.reference("a:1"), component("log"), &about(), &nobody)
        .await
        .unwrap();
    fake.asked();
    registry
        .push(&fake.reference("a:2"), component("log"), &about(), &nobody)
        .await
        .unwrap();
    assert!(!fake.asked().iter().any(|asked| asked.contains("uploads")));
}

#[tokio::test]
async fn a_registry_that_lies_hangs_or_never_ends_is_refused_with_the_reason() {
    let fake = Fake::start().await;
    let (registry, reference) = (registry(Vec::new(), Credentials::default()), fake.reference("a:1"));
    registry
        .push(&reference, component("log"), &about(), &nobody)
        .await
        .unwrap();
    for (fault, expected, passing) in [
        (Fault::Hangs, "no answer in time", true),
        (Fault::OtherBytes, "is not what it is said to be", false),
        (Fault::Shorter, "bytes was announced", false),
        (Fault::EndlessBlob, "and more came", false),
        (Fault::EndlessManifest, "has more than 4194304 bytes", false),
        (Fault::OtherManifest, "has no manifest", false),
        (Fault::Broken, "500 Internal Server Error: out of order", true),
        (Fault::Downgrades, "doesn't answer", true),
    ] {
        fake.set(fault);
        let hasty = waiting(Vec::new(), Credentials::default(), Duration::from_millis(300));
        let asking = if fault == Fault::Hangs { &hasty } else { &registry };
        let error = asking.pull(&reference, &nobody).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{fault:?}: {error}");
        assert!(error.to_string().contains(&fake.host), "{fault:?}: {error}");
        assert_eq!(error.is_passing(), passing, "{fault:?}: {error}");
    }
    fake.set(Fault::None);
    registry.pull(&reference, &nobody).await.unwrap();
    // A port where nobody listens any more.
    let nowhere = {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        socket.local_addr().unwrap()
    };
    let error = registry
        .pull(&format!("{nowhere}/a:1").parse().unwrap(), &nobody)
        .await
        .unwrap_err();
    assert!(
        error.is_passing() && error.to_string().contains("Connection refused"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_too_large_missing_or_no_component_is_told_so() {
    let fake = Fake::start().await;
    let (registry, reference) = (registry(Vec::new(), Credentials::default()), fake.reference("a:1"));
    let error = registry.pull(&reference, &nobody).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let module = wat::parse_str("(module)").unwrap();
    let error = registry
        .push(&reference, module.into(), &about(), &nobody)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("core module"), "{error}");
    let error = registry
        .push(&reference, vec![0; 2 << 20].into(), &about(), &nobody)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(fake.inside.lock().unwrap().blobs.is_empty());
}

#[tokio::test]
async fn a_registry_lets_in_by_password_and_by_token() {
    let fake = Fake::start().await;
    let reference = fake.reference("acme/a:1");
    let known = Credentials::password(&fake.host, "tide", "water");
    let wrong = Credentials::password(&fake.host, "tide", "ebb");
    let elsewhere = Credentials::password("other.example", "tide", "water");
    for door in [Door::Basic, Door::Token] {
        fake.inside.lock().unwrap().door = door;
        let open = registry(Vec::new(), known.clone());
        open.push(&reference, component("log"), &about(), &nobody)
            .await
            .unwrap();
        open.pull(&reference, &nobody).await.unwrap();
        for credentials in [wrong.clone(), elsewhere.clone(), Credentials::default()] {
            let error = registry(Vec::new(), credentials)
                .pull(&reference, &nobody)
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{door:?}: {error}");
            assert!(
                error.to_string().contains("401") && !error.to_string().contains("ebb"),
                "{error}"
            );
        }
    }
    // A token is asked for once.
    let open = registry(Vec::new(), known);
    fake.asked();
    open.pull(&reference, &nobody).await.unwrap();
    open.pull(&reference, &nobody).await.unwrap();
    let tokens = fake.asked().iter().filter(|asked| asked.contains("/token")).count();
    assert_eq!(tokens, 1);
}

#[tokio::test]
async fn a_mirror_serves_content_and_resolves_tags_only_where_it_may() {
    let (home, mirror) = (Fake::start().await, Fake::start().await);
    let reference = home.reference("acme/a:1");
    let plain = registry(Vec::new(), Credentials::default());
    let pushed = plain
        .push(&reference, component("log"), &about(), &nobody)
        .await
        .unwrap();
    plain
        .push(&mirror.reference("cache/acme/a:1"), component("log"), &about(), &nobody)
        .await
        .unwrap();
    // The tag leads elsewhere there.
    plain
        .push(
            &mirror.reference("cache/acme/a:1"),
            component("cluster"),
            &about(),
            &nobody,
        )
        .await
        .unwrap();
    let at = |resolves| {
        registry(
            vec![mirrored(&home.host, format!("{}/cache", mirror.host), resolves)],
            Credentials::default(),
        )
    };

    home.asked();
    assert_eq!(
        at(false).pull(&reference, &nobody).await.unwrap().component,
        component("log")
    );
    assert!(
        !home.asked().iter().any(|asked| asked.contains("/blobs/")),
        "blobs are the mirror's"
    );
    assert_eq!(
        at(true).pull(&reference, &nobody).await.unwrap().component,
        component("cluster")
    );

    home.set(Fault::Broken);
    assert_eq!(
        at(false)
            .pull(&reference.at(&pushed.manifest), &nobody)
            .await
            .unwrap()
            .component,
        component("log")
    );
    assert!(
        at(false)
            .pull(&reference, &nobody)
            .await
            .unwrap_err()
            .to_string()
            .contains("500")
    );
    home.set(Fault::None);
    mirror.set(Fault::OtherBytes);
    assert_eq!(
        at(false).pull(&reference, &nobody).await.unwrap().component,
        component("log"),
        "the mirror lies"
    );
    mirror.set(Fault::Hangs);
    let hosts = vec![mirrored(&home.host, format!("{}/cache", mirror.host), false)];
    let hasty = waiting(hosts, Credentials::default(), Duration::from_secs(3));
    assert_eq!(
        hasty.pull(&reference, &nobody).await.unwrap().component,
        component("log"),
        "the mirror hangs"
    );
}

#[tokio::test]
async fn a_web_server_s_component_has_the_digest_that_was_asked_for() {
    let fake = Fake::start().await;
    let registry = registry(Vec::new(), Credentials::default());
    let component = component("log");
    let digest = Digest::of(&component);
    fake.inside
        .lock()
        .unwrap()
        .blobs
        .insert("sha256:x".into(), component.clone());
    let url = format!("http://{}/v2/a/blobs/sha256:x", fake.host);
    assert_eq!(registry.fetch(&url, &digest, &nobody).await.unwrap(), component);
    let other = Digest::of(b"other");
    let error = registry.fetch(&url, &other, &nobody).await.unwrap_err();
    assert!(matches!(error, Error::Lies { .. }), "{error}");
    for (url, expected) in [
        ("http://web.example/a.wasm", "doesn't begin with https://"),
        (
            "https://user:secret@web.example/a.wasm",
            "has a user name or a password",
        ),
        ("a.wasm", "is no URL"),
    ] {
        let error = registry.fetch(url, &digest, &nobody).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    fake.set(Fault::EndlessBlob);
    let error = registry.fetch(&url, &digest, &nobody).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_host_with_a_private_authority_is_trusted_by_its_certificate_alone() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let socket = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((stream, _)) = socket.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let host = format!("localhost:{port}");
    let with = |ca: Option<String>| Host {
        host: host.clone(),
        ca,
        ..Host::default()
    };
    let reference = format!("{host}/a:1").parse().unwrap();
    let trusting = registry(vec![with(Some(made.cert.pem()))], Credentials::default());
    let error = trusting.pull(&reference, &nobody).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "it answers: {error}");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let wary = registry(vec![with(Some(other.cert.pem()))], Credentials::default());
    let error = wary.pull(&reference, &nobody).await.unwrap_err();
    assert!(
        error.is_passing() && error.to_string().contains("give that of its authority, as `ca`"),
        "{error}"
    );
}
