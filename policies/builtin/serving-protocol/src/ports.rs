//! Whether a component's ports can be had, and whether its server answers there.
//!
//! Source: `createDefaultSvc` in `reconcilers/service/service_reconciler.go` and `buildPodSpec` in `components/predictor.go`, both below
//! `pkg/controller/v1beta1/inferenceservice` of KServe 0.15.2 and 0.20.0; `validateContainersPorts` and `validateContainerPorts` in
//! `pkg/apis/serving/k8s_validation.go` of Knative Serving 0.44 and 0.48.

use serde_json::json;
use tidewaiter_policy::core::containers::{Container, Part, Port, RuntimeContainers, SERVER, Said};
use tidewaiter_policy::core::image::Image;
use tidewaiter_policy::core::kserve_config::DeploymentMode;
use tidewaiter_policy::core::lines::line;
use tidewaiter_policy::core::service::{Component, Role};
use tidewaiter_policy::{Mode, Verdict, runtimes};

use crate::mode::is_headless;
use crate::server::{self, Ports};
use crate::{Served, Subject, found};

/// What KServe and Knative send to where no port is named.
const UNNAMED: u16 = 8080;

/// The container by whose name KServe knows a transformer in the server's own Pod.
pub(crate) const TRANSFORMER: &str = "transformer-container";

/// A container to which requests may be led.
struct Listener {
    /// Its ports: the runtime's, then the object's.
    ports: Vec<Port>,
    /// JSON Pointer to where ports are said.
    pointer: String,
    /// Whether the object says something of them, be it that there are none.
    is_said: bool,
    /// Where the server listens. Of a transformer that isn't known.
    listens: Option<Ports>,
    /// Whether it stands before the server.
    is_transformer: bool,
}

/// The containers of one component, as they will be.
struct Pod {
    server: Listener,
    transformer: Option<Listener>,
    /// All other containers' ports.
    beside: usize,
    /// Whether these are all ports that there will be.
    is_known: bool,
}

impl Pod {
    /// How many ports all containers have.
    fn ports(&self) -> usize {
        let before = self
            .transformer
            .as_ref()
            .map_or(0, |transformer| transformer.ports.len());
        self.server.ports.len() + before + self.beside
    }

    /// The container that requests are led to: KServe's Service takes the transformer where there is one, and Knative whichever names the port.
    fn led_to(&self, mode: Option<DeploymentMode>) -> &Listener {
        match &self.transformer {
            Some(transformer) if mode == Some(DeploymentMode::Standard) || self.server.ports.is_empty() => transformer,
            Some(_) | None => &self.server,
        }
    }
}

/// Judges one component.
pub(crate) fn review(subject: &Subject<'_>, component: &Component<'_>, served: Option<&Served>, verdict: &mut Verdict) {
    let Some(pod) = pod(subject, component, served) else {
        return;
    };
    let who = component.name();
    let to = pod.led_to(subject.mode);
    // Behind a transformer the server's protocol is nobody else's matter.
    let is_grpc = !to.is_transformer && served.is_some_and(|served| served.protocol.starts_with("grpc"));
    let mut say_so = |is_certain: bool, code: &str, what: &str, short: &str| {
        let mode = subject.settings.ports;
        found(
            verdict,
            if is_certain || mode == Mode::Off {
                mode
            } else {
                Mode::Warn
            },
            code,
            format!("{who}: {what}"),
            &format!("{who}: {short}"),
            &to.pointer,
        );
    };
    match subject.mode {
        Some(DeploymentMode::Knative) => in_knative(&pod, to, is_grpc, &mut |code, what, short| {
            say_so(true, code, what, short)
        }),
        Some(DeploymentMode::Standard) => {
            in_standard(&to.ports, &mut |code, what, short| say_so(true, code, what, short))
        }
        Some(DeploymentMode::ModelMesh) | None => {}
    }
    if let (Some(mode), Some(listens)) = (subject.mode, to.listens) {
        wrong_number(&to.ports, listens, mode, &mut say_so);
    }
    if is_grpc && to.ports.is_empty() {
        grpc_without_port(subject, component, &pod, verdict);
    }
    listens_elsewhere(subject, component, verdict);
}

