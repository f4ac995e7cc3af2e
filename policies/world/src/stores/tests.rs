use std::time::Duration;

use futures::future::join_all;
use url::Url;

use super::*;
use crate::testing::{ACCESS_KEY, Answering, S3, SECRET_KEY, response};

fn s3(endpoint: &str, secret: &str, trust: Trust) -> Connection {
    Connection::S3 {
        endpoint: Some(Url::parse(endpoint).unwrap()),
        region: None,
        path_style: true,
        trust,
        identity: Identity::Keys(Keys {
            id: ACCESS_KEY.into(),
            secret: secret.into(),
        }),
    }
}

fn client(connection: Connection) -> Client {
    Client::new(connection, Patience::default())
}

fn reader(endpoint: &str) -> Client {
    client(s3(endpoint, SECRET_KEY, Trust::Nobody))
}

fn at(bucket: &str, key: &str) -> Place {
    Place::Bucket {
        bucket: bucket.into(),
        key: key.into(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn a_model_in_s3_is_looked_at() {
    let server = S3::start().await;
    server.put("mlflow/1/model/MLmodel", "flavors: {}");
    server.put("mlflow/1/model/data/model.ubj", [7; 5_000]);
    server.put("mlflow/1/model-2/MLmodel", "another");
    let (stores, client) = (Stores::default(), reader(&server.endpoint));

    assert_eq!(
        stores.stat(&client, at("mlflow", "1/model/MLmodel"), soon()).await,
        Ok(11)
    );
    let listing = stores
        .list(&client, at("mlflow", "1/model"), 100, soon())
        .await
        .unwrap();
    let found: Vec<_> = listing
        .objects
        .iter()
        .map(|object| (object.path.as_str(), object.size))
        .collect();
    assert_eq!(found, [("MLmodel", 11), ("data/model.ubj", 5_000)]);
    assert!(!listing.truncated);
    assert_eq!(
        stores
            .read(&client, at("mlflow", "1/model/MLmodel"), 0, READ_LIMIT, soon())
            .await
            .unwrap(),
        "flavors: {}"
    );
}

#[tokio::test]
async fn what_is_answered_without_the_store_is_counted() {
    let server = S3::start().await;
    server.put("mlflow/1/MLmodel", "flavors: {}");
    let (stores, client) = (Stores::default(), reader(&server.endpoint));
    let stat = |key| stores.stat(&client, at("mlflow", key), soon());
    let _ = futures::join!(stat("1/MLmodel"), stat("1/MLmodel"));
    let _ = (stat("1/MLmodel").await, stat("1/none").await, stat("1/none").await);
    assert_eq!(stores.cached(), Counts { hits: 3, misses: 2 });
}

#[tokio::test]
async fn a_range_ends_with_the_object() {
    let server = S3::start().await;
    server.put("bucket/file", "0123456789");
    server.put("bucket/empty", "");
    let (stores, client) = (Stores::default(), reader(&server.endpoint));
    let read = async |key, offset, length| {
        stores
            .read(&client, at("bucket", key), offset, length, soon())
            .await
            .unwrap()
    };
    assert_eq!(read("file", 2, 3).await, "234");
    assert_eq!(read("file", 7, 100).await, "789");
    assert_eq!(read("file", 10, 100).await, "");
    assert_eq!(read("file", 1_000, 100).await, "");
    assert_eq!(read("empty", 0, 100).await, "");
}

#[tokio::test]
async fn a_big_listing_is_cut_and_says_so() {
    let server = S3::start().await;
    for number in 0..1_200 {
        server.put(&format!("bucket/m/{number:04}"), "x");
    }
    let (stores, client) = (Stores::default(), reader(&server.endpoint));
    let listing = stores.list(&client, at("bucket", "m"), 1_000, soon()).await.unwrap();
    assert_eq!(
        (
            listing.objects.len(),
            listing.truncated,
            listing.objects[999].path.as_str()
        ),
        (1_000, true, "0999")
    );
    let listing = stores.list(&client, at("bucket", "m"), 3, soon()).await.unwrap();
    assert_eq!((listing.objects.len(), listing.truncated), (3, true));
}

#[tokio::test]
async fn a_folder_shows_what_stands_directly_in_it() {
    let server = S3::start().await;
    for path in [
        "fraud/1/MLmodel",
        "fraud/1/model.ubj",
        "fraud/2/MLmodel",
        "prices.joblib",
    ] {
        server.put(&format!("models/team/{path}"), "1234");
    }
    let (stores, client) = (Stores::default(), reader(&server.endpoint));
    let folder = async |key: &str, limit| {
        let listing = stores.list_folder(&client, at("models", key), limit, soon()).await;
        let listing = listing.unwrap();
        let found = listing.objects.iter().map(|object| (object.path.clone(), object.size));
        (found.collect::<Vec<_>>(), listing.truncated)
    };
    assert_eq!(
        folder("team", 10).await,
        (vec![("fraud/".into(), 0), ("prices.joblib".into(), 4)], false)
    );
    assert_eq!(folder("", 10).await, (vec![("team/".into(), 0)], false));
    assert_eq!(folder("team/fraud", 10).await.0, [("1/".into(), 0), ("2/".into(), 0)]);
    assert_eq!(folder("team/fraud", 1).await, (vec![("1/".into(), 0)], true));
    // What was answered for all that lies below isn't the answer here.
    assert_eq!(
        stores
            .list(&client, at("models", "team"), 10, soon())
            .await
            .unwrap()
            .objects
            .len(),
        4
    );
    assert_eq!(folder("team", 10).await.0.len(), 2);
}

#[tokio::test]
async fn missing_and_forbidden_are_told_apart() {
    let server = S3::start().await;
    server.put("bucket/file", "x");
    let stores = Stores::default();
    let right = reader(&server.endpoint);
    assert_eq!(
        stores.read(&right, at("bucket", "nothing"), 0, 10, soon()).await,
        Err(Failure::NotFound)
    );
    assert_eq!(
        stores.stat(&right, at("bucket", "nothing"), soon()).await,
        Err(Failure::NotFound)
    );
    assert_eq!(
        stores.read(&right, at("no-bucket", "nothing"), 0, 10, soon()).await,
        Err(Failure::NotFound)
    );
    assert_eq!(
        stores.list(&right, at("no-bucket", "m"), 10, soon()).await.map(drop),
        Err(Failure::NotFound)
    );

    let wrong = client(s3(&server.endpoint, "battery-staple", Trust::Nobody));
    let refused = stores
        .read(&wrong, at("bucket", "file"), 0, 10, soon())
        .await
        .unwrap_err();
    let host = server.endpoint.trim_start_matches("http://");
    assert_eq!(
        refused,
        Failure::Forbidden(format!(
            "{host} answers 403 SignatureDoesNotMatch: the secret key is wrong"
        ))
    );
    assert!(matches!(
        stores.stat(&wrong, at("bucket", "file"), soon()).await,
        Err(Failure::Forbidden(_))
    ));
}

#[tokio::test]
async fn many_askers_make_one_call_and_its_answer_is_kept() {
    let server = S3::start().await;
    server.put("bucket/file", "content");
    let (stores, client) = (Stores::default(), reader(&server.endpoint));
    let answers = join_all((0..50).map(|_| stores.read(&client, at("bucket", "file"), 0, 100, soon()))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|bytes| bytes == "content"))
    );
    assert_eq!(server.requests(), 1);
    stores
        .read(&client, at("bucket", "file"), 0, 100, soon())
        .await
        .unwrap();
    assert_eq!(server.requests(), 1);

    // That there is nothing is an answer too.
    for _ in 0..3 {
        assert_eq!(
            stores.stat(&client, at("bucket", "nothing"), soon()).await,
            Err(Failure::NotFound)
        );
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_answer_is_kept_for_a_while_and_for_its_client_alone() {
    let server = S3::start().await;
    server.put("bucket/file", "old");
    let stores = Stores::new(Limits {
        keep: Duration::from_millis(100),
        ..Limits::default()
    });
    let (one, other) = (reader(&server.endpoint), reader(&server.endpoint));
    assert_eq!(
        stores.read(&one, at("bucket", "file"), 0, 9, soon()).await.unwrap(),
        "old"
    );
    server.put("bucket/file", "new");
    assert_eq!(
        stores.read(&other, at("bucket", "file"), 0, 9, soon()).await.unwrap(),
        "new"
    );
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(
        stores.read(&one, at("bucket", "file"), 0, 9, soon()).await.unwrap(),
        "new"
    );
}

#[tokio::test]
async fn what_was_missing_is_looked_for_again_soon() {
    let server = S3::start().await;
    let stores = Stores::default();
    let client = reader(&server.endpoint);
    server.put("bucket/other", "x");
    let missing = stores.read(&client, at("bucket", "file"), 0, 9, soon()).await;
    assert!(matches!(missing, Err(Failure::NotFound)), "{missing:?}");
    server.put("bucket/file", "here");
    tokio::time::sleep(Limits::default().keep_missing + Duration::from_millis(50)).await;
    assert_eq!(
        stores.read(&client, at("bucket", "file"), 0, 9, soon()).await.unwrap(),
        "here"
    );
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let stores = Stores::default();
    let failing =
        Answering::start(|_| Some(response("503 Slow Down", &[], "<Error><Code>SlowDown</Code></Error>"))).await;
    let client = reader(&failing.endpoint);
    let failure = stores
        .read(&client, at("bucket", "file"), 0, 9, soon())
        .await
        .unwrap_err();
    let host = failing.endpoint.trim_start_matches("http://");
    assert_eq!(failure.to_string(), format!("{host} answers 503 SlowDown"));
    let _ = stores.read(&client, at("bucket", "file"), 0, 9, soon()).await;
    assert_eq!(failing.connections(), 2);
}

#[tokio::test]
async fn fifty_reviews_on_a_hung_store_connect_a_few_times() {
    let hung = Answering::hung().await;
    let stores = Stores::default();
    let patience = Patience {
        stall: Duration::from_millis(100),
        ..Patience::default()
    };
    let client = Client::new(s3(&hung.endpoint, SECRET_KEY, Trust::Nobody), patience);
    for service in 0..50 {
        let deadline = Instant::now() + Duration::from_millis(300);
        let place = at("bucket", &format!("{service}/MLmodel"));
        let failure = stores.read(&client, place, 0, 9, deadline).await.unwrap_err();
        assert!(failure.to_string().ends_with("didn't answer in time"), "{failure}");
    }
    assert_eq!(hung.connections(), 3);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_our_keys() {
    let elsewhere = Answering::hung().await;
    let target = format!("{}/b/file?X-Amz-Signature=abc", elsewhere.endpoint);
    let redirecting =
        Answering::start(move |_| Some(response("307 Temporary Redirect", &[("location", &target)], ""))).await;
    let stores = Stores::default();
    let failure = stores
        .read(&reader(&redirecting.endpoint), at("bucket", "file"), 0, 9, soon())
        .await
        .unwrap_err();
    let host = redirecting.endpoint.trim_start_matches("http://");
    assert_eq!(
        failure,
        Failure::Forbidden(format!(
            "{host} answers 307: it redirects to {}; set the endpoint that answers itself",
            elsewhere.endpoint
        ))
    );
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_certificate_is_checked_as_the_backend_says() {
    let server = S3::start_tls().await;
    server.put("bucket/file", "x");
    let stores = Stores::default();
    let read = async |trust| {
        let client = client(s3(&server.endpoint, SECRET_KEY, trust));
        stores.read(&client, at("bucket", "file"), 0, 9, soon()).await
    };
    assert_eq!(read(Trust::Bundle(server.ca.clone().unwrap())).await.unwrap(), "x");
    assert_eq!(read(Trust::Anybody).await.unwrap(), "x");
    let host = server.endpoint.trim_start_matches("https://");
    let stranger = S3::start_tls().await;
    assert_eq!(
        read(Trust::Bundle(stranger.ca.clone().unwrap()))
            .await
            .unwrap_err()
            .to_string(),
        format!("nobody we trust signed the certificate of {host}; set the backend's tls.caBundle")
    );
    assert_eq!(
        read(Trust::Bundle("no certificate".into())).await,
        Err(Failure::Unserved(
            "the CA bundle holds no certificate in PEM form".into()
        ))
    );
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let stores = Stores::default();
    let read = async |endpoint: &str, trust| {
        let client = client(s3(endpoint, SECRET_KEY, trust));
        stores
            .read(&client, at("bucket", "file"), 0, 9, soon())
            .await
            .unwrap_err()
            .to_string()
    };
    let plain = S3::start().await;
    let host = plain.endpoint.trim_start_matches("http://");
    let tls = read(&format!("https://{host}"), Trust::Anybody).await;
    assert!(tls.contains("doesn't speak TLS there"), "{tls}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(
        read(&format!("http://{closed}"), Trust::Nobody).await,
        format!("{closed} refuses connections")
    );

    assert_eq!(
        read("http://no-such-host.invalid:9000", Trust::Nobody).await,
        "the name no-such-host.invalid:9000 can't be resolved"
    );

    let rude = Answering::start(|_| Some("220 mail.example ESMTP\r\n".into())).await;
    let words = read(&rude.endpoint, Trust::Nobody).await;
    assert!(
        words.starts_with(&format!(
            "{} can't be talked to: ",
            rude.endpoint.trim_start_matches("http://")
        )),
        "{words}"
    );
}

fn web(endpoint: &str, headers: &[(&str, &str)]) -> (Client, impl Fn(&str) -> Place + use<>) {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let endpoint = endpoint.to_owned();
    let place = move |path: &str| Place::Url(Url::parse(&format!("{endpoint}{path}")).unwrap());
    (
        client(Connection::Https {
            trust: Trust::Nobody,
            headers,
        }),
        place,
    )
}

#[tokio::test]
async fn a_plain_web_server_is_read_with_and_without_ranges() {
    let server = Answering::start(|head| {
        Some(match head.split(' ').nth(1) {
            Some("/ranges") if head.contains("bytes=2-4") => {
                response("206 Partial Content", &[("content-range", "bytes 2-4/10")], "234")
            }
            Some("/ranges") => response("416 Range Not Satisfiable", &[], ""),
            Some("/whole") => response("200 OK", &[], "0123456789"),
            _ => response("404 Not Found", &[], ""),
        })
    })
    .await;
    let (client, at) = web(&server.endpoint, &[]);
    let stores = Stores::default();
    assert_eq!(stores.read(&client, at("/ranges"), 2, 3, soon()).await.unwrap(), "234");
    assert_eq!(stores.read(&client, at("/ranges"), 10, 3, soon()).await.unwrap(), "");
    assert_eq!(stores.read(&client, at("/whole"), 2, 3, soon()).await.unwrap(), "234");
    assert_eq!(stores.read(&client, at("/whole"), 8, 30, soon()).await.unwrap(), "89");
    assert_eq!(
        stores.read(&client, at("/nothing"), 0, 3, soon()).await,
        Err(Failure::NotFound)
    );
    assert_eq!(
        stores.list(&client, at("/"), 3, soon()).await.map(drop),
        Err(Failure::Unserved("a web server can't be listed".into()))
    );
}

#[tokio::test]
async fn credentials_for_a_web_server_stay_with_it_when_it_redirects() {
    let cdn = Answering::start(|head| {
        let leaked = head.to_lowercase().contains("x-api-key");
        Some(response(
            "206 Partial Content",
            &[],
            if leaked { "leaked" } else { "clean" },
        ))
    })
    .await;
    let target = format!("{}/blob", cdn.endpoint);
    let origin = Answering::start(move |head| {
        let known = head.to_lowercase().contains("x-api-key: open");
        Some(if known {
            response("302 Found", &[("location", &target)], "")
        } else {
            response("401 Unauthorized", &[], "")
        })
    })
    .await;
    let stores = Stores::default();
    let (client, at) = web(&origin.endpoint, &[("x-api-key", "open")]);
    assert_eq!(
        stores.read(&client, at("/model"), 0, 100, soon()).await.unwrap(),
        "clean"
    );
    let (stranger, at) = web(&origin.endpoint, &[]);
    assert!(matches!(
        stores.read(&stranger, at("/model"), 0, 100, soon()).await,
        Err(Failure::Forbidden(_))
    ));
}

#[tokio::test]
async fn a_server_that_redirects_for_ever_is_given_up() {
    let server = Answering::start(|_| Some(response("302 Found", &[("location", "/again")], ""))).await;
    let (client, at) = web(&server.endpoint, &[]);
    let failure = Stores::default()
        .read(&client, at("/"), 0, 3, soon())
        .await
        .unwrap_err();
    assert!(failure.to_string().ends_with("redirects again and again"));
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn the_hub_is_read_and_listed() {
    let hub = Answering::start(|head| {
        assert!(head.to_lowercase().contains("authorization: bearer hf_token"), "{head}");
        Some(match head.split(' ').nth(1) {
            Some("/api/models/org/model/tree/v1?recursive=true") => response(
                "200 OK",
                &[],
                r#"[{"type":"directory","path":"onnx","oid":"1"},{"type":"file","path":"onnx/model.onnx","size":9},{"type":"file","path":"config.json","size":3}]"#,
            ),
            Some("/api/models/org/model/tree/v1") => response(
                "200 OK",
                &[],
                r#"[{"type":"directory","path":"onnx","oid":"1"},{"type":"file","path":"config.json","size":3}]"#,
            ),
            Some("/org/model/resolve/v1/config.json") => response("206 Partial Content", &[], "{}\n"),
            Some("/org/gated/resolve/main/config.json") => response("403 Forbidden", &[], ""),
            _ => response("404 Not Found", &[], ""),
        })
    })
    .await;
    let client = client(Connection::HuggingFace {
        endpoint: Url::parse(&hub.endpoint).unwrap(),
        trust: Trust::Nobody,
        token: Some("hf_token".into()),
    });
    let at = |repository: &str, revision: &str, key: &str| Place::Hub {
        repository: repository.into(),
        revision: revision.into(),
        key: key.into(),
    };
    let stores = Stores::default();
    let listing = stores
        .list(&client, at("org/model", "v1", ""), 10, soon())
        .await
        .unwrap();
    let found: Vec<_> = listing
        .objects
        .iter()
        .map(|object| (object.path.as_str(), object.size))
        .collect();
    assert_eq!(found, [("config.json", 3), ("onnx/model.onnx", 9)]);
    let folder = stores.list_folder(&client, at("org/model", "v1", ""), 10, soon()).await;
    let folder: Vec<_> = folder
        .unwrap()
        .objects
        .iter()
        .map(|object| object.path.clone())
        .collect();
    assert_eq!(folder, ["config.json", "onnx/"]);
    assert_eq!(
        stores
            .read(&client, at("org/model", "v1", "config.json"), 0, 100, soon())
            .await
            .unwrap(),
        "{}\n"
    );
    assert_eq!(
        stores
            .read(&client, at("org/model", "v1", "MLmodel"), 0, 100, soon())
            .await,
        Err(Failure::NotFound)
    );
    assert!(matches!(
        stores
            .read(&client, at("org/gated", "main", "config.json"), 0, 9, soon())
            .await,
        Err(Failure::Forbidden(_))
    ));
}

fn object(content: &str) -> String {
    let range = format!("bytes 0-{}/{}", content.len() - 1, content.len());
    let headers = [
        ("content-range", range.as_str()),
        ("etag", "\"1\""),
        ("last-modified", "Sun, 22 Nov 2026 12:00:00 GMT"),
    ];
    response("206 Partial Content", &headers, content)
}

#[tokio::test]
async fn gcs_is_read_by_its_xml_interface() {
    let server = Answering::start(|head| {
        Some(match head.split(' ').nth(1) {
            Some("/bucket/models%2FMLmodel") => object("flavors: {}"),
            Some(path) if path.starts_with("/bucket?") && path.contains("prefix=models%2F") => response(
                "200 OK",
                &[],
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>models/MLmodel</Key>\
                 <LastModified>2026-11-22T12:00:00Z</LastModified><Size>11</Size></Contents></ListBucketResult>",
            ),
            _ => response("404 Not Found", &[], "<Error><Code>NoSuchKey</Code></Error>"),
        })
    })
    .await;
    let endpoint = Some(Url::parse(&server.endpoint).unwrap());
    let client = client(Connection::Gcs {
        endpoint,
        trust: Trust::Nobody,
        identity: Identity::Anonymous,
    });
    let stores = Stores::default();
    assert_eq!(
        stores
            .read(&client, at("bucket", "models/MLmodel"), 0, 11, soon())
            .await
            .unwrap(),
        "flavors: {}"
    );
    assert_eq!(
        stores
            .list(&client, at("bucket", "models"), 9, soon())
            .await
            .unwrap()
            .objects[0]
            .path,
        "MLmodel"
    );
    assert_eq!(
        stores.read(&client, at("bucket", "models/none"), 0, 9, soon()).await,
        Err(Failure::NotFound)
    );
}

/// As Google's web console makes them: `models/` and `models/data/`, both empty. The second can be told from a file only by asking for it.
#[tokio::test]
async fn what_marks_a_folder_is_no_object_in_it() {
    let contents = |name: &str, size: u32| {
        format!(
            "<Contents><Key>models/{name}</Key><LastModified>2026-11-22T12:00:00Z</LastModified><Size>{size}</Size></Contents>"
        )
    };
    let listed = ["", "data/"].map(|name| contents(name, 0)).concat() + &contents("data/MLmodel", 11);
    let server = Answering::start(move |head| {
        Some(match head.split(' ').nth(1) {
            Some(path) if path.starts_with("/bucket?") => response(
                "200 OK",
                &[],
                &format!("<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"),
            ),
            _ => response("404 Not Found", &[], "<Error><Code>NoSuchKey</Code></Error>"),
        })
    })
    .await;
    let client = client(Connection::Gcs {
        endpoint: Some(Url::parse(&server.endpoint).unwrap()),
        trust: Trust::Nobody,
        identity: Identity::Anonymous,
    });
    let stores = Stores::default();
    let listed = stores.list(&client, at("bucket", "models"), 9, soon()).await.unwrap();
    let listed: Vec<_> = listed
        .objects
        .iter()
        .map(|object| (&*object.path, object.size))
        .collect();
    assert_eq!(listed, [("data", 0), ("data/MLmodel", 11)]);
    for folder in ["models", "models/data"] {
        let found = stores.stat(&client, at("bucket", folder), soon()).await;
        assert_eq!(found, Err(Failure::NotFound), "{folder}");
    }
}

#[tokio::test]
async fn azure_is_read_with_an_account_key() {
    let server = Answering::start(|head| {
        let signed = head.to_lowercase().contains("authorization: sharedkey team:");
        Some(match head.split(' ').nth(1) {
            _ if !signed => response("403 Forbidden", &[("x-ms-error-code", "AuthenticationFailed")], ""),
            Some("/models/fraud/MLmodel") => object("flavors: {}"),
            _ => response("404 Not Found", &[("x-ms-error-code", "BlobNotFound")], ""),
        })
    })
    .await;
    let made = |identity| {
        let endpoint = Some(Url::parse(&server.endpoint).unwrap());
        client(Connection::Azure {
            endpoint,
            trust: Trust::Nobody,
            identity,
        })
    };
    let place = |key: &str| Place::Azure {
        account: "team".into(),
        container: "models".into(),
        key: key.into(),
    };
    let stores = Stores::default();
    let keyed = made(Identity::Keys(AzureKeys::Access("c2VjcmV0".into())));
    assert_eq!(
        stores
            .read(&keyed, place("fraud/MLmodel"), 0, 11, soon())
            .await
            .unwrap(),
        "flavors: {}"
    );
    assert_eq!(
        stores.read(&keyed, place("fraud/none"), 0, 9, soon()).await,
        Err(Failure::NotFound)
    );
    let stranger = stores
        .read(&made(Identity::Anonymous), place("fraud/MLmodel"), 0, 9, soon())
        .await
        .unwrap_err();
    assert!(
        stranger
            .to_string()
            .ends_with("answers 403 AuthenticationFailed: the credentials are wrong"),
        "{stranger}"
    );
}
