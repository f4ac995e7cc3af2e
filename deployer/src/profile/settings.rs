//! What holds now: flags before the environment before the profile.

use std::collections::BTreeMap;
use std::fmt;

use super::{Error, Key, Profiles};
use crate::source::without_token;

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The profile of this name.
    Profile(String),
    /// The key's variable of the environment.
    Environment,
    /// The key's flag.
    Flag,
}

/// What is set, each with who said it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    profile: Option<String>,
    values: BTreeMap<Key, (String, Origin)>,
}

impl Settings {
    /// `name` is the profile that was asked for; else it is the current one, if there is one. An empty variable is none.
    ///
    /// # Errors
    /// [`Error::NoProfile`], and [`Error::Value`] for a variable or flag that makes no sense.
    pub fn resolve(
        profiles: &Profiles,
        name: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
        flags: &BTreeMap<Key, String>,
    ) -> Result<Self, Error> {
        let profile = match name {
            Some(name) => Some((name, profiles.get(name)?)),
            None => profiles.current(),
        };
        let mut values = BTreeMap::new();
        for key in Key::ALL {
            let variable = || environment(key.variable()).filter(|value| !value.is_empty());
            let (value, origin) = if let Some(flag) = flags.get(&key) {
                (flag.clone(), Origin::Flag)
            } else if let Some(variable) = variable() {
                (variable, Origin::Environment)
            } else if let Some((name, value)) = profile.and_then(|(name, profile)| Some((name, profile.get(&key)?))) {
                (value.clone(), Origin::Profile(name.to_owned()))
            } else {
                continue;
            };
            // MLflow itself takes a user and a password in its variable, and a folder.
            if !(key == Key::TrackingServer && origin == Origin::Environment) {
                key.check(&value).map_err(|reason| Error::Value {
                    place: origin.place(key),
                    reason,
                })?;
            }
            values.insert(key, (value, origin));
        }
        Ok(Self {
            profile: profile.map(|(name, _)| name.to_owned()),
            values,
        })
    }

    /// The profile that was taken.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// What is set for a key.
    pub fn get(&self, key: Key) -> Option<&str> {
        self.values.get(&key).map(|(value, _)| value.as_str())
    }

    /// Who said it.
    pub fn origin(&self, key: Key) -> Option<&Origin> {
        self.values.get(&key).map(|(_, origin)| origin)
    }

    /// What is set for a key, for a person to read: as [`shown`].
    pub fn shown(&self, key: Key) -> Option<String> {
        self.get(key).map(shown)
    }
}

/// A value for a person to read: without the user, the password and the token that an address may carry.
pub fn shown(value: &str) -> String {
    let value = without_token(value);
    let Ok(mut url) = url::Url::parse(&value) else {
        return value;
    };
    if url.username().is_empty() && url.password().is_none() {
        return value;
    }
    let hidden = url.set_username("***").and_then(|()| url.set_password(None));
    if hidden.is_ok() { url.into() } else { "***".to_owned() }
}

impl Origin {
    fn place(&self, key: Key) -> String {
        match self {
            Self::Profile(name) => format!("{key} of the profile {name}"),
            Self::Environment => key.variable().to_owned(),
            Self::Flag => key.flag().to_owned(),
        }
    }

    /// As a table's cell: `--namespace`, `$TIDEWAITER_NAMESPACE`, `profile dev`.
    pub fn shown(&self, key: Key) -> impl fmt::Display {
        match self {
            Self::Profile(name) => format!("profile {name}"),
            Self::Environment => format!("${}", key.variable()),
            Self::Flag => key.flag().to_owned(),
        }
    }
}
