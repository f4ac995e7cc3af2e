//! A shell as an admin has it who follows a page: kubectl, helm, mc and this repository's own command and charts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::tools::Module;
use tidewaiter_ground::{Cluster, HOST, MINIO_PORT, MINIO_USER, host};

use crate::command::NO_PROFILES;
use crate::server::command_binary;

/// Commands of a page may wait for what never comes, in seconds.
const LIMIT: &str = "300";

/// The cluster's admin, who is also root of its MinIO, which `mc` knows as `minio`.
#[derive(Debug)]
pub struct Shell {
    folder: TempDir,
    variables: BTreeMap<OsString, OsString>,
}

impl Shell {
    /// Builds the programs, where there is a network: in the ground there is none.
    pub fn prepare(cache: &Cache) -> Result<()> {
        Module::Mc.build(cache).map(drop)
    }

    /// After [`prepare`](Self::prepare).
    pub fn open(cluster: &Cluster) -> Result<Self> {
        let folder = tempfile::tempdir_in(cluster.folder())?;
        let helm = cluster.helm_command()?;
        let known = helm
            .get_envs()
            .filter_map(|(name, value)| Some((name.into(), value?.into())));
        let mut variables: BTreeMap<OsString, OsString> = known.collect();
        let link = |name: &str, program: &Path| symlink(program, folder.path().join(name));
        link("helm", Path::new(helm.get_program()))?;
        link("kubectl", Path::new(cluster.kubectl_command().get_program()))?;
        link("mc", &Module::Mc.build(cluster.cache())?.join("mc"))?;
        link("tidewaiter", &command_binary()?)?;
        link(
            "charts",
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts")),
        )?;
        variables.insert("PATH".into(), host::path(&[folder.path()])?);
        // mc keeps what it knows there.
        variables.insert("HOME".into(), folder.path().into());
        variables.insert("TIDEWAITER_PROFILES".into(), NO_PROFILES.into());
        let store = format!("http://{MINIO_USER}:{MINIO_USER}@{HOST}:{MINIO_PORT}");
        variables.insert("MC_HOST_minio".into(), store.into());
        Ok(Self { folder, variables })
    }

    /// Puts a file into the folder in which commands are typed.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.folder.path().join(name), text)?)
    }

    /// Types commands, and says what they wrote to standard output.
    ///
    /// # Errors
    /// With all that was said, as soon as one of them fails.
    pub fn run(&self, commands: &str) -> Result<String> {
        let done = Command::new("timeout")
            .args([LIMIT, "sh", "-e", "-c", commands])
            .envs(&self.variables)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&done.stdout), text(&done.stderr));
        ensure!(done.status.success(), "{commands}\n{stdout}{stderr}");
        Ok(stdout)
    }
}
