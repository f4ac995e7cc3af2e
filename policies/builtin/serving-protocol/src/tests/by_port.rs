//! Ports, by deployment mode and server.

use super::*;

fn with_ports(format: &str, protocol: &str, ports: Value) -> Value {
    service(format, json!({"protocolVersion": protocol, "ports": ports}))
}

#[test]
fn grpc_gets_the_port_that_knative_needs() {
    let verdict = review(
        &in_mode("Serverless"),
        &service("triton", json!({"protocolVersion": "grpc-v2"})),
    );
    assert_eq!(verdict.denial, None);
    let fill = &verdict.fills[0];
    assert_eq!(fill.path, "/spec/predictor/model/ports");
    let ports: Value = serde_json::from_str(&fill.value).unwrap();
    assert_eq!(
        ports,
        json!([{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}])
    );
    // A Service of Kubernetes does without.
    passes(
        &in_mode("Standard"),
        &service("triton", json!({"protocolVersion": "grpc-v2"})),
    );
    passes(&world(), &service("triton", json!({"protocolVersion": "grpc-v2"})));
}

#[test]
fn where_no_port_can_be_filled_in_for_grpc_it_is_refused() {
    let own = |world: World| {
        world
            .runtime("own", None, runtime("own", "example.com/own", "1", &["grpc-v2"]))
            .runtime_spec("own", &json!({"containers": [{"name": "kserve-container"}]}))
    };
    let object = service("own", json!({"protocolVersion": "grpc-v2"}));
    let (code, message, _) = refused(&own(in_mode("Knative")), &object);
    assert_eq!(code, "grpc-port");
    assert!(message.contains("{name: h2c, containerPort: N}"), "{message}");
    passes(&own(in_mode("Standard")), &object);
    // Its runtime may have a port that isn't known.
    let unread = in_mode("Knative").runtime("own", None, runtime("own", "example.com/own", "1", &["grpc-v2"]));
    passes(&unread, &object);
}

#[test]
fn the_service_says_its_mode_before_the_configuration_does() {
    let mut object = with_ports(
        "sklearn",
        "v2",
        json!([{"containerPort": 8080, "name": "a"}, {"containerPort": 9000, "name": "b"}]),
    );
    object["metadata"]["annotations"] = json!({"serving.kserve.io/deploymentMode": "Knative"});
    assert_eq!(refused(&in_mode("Standard"), &object).0, "knative-ports");
    object["metadata"]["annotations"] = json!({"serving.kserve.io/deploymentMode": "RawDeployment"});
    passes(&in_mode("Knative"), &object);
}

#[test]
fn knative_takes_one_port_for_all_containers() {
    let world = in_mode("Knative");
    let two = json!([{"containerPort": 8080, "name": "http1"}, {"containerPort": 9000, "name": "h2c"}]);
    let (code, message, path) = refused(&world, &with_ports("sklearn", "v2", two.clone()));
    assert_eq!((&*code, &*path), ("knative-ports", "/spec/predictor/model/ports"));
    assert!(message.contains("there are 2 (the server's: 8080, 9000)"), "{message}");

    // The runtime's port and the object's are two as well, unless they are the same number.
    let world = world.runtime_spec(
        "kserve-mlserver",
        &json!({"containers": [{"name": "kserve-container", "ports": [{"containerPort": 8080}]}]}),
    );
    assert_eq!(
        refused(
            &world,
            &with_ports("mlflow", "v2", json!([{"containerPort": 9000, "name": "h2c"}]))
        )
        .0,
        "knative-ports"
    );
    passes(
        &world,
        &with_ports("mlflow", "v2", json!([{"containerPort": 8080, "name": "http1"}])),
    );

    let custom = json!({"spec": {"predictor": {"containers": [
        {"name": "kserve-container", "ports": [{"containerPort": 8080}]}, {"name": "beside", "ports": [{"containerPort": 9100}]}]}}});
    assert_eq!(refused(&world, &custom).0, "knative-ports");
    let transformer = json!({"spec": {"predictor": {"model": model("sklearn", json!({}))}, "transformer": {"containers": [{"ports": two}]}}});
    let (_, _, path) = refused(&world, &transformer);
    assert_eq!(path, "/spec/transformer/containers/0/ports");
}

#[test]
fn knative_knows_two_names_of_ports() {
    let world = in_mode("Knative");
    let (code, message, _) = refused(
        &world,
        &with_ports("mlflow", "v2", json!([{"containerPort": 9000, "name": "grpc"}])),
    );
    assert_eq!(code, "knative-port-name");
    assert!(message.contains("Write h2c where it is for gRPC"), "{message}");
    passes(
        &world,
        &with_ports("mlflow", "v2", json!([{"containerPort": 9000, "name": "h2c"}])),
    );
    passes(&world, &with_ports("mlflow", "v2", json!([{"containerPort": 8080}])));
    let (code, ..) = refused(
        &world,
        &with_ports("triton", "grpc-v2", json!([{"containerPort": 9000, "name": "http1"}])),
    );
    assert_eq!(code, "grpc-port");
}

