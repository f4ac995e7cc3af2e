//! What can go wrong between here and an API server, each with what to do about it.

use super::Kind;
use super::kinds::INFERENCE_SERVICE;

/// What was asked of an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// As roles have it: `list`, `get`, `create`, `patch`.
    pub verb: &'static str,
    /// Of what.
    pub kind: &'static Kind,
    /// Where; none for all namespaces, and for what is in none.
    pub namespace: Option<String>,
    /// Which one; none for all.
    pub name: Option<String>,
}

impl Attempt {
    /// Listing a kind.
    pub fn list(kind: &'static Kind, namespace: Option<&str>) -> Self {
        Self {
            verb: "list",
            kind,
            namespace: namespace.map(str::to_owned),
            name: None,
        }
    }

    /// Reading one object.
    pub fn get(kind: &'static Kind, namespace: Option<&str>, name: &str) -> Self {
        Self::named("get", kind, namespace, name)
    }

    /// Doing something to one object.
    pub fn named(verb: &'static str, kind: &'static Kind, namespace: Option<&str>, name: &str) -> Self {
        Self {
            verb,
            kind,
            namespace: namespace.map(str::to_owned),
            name: Some(name.to_owned()),
        }
    }

    /// `patch inferenceservices.serving.kserve.io fraud in namespace team-a`
    fn told(&self) -> String {
        let mut told = format!("{} {}", self.verb, self.kind.in_roles());
        if let Some(name) = &self.name {
            told = format!("{told} {name}");
        }
        match &self.namespace {
            Some(namespace) => format!("{told} in namespace {namespace}"),
            None if self.name.is_none() => format!("{told} in all namespaces"),
            None => told,
        }
    }
}

/// Why a cluster could not be asked, or did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no kubeconfig, or it can't be used.
    #[error("no cluster to work on: {reason}")]
    NoCluster {
        /// What is wrong with it.
        reason: String,
    },
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context `{name}`")]
    NoContext {
        /// The one that was asked for.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// Nobody answers, or not in a way that can be understood.
    #[error("no answer from the API server {server}: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// The innermost cause.
        reason: String,
    },
    /// The API server doesn't know who asks.
    #[error("the API server {server} doesn't accept these credentials")]
    Unauthorized {
        /// Its address.
        server: String,
    },
    /// The API server says no.
    #[error("not allowed to {}", attempt.told())]
    Forbidden {
        /// What was asked.
        attempt: Attempt,
        /// All that is missing for what it was asked for, as far as that is known: kinds and verbs.
        missing: Vec<(&'static Kind, &'static str)>,
    },
    /// The API server doesn't know the kind.
    #[error("this cluster doesn't know the kind {}", kind.kind)]
    UnknownKind {
        /// The kind.
        kind: &'static Kind,
    },
    /// A namespace, or an object, isn't there.
    #[error("can't {}: {message}", attempt.told())]
    NotFound {
        /// What was asked.
        attempt: Attempt,
        /// The API server's words.
        message: String,
    },
    /// Somebody else wrote in between.
    #[error("can't {}: it was changed meanwhile", attempt.told())]
    Changed {
        /// What was asked.
        attempt: Attempt,
    },
    /// The API server, or a webhook that it asked, refuses the object.
    #[error("can't {}: {message}", attempt.told())]
    Refused {
        /// What was asked.
        attempt: Attempt,
        /// Their words.
        message: String,
    },
}

