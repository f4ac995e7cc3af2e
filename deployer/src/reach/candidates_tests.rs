use serde_json::json;

use super::super::tests::{Answers, cluster};
use super::*;
use crate::live::fixture::deployed;

fn told(found: &(Vec<Candidate>, Vec<String>)) -> Vec<String> {
    let told = found.0.iter().map(|one| {
        let host = one.host.as_deref().unwrap_or("-");
        format!("{} {} {host}", one.way, one.base)
    });
    told.collect()
}

fn service(mode: &str, url: &str) -> Deployed {
    deployed(json!({"status": {"deploymentMode": mode, "url": url,
        "address": {"url": "http://fraud-predictor.team-a.svc.cluster.local"}}}))
}

fn gateway_service(ip: &str) -> Value {
    json!({"metadata": {"name": "x"}, "spec": {"type": "LoadBalancer", "ports": [{"name": "http2", "port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
}

#[tokio::test]
async fn knatives_gateway_is_found_with_the_host_that_it_leads_by() {
    let answers = Answers::from([
        (
            "/api/v1/namespaces/istio-system/services/istio-ingressgateway",
            gateway_service("203.0.113.7"),
        ),
        ("/api/v1/nodes", json!({"items": []})),
    ]);
    let service = service("Serverless", "http://fraud.team-a.example.com");
    let found = find(&cluster(answers), &service, Protocol::Grpc, &Options::default()).await;
    assert_eq!(
        told(&found),
        [
            "Istio's gateway istio-system/istio-ingressgateway (load balancer) http://203.0.113.7/ fraud.team-a.example.com"
        ]
    );
}

#[tokio::test]
async fn a_domain_of_ones_own_is_asked_before_the_gateway() {
    let answers = Answers::from([
        (
            "/api/v1/namespaces/kourier-system/services/kourier",
            gateway_service("203.0.113.8"),
        ),
        ("/api/v1/nodes", json!({"items": []})),
    ]);
    let service = service("Knative", "https://fraud.team-a.corp.org/models/fraud");
    let found = find(&cluster(answers), &service, Protocol::Rest, &Options::default()).await;
    // Its Service has no port for HTTPS.
    assert_eq!(
        told(&found),
        ["the service's own URL https://fraud.team-a.corp.org/models/fraud/ -"]
    );
    assert!(found.1.iter().any(|one| one.contains("Kourier")), "{:?}", found.1);
}

#[tokio::test]
async fn the_gateway_api_is_asked_where_kserve_is_told_so() {
    let config = json!({"enableGatewayApi": true, "kserveIngressGateway": "kserve/gate"}).to_string();
    let answers = Answers::from([
        (
            "/api/v1/namespaces/kserve/configmaps/inferenceservice-config",
            json!({"metadata": {"name": "inferenceservice-config"}, "data": {"ingress": config}}),
        ),
        (
            "/apis/gateway.networking.k8s.io/v1/namespaces/kserve/gateways/gate",
            json!({"metadata": {"name": "gate"}, "spec": {"listeners": [{"protocol": "HTTP", "port": 80}]},
                "status": {"addresses": [{"value": "203.0.113.9"}]}}),
        ),
    ]);
    let service = service("Standard", "http://fraud-team-a.example.com");
    let found = find(&cluster(answers), &service, Protocol::Rest, &Options::default()).await;
    assert_eq!(
        told(&found),
        ["Gateway kserve/gate http://203.0.113.9/ fraud-team-a.example.com"]
    );
}

#[tokio::test]
async fn a_plain_ingress_is_asked_by_rest_alone() {
    let answers = || {
        Answers::from([(
            "/apis/networking.k8s.io/v1/namespaces/team-a/ingresses/fraud",
            json!({"metadata": {"name": "fraud"}, "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.org"}]}}}),
        )])
    };
    let service = service("RawDeployment", "http://fraud-team-a.example.com");
    let rest = find(&cluster(answers()), &service, Protocol::Rest, &Options::default()).await;
    assert_eq!(
        told(&rest),
        ["Ingress team-a/fraud http://lb.example.org/ fraud-team-a.example.com"]
    );
    let grpc = find(&cluster(answers()), &service, Protocol::Grpc, &Options::default()).await;
    assert!(grpc.0.is_empty() && grpc.1[0].contains("REST alone"), "{grpc:?}");
}

#[tokio::test]
async fn a_service_of_grpc_alone_is_asked_at_an_ingress_where_the_user_says_so() {
    let answers = || {
        Answers::from([(
            "/apis/networking.k8s.io/v1/namespaces/team-a/ingresses/fraud",
            json!({"metadata": {"name": "fraud"}, "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.org"}]}}}),
        )])
    };
    let service = deployed(json!({
        "spec": {"predictor": {"model": {"protocolVersion": "v2", "ports": [{"name": "h2c", "containerPort": 9000}]}}},
        "status": {"deploymentMode": "Standard", "url": "http://fraud-team-a.example.com"},
    }));
    let auto = find(&cluster(answers()), &service, Protocol::Grpc, &Options::default()).await;
    assert!(
        auto.0.is_empty() && auto.1[0].contains("--via ingress tries it"),
        "{auto:?}"
    );
    let options = Options {
        via: Via::Ingress,
        ..Options::default()
    };
    let asked = find(&cluster(answers()), &service, Protocol::Grpc, &options).await;
    assert_eq!(
        told(&asked),
        ["Ingress team-a/fraud http://lb.example.org/ fraud-team-a.example.com"]
    );
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_and_not_fatal() {
    let answers = Answers::forbidding();
    let service = service("Knative", "http://fraud.team-a.example.com");
    let found = find(&cluster(answers), &service, Protocol::Rest, &Options::default()).await;
    assert!(found.0.is_empty());
    assert!(
        found.1[0].starts_with("not allowed to get services istio-ingressgateway in namespace istio-system"),
        "{:?}",
        found.1
    );
}

#[tokio::test]
async fn inside_of_the_cluster_its_own_address_comes_first() {
    let options = Options {
        in_cluster: true,
        ..Options::default()
    };
    let service = service("Standard", "http://fraud-team-a.example.com");
    let found = find(&cluster(Answers::default()), &service, Protocol::Rest, &options).await;
    assert!(
        told(&found)[0].starts_with("the service's address inside of the cluster http://fraud-predictor.team-a"),
        "{found:?}"
    );
}

#[test]
fn what_only_pods_resolve_is_inside() {
    assert!(is_inside("fraud.team-a.svc.cluster.local") && is_inside("fraud.team-a.svc"));
    assert!(!is_inside("fraud.svc.example.org") && !is_inside("fraud-team-a.example.com"));
}

#[test]
fn a_base_url_asks_for_the_services_host() {
    let service = service("Standard", "http://fraud-team-a.example.com/serving/fraud");
    let of = |given: &str| base_url(given, &service, &Options::default());
    let found = of("http://127.0.0.1:8080/gate").unwrap();
    assert_eq!(found.base.as_str(), "http://127.0.0.1:8080/gate/serving/fraud/");
    assert_eq!(found.host.as_deref(), Some("fraud-team-a.example.com"));
    for wrong in ["203.0.113.7", "ftp://x", "http://a:b@c", "http://a?b=c"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}
