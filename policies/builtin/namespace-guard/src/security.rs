//! Pod Security: what a namespace's level refuses in a Pod.
//!
//! Source: `policy/check_*.go` of k8s.io/pod-security-admission 0.36. AppArmor, SELinux, sysctls, Windows and the hosts of probes aren't looked at: nothing is
//! said of them.

use std::collections::BTreeSet;

use crate::pod::{Container, Pod, Profile};

/// The label that says which level is enforced.
pub(crate) const LABEL: &str = "pod-security.kubernetes.io/enforce";

const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const RESTRICTED_CAPABILITIES: [&str; 1] = ["NET_BIND_SERVICE"];
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// A level that refuses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Baseline,
    Restricted,
}

/// What a Pod leaves out that its namespace wants to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    NonRoot,
    Seccomp,
    Escalation,
    DropAll,
}

impl Level {
    /// By the label's value; none for `privileged`, and for one that Kubernetes doesn't know.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }

    /// What the Pod asks for and may not have, in the words of its manifest.
    pub(crate) fn refuses(self, pod: &Pod) -> Vec<String> {
        let mut refused: Vec<String> = pod.host.iter().map(|field| format!("{field}: true")).collect();
        for volume in &pod.volumes {
            let allowed = |source: &String| match self {
                Self::Baseline => source != "hostPath",
                Self::Restricted => RESTRICTED_VOLUMES.contains(&source.as_str()),
            };
            if let Some(source) = volume.source.keys().find(|source| !allowed(source)) {
                refused.push(format!("volume {} ({source})", volume.name));
            }
        }
        refused.extend(self.refused_profile(pod.security.seccomp_profile.as_ref()));
        if self == Self::Restricted && pod.host_users {
            refused.extend(root(pod.security.run_as_non_root, pod.security.run_as_user));
        }
        for container in pod.all() {
            let of_container = self.refuses_container(container, pod.host_users);
            refused.extend(of_container.map(|what| format!("{what} in container {}", container.name)));
        }
        refused
    }

    fn refuses_container(self, container: &Container, host_users: bool) -> impl Iterator<Item = String> {
        let mut refused = Vec::new();
        let ports = container.ports.iter().flatten().filter_map(|port| port.host_port);
        refused.extend(ports.filter(|port| *port != 0).map(|port| format!("hostPort: {port}")));
        if let Some(security) = &container.security_context {
            if security.privileged == Some(true) {
                refused.push("privileged: true".to_owned());
            }
            let allowed: &[&str] = match self {
                Self::Baseline => &BASELINE_CAPABILITIES,
                Self::Restricted => &RESTRICTED_CAPABILITIES,
            };
            let added = security.capabilities.iter().flat_map(|all| all.add.iter().flatten());
            let added = added.filter(|name| !allowed.contains(&name.as_str()));
            refused.extend(added.map(|name| format!("capability {name}")));
            let proc_mount = security
                .proc_mount
                .as_deref()
                .filter(|mount| host_users && *mount != "Default");
            refused.extend(proc_mount.map(|mount| format!("procMount: {mount}")));
            refused.extend(self.refused_profile(security.seccomp_profile.as_ref()));
            if self == Self::Restricted {
                if security.allow_privilege_escalation == Some(true) {
                    refused.push("allowPrivilegeEscalation: true".to_owned());
                }
                if host_users {
                    refused.extend(root(security.run_as_non_root, security.run_as_user));
                }
            }
        }
        refused.into_iter()
    }

    fn refused_profile(self, profile: Option<&Profile>) -> Option<String> {
        let allowed = |kind: &str| match self {
            Self::Baseline => kind != "Unconfined",
            Self::Restricted => kind == "RuntimeDefault" || kind == "Localhost",
        };
        profile
            .filter(|profile| !profile.kind.is_empty() && !allowed(&profile.kind))
            .map(|profile| format!("seccompProfile: {}", profile.kind))
    }

    /// What this container leaves out, in its Pod.
    pub(crate) fn missing(self, pod: &Pod, container: &Container) -> BTreeSet<Missing> {
        let mut missing = BTreeSet::new();
        if self == Self::Baseline {
            return missing;
        }
        let security = container.security_context.as_ref();
        let is_said = |said: bool, what: Missing, missing: &mut BTreeSet<Missing>| {
            if !said {
                missing.insert(what);
            }
        };
        let non_root = security.and_then(|security| security.run_as_non_root);
        is_said(
            !pod.host_users || non_root.or(pod.security.run_as_non_root).is_some(),
            Missing::NonRoot,
            &mut missing,
        );
        let profile = security.and_then(|security| security.seccomp_profile.as_ref());
        is_said(
            profile.or(pod.security.seccomp_profile.as_ref()).is_some(),
            Missing::Seccomp,
            &mut missing,
        );
        let escalation = security.and_then(|security| security.allow_privilege_escalation);
        is_said(escalation.is_some(), Missing::Escalation, &mut missing);
        let dropped = security
            .and_then(|security| security.capabilities.as_ref()?.drop.as_ref())
            .is_some_and(|dropped| dropped.iter().any(|name| name == "ALL"));
        is_said(dropped, Missing::DropAll, &mut missing);
        missing
    }
}

