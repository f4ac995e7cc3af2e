//! Access keys of MinIO that can read some prefixes and nothing else.
//!
//! MinIO calls them service accounts: keys below a user, with a policy of their own and an end. [`Admin`] makes, changes, lists and revokes them;
//! [`Policy`] says what one may read.
//!
//! ```no_run
//! # async fn mint() -> Result<(), Box<dyn std::error::Error>> {
//! use tidewaiter_minio::{AccessKey, Admin, Grant, NewAccount, Policy, Trust};
//!
//! let admin = Admin::new("https://minio.example:9000".parse()?, None, AccessKey::new("root", "its password"), &Trust::System)?;
//! let policy = Policy::new(&[Grant::new("mlflow", "team-a/", "team-a/models/iris")?])?;
//! let key = AccessKey::random("TEAMA")?;
//! admin
//!     .add(&NewAccount {
//!         key: &key,
//!         name: "team-a",
//!         description: "models of namespace team-a",
//!         policy: &policy,
//!         expires: jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 7),
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What the admin's own key has to be allowed
//! Root may all of it. Another user may make, list, look at and delete access keys of its own without any right, unless a policy denies it
//! `admin:CreateServiceAccount`. To change one it needs `admin:UpdateServiceAccount`, which opens every user's keys, root's too; so without it
//! [`Admin::replace`] deletes the key and makes it again. An access key that has a policy of its own needs each of
//! [`Right`]'s. What a minted key can read is never more than what its user can: the user needs `s3:GetObject` and `s3:ListBucket` itself.
//!
//! # What MinIO doesn't enforce
//! Objects outside of the policy can't be read, and no other bucket listed. Whoever holds a minted key and means harm can learn the *names* of
//! other objects in the same bucket, though: MinIO takes the value of the condition `s3:prefix` from a part of the request that isn't what it lists
//! by. Where names are a secret too, tenants belong in buckets of their own.

mod answer;
mod client;
mod encryption;
mod error;
mod policy;

pub use client::{AccessKey, Account, Admin, Change, Info, LONGEST, NewAccount, SHORTEST, Trust};
pub use encryption::{Failed, encrypt};
pub use error::{Error, Right};
pub use policy::{Grant, LIMIT, NoPolicy, NotGranted, Policy};
