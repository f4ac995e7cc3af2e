//! WebAssembly that is no policy: a core module, a program of another world, a policy of a contract to come. A server that runs is given each by a registry and by a
//! `ConfigMap`; it says what it was given, and goes on with what it has.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::{Custom, unasked};
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::policy::{self, unruly_in};
use tidewaiter_e2e::registry::{Shop, push};
use tidewaiter_ground::{Answer, tls};
use tidewaiter_registry::{Credentials, Digest, Limits, Registry};
use tokio::runtime::Runtime;

use crate::distribution::{digest, labelled};
use crate::hammer::{hammer, service};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "what_is_no_policy_is_named_and_the_last_good_one_keeps_serving",
    false,
    what_is_no_policy_is_named_and_the_last_good_one_keeps_serving,
)];

const ADDRESS: &str = "127.0.0.1:5004";
const REPOSITORY: &str = "acme/anything";
/// The `ConfigMap` with the same components.
const MAP: &str = "no-policies";

/// As `cargo build --target wasm32-unknown-unknown` leaves a library, before it is made a component.
const CORE_MODULE: &str = r#"(module (memory (export "memory") 1) (func (export "review") (result i32) i32.const 0))"#;

/// A program of WASI's.
const PROGRAM: &str = r#"(component
    (core module $main (func (export "run") (result i32) i32.const 0))
    (core instance $main (instantiate $main))
    (func $run (result (result)) (canon lift (core func $main "run")))
    (component $cli
        (import "run" (func $run (result (result))))
        (export "run" (func $run)))
    (instance $cli (instantiate $cli (with "run" (func $run))))
    (export "wasi:cli/run@0.2.0" (instance $cli)))"#;

/// One that asks for what no policy is given.
const CALLER: &str = r#"(component
    (import "wasi:http/outgoing-handler@0.2.0" (instance)))"#;

/// The test policy, as if it were built against the next contract.
fn of_the_future(mut component: Vec<u8>) -> Result<Vec<u8>> {
    let (now, then) = (b"@0.1.0", b"@0.2.0");
    let windows = component.windows(now.len()).enumerate();
    let places: Vec<usize> = windows.filter(|(_, bytes)| bytes == now).map(|(at, _)| at).collect();
    ensure!(!places.is_empty(), "the test policy is of another contract");
    for at in places {
        component[at..at + then.len()].copy_from_slice(then);
    }
    Ok(component)
}

/// As tools do that ask nothing of what they push (`oras`, `wkg`); ours refuses it.
fn push_unseen(runtime: &Runtime, tag: &str, component: &[u8]) -> Result<()> {
    let (client, repository) = (reqwest::Client::new(), format!("http://{ADDRESS}/v2/{REPOSITORY}"));
    let blob = async |kind: &str, bytes: &[u8]| -> Result<Value> {
        let digest = Digest::of(bytes);
        let place = client.post(format!("{repository}/blobs/uploads/")).send().await?;
        let place = place.error_for_status()?.headers()[LOCATION].to_str()?.to_owned();
        let put = client.put(format!("{place}&digest={digest}")).body(bytes.to_vec());
        put.send().await?.error_for_status()?;
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    };
    runtime.block_on(async {
        let config = blob("application/vnd.wasm.config.v0+json", b"{}").await?;
        let layer = blob("application/wasm", component).await?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
        let put = client.put(format!("{repository}/manifests/{tag}"));
        let put = put.header(CONTENT_TYPE, kind).body(manifest.to_string());
        put.send().await?.error_for_status()?;
        Ok(())
    })
}

/// A name, the bytes, and what is said of them.
fn kinds(good: &[u8]) -> Result<[(&'static str, Vec<u8>, &'static str); 4]> {
    Ok([
        (
            "core",
            wat::parse_str(CORE_MODULE)?,
            "it is a core module, and a policy is a component: `tidewaiter policy build` makes one of a project's module",
        ),
        (
            "program",
            wat::parse_str(PROGRAM)?,
            "it exports wasi:cli/run@0.2.0, and not describe, check-settings, review; is it a component of another world?",
        ),
        (
            "caller",
            wat::parse_str(CALLER)?,
            "the policy imports wasi:http/outgoing-handler@0.2.0, which is not in the contract tidewaiter:policy@0.1.0",
        ),
        (
            "future",
            of_the_future(good.to_vec())?,
            "the policy is built against the contract tidewaiter:policy@0.2.0, and this Tidewaiter speaks tidewaiter:policy@0.1.0; update Tidewaiter",
        ),
    ])
}

fn what_is_no_policy_is_named_and_the_last_good_one_keeps_serving(world: &World) -> Result<()> {
    let good = fs::read(policy::unruly()?)?;
    let kinds = kinds(&good)?;
    // It brings what TLS is done by, which no client is made without.
    let api = world.cluster.api()?;
    let (runtime, _shop) = (
        Runtime::new()?,
        Shop::open(&world.cluster, "registry-of-anything", ADDRESS, false)?,
    );
    let registry = Registry::new(Vec::new(), Credentials::default(), Limits::default())?;
    let image = |tag: &str| format!("{ADDRESS}/{REPOSITORY}:{tag}");
    let runs = push(&runtime, &registry, &image("good"), good)?.digest;
    let mut data = serde_json::Map::new();
    for (name, bytes, _) in &kinds {
        push_unseen(&runtime, name, bytes)?;
        data.insert(format!("{name}.wasm"), json!(tls::base64(bytes)));
    }

    let namespace = world.namespace("no-policy")?;
    let name = namespace.name();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": MAP}, "binaryData": data});
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &map.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    let with = |module: Value| {
        let mut house = unruly_in(name, name, &json!({"label": "here"}), "fail");
        house["spec"]["module"] = module;
        house
    };
    let oci = |tag: &str| with(json!({"oci": {"image": image(tag)}}));
    let custom = Custom::apply(&world.cluster, &oci("good"))?;
    custom.until("Loaded", "True")?;
    labelled(&api, name).context("before anything else comes")?;

    let service = service("fraud", "s3://nobody/model");
    let serves = |answer: &Answer| -> Result<()> {
        let label = &answer.body["metadata"]["labels"]["unruly"];
        ensure!(label == "here", "label {label}: {}", answer.message());
        Ok(())
    };
    hammer(&world.cluster, name, &service, serves, |go_on| {
        for (kind, _, says) in &kinds {
            let in_map = json!({"configMap": {"namespace": NAMESPACE, "name": MAP, "key": format!("{kind}.wasm")}});
            for object in [oci(kind), with(in_map)] {
                custom.change(&unasked(&object))?;
                let said = custom.until("Loaded", "False")?;
                let module = &object["spec"]["module"];
                ensure!(said.contains(says), "{module}: no `{says}` in {said}");
                ensure!(said.contains("its last good version stays"), "{module}: {said}");
                let digest = digest(world, name)?;
                ensure!(digest == json!(runs), "{module}: {digest} runs");
                go_on(5)?;
            }
        }
        Ok(())
    })?;
    custom.change(&oci("good"))?;
    let said = custom.until("Loaded", "True")?;
    ensure!(said.is_empty(), "mended, and still: {said}");
    labelled(&api, name).context("after it was mended")
}
