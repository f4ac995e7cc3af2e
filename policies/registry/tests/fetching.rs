//! What a server has of its policies while tags move, registries go away, and others sign.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::{Fake, Fault, about, component, registry, waiting};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use tidewaiter_core::verification::{Identity, Verification};
use tidewaiter_registry::{
    Cache, Credentials, Digest, Error, Fetched, Fetcher, Origin, Reference, Registry, SigningKey, Verifier, Wanted,
    nobody,
};

fn key() -> SigningKey {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    SigningKey::from_pem(&pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())), None).unwrap()
}

fn by(keys: &[&SigningKey]) -> Verifier {
    let keys = keys.iter().map(|key| key.public().to_pem()).collect();
    let verification = Verification {
        keys,
        keyless: Vec::new(),
    };
    Verifier::new(&verification, None).unwrap()
}

fn wanted(reference: &Reference) -> Wanted {
    Wanted {
        origin: Origin::Oci(reference.clone()),
        pinned: None,
        verifier: None,
    }
}

fn fetcher(dir: &Path) -> Fetcher {
    Fetcher::new(Some(Cache::open(dir, 1 << 20).unwrap()))
}

async fn push(registry: &Registry, reference: &Reference, name: &str) {
    registry
        .push(reference, component(name), &about(), &nobody)
        .await
        .unwrap();
}

async fn sign(registry: &Registry, reference: &Reference, key: &SigningKey) {
    registry
        .sign(reference, key, "2026-01-02T03:04:05Z", &nobody)
        .await
        .unwrap();
}

/// Fetched, and kept as a server does once it loads.
async fn take(fetcher: &Fetcher, registry: &Registry, wanted: &Wanted) -> Fetched {
    let good = fetcher.fetch(registry, wanted, &nobody).await.unwrap();
    fetcher.keep(&good).unwrap();
    good
}