impl Error {
    pub(super) fn of(attempt: Attempt, server: &str, error: &kube::Error) -> Self {
        let server = server.to_owned();
        let kube::Error::Api(status) = error else {
            return Self::Unreachable {
                server,
                reason: innermost(error),
            };
        };
        let message = status.message.clone();
        match status.code {
            401 => Self::Unauthorized { server },
            // A webhook that refuses answers with the same code; only the API server's own refusal has a reason.
            403 if status.reason == "Forbidden" && message.contains(" cannot ") => {
                // To apply what isn't there takes `create` beside `patch`.
                let lacks_create = message.contains(" cannot create ");
                let verb = if lacks_create { "create" } else { attempt.verb };
                Self::Forbidden {
                    attempt: Attempt { verb, ..attempt },
                    missing: Vec::new(),
                }
            }
            // For a kind that it doesn't know the API server has a page, not an object that is missing.
            404 if attempt.name.is_none() || status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
                Self::UnknownKind { kind: attempt.kind }
            }
            404 => Self::NotFound { attempt, message },
            409 => Self::Changed { attempt },
            _ => Self::Refused { attempt, message },
        }
    }

    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::NoCluster { .. } => {
                "name a kubeconfig by --kubeconfig or KUBECONFIG, and a context of it by --context".to_owned()
            }
            Self::NoContext { known, .. } if known.is_empty() => {
                "it has none at all; name another one by --kubeconfig".to_owned()
            }
            Self::NoContext { known, .. } => format!("it has {}", known.join(", ")),
            Self::Unreachable { server, .. } => {
                format!("is {server} the right cluster (--context), and does `kubectl version` reach it?")
            }
            Self::Unauthorized { .. } => {
                "log in again, or choose another user of the kubeconfig with --context; a token of an `auth-provider: oidc` is renewed by `kubectl get namespaces`"
                    .to_owned()
            }
            Self::Forbidden { attempt, missing } => {
                let own = (attempt.kind, attempt.verb);
                let known = missing.contains(&own);
                let rights: Vec<_> = missing.iter().copied().chain((!known).then_some(own)).collect();
                let place = match &attempt.namespace {
                    Some(namespace) => format!("in namespace {namespace}"),
                    None => "in the whole cluster (by a ClusterRole)".to_owned(),
                };
                format!("ask for a role with {} {place}", listed(&rights))
            }
            Self::UnknownKind { kind } => kind.install.to_owned(),
            Self::NotFound { attempt, .. } => {
                let kind = attempt.kind;
                match &attempt.namespace {
                    Some(namespace) if *kind == INFERENCE_SERVICE => format!(
                        "`tidewaiter list --namespace {namespace}` shows what is there; name another namespace by --namespace"
                    ),
                    Some(namespace) => format!(
                        "look whether there is a namespace {namespace}, and what is in it: `kubectl --namespace {namespace} get {}`; name another \
                         one by --namespace",
                        kind.in_roles()
                    ),
                    None => format!("`kubectl get {}` shows those that there are", kind.in_roles()),
                }
            }
            Self::Changed { .. } => "run the command again, and look at what it shows".to_owned(),
            Self::Refused { .. } => "do what the message says, and run the command again".to_owned(),
        }
    }
}

/// `the verb get on pods, and the verbs get and create on secrets`
fn listed(rights: &[(&'static Kind, &'static str)]) -> String {
    let of_kind = rights.chunk_by(|(one, _), (next, _)| one == next).map(|rights| {
        let resource = rights[0].0.in_roles();
        let verbs: Vec<&str> = rights.iter().map(|(_, verb)| *verb).collect();
        match verbs.split_last() {
            Some((last, first)) if !first.is_empty() => {
                format!("the verbs {} and {last} on {resource}", first.join(", "))
            }
            _ => format!("the verb {} on {resource}", verbs.join(", ")),
        }
    });
    of_kind.collect::<Vec<_>>().join(", and ")
}

