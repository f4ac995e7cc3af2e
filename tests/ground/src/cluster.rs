//! A running cluster, and what tests do with it.
//!
//! Everything goes through the real kubectl: what a test sees (warnings, refusals, exit codes) is what a person sees.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::Api;
use crate::cache::Cache;
use crate::processes::Processes;
use crate::tools::{Kserve, Module};
use crate::{control_plane, host, kserve, node, progress};

/// What to bring up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether Pods run. Needs root.
    pub node: bool,
    /// The release of KServe.
    pub kserve: Kserve,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: true,
            kserve: Kserve::V0_20,
        }
    }
}

/// A handle on a cluster in the network namespace that this process is in.
#[derive(Debug, Clone)]
pub struct Cluster {
    cache: Cache,
    folder: PathBuf,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    options: Options,
    // Those that this process started; a cluster that was found running has none.
    processes: Arc<Processes>,
}

const READY: &str = "cluster.json";

impl Cluster {
    /// Builds what the cache lacks, outside of any namespace (Go and pip need the network).
    pub fn prepare(cache: &Cache, options: Options) -> Result<()> {
        host::require(options.node)?;
        for module in crate::tools::needed(options.node, options.kserve) {
            module.build(cache)?;
        }
        Module::Kserve(options.kserve).unpacked("github.com/kserve/kserve")?;
        if options.node {
            crate::images::store(cache)?;
        }
        Ok(())
    }

    /// Starts a cluster in the namespaces that this process is in, whose run folder is `folder`.
    pub fn start(cache: &Cache, folder: &Path, options: Options) -> Result<Self> {
        control_plane::network(options.node)?;
        let processes = Processes::new(&folder.join("logs"))?;
        progress::say("starting etcd, API server, controllers, MinIO");
        control_plane::minio(cache, folder, &processes)?;
        let kubeconfig = control_plane::start(cache, folder, &processes, options.node)?;
        let kubectl = Module::Kubernetes.build(cache)?.join("kubectl");
        let cluster = Self {
            cache: cache.clone(),
            folder: folder.to_owned(),
            kubeconfig,
            kubectl,
            options,
            processes: Arc::new(processes),
        };
        let kubectl = || cluster.kubectl_command();
        progress::say(&format!("installing KServe {}", options.kserve.version()));
        std::thread::scope(|scope| -> Result<()> {
            let node = options
                .node
                .then(|| scope.spawn(|| node::start(cache, folder, &kubectl, &cluster.kubeconfig, &cluster.processes)));
            kserve::start(
                cache,
                folder,
                &kubectl,
                &cluster.kubeconfig,
                &cluster.processes,
                options.kserve,
            )?;
            match node.map(std::thread::ScopedJoinHandle::join) {
                Some(Err(_)) => bail!("the thread that starts the node panicked"),
                Some(Ok(done)) => done,
                None => Ok(()),
            }
        })?;
        fs::write(folder.join(READY), serde_json::to_vec(&options)?)?;
        progress::say("the cluster is ready");
        Ok(cluster)
    }

    /// The cluster that somebody started in these namespaces.
    pub fn attach(cache: &Cache, folder: &Path) -> Result<Self> {
        let options =
            fs::read(folder.join(READY)).with_context(|| format!("the cluster in {} isn't ready", folder.display()))?;
        Ok(Self {
            cache: cache.clone(),
            folder: folder.to_owned(),
            kubeconfig: folder.join("kubeconfig"),
            kubectl: Module::Kubernetes.build(cache)?.join("kubectl"),
            options: serde_json::from_slice(&options)?,
            processes: Arc::new(Processes::new(&folder.join("logs"))?),
        })
    }

    /// Whether a cluster in this folder has been brought up to its end.
    pub fn is_ready(folder: &Path) -> bool {
        folder.join(READY).exists()
    }

