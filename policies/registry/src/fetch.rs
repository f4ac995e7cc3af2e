//! Policies as a server wants them: the present version where it can be had and counts, else the last good one, with a word on why.
//!
//! ```text
//! name ─▶ which manifest now? ─▶ known? ─▶ disk ─┐
//!              │                  └▶ registry ───┴─▶ pinned? signed? ─▶ the component, and what to keep once it is known to load
//!              └▶ no answer, or nothing good ─▶ disk: the last good one, signatures judged anew
//! ```

use std::io;

use bytes::Bytes;

use crate::cache::{Cache, Known};
use crate::manifest::component_of;
use crate::settings::Watch;
use crate::signature::{Signature, Verifier};
use crate::{Digest, Error, Reference, Registry};

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A registry.
    Oci(Reference),
    /// A web server; the component's digest.
    Https(String, Digest),
}

/// What is asked for.
#[derive(Clone)]
pub struct Wanted {
    /// Where it comes from.
    pub origin: Origin,
    /// The digest that the component must have.
    pub pinned: Option<Digest>,
    /// Who must have signed it; none where nobody must. For registries alone: a web server's component has its digest.
    pub verifier: Option<Verifier>,
}

/// A component that may be used.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The component.
    pub component: Bytes,
    /// Of the component.
    pub digest: Digest,
    /// Who signed it, where somebody must have.
    pub signer: Option<String>,
    /// Why it isn't the version that its name has now.
    pub trouble: Option<Trouble>,
    keep: Option<Known>,
}

/// Why the last good version is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What happened.
    pub message: String,
    /// The version in use is what the object asks for, as far as anybody knows: a registry was away, or a tag moved from under a digest.
    pub harmless: bool,
}

impl Trouble {
    /// Of a fetch that failed, where there is a last good version.
    pub fn of(error: &Error, wanted: &Wanted) -> Self {
        Self {
            message: error.to_string(),
            harmless: error.is_passing() || (wanted.pinned.is_some() && matches!(error, Error::Lies { .. })),
        }
    }
}

/// Fetches components, and keeps them on disk.
#[derive(Clone, Default)]
pub struct Fetcher {
    cache: Option<Cache>,
}

impl Fetcher {
    /// Without a cache, everything is fetched anew after a restart.
    pub fn new(cache: Option<Cache>) -> Self {
        Self { cache }
    }

    /// The version that there is now; where that can't be had or doesn't count, the last good one with the reason.
    ///
    /// # Errors
    /// The reason, where there is no last good one.
    pub async fn fetch(&self, registry: &Registry, wanted: &Wanted, watch: Watch<'_>) -> Result<Fetched, Error> {
        let error = match self.current(registry, wanted, watch).await {
            Ok(fetched) => return Ok(fetched),
            Err(error) => error,
        };
        let Some(last) = self.last_good(wanted) else {
            return Err(error);
        };
        Ok(Fetched {
            trouble: Some(Trouble::of(&error, wanted)),
            ..last
        })
    }

    /// What is on disk, if it still counts. Asks nobody.
    pub fn last_good(&self, wanted: &Wanted) -> Option<Fetched> {
        let cache = self.cache.as_ref()?;
        match &wanted.origin {
            Origin::Https(_, digest) => {
                let fits = wanted.pinned.as_ref().is_none_or(|pinned| pinned == digest);
                let component = cache.blob(digest).filter(|_| fits)?;
                Some(Fetched::plain(component, digest.clone()))
            }
            Origin::Oci(reference) => {
                let name = reference.to_string();
                let known = cache.known(&name)?;
                let fits = wanted.pinned.as_ref().is_none_or(|pinned| *pinned == known.component)
                    && reference.digest().is_none_or(|digest| *digest == known.manifest);
                if !fits {
                    return None;
                }
                let signer = signer(wanted.verifier.as_ref(), &name, &known.manifest, &known.signatures).ok()?;
                Some(Fetched {
                    signer,
                    ..Fetched::plain(cache.blob(&known.component)?, known.component)
                })
            }
        }
    }