#[tokio::test]
async fn a_restart_without_the_registry_uses_the_last_good_one_and_says_so() {
    let (fake, dir) = (Fake::start().await, tempfile::tempdir().unwrap());
    let (registry, reference) = (registry(Vec::new(), Credentials::default()), fake.reference("acme/a:1"));
    push(&registry, &reference, "log").await;
    let first = take(&fetcher(dir.path()), &registry, &wanted(&reference)).await;
    assert_eq!((first.component, first.trouble), (component("log"), None));

    for fault in [Fault::Broken, Fault::Hangs] {
        fake.set(fault);
        let hasty = waiting(Vec::new(), Credentials::default(), Duration::from_millis(300));
        let again = fetcher(dir.path())
            .fetch(&hasty, &wanted(&reference), &nobody)
            .await
            .unwrap();
        assert_eq!(again.component, component("log"));
        let trouble = again.trouble.unwrap();
        assert!(
            trouble.harmless && trouble.message.contains("doesn't answer"),
            "{trouble:?}"
        );
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let error = fetcher(elsewhere.path())
        .fetch(&registry, &wanted(&reference), &nobody)
        .await
        .unwrap_err();
    assert!(error.is_passing());
}

#[tokio::test]
async fn what_is_exact_and_at_hand_needs_no_registry() {
    let (fake, dir) = (Fake::start().await, tempfile::tempdir().unwrap());
    let registry = registry(Vec::new(), Credentials::default());
    let tag = fake.reference("acme/a:1");
    let pushed = registry.push(&tag, component("log"), &about(), &nobody).await.unwrap();
    let exact = wanted(&tag.at(&pushed.manifest));
    take(&fetcher(dir.path()), &registry, &exact).await;
    fake.asked();
    let again = fetcher(dir.path()).fetch(&registry, &exact, &nobody).await.unwrap();
    assert_eq!((again.component, again.trouble), (component("log"), None));
    assert_eq!(fake.asked(), Vec::<String>::new());
    // A tag costs one request without content.
    take(&fetcher(dir.path()), &registry, &wanted(&tag)).await;
    fake.asked();
    take(&fetcher(dir.path()), &registry, &wanted(&tag)).await;
    assert_eq!(fake.asked(), ["HEAD /v2/acme/a/manifests/1"]);
}

#[tokio::test]
async fn a_tag_that_moved_is_followed_and_under_a_pinned_digest_refused() {
    let (fake, dir) = (Fake::start().await, tempfile::tempdir().unwrap());
    let (registry, reference) = (registry(Vec::new(), Credentials::default()), fake.reference("acme/a:1"));
    let pinned = Wanted {
        pinned: Some(Digest::of(&component("log"))),
        ..wanted(&reference)
    };
    push(&registry, &reference, "log").await;
    let fetcher = fetcher(dir.path());
    assert_eq!(take(&fetcher, &registry, &pinned).await.trouble, None);
    push(&registry, &reference, "cluster").await;
    let kept = fetcher.fetch(&registry, &pinned, &nobody).await.unwrap();
    assert_eq!(kept.component, component("log"));
    let trouble = kept.trouble.unwrap();
    let moved = Digest::of(&component("cluster"));
    assert!(
        trouble.harmless && trouble.message.contains("(spec.digest)") && trouble.message.contains(moved.as_str()),
        "{trouble:?}"
    );

    assert_eq!(
        take(&fetcher, &registry, &wanted(&reference)).await.component,
        component("cluster")
    );
    // Nothing on disk has the pinned digest under this name any more.
    let error = fetcher.fetch(&registry, &pinned, &nobody).await.unwrap_err();
    assert!(matches!(error, Error::Lies { .. }), "{error}");
}

#[tokio::test]
async fn only_who_was_named_may_sign_and_the_last_good_one_stays() {
    for referrers in [true, false] {
        let (fake, dir) = (Fake::start().await, tempfile::tempdir().unwrap());
        fake.inside.lock().unwrap().referrers = referrers;
        let (registry, reference) = (registry(Vec::new(), Credentials::default()), fake.reference("acme/a:1"));
        let (ours, theirs, others) = (key(), key(), key());
        let fetcher = fetcher(dir.path());
        let by_us = Wanted {
            verifier: Some(by(&[&ours])),
            ..wanted(&reference)
        };

        push(&registry, &reference, "log").await;
        let error = fetcher.fetch(&registry, &by_us, &nobody).await.unwrap_err().to_string();
        assert!(error.contains("is not signed, and it has to be by key"), "{error}");
        sign(&registry, &reference, &theirs).await;
        let error = fetcher.fetch(&registry, &by_us, &nobody).await.unwrap_err().to_string();
        assert!(error.ends_with("its signature is by another key"), "{error}");
        sign(&registry, &reference, &ours).await;
        let good = take(&fetcher, &registry, &by_us).await;
        assert_eq!(good.signer, Some(ours.public().name()));

        // The tag moves to something that only somebody else signed.
        push(&registry, &reference, "cluster").await;
        sign(&registry, &reference, &theirs).await;
        let kept = fetcher.fetch(&registry, &by_us, &nobody).await.unwrap();
        assert_eq!(
            (kept.component, kept.signer),
            (component("log"), Some(ours.public().name()))
        );
        assert!(!kept.trouble.unwrap().harmless);

        // A key that no longer counts opens nothing that it signed before.
        fake.set(Fault::Broken);
        let by_others = Wanted {
            verifier: Some(by(&[&others])),
            ..wanted(&reference)
        };
        assert!(
            fetcher
                .fetch(&registry, &by_others, &nobody)
                .await
                .unwrap_err()
                .is_passing()
        );
        assert!(
            fetcher.fetch(&registry, &by_us, &nobody).await.is_ok(),
            "by the signature on disk"
        );
    }
}

#[tokio::test]
async fn a_signature_counts_for_its_own_manifest_alone() {
    let fake = Fake::start().await;
    let (registry, ours) = (registry(Vec::new(), Credentials::default()), key());
    let (one, two) = (fake.reference("acme/a:1"), fake.reference("acme/a:2"));
    push(&registry, &one, "log").await;
    push(&registry, &two, "cluster").await;
    sign(&registry, &one, &ours).await;
    let one = registry.pull(&one, &nobody).await.unwrap().manifest;
    let pulled = registry.pull(&two, &nobody).await.unwrap().manifest;
    let signatures = registry.signatures(&two, &one).await.unwrap();
    assert_eq!(signatures.len(), 1);
    assert!(by(&[&ours]).signer("a", &one, &signatures).is_ok());
    let error = by(&[&ours]).signer("a", &pulled, &signatures).unwrap_err().to_string();
    assert!(error.ends_with("its signature is for something else"), "{error}");
}

#[tokio::test]
async fn a_key_s_signature_is_no_identity_s() {
    let fake = Fake::start().await;
    let (registry, ours, reference) = (
        registry(Vec::new(), Credentials::default()),
        key(),
        fake.reference("acme/a:1"),
    );
    push(&registry, &reference, "log").await;
    sign(&registry, &reference, &ours).await;
    let verification = Verification {
        keys: Vec::new(),
        keyless: vec![Identity {
            issuer: "https://accounts.example".into(),
            identity: "a@example.com".into(),
        }],
    };
    let keyless = Wanted {
        verifier: Some(Verifier::new(&verification, None).unwrap()),
        ..wanted(&reference)
    };
    let error = Fetcher::default()
        .fetch(&registry, &keyless, &nobody)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is not signed by a@example.com (issuer https://accounts.example)"),
        "{error}"
    );
}

#[tokio::test]
async fn a_module_from_a_web_server_is_kept_by_its_digest() {
    let (fake, dir) = (Fake::start().await, tempfile::tempdir().unwrap());
    let registry = registry(Vec::new(), Credentials::default());
    fake.inside
        .lock()
        .unwrap()
        .blobs
        .insert("sha256:x".into(), component("log"));
    let digest = Digest::of(&component("log"));
    let url = format!("http://{}/v2/a/blobs/sha256:x", fake.host);
    let wanted = Wanted {
        origin: Origin::Https(url, digest),
        pinned: None,
        verifier: None,
    };
    take(&fetcher(dir.path()), &registry, &wanted).await;
    fake.set(Fault::Broken);
    let again = fetcher(dir.path()).fetch(&registry, &wanted, &nobody).await.unwrap();
    assert_eq!((again.component, again.trouble), (component("log"), None));
}