/// Knative takes a server for one of HTTP/1.1 on 8080 where no port is named, and KServe's Service leads to 8080 alone.
fn grpc_without_port(subject: &Subject<'_>, component: &Component<'_>, pod: &Pod, verdict: &mut Verdict) {
    let Pod { server, is_known, .. } = pod;
    let number = server.listens.map(|listens| listens.grpc);
    let (reason, what, short) = match (subject.mode, number) {
        (Some(DeploymentMode::Knative), _) if pod.beside == 0 => {
            let example = number.map_or_else(
                || "the port on which the server speaks gRPC".to_owned(),
                |number| number.to_string(),
            );
            (
                "Knative serves gRPC on h2c alone",
                format!(
                    "without a port Knative speaks HTTP/1.1 to 8080. Write ports: [{{name: h2c, containerPort: N}}] with {example} for N"
                ),
                "for gRPC Knative needs a port named h2c, and there is none".to_owned(),
            )
        }
        // A canary has what the predictor has, where it says nothing itself.
        (Some(DeploymentMode::Standard), Some(number)) if number != UNNAMED && component.role == Role::Predictor => (
            "else KServe's Service leads to 8080",
            format!(
                "without a port KServe's Service leads to 8080 alone, while the server speaks gRPC on {number}. Write ports: [{{name: h2c, \
                 containerPort: {number}}}]"
            ),
            format!("without a port KServe's Service leads to 8080, and gRPC is on {number}"),
        ),
        _ => return,
    };
    if let Some(number) = number.filter(|_| !server.is_said && subject.may_fill(component, &server.pointer)) {
        *verdict = std::mem::take(verdict).fill(
            &server.pointer,
            json!([{"name": "h2c", "containerPort": number, "protocol": "TCP"}]),
            reason,
        );
    } else if *is_known && !(subject.mode == Some(DeploymentMode::Standard) && is_headless()) {
        let who = component.name();
        found(
            verdict,
            subject.settings.ports,
            "grpc-port",
            format!("{who}: gRPC is asked for, and {what}"),
            &format!("{who}: {short}"),
            &server.pointer,
        );
    }
}

