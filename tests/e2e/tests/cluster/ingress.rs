//! The ways in, as `url` and `predict` find them by themselves in a real API server. The test is the controllers: it writes the addresses into the status
//! of what they would look after, and has proxies where they say that they are.

use std::process::{Command, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command::Said;
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{Namespace, condition};

use crate::proxy::{NO_ROUTE, Proxy};
use crate::using::{WAYS, deployed, document, numbers, run};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "using_every_ingress_leads_to_the_model",
    true,
    using_every_ingress_leads_to_the_model,
)];

/// Where this test's ingresses listen, an address each: as load balancers do, at the usual port.
const INGRESS: &str = "127.0.7.1";
const GATEWAY: &str = "127.0.7.2";
const ISTIO: &str = "127.0.7.3";
const KOURIER: &str = "127.0.7.4";
/// The Gateway's listener.
const LISTENER: u16 = 8081;
/// A load balancer that has a name and no address, as a cloud's may.
const NAMED: &str = "localhost";
/// The node, by the address that it says.
const NODE: &str = "10.0.0.1";

/// The part of the Gateway API that is looked at (`gateway.networking.k8s.io/v1`, `GatewaySpec` and `GatewayStatus`).
fn gateway_definition() -> Value {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "gateways.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/2997"},
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "names": {"kind": "Gateway", "listKind": "GatewayList", "plural": "gateways", "singular": "gateway"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}},
                "subresources": {"status": {}},
            }],
        },
    })
}

fn apply(world: &World, object: &Value) -> Result<()> {
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &object.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    Ok(())
}

/// As a controller writes it.
fn status(world: &World, namespace: &str, what: &str, status: &Value) -> Result<()> {
    let patch = json!({"status": status}).to_string();
    world
        .cluster
        .kubectl(&[
            "patch",
            "-n",
            namespace,
            what,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])
        .map(drop)
}

/// By the way that is told, the model answers as itself, by these protocols.
fn answers(
    namespace: &Namespace,
    name: &str,
    model: &Model,
    way: &str,
    protocols: &[&str],
    more: &[&str],
) -> Result<()> {
    for protocol in protocols {
        let data = model.request.to_string();
        let protocol = ["--protocol", protocol];
        let words = ["predict", name, "--model", "fraud", "-o", "json", "--data", &data];
        let said = run(namespace, &[&words[..], &protocol, more].concat())?.ended(0)?;
        ensure!(said.stderr.contains(way), "not by {way}: {said:?}");
        model.check(&numbers(&document(&said)?["outputs"][0]["data"]))?;
    }
    Ok(())
}

/// By the ingress alone.
const FOUND: [&str; 2] = ["--via", "ingress"];
const REST: [&str; 1] = ["v2"];
const BOTH: [&str; 2] = ["v2", "grpc"];

/// As KServe and Knative name the services of these tests.
fn host(team: &Namespace, name: &str) -> String {
    let dash = if name == "fraud" { '-' } else { '.' };
    format!("{name}{dash}{}.example.com", team.name())
}

fn url(namespace: &Namespace, name: &str, more: &[&str]) -> Result<(String, String)> {
    let words = [&["url", name, "--via", "ingress", "-o", "json"], more].concat();
    let told = document(&run(namespace, &words)?.ended(0)?)?;
    let text = |field: &str| told[field].as_str().unwrap_or_default().to_owned();
    Ok((text("url"), text("host")))
}

fn using_every_ingress_leads_to_the_model(world: &World) -> Result<()> {
    let _changed = WAYS.write().unwrap_or_else(PoisonError::into_inner);
    let (team, model, uri) = deployed(world, "use-ingress", "fraud", Mlserver1_7_1)?;
    team.ready("fraud")?;
    let pods = team.pods("fraud")?;
    let pod = pods.iter().find(|pod| condition(pod, "Ready") == Some("True"));
    let pod = pod
        .and_then(|pod| pod["status"]["podIP"].as_str())
        .context("no Pod is ready")?;
    let lead = |from: &str, name: &str| Proxy::open(from, &host(&team, name), pod);

    an_ingress(world, &team, &model, &lead)?;
    a_gateway(world, &team, &model, &lead)?;
    knatives_gateways(world, &team, &model, &uri, &lead)
}

