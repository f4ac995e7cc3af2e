//! What can go wrong around Tidewaiter, done on purpose.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::{control_plane, host, node};

impl Cluster {
    /// Kills the processes of a Pod's containers with a signal that they can't catch. The kubelet starts them again, in the same Pod.
    pub fn kill_containers(&self, pod: &Value) -> Result<()> {
        for container in running(pod)? {
            host::run(node::ctr_here(self.cache())?.args(["task", "kill", "--signal", "SIGKILL", container]))?;
        }
        Ok(())
    }

    /// Takes a Pod's network away for good, as the loss of its node does: whoever talks to it hears nothing more, not even that it is gone. (Not so when its
    /// processes are killed, whose kernel goes on to answer.)
    pub fn cut_off(&self, pod: &Value) -> Result<()> {
        let container = running(pod)?.into_iter().next().context("no container runs")?;
        let tasks = host::output(node::ctr_here(self.cache())?.args(["task", "list"]))?;
        let mut tasks = tasks.lines().map(str::split_whitespace);
        let process = tasks.find_map(|mut task| {
            if task.next() == Some(container) {
                task.next()
            } else {
                None
            }
        });
        let network = format!(
            "--net=/proc/{}/ns/net",
            process.context("containerd knows no such container")?
        );
        host::run(Command::new("nsenter").args([&network, "ip", "link", "set", "eth0", "down"]))
    }

    /// Takes the API server away and brings it back with what is stored, after `meanwhile`.
    pub fn without_api_server<T>(&self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        self.ours("kube-apiserver")?;
        self.processes().stop("kube-apiserver")?;
        let done = meanwhile();
        control_plane::start_api_server(self.cache(), self.folder(), self.processes())?;
        done
    }

    /// Takes etcd away under a running API server, and brings it back with what it stored, after `meanwhile`. Returns when the API server is ready.
    pub fn without_etcd<T>(&self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        self.ours("etcd")?;
        self.processes().stop("etcd")?;
        let done = meanwhile();
        control_plane::start_etcd(self.cache(), self.folder(), self.processes())?;
        control_plane::wait_for_api_server(self.cache(), self.folder(), self.processes())?;
        done
    }

    /// Stops MinIO as a hung machine would, for the time of `meanwhile`: connections are accepted, and nothing is answered.
    pub fn while_store_hangs<T>(&self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        self.while_hanging("minio", meanwhile)
    }

    /// The same with the kubelet: the node's Pods run on, and what becomes of them the control plane doesn't learn. It gives the node up after 50 s, counted
    /// from up to 10 s before the kubelet was stopped.
    pub fn while_kubelet_hangs<T>(&self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        self.while_hanging("kubelet", meanwhile)
    }

    fn while_hanging<T>(&self, server: &str, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        let process = self.ours(server)?;
        let signal = |name: &str| host::run(Command::new("kill").args([name, &process.to_string()]));
        signal("-STOP")?;
        let done = meanwhile();
        signal("-CONT")?;
        done
    }

    fn ours(&self, server: &str) -> Result<u32> {
        self.processes().pid(server).with_context(|| {
            format!("{server} is not this process's own: a test that stops it needs a cluster that it started (unset TIDEWAITER_GROUND)")
        })
    }
}

/// The names that containerd has for a Pod's containers.
fn running(pod: &Value) -> Result<Vec<&str>> {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let containers: Vec<_> = statuses
        .into_iter()
        .flatten()
        .filter(|status| !status["state"]["running"].is_null())
        .filter_map(|status| status["containerID"].as_str()?.strip_prefix("containerd://"))
        .collect();
    ensure!(
        !containers.is_empty(),
        "no container of the Pod {} runs",
        pod["metadata"]["name"]
    );
    Ok(containers)
}
