//! Ports, by deployment mode and server.

use super::*;

fn with_ports(format: &str, protocol: &str, ports: Value) -> Value {
    service(format, json!({"protocolVersion": protocol, "ports": ports}))
}

#[test]
fn grpc_gets_the_port_to_which_requests_are_led() {
    let object = service("triton", json!({"protocolVersion": "grpc-v2"}));
    for (mode, reason) in [
        ("Serverless", "Knative serves gRPC on h2c alone"),
        ("RawDeployment", "else KServe's Service leads to 8080"),
    ] {
        let verdict = review(&in_mode(mode), &object);
        assert_eq!((verdict.denial, verdict.fills.len()), (None, 1), "{mode}");
        let fill = &verdict.fills[0];
        assert_eq!((&*fill.path, &*fill.reason), ("/spec/predictor/model/ports", reason));
        let ports: Value = serde_json::from_str(&fill.value).unwrap();
        assert_eq!(
            ports,
            json!([{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}])
        );
    }
    passes(&world(), &object);
}

#[test]
fn grpc_that_kserves_service_would_not_reach_is_refused_where_no_port_can_be_filled_in() {
    let arguments = json!(["tritonserver", "--grpc-port=9000", "--http-port=8080"]);
    let triton = |world: World| {
        world.runtime_spec(
            "kserve-tritonserver",
            &json!({"containers": [{"name": "kserve-container", "args": arguments}]}),
        )
    };
    let none = with_ports("triton", "grpc-v2", json!([]));
    let (code, message, path) = refused(&triton(in_mode("Standard")), &none);
    assert_eq!((&*code, &*path), ("grpc-port", "/spec/predictor/model/ports"));
    assert_eq!(
        message,
        "predictor: gRPC is asked for, and without a port KServe's Service leads to 8080 alone, while the server speaks gRPC on 9000. Write ports: \
         [{name: h2c, containerPort: 9000}]"
    );
    // Where the Service's name is that of the Pods, every port is reached.
    let headless = triton(in_mode("Standard")).kserve_config("service", &json!({"serviceClusterIPNone": true}));
    passes(&headless, &none);
    // A server that speaks gRPC on 8080 is where the Service leads.
    let more = json!({"protocolVersion": "grpc-v2", "args": ["--grpc-port=8080", "--http-port=8090"]});
    passes(&triton(in_mode("Standard")), &service("triton", more));
    // A canary has the predictor's ports.
    let mut canary = with_ports("triton", "grpc-v2", json!([{"name": "h2c", "containerPort": 9000}]));
    canary["spec"]["canary"] =
        json!([{"predictor": {"model": model("triton", json!({"protocolVersion": "grpc-v2"}))}}]);
    passes(&triton(in_mode("Standard")), &canary);
}

/// A service with a transformer in the predictor's own Pod.
fn collocated(model_ports: Value, ports: Value) -> Value {
    let mut object = service("sklearn", json!({"protocolVersion": "v2", "ports": model_ports}));
    object["spec"]["predictor"]["containers"] =
        json!([{"name": "log", "image": "l"}, {"name": "transformer-container", "image": "t", "ports": ports}]);
    object
}

#[test]
fn kserves_service_leads_to_the_transformer_beside_the_server() {
    let world = in_mode("Standard");
    let unnamed = json!([{"containerPort": 8080}, {"containerPort": 8081}]);
    passes(&world, &collocated(unnamed.clone(), json!([{"containerPort": 8500}])));
    let (code, _, path) = refused(&world, &collocated(json!([]), unnamed.clone()));
    assert_eq!(
        (&*code, &*path),
        ("port-without-name", "/spec/predictor/containers/1/ports")
    );
    let custom = json!({"spec": {"predictor": {"containers": [
        {"name": "kserve-container", "ports": [{"containerPort": 8085}]}, {"name": "transformer-container", "ports": unnamed}]}}});
    assert_eq!(refused(&world, &custom).2, "/spec/predictor/containers/1/ports");
    // What the server speaks is the transformer's matter alone.
    let mut grpc = service("triton", json!({"protocolVersion": "grpc-v2"}));
    grpc["spec"]["predictor"]["containers"] = json!([{"name": "transformer-container", "image": "t"}]);
    passes(&world, &grpc);
}

#[test]
fn a_transformer_of_the_runtime_has_the_objects_ports_laid_over_its_own() {
    let spec = json!({"containers": [{"name": "kserve-container"}, {"name": "transformer-container", "ports": [{"containerPort": 8500, "name": "http"}]}]});
    let world = in_mode("Standard").runtime_spec("kserve-mlserver", &spec);
    passes(&world, &collocated(json!([]), json!([{"containerPort": 8500}])));
    let (code, message, _) = refused(
        &world,
        &collocated(json!([]), json!([{"containerPort": 8501, "name": "http"}])),
    );
    assert_eq!(code, "port-name-twice");
    assert!(message.contains("two ports have the name http"), "{message}");
}

#[test]
fn knative_leads_to_whichever_container_names_the_port() {
    let world = in_mode("Knative");
    passes(&world, &collocated(json!([]), json!([{"containerPort": 8500}])));
    let (code, _, path) = refused(
        &world,
        &collocated(json!([]), json!([{"containerPort": 8500, "name": "http"}])),
    );
    assert_eq!(
        (&*code, &*path),
        ("knative-port-name", "/spec/predictor/containers/1/ports")
    );
    // Whether it is the server's or the transformer's makes no difference to Knative: two are one too many.
    let one = json!([{"containerPort": 8080}]);
    let (code, message, _) = refused(&world, &collocated(one.clone(), one));
    assert_eq!(code, "knative-ports");
    assert!(
        message.contains("Leave that of transformer-container, which asks the server itself"),
        "{message}"
    );
    let (code, message, path) = refused(&world, &collocated(json!([]), json!([])));
    assert_eq!(
        (&*code, &*path),
        ("knative-ports", "/spec/predictor/containers/1/ports")
    );
    assert_eq!(
        message,
        "predictor: of several containers Knative leads to the one that names a port, and none does. Write ports: [{containerPort: N}] in \
         transformer-container, with the port on which it listens for N"
    );
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
    // It may well speak gRPC on 8080, to which KServe's Service leads.
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
    // KServe's Service in Standard mode leads there whatever it is called, and who asks by gRPC is answered.
    let unnamed = with_ports("mlflow", "v2", json!([{"containerPort": 9000}]));
    assert_eq!(refused(&in_mode("Knative"), &unnamed).0, "wrong-port");
    assert_eq!(
        warned(&in_mode("Standard"), &unnamed),
        "predictor: port 9000 is the server's for gRPC; name it h2c, or write 8080"
    );
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
    passes(
        &world,
        &service(
            "mlflow",
            told(json!({"protocolVersion": "v2", "envFrom": [{"configMapRef": {"name": "ports"}}]})),
        ),
    );
    let by_shell =
        json!({"containers": [{"name": "kserve-container", "args": ["bash", "-c", "tritonserver --grpc-port=9500"]}]});
    let world_by_shell = in_mode("Standard").runtime_spec("kserve-tritonserver", &by_shell);
    passes(
        &world_by_shell,
        &service("triton", told(json!({"protocolVersion": "grpc-v2"}))),
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
