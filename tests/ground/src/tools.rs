//! The real servers, built through the Go module proxy: each has a `go.mod` of its own under `modules/`, with the `replace` lines that its
//! makers use (they are not inherited), so that `go.sum` says exactly what is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::{Cache, Key};
use crate::host;

/// A release of KServe that the ground can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum Kserve {
    /// The newest supported.
    #[value(name = "v0.20.0")]
    #[serde(rename = "v0.20.0")]
    V0_20,
    /// The oldest supported.
    #[value(name = "v0.15.2")]
    #[serde(rename = "v0.15.2")]
    V0_15,
}

impl Kserve {
    /// The releases that tests run with, the newest first.
    pub const ALL: [Self; 2] = [Self::V0_20, Self::V0_15];

    /// As the Go module and KServe's `install` folder have it: `v0.20.0`.
    pub fn version(self) -> &'static str {
        match self {
            Self::V0_20 => "v0.20.0",
            Self::V0_15 => "v0.15.2",
        }
    }

    /// What this release calls the deployment mode without Knative.
    pub fn standard_mode(self) -> &'static str {
        match self {
            Self::V0_20 => "Standard",
            Self::V0_15 => "RawDeployment",
        }
    }
}

/// One `go.mod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// API server, controller manager, scheduler, kubelet and kubectl.
    Kubernetes,
    /// The API server's store.
    Etcd,
    /// containerd, its shim for runc and ctr.
    Containerd,
    /// The S3 store.
    Minio,
    /// Its client.
    Mc,
    /// Google Cloud Storage, as far as its makers rebuilt it.
    FakeGcs,
    /// KServe's manager.
    Kserve(Kserve),
    /// Knative Serving, and Kourier, which leads requests to it.
    Knative,
    /// What KServe's manager runs for an `InferenceGraph`.
    KserveRouter,
    /// A gRPC client.
    Grpcurl,
    /// Helm.
    Helm,
    /// What evaluates Prometheus' rules.
    Prometheus,
    /// cert-manager's controller, and its cainjector.
    CertManager,
    /// The definitions of other projects' kinds. Nothing is built from it.
    Definitions,
    /// What puts network policies in force.
    KubeRouter,
    /// The registry.
    Distribution,
    /// What signs what is in registries.
    Cosign,
    /// Who certifies signers, logs what they sign, and says when it was.
    Sigstore,
}

/// A program's name and the Go package that it is built from.
pub(crate) type Program = (&'static str, &'static str);

