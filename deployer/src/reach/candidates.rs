//! Looks for what may lead to a service.

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;
use tidewaiter_core::kserve_config::{CONFIG_MAP, DeploymentMode};
use url::Url;

use super::exposed::{self, Exposed};
use super::{Candidate, Error, Options, Protocol, Via, Way};
use crate::cluster::{self, Cluster, Kind, kinds};
use crate::live::Deployed;

/// The Services that take requests for Knative's routes, by what they are.
const KNATIVE: [(&str, &str, &str); 3] = [
    ("Istio's gateway", "istio-system", "istio-ingressgateway"),
    ("Kourier", "kourier-system", "kourier"),
    ("Contour's gateway", "contour-external", "envoy"),
];
/// The Services that take requests for plain Ingresses, where these don't say their address themselves.
const INGRESSES: [(&str, &str, &str); 3] = [
    ("ingress-nginx", "ingress-nginx", "ingress-nginx-controller"),
    ("Traefik", "traefik", "traefik"),
    ("Istio's gateway", "istio-system", "istio-ingressgateway"),
];
/// KServe's own word for "nobody has set a domain", and what only Pods can resolve.
const PLACEHOLDERS: [&str; 3] = ["example.com", "svc.cluster.local", "svc"];

/// What KServe's configuration says about the way in. An absent member means what it means to KServe.
#[derive(Deserialize, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
struct Ingress {
    enable_gateway_api: bool,
    kserve_ingress_gateway: String,
    disable_ingress_creation: bool,
}

