use std::fs;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::source::Folder;

/// A folder, and a store in memory: its marks are none of S3's, as those of a store that encrypts. What a real one does is in `tests/e2e`.
struct Ground {
    bucket: Bucket,
    files: tempfile::TempDir,
    journal: tempfile::TempDir,
}

impl Ground {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let ground = Self {
            bucket: Bucket::in_memory(),
            files: tempfile::tempdir().unwrap(),
            journal: tempfile::tempdir().unwrap(),
        };
        for (path, content) in files {
            ground.write(path, content);
        }
        ground
    }

    fn write(&self, path: &str, content: &[u8]) {
        let file = self.files.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    async fn upload_and(&self, progress: &dyn Fn(Progress)) -> Result<Uploaded, Error> {
        self.pending(progress).await?.send(progress).await
    }

    async fn pending(&self, progress: &dyn Fn(Progress)) -> Result<Pending, Error> {
        let items = of_folder(self.files.path()).await.unwrap();
        let options = Options {
            root: "s3://models/deployed/".parse().unwrap(),
            name: "fraud".into(),
            stores: Access::default(),
            journal: Some(self.journal.path().to_owned()),
        };
        in_bucket(items, &self.bucket, "deployed", &options, progress).await
    }

    async fn upload(&self) -> Result<Uploaded, Error> {
        self.upload_and(&|_| {}).await
    }

    /// Where the files of the model would lie, as a deployment sends them.
    async fn deployed(&self) -> String {
        let folder = Folder::Local(self.files.path().to_owned());
        let (_, entries) = folder.list().await.unwrap();
        let items = entries.into_iter().map(|entry| Item {
            content: Content::File(self.files.path().join(&entry.path)),
            path: entry.path,
        });
        let options = Options {
            root: "s3://models/deployed/".parse().unwrap(),
            name: "fraud".into(),
            stores: Access::default(),
            journal: None,
        };
        let pending = in_bucket(items.collect(), &self.bucket, "deployed", &options, &|_| {}).await;
        pending.unwrap().uri().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_module_of_python_gets_a_line_so_that_kserve_downloads_it() {
    let ground = Ground::new(&[("own/__init__.py", b""), ("own/empty.txt", b"")]);
    let uri = ground.upload().await.unwrap().uri.to_string();
    let folder = uri.strip_prefix("s3://models/").unwrap();
    let there = ground.bucket.list(folder).await.unwrap();
    let sizes: Vec<u64> = there.iter().map(|object| object.bytes).collect();
    assert_eq!(sizes, [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_console_makes_for_a_folder_is_no_foreign_file() {
    let ground = Ground::new(&[("data/model.bin", b"12")]);
    let uri = ground.upload().await.unwrap().uri.to_string();
    let folder = uri.strip_prefix("s3://models/").unwrap();
    let marker = format!("{folder}/data");
    ground.bucket.write(&marker, Bytes::new()).await.unwrap();
    assert_eq!(ground.upload().await.unwrap().uri.to_string(), uri);
    ground
        .bucket
        .write(&format!("{folder}/other"), Bytes::new())
        .await
        .unwrap();
    assert!(matches!(ground.upload().await, Err(Error::Foreign { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_beside_a_model_are_no_part_of_it() {
    let ground = Ground::new(&[("MLmodel", b"flavors: {}"), ("code/tidewaiter.yaml", b"own: file")]);
    let (model, folder) = (ground.deployed().await, ground.pending(&|_| {}).await.unwrap());
    ground.write("tidewaiter.yaml", b"{minReplicas: 2, env: {TOKEN: hidden}}");
    assert_eq!(ground.deployed().await, model);
    let sent = ground.pending(&|_| {}).await.unwrap();
    assert_eq!(sent.uri(), folder.uri());
    // Only what lies at the root is wished for.
    ground.write("code/tidewaiter.yaml", b"another: file");
    assert_ne!(ground.deployed().await, model);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_will_lie_is_known_before_anything_is_sent() {
    let ground = Ground::new(&[("MLmodel", b"flavors: {}")]);
    let pending = ground.pending(&|_| {}).await.unwrap();
    assert_eq!(
        (pending.to_send(), pending.reused(), pending.is_there()),
        (11, 0, false)
    );
    // Also where the store isn't asked at all, and nobody has a key to it.
    let options = |root: &str| Options {
        root: root.parse().unwrap(),
        name: "fraud".into(),
        stores: Access::default(),
        journal: None,
    };
    let items = of_folder(ground.files.path()).await.unwrap();
    let placed = place(items.clone(), &options("s3://models/deployed/"), &|_| {}).await;
    assert_eq!(placed.unwrap(), (pending.uri().clone(), 11));
    let error = place(items, &options("pvc://claim/deployed"), &|_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Root { .. }), "{error}");
    assert!(ground.bucket.list("deployed").await.unwrap().is_empty());
    let done = ground.upload().await.unwrap();
    assert_eq!((&done.uri, done.sent), (pending.uri(), 11));
    assert!(ground.pending(&|_| {}).await.unwrap().is_there());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_is_sent_once() {
    let ground = Ground::new(&[("MLmodel", b"flavors: {}"), ("data/model.bin", &vec![7; 100_000])]);
    let first = ground.upload().await.unwrap();
    assert_eq!((first.sent, first.reused), (100_011, 0));
    assert!(
        first.uri.as_str().starts_with("s3://models/deployed/fraud/"),
        "{}",
        first.uri
    );
    let second = ground.upload().await.unwrap();
    assert_eq!((second.sent, second.reused), (0, 100_011));
    assert_eq!(first.uri, second.uri);

    // Somebody deletes what the manifest promises.
    let key = format!("{}/MLmodel", first.uri.key());
    ground.bucket.delete(&key).await.unwrap();
    let third = ground.upload().await.unwrap();
    assert_eq!((third.sent, third.reused), (11, 100_000));

    ground.write("MLmodel", b"flavors: {x}");
    let other = ground.upload().await.unwrap();
    assert_ne!(other.uri, first.uri);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_manifest_only_what_the_store_marks_as_the_same_counts() {
    let ground = Ground::new(&[("a.bin", b"aaaa"), ("b.bin", b"bbbb")]);
    let whole = ground.upload().await.unwrap();
    let manifest = whole.manifest.strip_prefix("s3://models/").unwrap();
    ground.bucket.delete(manifest).await.unwrap();
    let key = format!("{}/b.bin", whole.uri.key());
    ground.bucket.write(&key, Bytes::from_static(b"xxxx")).await.unwrap();

    let again = ground.upload().await.unwrap();
    assert_eq!((again.sent, again.reused), (8, 0));
    assert_eq!(ground.bucket.read(&key, 0, 10).await.unwrap(), "bbbb");
    assert!(ground.bucket.head(manifest).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_on_where_it_was() {
    let large: Vec<u8> = (0..40_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (ground, uploaded) = loop {
        let ground = Ground::new(&[("model.bin", &large)]);
        // Ends where its first part is there, as a process that is killed does: nothing is tidied up.
        let killed = |progress| assert!(!matches!(progress, Progress::Uploading(done, _) if done > 0), "killed");
        let ended = AssertUnwindSafe(ground.upload_and(&killed)).catch_unwind().await;
        assert!(ended.is_err(), "it was done at once");
        match ground.upload().await {
            Ok(uploaded) => break (ground, uploaded),
            // The last part came with the first. S3 says `NoSuchUpload` of an upload that is whole; the store in memory has words of its own.
            Err(error) => assert!(error.to_string().contains("MultipartUpload not found"), "{error}"),
        }
    };
    let key = format!("{}/model.bin", uploaded.uri.key());
    let there = ground.bucket.read(&key, 0, large.len() as u64).await.unwrap();
    assert!(there == large, "the object is not the file");
    let left = fs::read_dir(ground.journal.path()).unwrap().next();
    assert!(left.is_none(), "the journal is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_the_models_is_refused() {
    let ground = Ground::new(&[("model.onnx", b"1")]);
    let uploaded = ground.upload().await.unwrap();
    let key = format!("{}/other.onnx", uploaded.uri.key());
    ground.bucket.write(&key, Bytes::from_static(b"2")).await.unwrap();
    let refused = ground.upload().await.unwrap_err();
    assert!(
        refused.to_string().contains("not of this model: other.onnx"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_on_the_way_gets_no_manifest() {
    let ground = Ground::new(&[("a.bin", b"aaaa"), ("b.bin", b"bbbb")]);
    let changed = ground
        .upload_and(&|progress| {
            if matches!(progress, Progress::Uploading(..)) {
                ground.write("b.bin", b"longer");
            }
        })
        .await;
    assert!(matches!(changed, Err(Error::Changed { .. })), "{changed:?}");
    let manifests = ground.bucket.list("deployed/fraud/manifests").await.unwrap();
    assert!(manifests.is_empty(), "{manifests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_soon_and_no_store_at_once() {
    let ground = Ground::new(&[("model.onnx", b"1")]);
    let said = |root: &str| {
        let options = Options {
            root: root.parse().unwrap(),
            name: "fraud".into(),
            stores: Access {
                s3: store::S3 {
                    endpoint: Some("http://127.0.0.1:1".into()),
                    identity: store::S3Identity::Anonymous,
                    ..store::S3::default()
                },
                ..Access::default()
            },
            journal: None,
        };
        let items = of_folder(ground.files.path());
        async move {
            upload(items.await.unwrap(), &options, &|_| {})
                .await
                .unwrap_err()
                .to_string()
        }
    };
    let nobody = said("s3://models/").await;
    assert!(nobody.starts_with("no answer from 127.0.0.1:1: "), "{nobody}");
    let no_store = said("pvc://claim/x").await;
    assert!(no_store.contains("can't be uploaded to pvc://claim/x"), "{no_store}");
    let options = Options {
        root: "s3://models/".parse().unwrap(),
        name: "x".into(),
        stores: Access::default(),
        journal: None,
    };
    let nothing = in_bucket(Vec::new(), &ground.bucket, "", &options, &|_| {}).await;
    assert_eq!(nothing.err(), Some(Error::Empty));
}

/// An S3 store without any object, which answers so to what is written, and after a while: how it is opened.
async fn s3(written: &'static str, after: Duration) -> Access {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match socket.read(&mut chunk).await {
                        Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                        _ => return,
                    }
                }
                let answer = match request.split(|&byte| byte == b' ').next().unwrap_or_default() {
                    b"GET" => "200 OK\r\nconnection: close\r\ncontent-length: 19\r\n\r\n<ListBucketResult/>",
                    b"HEAD" => "404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    _ => {
                        tokio::time::sleep(after).await;
                        written
                    }
                };
                let _ = socket.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
                // What is still on its way is taken, so that the answer isn't lost.
                let _ = tokio::time::timeout(Duration::from_millis(200), socket.read(&mut chunk)).await;
            });
        }
    });
    Access {
        s3: store::S3 {
            endpoint: Some(endpoint),
            identity: store::S3Identity::Anonymous,
            ..store::S3::default()
        },
        timeout: Some(Duration::from_millis(500)),
        ..Access::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_may_only_be_read_is_told_by_the_right_that_is_missing() {
    let no = "403 Forbidden\r\nconnection: close\r\ncontent-length: 40\r\n\r\n<Error><Code>AccessDenied</Code></Error>";
    let ground = Ground::new(&[("model.onnx", b"1")]);
    let options = Options {
        root: "s3://models/deployed/".parse().unwrap(),
        name: "fraud".into(),
        stores: s3(no, Duration::ZERO).await,
        journal: Some(ground.journal.path().to_owned()),
    };
    let items = of_folder(ground.files.path()).await.unwrap();
    let refused = upload(items, &options, &|_| {}).await.unwrap_err();
    let told = format!("{refused}; {}", refused.next());
    assert!(
        told.starts_with("not allowed to write s3://models/deployed/fraud/"),
        "{told}"
    );
    assert!(
        told.contains(
            "/model.onnx; ask for the right to write there, in the bucket `models` (in S3's words s3:PutObject)"
        ),
        "{told}"
    );
    let left = fs::read_dir(ground.journal.path()).unwrap().next();
    assert!(left.is_none(), "it would go on with what isn't there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_bucket_is_told_and_nothing_is_noted_of_what_it_has_not() {
    // As MinIO answers where a bucket's quota is used up.
    let full = "400 Bad Request\r\nconnection: close\r\ncontent-length: 58\r\n\r\n<Error><Code>XMinioAdminBucketQuotaExceeded</Code></Error>";
    let ground = Ground::new(&[("model.onnx", b"1")]);
    let options = Options {
        root: "s3://models/deployed/".parse().unwrap(),
        name: "fraud".into(),
        stores: s3(full, Duration::ZERO).await,
        journal: Some(ground.journal.path().to_owned()),
    };
    let items = of_folder(ground.files.path()).await.unwrap();
    let refused = upload(items, &options, &|_| {}).await.unwrap_err();
    let told = format!("{refused}; {}", refused.next());
    assert!(
        told.starts_with("can't write s3://models/deployed/fraud/")
            && told.ends_with(
                "/model.onnx: the quota of the bucket `models` is full (XMinioAdminBucketQuotaExceeded); make room there, ask for a larger quota, or take another store"
            ),
        "{told}"
    );
    let left = fs::read_dir(ground.journal.path()).unwrap().next();
    assert!(left.is_none(), "it would go on with what isn't there");
}

/// A store answers when all of a file has come: on a slow line long after it would be taken for dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_take_longer_on_its_way_than_an_answer() {
    let yes = "200 OK\r\netag: \"a\"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let access = s3(yes, Duration::from_millis(1500)).await;
    let uri = "s3://models/fraud".parse().unwrap();
    let (bucket, key) = Bucket::open(&uri, &access).unwrap();
    assert_eq!(
        bucket.write(&key, Bytes::from_static(b"1")).await.unwrap().as_deref(),
        Some("\"a\"")
    );
    let id = "id".to_owned();
    assert_eq!(
        bucket.part(&key, &id, 0, Bytes::from_static(b"1")).await.unwrap(),
        "\"a\""
    );
}

/// An S3 store behind a slow line, which takes a file's bytes a few at a time and is cut once on the way: how it is opened.
async fn slow() -> Access {
    const CUT: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut is_cut = false;
        while let Ok((mut socket, _)) = listener.accept().await {
            let (mut request, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
            let whole = loop {
                match socket.read(&mut chunk).await {
                    Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                    _ => break false,
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
                let head = request
                    .windows(4)
                    .position(|end| end == b"\r\n\r\n")
                    .map_or(0, |at| at + 4);
                let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
                let length = text
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next());
                let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
                if !is_cut && request.len() > CUT {
                    is_cut = true;
                    break false;
                }
                if head > 0 && request.len() >= head + length {
                    break true;
                }
            };
            if whole {
                let _ = socket
                    .write_all(b"HTTP/1.1 200 OK\r\netag: \"a\"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
        }
    });
    Access {
        s3: store::S3 {
            endpoint: Some(endpoint),
            identity: store::S3Identity::Anonymous,
            ..store::S3::default()
        },
        timeout: Some(Duration::from_millis(200)),
        ..Access::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_takes_as_long_as_its_line_does_and_is_told_of_on_the_way() {
    let (bucket, key) = Bucket::open(&"s3://models/fraud".parse().unwrap(), &slow().await).unwrap();
    let began = std::time::Instant::now();
    let sending = bucket.clone();
    let mut written = tokio::spawn(async move { sending.write(&key, vec![7; 48 << 20].into()).await });
    let mut seen = std::collections::BTreeSet::new();
    let written = loop {
        tokio::select! {
            written = &mut written => break written.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(20)) => seen.insert(bucket.on_the_way()),
        };
    };
    assert_eq!(written.unwrap().as_deref(), Some("\"a\""));
    // Longer than nothing may move.
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(seen.len() > 20, "{seen:?}");
    assert!(seen.last() <= Some(&(48 << 20)), "{seen:?}");
    assert_eq!(bucket.on_the_way(), 0);
}
