//! Images for the node, without a registry: Debian by debootstrap from the machine's own mirror, Python packages at locked versions.
//!
//! Each image has a layer for Debian, one for each set of packages and one for its own files, so that images share what they have in common. containerd unpacks them once into a store that the cache keeps; a run's
//! own store is made of hard links to that one, which takes a second instead of a minute. (Layers and blobs are never written to; the
//! databases, which are, are copied.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cache::{Cache, Key};
use crate::processes::Processes;
use crate::tools::{Kserve, Module};
use crate::{host, node, progress, python};

/// An image that the ground makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// What holds a Pod's namespaces.
    Pause,
    /// KServe's storage initializer.
    StorageInitializer,
    /// MLServer with its MLflow, scikit-learn, XGBoost and LightGBM runtimes.
    MlServer(&'static str),
    /// What an admin makes where a model needs a newer XGBoost: MLServer 1.7.1 with it on top.
    MlServerWithXgboost3_2,
    /// A server of KServe's own, with the packages of KServe's lock file but for the clients of stores, which a server of local files never loads.
    Kserve(&'static str),
}

/// The images that a node starts with.
pub const IMAGES: [Image; 7] = [
    Image::Pause,
    Image::StorageInitializer,
    Image::MlServer("1.7.1"),
    Image::MlServer("1.5.0"),
    Image::MlServerWithXgboost3_2,
    Image::Kserve("sklearnserver"),
    Image::Kserve("xgbserver"),
];

/// The repository of [`Image::MlServerWithXgboost3_2`], an admin's own.
pub const XGBOOST_3_2: &str = "docker.io/house/mlserver";

/// The name of the image that a Pod's sandbox runs.
pub const PAUSE: &str = "docker.io/tidewaiter/pause:1";

/// MLServer's own command, as its images have it.
const MLSERVER: &str = "#!/usr/bin/python3\nimport sys\nfrom mlserver.cli import main\nif __name__ == \"__main__\":\n    sys.exit(main())\n";

impl Image {
    fn names(self) -> Vec<String> {
        match self {
            Self::Pause => vec![PAUSE.to_owned()],
            // Both supported releases of KServe are served by the newest initializer: what is tested is what reaches it.
            Self::StorageInitializer => [Kserve::V0_20, Kserve::V0_15]
                .map(|release| format!("docker.io/kserve/storage-initializer:{}", release.version()))
                .to_vec(),
            Self::MlServer(version) => vec![format!("docker.io/seldonio/mlserver:{version}")],
            Self::MlServerWithXgboost3_2 => vec![format!("{XGBOOST_3_2}:2026-1")],
            Self::Kserve(server) => vec![format!("docker.io/kserve/{server}:{}", Kserve::V0_20.version())],
        }
    }

    /// The lock files of its Python packages, a layer each: the last on top.
    fn locks(self) -> Vec<String> {
        match self {
            Self::Pause => Vec::new(),
            Self::StorageInitializer => vec!["storage-initializer-0.20.0".to_owned()],
            Self::MlServer(version) => vec![format!("mlserver-{version}")],
            Self::MlServerWithXgboost3_2 => vec!["mlserver-1.7.1".to_owned(), "xgboost-3.2.0".to_owned()],
            Self::Kserve(server) => vec!["kserve-server-0.20.0".to_owned(), format!("{server}-0.20.0")],
        }
    }

    fn entrypoint(self) -> Vec<&'static str> {
        match self {
            Self::Pause => vec!["/bin/busybox", "sleep", "2147483647"],
            Self::StorageInitializer => vec!["/usr/bin/python3", "/usr/local/bin/entry"],
            Self::MlServer(_) | Self::MlServerWithXgboost3_2 => {
                vec!["/usr/bin/python3", "/usr/local/bin/entry", "start", "/mnt/models"]
            }
            Self::Kserve(server) => vec!["/usr/bin/python3", "-m", server],
        }
    }

    /// Its own files, each with its path from the root.
    fn files(self) -> Result<Vec<(String, String)>> {
        let entry = |script: String| vec![("usr/local/bin/entry".to_owned(), script)];
        match self {
            Self::Pause => Ok(Vec::new()),
            Self::MlServer(_) | Self::MlServerWithXgboost3_2 => Ok(entry(MLSERVER.to_owned())),
            Self::StorageInitializer => {
                let script = kserve_python()?.join("storage-initializer/scripts/initializer-entrypoint");
                Ok(entry(fs::read_to_string(script)?))
            }
            Self::Kserve(server) => {
                let mut files = Vec::new();
                for file in fs::read_dir(kserve_python()?.join(server).join(server))? {
                    let file = file?.path();
                    let name = file.file_name().unwrap_or_default().display().to_string();
                    if file.extension().is_some_and(|extension| extension == "py") && !name.starts_with("test_") {
                        files.push((format!("opt/server/{server}/{name}"), fs::read_to_string(&file)?));
                    }
                }
                files.sort();
                Ok(files)
            }
        }
    }

    fn user(self) -> &'static str {
        if self == Self::Pause { "" } else { "1000" }
    }

    fn settings(self) -> Settings {
        Settings {
            names: self.names(),
            environment: self.environment(),
            user: self.user(),
            entrypoint: self.entrypoint().into_iter().map(str::to_owned).collect(),
            folder: if self == Self::Pause { "/" } else { "/tmp" },
        }
    }

    fn environment(self) -> Vec<&'static str> {
        let mut environment = vec!["PATH=/usr/local/bin:/usr/bin:/bin"];
        if self != Self::Pause {
            environment.extend(["PYTHONPATH=/opt/site:/opt/server", "HOME=/tmp"]);
        }
        if let Self::MlServer(_) | Self::MlServerWithXgboost3_2 = self {
            // One process: a second one imports everything again, on two cores.
            environment.push("MLSERVER_PARALLEL_WORKERS=0");
        }
        environment
    }
}

