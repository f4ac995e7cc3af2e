//! What somebody does to minted keys in MinIO itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{backend, without_pods};
use tidewaiter_e2e::load::service;
use tidewaiter_e2e::minio::{admin, reads_only};
use tidewaiter_ground::{MINIO_USER, Namespace, tls};
use tidewaiter_minio::{Change, Error};
use tokio::runtime::Runtime;

use crate::faults::kill_leader;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "a_key_that_was_revoked_or_changed_in_minio_is_put_right",
    a_key_that_was_revoked_or_changed_in_minio_is_put_right,
)];

/// A leader compares when it begins to lead, and every ten minutes.
fn a_key_that_was_revoked_or_changed_in_minio_is_put_right(world: &World) -> Result<()> {
    let release = world.release()?;
    let mut mints = backend("minio-repaired", "repaired", &["s3://repaired/{namespace}/"]);
    mints["spec"]["minting"] = json!({"keyLifetime": "1h"});
    let mints = Custom::apply(&world.cluster, &mints)?;
    mints.until("Accepted", "True")?;
    let (admin, runtime) = (admin()?, Runtime::new()?);
    let info = |key: &str| runtime.block_on(admin.info(key));
    let minute = Duration::from_mins(1);
    let served = |name: &str| -> Result<_> {
        let namespace = world.cluster.namespace(name)?;
        without_pods(&namespace)?;
        namespace.apply(&service("fraud", &format!("s3://repaired/{}/fraud", namespace.name())).to_string())?;
        let told = world.cluster.until("MinIO knows the namespace's key", minute, || {
            let key = key_id(&namespace, "minio-repaired")?;
            let policy = info(&key)?.policy;
            Ok(Some((key, policy)))
        })?;
        Ok((namespace, told))
    };
    let (revoked, widened, disabled) = (served("key-revoked")?, served("key-widened")?, served("key-disabled")?);

    ensure!(runtime.block_on(admin.delete(&revoked.1.0))?, "there is no such key");
    let all = reads_only("repaired", "")?;
    runtime.block_on(admin.update(&widened.1.0, &Change::policy(&all)))?;
    let own = reads_only("repaired", &format!("{}/fraud/", disabled.0.name()))?;
    let off = Change {
        enabled: Some(false),
        ..Change::policy(&own)
    };
    runtime.block_on(admin.update(&disabled.1.0, &off))?;
    ensure!(
        matches!(info(&revoked.1.0), Err(Error::NoAccount { .. })) && !info(&disabled.1.0)?.account.enabled,
        "MinIO was told nothing"
    );
    ensure!(info(&widened.1.0)?.policy != widened.1.1, "it reads as much as before");

    kill_leader(world, &release)?;
    for (namespace, (key, policy)) in [&revoked, &widened, &disabled] {
        let what = format!("the key of {} is as it was", namespace.name());
        world.cluster.until(&what, Duration::from_mins(2), || {
            let now = info(key)?;
            ensure!(now.account.enabled && now.policy == *policy, "{now:?}");
            Ok(Some(()))
        })?;
        ensure!(
            key_id(namespace, "minio-repaired")? == *key,
            "{} has another key now, which no running Pod has read",
            namespace.name()
        );
    }
    Ok(())
}

/// The ID of the key that a namespace has of a backend that mints.
pub(crate) fn key_id(namespace: &Namespace, backend: &str) -> Result<String> {
    let encoded = namespace.get(&format!("secret/tidewaiter-{backend}"))?["data"]["AWS_ACCESS_KEY_ID"].take();
    let id = String::from_utf8(tls::from_base64(encoded.as_str().unwrap_or_default())?)?;
    ensure!(
        !id.is_empty() && id != MINIO_USER,
        "{} has no key of its own",
        namespace.name()
    );
    Ok(id)
}
