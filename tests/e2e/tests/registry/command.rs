//! An author's way: pushed, pulled, signed and verified by the command, and by cosign.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use serde_json::json;
use tidewaiter_ground::tls::{Authority, base64};
use tidewaiter_registry::{Credentials, Limits, Registry, SigningKey};

use crate::gate::Gate;
use crate::serving::{house, push};
use crate::{Door, SEEN, Shop, Test, World, bad, good};

pub(crate) const TESTS: &[Test] = &[
    (
        "what_is_pushed_is_pulled_and_has_a_digest_of_its_own",
        what_is_pushed_is_pulled_and_has_a_digest_of_its_own,
    ),
    (
        "a_registry_that_is_shut_opens_to_who_is_logged_in",
        a_registry_that_is_shut_opens_to_who_is_logged_in,
    ),
    (
        "a_policy_is_looked_at_and_run_where_a_private_authority_signs_for_its_registry",
        a_policy_is_looked_at_and_run_where_a_private_authority_signs_for_its_registry,
    ),
    ("what_we_sign_cosign_verifies", what_we_sign_cosign_verifies),
    ("what_cosign_signs_we_verify", what_cosign_signs_we_verify),
    (
        "a_review_refuses_what_the_server_refuses_as_unsigned",
        a_review_refuses_what_the_server_refuses_as_unsigned,
    ),
    (
        "a_review_reaches_a_registry_as_the_server_does",
        a_review_reaches_a_registry_as_the_server_does,
    ),
];

const SERVICE: &str = "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: fraud, namespace: team-a}
spec: {predictor: {model: {modelFormat: {name: sklearn}, storageUri: 'gs://nobody/model'}}}
";

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

