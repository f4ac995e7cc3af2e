//! The flags of how a service is reached, and `tidewaiter url`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::env;

use anstream::{eprintln, print, println};
use clap::{Args, ValueEnum};
use serde_json::json;
use tidewaiter_deployer::live::Deployed;
use tidewaiter_deployer::predict;
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::reach::{self, Endpoint, Options, Protocol, Via, Way};

use super::arguments::Format;
use super::output::{dim, document};
use super::place::{Place, ServiceArguments};
use super::table::clean;
use super::{Ending, Failure};

/// How the service is reached.
#[derive(Debug, Args)]
pub(crate) struct ReachArguments {
    /// Where the ingress is, such as http://203.0.113.7; by default it is found. The service's own host is asked for there
    #[arg(long, value_name = "URL")]
    pub(super) base_url: Option<String>,
    /// The host that is asked for there, in place of the one in the service's URL
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Which ways may be taken
    #[arg(long, value_enum, value_name = "WAY", default_value = "auto")]
    via: Ways,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve")]
    kserve_namespace: String,
}

/// Which ways may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ways {
    /// The first that works: from outside, else a port forward
    Auto,
    /// From outside of the cluster alone
    Ingress,
    /// By its address inside of the cluster
    Cluster,
    /// By a forwarded port of a Pod
    PortForward,
}

impl ReachArguments {
    pub(super) fn options(self, place: &Place, canary: Option<String>) -> Options {
        Options {
            base_url: place.settings.get(Key::BaseUrl).map(str::to_owned),
            host: self.host,
            via: match self.via {
                Ways::Auto => Via::Auto,
                Ways::Ingress => Via::Ingress,
                Ways::Cluster => Via::Cluster,
                Ways::PortForward => Via::PortForward,
            },
            in_cluster: env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            kserve_namespace: self.kserve_namespace,
            canary,
        }
    }
}

impl From<reach::Error> for Failure {
    fn from(error: reach::Error) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

/// Print where a service or a graph is reached, and by which way; of a model on a multi-model server, where its server is.
///
/// Finds the ingress by itself: Istio's gateway, Kourier, Contour, a Gateway of the Gateway API, a plain Ingress; by load balancer, external IP or node port.
/// The service's own host has to be asked for there, and is printed as well. Where nothing leads there, a forwarded port would be taken, and exit code 1 says so.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is reached from here, 1 by a port forward alone, 2 an error.

Examples:
  tidewaiter url fraud
  tidewaiter url fraud --protocol grpc
  curl -H \"Host: $(tidewaiter url fraud -o json | jq -r .host)\" $(tidewaiter url fraud)v2/models/fraud"
)]
pub(crate) struct UrlArguments {
    #[command(flatten)]
    service: ServiceArguments,
    #[command(flatten)]
    reach: ReachArguments,
    /// What would be spoken there
    #[arg(long, value_enum, value_name = "PROTOCOL", default_value = "rest")]
    protocol: Spoken,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spoken {
    /// HTTP with JSON
    Rest,
    /// gRPC
    Grpc,
}

pub(super) async fn run(arguments: UrlArguments) -> Result<Ending, Failure> {
    let more = [(Key::BaseUrl, arguments.reach.base_url.as_ref())];
    let place = arguments.service.place.open(&more).await?;
    let named = Deployed::read_any(&place.cluster, &place.namespace, &arguments.service.name).await?;
    let service = named.asked(&place.cluster).await?;
    let options = arguments.reach.options(&place, None);
    let protocol = match arguments.protocol {
        Spoken::Rest => Protocol::Rest,
        Spoken::Grpc => Protocol::Grpc,
    };
    let endpoint = reach::find(&place.cluster, &service, protocol, &options).await?;
    let is_forwarded = matches!(endpoint.way, Way::PortForward { .. });
    // A forwarded port is closed when this ends: where it is here is no answer.
    let url = if is_forwarded {
        service.url().map(str::to_owned)
    } else {
        Some(endpoint.base.to_string())
    };
    let host = endpoint.host.clone().or_else(|| {
        let url: Option<url::Url> = service.url().and_then(|url| url.parse().ok());
        url.and_then(|url| url.host_str().map(str::to_owned))
    });
    if let Some(format) = arguments.output {
        let told = json!({
            "url": url, "host": host, "way": endpoint.way.to_string(), "reached": !is_forwarded,
            "address": service.address(), "passedOver": endpoint.passed_over,
        });
        print!("{}", document(&told, format)?);
    } else {
        tell(&endpoint);
        if named.server().is_some() {
            let path = predict::Protocol::of(&service).path(&named.name());
            eprintln!("{}", dim(&clean(&format!("the model is asked there at {path}"))));
        }
        if let Some(url) = &url {
            println!("{}", clean(url));
        }
        if let Some(host) = &endpoint.host {
            eprintln!("Host: {}", clean(host));
        }
    }
    Ok(if is_forwarded {
        Ending::Something
    } else {
        Ending::Nothing
    })
}

/// Which way is taken, and why no better one.
pub(super) fn tell(endpoint: &Endpoint) {
    for one in &endpoint.passed_over {
        eprintln!("{}", dim(&format!("not by {}", clean(one))));
    }
    let host = endpoint
        .host
        .as_ref()
        .map_or_else(String::new, |host| format!(", host {host}"));
    eprintln!("{}", dim(&clean(&format!("by {}{host}", endpoint.way))));
}
