//! What the API server let pass without Tidewaiter: it writes a line of each call of a webhook that failed open. And what Tidewaiter itself had to say meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Error;
use tidewaiter_ground::Cluster;

/// In such a line,
const FAILING_OPEN: &str = "failing open";
/// of what fills in,
const OF_MUTATE: &str = "mutate.tidewaiter.dev";
/// because that gave no answer in time.
const TOO_LATE: &str = "context deadline exceeded";
/// What may explain a failure in the log of a server beside the cluster: what it warns of, when it read what is configured, and whether it led.
const TELLING: [&str; 4] = [" WARN ", "ERROR ", "configuration in use", "election"];
/// As many lines of it, the last ones.
const LINES: usize = 40;

/// What was let pass since a moment.
pub struct LetPass {
    log: PathBuf,
    before: usize,
    /// Where Tidewaiter runs as Pods, there is no such file.
    servers: PathBuf,
    servers_before: usize,
}

impl LetPass {
    /// From now on.
    pub fn from_now(cluster: &Cluster) -> Self {
        let mut since = Self {
            log: cluster.processes().log("kube-apiserver"),
            before: 0,
            servers: cluster.processes().log("tidewaiter"),
            servers_before: 0,
        };
        since.before = since.lines().len();
        since.servers_before = since.telling().len();
        since
    }

    /// The API server's lines.
    pub fn lines(&self) -> Vec<String> {
        let lines = read(&self.log, |line| line.contains(FAILING_OPEN)).into_iter();
        lines.skip(self.before).collect()
    }

    fn telling(&self) -> Vec<String> {
        read(&self.servers, |line| TELLING.iter().any(|part| line.contains(part)))
    }

    fn servers_lines(&self) -> Vec<String> {
        let lines: Vec<_> = self.telling().into_iter().skip(self.servers_before).collect();
        let last = lines.len().saturating_sub(LINES);
        lines.into_iter().skip(last).collect()
    }

    /// How many objects were not filled in because no answer came in time.
    pub fn too_late(&self) -> usize {
        let lines = self.lines().into_iter();
        lines
            .filter(|line| line.contains(OF_MUTATE) && line.contains(TOO_LATE))
            .count()
    }

    /// Why a test failed, with what was let pass meanwhile: it may be the reason.
    pub fn beside(&self, error: Error) -> String {
        let meanwhile = [("The API server", self.lines()), ("Tidewaiter", self.servers_lines())];
        let mut said = vec![format!("{error:#}")];
        for (who, lines) in meanwhile.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            said.push(format!("{who} meanwhile:"));
            said.extend(lines);
        }
        said.join("\n")
    }
}

fn read(log: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    log.lines().filter(|line| wanted(line)).map(str::to_owned).collect()
}
