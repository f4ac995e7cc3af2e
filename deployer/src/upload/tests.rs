use std::fs;
use std::sync::Mutex;

use tidewaiter_store::{ACCESS_KEY, SECRET_KEY, Store};

use super::*;
use crate::store::{S3, S3Identity};

struct Ground {
    store: Store,
    files: tempfile::TempDir,
    journal: tempfile::TempDir,
}

impl Ground {
    async fn new() -> Self {
        let store = Store::start().await.unwrap();
        store.put("models", &[]).unwrap();
        Self {
            store,
            files: tempfile::tempdir().unwrap(),
            journal: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, path: &str, content: &[u8]) {
        let file = self.files.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    fn options(&self, root: &str, secret: &str) -> Options {
        Options {
            root: root.parse().unwrap(),
            name: "fraud".into(),
            stores: Access {
                s3: S3 {
                    endpoint: Some(self.store.endpoint.clone()),
                    identity: S3Identity::Key {
                        id: ACCESS_KEY.into(),
                        secret: secret.to_owned().into(),
                        token: None,
                    },
                    ..S3::default()
                },
                ..Access::default()
            },
            journal: Some(self.journal.path().to_owned()),
        }
    }

    async fn upload(&self) -> Result<Uploaded, Error> {
        let items = of_folder(self.files.path()).await.unwrap();
        upload(items, &self.options("s3://models/deployed/", SECRET_KEY), &|_| {}).await
    }

    fn bucket(&self) -> Bucket {
        let options = self.options("s3://models/deployed/", SECRET_KEY);
        Bucket::open(&options.root, &options.stores).unwrap().0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_is_sent_once() {
    let ground = Ground::new().await;
    ground.write("MLmodel", b"flavors: {}");
    ground.write("data/model.bin", &[7; 100_000]);
    let first = ground.upload().await.unwrap();
    assert_eq!((first.sent, first.reused), (100_011, 0));
    let second = ground.upload().await.unwrap();
    assert_eq!((second.sent, second.reused), (0, 100_011));
    assert_eq!(first.uri, second.uri);
    assert!(
        first.uri.as_str().starts_with("s3://models/deployed/fraud/"),
        "{}",
        first.uri
    );

    // Somebody deletes what the manifest promises.
    let key = format!("{}/MLmodel", first.uri.key());
    ground.bucket().delete(&key).await.unwrap();
    let third = ground.upload().await.unwrap();
    assert_eq!((third.sent, third.reused), (11, 100_000));

    ground.write("MLmodel", b"flavors: {x}");
    let other = ground.upload().await.unwrap();
    assert_ne!(other.uri, first.uri);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_upload_left_is_used_unless_it_is_something_else() {
    let ground = Ground::new().await;
    ground.write("a.bin", b"aaaa");
    ground.write("b.bin", b"bbbb");
    let whole = ground.upload().await.unwrap();
    let bucket = ground.bucket();
    bucket
        .delete(whole.manifest.strip_prefix("s3://models/").unwrap())
        .await
        .unwrap();
    let key = format!("{}/b.bin", whole.uri.key());
    bucket.write(&key, Bytes::from_static(b"xxxx")).await.unwrap();

    let again = ground.upload().await.unwrap();
    assert_eq!((again.sent, again.reused), (4, 4));
    assert_eq!(bucket.read(&key, 0, 10).await.unwrap(), "bbbb");
    assert!(
        bucket
            .head(again.manifest.strip_prefix("s3://models/").unwrap())
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_on_where_it_was() {
    let ground = Ground::new().await;
    let large: Vec<u8> = (0..40_u32 << 18).flat_map(u32::to_le_bytes).collect();
    ground.write("model.bin", &large);
    let items = of_folder(ground.files.path()).await.unwrap();
    let options = ground.options("s3://models/deployed/", SECRET_KEY);
    // Ends as a process that is killed does: nothing is tidied up.
    let enough = Mutex::new(None);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    *enough.lock().unwrap() = Some(stop);
    {
        let progress = |progress| {
            if let Progress::Uploading(done, _) = progress
                && done > 0
            {
                drop(enough.lock().unwrap().take());
            }
        };
        tokio::select! {
            _ = upload(items, &options, &progress) => panic!("it ended before it was stopped"),
            _ = stopped => {}
        }
    }
    let bucket = ground.bucket();
    assert!(bucket.list("deployed/fraud").await.unwrap().is_empty());
    let first = Mutex::new(None);
    let items = of_folder(ground.files.path()).await.unwrap();
    let uploaded = upload(items, &options, &|progress| {
        if let Progress::Uploading(done, _) = progress
            && done > 0
        {
            first.lock().unwrap().get_or_insert(done);
        }
    })
    .await
    .unwrap();
    let key = format!("{}/model.bin", uploaded.uri.key());
    let there = bucket.read(&key, 0, large.len() as u64).await.unwrap();
    assert!(there == large, "the object is not the file");
    assert!(
        fs::read_dir(ground.journal.path()).unwrap().next().is_none(),
        "the journal is still there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_the_models_is_refused() {
    let ground = Ground::new().await;
    ground.write("model.onnx", b"1");
    let uploaded = ground.upload().await.unwrap();
    let key = format!("{}/other.onnx", uploaded.uri.key());
    ground.bucket().write(&key, Bytes::from_static(b"2")).await.unwrap();
    let refused = ground.upload().await.unwrap_err();
    assert!(
        refused.to_string().contains("not of this model: other.onnx"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_says_no_is_one_sentence() {
    let ground = Ground::new().await;
    ground.write("model.onnx", b"1");
    let items = || async { of_folder(ground.files.path()).await.unwrap() };
    let refused = |root: &str, secret: &str| {
        let options = ground.options(root, secret);
        let items = items();
        async move { upload(items.await, &options, &|_| {}).await.unwrap_err().to_string() }
    };
    let wrong = refused("s3://models/x/", "another secret").await;
    assert!(
        wrong.contains("doesn't accept these credentials (SignatureDoesNotMatch)"),
        "{wrong}"
    );
    assert!(!wrong.contains("another secret"));
    let none = refused("s3://nowhere/x/", SECRET_KEY).await;
    assert!(none.contains("has no bucket `nowhere`"), "{none}");
    let no_store = refused("pvc://claim/x", SECRET_KEY).await;
    assert!(no_store.contains("can't be uploaded to pvc://claim/x"), "{no_store}");
    assert_eq!(
        upload(Vec::new(), &ground.options("s3://models/", SECRET_KEY), &|_| {}).await,
        Err(Error::Empty)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_soon() {
    let ground = Ground::new().await;
    ground.write("model.onnx", b"1");
    let mut options = ground.options("s3://models/", SECRET_KEY);
    options.stores.s3.endpoint = Some("http://127.0.0.1:1".into());
    let items = of_folder(ground.files.path()).await.unwrap();
    let error = upload(items, &options, &|_| {}).await.unwrap_err();
    assert!(error.to_string().starts_with("no answer from 127.0.0.1:1: "), "{error}");
}
