use std::convert::Infallible;
use std::time::Duration;

use kube::client::Body;
use serde_json::json;
use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn it_waits_for_what_was_delivered() {
    let (open, opened) = tokio::sync::watch::channel(false);
    let service = tower::service_fn(move |request: axum::http::Request<Body>| {
        let mut opened = opened.clone();
        async move {
            let uri = request.uri().to_string();
            if uri.contains("watch=true") {
                std::future::pending::<()>().await;
            }
            if uri.contains("/secrets?") && uri.contains("managed-by") {
                let _ = opened.wait_for(|open| *open).await;
            }
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
            let body = serde_json::to_vec(&list).unwrap_or_default();
            Ok::<_, Infallible>(axum::http::Response::new(Body::from(body)))
        }
    });
    let stop = CancellationToken::new();
    let client = Client::new(service, "default");
    let sources = Sources::watch(&client, "kserve".into(), &Arc::default(), &stop);
    let others = async {
        tokio::join!(
            sources.own_secrets.settled(),
            sources.our_service_accounts.settled(),
            sources.our_config_maps.settled()
        )
    };
    timeout(Duration::from_secs(10), others)
        .await
        .expect("all others are listed");
    assert!(timeout(Duration::from_millis(200), sources.settled()).await.is_err());
    open.send_replace(true);
    timeout(Duration::from_secs(10), sources.settled())
        .await
        .expect("all are listed");
    stop.cancel();
}