/// KServe made the Ingress itself.
fn an_ingress(
    world: &World,
    team: &Namespace,
    model: &Model,
    lead: &impl Fn(&str, &str) -> Result<Proxy>,
) -> Result<()> {
    let _way = lead(&format!("{INGRESS}:80"), "fraud")?;
    let balancer = json!({"loadBalancer": {"ingress": [{"ip": INGRESS}]}});
    status(world, team.name(), "ingress/fraud", &balancer)?;
    let host = host(team, "fraud");
    ensure!(
        url(team, "fraud", &[])? == (format!("http://{INGRESS}/"), host.clone()),
        "{:?}",
        url(team, "fraud", &[])
    );
    let way = format!("by Ingress {}/fraud, host {host}", team.name());
    answers(team, "fraud", model, &way, &REST, &FOUND)?;
    // Whoever knows the address says it, and the host is still the service's own, unless that is said too.
    let base = ["--base-url", &format!("http://{INGRESS}")];
    answers(team, "fraud", model, "by the base URL", &BOTH, &base)?;
    by_a_profiles_base_url(team, model)?;
    let stranger = ["--data", "[[1, 2, 3, 4]]", "--host", "stranger.example.com"];
    let lost = run(team, &[&["predict", "fraud"][..], &base, &stranger].concat())?.ended(2)?;
    ensure!(lost.stderr.contains(NO_ROUTE), "{lost:?}");
    // KServe leads an Ingress to REST alone.
    let grpc = run(team, &["url", "fraud", "--via", "ingress", "--protocol", "grpc"])?.ended(2)?;
    ensure!(grpc.stderr.contains("REST alone"), "{grpc:?}");
    Ok(())
}

/// Of a profile; of a variable, where the profile has another.
fn by_a_profiles_base_url(team: &Namespace, model: &Model) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = |words: &[&str], variable: Option<&str>| {
        let mut command = Command::new(command_binary()?);
        command
            .args(words)
            .env("KUBECONFIG", team.cluster().kubeconfig())
            .env("TIDEWAITER_PROFILES", folder.path().join("profiles.yaml"))
            .envs(variable.map(|url| ("TIDEWAITER_BASE_URL", url)))
            .stdin(Stdio::null());
        Said::from(command.output()?).ended(0)
    };
    let address = format!("http://{INGRESS}");
    let data = model.request.to_string();
    let predict = ["predict", "fraud", "--model", "fraud", "-o", "json", "--data", &data];
    let predict = [&predict[..], &["-n", team.name()]].concat();
    for (profile, variable) in [(&*address, None), ("http://127.0.0.1:9", Some(&*address))] {
        run(&["profile", "set", "house", &format!("base_url={profile}")], None)?;
        let said = run(&predict, variable)?;
        ensure!(said.stderr.contains("by the base URL"), "{said:?}");
        model.check(&numbers(&document(&said)?["outputs"][0]["data"]))?;
    }
    Ok(())
}

/// Where KServe's configuration names a Gateway: here one of the team's own, which no manager reads.
fn a_gateway(
    world: &World,
    team: &Namespace,
    model: &Model,
    lead: &impl Fn(&str, &str) -> Result<Proxy>,
) -> Result<()> {
    let _way = lead(&format!("{GATEWAY}:{LISTENER}"), "fraud")?;
    apply(world, &gateway_definition())?;
    let definition = "crd/gateways.gateway.networking.k8s.io";
    world
        .cluster
        .until("Gateways are served", Duration::from_secs(30), || {
            world
                .cluster
                .kubectl(&["wait", "--for=condition=Established", definition])
                .map(Some)
        })?;
    let configured = json!({"enableGatewayApi": true, "kserveIngressGateway": format!("{}/gate", team.name())});
    apply(
        world,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"ingress": configured.to_string()},
            "metadata": {"name": "inferenceservice-config", "namespace": team.name()}}),
    )?;
    let there = ["--kserve-namespace", team.name()];
    let none = run(team, &[&["url", "fraud", "--via", "ingress"][..], &there].concat())?.ended(2)?;
    ensure!(none.stderr.contains("gate: there is none"), "{none:?}");

    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
    "metadata": {"name": "gate", "namespace": team.name()},
    "spec": {"gatewayClassName": "house", "listeners": [
        {"name": "https", "protocol": "HTTPS", "port": 443},
        {"name": "other", "protocol": "HTTP", "port": 80, "hostname": "*.other.example.org"},
        {"name": "http", "protocol": "HTTP", "port": LISTENER, "hostname": "*.example.com"},
    ]}});
    apply(world, &gateway)?;
    let unready = run(team, &[&["url", "fraud", "--via", "ingress"][..], &there].concat())?.ended(2)?;
    ensure!(unready.stderr.contains("it has no address yet"), "{unready:?}");
    let addresses = json!({"addresses": [{"type": "IPAddress", "value": GATEWAY}]});
    status(world, team.name(), "gateway/gate", &addresses)?;
    let (found, _) = url(team, "fraud", &there)?;
    ensure!(found == format!("http://{GATEWAY}:{LISTENER}/"), "{found}");
    let (way, found) = (
        format!("by Gateway {}/gate", team.name()),
        [&FOUND[..], &there].concat(),
    );
    answers(team, "fraud", model, &way, &BOTH, &found)
}

