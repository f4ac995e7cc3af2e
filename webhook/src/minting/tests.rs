use jiff::SignedDuration;
use k8s_openapi::ByteString;
use proptest::prelude::*;
use tidewaiter_world::{Folder, Limits, Stores};

use super::*;

pub(crate) const YAML: &str = "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: { name: minio }
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3: { endpoint: 'http://127.0.0.1:9', region: us-east-1 }
  credentials: { secretRef: { namespace: minio, name: root } }
  minting: { keyLifetime: 30d }
  grants:
    - { namespaces: ['team-a'], prefixes: ['s3://mlflow/{namespace}/', 's3://mlflow/*/shared/'] }
---
apiVersion: v1
kind: Secret
metadata: { namespace: minio, name: root }
stringData: { accessKey: root, secretKey: the-roots-secret }
";

pub(crate) const PLACE: Place<'_> = Place {
    cluster: "c",
    namespace: "team-a",
    labels: None,
};

pub(crate) fn mint_of(yaml: &str) -> Mint {
    let configuration = configuration(yaml);
    let backend = configuration.backends().get("minio").unwrap();
    Mint::new(&configuration, backend).unwrap()
}

pub(crate) fn former_of(yaml: &str) -> Mint {
    let configuration = configuration(yaml);
    let backend = configuration.backends().get("minio").unwrap();
    assert!(Mint::new(&configuration, backend).is_none());
    Mint::former(&configuration, backend)
}

fn configuration(yaml: &str) -> Arc<Configuration> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), yaml).unwrap();
    let (objects, problems) = Folder::new(folder.path()).load().unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let stores = Stores::new(Limits::default());
    let (configuration, problems) = Configuration::build(&objects, None, &[], &stores);
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(configuration)
}

fn mint() -> Mint {
    mint_of(YAML)
}

pub(crate) fn uris(uris: &[&str]) -> BTreeSet<String> {
    uris.iter().map(|&uri| uri.to_owned()).collect()
}

/// What the namespace has after it was written.
pub(crate) fn secret(mint: &Mint, minted: &Minted) -> Secret {
    (*mint.wanted(minted).secret).clone()
}

fn next(mint: &Mint, found: Option<&Secret>, uses: &[&str]) -> Minted {
    mint.next(PLACE, found, &uris(uses), Timestamp::UNIX_EPOCH).unwrap()
}

#[test]
fn a_namespace_without_a_key_gets_one_that_nobody_elses_begins_like() {
    let mint = mint();
    let minted = next(&mint, None, &["s3://mlflow/team-a/fraud"]);
    assert_eq!(minted.record.known, Known::No);
    assert_eq!(minted.record.expires.as_second(), 30 * 24 * 3600);
    let of = |cluster, namespace, backend| beginning(cluster, namespace, backend);
    assert!(minted.key.id().starts_with(&of("c", "team-a", "minio")));
    assert_eq!((minted.key.id().len(), minted.key.secret().len()), (20, 40));
    let others = [
        of("d", "team-a", "minio"),
        of("c", "team-b", "minio"),
        of("c", "team-a", "keys"),
    ];
    assert!(others.iter().all(|other| !minted.key.id().starts_with(other)));
    // The backend's own key stays where it is, and the record tells no secret.
    let written = serde_json::to_string(&secret(&mint, &minted)).unwrap();
    assert!(!written.contains("root"), "{written}");
    assert!(!minted.record.text().contains(minted.key.secret()));
}

#[test]
fn a_key_stays_and_reads_what_it_read_before_as_well() {
    let mint = mint();
    let mut first = next(&mint, None, &["s3://mlflow/team-a/fraud"]);
    first.record.known = Known::Yes;
    let there = secret(&mint, &first);
    let same = next(&mint, Some(&there), &["s3://mlflow/team-a/fraud"]);
    assert_eq!(secret(&mint, &same), there, "nothing is to be written");
    let wider = next(&mint, Some(&there), &["s3://mlflow/any/shared/churn"]);
    assert_eq!(wider.key, first.key);
    assert_eq!(wider.record.known, Known::Partly);
    assert_eq!(
        wider.record.uris,
        uris(&["s3://mlflow/any/shared/churn", "s3://mlflow/team-a/fraud"])
    );
}

