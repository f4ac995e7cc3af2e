//! Credentials that can't be written where they are used: the leader says how many, and for how long.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::Release;
use tidewaiter_ground::tls::base64;

use crate::shared::{Keyed, until_delivered};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "credentials_that_cannot_be_written_are_counted_with_their_age",
    credentials_that_cannot_be_written_are_counted_with_their_age,
)];

/// Somebody else's rule: in this namespace no Secret is changed.
fn rule(namespace: &str) -> Value {
    let group = "admissionregistration.k8s.io/v1";
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace}, "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["secrets"]},
            ]},
            "validations": [{"expression": "false", "message": "Secrets come from the vault alone"}],
        }},
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": namespace}, "spec": {
            "policyName": namespace,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        }},
    ]})
}

/// Takes the rule away, whatever became of the test.
struct Ruled<'r>(&'r Release, String);

impl Drop for Ruled<'_> {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            let _ = self.0.kubectl(&["delete", kind, &self.1]);
        }
    }
}

fn credentials_that_cannot_be_written_are_counted_with_their_age(world: &World) -> Result<()> {
    const ROTATED: &str = "rotated-while-held-back";
    let release = world.release()?;
    let namespace = world.cluster.namespace("held-back")?;
    let name = namespace.name();
    let keyed = Keyed::apply(world, &release, &namespace)?;
    namespace.apply(&keyed.model)?;
    until_delivered(world, &namespace, &keyed.copy)?;
    let told = || {
        let leader = release.leader()?;
        let of = |metric: &str| {
            release.metric(
                &leader,
                &format!("tidewaiter_credentials_{metric}{{backend=\"{name}\"}}"),
            )
        };
        Ok::<_, anyhow::Error>((of("stale")?, of("age_seconds")?))
    };
    ensure!(told()? == (0.0, 0.0), "{:?} before anything is held back", told()?);

    release.apply(&rule(name).to_string())?;
    let ruled = Ruled(&release, name.to_owned());
    let minutes = Duration::from_mins(2);
    let annotate = [
        "annotate",
        &keyed.copy,
        "tidewaiter-e2e/written=",
        "--dry-run=server",
        "--overwrite",
    ];
    world.cluster.until("the rule is in force", minutes, || {
        Ok(namespace.kubectl(&annotate).is_err().then_some(()))
    })?;
    keyed.key(ROTATED)?;
    let first = world.cluster.until("it is counted", minutes, || {
        let (stale, age) = told()?;
        Ok((stale > 0.0 && age > 0.0).then_some(age))
    })?;
    world.cluster.until("it grows older", minutes, || {
        let (stale, age) = told()?;
        ensure!(stale > 0.0, "nothing is counted any more");
        Ok((age > first).then_some(()))
    })?;

    drop(ruled);
    world.cluster.until("nothing is held back", minutes, || {
        let delivered = namespace.get(&keyed.copy)?["data"]["AWS_SECRET_ACCESS_KEY"].clone();
        ensure!(delivered == base64(ROTATED.as_bytes()), "another key is there");
        Ok((told()? == (0.0, 0.0)).then_some(()))
    })
}
