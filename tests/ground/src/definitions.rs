//! Kinds that other projects define, by the definitions that they ship: the API server then says of an object what it says where the project is installed.
//! Nothing of theirs runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::Cluster;
use crate::tools::Module;

/// Whose kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Project {
    /// Certificates, and who issues them.
    CertManager,
    /// What of it a chart brings: who is scraped, and rules for alerts.
    PrometheusOperator,
    /// `PolicyReport`, which Kyverno has from Kubernetes' working group on policies.
    Kyverno,
}

impl Project {
    /// The definitions' own module, and the path that Go knows it by.
    fn module(self) -> (Module, &'static str) {
        match self {
            Self::CertManager => (Module::CertManager, "github.com/cert-manager/cert-manager"),
            Self::PrometheusOperator => (
                Module::Definitions,
                "github.com/prometheus-operator/prometheus-operator",
            ),
            Self::Kyverno => (Module::Definitions, "github.com/kyverno/kyverno"),
        }
    }

    fn unpacked(self) -> Result<PathBuf> {
        let (module, path) = self.module();
        module.unpacked(path)
    }

    fn definitions(self) -> Result<String> {
        let unpacked = self.unpacked()?;
        let all = |folder: &str, files: &[&str]| -> Result<String> {
            let texts = files.iter().map(|file| read(&unpacked.join(folder).join(file)));
            Ok(texts.collect::<Result<Vec<_>>>()?.join("\n---\n"))
        };
        match self {
            Self::CertManager => of_a_chart(&unpacked.join("deploy/crds")),
            Self::PrometheusOperator => all(
                "example/prometheus-operator-crd",
                &[
                    "monitoring.coreos.com_prometheusrules.yaml",
                    "monitoring.coreos.com_servicemonitors.yaml",
                ],
            ),
            Self::Kyverno => all("config/crds/policyreport", &["wgpolicyk8s.io_policyreports.yaml"]),
        }
    }
}

impl Cluster {
    /// Fetches what [`Self::define`] reads, outside of any namespace.
    pub fn prepare_definitions(projects: &[Project]) -> Result<()> {
        projects.iter().try_for_each(|project| project.unpacked().map(drop))
    }

    /// Has a project's kinds served; returns when they are.
    pub fn define(&self, project: Project) -> Result<()> {
        let apply = ["apply", "--server-side", "-o", "name", "-f", "-"];
        let said = self.try_kubectl(&apply, &project.definitions()?)?;
        ensure!(said.ok, "{}", said.stderr);
        let kinds: Vec<_> = said.stdout.lines().filter_map(|line| line.rsplit('/').next()).collect();
        let (what, kinds) = (format!("the kinds of {project:?} are served"), kinds.join(","));
        self.until(&what, Duration::from_mins(1), || {
            self.kubectl(&["get", &kinds, "--all-namespaces"]).map(Some)
        })
        .map(drop)
    }
}

/// Definitions that are templates of a chart, though of labels alone.
fn of_a_chart(folder: &Path) -> Result<String> {
    let mut all = String::new();
    let mut files = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    ensure!(!files.is_empty(), "no definitions in {}", folder.display());
    for file in files {
        all += "---\n";
        for line in read(&file)?
            .lines()
            .filter(|line| !line.contains("{{") && *line != "  labels:")
        {
            all += line;
            all += "\n";
        }
    }
    Ok(all)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))
}
