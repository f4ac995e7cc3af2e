//! A port of a Pod, here: what `kubectl port-forward` does, for as long as the value lives.
//!
//! A listener on the loopback interface takes connections, and each goes to the Pod through a WebSocket of the API server. So whoever may `create
//! pods/portforward` can ask a model that no ingress leads to, by any protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Error;
use crate::cluster::{Attempt, Cluster, kinds};

/// A forwarded port. Dropped, it is closed, with all its connections.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    last: Arc<Mutex<Option<String>>>,
}

impl Forward {
    /// Opens a port here that leads to a Pod's. The first connection to the Pod is tried at once.
    ///
    /// # Errors
    /// Where the API server refuses, or the Pod's port is closed to it.
    pub async fn open(cluster: &Cluster, namespace: &str, pod: &str, port: u16) -> Result<Self, Error> {
        let pods: Api<Pod> = Api::namespaced(cluster.streams().clone(), namespace);
        let tried = pods.portforward(pod, &[port]).await;
        tried.map_err(|error| {
            let attempt = Attempt::named("create", &kinds::POD_FORWARD, Some(namespace), pod);
            Error::Cluster(cluster.failed(attempt, &error))
        })?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        let last = Arc::new(Mutex::new(None));
        let accepting = tokio::spawn(accept(listener, pods, pod.to_owned(), port, Arc::clone(&last)));
        Ok(Self {
            address,
            accepting,
            last,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went wrong with the last connection that failed, in the kubelet's words.
    pub fn complaint(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16, last: Arc<Mutex<Option<String>>>) {
    // Connections end with the task that owns this set.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let (pods, pod, last) = (pods.clone(), pod.clone(), Arc::clone(&last));
        connections.spawn(async move {
            if let Some(complaint) = connect(connection, &pods, &pod, port).await {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint);
            }
        });
    }
}

/// Carries one connection until either side ends it. Returns why it failed, if it did.
async fn connect(mut connection: TcpStream, pods: &Api<Pod>, pod: &str, port: u16) -> Option<String> {
    // An answer in small pieces would wait for acknowledgements otherwise.
    let _ = connection.set_nodelay(true);
    let mut forwarder = match pods.portforward(pod, &[port]).await {
        Ok(forwarder) => forwarder,
        Err(error) => return Some(error.to_string()),
    };
    let complaint = forwarder.take_error(port)?;
    let mut stream = forwarder.take_stream(port)?;
    let carried = async {
        let _ = io::copy_bidirectional(&mut connection, &mut stream).await;
    };
    tokio::select! {
        () = carried => None,
        Some(complaint) = complaint => Some(complaint.trim().to_owned()),
    }
}
