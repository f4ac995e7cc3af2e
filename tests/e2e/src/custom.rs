//! Tidewaiter's own objects: applied, changed, asked for their status.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tidewaiter_ground::Cluster;

/// A cluster-wide object. Deleted when dropped.
#[derive(Debug)]
pub struct Custom<'a> {
    cluster: &'a Cluster,
    what: String,
}

impl<'a> Custom<'a> {
    /// Creates it, or changes what is there of its name.
    pub fn apply(cluster: &'a Cluster, object: &Value) -> Result<Self> {
        let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
        let (kind, name) = kind.zip(name).context("an object has a kind and a name")?;
        let custom = Self {
            cluster,
            what: format!("{}/{name}", kind.to_lowercase()),
        };
        custom.change(object)?;
        Ok(custom)
    }

    /// Has it be like this.
    pub fn change(&self, object: &Value) -> Result<()> {
        let said = self
            .cluster
            .try_kubectl(&["apply", "--server-side", "-f", "-"], &object.to_string())?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(())
    }

    /// Waits until the status speaks of the object as it is now, and says this condition's message.
    pub fn until(&self, condition: &str, status: &str) -> Result<String> {
        let what = format!("{} is {condition}={status}", self.what);
        self.cluster.until(&what, Duration::from_mins(1), || {
            let object: Value = serde_json::from_str(&self.cluster.kubectl(&["get", &self.what, "-o", "json"])?)?;
            let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let found = conditions.find(|found| {
                found["type"] == condition
                    && found["status"] == status
                    && found["observedGeneration"] == object["metadata"]["generation"]
            });
            match found {
                Some(found) => Ok(Some(found["message"].as_str().unwrap_or_default().to_owned())),
                None => bail!("status {}", object["status"]),
            }
        })
    }
}

/// The same object past its own admission: what is wrong with it is then said in its conditions alone.
pub fn unasked(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["labels"]["tidewaiter.dev/ignore"] = "true".into();
    object
}

impl Drop for Custom<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", &self.what, "--wait=false"]);
    }
}
