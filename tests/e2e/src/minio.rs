//! The ground's MinIO as its root administers it.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER};
use tidewaiter_minio::{AccessKey, Admin, Grant, NewAccount, Policy, Trust};

/// Its admin API.
pub fn admin() -> Result<Admin> {
    let root = AccessKey::new(MINIO_USER, MINIO_USER);
    let endpoint = format!("http://{HOST}:{MINIO_PORT}");
    Ok(Admin::new(endpoint.parse()?, None, root, &Trust::Nobody)?)
}

/// What a key needs that may read what is below one prefix of a bucket, and nothing else.
pub fn reads_only(bucket: &str, prefix: &str) -> Result<Policy> {
    Ok(Policy::new(&[Grant::new(bucket, prefix, prefix)?])?)
}

/// Makes a key that may read what is below one prefix of a bucket, and nothing else, for an hour.
pub async fn reading_key(bucket: &str, prefix: &str) -> Result<AccessKey> {
    let key = AccessKey::random("READS")?;
    let account = NewAccount {
        key: &key,
        name: "reads",
        description: "of a test: reads one prefix",
        policy: &reads_only(bucket, prefix)?,
        expires: Timestamp::now() + SignedDuration::from_hours(1),
    };
    admin()?.add(&account).await?;
    Ok(key)
}
