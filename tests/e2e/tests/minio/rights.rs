//! What a minted key may, what the user that mints may, and what neither may.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tidewaiter_minio::{AccessKey, Change, Error, NewAccount, Right, Trust, encrypt};

use super::{BUCKET, OBJECTS, ROOT, World, in_an_hour, policy, refused, root};

pub(super) fn a_key_reads_its_prefix_and_nothing_else(world: &World) -> Result<()> {
    let key = world.key(&policy(&["team-a/iris/"])?)?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.reads(&key, "team-a/iris/deep/er.json")?;
    let names = world.list(&key, "team-a/iris")?;
    ensure!(
        names == ["team-a/iris/deep/er.json", "team-a/iris/model.bst"],
        "{names:?}"
    );

    for name in [
        "team-a/iris-2/model.bst",
        "team-a/wine/model.bst",
        "team-ab/secret.bst",
        "secret.bst",
    ] {
        world.may_not_read(&key, name)?;
    }
    // Nor does it learn whether there is something.
    world.may_not_read(&key, "team-b/nothing.bst")?;
    for folder in ["", "team-a", "team-a/wine", "team-b"] {
        refused(&format!("listing {folder}"), world.list(&key, folder))?;
    }
    let store = world.store(&key)?;
    for name in ["team-a/iris/model.bst", "team-a/iris/new.bst", "team-b/new.bst"] {
        let path = Path::from(name);
        let written = world.runtime.block_on(store.put(&path, b"x".to_vec().into()));
        refused(&format!("writing {name}"), written)?;
        // A client may delete one by one, or many in one request, which is answered with 200 and a refusal for each.
        let status = world.status(&key, Method::DELETE, &format!("{BUCKET}/{name}"))?;
        ensure!(status == StatusCode::FORBIDDEN, "deleting {name}: {status}");
        ensure!(
            world.runtime.block_on(store.delete(&path)).is_err(),
            "deleting {name} is allowed"
        );
    }
    for name in OBJECTS {
        world.reads(&root(), name)?;
    }
    for (method, path) in [
        (Method::GET, ""),
        (Method::HEAD, "other"),
        (Method::GET, "other?list-type=2&prefix=team-a%2Firis%2F"),
        (Method::GET, "models?list-type=2"),
        (Method::GET, "models?policy"),
        (Method::PUT, "new-bucket"),
        (Method::DELETE, "models"),
        (Method::GET, "minio/admin/v3/list-users"),
    ] {
        let status = world.status(&key, method.clone(), path)?;
        // Of all buckets it sees those that it may list, in a listing that isn't refused.
        let expected = if path.is_empty() {
            status.is_success()
        } else {
            status == StatusCode::FORBIDDEN
        };
        ensure!(expected, "{method} /{path}: {status}");
    }
    Ok(())
}

/// The calls of `_download_s3` in kserve-storage 0.20.0: whether the bucket is there, all that begins with the URI's path, each of them.
pub(super) fn a_key_does_what_kserves_initializer_does(world: &World) -> Result<()> {
    for path in ["team-a/iris", "team-a/iris/", "team-a/iris/model.bst", "team-a"] {
        let key = world.key(&policy(&[path])?)?;
        let status = world.status(&key, Method::HEAD, BUCKET)?;
        ensure!(status == StatusCode::OK, "{path}: HEAD of the bucket: {status}");
        let status = world.status(&key, Method::GET, &format!("{BUCKET}?location"))?;
        ensure!(status == StatusCode::OK, "{path}: the bucket's region: {status}");
        let encoded = path.replace('/', "%2F");
        let status = world.status(
            &key,
            Method::GET,
            &format!("{BUCKET}?list-type=2&prefix={encoded}&encoding-type=url"),
        )?;
        ensure!(status == StatusCode::OK, "{path}: listing: {status}");
        for name in OBJECTS.iter().filter(|name| name.starts_with(path)) {
            if name.starts_with("team-ab") {
                // Not granted, whatever it is called.
                world.may_not_read(&key, name)?;
            } else {
                world.reads(&key, name)?;
            }
        }
    }
    Ok(())
}