#[test]
fn of_several_ports_of_a_service_each_has_a_name_of_its_own() {
    let world = in_mode("Standard");
    let (code, message, path) = refused(
        &world,
        &with_ports(
            "mlflow",
            "v2",
            json!([{"containerPort": 8080, "name": "http"}, {"containerPort": 9000}]),
        ),
    );
    assert_eq!((&*code, &*path), ("port-without-name", "/spec/predictor/model/ports"));
    assert!(message.contains("and 9000 has none"), "{message}");
    let twice = json!([{"containerPort": 8080, "name": "http"}, {"containerPort": 8090, "name": "http"}]);
    assert_eq!(refused(&world, &with_ports("mlflow", "v2", twice)).0, "port-name-twice");
    passes(
        &world,
        &with_ports(
            "mlflow",
            "v2",
            json!([{"containerPort": 8080, "name": "http"}, {"containerPort": 9000, "name": "grpc"}]),
        ),
    );
    passes(&world, &with_ports("mlflow", "v2", json!([{"containerPort": 8080}])));
}

#[test]
fn a_port_on_which_the_server_does_not_speak_so_is_refused() {
    for mode in ["Knative", "Standard"] {
        let world = in_mode(mode);
        for (format, ports, words) in [
            (
                "mlflow",
                json!([{"containerPort": 8080, "name": "h2c"}]),
                "For gRPC it listens on 9000",
            ),
            (
                "mlflow",
                json!([{"containerPort": 9000, "name": "http1"}]),
                "for REST write 8080",
            ),
            (
                "mlflow",
                json!([{"containerPort": 8081, "name": "h2c"}]),
                "nothing listens on port 8081",
            ),
            ("sklearn", json!([{"containerPort": 8090}]), "Write 8080"),
            ("triton", json!([{"containerPort": 8081, "name": "h2c"}]), "Write 9000"),
        ] {
            let protocol = if format == "sklearn" { "v1" } else { "v2" };
            let (code, message, _) = refused(&world, &with_ports(format, protocol, ports));
            assert_eq!(code, "wrong-port");
            assert!(message.contains(words), "{message}");
        }
        passes(
            &world,
            &with_ports("sklearn", "v1", json!([{"containerPort": 8081, "name": "h2c"}])),
        );
    }
    // A second port may be for anything, unless it says gRPC and is REST.
    let second = |port: Value| with_ports("mlflow", "v2", json!([{"containerPort": 9000, "name": "h2c"}, port]));
    passes(
        &in_mode("Standard"),
        &second(json!({"containerPort": 8082, "name": "metrics"})),
    );
    assert_eq!(
        refused(
            &in_mode("Standard"),
            &second(json!({"containerPort": 8080, "name": "grpc-web"}))
        )
        .0,
        "wrong-port"
    );
}

#[test]
fn what_the_user_tells_the_server_counts_before_what_the_runtime_does() {
    let world = in_mode("Standard");
    let told = |more: Value| {
        let mut more = more;
        more["ports"] = json!([{"containerPort": 9500, "name": "h2c"}]);
        more
    };
    passes(
        &world,
        &service(
            "mlflow",
            told(json!({"protocolVersion": "v2", "env": [{"name": "MLSERVER_GRPC_PORT", "value": "9500"}]})),
        ),
    );
    passes(
        &world,
        &service("sklearn", told(json!({"args": ["--grpc_port", "9500"]}))),
    );
    refused(&world, &service("sklearn", told(json!({"args": ["--grpc_port=9501"]}))));
    // What can't be known is left alone.
    let from_elsewhere = json!([{"name": "MLSERVER_GRPC_PORT", "valueFrom": {"fieldRef": {}}}]);
    passes(
        &world,
        &service("mlflow", told(json!({"protocolVersion": "v2", "env": from_elsewhere}))),
    );
    passes(&world, &service("sklearn", told(json!({"command": ["sh"]}))));
    passes(&world, &service("sklearn", told(json!({"image": "example.com/own:1"}))));
    passes(
        &world,
        &service("sklearn", told(json!({"args": ["--enable_grpc=false"]}))),
    );
}

#[test]
fn a_container_of_ones_own_that_listens_elsewhere_is_warned_of() {
    let custom = |container: Value| json!({"spec": {"predictor": {"containers": [container]}}});
    assert_eq!(
        warned(&world(), &custom(json!({"args": ["--port", "8000"]}))),
        "predictor: by its arguments it listens on 8000, and KServe sends to 8080; name 8000 in ports"
    );
    passes(&world(), &custom(json!({"args": ["--port=8080"]})));
    passes(
        &world(),
        &custom(json!({"args": ["--port=8000"], "ports": [{"containerPort": 8000}]})),
    );
    passes(&world(), &custom(json!({"args": ["--model", "x"]})));
}
