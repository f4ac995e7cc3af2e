//! Somebody else's rule about the Secrets of a namespace.

use anyhow::{Result, ensure};
use serde_json::json;
use tidewaiter_ground::{Cluster, Namespace};

/// What the rule says.
pub const VAULT: &str = "Secrets come from the vault alone; ask #vault";

/// Nobody may make or change a Secret in a namespace. Gone when dropped.
#[derive(Debug)]
pub struct Rule<'c> {
    cluster: &'c Cluster,
    name: String,
}

impl<'c> Rule<'c> {
    /// Stores it; it is in force a moment later.
    pub fn apply(cluster: &'c Cluster, namespace: &Namespace) -> Result<Self> {
        let name = namespace.name().to_owned();
        let group = "admissionregistration.k8s.io/v1";
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]},
                ]},
                "validations": [{"expression": "false", "message": VAULT}],
            }},
            {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
            }},
        ]});
        let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], &objects.to_string())?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(Self { cluster, name })
    }
}

impl Drop for Rule<'_> {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            let _ = self.cluster.kubectl(&["delete", kind, &self.name]);
        }
    }
}
