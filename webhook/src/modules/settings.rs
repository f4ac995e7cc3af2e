//! What the admin says of all modules that come over the network, in one YAML file (`--modules`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tidewaiter_core::duration;
use tidewaiter_core::verification::Verification;
use tidewaiter_registry::{Cache, Credentials, Fetcher, Host, Limits, Registry, TrustRoot, Verifier};

/// A module on disk that nobody used for the longest time goes beyond this.
const CACHE_MIB: u64 = 512;
/// A tag is looked up so often.
const INTERVAL: Duration = Duration::from_mins(5);
/// Registries count how often they are asked.
const SHORTEST: Duration = Duration::from_secs(1);

/// How modules are fetched.
#[derive(Clone)]
pub struct ModuleSettings {
    /// Secrets of the own namespace that open registries for all policies.
    pub(super) pull_secrets: Vec<String>,
    /// Who must have signed a module from a registry whose policy says nothing of it.
    pub(super) verify: Option<Verification>,
    pub(super) root: Option<Arc<TrustRoot>>,
    pub(super) interval: Duration,
    pub(super) registry: Registry,
    pub(super) fetcher: Fetcher,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    pull_secrets: Vec<String>,
    hosts: Vec<Host>,
    verify: Option<Verification>,
    trust_root: Option<String>,
    refresh_interval: Option<String>,
    #[serde(rename = "maxModuleMiB")]
    max_module_mib: Option<u64>,
    #[serde(rename = "cacheMiB")]
    cache_mib: Option<u64>,
}

impl ModuleSettings {
    /// From a file, or all defaults. Modules are kept in a folder within `cache_dir`; without one they are fetched anew at each start.
    ///
    /// # Errors
    /// A file that can't be read or used; each message names the field.
    pub fn read(file: Option<&Path>, cache_dir: Option<&Path>) -> Result<Self> {
        let text = match file {
            Some(file) => {
                std::fs::read_to_string(file).with_context(|| format!("--modules: can't read {}", file.display()))?
            }
            None => String::new(),
        };
        let at = || file.map_or_else(|| "modules".to_owned(), |file| format!("--modules: {}", file.display()));
        Self::parse(&text, cache_dir).with_context(at)
    }

    fn parse(text: &str, cache_dir: Option<&Path>) -> Result<Self> {
        let file: File = if text.trim().is_empty() {
            File::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))?
        };
        let interval = file.refresh_interval.as_deref().map(duration::parse).transpose();
        let interval = interval
            .map_err(|error| anyhow::anyhow!("refreshInterval: {error}"))?
            .unwrap_or(INTERVAL);
        ensure!(interval >= SHORTEST, "refreshInterval: must be 1s at least");
        let mut limits = Limits::default();
        if let Some(mib) = file.max_module_mib {
            ensure!((1..=512).contains(&mib), "maxModuleMiB: {mib} is not between 1 and 512");
            limits.component = mib << 20;
        }
        let root = file
            .trust_root
            .as_deref()
            .map(TrustRoot::from_json)
            .transpose()
            .context("trustRoot")?;
        let root = root.map(Arc::new);
        if let Some(verify) = &file.verify {
            let problems = verify.problems("verify");
            ensure!(problems.is_empty(), "{}", problems.join("; "));
            // Each of its keys is one, which is better said at the start than at the first policy.
            Verifier::new(verify, root.clone())?;
        }
        let cache = cache_dir.and_then(|dir| {
            let dir = dir.join("modules");
            Cache::open(&dir, file.cache_mib.unwrap_or(CACHE_MIB) << 20)
                .inspect_err(|error| {
                    tracing::warn!(dir = %dir.display(), %error, "modules can't be kept on disk: they are fetched at each start");
                })
                .ok()
        });
        Ok(Self {
            pull_secrets: file.pull_secrets,
            verify: file.verify,
            root,
            interval,
            registry: Registry::new(file.hosts, Credentials::default(), limits).context("hosts")?,
            fetcher: Fetcher::new(cache),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_all_defaults() {
        let settings = ModuleSettings::parse("", None).unwrap();
        assert_eq!(settings.interval, Duration::from_mins(5));
        assert!(settings.pull_secrets.is_empty() && settings.verify.is_none());
    }

    #[test]
    fn each_mistake_names_its_field() {
        for (yaml, expected) in [
            ("hosts: [{host: a, mirror: b}]", "mirror"),
            ("hosts: [{host: a, ca: x}]", "hosts"),
            ("refreshInterval: '5'", "refreshInterval"),
            ("refreshInterval: 10ms", "refreshInterval"),
            ("maxModuleMiB: 0", "maxModuleMiB"),
            ("trustRoot: '{}'", "trustRoot"),
            ("verify: {}", "verify: names nobody"),
            ("verify: {keys: ['-----BEGIN PUBLIC KEY-----']}", "verify.keys[0]"),
            ("pullSecret: [a]", "pullSecret"),
        ] {
            let error = ModuleSettings::parse(yaml, None).err().unwrap();
            assert!(format!("{error:#}").contains(expected), "{yaml}: {error:#}");
        }
    }
}