impl Module {
    fn folder(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Etcd => "etcd",
            Self::Containerd => "containerd",
            Self::Minio => "minio",
            Self::Mc => "mc",
            Self::FakeGcs => "fake-gcs-server",
            Self::Kserve(Kserve::V0_20) => "kserve-v0.20.0",
            Self::Kserve(Kserve::V0_15) => "kserve-v0.15.2",
            Self::Knative => "knative",
            Self::KserveRouter => "kserve-router",
            Self::Grpcurl => "grpcurl",
            Self::Helm => "helm",
            Self::Prometheus => "prometheus",
            Self::CertManager => "cert-manager",
            Self::Definitions => "definitions",
            Self::KubeRouter => "kube-router",
            Self::Distribution => "distribution",
            Self::Cosign => "cosign",
            Self::Sigstore => "sigstore",
        }
    }

    pub(crate) fn programs(self) -> &'static [Program] {
        match self {
            Self::Kubernetes => &[
                ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
                (
                    "kube-controller-manager",
                    "k8s.io/kubernetes/cmd/kube-controller-manager",
                ),
                ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
                ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
                ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ],
            Self::Etcd => &[("etcd", "go.etcd.io/etcd/server/v3")],
            Self::Containerd => &[
                ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
                (
                    "containerd-shim-runc-v2",
                    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                ),
                ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
            ],
            Self::Minio => &[("minio", "github.com/minio/minio")],
            Self::Mc => &[("mc", "github.com/minio/mc")],
            Self::FakeGcs => &[("fake-gcs-server", "github.com/fsouza/fake-gcs-server")],
            Self::Kserve(_) => &[("kserve-manager", "github.com/kserve/kserve/cmd/manager")],
            Self::Knative => &[
                ("activator", "knative.dev/serving/cmd/activator"),
                ("autoscaler", "knative.dev/serving/cmd/autoscaler"),
                ("controller", "knative.dev/serving/cmd/controller"),
                ("queue", "knative.dev/serving/cmd/queue"),
                ("webhook", "knative.dev/serving/cmd/webhook"),
                ("kourier", "knative.dev/net-kourier/cmd/kourier"),
            ],
            Self::KserveRouter => &[("router", "github.com/kserve/kserve/cmd/router")],
            Self::Grpcurl => &[("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl")],
            Self::Helm => &[("helm", "helm.sh/helm/v4/cmd/helm")],
            Self::Prometheus => &[("promtool", "github.com/prometheus/prometheus/cmd/promtool")],
            Self::CertManager => &[
                (
                    "cert-manager-controller",
                    "github.com/cert-manager/cert-manager/cmd/controller",
                ),
                (
                    "cert-manager-cainjector",
                    "github.com/cert-manager/cert-manager/cmd/cainjector",
                ),
            ],
            Self::Definitions => &[],
            Self::KubeRouter => &[(
                "kube-router",
                "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
            )],
            Self::Distribution => &[("registry", "github.com/distribution/distribution/v3/cmd/registry")],
            Self::Cosign => &[("cosign", "github.com/sigstore/cosign/v3/cmd/cosign")],
            Self::Sigstore => &[
                ("fulcio", "github.com/sigstore/fulcio"),
                ("rekor", "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix"),
                (
                    "timestamp-server",
                    "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server",
                ),
            ],
        }
    }

    fn source(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("modules")
            .join(self.folder())
    }

    /// Builds the module's programs, unless the cache has them, and says in which folder they are.
    pub fn build(self, cache: &Cache) -> Result<PathBuf> {
        let source = self.source();
        let read = |name: &str| {
            fs::read_to_string(source.join(name)).with_context(|| format!("can't read {name} of {}", self.folder()))
        };
        let (gomod, gosum) = (read("go.mod")?, read("go.sum")?);
        let linker = self.linker_flags(&gomod)?;
        let go = host::output(Command::new("go").args(["env", "GOVERSION", "GOOS", "GOARCH"]))?;
        let key = Key::new()
            .with(&gomod)
            .with(&gosum)
            .with(format!("{linker}{}", self.tags()))
            .with(go);
        cache.entry("bin", self.folder(), &key, |folder| {
            let work = tempfile::tempdir()?;
            fs::write(work.path().join("go.mod"), &gomod)?;
            fs::write(work.path().join("go.sum"), &gosum)?;
            for (name, package) in self.programs() {
                host::run(
                    Command::new("go")
                        .current_dir(work.path())
                        .env("GOWORK", "off")
                        .env("GOFLAGS", "-mod=readonly")
                        .args(["build", "-ldflags", &linker, "-tags", self.tags(), "-o"])
                        .arg(folder.join(name))
                        .arg(package),
                )?;
            }
            Ok(())
        })
    }

    /// Build tags, separated by commas.
    fn tags(self) -> &'static str {
        match self {
            // Without the clients of all clouds, which rules have no use for.
            Self::Prometheus => "remove_all_sd",
            _ => "",
        }
    }

    /// Kubernetes' programs report the version that they were linked with; clients and KServe's manager ask for it.
    fn linker_flags(self, gomod: &str) -> Result<String> {
        if self != Self::Kubernetes {
            return Ok("-s -w".to_owned());
        }
        let version = required(gomod, "k8s.io/kubernetes")?;
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = parts
            .next()
            .zip(parts.next())
            .context("the version of Kubernetes has no minor")?;
        let set = "-X k8s.io/component-base/version";
        Ok(format!(
            "-s -w {set}.gitVersion={version} {set}.gitMajor={major} {set}.gitMinor={minor}"
        ))
    }

    /// The unpacked source of the module's main requirement, in Go's module cache.
    pub fn unpacked(self, path: &str) -> Result<PathBuf> {
        let version = required(&fs::read_to_string(self.source().join("go.mod"))?, path)?;
        let said = host::output(
            Command::new("go")
                .args(["mod", "download", "-json", &format!("{path}@{version}")])
                .current_dir(self.source()),
        )?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let folder = PathBuf::from(said["Dir"].as_str().context("`go mod download` names no folder")?);
        ensure!(folder.is_dir(), "Go's module cache lacks {}", folder.display());
        Ok(folder)
    }
}

/// The version that a `go.mod` requires of a module.
fn required(gomod: &str, module: &str) -> Result<String> {
    gomod
        .lines()
        .filter(|line| !line.contains("=>"))
        .find_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split_whitespace();
            (words.next() == Some(module))
                .then(|| words.next().map(str::to_owned))
                .flatten()
        })
        .with_context(|| format!("go.mod requires no {module}"))
}

/// Every module that a run needs.
pub fn needed(node: bool, kserve: Kserve) -> Vec<Module> {
    let mut modules = vec![
        Module::Kubernetes,
        Module::Etcd,
        Module::Minio,
        Module::Kserve(kserve),
        Module::Grpcurl,
        Module::Helm,
    ];
    if node {
        modules.push(Module::Containerd);
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_found_in_a_block_and_alone() {
        let gomod = "module a\n\nrequire k8s.io/kubernetes v1.36.3\n\nrequire (\n\tk8s.io/api v0.36.3 // indirect\n)\nreplace (\n\tk8s.io/api => k8s.io/api v0.0.1\n)\n";
        assert_eq!(required(gomod, "k8s.io/kubernetes").expect("found"), "v1.36.3");
        assert_eq!(required(gomod, "k8s.io/api").expect("found"), "v0.36.3");
        assert!(required(gomod, "k8s.io/none").is_err());
    }

    #[test]
    fn every_module_has_its_files_and_tools() {
        for module in [
            Module::Kubernetes,
            Module::Etcd,
            Module::Minio,
            Module::Mc,
            Module::FakeGcs,
            Module::Containerd,
            Module::Knative,
            Module::KserveRouter,
            Module::Grpcurl,
            Module::Helm,
            Module::Prometheus,
            Module::CertManager,
            Module::Definitions,
            Module::KubeRouter,
            Module::Distribution,
            Module::Cosign,
            Module::Sigstore,
            Module::Kserve(Kserve::V0_20),
            Module::Kserve(Kserve::V0_15),
        ] {
            let gomod = fs::read_to_string(module.source().join("go.mod")).expect("go.mod");
            for (_, package) in module.programs() {
                assert!(gomod.contains(package), "{module:?} lacks the tool {package}");
            }
            assert!(module.source().join("go.sum").is_file());
        }
    }
}