#[test]
fn what_was_changed_by_hand_or_belongs_elsewhere_or_is_over_is_replaced() {
    let mint = mint();
    let minted = next(&mint, None, &["s3://mlflow/team-a/fraud"]);
    let there = secret(&mint, &minted);
    let mut edited = there.clone();
    let json = r#"{"access_key_id":"root","secret_access_key":"stolen"}"#;
    let data = edited.data.as_mut().unwrap();
    data.insert("minio".to_owned(), ByteString(json.as_bytes().to_vec()));
    let mut unmarked = there.clone();
    unmarked.metadata.annotations.as_mut().unwrap().remove(ANNOTATION);
    for found in [&edited, &unmarked] {
        assert_ne!(next(&mint, Some(found), &[]).key, minted.key);
    }
    let elsewhere = Place {
        namespace: "team-b",
        ..PLACE
    };
    let moved = mint.next(elsewhere, Some(&there), &BTreeSet::new(), Timestamp::UNIX_EPOCH);
    assert_ne!(moved.unwrap().key, minted.key);
    let later = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(31 * 24);
    let over = mint.next(PLACE, Some(&there), &BTreeSet::new(), later);
    assert_ne!(over.unwrap().key, minted.key);
}

#[test]
fn a_key_is_due_when_a_third_of_its_life_is_left() {
    let mint = mint();
    let minted = next(&mint, None, &[]);
    let day = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
    assert!(!mint.is_due(&minted.record, day(20)));
    assert!(mint.is_due(&minted.record, day(20) + SignedDuration::from_secs(1)));
}

#[test]
fn what_is_no_longer_granted_is_no_longer_read() {
    let mint = mint();
    let both = ["s3://mlflow/team-a/fraud", "s3://mlflow/any/shared/churn"];
    let mut minted = next(&mint, None, &both);
    minted.record.known = Known::Yes;
    let there = secret(&mint, &minted);
    let less = mint_of(&YAML.replace(", 's3://mlflow/*/shared/'", ""));
    let narrowed = next(&less, Some(&there), &[]);
    assert_eq!(narrowed.record.uris, uris(&["s3://mlflow/team-a/fraud"]));
    assert_eq!((&narrowed.key, narrowed.record.known), (&minted.key, Known::Partly));
    let nothing = mint_of(&YAML.replace("'team-a'", "'team-c'"));
    let narrowed = next(&nothing, Some(&there), &[]);
    assert!(nothing.policy(PLACE, &narrowed.record).unwrap().is_none());
}

#[test]
fn labels_that_are_not_known_take_nothing_away() {
    let by_label = YAML.replace("namespaces: ['team-a']", "namespaceSelector: {matchLabels: {team: a}}");
    let mint = mint_of(&by_label);
    let labels = [("team".to_owned(), "a".to_owned())].into();
    let place = Place {
        labels: Some(&labels),
        ..PLACE
    };
    let uses = uris(&["s3://mlflow/team-a/fraud"]);
    assert_eq!(
        mint.used(uses.iter().map(String::as_str), "team-a", Some(&labels)),
        uses
    );
    let minted = mint.next(place, None, &uses, Timestamp::UNIX_EPOCH).unwrap();
    let there = secret(&mint, &minted);
    assert_eq!(next(&mint, Some(&there), &[]).record.uris, uses);
}

