//! An author's way: pushed, pulled, signed and verified by the command, and by cosign.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewaiter_ground::tls::base64;

use crate::{Door, Shop, Test, World, bad, good};

pub(crate) const TESTS: &[Test] = &[
    (
        "what_is_pushed_is_pulled_and_has_a_digest_of_its_own",
        what_is_pushed_is_pulled_and_has_a_digest_of_its_own,
    ),
    (
        "a_registry_that_is_shut_opens_to_who_is_logged_in",
        a_registry_that_is_shut_opens_to_who_is_logged_in,
    ),
    ("what_we_sign_cosign_verifies", what_we_sign_cosign_verifies),
    ("what_cosign_signs_we_verify", what_cosign_signs_we_verify),
];

fn what_is_pushed_is_pulled_and_has_a_digest_of_its_own(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (path, name) = (folder.path(), world.name("pushed/house:1"));
    fs::write(path.join("house.wasm"), &world.component)?;
    let exactly = good(&world.policy(&["push", "house.wasm", &name], None, path)?)?;
    let again = good(&world.policy(&["push", "house.wasm", &name], None, path)?)?;
    ensure!(
        exactly == again,
        "the same file has another digest: {exactly} and {again}"
    );
    ensure!(exactly.starts_with(&world.name("pushed/house@sha256:")), "{exactly}");
    for reference in [&name, &exactly] {
        let file = good(&world.policy(&["pull", reference], None, path)?)?;
        ensure!(
            fs::read(path.join(file))? == world.component,
            "another component came back"
        );
        fs::remove_file(path.join("house.wasm"))?;
    }
    fs::write(path.join("core.wasm"), b"\0asm\x01\0\0\0")?;
    let said = bad(&world.policy(&["push", "core.wasm", &name], None, path)?, 2)?;
    ensure!(said.contains("core module"), "{said}");
    let said = bad(&world.policy(&["pull", &world.name("pushed/none:1")], None, path)?, 2)?;
    ensure!(said.contains("has no"), "{said}");
    Ok(())
}

fn a_registry_that_is_shut_opens_to_who_is_logged_in(world: &World) -> Result<()> {
    let (shop, folder) = (Shop::open(Door::Shut)?, tempfile::tempdir()?);
    let (path, name) = (folder.path(), format!("{}/acme/house:1", shop.host));
    fs::write(path.join("house.wasm"), &world.component)?;
    let said = bad(&world.policy(&["push", "house.wasm", &name], None, path)?, 2)?;
    ensure!(said.contains("401") && said.contains("docker login"), "{said}");
    let login = json!({"auths": {&shop.host: {"auth": base64(b"tide:water")}}});
    fs::write(path.join("config.json"), login.to_string())?;
    good(&world.policy(&["push", "house.wasm", &name], None, path)?)?;
    good(&world.policy(&["pull", &name], None, path)?).map(drop)
}

/// By a key of cosign's own, and by one that OpenSSL could have made.
fn what_we_sign_cosign_verifies(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    fs::write(path.join("house.wasm"), &world.component)?;
    good(&world.cosign(&["generate-key-pair"], path)?)?;
    fs::write(path.join("plain.key"), rcgen::KeyPair::generate()?.serialize_pem())?;
    for (name, key, password) in [
        ("ours/one:1", "cosign.key", Some("tide")),
        ("ours/two:1", "plain.key", None),
    ] {
        let exactly = good(&world.policy(&["push", "house.wasm", &world.name(name)], None, path)?)?;
        let public = good(&world.policy(&["sign", &exactly, "--key", key], password, path)?)?;
        fs::write(path.join("signer.pub"), &public)?;
        good(&world.cosign(
            &["verify", "--key", "signer.pub", "--insecure-ignore-tlog=true", &exactly],
            path,
        )?)?;
        good(&world.policy(&["verify", &exactly, "--key", "signer.pub"], None, path)?)?;
        let other = rcgen::KeyPair::generate()?.public_key_pem();
        fs::write(path.join("other.pub"), other)?;
        let refused = world.cosign(
            &["verify", "--key", "other.pub", "--insecure-ignore-tlog=true", &exactly],
            path,
        )?;
        ensure!(!refused.status.success(), "cosign takes another key's signature");
        let said = bad(
            &world.policy(&["verify", &exactly, "--key", "other.pub"], None, path)?,
            1,
        )?;
        ensure!(said.contains("is by another key"), "{said}");
    }
    let said = bad(
        &world.policy(
            &["sign", &world.name("ours/one:1"), "--key", "cosign.key"],
            Some("ebb"),
            path,
        )?,
        2,
    )?;
    ensure!(said.contains("the password doesn't open it"), "{said}");
    Ok(())
}

/// In both of its forms.
fn what_cosign_signs_we_verify(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    fs::write(path.join("house.wasm"), &world.component)?;
    good(&world.cosign(&["generate-key-pair"], path)?)?;
    let forms: [&[&str]; 2] = [&["--new-bundle-format=true"], &["--new-bundle-format=false"]];
    for (index, form) in forms.iter().enumerate() {
        let exactly = good(&world.policy(
            &["push", "house.wasm", &world.name(&format!("theirs/{index}:1"))],
            None,
            path,
        )?)?;
        let said = bad(
            &world.policy(&["verify", &exactly, "--key", "cosign.pub"], None, path)?,
            1,
        )?;
        ensure!(said.contains("is not signed, and it has to be"), "{said}");
        let offline = [
            "sign",
            "--key",
            "cosign.key",
            "--use-signing-config=false",
            "--tlog-upload=false",
            "--yes",
        ];
        good(&world.cosign(&[&offline, *form, &[exactly.as_str()]].concat(), path)?)?;
        let said = good(&world.policy(&["verify", &exactly, "--key", "cosign.pub"], None, path)?)?;
        ensure!(said.contains("signed") && said.contains("by key"), "{said}");
    }
    Ok(())
}
