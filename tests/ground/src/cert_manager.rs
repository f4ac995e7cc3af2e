//! The real cert-manager: its controller, which issues certificates, and its cainjector, which has API servers trust them. Both are processes of the run, as
//! KServe's manager is; its webhook, which only checks what people write, is left out.

use std::process::Command;

use anyhow::Result;

use crate::cache::Cache;
use crate::cluster::Cluster;
use crate::definitions::Project;
use crate::tools::Module;

impl Cluster {
    /// Builds what [`Self::start_cert_manager`] needs, outside of any namespace.
    pub fn prepare_cert_manager(cache: &Cache) -> Result<()> {
        Module::CertManager.build(cache)?;
        Self::prepare_definitions(&[Project::CertManager])
    }

    /// Installs it into this cluster. The first certificate that somebody asks for may take a few seconds: its controllers begin to watch.
    pub fn start_cert_manager(&self) -> Result<()> {
        self.define(Project::CertManager)?;
        let programs = Module::CertManager.build(self.cache())?;
        let start = |name: &str, command: &mut Command| {
            // The one is told by a flag where its cluster is, the other by a variable.
            let command = command.env("KUBECONFIG", self.kubeconfig()).arg("--leader-elect=false");
            self.processes().start(name, command)
        };
        let (controller, injector) = ("cert-manager-controller", "cert-manager-cainjector");
        start(injector, &mut Command::new(programs.join(injector)))?;
        start(
            controller,
            Command::new(programs.join(controller))
                .arg("--kubeconfig")
                .arg(self.kubeconfig())
                .arg("--metrics-listen-address=127.0.0.1:9402"),
        )
    }
}