/// What docs/minio.md tells an admin to do, with the policy that stands there.
pub(super) fn the_user_that_the_page_describes_makes_keys_and_no_more(world: &World) -> Result<()> {
    const PAGE: &str = include_str!("../../../../docs/minio.md");
    let json = PAGE.split("```json").nth(1).and_then(|rest| rest.split("```").next());
    let rights = json.context("the page has a policy")?.replace("mlflow", BUCKET);
    let user = AccessKey::new("tidewaiter", "a-password-of-the-users");
    let made = json!({"secretKey": user.secret(), "status": "enabled"}).to_string();
    let body = encrypt(ROOT, made.as_bytes()).map_err(|failed| anyhow::anyhow!("{failed:?}"))?;
    for (path, body) in [
        ("add-user?accessKey=tidewaiter", body),
        ("add-canned-policy?name=tidewaiter", rights.into_bytes()),
        (
            "set-user-or-group-policy?isGroup=false&policyName=tidewaiter&userOrGroup=tidewaiter",
            Vec::new(),
        ),
    ] {
        let status = world.send(&root(), Method::PUT, &format!("minio/admin/v3/{path}"), body)?;
        ensure!(status.is_success(), "{path}: {status}");
    }

    let admin = world.minio.admin(&user, &Trust::System)?;
    let (narrow, wide) = (policy(&["team-a/iris/"])?, policy(&["team-a/iris/", "team-a/wine/"])?);
    let key = AccessKey::random("USERS")?;
    let account = NewAccount {
        key: &key,
        name: "team-a",
        description: "",
        policy: &narrow,
        expires: in_an_hour(),
    };
    world.runtime.block_on(admin.add(&account))?;
    world.reads(&key, "team-a/iris/model.bst")?;
    world.may_not_read(&key, "team-a/wine/model.bst")?;
    // It may change no key at all, so it makes its own anew: the same ID and secret, that reads more or less.
    let roots = world.key(&narrow)?;
    for other in [&key, &roots] {
        let changed = world.runtime.block_on(admin.update(other.id(), &Change::policy(&wide)));
        ensure!(
            matches!(
                changed,
                Err(Error::Forbidden {
                    right: Right::Update,
                    ..
                })
            ),
            "it changes {}: {changed:?}",
            other.id()
        );
    }
    for (policy, reads) in [(&wide, true), (&narrow, false), (&wide, true)] {
        let began = Instant::now();
        world
            .runtime
            .block_on(admin.replace(&NewAccount { policy, ..account }))?;
        eprintln!("made anew in {:?}, a body's encryption and all", began.elapsed());
        world.reads(&key, "team-a/iris/model.bst")?;
        if reads {
            world.reads(&key, "team-a/wine/model.bst")?;
        } else {
            world.may_not_read(&key, "team-a/wine/model.bst")?;
        }
    }
    let info = world.runtime.block_on(admin.info(key.id()))?;
    ensure!(info.account.enabled && wide.is(&info.policy), "{info:?}");
    ensure!(
        world.runtime.block_on(admin.list())?.len() == 1,
        "it sees other keys than its own"
    );
    // Root's keys are none of its: it can neither see, replace nor revoke them.
    let seen = world.runtime.block_on(admin.info(roots.id()));
    ensure!(matches!(seen, Err(Error::Forbidden { .. })), "{seen:?}");
    let taken = NewAccount { key: &roots, ..account };
    let replaced = world.runtime.block_on(admin.replace(&taken));
    ensure!(
        matches!(&replaced, Err(Error::Foreign { access_key, .. }) if access_key == roots.id()),
        "{replaced:?}"
    );
    ensure!(
        !world.runtime.block_on(admin.delete(roots.id()))?,
        "it revokes root's key"
    );
    world.reads(&roots, "team-a/iris/model.bst")?;
    ensure!(
        world.runtime.block_on(admin.delete(key.id()))?,
        "it can't revoke its key"
    );
    // What can't be made leaves the key that is there alone.
    world.runtime.block_on(admin.add(&account))?;
    let over = NewAccount {
        expires: Timestamp::now(),
        ..account
    };
    ensure!(world.runtime.block_on(admin.replace(&over)).is_err(), "it has ended");
    world.reads(&key, "team-a/iris/model.bst")?;
    world.runtime.block_on(admin.delete(key.id()))?;

    for (method, path) in [
        (Method::GET, "minio/admin/v3/list-users"),
        (Method::PUT, &format!("{BUCKET}/team-a/iris/model.bst")),
        (Method::DELETE, &format!("{BUCKET}/team-a/iris/model.bst")),
    ] {
        let status = world.status(&user, method.clone(), path)?;
        ensure!(status == StatusCode::FORBIDDEN, "{method} {path}: {status}");
    }
    Ok(())
}

/// A limit of MinIO's that docs/minio.md names, and one that it hasn't: should it fail, the page says too much or too little.
pub(super) fn a_key_sees_and_revokes_its_siblings_and_makes_none(world: &World) -> Result<()> {
    let own = policy(&["team-a/iris"])?;
    ensure!(
        own.as_json().contains(r#"{"Effect":"Deny","Action":["admin:*"]}"#),
        "{}",
        own.as_json()
    );
    let (key, sibling) = (world.key(&own)?, world.key(&own)?);
    let holder = world.minio.admin(&key, &Trust::System)?;
    let listed = world.runtime.block_on(holder.list())?;
    ensure!(
        listed.iter().any(|account| account.access_key == sibling.id()),
        "MinIO hides siblings now: {listed:?}"
    );
    let info = world.runtime.block_on(holder.info(sibling.id()))?;
    ensure!(own.is(&info.policy), "{info:?}");
    let further = AccessKey::random("FURTHER")?;
    let account = NewAccount {
        key: &further,
        name: "further",
        description: "",
        policy: &own,
        expires: in_an_hour(),
    };
    let made = world.runtime.block_on(holder.add(&account));
    ensure!(matches!(made, Err(Error::Forbidden { .. })), "{made:?}");
    ensure!(
        world.runtime.block_on(holder.delete(sibling.id()))?,
        "MinIO keeps siblings from each other now"
    );
    world.may_not_read(&sibling, "team-a/iris/model.bst")
}
