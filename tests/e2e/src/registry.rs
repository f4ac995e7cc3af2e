//! The real registry (distribution), for a process of a test's own.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewaiter_ground::tls::{Authority, base64};
use tidewaiter_ground::{Cluster, HOST};
use tidewaiter_registry::{About, Pushed, Registry, nobody};
use tokio::runtime::Runtime;

use crate::install::NAMESPACE;

/// Who opens a registry that is shut.
pub const USER: &str = "tide";
/// By which password.
pub const PASSWORD: &str = "water";
/// Tells a process inside of the ground, where nothing can be built, where the program is.
pub const PROGRAM: &str = "TIDEWAITER_REGISTRY";

/// [`USER`] and [`PASSWORD`], as `htpasswd -B` writes them.
const HTPASSWD: &str = "tide:$2b$05$5o1iLa6McBFAlEFBjyN5M.kkWwen0t0UHFn.wNXC6TqO7Yu3RB1bq\n";

/// Writes its configuration into a folder, where its data will be too, and says where: `registry serve FILE`.
pub fn configure(folder: &Path, address: &str, shut: bool) -> Result<PathBuf> {
    let passwords = folder.join("htpasswd");
    fs::create_dir_all(folder)?;
    fs::write(&passwords, HTPASSWD)?;
    let auth = if shut {
        format!("auth: {{htpasswd: {{realm: tide, path: {}}}}}\n", passwords.display())
    } else {
        String::new()
    };
    let config = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{auth}",
        folder.join("data").display(),
    );
    let file = folder.join("config.yaml");
    fs::write(&file, config)?;
    Ok(file)
}

/// A registry's process in a cluster's ground. Ended when dropped.
#[derive(Debug)]
pub struct Shop<'c> {
    cluster: &'c Cluster,
    name: &'static str,
    address: String,
    by_tls: bool,
}

impl<'c> Shop<'c> {
    /// One that listens at this address; `shut` where only [`USER`] comes in.
    pub fn open(cluster: &'c Cluster, name: &'static str, address: &str, shut: bool) -> Result<Self> {
        let shop = Self {
            cluster,
            name,
            address: address.to_owned(),
            by_tls: false,
        };
        configure(&shop.folder(), address, shut)?;
        shop.start()?;
        Ok(shop)
    }

    /// One of a private authority at a port of [`HOST`]'s, where Pods reach it; `shut` where only [`USER`] comes in.
    pub fn private(
        cluster: &'c Cluster,
        name: &'static str,
        port: u16,
        authority: &Authority,
        shut: bool,
    ) -> Result<Self> {
        let shop = Self {
            cluster,
            name,
            address: format!("{HOST}:{port}"),
            by_tls: true,
        };
        configure(&shop.folder(), &shop.address, shut)?;
        let pair = authority.issue(&[HOST])?;
        fs::write(shop.folder().join("tls.crt"), pair.certificate)?;
        fs::write(shop.folder().join("tls.key"), pair.key)?;
        shop.start()?;
        Ok(shop)
    }

    /// Starts it again, with what it had.
    pub fn start(&self) -> Result<()> {
        let program = std::env::var_os(PROGRAM).context("nobody says where the registry is")?;
        let mut command = Command::new(program);
        command.arg("serve").arg(self.folder().join("config.yaml"));
        if self.by_tls {
            command
                .env("REGISTRY_HTTP_TLS_CERTIFICATE", self.folder().join("tls.crt"))
                .env("REGISTRY_HTTP_TLS_KEY", self.folder().join("tls.key"));
        }
        let processes = self.cluster.processes();
        processes.start(self.name, &mut command)?;
        let answers = || TcpStream::connect(&self.address).is_ok();
        processes.wait("a registry that answers", Duration::from_mins(1), answers)
    }

    /// Nobody answers at its address from now on.
    pub fn stop(&self) -> Result<()> {
        self.cluster.processes().stop(self.name)
    }

    /// Its host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The file with its users. A registry that is shut reads it again when it has changed.
    pub fn passwords(&self) -> PathBuf {
        self.folder().join("htpasswd")
    }

    fn folder(&self) -> PathBuf {
        self.cluster.folder().join(self.name)
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("the registry may still run: {error:#}");
        }
    }
}

/// A Secret that opens a registry for [`USER`], in Tidewaiter's namespace. Deleted when dropped.
#[derive(Debug)]
pub struct PullSecret<'c> {
    cluster: &'c Cluster,
    name: &'static str,
    address: String,
}

impl<'c> PullSecret<'c> {
    /// Makes one of this name, for the registry at this address.
    pub fn apply(cluster: &'c Cluster, name: &'static str, address: &str, password: &str) -> Result<Self> {
        let secret = Self {
            cluster,
            name,
            address: address.to_owned(),
        };
        secret.change(password)?;
        Ok(secret)
    }

    /// Has it hold another password.
    pub fn change(&self, password: &str) -> Result<()> {
        let auths = json!({"auths": {&self.address: {"auth": base64(format!("{USER}:{password}").as_bytes())}}});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"namespace": NAMESPACE, "name": self.name},
            "stringData": {".dockerconfigjson": auths.to_string()},
        });
        let said = self
            .cluster
            .try_kubectl(&["apply", "--server-side", "-f", "-"], &secret.to_string())?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(())
    }
}

impl Drop for PullSecret<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", "secret", self.name, "-n", NAMESPACE]);
    }
}

/// Pushes a component, or what is to be taken for one.
pub fn push(runtime: &Runtime, registry: &Registry, image: &str, component: Vec<u8>) -> Result<Pushed> {
    let about = About {
        created: "2026-01-01T00:00:00Z".into(),
        author: None,
        annotations: BTreeMap::new(),
    };
    Ok(runtime.block_on(registry.push(&image.parse()?, component.into(), &about, &nobody))?)
}