    /// Keeps on disk what turned out to load.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, fetched: &Fetched) -> io::Result<()> {
        let Some(cache) = &self.cache else { return Ok(()) };
        if fetched.trouble.is_some() {
            return Ok(());
        }
        cache.keep_blob(&fetched.digest, &fetched.component)?;
        match &fetched.keep {
            Some(known) => cache.keep_known(known),
            None => Ok(()),
        }
    }

    async fn current(&self, registry: &Registry, wanted: &Wanted, watch: Watch<'_>) -> Result<Fetched, Error> {
        match &wanted.origin {
            Origin::Https(url, digest) => {
                pinned(wanted, url, digest)?;
                let cached = self.cache.as_ref().and_then(|cache| cache.blob(digest));
                let component = match cached {
                    Some(component) => component,
                    None => registry.fetch(url, digest, watch).await?,
                };
                Ok(Fetched::plain(component, digest.clone()))
            }
            Origin::Oci(reference) => self.of_registry(registry, reference, wanted, watch).await,
        }
    }

    async fn of_registry(
        &self,
        registry: &Registry,
        reference: &Reference,
        wanted: &Wanted,
        watch: Watch<'_>,
    ) -> Result<Fetched, Error> {
        let name = reference.to_string();
        let now = match reference.digest() {
            Some(digest) => Some(digest.clone()),
            None => registry.peek(reference).await?,
        };
        let known = self.cache.as_ref().and_then(|cache| cache.known(&name));
        let known = known.filter(|known| now.as_ref() == Some(&known.manifest));
        let cached = known.and_then(|known| {
            let component = self.cache.as_ref()?.blob(&known.component)?;
            Some((known, component))
        });
        let (manifest, digest, component, content, before) = if let Some((known, component)) = cached {
            pinned(wanted, &name, &known.component)?;
            (
                known.manifest,
                known.component,
                component,
                known.content,
                known.signatures,
            )
        } else {
            let exactly = now.map_or_else(|| reference.clone(), |now| reference.at(&now));
            let (manifest, content) = registry.manifest(&exactly).await?;
            let layer = component_of(&name, &content)?;
            pinned(wanted, &name, &layer.digest)?;
            let cached = self.cache.as_ref().and_then(|cache| cache.blob(&layer.digest));
            let component = match cached {
                Some(component) => component,
                None => registry.component(&reference.at(&manifest), &layer, watch).await?,
            };
            let content = String::from_utf8_lossy(&content).into_owned();
            (manifest, layer.digest, component, content, Vec::new())
        };
        // What was found before may do; if not, somebody may have signed it since.
        let found = signer(wanted.verifier.as_ref(), &name, &manifest, &before);
        let (signatures, signer) = if let Ok(signer) = found {
            (before, signer)
        } else {
            let signatures = registry.signatures(reference, &manifest).await?;
            let signer = signer(wanted.verifier.as_ref(), &name, &manifest, &signatures)?;
            (signatures, signer)
        };
        Ok(Fetched {
            signer,
            keep: Some(Known::new(&name, manifest, digest.clone(), content, signatures)),
            ..Fetched::plain(component, digest)
        })
    }
}

impl Fetched {
    fn plain(component: Bytes, digest: Digest) -> Self {
        Self {
            component,
            digest,
            signer: None,
            trouble: None,
            keep: None,
        }
    }
}

fn signer(
    verifier: Option<&Verifier>,
    name: &str,
    manifest: &Digest,
    signatures: &[Signature],
) -> Result<Option<String>, Error> {
    verifier
        .map(|verifier| verifier.signer(name, manifest, signatures))
        .transpose()
}

/// Refused before anything is fetched.
fn pinned(wanted: &Wanted, name: &str, found: &Digest) -> Result<(), Error> {
    match &wanted.pinned {
        Some(pinned) if pinned != found => Err(Error::Lies {
            what: format!("the component of {name}"),
            said: format!("{pinned} (spec.digest)"),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}