fn root(non_root: Option<bool>, user: Option<i64>) -> impl Iterator<Item = String> {
    let may_be_root = (non_root == Some(false)).then(|| "runAsNonRoot: false".to_owned());
    may_be_root
        .into_iter()
        .chain((user == Some(0)).then(|| "runAsUser: 0".to_owned()))
}

impl Missing {
    /// What is to be written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NonRoot => "runAsNonRoot: true",
            Self::Seccomp => "seccompProfile: {type: RuntimeDefault}",
            Self::Escalation => "allowPrivilegeEscalation: false",
            Self::DropAll => "capabilities: {drop: [ALL]}",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::{Component, Resources};

    fn pod(value: &Value) -> Pod {
        let component: Component = serde_json::from_str(&value.to_string()).unwrap();
        Pod::of(&component, None, Some(&Resources::default()))
    }

    fn container(security: &Value) -> Pod {
        pod(&json!({"containers": [{"name": "x", "securityContext": security}]}))
    }

    #[test]
    fn each_level_refuses_what_kubernetes_does() {
        for (component, baseline, restricted) in [
            (
                json!({"hostNetwork": true, "hostPID": true}),
                "hostNetwork: true, hostPID: true",
                "hostNetwork: true, hostPID: true",
            ),
            (
                json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
                "volume v (hostPath)",
                "volume v (hostPath)",
            ),
            (
                json!({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}),
                "",
                "volume v (nfs)",
            ),
            (
                json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "p", "persistentVolumeClaim": {"claimName": "c"}}]}),
                "",
                "",
            ),
            (
                json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
                "seccompProfile: Unconfined",
                "seccompProfile: Unconfined",
            ),
            (
                json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}}),
                "",
                "runAsNonRoot: false, runAsUser: 0",
            ),
            (
                json!({"containers": [{"name": "x", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
                "hostPort: 80 in container x",
                "hostPort: 80 in container x",
            ),
        ] {
            let pod = pod(&component);
            assert_eq!(Level::Baseline.refuses(&pod).join(", "), baseline, "{component}");
            assert_eq!(Level::Restricted.refuses(&pod).join(", "), restricted, "{component}");
        }
        for (security, baseline, restricted) in [
            (
                json!({"privileged": true}),
                "privileged: true in container x",
                "privileged: true in container x",
            ),
            (
                json!({"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}}),
                "",
                "capability CHOWN in container x",
            ),
            (
                json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
                "capability SYS_ADMIN in container x",
                "capability SYS_ADMIN in container x",
            ),
            (
                json!({"procMount": "Unmasked"}),
                "procMount: Unmasked in container x",
                "procMount: Unmasked in container x",
            ),
            (
                json!({"allowPrivilegeEscalation": true, "runAsUser": 0}),
                "",
                "allowPrivilegeEscalation: true in container x, runAsUser: 0 in container x",
            ),
            (
                json!({"allowPrivilegeEscalation": false, "runAsUser": 1000, "procMount": "Default"}),
                "",
                "",
            ),
        ] {
            let pod = container(&security);
            assert_eq!(Level::Baseline.refuses(&pod).join(", "), baseline, "{security}");
            assert_eq!(Level::Restricted.refuses(&pod).join(", "), restricted, "{security}");
        }
        assert_eq!(Level::named("privileged"), None);
    }

    #[test]
    fn restricted_wants_four_things_said_of_each_container() {
        use Missing::{DropAll, Escalation, NonRoot, Seccomp};
        let missing = |pod: &Pod| Vec::from_iter(Level::Restricted.missing(pod, &pod.containers[0]));
        let silent = container(&json!(null));
        assert_eq!(missing(&silent), [NonRoot, Seccomp, Escalation, DropAll]);
        assert!(Level::Baseline.missing(&silent, &silent.containers[0]).is_empty());
        // What KServe's runtimes say.
        let mut runtime = container(&json!({
            "allowPrivilegeEscalation": false, "privileged": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        }));
        assert_eq!(missing(&runtime), [Seccomp]);
        runtime.security.seccomp_profile = Some(Profile {
            kind: "RuntimeDefault".to_owned(),
        });
        assert!(missing(&runtime).is_empty());
    }
}
