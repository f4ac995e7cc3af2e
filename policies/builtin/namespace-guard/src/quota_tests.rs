use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pod::{Component, Resources};

fn quota(spec: &Value, used: &Value) -> ResourceQuota {
    let object = json!({"metadata": {"name": "compute"}, "spec": spec, "status": {"used": used}});
    serde_json::from_str(&object.to_string()).unwrap()
}

fn hard(hard: &Value) -> ResourceQuota {
    quota(&json!({"hard": hard}), &json!({}))
}

fn pod(component: &Value) -> Pod {
    let component: Component = serde_json::from_str(&component.to_string()).unwrap();
    let mut pod = Pod::of(&component, None, Some(&Resources::default()));
    pod.all_mut().for_each(Container::with_requests_of_limits);
    pod
}

fn asking(resources: &Value) -> Pod {
    pod(&json!({"containers": [{"name": "x", "resources": resources}]}))
}

fn q(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

#[test]
fn a_pod_takes_what_its_containers_ask_together_or_what_the_hungriest_before_them_asks() {
    let both = pod(&json!({
        "initContainers": [{"name": "i", "resources": {"requests": {"memory": "1Gi"}}}],
        "containers": [
            {"name": "x", "resources": {"requests": {"memory": "2Gi"}}},
            {"name": "y", "resources": {"requests": {"memory": "1Gi"}}},
        ],
    }));
    let never = |resource: &str, asked: &str, hard: &str| {
        Some(Said::Never {
            resource: resource.to_owned(),
            asked: q(asked),
            hard: q(hard),
        })
    };
    let says = |pod: &Pod, limit: &str| hard(&json!({"requests.memory": limit})).says(pod, 1);
    assert_eq!(says(&both, "2Gi"), never("requests.memory", "3Gi", "2Gi"));
    assert_eq!(says(&both, "3Gi"), None);
    let mut hungry = both;
    hungry.init[0].resources.requests = Some([("memory".to_owned(), q("5Gi"))].into());
    assert_eq!(says(&hungry, "4Gi"), never("requests.memory", "5Gi", "4Gi"));
}

#[test]
fn a_quota_wants_every_container_to_say_how_much_it_asks() {
    let limits = hard(&json!({"limits.memory": "10Gi"}));
    let said = limits
        .says(&asking(&json!({"requests": {"memory": "1Gi"}})), 1)
        .unwrap();
    assert_eq!(
        said,
        Said::Unsaid {
            resource: "limits.memory",
            containers: vec!["x".to_owned()]
        }
    );
    // Another webhook may say it.
    assert!(!said.is_certain(Added::Maybe) && said.is_certain(Added::Never));
    // Of GPUs nobody has to say that it wants none.
    assert_eq!(
        hard(&json!({"requests.nvidia.com/gpu": "0"})).says(&asking(&json!({})), 1),
        None
    );
    let never =
        hard(&json!({"requests.nvidia.com/gpu": "0"})).says(&asking(&json!({"limits": {"nvidia.com/gpu": 1}})), 1);
    assert!(never.unwrap().is_certain(Added::Maybe));
}

#[test]
fn nobody_is_silent_where_not_all_containers_are_known() {
    let mut unseen = asking(&json!({}));
    unseen.complete = false;
    assert_eq!(hard(&json!({"limits.memory": "10Gi"})).says(&unseen, 1), None);
}

#[test]
fn a_quota_that_is_used_up_may_be_free_again() {
    let used = quota(
        &json!({"hard": {"requests.memory": "4Gi"}}),
        &json!({"requests.memory": "3Gi"}),
    );
    let said = used.says(&asking(&json!({"requests": {"memory": "2Gi"}})), 1).unwrap();
    assert_eq!(
        said,
        Said::NotNow {
            resource: "requests.memory".to_owned(),
            asked: q("2Gi"),
            left: q("1Gi")
        }
    );
    assert!(!said.is_certain(Added::Maybe));
}

#[test]
fn fewer_replicas_than_wanted_still_serve() {
    let said = hard(&json!({"requests.memory": "4Gi"})).says(&asking(&json!({"requests": {"memory": "2Gi"}})), 3);
    assert!(
        matches!(&said, Some(Said::Fewer { asked, .. }) if *asked == q("6Gi")),
        "{said:?}"
    );
    assert!(
        hard(&json!({"pods": "0"}))
            .says(&asking(&json!({})), 1)
            .unwrap()
            .is_certain(Added::Maybe)
    );
    assert!(
        !hard(&json!({"pods": "1"}))
            .says(&asking(&json!({})), 2)
            .unwrap()
            .is_certain(Added::Maybe)
    );
    assert_eq!(hard(&json!({"services": "1"})).says(&asking(&json!({})), 2), None);
}

#[test]
fn a_quota_for_other_pods_says_nothing() {
    let big = asking(&json!({"limits": {"memory": "9Gi"}}));
    for (spec, counts) in [
        (json!({"scopes": ["NotTerminating"]}), true),
        (json!({"scopes": ["Terminating"]}), false),
        (json!({"scopes": ["NotBestEffort", "NotTerminating"]}), true),
        (json!({"scopes": ["BestEffort"]}), false),
        (json!({"scopes": ["PriorityClass"]}), false),
        (
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
            false,
        ),
        (
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "NotBestEffort", "operator": "Exists"}]}}),
            true,
        ),
    ] {
        let mut spec = spec;
        spec["hard"] = json!({"requests.memory": "1Gi"});
        assert_eq!(quota(&spec, &json!({})).says(&big, 1).is_some(), counts, "{spec}");
    }
}

proptest! {
    #[test]
    fn asking_for_less_is_never_refused_where_asking_for_more_is_not(more in 1_u32..100, less in 1_u32..100, limit in 1_u32..100) {
        let (less, more) = (less.min(more), more.max(less));
        let quota = hard(&json!({"requests.cpu": limit}));
        let certain = |cpu: u32| quota.says(&asking(&json!({"requests": {"cpu": cpu}})), 1).is_some_and(|said| said.is_certain(Added::Maybe));
        prop_assert!(!certain(less) || certain(more));
        prop_assert_eq!(certain(more), more > limit);
    }
}