/// KServe's Python sources, in the Go module that its manager is built from.
fn kserve_python() -> Result<PathBuf> {
    Ok(Module::Kserve(Kserve::V0_20)
        .unpacked("github.com/kserve/kserve")?
        .join("python"))
}

/// Puts the images' store where a run's containerd will look for it.
pub fn lay_out(cache: &Cache, root: &Path) -> Result<()> {
    let store = store(cache)?;
    let (from, to) = (store.join("root"), root);
    host::run(Command::new("cp").args(["--archive", "--link"]).arg(&from).arg(to))?;
    let databases = host::output(
        Command::new("find")
            .arg(&from)
            .args(["-name", "*.db", "-printf", "%P\\n"]),
    )?;
    for database in databases.lines() {
        host::run(
            Command::new("cp")
                .args(["--remove-destination", "--preserve=mode,ownership"])
                .arg(from.join(database))
                .arg(to.join(database)),
        )?;
    }
    Ok(())
}

/// A containerd store that has every image unpacked. Built where the cache has none.
pub fn store(cache: &Cache) -> Result<PathBuf> {
    let containerd = Module::Containerd.build(cache)?;
    let parts = IMAGES
        .iter()
        .map(|&image| Parts::of(cache, image))
        .collect::<Result<Vec<_>>>()?;
    let key = parts.iter().fold(
        Key::new().with(containerd.as_os_str().as_encoded_bytes()),
        |key, parts| parts.add_to(key),
    );
    cache.entry("images", "store", &key, |folder| {
        // Not in the cache: a socket's path may be only 107 bytes long.
        let state = tempfile::tempdir()?;
        let processes = Processes::new(state.path())?;
        let config = node::write_containerd_config(state.path(), &folder.join("root"), state.path())?;
        processes.start(
            "containerd",
            Command::new(containerd.join("containerd")).arg("--config").arg(config),
        )?;
        let ctr = || node::ctr(&containerd, state.path());
        processes.wait("a containerd that answers", Duration::from_secs(30), || {
            host::run(ctr().arg("version")).is_ok()
        })?;
        for parts in &parts {
            progress::say(&format!("making the image {}", parts.image.names()[0]));
            let work = tempfile::tempdir_in(folder)?;
            let archive = parts.archive(work.path())?;
            host::run(ctr().args(["image", "import"]).arg(archive))?;
        }
        processes.stop("containerd")
    })
}

