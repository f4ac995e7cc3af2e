//! Tidewaiter's own objects: applied, changed, asked for their status.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tidewaiter_ground::Cluster;

/// A cluster-wide object. Deleted when dropped.
pub(crate) struct Custom<'a> {
    cluster: &'a Cluster,
    what: String,
}

impl<'a> Custom<'a> {
    pub(crate) fn apply(cluster: &'a Cluster, object: &Value) -> Result<Self> {
        let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
        let (kind, name) = kind.zip(name).context("an object has a kind and a name")?;
        let custom = Self {
            cluster,
            what: format!("{}/{name}", kind.to_lowercase()),
        };
        custom.change(object)?;
        Ok(custom)
    }

    pub(crate) fn change(&self, object: &Value) -> Result<()> {
        let said = self
            .cluster
            .try_kubectl(&["apply", "--server-side", "-f", "-"], &object.to_string())?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(())
    }

    /// Waits until the status speaks of the object as it is now, and says its one condition's message.
    pub(crate) fn until(&self, condition: &str, status: &str) -> Result<String> {
        let what = format!("{} is {condition}={status}", self.what);
        self.cluster.until(&what, Duration::from_mins(1), || {
            let object: Value = serde_json::from_str(&self.cluster.kubectl(&["get", &self.what, "-o", "json"])?)?;
            let found = &object["status"]["conditions"][0];
            if found["type"] == condition
                && found["status"] == status
                && found["observedGeneration"] == object["metadata"]["generation"]
            {
                return Ok(Some(found["message"].as_str().unwrap_or_default().to_owned()));
            }
            bail!("status {}", object["status"])
        })
    }
}

impl Drop for Custom<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", &self.what, "--wait=false"]);
    }
}
