//! What the admin says of all modules that come over the network, in one YAML file (`--modules`).

use std::path::Path;

use anyhow::{Context, Result};
use tidewaiter_registry::{Cache, Fetcher, ModulesFile, Ways};

/// A module on disk that nobody used for the longest time goes beyond this.
const CACHE_MIB: u64 = 128;

/// How modules are fetched.
#[derive(Clone)]
pub struct ModuleSettings {
    /// Secrets of the own namespace that open registries for all policies.
    pub(super) pull_secrets: Vec<String>,
    pub(super) ways: Ways,
    pub(super) fetcher: Fetcher,
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
        let file = if text.trim().is_empty() {
            ModulesFile::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))?
        };
        let ways = Ways::new(&file)?;
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
            ways,
            fetcher: Fetcher::new(cache),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_empty_file_is_all_defaults() {
        let settings = ModuleSettings::parse("", None).unwrap();
        assert_eq!(settings.ways.interval, Duration::from_mins(5));
        assert!(settings.pull_secrets.is_empty());
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