fn a_policy_is_looked_at_and_run_where_a_private_authority_signs_for_its_registry(world: &World) -> Result<()> {
    let (shop, folder) = (Shop::open(Door::Private)?, tempfile::tempdir()?);
    let path = folder.path();
    let name = format!("oci://{}/acme/house:1", shop.host);
    let client = Registry::new(vec![shop.way()], Credentials::default(), Limits::default())?;
    push(
        world,
        &client,
        &format!("{}/acme/house:1", shop.host),
        world.component.clone(),
    )?;
    fs::write(path.join("ca.pem"), shop.ca.as_deref().unwrap_or_default())?;
    fs::write(path.join("service.yaml"), SERVICE)?;
    for command in [&["inspect", &name][..], &["run", &name, "--object", "service.yaml"]] {
        let said = bad(&world.policy(command, None, path)?, 2)?;
        // On this machine a registry is taken for one without TLS, until an authority is named.
        ensure!(said.contains("sent an HTTP request to an HTTPS server"), "{said}");
        good(&world.policy(&[command, &["--ca", "ca.pem"]].concat(), None, path)?)?;
    }
    Ok(())
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

/// `tidewaiter review` of one service, by this configuration and what the server's `--modules` reads.
fn review(world: &World, folder: &Path, configuration: &str, modules: Option<&str>) -> Result<Output> {
    fs::create_dir_all(folder.join("config"))?;
    fs::write(folder.join("config/config.yaml"), configuration)?;
    fs::write(folder.join("service.yaml"), SERVICE)?;
    let mut command = Command::new(&world.tidewaiter);
    command.args(["review", "service.yaml", "--config", "config"]);
    if let Some(modules) = modules {
        fs::write(folder.join("modules.yaml"), modules)?;
        command.args(["--modules", "modules.yaml"]);
    }
    // Whoever runs the tests may be logged in somewhere.
    command
        .env("DOCKER_CONFIG", folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder);
    Ok(command.current_dir(folder).output()?)
}

/// In the server's words: they are awaited in its log, and then looked for in what the command says.
fn a_review_refuses_what_the_server_refuses_as_unsigned(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (path, name) = (folder.path(), world.name("reviewed/house:1"));
    let pushed = push(world, &World::registry()?, &name, world.component.clone())?;
    for pair in ["ours", "theirs"] {
        let key = ["--output-key-prefix", pair];
        good(&world.cosign(&[&["generate-key-pair"], &key[..]].concat(), path)?)?;
    }
    let key = |pair: &str| -> Result<SigningKey> {
        let text = fs::read_to_string(path.join(format!("{pair}.key")))?;
        Ok(SigningKey::from_pem(&text, Some("tide"))?)
    };
    let by_us = json!({"verify": {"keys": [key("ours")?.public().to_pem()]}});
    let refused = |configuration: &str, modules: &str, why: &str| -> Result<()> {
        let reason = format!(
            "spec.module.oci: {name} ({}) is not signed{why}; it doesn't run, and what it matches is refused",
            pushed.manifest
        );
        let gate = Gate::start(world, configuration, modules)?;
        gate.until_it_says(&reason, SEEN)?;
        ensure!(!gate.review()?.allowed, "the server admits it: {}", gate.log());
        let said = bad(&review(world, path, configuration, Some(modules))?, 1)?;
        ensure!(said.contains(&reason), "{said}");
        Ok(())
    };
    let ours = key("ours")?.public().name();
    // Nobody asks for a signature: it runs.
    let printed = good(&review(world, path, &house(&name, &json!({})), None)?)?;
    ensure!(printed.contains("the test says so"), "{printed}");
    refused(
        &house(&name, &by_us),
        "",
        &format!(", and it has to be by {ours}; sign it by tidewaiter policy sign or cosign sign"),
    )?;
    good(&world.policy(&["sign", &name, "--key", "theirs.key"], Some("tide"), path)?)?;
    let other = format!(" by {ours}: its signature is by another key");
    refused(&house(&name, &by_us), "", &other)?;
    // What the admin says for all counts where the policy says nothing.
    refused(&house(&name, &json!({})), &by_us.to_string(), &other)?;
    good(&world.policy(&["sign", &name, "--key", "ours.key"], Some("tide"), path)?)?;
    for (configuration, modules) in [
        (house(&name, &by_us), "{}".to_owned()),
        (house(&name, &json!({})), by_us.to_string()),
    ] {
        let printed = good(&review(world, path, &configuration, Some(&modules))?)?;
        ensure!(printed.contains("the test says so"), "{printed}");
    }
    Ok(())
}

fn a_review_reaches_a_registry_as_the_server_does(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let private = Shop::open(Door::Private)?;
    let name = format!("{}/reviewed/private:1", private.host);
    let client = Registry::new(vec![private.way()], Credentials::default(), Limits::default())?;
    push(world, &client, &name, world.component.clone())?;
    let configuration = house(&name, &json!({}));
    let stranger = json!({"host": private.host, "ca": Authority::new("somebody else")?.certificate()});
    let others = json!({"hosts": [stranger]}).to_string();
    let said = bad(&review(world, path, &configuration, Some(&others))?, 1)?;
    ensure!(
        said.contains(&format!(
            "spec.module.oci: {} doesn't answer: nobody whom we trust signed its certificate",
            private.host
        )),
        "{said}"
    );
    let modules = json!({"hosts": [private.way()]}).to_string();
    let printed = good(&review(world, path, &configuration, Some(&modules))?)?;
    ensure!(printed.contains("the test says so"), "{printed}");

    let shut = Shop::open(Door::Shut)?;
    let name = format!("{}/reviewed/shut:1", shut.host);
    let logged_in = Credentials::password(&shut.host, "tide", "water");
    let client = Registry::new(Vec::new(), logged_in, Limits::default())?;
    push(world, &client, &name, world.component.clone())?;
    let auth = json!({"auths": {&shut.host: {"auth": base64(b"tide:water")}}}).to_string();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"namespace": "tidewaiter-system", "name": "shop"},
        "data": {".dockerconfigjson": base64(auth.as_bytes())},
    });
    let named = house(
        &name,
        &json!({"module": {"oci": {"image": name, "pullSecret": "shop"}}}),
    );
    // The server has no account that nothing names, whoever is logged in here.
    fs::write(path.join("config.json"), &auth)?;
    let said = bad(&review(world, path, &house(&name, &json!({})), Some("{}"))?, 1)?;
    ensure!(said.contains("401"), "{said}");
    // Its Secret is rarely in the folder.
    let output = review(world, path, &named, Some("{}"))?;
    ensure!(good(&output)?.contains("the test says so"), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        said.contains("pullSecret: Secret/shop isn't there; the registry is asked with the account of docker login"),
        "{said}"
    );
    fs::remove_file(path.join("config.json"))?;
    bad(&review(world, path, &named, Some("{}"))?, 1)?;
    let with_secret = format!("{named}\n---\n{secret}\n");
    let printed = good(&review(world, path, &with_secret, Some("{}"))?)?;
    ensure!(printed.contains("the test says so"), "{printed}");
    Ok(())
}
