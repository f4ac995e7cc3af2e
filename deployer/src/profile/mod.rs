//! Profiles: which cluster, which stores, by a name, in a file of the user's. None holds a secret.
//!
//! ```yaml
//! current: dev
//! profiles:
//!   dev:
//!     kubernetes_context: kind-dev
//!     kubernetes_namespace: team-a
//!     artifact_store: s3://models/
//!     tracking_server: http://mlflow.team-a:5000
//! ```

mod key;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use key::{Key, UnknownKey};
pub use settings::{Origin, Settings, shown};

/// What one profile says.
pub type Profile = BTreeMap<Key, String>;

/// All profiles of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles {
    current: Option<String>,
    profiles: BTreeMap<String, Profile>,
}

/// Why profiles can't be read, changed or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("can't {attempt} the profiles in {file}: {reason}")]
    File {
        /// `read` or `write`.
        attempt: &'static str,
        /// Which one.
        file: String,
        /// The system's words.
        reason: String,
    },
    /// The file is not what it should be.
    #[error("{file} is no file of profiles: {reason}")]
    Form {
        /// Which one.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// There is none of this name.
    #[error("there is no profile `{name}`")]
    NoProfile {
        /// The one that was asked for.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// A value makes no sense.
    #[error("{place}: {reason}")]
    Value {
        /// Where it stands.
        place: String,
        /// What is wrong with it, and what it has to be.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::File { .. } => {
                "see to the file and its folder, or name another one in TIDEWAITER_PROFILES".to_owned()
            }
            Self::Form { file, .. } => format!("mend {file}, or move it away and make its profiles again"),
            Self::NoProfile { known, .. } if known.is_empty() => {
                "make one: `tidewaiter profile set NAME kubernetes_namespace=NAMESPACE`".to_owned()
            }
            Self::NoProfile { known, .. } => format!("there are {}", known.join(", ")),
            Self::Value { .. } => "give it as the message says".to_owned(),
        }
    }
}

/// The file. Its keys are text there, so that a wrong one is told with the place where it stands.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, BTreeMap<String, String>>,
}