/// What an image is made of.
struct Parts {
    image: Image,
    base: PathBuf,
    sites: Vec<PathBuf>,
    files: Vec<(String, String)>,
}

impl Parts {
    fn of(cache: &Cache, image: Image) -> Result<Self> {
        let base = if image == Image::Pause {
            pause(cache)?
        } else {
            debian(cache)?
        };
        let locks = image.locks();
        let sites = locks.iter().map(|lock| python::site(cache, lock));
        Ok(Self {
            image,
            base,
            sites: sites.collect::<Result<_>>()?,
            files: image.files()?,
        })
    }

    /// Names of cache entries carry the keys of what is in them.
    fn add_to(&self, key: Key) -> Key {
        let image = self.image;
        let key = key
            .with(image.names().join(" "))
            .with(image.environment().join(" "))
            .with(image.entrypoint().join(" "))
            .with(self.base.as_os_str().as_encoded_bytes());
        let key = self
            .files
            .iter()
            .fold(key, |key, (path, text)| key.with(path).with(text));
        self.sites
            .iter()
            .fold(key, |key, site| key.with(site.as_os_str().as_encoded_bytes()))
    }

    fn archive(&self, work: &Path) -> Result<PathBuf> {
        let mut layers = vec![self.base.join("layer.tar")];
        for (index, site) in self.sites.iter().enumerate() {
            layers.push(packages(&work.join(format!("packages-{index}.tar")), site)?);
        }
        if !self.files.is_empty() {
            layers.push(own_files(&work.join("own.tar"), &self.files)?);
        }
        write_archive(work, &self.image.settings(), &layers)
    }
}

/// An image with one program of the machine's own, the shared libraries that it is linked with, and a folder's files in the folder that is named, for a user
/// without rights. Not in the cache: such
/// a program changes with each build.
pub(crate) fn of_program(work: &Path, name: &str, program: &Path, beside: Option<(&Path, &str)>) -> Result<PathBuf> {
    let file = program.file_name().context("a program has a name")?;
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    fs::copy(program, root.join(file)).with_context(|| format!("can't read {}", program.display()))?;
    for library in libraries(program)? {
        let place = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(place.parent().unwrap_or(&root))?;
        fs::copy(&library, &place).with_context(|| format!("can't read {}", library.display()))?;
    }
    if let Some((files, place)) = beside {
        let place = root.join(place);
        fs::create_dir_all(&place)?;
        host::run(Command::new("cp").arg("-r").arg(files.join(".")).arg(&place))?;
    }
    // Tar keeps what is allowed: nobody but root may write.
    host::run(Command::new("chmod").args(["-R", "go-w,a+rX"]).arg(&root))?;
    let layer = work.join("program.tar");
    host::run(tar(&layer).arg("-C").arg(&root).arg("."))?;
    let settings = Settings {
        names: vec![name.to_owned()],
        environment: Vec::new(),
        user: "65532",
        entrypoint: vec![format!("/{}", file.display())],
        folder: "/",
    };
    write_archive(work, &settings, &[layer])
}

/// What the dynamic linker would load for a program, the linker too. Nothing for one that is linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let said = Command::new("ldd").arg(program).output().context("can't run ldd")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    if let Some(line) = said.lines().find(|line| line.contains("not found")) {
        anyhow::bail!("{} can't run on this machine: {}", program.display(), line.trim());
    }
    // `name => /file (address)`, and the linker itself as `/file (address)`.
    let files = said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(files.map(PathBuf::from).collect())
}

/// `/bin/busybox` alone.
fn pause(cache: &Cache) -> Result<PathBuf> {
    let busybox = fs::read("/bin/busybox")?;
    cache.entry("images", "busybox-layer", &Key::new().with(&busybox), |folder| {
        let root = tempfile::tempdir()?;
        fs::create_dir(root.path().join("bin"))?;
        fs::copy("/bin/busybox", root.path().join("bin/busybox"))?;
        host::run(tar(&folder.join("layer.tar")).arg("-C").arg(root.path()).arg("bin"))
    })
}

