//! A real node: containerd with runc and bridge CNI, and a kubelet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::cache::Cache;
use crate::control_plane::IN_CLUSTER;
use crate::processes::Processes;
use crate::tools::Module;
use crate::{host, images, sandbox};

/// The node's name.
pub(crate) const NAME: &str = "node1";

/// Folders that containerd, CNI and the kubelet write to wherever they are told to keep their state. Each run has its own.
const PRIVATE: [&str; 5] = [
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
];

/// containerd's socket in its folder.
pub(crate) fn socket(state: &Path) -> PathBuf {
    state.join("containerd.sock")
}

/// Starts containerd and the kubelet; returns when the node is ready.
pub(crate) fn start(
    cache: &Cache,
    folder: &Path,
    kubectl: &impl Fn() -> Command,
    kubeconfig: &Path,
    processes: &Processes,
) -> Result<()> {
    for place in PRIVATE {
        fs::create_dir_all(place)?;
        host::run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs", place]))?;
    }
    let node = folder.join("node");
    fs::create_dir_all(node.join("cni"))?;
    images::lay_out(cache, &node.join("root"))?;
    let state = Path::new(PRIVATE[0]);
    let config = write_containerd_config(&node, &node.join("root"), state)?;
    fs::write(node.join("cni/10-bridge.conflist"), cni(&node).to_string())?;
    let kubelet_config = node.join("kubelet.json");
    fs::write(&kubelet_config, kubelet(folder, state).to_string())?;

    let containerd = Module::Containerd.build(cache)?;
    let path = host::path(&[&containerd])?;
    processes.start(
        "containerd",
        Command::new(containerd.join("containerd"))
            .env("PATH", &path)
            .arg("--config")
            .arg(config),
    )?;
    processes.wait("a containerd that answers", Duration::from_mins(1), || {
        host::run(ctr(&containerd, state).arg("version")).is_ok()
    })?;
    processes.start(
        "kubelet",
        Command::new(Module::Kubernetes.build(cache)?.join("kubelet"))
            .env("PATH", &path)
            .arg("--config")
            .arg(kubelet_config)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--hostname-override", NAME])
            // One that is there before there is a Pod; without a default route the kubelet finds none by itself.
            .args(["--node-ip", IN_CLUSTER])
            .arg("--root-dir")
            .arg(node.join("kubelet")),
    )?;
    processes.wait("a ready node", Duration::from_mins(2), || {
        host::run(kubectl().args(["wait", "--for=condition=Ready", "--timeout=10s", "node", NAME])).is_ok()
    })
}

/// containerd's own client, in the namespace that Kubernetes' containers and images are in.
pub(crate) fn ctr(containerd: &Path, state: &Path) -> Command {
    let mut ctr = Command::new(containerd.join("ctr"));
    ctr.arg("--address").arg(socket(state)).args(["--namespace", "k8s.io"]);
    ctr
}

/// The same for the node of the run that this process is in.
pub(crate) fn ctr_here(cache: &Cache) -> Result<Command> {
    Ok(ctr(&Module::Containerd.build(cache)?, Path::new(PRIVATE[0])))
}

/// Writes containerd's configuration into `folder`; `state` is where its sockets will be.
pub(crate) fn write_containerd_config(folder: &Path, root: &Path, state: &Path) -> Result<PathBuf> {
    let file = folder.join("containerd.toml");
    let (root, cni, socket) = (root.display(), folder.join("cni"), socket(state));
    let text = format!(
        r#"version = 3
root = "{root}"
state = "{state}/state"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
  # Where CAP_SYS_RESOURCE is missing, a container with a lower score than containerd's own can't start.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{cni}"
"#,
        state = state.display(),
        socket = socket.display(),
        cni = cni.display(),
        pause = images::PAUSE,
    );
    fs::write(&file, text)?;
    Ok(file)
}

fn cni(node: &Path) -> serde_json::Value {
    json!({"cniVersion": "1.0.0", "name": "ground", "plugins": [{
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "ipam": {
            "type": "host-local",
            "dataDir": node.join("addresses"),
            "ranges": [[{"subnet": "10.88.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }]})
}

fn kubelet(folder: &Path, state: &Path) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", sandbox::cgroup(folder)),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": format!("unix://{}", socket(state).display()),
        "address": IN_CLUSTER,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        // Nobody answers there before a test has Services served: then names are told to be unknown at once.
        "clusterDNS": [IN_CLUSTER],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "podLogsDir": pod_logs(folder),
        // The machine's own shortage of disk must not end a test's Pods.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Image pulls must fail at once: everything is there from the start, and nothing else can be reached.
        "registryPullQPS": 0,
        "serializeImagePulls": false,
    })
}

/// Where the kubelet keeps what containers write.
pub(crate) fn pod_logs(folder: &Path) -> PathBuf {
    folder.join("node/pods")
}