    /// What this cluster is.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The cache that the cluster's programs come from.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The run's folder: state, logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig of a ServiceAccount, valid for a day.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", account, "-n", namespace, "--duration=24h"])?;
        let file = self.folder.join(format!("kubeconfig-{namespace}-{account}"));
        fs::write(&file, control_plane::kubeconfig_text(&self.folder, token.trim())?)?;
        Ok(file)
    }

    /// What was asked of the API server by `ServiceAccount`s, a JSON object a line (`audit.k8s.io/v1`, without bodies).
    pub fn audit_log(&self) -> PathBuf {
        control_plane::audit_log(&self.folder)
    }

    /// A client for many requests.
    pub fn api(&self) -> Result<Api> {
        let authority = control_plane::authority(&self.folder)?;
        Api::new(control_plane::API_SERVER, &authority, control_plane::ADMIN)
    }

    /// Has more of KServe's kinds served than the cluster starts with: `serve("localmodelcaches.serving.kserve.io")`. No controller of theirs runs.
    pub fn serve(&self, definition: &str) -> Result<()> {
        let text = kserve::definition(self.options.kserve, definition)?;
        let said = self.try_kubectl(&["apply", "--server-side", "-f", "-"], &text)?;
        ensure!(said.ok, "{}", said.stderr);
        let crd = format!("crd/{definition}");
        self.until(&format!("{definition} is served"), Duration::from_secs(30), || {
            self.kubectl(&["wait", "--for=condition=Established", &crd]).map(Some)
        })
        .map(drop)
    }

    /// The servers that this handle started, and where new ones are started.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// The real kubectl, as the administrator.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// kubectl with these arguments and this standard input, whatever comes of it.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<Said> {
        let mut command = self.kubectl_command();
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("can't start kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no standard input")?;
        let input = input.to_owned();
        // It may end before it has read everything.
        let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, input.as_bytes())));
        let said = Said::from(child.wait_with_output()?);
        let _ = writer.join();
        Ok(said)
    }

    /// kubectl with these arguments: what it wrote to standard output.
    ///
    /// # Errors
    /// With what it wrote to standard error, where it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let said = self.try_kubectl(arguments, "")?;
        if !said.ok {
            bail!("kubectl {}: {}", arguments.join(" "), said.stderr.trim());
        }
        Ok(said.stdout)
    }

    /// An object as the API server has it now: `get("default", "isvc/fraud")`.
    pub fn get(&self, namespace: &str, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.kubectl(&["get", "-n", namespace, what, "-o", "json"])?,
        )?)
    }

    /// What a container of a Pod wrote, a text for each of its starts that the node still has the log of, the last start's at the end. From the node's
    /// files, which keep more starts than the API server tells of.
    pub fn logs(&self, pod: &Value, container: &str) -> Result<Vec<String>> {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let folder = format!("{}_{}_{}", text("namespace"), text("name"), text("uid"));
        let Ok(starts) = fs::read_dir(node::pod_logs(&self.folder).join(folder).join(container)) else {
            return Ok(Vec::new());
        };
        let mut starts: Vec<_> = starts.filter_map(|start| Some(start.ok()?.path())).collect();
        starts.sort_by_key(|start| fs::metadata(start).and_then(|start| start.modified()).ok());
        let texts = starts
            .iter()
            .map(|start| Ok(String::from_utf8_lossy(&fs::read(start)?).into_owned()));
        texts.collect()
    }

    /// Waits until `ask` has something to say.
    ///
    /// # Errors
    /// Where the time is over or a server of the cluster has ended; with `ask`'s last error.
    pub fn until<T>(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let start = std::time::Instant::now();
        loop {
            self.processes.check()?;
            let answer = ask();
            if let Ok(Some(value)) = answer {
                return Ok(value);
            }
            if start.elapsed() > limit {
                let last = answer
                    .err()
                    .map(|error| format!("; at last: {error:#}"))
                    .unwrap_or_default();
                bail!("{what} did not happen within {} s{last}", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Makes a namespace that nothing else uses.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        self.namespace_with(name, &json!({}))
    }

    /// Makes a namespace that nothing else uses, with labels from its first moment on.
    pub fn namespace_with(&self, name: &str, labels: &Value) -> Result<Namespace> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", std::process::id());
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let said = self.try_kubectl(&["create", "-f", "-"], &object.to_string())?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(Namespace::new(self.clone(), name))
    }
}

pub use crate::namespace::Namespace;

/// What a command wrote.
#[derive(Debug, Clone)]
pub struct Said {
    /// Whether it ended well.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// The API server's warnings, as kubectl shows them.
    pub fn warnings(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter_map(|line| line.strip_prefix("Warning: "))
            .collect()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
