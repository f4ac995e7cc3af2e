//! What the API server let pass without Tidewaiter: it writes a line of each call of a webhook that failed open.

use std::fs;
use std::path::PathBuf;

use anyhow::Error;
use tidewaiter_ground::Cluster;

/// In such a line,
const FAILING_OPEN: &str = "failing open";
/// of what fills in,
const OF_MUTATE: &str = "mutate.tidewaiter.dev";
/// because that gave no answer in time.
const TOO_LATE: &str = "context deadline exceeded";

/// What was let pass since a moment.
pub struct LetPass {
    log: PathBuf,
    before: usize,
}

impl LetPass {
    /// From now on.
    pub fn from_now(cluster: &Cluster) -> Self {
        let log = cluster.processes().log("kube-apiserver");
        let mut since = Self { log, before: 0 };
        since.before = since.lines().len();
        since
    }

    /// The API server's lines.
    pub fn lines(&self) -> Vec<String> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines = log.lines().filter(|line| line.contains(FAILING_OPEN));
        lines.skip(self.before).map(str::to_owned).collect()
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
        let lines = self.lines();
        if lines.is_empty() {
            return format!("{error:#}");
        }
        format!("{error:#}\nThe API server meanwhile:\n{}", lines.join("\n"))
    }
}
