//! What MinIO refuses an admin, as it is told.

use anyhow::{Context as _, Result, ensure};
use tidewaiter_ground::tls::Authority;
use tidewaiter_minio::{AccessKey, Change, Error, NewAccount, Right, Trust};

use super::{Minio, ROOT, STARTS, World, in_an_hour, policy, root};

pub(super) fn a_wrong_key_of_the_admin_is_told(world: &World) -> Result<()> {
    for (key, words) in [
        (
            AccessKey::new(ROOT, "not-the-secret"),
            "403 SignatureDoesNotMatch: the admin's secret key is wrong",
        ),
        (
            AccessKey::new("nobody", "not-the-secret"),
            "403 InvalidAccessKeyId: it doesn't know the admin's access key",
        ),
    ] {
        let error = world.runtime.block_on(world.minio.admin(&key, &Trust::System)?.list());
        let error = error.err().context("a wrong key was taken")?;
        ensure!(matches!(error, Error::Credentials { .. }), "{error:?}");
        let said = format!("{error} {error:?}");
        ensure!(said.contains(words) && !said.contains("not-the-secret"), "{said}");
    }
    Ok(())
}

/// A minted key's policy has no right to make others.
pub(super) fn a_missing_right_is_named(world: &World) -> Result<()> {
    let policy = policy(&["team-a"])?;
    let key = world.key(&policy)?;
    let poor = world.minio.admin(&key, &Trust::System)?;
    let wider = AccessKey::random("WIDER")?;
    let account = NewAccount {
        key: &wider,
        name: "wider",
        description: "",
        policy: &policy,
        expires: in_an_hour(),
    };
    let other = world.key(&policy)?;
    let change = Change::policy(&policy);
    for (error, right, words) in [
        (
            world.runtime.block_on(poor.add(&account)).err(),
            Right::Create,
            "`admin:CreateServiceAccount`",
        ),
        (
            world.runtime.block_on(poor.update(other.id(), &change)).err(),
            Right::Update,
            "`admin:UpdateServiceAccount`",
        ),
        (
            world.runtime.block_on(poor.update(key.id(), &change)).err(),
            Right::Update,
            "`admin:UpdateServiceAccount`",
        ),
    ] {
        let error = error.with_context(|| format!("a key without {words} has it"))?;
        ensure!(
            matches!(error, Error::Forbidden { right: said, .. } if said == right),
            "{error:?}"
        );
        ensure!(error.to_string().contains(words), "{error}");
    }
    Ok(())
}

pub(super) fn a_certificate_is_checked_as_the_backend_says(world: &World) -> Result<()> {
    let authority = Authority::new("minio")?;
    let minio = Minio::start(Some(&authority))?;
    let bundle = Trust::Bundle(authority.certificate());
    let list = |trust: &Trust| -> Result<_> { Ok(world.runtime.block_on(minio.admin(&root(), trust)?.list())) };
    minio.processes.wait("a MinIO with TLS", STARTS, || {
        list(&bundle).is_ok_and(|answer| answer.is_ok())
    })?;
    list(&Trust::Anybody)?.context("any certificate is good enough")?;
    for trust in [Trust::System, Trust::Bundle(Authority::new("another")?.certificate())] {
        let error = list(&trust)?.err().context("a certificate of nobody's was taken")?;
        ensure!(
            error.to_string().contains("nobody we trust signed the certificate"),
            "{error}"
        );
    }
    Ok(())
}
