//! How the API server is asked.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config, Error};
use tower::retry::RetryLayer;
use tower::timeout::TimeoutLayer;
use tower::util::MapResponseLayer;
use tower::{BoxError, ServiceBuilder};

use super::clock;

/// An answer begins by then, that of a watch too; else it never would, as over a connection that is gone. What is asked for waits as long.
const ANSWER: Duration = Duration::from_secs(30);

/// A client whose answers tell [`clock::now`], and begin in time.
///
/// Kube's own client without its log of requests, and with one difference: on a connection that was just opened, the first request isn't held back until the
/// API server has acknowledged the end of the handshake, which takes its kernel 40 ms. Kube has no setting for that.
pub(crate) fn client(config: Config) -> Result<Client, Error> {
    let late = TimeoutLayer::new(ANSWER);
    if config.proxy_url.is_some() {
        // By way of a proxy as kube does it, as far as it is built for that.
        let kubes = ClientBuilder::try_from(config)?.with_layer(&MapResponseLayer::new(clock::learn));
        return Ok(kubes.with_layer(&late).build());
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(late)
        .layer(MapResponseLayer::new(clock::learn))
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
