//! The real cert-manager: its controller, which issues certificates, and its cainjector, which has API servers trust them. Both are processes of the run, as
//! KServe's manager is; its webhook, which only checks what people write, is left out.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cache::Cache;
use crate::cluster::Cluster;
use crate::tools::Module;

const MODULE: &str = "github.com/cert-manager/cert-manager";

impl Cluster {
    /// Builds what [`Self::start_cert_manager`] needs, outside of any namespace.
    pub fn prepare_cert_manager(cache: &Cache) -> Result<()> {
        Module::CertManager.build(cache)?;
        Module::CertManager.unpacked(MODULE).map(drop)
    }

    /// Installs it into this cluster. The first certificate that somebody asks for may take a few seconds: its controllers begin to watch.
    pub fn start_cert_manager(&self) -> Result<()> {
        let definitions = definitions(&Module::CertManager.unpacked(MODULE)?.join("deploy/crds"))?;
        let said = self.try_kubectl(&["apply", "--server-side", "-f", "-"], &definitions)?;
        ensure!(said.ok, "{}", said.stderr);
        self.until("cert-manager's kinds are served", Duration::from_mins(1), || {
            let wait = [
                "wait",
                "--for=condition=Established",
                "crd/certificates.cert-manager.io",
            ];
            self.kubectl(&wait)?;
            self.kubectl(&["get", "certificates,issuers,certificaterequests", "--all-namespaces"])
                .map(Some)
        })?;
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

/// The definitions of its kinds. They are templates of a chart, though of labels alone.
fn definitions(folder: &Path) -> Result<String> {
    let mut all = String::new();
    let mut files = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    ensure!(!files.is_empty(), "no definitions in {}", folder.display());
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
        all += "---\n";
        for line in text.lines().filter(|line| !line.contains("{{") && *line != "  labels:") {
            all += line;
            all += "\n";
        }
    }
    Ok(all)
}
