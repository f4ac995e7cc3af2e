//! What puts `NetworkPolicy`s in force on the node: kube-router, of which the firewall alone runs. What Pods send one another over the bridge passes the
//! packet filter of the run's own network, as does what they send the node.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::cache::Cache;
use crate::cluster::Cluster;
use crate::tools::Module;
use crate::{host, node};

const NAME: &str = "kube-router";

impl Cluster {
    /// Installs and builds what [`Self::while_network_policies_hold`] needs, outside of any namespace.
    pub fn prepare_network_policies(cache: &Cache) -> Result<()> {
        host::require_packet_filter()?;
        Module::KubeRouter.build(cache).map(drop)
    }

    /// Has the cluster's network policies hold for the time of `meanwhile`. A Pod that is made then has nothing to do with any for a moment: they are
    /// applied when its address is known.
    ///
    /// # Errors
    /// Those of `meanwhile`; and where the machine's packet filter doesn't do its part.
    pub fn while_network_policies_hold<T>(&self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut command = Command::new(Module::KubeRouter.build(self.cache())?.join(NAME));
        command
            .env("PATH", host::path(&[])?)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(["--hostname-override", node::NAME])
            .args(["--run-firewall=true", "--run-router=false", "--run-service-proxy=false"])
            .arg("--health-port=0")
            // It lets everything through to addresses of Services, which another part of it would translate. Here they are the node's, so it is told of
            // others.
            .args(["--service-cluster-ip-range", "192.0.2.0/24"]);
        self.processes().start(NAME, &mut command)?;
        let done = self
            .processes()
            .wait("rules of network policies", Duration::from_mins(1), || {
                filter(&["--list-rules"]).is_ok_and(|rules| rules.contains("KUBE-POD-FW"))
            })
            .and_then(|()| meanwhile());
        // Its rules outlive it: nobody is to be without while it is replaced. Nobody else has any here.
        let over = self.processes().stop(NAME).and_then(|()| {
            filter(&["--flush"])?;
            filter(&["--delete-chain"])
        });
        let done = done?;
        over?;
        Ok(done)
    }
}

/// The packet filter of the network that this process is in.
fn filter(arguments: &[&str]) -> Result<String> {
    host::output(Command::new("iptables").env("PATH", host::path(&[])?).args(arguments))
}