/// The cause that says something: those around it say "client error (Connect)".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds;
    use super::*;

    fn api(code: u16, reason: &str, message: &str, name: &str) -> kube::Error {
        let status = json!({"code": code, "reason": reason, "message": message, "details": {"name": name}});
        kube::Error::Api(serde_json::from_value(status).unwrap())
    }

    fn told(attempt: Attempt, error: &kube::Error) -> String {
        let error = Error::of(attempt, "https://k8s", error);
        format!("{error}; {}", error.next())
    }

    #[test]
    fn a_refusal_names_verb_resource_and_place() {
        let no = api(
            403,
            "Forbidden",
            "secrets is forbidden: User \"eve\" cannot list resource \"secrets\"",
            "",
        );
        assert_eq!(
            told(Attempt::list(&kinds::SECRET, None), &no),
            "not allowed to list secrets in all namespaces; ask for a role with the verb list on secrets in the whole cluster (by a ClusterRole)"
        );
        assert_eq!(
            told(
                Attempt::named("patch", &kinds::INFERENCE_SERVICE, Some("team-a"), "fraud"),
                &no
            ),
            "not allowed to patch inferenceservices.serving.kserve.io fraud in namespace team-a; ask for a role with the verb patch on \
             inferenceservices.serving.kserve.io in namespace team-a"
        );
    }

    /// By kubectl, which writes down what it was given: a provider that takes each refresh token once would take the user's from them.
    #[test]
    fn who_renews_a_token_of_oidc_is_told() {
        let told = told(
            Attempt::list(&kinds::POD, None),
            &api(401, "Unauthorized", "Unauthorized", ""),
        );
        assert!(
            told.contains("log in again") && told.contains("auth-provider: oidc"),
            "{told}"
        );
    }

    #[test]
    fn all_that_is_missing_is_asked_for_at_once() {
        let next = |missing: &[(&'static Kind, &'static str)]| {
            let error = Error::Forbidden {
                attempt: Attempt::get(&kinds::SECRET, Some("team-a"), "fraud-store"),
                missing: missing.to_vec(),
            };
            error.next()
        };
        let (secret, account) = (&kinds::SECRET, &kinds::SERVICE_ACCOUNT);
        assert_eq!(
            next(&[
                (secret, "get"),
                (secret, "patch"),
                (secret, "create"),
                (account, "create")
            ]),
            "ask for a role with the verbs get, patch and create on secrets, and the verb create on serviceaccounts in namespace team-a"
        );
        // What was refused is missing, whatever the API server says when it is asked.
        assert_eq!(
            next(&[(account, "get"), (account, "patch")]),
            "ask for a role with the verbs get and patch on serviceaccounts, and the verb get on secrets in namespace team-a"
        );
    }

    #[test]
    fn who_may_patch_and_not_create_lacks_create() {
        let no = api(
            403,
            "Forbidden",
            "secrets \"fraud-store\" is forbidden: User \"eve\" cannot create resource \"secrets\" in API group \"\" in the namespace \"team-a\"",
            "fraud-store",
        );
        assert_eq!(
            told(
                Attempt::named("patch", &kinds::SECRET, Some("team-a"), "fraud-store"),
                &no
            ),
            "not allowed to create secrets fraud-store in namespace team-a; ask for a role with the verb create on secrets in namespace team-a"
        );
    }

    #[test]
    fn a_webhook_that_refuses_is_not_taken_for_a_missing_right() {
        let no = api(
            403,
            "Forbidden",
            "admission webhook \"mutate.tidewaiter.dev\" denied the request: no",
            "",
        );
        let attempt = Attempt::named("patch", &kinds::INFERENCE_SERVICE, Some("a"), "fraud");
        assert!(matches!(Error::of(attempt, "", &no), Error::Refused { .. }));
    }

    #[test]
    fn a_missing_definition_is_told_from_a_missing_object() {
        let page = api(404, "NotFound", "the server could not find the requested resource", "");
        let told = told(Attempt::list(&kinds::POLICY_REPORT, None), &page);
        assert!(
            told.starts_with("this cluster doesn't know the kind PolicyReport; install its definition"),
            "{told}"
        );
        let gone = api(404, "NotFound", "namespaces \"x\" not found", "x");
        let attempt = Attempt::named("create", &kinds::SECRET, Some("x"), "minio");
        assert_eq!(
            self::told(attempt, &gone),
            "can't create secrets minio in namespace x: namespaces \"x\" not found; look whether there is a namespace x, and what is in it: \
             `kubectl --namespace x get secrets`; name another one by --namespace"
        );
        let missing = api(404, "NotFound", "there is no such service", "fraud");
        let attempt = Attempt::get(&kinds::INFERENCE_SERVICE, Some("x"), "fraud");
        assert_eq!(
            Error::of(attempt, "", &missing).next(),
            "`tidewaiter list --namespace x` shows what is there; name another namespace by --namespace"
        );
    }
}