fn pod(subject: &Subject<'_>, component: &Component<'_>, served: Option<&Served>) -> Option<Pod> {
    let part = subject.object.as_ref()?.part(component.role)?;
    let Some(own) = &part.model else {
        let (at, own) = part.own_server()?;
        return Some(Pod {
            server: Listener {
                ports: own.ports().to_vec(),
                pointer: format!("{}/containers/{at}/ports", component.pointer),
                is_said: own.says_ports(),
                listens: None,
                is_transformer: false,
            },
            transformer: transformer(component, part, None).filter(|_| own.name != TRANSFORMER),
            beside: beside(part.containers(), Some(own)),
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
    let listens = server::ports(&repository, own, runtime);
    Some(Pod {
        server: Listener {
            ports: merged(of_runtime, own.ports()),
            pointer: format!("{}/model/ports", component.pointer),
            is_said: own.says_ports(),
            listens,
            is_transformer: false,
        },
        transformer: transformer(component, part, spec.as_ref()),
        beside: spec.as_ref().map_or(0, |spec| beside(spec.all(), runtime)) + beside(part.containers(), None),
        is_known: spec.is_some(),
    })
}

/// The transformer in the same Pod: the runtime's, and the object's laid over it.
fn transformer(component: &Component<'_>, part: &Part, spec: Option<&RuntimeContainers>) -> Option<Listener> {
    let of_runtime = spec.and_then(|spec| spec.named(TRANSFORMER));
    let mut own = part.containers().iter().enumerate();
    let own = own.find(|(_, container)| container.name == TRANSFORMER);
    if of_runtime.is_none() && own.is_none() {
        return None;
    }
    let ports = |container: Option<&Container>| {
        container
            .map(|container| container.ports().to_vec())
            .unwrap_or_default()
    };
    Some(Listener {
        ports: merged(&ports(of_runtime), &ports(own.map(|(_, container)| container))),
        pointer: own.map_or_else(
            || format!("{}/containers", component.pointer),
            |(at, _)| format!("{}/containers/{at}/ports", component.pointer),
        ),
        is_said: own.is_some_and(|(_, container)| container.says_ports()),
        listens: None,
        is_transformer: true,
    })
}

/// The ports of containers that are neither the server nor a transformer before it.
fn beside(containers: &[Container], server: Option<&Container>) -> usize {
    let is_server = |container: &Container| server.is_some_and(|server| std::ptr::eq(server, container));
    let others = containers
        .iter()
        .filter(|container| container.name != TRANSFORMER && !is_server(container));
    others.map(|container| container.ports().len()).sum()
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

fn in_knative(pod: &Pod, to: &Listener, is_grpc: bool, say: &mut impl FnMut(&str, &str, &str)) {
    let all = pod.ports();
    if all > 1 {
        let listed: Vec<String> = pod
            .server
            .ports
            .iter()
            .map(|port| port.container_port.to_string())
            .collect();
        let leave = if pod.transformer.is_some() {
            "that of transformer-container, which asks the server itself"
        } else {
            "one: 8080 for REST, which needs no entry, or the server's own for gRPC with the name h2c"
        };
        say(
            "knative-ports",
            &format!(
                "Knative takes one port for all containers of a Pod, and there are {all} (the server's: {}). Leave {leave}. Or set the annotation \
                 serving.kserve.io/deploymentMode: Standard, which takes several",
                listed.join(", ")
            ),
            &format!("Knative takes one port for all containers, and there are {all}"),
        );
        return;
    }
    // It doesn't guess which of several containers is to answer.
    if all == 0 && to.is_transformer && pod.is_known {
        say(
            "knative-ports",
            "of several containers Knative leads to the one that names a port, and none does. Write ports: [{containerPort: N}] in transformer-container, with the \
             port on which it listens for N",
            "Knative wants a port named, and transformer-container names none",
        );
        return;
    }
    let Some(port) = to.ports.first() else { return };
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
fn in_standard(ports: &[Port], say: &mut impl FnMut(&str, &str, &str)) {
    if ports.len() < 2 {
        return;
    }
    if let Some(port) = ports.iter().find(|port| port.name.is_empty()) {
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
    let twice = ports
        .iter()
        .enumerate()
        .find(|(index, port)| ports[..*index].iter().any(|before| before.name == port.name));
    if let Some((_, port)) = twice {
        say(
            "port-name-twice",
            &format!("two ports have the name {}. Give each its own", port.name),
            &format!("two ports have the name {}", port.name),
        );
    }
}

/// The first port is where KServe's Service, and Knative's, lead to.
fn wrong_number(ports: &[Port], listens: Ports, mode: DeploymentMode, say: &mut impl FnMut(bool, &str, &str, &str)) {
    let Ports { rest, grpc } = listens;
    for (index, port) in ports.iter().enumerate() {
        let (number, name) = (port.container_port, port.name.to_ascii_lowercase());
        let is_grpc = name.contains("grpc") || name.contains("h2c");
        if is_grpc && number == rest && rest != grpc {
            say(
                true,
                "wrong-port",
                &format!(
                    "port {} is {number}, where the server speaks REST. For gRPC it listens on {grpc}; write that",
                    port.name
                ),
                &format!("port {} is {number}, which is REST; gRPC is on {grpc}", port.name),
            );
        } else if index == 0 && !is_grpc && number == grpc && rest != grpc {
            // Without a proxy between, KServe's Service leads gRPC there as well as anything: only who comes by HTTP finds nobody.
            say(
                mode == DeploymentMode::Knative || name.starts_with("http"),
                "wrong-port",
                &format!(
                    "requests by HTTP are led to port {number}, where the server speaks gRPC. Name it h2c where gRPC is meant; for REST write {rest}"
                ),
                &format!("port {number} is the server's for gRPC; name it h2c, or write {rest}"),
            );
        } else if index == 0 && number != rest && number != grpc {
            let meant = if is_grpc { grpc } else { rest };
            say(
                true,
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