/// The user's word, with the host that the service's URL names.
pub(super) fn base_url(given: &str, service: &Deployed, options: &Options) -> Result<Candidate, Error> {
    let wrong = |reason: &str| Error::BaseUrl {
        given: given.to_owned(),
        reason: reason.to_owned(),
    };
    let mut base: Url = given
        .parse()
        .map_err(|error: url::ParseError| wrong(&error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(wrong("it has to begin with http:// or https://"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(wrong("a password in it would be seen: use --header"));
    }
    let own: Option<Url> = service.url().and_then(|url| url.parse().ok());
    // A path in the service's own URL leads to it behind the gateway.
    let below = own.as_ref().map_or("", |own| own.path()).trim_matches('/').to_owned();
    let path = format!("{}/{below}", base.path().trim_end_matches('/'));
    base.set_path(&format!("{}/", path.trim_end_matches('/')));
    let own = own.and_then(|own| own.host_str().map(str::to_owned));
    let host = options.host.clone().or(own);
    Ok(Candidate {
        host: host.filter(|host| Some(host.as_str()) != base.host_str()),
        base,
        way: Way::BaseUrl,
    })
}

/// All that can be found, the best first, and why others can't be.
pub(super) async fn find(
    cluster: &Cluster,
    service: &Deployed,
    protocol: Protocol,
    options: &Options,
) -> (Vec<Candidate>, Vec<String>) {
    let mut found = Found {
        cluster,
        options,
        candidates: Vec::new(),
        passed_over: Vec::new(),
    };
    let by_address = options.via == Via::Cluster || (options.in_cluster && options.via == Via::Auto);
    if by_address {
        found.inside(service, protocol).await;
    }
    if options.via != Via::Cluster {
        found.outside(service, protocol).await;
    }
    (found.candidates, found.passed_over)
}

struct Found<'a> {
    cluster: &'a Cluster,
    options: &'a Options,
    candidates: Vec<Candidate>,
    passed_over: Vec<String>,
}

impl Found<'_> {
    async fn inside(&mut self, service: &Deployed, protocol: Protocol) {
        let address = service.address().and_then(|address| address.parse::<Url>().ok());
        let Some(mut base) = address else {
            self.passed_over
                .push("the service's address: KServe has written none into its status".to_owned());
            return;
        };
        // In Standard mode the Service's first port is the one of REST, and the other one has the server's own number.
        if protocol == Protocol::Grpc && service.mode() == Some(DeploymentMode::Standard) {
            let (namespace, name) = (service.namespace(), service.service_of(service.entry()));
            let object = self.read(&kinds::SERVICE, Some(&namespace), &name).await;
            let port = object.and_then(|object| exposed::grpc_port(&object.data));
            if port.is_none_or(|port| base.set_port(Some(port)).is_err()) {
                self.passed_over
                    .push(format!("the service's address: Service {name} has no port for gRPC"));
                return;
            }
        }
        self.candidates.push(Candidate {
            base: with_slash(base),
            host: None,
            way: Way::Cluster,
        });
    }

    async fn outside(&mut self, service: &Deployed, protocol: Protocol) {
        let url = service.url().and_then(|url| url.parse::<Url>().ok());
        let Some(url) = url.filter(|url| url.host_str().is_some()) else {
            self.passed_over
                .push("from outside: KServe has written no URL into the service's status yet".to_owned());
            return;
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        if is_inside(&host) {
            self.passed_over.push(format!(
                "from outside: the service is for the inside of the cluster alone ({host})"
            ));
            return;
        }
        let own = (!PLACEHOLDERS.iter().any(|domain| host.ends_with(&format!(".{domain}")))).then(|| Candidate {
            base: with_slash(url.clone()),
            host: None,
            way: Way::Own,
        });
        if service.mode() == Some(DeploymentMode::Knative) {
            self.candidates.extend(own);
            return self.services(&KNATIVE, &url).await;
        }
        let config = self.config().await;
        if config.enable_gateway_api {
            self.candidates.extend(own);
            return self.gateway(&config.kserve_ingress_gateway, &url).await;
        }
        if protocol == Protocol::Grpc && !service.is_grpc_alone() {
            self.passed_over
                .push("the Ingress: KServe leads it to the service's port for REST alone".to_owned());
            return;
        }
        if protocol == Protocol::Grpc && self.options.via != Via::Ingress {
            self.passed_over.push(
                "the Ingress: its controller has to be told to speak HTTP/2 to the service, which can't be seen (--via ingress tries it)".to_owned(),
            );
            return;
        }
        self.candidates.extend(own);
        if config.disable_ingress_creation {
            self.passed_over
                .push("an Ingress: KServe's configuration has none made (disableIngressCreation)".to_owned());
            return;
        }
        self.ingress(service, &url).await;
    }

    /// KServe's part `ingress`; its defaults where it can't be read.
    async fn config(&mut self) -> Ingress {
        let namespace = match self.options.kserve_namespace.as_str() {
            "" => "kserve",
            namespace => namespace,
        };
        let read = self.read(&kinds::CONFIG_MAP, Some(namespace), CONFIG_MAP).await;
        let part = read.as_ref().and_then(|map| map.data["data"]["ingress"].as_str());
        part.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// An object that helps where it is there. What is in the way is told.
    async fn read(&mut self, kind: &'static Kind, namespace: Option<&str>, name: &str) -> Option<DynamicObject> {
        match self.cluster.get(kind, namespace, name).await {
            Ok(found) => found,
            Err(cluster::Error::UnknownKind { .. }) => None,
            Err(error) => {
                self.passed_over.push(error.to_string());
                None
            }
        }
    }

    async fn services(&mut self, known: &[(&'static str, &str, &str)], url: &Url) {
        for (what, namespace, name) in known {
            let Some(service) = self.read(&kinds::SERVICE, Some(namespace), name).await else {
                continue;
            };
            let nodes = if service.data["spec"]["type"] == "ClusterIP" {
                Vec::new()
            } else {
                self.nodes().await
            };
            let found = exposed::service(&service.data, &nodes, url.scheme() == "https");
            if found.is_empty() {
                self.passed_over.push(format!(
                    "{what} {namespace}/{name}: it has no address outside of the cluster"
                ));
            }
            self.add(what, format!("{namespace}/{name}"), found, url);
        }
    }

    async fn nodes(&mut self) -> Vec<Value> {
        match self.cluster.list(&kinds::NODE, None).await {
            Ok(nodes) => nodes.into_iter().map(|node| node.data).collect(),
            Err(error) => {
                self.passed_over.push(error.to_string());
                Vec::new()
            }
        }
    }

    async fn gateway(&mut self, configured: &str, url: &Url) {
        let Some((namespace, name)) = configured.split_once('/') else {
            self.passed_over.push(format!(
                "a Gateway: KServe's configuration names `{configured}`, not namespace/name"
            ));
            return;
        };
        let Some(gateway) = self.read(&kinds::GATEWAY, Some(namespace), name).await else {
            self.passed_over.push(format!("Gateway {configured}: there is none"));
            return;
        };
        let found = exposed::gateway(
            &gateway.data,
            url.host_str().unwrap_or_default(),
            url.scheme() == "https",
        );
        if found.is_empty() {
            self.passed_over.push(format!(
                "Gateway {configured}: it has no address yet, or no listener for {}",
                url.host_str().unwrap_or_default()
            ));
        }
        self.add("Gateway", configured.to_owned(), found, url);
    }

    async fn ingress(&mut self, service: &Deployed, url: &Url) {
        let (namespace, name) = (service.namespace(), service.name());
        let Some(ingress) = self.read(&kinds::INGRESS, Some(&namespace), &name).await else {
            self.passed_over
                .push(format!("Ingress {namespace}/{name}: there is none"));
            return;
        };
        let found = exposed::ingress(&ingress.data, url.scheme() == "https");
        if found.is_empty() {
            self.passed_over.push(format!(
                "Ingress {namespace}/{name}: no controller has given it an address"
            ));
            return self.services(&INGRESSES, url).await;
        }
        self.add("Ingress", format!("{namespace}/{name}"), found, url);
    }

    fn add(&mut self, what: &'static str, name: String, found: Vec<Exposed>, url: &Url) {
        for one in found {
            let mut base = with_slash(url.clone());
            let host = if one.host.contains(':') {
                format!("[{}]", one.host)
            } else {
                one.host.clone()
            };
            if base.set_host(Some(&host)).is_err() || base.set_port(Some(one.port)).is_err() {
                continue;
            }
            self.candidates.push(Candidate {
                base,
                host: self.options.host.clone().or_else(|| url.host_str().map(str::to_owned)),
                way: Way::Gateway {
                    what,
                    name: name.clone(),
                    by: one.by,
                },
            });
        }
    }
}

fn is_inside(host: &str) -> bool {
    let mut labels = host.trim_end_matches(".cluster.local").rsplit('.');
    labels.next() == Some("svc")
}

fn with_slash(mut url: Url) -> Url {
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
