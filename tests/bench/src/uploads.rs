//! Uploads to a real MinIO on the loopback: by the command, by `aws s3 cp --recursive`, by `mc cp --recursive`. They take turns, on the same files.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidewaiter_e2e::most_memory;
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tools::Module;
use tidewaiter_ground::{minio, python};

const MIB: usize = 1 << 20;
const KEY: &str = "minioadmin";
const BUCKET: &str = "bench";
const STARTS: Duration = Duration::from_mins(1);
/// Each tool's uploads of each set; the first of each is a warm-up of the files' pages, and doesn't count.
const ROUNDS: usize = 4;

/// What is uploaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    files: usize,
    bytes: usize,
}

/// A model of one large file.
pub(crate) const LARGE: Set = Set {
    name: "1 × 2 GiB",
    files: 1,
    bytes: 2048 * MIB,
};
/// What every model's memory is held against.
pub(crate) const MODEST: Set = Set {
    name: "1 × 64 MiB",
    files: 1,
    bytes: 64 * MIB,
};
/// Such as are no parts, and fill the room for parts.
pub(crate) const SHARDS: Set = Set {
    name: "40 × 25 MiB",
    files: 40,
    bytes: 25 * MIB,
};
/// A model of many small ones.
pub(crate) const SMALL: Set = Set {
    name: "2,000 × 1 MiB",
    files: 2000,
    bytes: MIB,
};

/// How long each took, round by round.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) ours: Vec<Duration>,
    pub(crate) aws: Vec<Duration>,
    pub(crate) mc: Vec<Duration>,
    /// The most memory of ours, in bytes.
    pub(crate) resident: u64,
}

/// The tools, and a store for them.
pub(crate) struct Ground {
    command: PathBuf,
    aws: PathBuf,
    mc: PathBuf,
    endpoint: String,
    processes: Processes,
    folder: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn start(command: PathBuf) -> Result<Self> {
        let cache = Cache::open()?;
        let program = Module::Minio.build(&cache)?.join("minio");
        let mc = Module::Mc.build(&cache)?.join("mc");
        let aws = python::site(&cache, "awscli-1.46.3")?;
        let folder = tempfile::tempdir()?;
        let processes = Processes::new(folder.path())?;
        let data = folder.path().join("data");
        fs::create_dir_all(data.join(BUCKET))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        processes.start(
            "minio",
            minio::server(&mut Command::new(program), KEY, &data, &address.to_string()),
        )?;
        processes.wait("a MinIO that listens", STARTS, || {
            std::net::TcpStream::connect(address).is_ok()
        })?;
        let ground = Self {
            command,
            aws,
            mc,
            endpoint: format!("http://{address}"),
            processes,
            folder,
        };
        processes_ready(&ground)?;
        Ok(ground)
    }

    /// Makes the files, and has each tool upload them turn by turn.
    pub(crate) fn measure(&self, set: Set) -> Result<Times> {
        let files = tempfile::tempdir_in(self.folder.path())?;
        make(files.path(), set)?;
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let to = |tool: &str| format!("{tool}-{round}");
            let (ours, resident) = self.timed(&mut self.ours(files.path(), &to("ours")))?;
            self.check(set)?;
            let (aws, _) = self.timed(&mut self.aws(files.path(), &to("aws"))?)?;
            self.check(set)?;
            let (mc, _) = self.timed(&mut self.mc(files.path(), &to("mc")))?;
            self.check(set)?;
            times.resident = times.resident.max(resident);
            if round > 0 {
                times.ours.push(ours);
                times.aws.push(aws);
                times.mc.push(mc);
            }
        }
        Ok(times)
    }

    fn ours(&self, files: &Path, to: &str) -> Command {
        let mut command = Command::new(&self.command);
        self.keys(&mut command)
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .arg("upload")
            .arg(files)
            .args(["--to", &format!("s3://{BUCKET}/{to}/"), "--name", "model"]);
        command
    }

    fn aws(&self, files: &Path, to: &str) -> Result<Command> {
        let mut command = python::command(&[&self.aws])?;
        self.keys(&mut command)
            .args(["-m", "awscli", "s3", "cp", "--recursive", "--quiet", "--endpoint-url"])
            .arg(&self.endpoint)
            .arg(files)
            .arg(format!("s3://{BUCKET}/{to}/"));
        Ok(command)
    }

    fn mc(&self, files: &Path, to: &str) -> Command {
        let host = self.endpoint.replace("http://", &format!("http://{KEY}:{KEY}@"));
        let mut command = Command::new(&self.mc);
        self.keys(&mut command)
            .env("MC_HOST_bench", host)
            .arg("--config-dir")
            .arg(self.folder.path().join("mc"))
            .args(["--quiet", "cp", "--recursive"])
            .arg(format!("{}/", files.display()))
            .arg(format!("bench/{BUCKET}/{to}/"));
        command
    }

    fn keys<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("HOME", self.folder.path())
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", KEY)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
    }

    fn timed(&self, command: &mut Command) -> Result<(Duration, u64)> {
        let began = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("can't start {}", command.get_program().display()))?;
        let resident = most_memory(&mut child)?;
        let took = began.elapsed();
        let said = child.wait_with_output()?;
        ensure!(
            said.status.success(),
            "{}: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&said.stderr)
        );
        self.processes.check()?;
        Ok((took, resident))
    }

    /// Whether the store has all of it; and takes it out again, so that the disk doesn't fill.
    fn check(&self, set: Set) -> Result<()> {
        let bucket = self.folder.path().join("data").join(BUCKET);
        let stored = size(&bucket)?;
        ensure!(
            stored >= (set.files * set.bytes) as u64,
            "the store has {stored} bytes of {}",
            set.name
        );
        for entry in fs::read_dir(&bucket)? {
            fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.processes.stop("minio");
    }
}

/// It listens before it answers.
fn processes_ready(ground: &Ground) -> Result<()> {
    let first = tempfile::tempdir_in(ground.folder.path())?;
    fs::write(first.path().join("first"), "1")?;
    ground.processes.wait("a MinIO that takes a file", STARTS, || {
        ground.timed(&mut ground.mc(first.path(), "first")).is_ok()
    })?;
    fs::remove_dir_all(ground.folder.path().join("data").join(BUCKET).join("first"))?;
    Ok(())
}

/// Numbers that nothing compresses, and of which no two files have the same.
fn make(folder: &Path, set: Set) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunk = vec![0; MIB];
    for number in 0..set.files {
        let mut file = File::create(folder.join(format!("part-{number:04}.bin")))?;
        for _ in 0..set.bytes / MIB {
            for word in chunk.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&chunk)?;
        }
        file.sync_all()?;
    }
    Ok(())
}

/// Of all files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() {
            size(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(bytes)
}
