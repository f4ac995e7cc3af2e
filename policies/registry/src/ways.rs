//! What an admin says of all modules that come over the network, and what becomes of one policy's module by it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tidewaiter_core::duration;
use tidewaiter_core::policy_resource::Module;
use tidewaiter_core::verification::Verification;

use crate::{Credentials, Error, Host, Limits, Origin, Registry, TrustRoot, Verifier, Wanted};

/// A tag is looked up so often.
const INTERVAL: Duration = Duration::from_mins(5);
/// Registries count how often they are asked.
const SHORTEST: Duration = Duration::from_secs(1);

/// The file that the server's `--modules` reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ModulesFile {
    /// Secrets of Tidewaiter's namespace that open registries for all policies.
    pub pull_secrets: Vec<String>,
    /// What is particular about the way to a host.
    pub hosts: Vec<Host>,
    /// Who must have signed a module from a registry whose policy says nothing of it.
    pub verify: Option<Verification>,
    /// A `trusted_root.json` in place of that of Sigstore's public instance.
    pub trust_root: Option<String>,
    /// How often a tag is looked up, such as `5m`.
    pub refresh_interval: Option<String>,
    /// The largest component.
    #[serde(rename = "maxModuleMiB")]
    pub max_module_mib: Option<u64>,
    /// All components on disk together.
    #[serde(rename = "cacheMiB")]
    pub cache_mib: Option<u64>,
}

/// Such a file, understood: how modules come, and whose signatures count.
#[derive(Clone)]
pub struct Ways {
    /// A tag is looked up so often.
    pub interval: Duration,
    verify: Option<Verification>,
    root: Option<Arc<TrustRoot>>,
    registry: Registry,
}

impl Ways {
    /// By an admin's word; of an empty file all is as by default.
    ///
    /// # Errors
    /// What can't be used; each message names the field.
    pub fn new(file: &ModulesFile) -> Result<Self, Error> {
        let wrong = |field: &str, why: &dyn std::fmt::Display| Error::Settings(format!("{field}: {why}"));
        let interval = file.refresh_interval.as_deref().map(duration::parse).transpose();
        let interval = interval
            .map_err(|error| wrong("refreshInterval", &error))?
            .unwrap_or(INTERVAL);
        if interval < SHORTEST {
            return Err(wrong("refreshInterval", &"must be 1s at least"));
        }
        let mut limits = Limits::default();
        if let Some(mib) = file.max_module_mib {
            if !(1..=512).contains(&mib) {
                return Err(wrong("maxModuleMiB", &format!("{mib} is not between 1 and 512")));
            }
            limits.component = mib << 20;
        }
        let root = file.trust_root.as_deref().map(TrustRoot::from_json).transpose();
        let root = root.map_err(|error| wrong("trustRoot", &error))?.map(Arc::new);
        if let Some(verify) = &file.verify {
            let problems = verify.problems("verify");
            if !problems.is_empty() {
                return Err(Error::Settings(problems.join("; ")));
            }
            // Each of its keys is one, which is better said at the start than at the first policy.
            Verifier::new(verify, root.clone())?;
        }
        let registry = Registry::new(file.hosts.clone(), Credentials::default(), limits);
        Ok(Self {
            interval,
            verify: file.verify.clone(),
            root,
            registry: registry.map_err(|error| wrong("hosts", &error))?,
        })
    }

    /// The way to the hosts, with these accounts.
    #[must_use]
    pub fn registry(&self, credentials: Credentials) -> Registry {
        self.registry.with(credentials)
    }

    /// What a policy asks for: its module, the digest that it pins, and who must have signed it by its own word.
    ///
    /// # Errors
    /// A reference, a digest or a key that is none.
    pub fn wanted(
        &self,
        module: &Module,
        digest: Option<&str>,
        verify: Option<&Verification>,
    ) -> Result<Wanted, Error> {
        let (origin, verify) = match module {
            Module::Oci(module) => (Origin::Oci(module.image.parse()?), verify.or(self.verify.as_ref())),
            // Its digest says what it is.
            Module::Https(module) => (Origin::Https(module.url.clone(), module.digest.parse()?), None),
            Module::Builtin(_) | Module::File(_) | Module::ConfigMap(_) => {
                return Err(Error::Reference("it doesn't come over the network".into()));
            }
        };
        Ok(Wanted {
            origin,
            pinned: digest.map(str::parse).transpose()?,
            verifier: verify
                .map(|verify| Verifier::new(verify, self.root.clone()))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use tidewaiter_core::policy_resource::OciModule;

    use super::*;

    #[test]
    fn what_the_policy_says_of_signatures_counts_and_else_what_the_admin_says_of_all() {
        let key = |byte: u8| {
            let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[byte; 32]).unwrap();
            let der = [
                &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..],
                ring::signature::KeyPair::public_key(&pair).as_ref(),
            ];
            Verification {
                keys: vec![pem::encode(&pem::Pem::new("PUBLIC KEY", der.concat()))],
                keyless: Vec::new(),
            }
        };
        let module = Module::Oci(OciModule {
            image: "r.example/house:1".to_owned(),
            pull_secret: None,
        });
        let wants = |of_all: Option<Verification>, own: Option<&Verification>| {
            let file = ModulesFile {
                verify: of_all,
                ..ModulesFile::default()
            };
            let wanted = Ways::new(&file).unwrap().wanted(&module, None, own).unwrap();
            let signer = |verifier: Verifier| verifier.signer("r.example/house:1", &crate::Digest::of(b"m"), &[]);
            wanted
                .verifier
                .map(|verifier| signer(verifier).unwrap_err().to_string())
        };
        let (ours, theirs) = (key(1), key(2));
        let by = |who: &Verification| wants(None, Some(who)).unwrap();
        assert_ne!(by(&ours), by(&theirs));
        assert_eq!(wants(Some(theirs.clone()), Some(&ours)), Some(by(&ours)));
        assert_eq!(wants(Some(theirs.clone()), None), Some(by(&theirs)));
        assert_eq!(wants(None, None), None);
    }
}
