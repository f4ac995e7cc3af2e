//! Signatures without a key of the signer's, by an authority and a log that the test makes: what cosign takes we take, and what it refuses we refuse.

use std::fs;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SigningKey as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidewaiter_core::verification::{Identity, Verification};
use tidewaiter_ground::tls::base64;
use tidewaiter_registry::{Digest, Error, Reference, TrustRoot, Verifier, nobody};

use crate::gate::Gate;
use crate::serving::{MORE, house, push, says};
use crate::{SEEN, Test, World, good};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_keyless_signature_counts_for_whom_its_certificate_names",
        a_keyless_signature_counts_for_whom_its_certificate_names,
    ),
    (
        "a_server_loads_what_an_identity_signed_by_the_admins_own_root",
        a_server_loads_what_an_identity_signed_by_the_admins_own_root,
    ),
];

const ISSUER: &str = "https://token.example";
const IDENTITY: &str = "https://git.example/acme/policies/release.yaml@refs/tags/v1";
/// Fulcio's extension that says who vouched for the identity (its `docs/oid-info.md`): a UTF-8 string.
const ISSUED_BY: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 8];

/// A certificate authority and a log of signatures, as Fulcio and Rekor are.
struct Sigstore {
    authority: CertifiedIssuer<'static, KeyPair>,
    log: KeyPair,
}