#[test]
fn many_models_become_the_roots_they_lie_in_and_stay_so() {
    let mint = mint();
    let many: Vec<String> = (0..=URIS).map(|n| format!("s3://mlflow/team-a/model-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut minted = next(&mint, None, &many);
    assert_eq!(minted.record.uris, uris(&["s3://mlflow/team-a/"]));
    let policy = mint.policy(PLACE, &minted.record).unwrap().unwrap();
    assert!(
        policy.as_json().contains("arn:aws:s3:::mlflow/team-a/*"),
        "{}",
        policy.as_json()
    );
    minted.record.known = Known::Yes;
    let there = secret(&mint, &minted);
    assert_eq!(secret(&mint, &next(&mint, Some(&there), &many[3..])), there);
}

#[test]
fn what_another_backend_serves_inside_of_a_granted_part_stays_its_own() {
    let other = YAML.replace("name: minio }\nspec", "name: inner }\nspec");
    let other = other.replace("'s3://mlflow/'", "'s3://mlflow/team-a/private/'");
    let other = other.replace(
        "'s3://mlflow/{namespace}/', 's3://mlflow/*/shared/'",
        "'s3://mlflow/team-a/private/x/'",
    );
    let (inner, _) = other.split_once("---").unwrap();
    let mint = mint_of(&format!("{inner}---{YAML}"));
    let used = ["s3://mlflow/team-a/private/fraud", "s3://mlflow/team-a/fraud"];
    assert_eq!(mint.used(used.into_iter(), "team-a", None), uris(&used[1..]));
    let many: Vec<String> = (0..=URIS).map(|n| format!("s3://mlflow/team-a/model-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let policy = mint
        .policy(PLACE, &next(&mint, None, &many[..2]).record)
        .unwrap()
        .unwrap();
    assert!(
        policy.as_json().contains("mlflow/team-a/model-1/*"),
        "{}",
        policy.as_json()
    );
    assert!(!policy.as_json().contains("team-a/*"), "{}", policy.as_json());
}

#[test]
fn only_what_this_backend_serves_and_grants_is_used() {
    let all = [
        "s3://mlflow/team-a/fraud",
        "s3://mlflow/team-ab/fraud",
        "s3://mlflow/x/shared/fraud",
        "s3://other/team-a/fraud",
        "gs://mlflow/team-a/fraud",
        "not a uri",
    ];
    let used = mint().used(all.into_iter(), "team-a", None);
    assert_eq!(used, uris(&["s3://mlflow/team-a/fraud", "s3://mlflow/x/shared/fraud"]));
}

#[test]
fn a_time_that_somebody_wrote_is_not_believed() {
    let mint = mint();
    let mut minted = next(&mint, None, &["s3://mlflow/team-a/fraud"]);
    let as_it_was = minted.record.expires;
    let far: Timestamp = "9999-01-01T00:00:00Z".parse().unwrap();
    minted.record.expires = far;
    minted.record.known = Known::Yes;
    minted.record.retired.insert(minted.key.id().to_owned(), far);
    let healed = next(&mint, Some(&secret(&mint, &minted)), &[]);
    assert_eq!(
        healed.key, minted.key,
        "another key each time would be made for whoever asks for it"
    );
    assert_eq!((healed.record.expires, healed.record.known), (as_it_was, Known::Partly));
    assert_eq!(healed.record.retired[minted.key.id()], Timestamp::UNIX_EPOCH + OVERLAP);
    // As is a time that an admin's shorter `keyLifetime` has outrun.
    let shorter = mint_of(&YAML.replace("30d", "1d"));
    let shortened = next(&shorter, Some(&secret(&mint, &healed)), &[]);
    assert_eq!(shortened.record.expires.as_second(), 24 * 3600);
    assert_eq!(shortened.key, minted.key);
}

#[test]
fn what_somebody_wrote_of_keys_before_is_no_work_without_end() {
    let mint = mint();
    let mut minted = next(&mint, None, &[]);
    let beginning = beginning(PLACE.cluster, PLACE.namespace, "minio");
    for n in 0..5000 {
        minted
            .record
            .retired
            .insert(format!("{beginning}{n:012}"), Timestamp::UNIX_EPOCH);
    }
    let (_, record) = mint.held(PLACE, &secret(&mint, &minted)).unwrap();
    assert!(record.retired.len() < 10, "{}", record.retired.len());
}

#[test]
fn the_next_key_of_many_models_reads_the_roots_they_lie_in() {
    let mint = mint();
    let many = (0..5000).map(|n| format!("s3://mlflow/team-a/model-{n}")).collect();
    let fresh = mint.fresh(PLACE, &many, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(fresh.record.uris, uris(&["s3://mlflow/team-a/"]));
}

#[test]
fn a_grant_that_is_taken_back_ends_the_keys_of_before() {
    let mint = mint();
    let mut minted = next(&mint, None, &["s3://mlflow/team-a/fraud"]);
    minted.record.known = Known::Yes;
    let later = Timestamp::UNIX_EPOCH + OVERLAP;
    // It may read what no service uses any more, so that nothing is taken from the key there is.
    minted.record.retired.insert(minted.key.id().to_owned(), later);
    let there = secret(&mint, &minted);
    assert_eq!(next(&mint, Some(&there), &[]).record.retired[minted.key.id()], later);
    let less = mint_of(&YAML.replace(", 's3://mlflow/*/shared/'", ""));
    let ended = next(&less, Some(&there), &[]).record;
    assert_eq!(ended.retired[minted.key.id()], Timestamp::UNIX_EPOCH);
    assert_eq!(ended.uris, minted.record.uris);
}

#[test]
fn a_key_is_told_anew_where_the_granted_roots_are_others() {
    let mint = mint();
    let many: BTreeSet<String> = (0..=URIS).map(|n| format!("s3://mlflow/team-a/model-{n}")).collect();
    let mut minted = mint.next(PLACE, None, &many, Timestamp::UNIX_EPOCH).unwrap();
    minted.record.known = Known::Yes;
    let there = secret(&mint, &minted);
    assert_eq!(next(&mint, Some(&there), &[]).record.known, Known::Yes);
    let (split, other) = (
        YAML.replace(
            "'s3://mlflow/{namespace}/'",
            "'s3://mlflow/{namespace}/', 's3://mlflow/'",
        ),
        "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: { name: inner }
spec:
  type: s3
  serves: ['s3://mlflow/team-a/private/']
  s3: { endpoint: 'http://127.0.0.1:9', region: us-east-1 }
  credentials: { anonymous: {} }
",
    );
    for changed in [split, format!("{other}---{YAML}")] {
        let told = next(&mint_of(&changed), Some(&there), &[]).record;
        assert_eq!(told.known, Known::Partly, "{changed}");
    }
    // What lies elsewhere changes nothing.
    let elsewhere = format!("{}---{YAML}", other.replace("mlflow/team-a", "mlflow-2/team-a"));
    assert_eq!(next(&mint_of(&elsewhere), Some(&there), &[]).record.known, Known::Yes);
}

proptest! {
    /// Whatever is used one after another, the key stays, what was used can be read, and asking again changes nothing.
    #[test]
    fn a_key_only_grows(rounds in prop::collection::vec(prop::collection::vec("[a-c]{1,2}(/[a-c]{1,2}){0,2}", 0..9), 1..9)) {
        let mint = mint();
        let (mut there, mut first): (Option<Secret>, Option<AccessKey>) = (None, None);
        for models in rounds {
            let uses: Vec<String> = models.iter().map(|model| format!("s3://mlflow/team-a/{model}")).collect();
            let uses: Vec<&str> = uses.iter().map(String::as_str).collect();
            let mut minted = next(&mint, there.as_ref(), &uses);
            prop_assert_eq!(first.get_or_insert_with(|| minted.key.clone()), &minted.key);
            if let Some(policy) = mint.policy(PLACE, &minted.record).unwrap() {
                for model in &models {
                    let inside = policy.as_json().contains(&format!("arn:aws:s3:::mlflow/team-a/{model}"));
                    let above = (1..=model.len()).any(|end| policy.as_json().contains(&format!("mlflow/team-a/{}*", &model[..end])));
                    prop_assert!(inside || above || policy.as_json().contains("mlflow/team-a/*"), "{model}: {}", policy.as_json());
                }
            }
            minted.record.known = Known::Yes;
            let written = secret(&mint, &minted);
            prop_assert_eq!(secret(&mint, &next(&mint, Some(&written), &uses)), written.clone());
            there = Some(written);
        }
    }
}
