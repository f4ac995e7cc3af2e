//! User names and passwords for registries, as Docker's configuration file and Secrets of the type `kubernetes.io/dockerconfigjson` hold them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Error;

/// What opens registries. Can't be printed.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials(Vec<Entry>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Entry {
    /// Host with port; `*.` at its beginning stands for one part of a name.
    host: String,
    /// The repositories that it is for begin with this.
    path: String,
    login: Login,
}

/// One account of a registry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Login {
    /// Sent to the registry itself, or changed for a token.
    Password { user: String, password: String },
    /// A refresh token, which a token server changes for another.
    Identity(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Account>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// The accounts of a `.dockerconfigjson`. Its `credHelpers` and `credsStore`, which name programs, are never run.
    ///
    /// # Errors
    /// Text that is no such file. The message holds nothing of it.
    pub fn docker_config(text: &[u8]) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Settings(format!("is no Docker configuration: {why}"));
        // What serde would say quotes the file, and with it a password.
        let file: File = serde_json::from_slice(text).map_err(|_| wrong("not a JSON object with `auths`"))?;
        let mut entries = Vec::new();
        for (server, auth) in file.auths {
            let login = match auth {
                Account {
                    identitytoken: Some(token),
                    ..
                } if !token.is_empty() => Login::Identity(token),
                Account {
                    username: Some(user),
                    password: Some(password),
                    ..
                } => Login::Password { user, password },
                Account { auth: Some(auth), .. } if !auth.is_empty() => {
                    let pair = STANDARD
                        .decode(auth.trim())
                        .ok()
                        .and_then(|pair| String::from_utf8(pair).ok());
                    let (user, password) = pair
                        .as_deref()
                        .and_then(|pair| pair.split_once(':'))
                        .ok_or_else(|| wrong("an `auth` is not the base64 of user:password"))?;
                    Login::Password {
                        user: user.to_owned(),
                        password: password.trim_end_matches('\0').to_owned(),
                    }
                }
                // Docker leaves an empty entry for what a helper keeps.
                _ => continue,
            };
            entries.push(Entry::new(&server, login));
        }
        Ok(Self(entries))
    }

    /// One account, for a whole registry.
    pub fn password(registry: &str, user: &str, password: &str) -> Self {
        let login = Login::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        Self(vec![Entry::new(registry, login)])
    }

    /// A token of a registry, as a credential helper gives it with the user name `<token>`.
    pub fn identity_token(registry: &str, token: &str) -> Self {
        Self(vec![Entry::new(registry, Login::Identity(token.to_owned()))])
    }

    /// These, and then those.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The account for a repository: of those whose host fits, the one with the longest path; among equal ones the first.
    pub(crate) fn of(&self, registry: &str, repository: &str) -> Option<&Login> {
        let fits = |entry: &&Entry| {
            let path = entry.path.as_str();
            let within = repository
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            entry.is_for(registry) && (path.is_empty() || within)
        };
        let mut best: Option<&Entry> = None;
        for entry in self.0.iter().filter(fits) {
            if best.is_none_or(|best| entry.path.len() > best.path.len()) {
                best = Some(entry);
            }
        }
        best.map(|entry| &entry.login)
    }
}

/// The host that Docker Hub's API is at, and the names by which it is known.
pub(crate) const DOCKER_HUB: &str = "registry-1.docker.io";
const HUB_NAMES: [&str; 4] = [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];

impl Entry {
    fn new(server: &str, login: Login) -> Self {
        let server = server.split_once("://").map_or(server, |(_, rest)| rest);
        let (host, path) = server.split_once('/').unwrap_or((server, ""));
        let path = path.trim_matches('/');
        // As `docker login` writes `https://index.docker.io/v1/`.
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            login,
        }
    }

    fn is_for(&self, registry: &str) -> bool {
        let hub = |host: &str| HUB_NAMES.contains(&host);
        if hub(&self.host) && hub(registry) {
            return true;
        }
        match self.host.strip_prefix("*.") {
            Some(domain) => registry
                .split_once('.')
                .is_some_and(|(part, rest)| !part.is_empty() && rest == domain),
            None => self.host == registry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(credentials: &Credentials, registry: &str, repository: &str) -> Option<String> {
        credentials.of(registry, repository).map(|login| match login {
            Login::Password { user, password } => format!("{user}:{password}"),
            Login::Identity(token) => token.clone(),
        })
    }

    #[test]
    fn every_form_of_an_account_is_read() {
        let file = serde_json::json!({
            "auths": {
                "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:pass:word")},
                "ghcr.io": {"username": "u", "password": "p"},
                "ghcr.io/acme": {"username": "acme", "password": "p"},
                "*.azurecr.io": {"identitytoken": "token"},
                "helper.example": {},
            },
            "credHelpers": {"evil.example": "rm"},
        });
        let credentials = Credentials::docker_config(file.to_string().as_bytes()).unwrap();
        for (registry, repository, expected) in [
            ("docker.io", "a/b", Some("hub:pass:word")),
            ("ghcr.io", "other/a", Some("u:p")),
            ("ghcr.io", "acme/a", Some("acme:p")),
            ("ghcr.io", "acme-evil/a", Some("u:p")),
            ("one.azurecr.io", "a", Some("token")),
            ("a.one.azurecr.io", "a", None),
            ("azurecr.io", "a", None),
            ("ghcr.io:443", "a", None),
            ("helper.example", "a", None),
            ("evil.example", "a", None),
        ] {
            assert_eq!(
                user(&credentials, registry, repository).as_deref(),
                expected,
                "{registry}/{repository}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_what_is_secret() {
        for text in [
            r#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": "secret"}"#,
            "secret",
        ] {
            let Err(error) = Credentials::docker_config(text.as_bytes()) else {
                panic!("{text} is read")
            };
            let error = error.to_string();
            assert!(!error.contains("secret") && !error.contains("c2VjcmV0"), "{error}");
        }
    }
}