/// A service in Knative mode, as KServe and Knative would have it ready: KServe's manager here refuses the mode, and leaves the status to whoever writes it.
fn knatives_gateways(
    world: &World,
    team: &Namespace,
    model: &Model,
    uri: &str,
    lead: &impl Fn(&str, &str) -> Result<Proxy>,
) -> Result<()> {
    let service = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "serverless", "annotations": {"serving.kserve.io/deploymentMode": "Knative"}},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "protocolVersion": "v2", "storageUri": uri}}}});
    team.apply(&service.to_string())?;
    let host = host(team, "serverless");
    let ready = json!({"deploymentMode": "Knative", "url": format!("http://{host}")});
    status(world, team.name(), "isvc/serverless", &ready)?;
    let port = json!({"name": "http2", "port": 80, "targetPort": 8080});
    let gateway = |namespace: &str, name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
                "spec": {"type": kind, "selector": {"app": name}, "ports": [port]}},
        ]})
    };

    let _kourier = lead(&format!("{KOURIER}:80"), "serverless")?;
    apply(world, &gateway("kourier-system", "kourier", "LoadBalancer"))?;
    let balancer = |ip: &str| json!({"loadBalancer": {"ingress": [{"ip": ip}]}});
    status(world, "kourier-system", "service/kourier", &balancer(KOURIER))?;
    ensure!(
        url(team, "serverless", &[])? == (format!("http://{KOURIER}/"), host.clone()),
        "{:?}",
        url(team, "serverless", &[])
    );
    answers(
        team,
        "serverless",
        model,
        "by Kourier kourier-system/kourier (load balancer)",
        &BOTH,
        &FOUND,
    )?;
    let _named = lead(&format!("{NAMED}:80"), "serverless")?;
    let named = json!({"loadBalancer": {"ingress": [{"hostname": NAMED}]}});
    status(world, "kourier-system", "service/kourier", &named)?;
    let (found, _) = url(team, "serverless", &[])?;
    ensure!(found == format!("http://{NAMED}/"), "{found}");
    answers(team, "serverless", model, "by Kourier", &BOTH, &FOUND)?;

    // Istio's is asked first; without a load balancer it is reached by a port of a node.
    let istio = "istio-ingressgateway";
    apply(world, &gateway("istio-system", istio, "NodePort"))?;
    let made = world.cluster.get("istio-system", &format!("service/{istio}"))?;
    let node_port = made["spec"]["ports"][0]["nodePort"].as_u64().context("no node port")?;
    let _node = lead(&format!("{NODE}:{node_port}"), "serverless")?;
    answers(
        team,
        "serverless",
        model,
        "istio-ingressgateway (node port)",
        &BOTH,
        &FOUND,
    )?;
    let _istio = lead(&format!("{ISTIO}:80"), "serverless")?;
    apply(world, &gateway("istio-system", istio, "LoadBalancer"))?;
    status(world, "istio-system", &format!("service/{istio}"), &balancer(ISTIO))?;
    answers(
        team,
        "serverless",
        model,
        "istio-ingressgateway (load balancer)",
        &BOTH,
        &FOUND,
    )?;
    for (namespace, name) in [("istio-system", istio), ("kourier-system", "kourier")] {
        // At once, and not when its namespace is gone: other tests go by what there is.
        world.cluster.kubectl(&["delete", "service", name, "-n", namespace])?;
        world
            .cluster
            .kubectl(&["delete", "namespace", namespace, "--wait=false"])?;
    }
    Ok(())
}
