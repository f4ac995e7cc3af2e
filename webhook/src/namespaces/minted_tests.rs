//! Against an API server that is a map, and a MinIO that is another.

use serde_json::Value;

use super::*;
use crate::minting::fake::Minio;
use crate::minting::tests::{PLACE, YAML, mint_of, secret, uris};
use crate::namespaces::Namespaces as _;
use crate::namespaces::cluster::tests::{ApiServer, SECRET, namespaces, wanted};

/// A namespace with a key that can read one model, and that MinIO knows.
struct World {
    api: ApiServer,
    minio: Minio,
    mint: Mint,
    first: Minted,
    namespaces: InCluster,
}

const FRAUD: &str = "s3://mlflow/team-a/fraud";
const CHURN: &str = "s3://mlflow/team-a/churn";

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Minted)) -> Self {
        let (api, minio) = (ApiServer::default(), Minio::start().await);
        let mint = mint_of(&YAML.replace("http://127.0.0.1:9", &minio.endpoint));
        let mut first = mint.next(PLACE, None, &uris(&[FRAUD]), Timestamp::now()).unwrap();
        first.record.known = Known::Yes;
        change(&mut first);
        minio.own(first.key.id());
        let mut there = within("team-a", &secret(&mint, &first));
        there.metadata.resource_version = Some("0".into());
        api.put(SECRET, serde_json::to_value(&there).unwrap());
        api.put(
            "/api/v1/namespaces/kube-system",
            serde_json::json!({"metadata": {"name": "kube-system", "uid": "c"}}),
        );
        let namespaces = namespaces(&api, vec![there]).await;
        Self {
            api,
            minio,
            mint,
            first,
            namespaces,
        }
    }

    /// A service is reviewed that uses this as well.
    async fn review(&self, uri: &str, patience: Duration) -> Option<Untold> {
        let until = Instant::now() + patience;
        let uses = uris(&[uri]);
        let minted = self
            .namespaces
            .mint("team-a", None, &self.mint, &uses, false, until)
            .await;
        minted.unwrap().untold
    }

    async fn rotate(&self) -> Result<bool, Trouble> {
        let until = Instant::now() + Duration::from_secs(20);
        self.namespaces.rotate(&self.mint, PLACE, &uris(&[FRAUD]), until).await
    }

    fn secret(&self) -> Secret {
        serde_json::from_value(self.api.get(SECRET)).unwrap()
    }

    fn held(&self) -> (AccessKey, Record) {
        self.mint.held(PLACE, &self.secret()).unwrap()
    }

    fn silent(&self, silent: bool) {
        self.minio.state.lock().unwrap().silent = silent;
    }
}

#[tokio::test]
async fn a_key_whose_secret_cant_be_written_is_revoked_again() {
    let world = World::new().await;
    world.api.refuse(403, "denied by another webhook");
    let trouble = world.rotate().await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused(_)), "{trouble}");
    assert!(!trouble.concerns_all(), "other namespaces' Secrets may be written");
    assert_eq!(world.minio.keys(), [world.first.key.id()]);
}

/// The next comparison revokes it where no Secret has come to hold it.
#[tokio::test]
async fn a_key_whose_secret_may_be_written_is_left_alone() {
    let world = World::new().await;
    world.api.refuse(500, "etcdserver: request timed out");
    let trouble = world.rotate().await.unwrap_err();
    assert!(matches!(trouble, Trouble::Unsure(_)), "{trouble}");
    assert!(!trouble.concerns_all(), "other namespaces' Secrets may be written");
    assert_eq!(world.minio.keys().len(), 2);
}

#[tokio::test]
async fn the_next_key_takes_the_place_of_the_last() {
    let world = World::new().await;
    assert!(world.rotate().await.unwrap());
    let (key, record) = world.held();
    assert_ne!(key, world.first.key);
    assert!(record.retired[world.first.key.id()] > Timestamp::now() + OVERLAP / 2);
    assert_eq!(world.minio.keys().len(), 2);
}

#[tokio::test]
async fn with_a_grant_that_changed_a_key_that_is_replaced_ends_at_once() {
    let world = World::with(|first| first.record.grants = Some("others".to_owned())).await;
    assert!(world.rotate().await.unwrap());
    assert!(world.held().1.retired[world.first.key.id()] <= Timestamp::now());
}

#[tokio::test]
async fn without_the_right_to_change_a_key_it_is_made_anew() {
    let world = World::new().await;
    world.minio.state.lock().unwrap().poor = true;
    let id = world.first.key.id();
    let patience = Duration::from_secs(20);
    assert_eq!(world.review(CHURN, patience).await, None);
    let replaced = ["info", "delete", "add"].map(|action| format!("{action} {id}"));
    let tried = [&[format!("update {id}")], &replaced[..]].concat();
    assert_eq!(world.minio.requests(), tried);
    assert_eq!(
        (world.held().0, world.held().1.known),
        (world.first.key.clone(), Known::Yes)
    );
    // What is known to be refused isn't tried again.
    assert_eq!(world.review("s3://mlflow/team-a/third", patience).await, None);
    assert_eq!(world.minio.requests(), replaced);
}

