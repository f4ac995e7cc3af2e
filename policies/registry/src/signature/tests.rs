use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;

fn signing() -> SigningKey {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    assert!(
        Ed25519KeyPair::from_pkcs8(der.as_ref())
            .unwrap()
            .public_key()
            .as_ref()
            .len()
            == 32
    );
    SigningKey::from_pem(&pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())), None).unwrap()
}

fn verifier(key: &SigningKey) -> Verifier {
    let verification = Verification {
        keys: vec![key.public().to_pem()],
        keyless: Vec::new(),
    };
    Verifier::new(&verification, None).unwrap()
}

/// What a verifier says of a bundle that was changed on its way.
fn said(change: impl Fn(&mut Value)) -> Result<String, String> {
    let (key, manifest) = (signing(), Digest::of(b"manifest"));
    let mut bundle = serde_json::from_slice(&statement::bundle(&manifest, &key).unwrap()).unwrap();
    change(&mut bundle);
    let signature = Signature::Bundle(bundle.to_string());
    verifier(&key)
        .signer("r.example/a:1", &manifest, &[signature])
        .map_err(|error| error.to_string())
}

type Change = Box<dyn Fn(&mut Value)>;

#[test]
fn whatever_is_changed_in_a_bundle_its_signature_counts_no_more() {
    assert!(said(|_| {}).is_ok());
    let restated = |change: fn(&mut Value)| {
        move |bundle: &mut Value| {
            let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
            let mut statement: Value = serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap();
            change(&mut statement);
            bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement.to_string()));
        }
    };
    let changes: Vec<(Change, &str)> = vec![
        (
            Box::new(restated(|statement| statement["predicate"] = json!({"more": 1}))),
            "is by another key",
        ),
        (
            Box::new(restated(|statement| {
                statement["predicateType"] = json!("https://slsa.dev/provenance/v1")
            })),
            "is no signature",
        ),
        (
            Box::new(restated(|statement| {
                statement["subject"][0]["digest"]["sha256"] = json!("00")
            })),
            "is for something else",
        ),
        (
            Box::new(restated(|statement| statement["_type"] = json!("x"))),
            "holds no statement",
        ),
        (
            Box::new(|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("text/plain")),
            "holds no statement",
        ),
        (
            Box::new(|bundle| bundle["dsseEnvelope"]["signatures"] = json!([])),
            "is by another key",
        ),
        (
            Box::new(|bundle| bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!("AAAA")),
            "is by another key",
        ),
        (
            Box::new(|bundle| drop(bundle.as_object_mut().unwrap().remove("dsseEnvelope"))),
            "is over bare bytes",
        ),
        (Box::new(|bundle| *bundle = json!([])), "can't be read"),
    ];
    for (change, expected) in changes {
        let error = said(change).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn the_older_form_counts_with_a_key_and_for_its_manifest() {
    let (key, manifest) = (signing(), Digest::of(b"manifest"));
    let simple = |digest: &str, kind: &str| {
        let payload = json!({"critical": {"identity": {"docker-reference": "a"}, "image": {"docker-manifest-digest": digest}, "type": kind}, "optional": null});
        let payload = payload.to_string();
        Signature::Simple {
            signature: STANDARD.encode(key.sign(payload.as_bytes()).unwrap()),
            payload,
        }
    };
    let judge = |signature, key: &SigningKey| {
        verifier(key)
            .signer("a", &manifest, &[signature])
            .map_err(|error| error.to_string())
    };
    let kind = "cosign container image signature";
    assert_eq!(judge(simple(manifest.as_str(), kind), &key), Ok(key.public().name()));
    for (signature, by, expected) in [
        (simple(manifest.as_str(), kind), &signing(), "is by another key"),
        (simple("sha256:00", kind), &key, "is for something else"),
        (simple(manifest.as_str(), "other"), &key, "is a `other`"),
    ] {
        let error = judge(signature, by).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn of_several_signatures_each_is_told_of() {
    let (key, manifest) = (signing(), Digest::of(b"manifest"));
    let other = Signature::Bundle(String::from_utf8(statement::bundle(&manifest, &signing()).unwrap()).unwrap());
    let error = verifier(&key)
        .signer("a", &manifest, &[other, Signature::Bundle("x".into())])
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("of its 2 signatures, one is by another key, one can't be read"),
        "{error}"
    );
}
