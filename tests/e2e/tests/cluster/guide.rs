//! The guide of `docs/deploy.md`, and the README's section that leads to it: their commands as they stand, but for names and addresses, and what they print.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tidewaiter_e2e::server::command_binary;
use tidewaiter_e2e::transcript::{Step, blocks, section, steps};
use tidewaiter_ground::mlflow::Mlflow;
use tidewaiter_ground::tools::Module;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace};

const PAGE: &str = include_str!("../../../../docs/deploy.md");
const README: &str = include_str!("../../../../README.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Where Tidewaiter is: the three commands, to an answer over REST and, by grpcurl, over gRPC.
pub(crate) fn walked(team: &Namespace, mlflow: &Mlflow<'_>) -> Result<()> {
    let three = three()?;
    let blocks = blocks(section(README, "Deploy a model")?)?;
    let (_, readmes) = blocks.first().context("the README has no commands")?;
    let plain = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
    let readmes: Vec<String> = readmes.lines().map(plain).collect();
    let commands: Vec<&str> = three.iter().map(|step| step.command.as_str()).collect();
    ensure!(
        readmes == commands,
        "the README has {readmes:#?}, and the guide {commands:#?}"
    );
    let mut desk = Desk::new(team, mlflow)?;
    desk.takes(&three)?;
    desk.takes(&shown(section(PAGE, "REST and gRPC")?)?)
}

/// Where it isn't: keys are brought.
pub(crate) fn walked_with_keys(team: &Namespace, mlflow: &Mlflow<'_>) -> Result<()> {
    let mut desk = Desk::new(team, mlflow)?;
    desk.takes(&three()?[..1])?;
    desk.takes(&shown(section(PAGE, "Who opens the store")?)?)
}

/// Those that the guide begins with.
fn three() -> Result<Vec<Step>> {
    let beginning = PAGE.split("\n## ").next().unwrap_or_default();
    let three = shown(beginning)?;
    ensure!(three.len() == 3, "the guide begins with other commands: {three:#?}");
    Ok(three)
}

fn shown(text: &str) -> Result<Vec<Step>> {
    let shown = blocks(text)?.into_iter().filter(|(kind, _)| *kind == "console");
    let shown: Vec<Step> = shown.flat_map(|(_, text)| steps(text)).collect();
    ensure!(!shown.is_empty(), "the guide shows no commands there");
    Ok(shown)
}

/// Where a person sits who follows the guide: at the root of this repository, with a shell.
struct Desk<'a> {
    namespace: &'a Namespace,
    tracking: String,
    /// Theirs alone: the home, and the programs by their names.
    home: TempDir,
    /// What the shell was told to keep.
    exported: String,
    in_background: Vec<Child>,
}

impl<'a> Desk<'a> {
    fn new(namespace: &'a Namespace, mlflow: &Mlflow<'_>) -> Result<Self> {
        let (cluster, home) = (namespace.cluster(), tempfile::tempdir()?);
        let programs = home.path().join("bin");
        fs::create_dir(&programs)?;
        let grpcurl = Module::Grpcurl.build(cluster.cache())?.join("grpcurl");
        symlink(grpcurl, programs.join("grpcurl"))?;
        symlink(cluster.kubectl_command().get_program(), programs.join("kubectl"))?;
        symlink(fs::canonicalize(command_binary()?)?, programs.join("tidewaiter"))?;
        Ok(Self {
            namespace,
            tracking: mlflow.uri(),
            home,
            exported: String::new(),
            in_background: Vec::new(),
        })
    }

    /// What the guide has made up, as it is here.
    fn ours(&self, text: &str) -> String {
        text.replace("team-a", self.namespace.name())
            .replace("http://mlflow:5000", &self.tracking)
            .replace("http://minio.minio:9000", &format!("http://{HOST}:{MINIO_PORT}"))
            .replace("KEY_ID=…", &format!("KEY_ID={MINIO_USER}"))
            .replace("ACCESS_KEY=…", &format!("ACCESS_KEY={MINIO_USER}"))
    }

    fn takes(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            let step = Step {
                command: self.ours(&step.command),
                prints: self.ours(&step.prints),
            };
            if step.command.starts_with("export ") {
                self.exported.push_str(&step.command);
                self.exported.push('\n');
            } else if let Some(command) = step.command.strip_suffix('&') {
                self.begins(command, &step)?;
            } else {
                self.does(&step)?;
            }
        }
        Ok(())
    }

    fn does(&self, step: &Step) -> Result<()> {
        let output = self.shell(&step.command).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{}: {said}", step.command);
        ensure!(!said.contains(MINIO_USER), "{} shows a key: {said}", step.command);
        step.holds(&said)
    }

    /// Begins what goes on, and waits until it has said what the guide has of it.
    fn begins(&mut self, command: &str, step: &Step) -> Result<()> {
        let heard = self.home.path().join(format!("{}.log", self.in_background.len()));
        let mut shell = self.shell(&format!("exec {command}"));
        self.in_background.push(shell.stdout(File::create(&heard)?).spawn()?);
        let cluster = self.namespace.cluster();
        cluster.until(&step.command, Duration::from_secs(30), || {
            step.holds(&fs::read_to_string(&heard)?).map(Some)
        })
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        let home = self.home.path();
        shell
            .args(["-c", &format!("exec 2>&1\n{}{command}", self.exported)])
            .current_dir(Path::new(ROOT))
            .env_clear()
            .env("HOME", home)
            .env("PATH", format!("{}:/usr/bin:/bin", home.join("bin").display()))
            .env("KUBECONFIG", self.namespace.cluster().kubeconfig())
            .stdin(Stdio::null());
        shell
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        for child in &mut self.in_background {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
