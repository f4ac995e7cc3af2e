//! A slow line, and one that is cut: a network of its own, whose loopback the kernel holds to a rate (`tc`, token bucket filter).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tidewaiter_ground::host;
use tidewaiter_ground::processes::Processes;

use crate::{BUCKET, ROOT, Random, STARTS, World, minio, model};

/// Two megabytes a second: the test's model takes twenty.
const SHAPES: &str = "ip link set lo mtu 1500 up && tc qdisc add dev lo root tbf rate 16mbit burst 32kb latency 400ms";
/// MinIO's address in that network.
const ADDRESS: &str = "127.0.0.1:9000";

/// A store at the other end of a slow line.
struct Store<'a> {
    world: &'a World,
    folder: TempDir,
    processes: Processes,
    /// Of the process that holds the network.
    network: String,
}

impl<'a> Store<'a> {
    /// None where this machine has no slow line to offer.
    fn open(world: &'a World) -> Result<Option<Self>> {
        if !host::is_root() {
            eprintln!("left out: only root can make a line slow");
            return Ok(None);
        }
        let tried = Command::new("unshare").args(["--net", "sh", "-c", SHAPES]).output()?;
        if !tried.status.success() {
            eprintln!(
                "left out: no slow line: {}",
                String::from_utf8_lossy(&tried.stderr).trim()
            );
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let processes = Processes::new(folder.path())?;
        fs::create_dir_all(folder.path().join("data").join(BUCKET))?;
        let is_slow = folder.path().join("slow");
        let script = format!("{SHAPES} && touch \"$1\" && exec sleep infinity");
        processes.start(
            "network",
            Command::new("unshare")
                .args(["--net", "sh", "-c", &script, "sh"])
                .arg(&is_slow),
        )?;
        processes.wait("a slow line", STARTS, || is_slow.exists())?;
        let network = processes.pid("network").context("the network is gone")?.to_string();
        let store = Self {
            world,
            folder,
            processes,
            network,
        };
        store.start()?;
        store.wait()?;
        Ok(Some(store))
    }

    /// A program in that network.
    fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.network, "--net", "--"]).arg(program);
        command
    }

    fn start(&self) -> Result<()> {
        let mut server = self.inside(minio()?);
        let server = minio::server(&mut server, ROOT, &self.data(), ADDRESS);
        self.processes.start("minio", server)
    }

    fn wait(&self) -> Result<()> {
        let small = self.folder.path().join("small");
        fs::create_dir(&small)?;
        fs::write(small.join("model.json"), "{}")?;
        self.processes.wait("a MinIO behind a slow line", STARTS, || {
            self.command(&small, "small")
                .and_then(|mut command| Ok(command.output()?.status.success()))
                .unwrap_or_default()
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, model: &Path, name: &str) -> Result<Command> {
        let ours = self.world.command(model, name)?;
        let mut command = self.inside(ours.get_program());
        command
            .args(ours.get_args())
            .args(["--s3-endpoint", &format!("http://{ADDRESS}")])
            .env_clear();
        for (name, value) in ours.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.env("HOME", self.folder.path()).stdin(Stdio::null());
        Ok(command)
    }

    /// Starts it on a terminal, and writes down what is seen there.
    fn seen(&self, model: &Path, name: &str) -> Result<Upload> {
        let command = self.command(model, name)?;
        let line = command.get_args().skip_while(|word| *word != "--").skip(1);
        let line: Vec<_> = line.map(OsStr::to_string_lossy).collect();
        let mut terminal = self.inside("script");
        terminal
            .args(["-qefc", &line.join(" "), "/dev/null"])
            .env_clear()
            .env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                terminal.env(name, value);
            }
        }
        let screen = self.folder.path().join(format!("{name}.screen"));
        let running = terminal
            .stdin(Stdio::null())
            .stdout(File::create(&screen)?)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Upload { running, screen })
    }

    fn link(&self, state: &str) -> Result<()> {
        host::run(self.inside("ip").args(["link", "set", "lo", state]))
    }

    /// As when its machine loses its power: what it was in the middle of is gone.
    fn kill(&self) -> Result<()> {
        let pid = self.processes.pid("minio").context("MinIO doesn't run")?;
        host::run(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
        self.processes.stop("minio")
    }
}

