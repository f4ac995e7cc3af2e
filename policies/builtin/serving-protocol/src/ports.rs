//! Whether a component's ports can be had, and whether its server answers there.
//!
//! Source: `createDefaultSvc` in `pkg/controller/v1beta1/inferenceservice/reconcilers/service/service_reconciler.go` of KServe 0.20; `validateContainerPorts` in
//! `pkg/apis/serving/k8s_validation.go` of Knative Serving.

use serde_json::json;
use tidewaiter_policy::core::containers::{Container, Part, Port, RuntimeContainers, SERVER, Said};
use tidewaiter_policy::core::image::Image;
use tidewaiter_policy::core::kserve_config::DeploymentMode;
use tidewaiter_policy::core::lines::line;
use tidewaiter_policy::core::service::Component;
use tidewaiter_policy::{Mode, Verdict, runtimes};

use crate::server::{self, Ports};
use crate::{Served, Subject, found};

/// What KServe and Knative send to where no port is named.
const UNNAMED: u16 = 8080;

/// The containers of one component, as they will be.
struct Pod {
    /// The server's ports: the runtime's, then the object's.
    ports: Vec<Port>,
    /// All other containers' ports.
    beside: usize,
    /// JSON Pointer to where ports are said.
    pointer: String,
    /// Whether the object says something of them, be it that there are none.
    is_said: bool,
    /// Where the server listens.
    listens: Option<Ports>,
    /// Whether these are all ports that there will be.
    is_known: bool,
}

/// Judges one component.
pub(crate) fn review(subject: &Subject<'_>, component: &Component<'_>, served: Option<&Served>, verdict: &mut Verdict) {
    let Some(pod) = pod(subject, component, served) else {
        return;
    };
    let who = component.name();
    let is_grpc = served.is_some_and(|served| served.protocol.starts_with("grpc"));
    let mut say = |code: &str, what: &str, short: &str| {
        found(
            verdict,
            subject.settings.ports,
            code,
            format!("{who}: {what}"),
            &format!("{who}: {short}"),
            &pod.pointer,
        );
    };
    match subject.mode {
        Some(DeploymentMode::Knative) => in_knative(&pod, is_grpc, &mut say),
        Some(DeploymentMode::Standard) => in_standard(&pod, &mut say),
        Some(DeploymentMode::ModelMesh) | None => {}
    }
    if subject.mode.is_some()
        && let Some(listens) = pod.listens
    {
        wrong_number(&pod, listens, &mut say);
    }
    if subject.mode == Some(DeploymentMode::Knative) && is_grpc && pod.ports.is_empty() && pod.beside == 0 {
        grpc_without_port(subject, component, &pod, verdict);
    }
    listens_elsewhere(subject, component, verdict);
}

/// Knative takes a server for one of HTTP/1.1 on 8080 where no port is named.
fn grpc_without_port(subject: &Subject<'_>, component: &Component<'_>, pod: &Pod, verdict: &mut Verdict) {
    let number = pod.listens.map(|listens| listens.grpc);
    if let Some(number) = number.filter(|_| !pod.is_said && subject.may_fill(component, &pod.pointer)) {
        *verdict = std::mem::take(verdict).fill(
            &pod.pointer,
            json!([{"name": "h2c", "containerPort": number, "protocol": "TCP"}]),
            "Knative serves gRPC on one port, named h2c",
        );
    } else if pod.is_known {
        let who = component.name();
        let example = number.map_or_else(
            || "the port on which the server speaks gRPC".to_owned(),
            |number| number.to_string(),
        );
        found(
            verdict,
            subject.settings.ports,
            "grpc-port",
            format!(
                "{who}: gRPC is asked for, and without a port Knative speaks HTTP/1.1 to 8080. Write ports: [{{name: h2c, containerPort: N}}] with {example} for N"
            ),
            &format!("{who}: for gRPC Knative needs a port named h2c, and there is none"),
            &pod.pointer,
        );
    }
}

fn pod(subject: &Subject<'_>, component: &Component<'_>, served: Option<&Served>) -> Option<Pod> {
    let part = subject.object.as_ref()?.part(component.role)?;
    let count =
        |containers: &[Container]| -> usize { containers.iter().map(|container| container.ports().len()).sum() };
    let Some(own) = &part.model else {
        let (at, own) = part.own_server()?;
        return Some(Pod {
            ports: own.ports().to_vec(),
            beside: count(part.containers()) - own.ports().len(),
            pointer: format!("{}/containers/{at}/ports", component.pointer),
            is_said: own.says_ports(),
            listens: None,
            is_known: true,
        });
    };
    let served = served?;
    let spec = runtimes::spec(&served.runtime.name).and_then(|spec| RuntimeContainers::parse(&spec));
    let runtime = spec.as_ref().and_then(|spec| spec.named(SERVER));
    let of_runtime = runtime.map(Container::ports).unwrap_or_default();
    let repository = own.image.as_deref().map_or_else(
        || served.runtime.repository.clone(),
        |image| Image::parse(image).repository,
    );
    // A runtime with a program of its own to start may listen anywhere.
    let is_another = runtime
        .and_then(|container| container.command.as_deref())
        .is_some_and(|command| !server::is_its_own(&repository, command));
    let listens = if is_another {
        None
    } else {
        server::ports(&repository, own, runtime)
    };
    let all_of_runtime = spec.as_ref().map_or(0, |spec| count(spec.all()));
    Some(Pod {
        ports: merged(of_runtime, own.ports()),
        beside: all_of_runtime - of_runtime.len() + count(part.containers()),
        pointer: format!("{}/model/ports", component.pointer),
        is_said: own.says_ports(),
        listens,
        is_known: spec.is_some(),
    })
}