/// Debian with Python.
fn debian(cache: &Cache) -> Result<PathBuf> {
    let (mirror, _) = host::debian_mirror()?;
    let packages = "python3,libgomp1,ca-certificates";
    cache.entry(
        "images",
        "debian-layer",
        &Key::new().with("bookworm").with(packages),
        |folder| {
            let root = folder.join("root");
            // Debian 12 whatever the machine runs: its Python has the minor that packages are installed for.
            host::run(
                Command::new("debootstrap")
                    .args(["--variant=minbase", "--include", packages, "bookworm"])
                    .arg(&root)
                    .arg(&mirror),
            )?;
            let mut pack = tar(&folder.join("layer.tar"));
            for place in [
                "usr/share/doc",
                "usr/share/locale",
                "usr/share/man",
                "var/lib/apt/lists",
                "var/cache/apt",
                "dev",
                "proc",
                "sys",
            ] {
                pack.arg(format!("--exclude=./{place}/*"));
            }
            host::run(pack.arg("-C").arg(&root).arg("."))?;
            Ok(fs::remove_dir_all(root)?)
        },
    )
}

/// A layer with packages, in `/opt/site`.
fn packages(layer: &Path, site: &Path) -> Result<PathBuf> {
    host::run(
        tar(layer)
            .args(["--transform", "flags=r;s,^\\./,opt/site/,"])
            .arg("-C")
            .arg(site)
            .args(["--exclude=./bin", "."]),
    )?;
    Ok(layer.to_owned())
}

/// The layer with what only this image has.
fn own_files(layer: &Path, files: &[(String, String)]) -> Result<PathBuf> {
    let root = tempfile::tempdir()?;
    for (path, text) in files {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap_or(root.path()))?;
        fs::write(&file, text)?;
    }
    // The container's user is another than the one that makes the image.
    host::run(Command::new("chmod").args(["-R", "a+rX"]).arg(root.path()))?;
    let places: BTreeSet<_> = files.iter().filter_map(|(path, _)| path.split('/').next()).collect();
    host::run(tar(layer).arg("-C").arg(root.path()).args(places))?;
    Ok(layer.to_owned())
}

fn tar(file: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--numeric-owner",
        "--owner=0",
        "--group=0",
        "--file",
    ])
    .arg(file);
    tar
}

/// What an image says of itself.
struct Settings {
    names: Vec<String>,
    environment: Vec<&'static str>,
    user: &'static str,
    entrypoint: Vec<String>,
    folder: &'static str,
}

/// The form that `docker save` writes: a manifest, a configuration, the layers as they are.
fn write_archive(work: &Path, image: &Settings, layers: &[PathBuf]) -> Result<PathBuf> {
    let mut digests = Vec::new();
    let mut files = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        digests.push(format!("sha256:{}", sha256(layer)?));
        let file = format!("layer-{index}.tar");
        fs::hard_link(layer, work.join(&file))?;
        files.push(file);
    }
    let config = json!({
        "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {
            "Env": image.environment,
            "User": image.user,
            "Entrypoint": image.entrypoint,
            "WorkingDir": image.folder,
        },
        "rootfs": {"type": "layers", "diff_ids": digests},
    });
    fs::write(work.join("config.json"), serde_json::to_vec(&config)?)?;
    let manifest = json!([{"Config": "config.json", "RepoTags": image.names, "Layers": files}]);
    fs::write(work.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    let archive = work.join("image.tar");
    host::run(
        tar(&archive)
            .arg("-C")
            .arg(work)
            .args(["manifest.json", "config.json"])
            .args(&files),
    )?;
    Ok(archive)
}

fn sha256(file: &Path) -> Result<String> {
    let said = host::output(Command::new("sha256sum").arg(file))?;
    said.split_whitespace()
        .next()
        .map(str::to_owned)
        .context("sha256sum says nothing")
}
