//! A policy from a registry, in a cluster: opened by a Secret, its state in its status, its trouble in an event.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::policy::unruly_in;
use tidewaiter_e2e::registry::{PASSWORD, PROGRAM, USER, configure};
use tidewaiter_e2e::{install, policy};
use tidewaiter_ground::tls::base64;
use tidewaiter_registry::{About, Credentials, Limits, Pushed, Registry, SigningKey, nobody};
use tokio::runtime::Runtime;

use crate::hammer::service;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "a_policy_from_a_registry_is_loaded_and_what_is_wrong_with_it_is_said",
    false,
    a_policy_from_a_registry_is_loaded_and_what_is_wrong_with_it_is_said,
)];

const ADDRESS: &str = "127.0.0.1:5000";

/// A registry's process.
pub(crate) struct Shop<'w> {
    world: &'w World,
    name: &'static str,
}

impl<'w> Shop<'w> {
    /// One that listens at this address; `shut` where only [`USER`] comes in.
    pub(crate) fn open(world: &'w World, name: &'static str, address: &'static str, shut: bool) -> Result<Self> {
        let program = std::env::var_os(PROGRAM).context("nobody says where the registry is")?;
        let config = configure(&world.cluster.folder().join(name), address, shut)?;
        let processes = world.cluster.processes();
        processes.start(name, Command::new(program).arg("serve").arg(config))?;
        let answers = || std::net::TcpStream::connect(address).is_ok();
        processes.wait("a registry that answers", Duration::from_mins(1), answers)?;
        Ok(Self { world, name })
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.world.cluster.processes().stop(self.name) {
            eprintln!("the registry may still run: {error:#}");
        }
    }
}

fn a_policy_from_a_registry_is_loaded_and_what_is_wrong_with_it_is_said(world: &World) -> Result<()> {
    let (runtime, _shop) = (Runtime::new()?, Shop::open(world, "registry", ADDRESS, true)?);
    let registry = Registry::new(
        Vec::new(),
        Credentials::password(ADDRESS, USER, PASSWORD),
        Limits::default(),
    )?;
    let image = format!("{ADDRESS}/acme/house:1");
    let about = About {
        created: "2026-01-01T00:00:00Z".into(),
        author: None,
        annotations: BTreeMap::new(),
    };
    let component = fs::read(policy::unruly()?)?;
    let pushed: Pushed = runtime.block_on(registry.push(&image.parse()?, component.into(), &about, &nobody))?;

    let namespace = world.namespace("registry")?;
    let (api, name) = (world.cluster.api()?, namespace.name());
    let mut house = unruly_in(name, name, &json!({"label": "here"}), "fail");
    house["spec"]["module"] = json!({"oci": {"image": image, "pullSecret": "shop"}});
    let custom = Custom::apply(&world.cluster, &house)?;
    let said = custom.until("Loaded", "False")?;
    ensure!(said.contains("Secret/tidewaiter-system/shop isn't there"), "{said}");

    let auths = json!({"auths": {ADDRESS: {"auth": base64(format!("{USER}:{PASSWORD}").as_bytes())}}});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"namespace": install::NAMESPACE, "name": "shop"},
        "stringData": {".dockerconfigjson": auths.to_string()},
    });
    let made = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &secret.to_string())?;
    ensure!(made.ok, "{}", made.stderr);
    custom.until("Loaded", "True")?;
    let object: Value = serde_json::from_str(&world.cluster.kubectl(&["get", "wasmpolicy", name, "-o", "json"])?)?;
    ensure!(
        object["status"]["digest"] == json!(pushed.digest),
        "{}",
        object["status"]
    );
    let labelled = || -> Result<()> {
        let answer = api.would_create(name, &service("fraud", "s3://nobody/model"))?;
        let label = &answer.body["metadata"]["labels"]["unruly"];
        ensure!(
            label == "here",
            "status {}: {}, label {label}",
            answer.status,
            answer.message()
        );
        Ok(())
    };
    labelled().context("as it came from the registry")?;

    // From now on somebody must have signed it, and nobody did.
    let key = SigningKey::from_pem(&rcgen::KeyPair::generate()?.serialize_pem(), None)?;
    house["spec"]["verify"] = json!({"keys": [key.public().to_pem()]});
    custom.change(&house)?;
    let said = custom.until("Loaded", "False")?;
    ensure!(said.contains("is not signed, and it has to be by key"), "{said}");
    ensure!(said.contains("its last good version stays"), "{said}");
    labelled().context("the last good one stays")?;
    world.cluster.until("an event says so", Duration::from_mins(1), || {
        let events = world
            .cluster
            .kubectl(&["get", "events", "--all-namespaces", "-o", "json"])?;
        ensure!(
            events.contains("is not signed, and it has to be by key"),
            "no event says so"
        );
        Ok(Some(()))
    })?;
    runtime.block_on(registry.sign(&image.parse()?, &key, "2026-01-01T00:00:00Z", &nobody))?;
    custom.until("Loaded", "True").map(drop)?;

    // An admin's slip is refused where it can be: in the object itself.
    house["spec"]["verify"] = json!({"key": "x"});
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &house.to_string())?;
    ensure!(!said.ok && said.stderr.contains("verify"), "{}", said.stderr);
    Ok(())
}