impl Profiles {
    /// Those of a file; none where there is no file.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Form`], and [`Error::Value`] for a value that makes no sense.
    pub fn read(file: &Path) -> Result<Self, Error> {
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::File {
                attempt: "read",
                file: file.display().to_string(),
                reason: error.to_string(),
            }),
        }
    }

    fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let form = |reason: String| Error::Form {
            file: file.display().to_string(),
            reason,
        };
        let read: File = if text.trim().is_empty() {
            File::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| form(error.to_string()))?
        };
        let mut profiles = Self::default();
        for (name, values) in read.profiles {
            let mut profile = Profile::new();
            for (key, value) in values {
                let key: Key = key.parse().map_err(|error| form(format!("profile {name}: {error}")))?;
                profile.insert(key, value);
            }
            profiles.profiles.insert(name, profile);
        }
        match read.current {
            Some(name) if !profiles.profiles.contains_key(&name) => {
                return Err(form(format!("`current` is {name}, and there is no such profile")));
            }
            current => profiles.current = current,
        }
        Ok(profiles)
    }

    /// Writes the file, whole or not at all, for its owner alone.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, file: &Path) -> Result<(), Error> {
        let failed = |reason: String| Error::File {
            attempt: "write",
            file: file.display().to_string(),
            reason,
        };
        let text = |key: &Key, value: &String| (key.as_str().to_owned(), value.clone());
        let profile = |(name, values): (&String, &Profile)| {
            (
                name.clone(),
                values.iter().map(|(key, value)| text(key, value)).collect(),
            )
        };
        let written = File {
            current: self.current.clone(),
            profiles: self.profiles.iter().map(profile).collect(),
        };
        let yaml = serde_saphyr::to_string(&written).map_err(|error| failed(error.to_string()))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let put = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
            temporary.write_all(yaml.as_bytes())?;
            temporary.as_file().sync_all()?;
            temporary.persist(file)?;
            Ok(())
        };
        put().map_err(|error| failed(error.to_string()))
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// The one that is used where none is asked for.
    pub fn current(&self) -> Option<(&str, &Profile)> {
        let name = self.current.as_deref()?;
        Some((name, self.profiles.get(name)?))
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`Error::NoProfile`].
    pub fn get(&self, name: &str) -> Result<&Profile, Error> {
        self.profiles.get(name).ok_or_else(|| self.none(name))
    }

    /// Makes a profile of this name, or changes it: `None` takes a key out of it. The first one becomes the current one.
    ///
    /// # Errors
    /// [`Error::Value`], and then nothing is changed.
    pub fn set(&mut self, name: &str, values: impl IntoIterator<Item = (Key, Option<String>)>) -> Result<(), Error> {
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::Value {
                place: "the profile's name".to_owned(),
                reason: "it is one word".to_owned(),
            });
        }
        let mut profile = self.profiles.get(name).cloned().unwrap_or_default();
        for (key, value) in values {
            let Some(value) = value else {
                profile.remove(&key);
                continue;
            };
            key.check(&value)
                .and_then(|()| key.keeps(&value))
                .map_err(|reason| Error::Value {
                    place: key.to_string(),
                    reason,
                })?;
            profile.insert(key, value);
        }
        self.profiles.insert(name.to_owned(), profile);
        if self.current.is_none() {
            self.current = Some(name.to_owned());
        }
        Ok(())
    }

    /// Takes this one where none is asked for.
    ///
    /// # Errors
    /// [`Error::NoProfile`].
    pub fn choose(&mut self, name: &str) -> Result<(), Error> {
        self.get(name)?;
        self.current = Some(name.to_owned());
        Ok(())
    }

    /// Forgets one; if it was the current one, there is none then.
    ///
    /// # Errors
    /// [`Error::NoProfile`].
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.profiles.remove(name).ok_or_else(|| self.none(name))?;
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        Ok(())
    }

    fn none(&self, name: &str) -> Error {
        Error::NoProfile {
            name: name.to_owned(),
            known: self.names().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> Profiles {
        let mut profiles = Profiles::default();
        let value = |key, value: &str| (key, Some(value.to_owned()));
        profiles
            .set(
                "dev",
                [value(Key::KubernetesNamespace, "team-a"), value(Key::Secret, "minio")],
            )
            .unwrap();
        profiles.set("prod", [value(Key::KubernetesNamespace, "live")]).unwrap();
        profiles
    }

    fn resolved(name: Option<&str>, environment: &[(&str, &str)], flags: &[(Key, &str)]) -> Result<Settings, Error> {
        let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let environment = |name: &str| {
            let found = environment.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::resolve(&profiles(), name, environment, &flags)
    }

    #[test]
    fn flags_come_before_the_environment_before_the_profile() {
        let namespace = |settings: &Settings| settings.get(Key::KubernetesNamespace).map(str::to_owned);
        let variable = [("TIDEWAITER_NAMESPACE", "from-env")];
        let flag = [(Key::KubernetesNamespace, "from-flag")];
        let of_file = resolved(None, &[], &[]).unwrap();
        assert_eq!(namespace(&of_file).as_deref(), Some("team-a"));
        assert_eq!(of_file.profile(), Some("dev"));
        assert_eq!(
            namespace(&resolved(Some("prod"), &[], &[]).unwrap()).as_deref(),
            Some("live")
        );
        let of_environment = resolved(None, &variable, &[]).unwrap();
        assert_eq!(namespace(&of_environment).as_deref(), Some("from-env"));
        // What only the profile says still holds.
        assert_eq!(of_environment.get(Key::Secret), Some("minio"));
        let of_flag = resolved(None, &variable, &flag).unwrap();
        assert_eq!(namespace(&of_flag).as_deref(), Some("from-flag"));
        assert_eq!(of_flag.origin(Key::KubernetesNamespace), Some(&Origin::Flag));
        // An empty variable is one that somebody unset the shell's way.
        let unset = resolved(None, &[("TIDEWAITER_NAMESPACE", "")], &[]).unwrap();
        assert_eq!(namespace(&unset).as_deref(), Some("team-a"));
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deeper/profiles.yaml");
        assert_eq!(Profiles::read(&file).unwrap(), Profiles::default());
        profiles().write(&file).unwrap();
        assert_eq!(Profiles::read(&file).unwrap(), profiles());
        let mut changed = profiles();
        changed.set("dev", [(Key::Secret, None)]).unwrap();
        changed.choose("prod").unwrap();
        changed.write(&file).unwrap();
        assert_eq!(Profiles::read(&file).unwrap(), changed);
        changed.remove("prod").unwrap();
        assert_eq!(changed.current(), None);
    }

    #[test]
    fn no_password_gets_into_a_profile_or_is_shown() {
        let mut profiles = profiles();
        let url = "http://eve:hunter2@mlflow:5000";
        let refused = profiles
            .set("dev", [(Key::TrackingServer, Some(url.to_owned()))])
            .unwrap_err();
        assert!(
            !format!("{refused} {}", refused.next()).contains("hunter2"),
            "{refused}"
        );
        assert_eq!(profiles, self::profiles());
        let settings = resolved(None, &[("MLFLOW_TRACKING_URI", url)], &[]).unwrap();
        assert_eq!(settings.get(Key::TrackingServer), Some(url));
        assert_eq!(
            settings.shown(Key::TrackingServer).as_deref(),
            Some("http://***@mlflow:5000/")
        );
    }

    #[test]
    fn no_token_of_a_store_gets_into_a_profile_or_is_shown() {
        let mut profiles = profiles();
        let store = "https://models.blob.core.windows.net/deployed?sv=2024&sig=s3cret";
        let refused = profiles
            .set("dev", [(Key::ArtifactStore, Some(store.to_owned()))])
            .unwrap_err();
        let told = format!("{refused} {}", refused.next());
        assert!(
            told.starts_with("artifact_store: ") && !told.contains("s3cret"),
            "{told}"
        );
        assert_eq!(profiles, self::profiles());
        assert_eq!(shown(store), "https://models.blob.core.windows.net/deployed?…");
        let settings = resolved(None, &[("TIDEWAITER_ARTIFACT_STORE", store)], &[]).unwrap();
        assert_eq!(settings.shown(Key::ArtifactStore), Some(shown(store)));
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_place() {
        let told = |text: &str| {
            let error = Profiles::parse(text, Path::new("profiles.yaml")).unwrap_err();
            format!("{error}; {}", error.next())
        };
        assert!(
            told("profiles: {dev: {namespace: a}}").contains("profile dev: a profile has no `namespace`; it may have")
        );
        assert!(told("current: dev\n").contains("`current` is dev"));
        assert!(told("profile: {}\n").contains("profile"));
        let flag = resolved(None, &[], &[(Key::ArtifactStore, "models")]).unwrap_err();
        assert!(flag.to_string().starts_with("--artifact-store: "), "{flag}");
        let variable = resolved(None, &[("TIDEWAITER_BASE_URL", "kserve.example")], &[]).unwrap_err();
        assert!(variable.to_string().starts_with("TIDEWAITER_BASE_URL: "), "{variable}");
        let none = resolved(Some("test"), &[], &[]).unwrap_err();
        assert_eq!(
            format!("{none}; {}", none.next()),
            "there is no profile `test`; there are dev, prod"
        );
    }
}