#[tokio::test]
async fn another_users_key_is_neither_changed_nor_made() {
    let world = World::new().await;
    let id = world.first.key.id();
    world.minio.state.lock().unwrap().poor = true;
    world.minio.put(id, "the-user-before");
    let untold = world.review(CHURN, Duration::from_secs(20)).await;
    assert!(
        matches!(&untold, Some(Untold::Refused(Error::Foreign { access_key, .. })) if access_key == id),
        "{untold:?}"
    );
    assert_eq!(
        world.minio.requests(),
        ["update", "info"].map(|action| format!("{action} {id}"))
    );
    // The next one is the new user's.
    assert!(world.rotate().await.unwrap());
    assert_eq!(world.minio.state.lock().unwrap().accounts[world.held().0.id()], "root");
}

#[tokio::test]
async fn what_minio_may_do_late_is_told_once_more() {
    let world = World::new().await;
    world.silent(true);
    let untold = world.review(CHURN, Duration::from_secs(1)).await;
    assert_eq!(untold, Some(Untold::Unanswered));
    let noted = world.held().1;
    assert!(noted.unanswered.is_some(), "{noted:?}");
    world.silent(false);
    // It is told, and what it was told before may come after that.
    assert_eq!(world.review(CHURN, Duration::from_secs(20)).await, None);
    assert_eq!(world.held().1.known, Known::Partly);
    let mut later = world.held().1;
    later.told(Timestamp::now() + jiff::SignedDuration::from_mins(1));
    assert_eq!((later.known, later.unanswered), (Known::Yes, None));
}

#[tokio::test]
async fn a_minio_that_hangs_is_waited_for_three_times() {
    let world = World::new().await;
    world.silent(true);
    let mut waited = Vec::new();
    for n in 0..5 {
        let began = Instant::now();
        let untold = world
            .review(&format!("s3://mlflow/team-a/{n}"), Duration::from_secs(1))
            .await;
        waited.push((untold, began.elapsed() > Duration::from_millis(500)));
    }
    let expected = |n| match n {
        0..3 => (Some(Untold::Unanswered), true),
        _ => (Some(Untold::NotAsked), false),
    };
    assert_eq!(waited, (0..5).map(expected).collect::<Vec<_>>());
    // The Secret has it all the same, and the leader, who has the time, tells it.
    assert_eq!(world.held().1.known, Known::Partly);
    world.silent(false);
    assert_eq!(world.review(CHURN, Duration::from_secs(20)).await, None);
}

#[tokio::test]
async fn a_backend_that_mints_no_more_revokes_what_it_made() {
    let world = World::new().await;
    let yaml = YAML.replace("http://127.0.0.1:9", &world.minio.endpoint);
    let yaml = yaml.replace("  minting: { keyLifetime: 30d }\n", "");
    let former = crate::minting::tests::former_of(&yaml);
    world
        .namespaces
        .revoke(&former, "team-a", &world.secret())
        .await
        .unwrap();
    assert_eq!(world.minio.keys(), Vec::<String>::new());
}

/// Whoever writes the backend's own key there, a review or the leader, and whatever it knew of the Secret.
#[tokio::test]
async fn a_key_that_is_written_over_stays_on_record_until_it_is_revoked() {
    let world = World::new().await;
    world.rotate().await.unwrap();
    // Of another namespace's: nobody has that revoked here.
    let mut spoilt = world.api.get(SECRET);
    spoilt["metadata"]["annotations"][OVERWRITTEN] = "OTHERS-KEY,,".into();
    world.api.put(SECRET, spoilt);
    world.minio.own("OTHERS-KEY");
    let yaml = YAML.replace("http://127.0.0.1:9", &world.minio.endpoint);
    let yaml = yaml.replace("  minting: { keyLifetime: 30d }\n", "");
    let former = crate::minting::tests::former_of(&yaml);

    let until = Instant::now() + Duration::from_secs(20);
    let copy = wanted("the-roots-secret");
    world.namespaces.provide("team-a", &copy, until).await.unwrap();
    let written = world.secret();
    assert!(former.held(PLACE, &written).is_none());
    assert_eq!(minting::overwritten(&written).count(), 3, "{:?}", written.metadata);
    // And again: what is still to be revoked stays.
    world.namespaces.provide("team-a", &copy, until).await.unwrap();
    assert_eq!(world.secret().metadata, written.metadata);

    world.minio.state.lock().unwrap().unwell = true;
    let revoke = || world.namespaces.revoke_overwritten(&former, "team-a", &written);
    revoke().await.unwrap_err();
    assert_eq!(world.secret().metadata, written.metadata);
    world.minio.state.lock().unwrap().unwell = false;
    revoke().await.unwrap();
    assert_eq!(world.minio.keys(), ["OTHERS-KEY"]);
    assert!(!world.secret().annotations().contains_key(OVERWRITTEN));
    assert_eq!(world.secret().data, written.data);
}

#[tokio::test]
async fn a_record_says_when_a_backends_keys_end() {
    let world = World::new().await;
    assert_eq!(world.namespaces.ends("minio"), Some(world.first.record.expires));
    assert_eq!(world.namespaces.ends("other"), None);
    let record: Value = serde_json::from_str(&world.first.record.text()).unwrap();
    assert!(record["expires"].is_string());
}