impl Sigstore {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        Ok(Self {
            authority: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
            log: KeyPair::generate()?,
        })
    }

    fn log_id(&self) -> Vec<u8> {
        Sha256::digest(self.log.subject_public_key_info()).to_vec()
    }

    /// As `trusted_root.json` describes them.
    fn root(&self) -> String {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": [{
                "subject": {"organization": "example", "commonName": "example"},
                "uri": "https://fulcio.example",
                "certChain": {"certificates": [{"rawBytes": base64(self.authority.der())}]},
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            }],
            "tlogs": [{
                "baseUrl": "https://rekor.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": base64(&self.log.subject_public_key_info()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": "2020-01-01T00:00:00Z"},
                },
                "logId": {"keyId": base64(&self.log_id())},
            }],
        })
        .to_string()
    }

    /// What a pipeline has that signs a manifest: a certificate of ten minutes, an envelope, and an entry of the log.
    fn bundle(&self, manifest: &Digest, at: jiff::Timestamp) -> Result<Value> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(IDENTITY.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.use_authority_key_identifier_extension = true;
        let now = time::OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - time::Duration::minutes(5), now + time::Duration::minutes(5));
        let text = [&[0x0c, u8::try_from(ISSUER.len())?], ISSUER.as_bytes()].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(ISSUED_BY, text)];
        let certificate = params.signed_by(&key, &self.authority)?;

        let kind = "application/vnd.in-toto+json";
        let payload = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": manifest.hex()}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1",
            "predicate": {},
        })
        .to_string();
        let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let signature = base64(&key.sign(signed.as_bytes())?);
        let envelope =
            json!({"payload": base64(payload.as_bytes()), "payloadType": kind, "signatures": [{"sig": signature}]});

        let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex(&Sha256::digest(bytes))});
        let entry = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": hash(envelope.to_string().as_bytes()),
                "payloadHash": hash(payload.as_bytes()),
                "signatures": [{"signature": signature, "verifier": base64(certificate.pem().as_bytes())}],
            },
        })
        .to_string();
        Ok(json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": base64(certificate.der())},
                "tlogEntries": [self.logged(&entry, at)?],
            },
            "dsseEnvelope": envelope,
        }))
    }

    /// The one entry of a log (RFC 6962): its own hash is the tree's.
    fn logged(&self, entry: &str, at: jiff::Timestamp) -> Result<Value> {
        let root = Sha256::digest([&[0], entry.as_bytes()].concat());
        // Rekor 1 has the number of its tree in the origin. Without one, sigstore-go takes the checkpoint for Rekor 2's, and hashes an entry that it puts
        // together itself.
        let note = format!("rekor.example - 1\n1\n{}\n", base64(&root));
        let signature = [&self.log_id()[..4], &self.log.sign(note.as_bytes())?].concat();
        let checkpoint = format!("{note}\n\u{2014} rekor.example {}\n", base64(&signature));
        // The keys of the promise's JSON are sorted.
        let promise = json!({
            "body": base64(entry.as_bytes()),
            "integratedTime": at.as_second(),
            "logID": hex(&self.log_id()),
            "logIndex": 0,
        });
        let promise = self.log.sign(promise.to_string().as_bytes())?;
        Ok(json!({
            "logIndex": "0",
            "logId": {"keyId": base64(&self.log_id())},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": at.as_second().to_string(),
            "inclusionPromise": {"signedEntryTimestamp": base64(&promise)},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": base64(&root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": base64(entry.as_bytes()),
        }))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[allow(clippy::too_many_lines, reason = "one story")]
fn a_keyless_signature_counts_for_whom_its_certificate_names(world: &World) -> Result<()> {
    let (registry, folder) = (World::registry()?, tempfile::tempdir()?);
    let path = folder.path();
    let (ours, theirs) = (Sigstore::new()?, Sigstore::new()?);
    fs::write(path.join("root.json"), ours.root())?;
    fs::write(path.join("house.wasm"), &world.component)?;
    let exactly = good(&world.policy(&["push", "house.wasm", &world.name("keyless/house:1")], None, path)?)?;
    let reference: Reference = exactly.parse()?;
    let manifest = reference.digest().context("it is pinned")?.clone();
    let now = jiff::Timestamp::now();

    let judge = |bundle: &Value, root: &Sigstore, identity: &str, issuer: &str| -> Result<Result<String, Error>> {
        let who = Verification {
            keys: Vec::new(),
            keyless: vec![Identity {
                issuer: issuer.into(),
                identity: identity.into(),
            }],
        };
        let root = Arc::new(TrustRoot::from_json(&root.root())?);
        let signature = tidewaiter_registry::Signature::Bundle(bundle.to_string());
        Ok(Verifier::new(&who, Some(root))?.signer("house", &manifest, &[signature]))
    };
    let bundle = ours.bundle(&manifest, now)?;
    for identity in [IDENTITY, "https://git.example/acme/*@refs/tags/*"] {
        judge(&bundle, &ours, identity, ISSUER)?.with_context(|| identity.to_owned())?;
    }
    let long_ago = now - jiff::SignedDuration::from_hours(1);
    let mut other_entry = bundle.clone();
    other_entry["verificationMaterial"]["tlogEntries"] =
        ours.bundle(&manifest, now)?["verificationMaterial"]["tlogEntries"].clone();
    let mut moved = bundle.clone();
    moved["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = json!((now.as_second() + 60).to_string());
    let mut unlogged = bundle.clone();
    unlogged["verificationMaterial"]["tlogEntries"] = json!([]);
    for (what, refused) in [
        (
            "another identity",
            judge(&bundle, &ours, "https://git.example/evil/*", ISSUER)?,
        ),
        (
            "another issuer",
            judge(&bundle, &ours, IDENTITY, "https://evil.example")?,
        ),
        ("another root", judge(&bundle, &theirs, IDENTITY, ISSUER)?),
        (
            "a certificate that wasn't valid then",
            judge(&ours.bundle(&manifest, long_ago)?, &ours, IDENTITY, ISSUER)?,
        ),
        (
            "another manifest",
            judge(&ours.bundle(&Digest::of(b"x"), now)?, &ours, IDENTITY, ISSUER)?,
        ),
        (
            "the log's entry for something else",
            judge(&other_entry, &ours, IDENTITY, ISSUER)?,
        ),
        (
            "a time that the log didn't promise",
            judge(&moved, &ours, IDENTITY, ISSUER)?,
        ),
        ("no entry of a log", judge(&unlogged, &ours, IDENTITY, ISSUER)?),
    ] {
        ensure!(
            matches!(refused, Err(Error::Untrusted(_))),
            "{what} counts: {refused:?}"
        );
    }

    // Cosign is of the same opinion.
    let attached = registry.attach(&reference, bundle.to_string().into(), "2026-01-01T00:00:00Z", &nobody);
    world.runtime.block_on(attached)?;
    let by = |identity| {
        [
            "--certificate-identity",
            identity,
            "--certificate-oidc-issuer",
            ISSUER,
            "--trusted-root",
            "root.json",
        ]
    };
    let cosign = |identity| -> Result<_> {
        world.cosign(
            &[
                &["verify", "--insecure-ignore-sct=true"],
                &by(identity)[..],
                &[exactly.as_str()],
            ]
            .concat(),
            path,
        )
    };
    good(&cosign(IDENTITY)?).context("cosign doesn't take what the test makes")?;
    ensure!(
        !cosign("https://git.example/evil")?.status.success(),
        "cosign takes another identity"
    );
    let verify = |identity| {
        world.policy(
            &[
                &["verify", exactly.as_str()],
                &by(identity)[..4],
                &["--trusted-root", "root.json"],
            ]
            .concat(),
            None,
            path,
        )
    };
    good(&verify(IDENTITY)?)?;
    ensure!(
        verify("https://git.example/evil")?.status.code() == Some(1),
        "we take another identity"
    );
    Ok(())
}

fn a_server_loads_what_an_identity_signed_by_the_admins_own_root(world: &World) -> Result<()> {
    let (registry, name) = (World::registry()?, world.name("keyless/served:1"));
    let (ours, theirs) = (Sigstore::new()?, Sigstore::new()?);
    let reference: Reference = name.parse()?;
    let sign = |by: &Sigstore, manifest: &Digest| -> Result<()> {
        let bundle = by.bundle(manifest, jiff::Timestamp::now())?.to_string();
        let attached = registry.attach(&reference, bundle.into(), "2026-01-01T00:00:00Z", &nobody);
        world.runtime.block_on(attached)?;
        Ok(())
    };
    let modules = |root: &Sigstore| json!({"refreshInterval": "1s", "trustRoot": root.root()}).to_string();
    let by = |identity: &str| {
        house(
            &name,
            &json!({"verify": {"keyless": [{"issuer": ISSUER, "identity": identity}]}}),
        )
    };
    let evil = "https://git.example/evil/*";
    let refused = |identity: &str, manifest: &Digest| {
        format!("({manifest}) is not signed by {identity} (issuer {ISSUER}): its signature ")
    };

    let first = push(world, &registry, &name, world.component.clone())?.manifest;
    let gate = Gate::start(world, &by(IDENTITY), &modules(&ours))?;
    gate.until_it_says("is not signed, and it has to be by", SEEN)?;
    ensure!(!gate.review()?.allowed, "an unsigned policy runs: {}", gate.log());
    sign(&ours, &first)?;
    gate.until("it is signed", SEEN, says("the test says so"))?;

    // The same identity, certified by an authority that isn't in the root.
    let second = gate.hammer(says("the test says so"), |go_on| {
        let second = push(world, &registry, &name, world.changed()?)?.manifest;
        sign(&theirs, &second)?;
        gate.until_it_says(&refused(IDENTITY, &second), SEEN)?;
        gate.until_it_says("the version of before is used", SEEN)?;
        go_on(MORE)?;
        Ok(second)
    })?;
    sign(&ours, &second)?;
    gate.until("one of the signatures counts", SEEN, says("the tide says so"))?;

    // Another identity is asked for than the one that signed: whoever runs it goes on, and whoever begins doesn't.
    let third = gate.hammer(says("the tide says so"), |go_on| {
        let third = push(world, &registry, &name, world.component.clone())?.manifest;
        ensure!(third == first, "the same component has another manifest");
        gate.configure(&by(evil))?;
        gate.until_it_says(&refused(evil, &third), SEEN)?;
        gate.until_it_says("its last good version stays", SEEN)?;
        go_on(MORE)?;
        Ok(third)
    })?;
    for (what, identity, root) in [("another identity", evil, &ours), ("another root", IDENTITY, &theirs)] {
        let never = Gate::start(world, &by(identity), &modules(root))?;
        never.until_it_says(&refused(identity, &third), SEEN)?;
        never.until_it_says("it doesn't run, and what it matches is refused", SEEN)?;
        ensure!(!never.review()?.allowed, "{what} opens it: {}", never.log());
    }
    Ok(())
}