/// A strategic merge by number, which keeps the runtime's order.
fn merged(runtime: &[Port], own: &[Port]) -> Vec<Port> {
    let mut ports = runtime.to_vec();
    for port in own {
        match ports
            .iter_mut()
            .find(|known| known.container_port == port.container_port)
        {
            Some(known) if !port.name.is_empty() => known.name.clone_from(&port.name),
            Some(_) => {}
            None => ports.push(port.clone()),
        }
    }
    ports
}

fn in_knative(pod: &Pod, is_grpc: bool, say: &mut impl FnMut(&str, &str, &str)) {
    let all = pod.ports.len() + pod.beside;
    if all > 1 {
        let listed: Vec<String> = pod.ports.iter().map(|port| port.container_port.to_string()).collect();
        say(
            "knative-ports",
            &format!(
                "Knative takes one port for all containers of a Pod, and there are {all} (the server's: {}). Leave one: 8080 for REST, which needs no entry, or the \
                 server's own for gRPC with the name h2c. Or set the annotation serving.kserve.io/deploymentMode: Standard, which takes several",
                listed.join(", ")
            ),
            &format!("Knative takes one port for all containers, and there are {all}"),
        );
        return;
    }
    let Some(port) = pod.ports.first() else { return };
    if !["", "http1", "h2c"].contains(&port.name.as_str()) {
        say(
            "knative-port-name",
            &format!(
                "Knative takes no port of the name {}. Write h2c where it is for gRPC, and http1 or no name for REST",
                port.name
            ),
            &format!("Knative takes no port named {}; write h2c or http1", port.name),
        );
    } else if is_grpc && port.name != "h2c" {
        say(
            "grpc-port",
            &format!(
                "gRPC is asked for, and to port {} Knative speaks HTTP/1.1, since its name isn't h2c. Write the name h2c",
                port.container_port
            ),
            &format!(
                "Knative speaks gRPC only to a port named h2c, and {} isn't",
                port.container_port
            ),
        );
    }
}

/// A Service is made of the ports, and Kubernetes wants a name for each where there are several.
fn in_standard(pod: &Pod, say: &mut impl FnMut(&str, &str, &str)) {
    if pod.ports.len() < 2 {
        return;
    }
    if let Some(port) = pod.ports.iter().find(|port| port.name.is_empty()) {
        say(
            "port-without-name",
            &format!(
                "of several ports each needs a name for the Service that KServe makes of them, and {} has none. Name it: with grpc or h2c in the name where it is for \
                 gRPC, else http",
                port.container_port
            ),
            &format!(
                "of several ports each needs a name, and {} has none",
                port.container_port
            ),
        );
        return;
    }
    let twice = pod
        .ports
        .iter()
        .enumerate()
        .find(|(index, port)| pod.ports[..*index].iter().any(|before| before.name == port.name));
    if let Some((_, port)) = twice {
        say(
            "port-name-twice",
            &format!("two ports have the name {}. Give each its own", port.name),
            &format!("two ports have the name {}", port.name),
        );
    }
}

/// The first port is where KServe's Service, and Knative's, lead to.
fn wrong_number(pod: &Pod, listens: Ports, say: &mut impl FnMut(&str, &str, &str)) {
    let Ports { rest, grpc } = listens;
    for (index, port) in pod.ports.iter().enumerate() {
        let (number, name) = (port.container_port, port.name.to_ascii_lowercase());
        let is_grpc = name.contains("grpc") || name.contains("h2c");
        if is_grpc && number == rest && rest != grpc {
            say(
                "wrong-port",
                &format!(
                    "port {} is {number}, where the server speaks REST. For gRPC it listens on {grpc}; write that",
                    port.name
                ),
                &format!("port {} is {number}, which is REST; gRPC is on {grpc}", port.name),
            );
        } else if index == 0 && !is_grpc && number == grpc && rest != grpc {
            say(
                "wrong-port",
                &format!(
                    "requests by HTTP are led to port {number}, where the server speaks gRPC. Name it h2c where gRPC is meant; for REST write {rest}"
                ),
                &format!("port {number} is the server's for gRPC; name it h2c, or write {rest}"),
            );
        } else if index == 0 && number != rest && number != grpc {
            let meant = if is_grpc { grpc } else { rest };
            say(
                "wrong-port",
                &format!(
                    "nothing listens on port {number}: the server has {rest} for REST and {grpc} for gRPC. Write {meant}"
                ),
                &format!("nothing listens on port {number}; write {meant}"),
            );
        }
    }
}

/// A container of the user's own that is told a port, of which KServe isn't.
fn listens_elsewhere(subject: &Subject<'_>, component: &Component<'_>, verdict: &mut Verdict) {
    let part = subject.object.as_ref().and_then(|object| object.part(component.role));
    let own = part.filter(|part| part.model.is_none()).and_then(Part::own_server);
    let Some((_, container)) = own.filter(|(_, container)| container.ports().is_empty()) else {
        return;
    };
    let told = ["http-port", "port"]
        .into_iter()
        .find_map(|name| match container.argument_number(name) {
            Said::Number(number) => Some(number),
            Said::Nothing | Said::Unknown => None,
        });
    if let Some(number) = told.filter(|number| *number != UNNAMED && subject.settings.ports != Mode::Off) {
        let who = component.name();
        *verdict = std::mem::take(verdict).warn(line(&format!(
            "{who}: by its arguments it listens on {number}, and KServe sends to 8080; name {number} in ports"
        )));
    }
}