/// One that runs.
struct Upload {
    running: Child,
    screen: PathBuf,
}

impl Upload {
    fn screen(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.screen)?).into_owned())
    }

    /// The places of the bar: mebibytes of how many, as it shows them.
    fn places(&self) -> Result<Vec<f64>> {
        let screen = self.screen()?;
        // Before that it is read.
        let (_, sending) = screen.split_once("uploading").unwrap_or_default();
        let parts: Vec<&str> = sending.split(" MiB/").collect();
        // Of so many mebibytes, and not a second.
        let shown = parts.windows(2).filter(|pair| !pair[1].starts_with('s'));
        Ok(shown
            .filter_map(|pair| pair[0].rsplit(' ').next()?.parse().ok())
            .collect())
    }

    /// Waits until so many mebibytes are sent.
    fn until(&mut self, mebibytes: f64) -> Result<()> {
        let began = Instant::now();
        while self.places()?.last().is_none_or(|&place| place < mebibytes) {
            ensure!(
                self.running.try_wait()?.is_none() && began.elapsed() < Duration::from_mins(2),
                "it never came to {mebibytes} MiB: {}",
                self.screen()?
            );
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn ended(&mut self, code: i32) -> Result<String> {
        let ended = self.running.wait()?;
        let screen = self.screen()?;
        ensure!(ended.code() == Some(code), "{ended}: {screen}");
        Ok(screen)
    }
}

pub(crate) fn slow(world: &World) -> Result<()> {
    let Some(store) = Store::open(world)? else {
        return Ok(());
    };
    let files = model(&mut Random::new())?;
    let began = Instant::now();
    let mut upload = store.seen(files.path(), "slow")?;
    upload.until(6.)?;
    // Nobody says that it is cut, and nothing is lost.
    store.link("down")?;
    sleep(Duration::from_secs(3));
    store.link("up")?;
    upload.until(16.)?;
    // Connections end, and what was sent of each part is lost.
    store.kill()?;
    store.start()?;
    upload.ended(0)?;
    ensure!(
        began.elapsed() > Duration::from_secs(20),
        "that was no slow line: {:?}",
        began.elapsed()
    );
    let places = upload.places()?;
    ensure!(places.is_sorted(), "it went back: {places:?}");
    // Far more often than a request ends.
    let places = places.chunk_by(f64::eq).count();
    ensure!(places > 60, "only {places} places were shown");
    store.kill()?;
    let fast = World::on(store.folder)?;
    ensure!(fast.check(files.path(), "slow")? == 1, "there is no manifest");
    Ok(())
}

pub(crate) fn cut(world: &World) -> Result<()> {
    let Some(store) = Store::open(world)? else {
        return Ok(());
    };
    let files = model(&mut Random::new())?;
    let mut upload = store.seen(files.path(), "cut")?;
    upload.until(16.)?;
    store.link("down")?;
    let said = upload.ended(2)?;
    ensure!(
        said.contains(": no answer from 127.0.0.1:9000: ")
            && said.contains(": is 127.0.0.1:9000 the right endpoint, and can this machine reach it?"),
        "{said}"
    );
    store.link("up")?;
    let again = store.command(files.path(), "cut")?.stdout(Stdio::piped()).output()?;
    let again: Value = serde_json::from_slice(&again.stdout)?;
    ensure!(again["reused"].as_u64() > Some(0), "everything was sent again: {again}");
    store.kill()?;
    let fast = World::on(store.folder)?;
    ensure!(fast.check(files.path(), "cut")? == 1, "there is no manifest");
    Ok(())
}
