//! Policies that go wrong: each is its own failure, and the server answers others.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::{Custom, unasked};
use tidewaiter_e2e::install::backend;
use tidewaiter_e2e::policy::unruly_in;
use tidewaiter_e2e::server::JUDGED;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{Answer, Namespace};

use crate::hammer::{filled, hammer, median, service};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_endless_loop_fails_alone_and_others_are_answered",
        false,
        an_endless_loop_fails_alone_and_others_are_answered,
    ),
    (
        "a_trap_fails_alone_and_others_are_answered",
        false,
        a_trap_fails_alone_and_others_are_answered,
    ),
    (
        "a_memory_bomb_fails_alone_and_others_are_answered",
        false,
        a_memory_bomb_fails_alone_and_others_are_answered,
    ),
    (
        "an_endless_answer_fails_alone_and_others_are_answered",
        false,
        an_endless_answer_fails_alone_and_others_are_answered,
    ),
    (
        "a_wrong_fill_fails_alone_and_others_are_answered",
        false,
        a_wrong_fill_fails_alone_and_others_are_answered,
    ),
    (
        "a_recursion_without_an_end_fails_alone_and_others_are_answered",
        false,
        a_recursion_without_an_end_fails_alone_and_others_are_answered,
    ),
    (
        "calls_to_a_silent_store_fail_alone_and_others_are_answered",
        false,
        calls_to_a_silent_store_fail_alone_and_others_are_answered,
    ),
    (
        "huge_settings_fail_alone_and_others_are_answered",
        false,
        huge_settings_fail_alone_and_others_are_answered,
    ),
    (
        "what_can_not_be_a_policy_is_said_in_its_status",
        false,
        what_can_not_be_a_policy_is_said_in_its_status,
    ),
    (
        "a_policy_that_takes_long_to_load_holds_up_no_other_object",
        false,
        a_policy_that_takes_long_to_load_holds_up_no_other_object,
    ),
    (
        "what_can_not_be_used_is_refused_by_kubectl",
        false,
        what_can_not_be_used_is_refused_by_kubectl,
    ),
    (
        "a_policy_gets_no_credentials_past_the_grants",
        false,
        a_policy_gets_no_credentials_past_the_grants,
    ),
];

/// How much longer others may wait beside a policy that goes wrong than beside the same one that behaves, with as many services arriving. Two cores
/// carry the whole cluster, and a loop has one of them as long as it may.
const SLOWER: u32 = 4;
/// What is said of a policy that doesn't end.
const TIME: &str = "ran for more than 100 ms";

fn an_endless_loop_fails_alone_and_others_are_answered(world: &World) -> Result<()> {
    fails_alone(world, "loop", &json!("loop"), &[TIME])
}

fn a_trap_fails_alone_and_others_are_answered(world: &World) -> Result<()> {
    fails_alone(world, "trap", &json!("trap"), &["trapped"])
}

fn a_memory_bomb_fails_alone_and_others_are_answered(world: &World) -> Result<()> {
    fails_alone(world, "memory bomb", &json!("hoard"), &["memory"])
}

/// 100 MB don't fit into the memory that a policy may have.
fn an_endless_answer_fails_alone_and_others_are_answered(world: &World) -> Result<()> {
    fails_alone(world, "flood", &json!("flood"), &["memory"])
}

fn a_wrong_fill_fails_alone_and_others_are_answered(world: &World) -> Result<()> {
    fails_alone(world, "wrong fill", &json!("rename"), &["/metadata/name"])
}

fn a_recursion_without_an_end_fails_alone_and_others_are_answered(world: &World) -> Result<()> {
    // Which end it comes to first is the compiler's affair: that of its own stack, below which there is no memory, or the host's.
    let says = ["nested too deep", "out of bounds memory access"];
    fails_alone(world, "recursion", &json!("recurse"), &says)
}

/// The store takes connections and says nothing. After a few calls it is left alone, and then the policy is a loop like any other.
fn calls_to_a_silent_store_fail_alone_and_others_are_answered(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut store = backend("silent", "silent", &["s3://silent/"]);
    store["spec"]["s3"]["endpoint"] = json!(format!("http://{}", silent.local_addr()?));
    let store = Custom::apply(&world.cluster, &store)?;
    store.until("Accepted", "True")?;
    let over = "the review's time was over before it answered";
    fails_alone(
        world,
        "call to a silent store",
        &json!({"stall": "s3://silent/model"}),
        &[over, TIME],
    )
}

/// A little less than settings may have, and no label has as much.
fn huge_settings_fail_alone_and_others_are_answered(world: &World) -> Result<()> {
    let does = json!({"label": "x".repeat(250 << 10)});
    fails_alone(world, "label of 250 KiB", &does, &["a label's value has at most 63"])
}

/// An import that is not granted, a module that is no component, a component that calls itself what nothing may be called, and more settings than there may be.
fn what_can_not_be_a_policy_is_said_in_its_status(world: &World) -> Result<()> {
    world.policy()?;
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("no-policy")?;
    let name = namespace.name();
    let mut ungranted = unruly_in(name, name, &json!("ask"), "fail");
    ungranted["spec"]["capabilities"] = json!([]);
    let mut garbage = unruly_in(name, name, &json!("nothing"), "fail");
    garbage["spec"]["module"]["configMap"]["key"] = json!("garbage.wasm");
    let mut liar = unruly_in(name, name, &json!("nothing"), "fail");
    liar["spec"]["module"]["configMap"]["key"] = json!("liar.wasm");
    let boundless = unruly_in(name, name, &json!({"deny": "x".repeat(300 << 10)}), "fail");
    let custom = Custom::apply(&world.cluster, &unasked(&ungranted))?;
    for (bad, says) in [
        (&ungranted, &["tidewaiter:policy/cluster", "add `", "`cluster`"][..]),
        (&garbage, &["component"]),
        (&liar, &["its name is `UN RUL`", "no DNS label"]),
        (&boundless, &["bytes, and may have 262144"]),
    ] {
        custom.change(&unasked(bad))?;
        let said = custom.until("Loaded", "False")?;
        for part in says {
            ensure!(said.contains(part), "the status doesn't say {part}: {said}");
        }
        // It never ran, and its failure policy says that nothing passes without it.
        let answer = world.cluster.api()?.would_create(name, &service("fraud", &uri))?;
        ensure!(
            !answer.admitted() && answer.message().contains("is not loaded"),
            "admitted without it: {}",
            answer.body
        );
    }
    Ok(())
}

/// It broods for as long as a policy may, over settings that it then hasn't accepted.
fn a_policy_that_takes_long_to_load_holds_up_no_other_object(world: &World) -> Result<()> {
    world.policy()?;
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("brooding")?;
    let name = namespace.name();
    let mut brooding = unruly_in(name, name, &json!("brood"), "fail");
    brooding["spec"]["limits"] = json!({"timeMs": 10_000});
    let brooding = Custom::apply(&world.cluster, &unasked(&brooding))?;
    let said = brooding.until("Loaded", "Unknown")?;
    ensure!(said.contains("nothing of it runs"), "{said}");
    let beside = Custom::apply(&world.cluster, &backend(name, name, &[&format!("s3://{name}/")]))?;
    beside.until("Accepted", "True")?;
    // Nobody is refused by a policy that can't be asked yet; whoever can't be used is no policy.
    let said = brooding.until("Loaded", "False")?;
    ensure!(said.contains("when it was loaded"), "{said}");
    let answer = world.cluster.api()?.would_create(name, &service("fraud", &uri))?;
    ensure!(answer.message().contains("is not loaded"), "{}", answer.body);
    Ok(())
}

fn what_can_not_be_used_is_refused_by_kubectl(world: &World) -> Result<()> {
    world.policy()?;
    let namespace = world.namespace("refused")?;
    let name = namespace.name();
    // One that nobody has loaded yet, to begin with. What takes too long to compile for whoever waits is told later, and is compiled the next time.
    let mut module = world.cluster.get("tidewaiter-system", "configmap/policies")?;
    module["metadata"] = json!({"name": format!("policies-{name}"), "namespace": "tidewaiter-system"});
    let create = |object: &Value, how: &str| {
        let words = ["create", "-f", "-", how];
        world.cluster.try_kubectl(&words, &object.to_string())
    };
    ensure!(create(&module, "--dry-run=none")?.ok, "no ConfigMap");
    let mut first = unruly_in(name, &format!("{name}-first"), &json!("sing"), "ignore");
    first["spec"]["module"]["configMap"]["name"] = module["metadata"]["name"].clone();
    first["metadata"]["labels"][JUDGED] = json!("true");
    let minute = Duration::from_mins(1);
    world.cluster.until("wrong settings are refused at once", minute, || {
        let said = create(&first, "--dry-run=server")?;
        let is_refused = !said.ok && said.stderr.contains("refuses its settings") && said.stderr.contains("sing");
        ensure!(is_refused, "{}{}", said.stdout, said.stderr);
        Ok(Some(()))
    })?;

    // Its module is loaded, so that what its settings and its grants come to is known.
    let good = unruly_in(name, name, &json!("nothing"), "ignore");
    let custom = Custom::apply(&world.cluster, &good)?;
    custom.until("Loaded", "True")?;
    let mut ungranted = unruly_in(name, &format!("{name}-2"), &json!("ask"), "ignore");
    ungranted["spec"]["capabilities"] = json!(["storage"]);
    let builtin = |spec: Value| json!({"apiVersion": "tidewaiter.dev/v1alpha1", "kind": "WasmPolicy", "metadata": {"name": format!("{name}-3")}, "spec": spec});
    let mut nowhere = backend(name, name, &[&format!("s3://{name}/")]);
    nowhere["spec"]["s3"]["endpoint"] = json!("minio, the one in the cellar");
    for (object, parts) in [
        (ungranted, ["tidewaiter:policy/cluster", "add `cluster`"]),
        (
            unruly_in(name, name, &json!("sing"), "ignore"),
            ["refuses its settings", "sing"],
        ),
        (
            builtin(json!({"module": {"builtin": "serving-version"}})),
            ["no built-in policy", "did you mean `serving-versions`?"],
        ),
        (
            builtin(json!({"module": {"builtin": "serving-versions"}, "settings": {"pin": "sometimes"}})),
            ["spec.settings.pin is \"sometimes\"", "\"when-needed\" or \"always\""],
        ),
        (nowhere, ["spec.s3.endpoint", "the one in the cellar"]),
    ] {
        let mut object = object;
        object["metadata"]["labels"][JUDGED] = json!("true");
        let said = world
            .cluster
            .try_kubectl(&["apply", "--server-side", "-f", "-"], &object.to_string())?;
        for part in parts {
            ensure!(
                !said.ok && said.stderr.contains(part),
                "no word of {part}: {}{}",
                said.stdout,
                said.stderr
            );
        }
    }
    // What is right is taken, and what was refused has changed nothing.
    custom.change(&good)?;
    custom.until("Loaded", "True").map(drop)
}

fn a_policy_gets_no_credentials_past_the_grants(world: &World) -> Result<()> {
    world.policy()?;
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let (owners, others) = (world.namespace("owners")?, world.namespace("takers")?);
    let mut theirs = backend(owners.name(), owners.name(), &[&format!("s3://{}/", owners.name())]);
    theirs["spec"]["grants"][0]["namespaces"] = json!([owners.name()]);
    let custom = Custom::apply(&world.cluster, &theirs)?;
    custom.until("Accepted", "True")?;
    let takes = |namespace: &Namespace| {
        let name = namespace.name();
        unruly_in(name, name, &json!({"take": owners.name()}), "fail")
    };
    let policies = [&owners, &others].map(|namespace| Custom::apply(&world.cluster, &takes(namespace)));
    for policy in &policies {
        policy
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error:#}"))?
            .until("Loaded", "True")?;
    }
    let service = service("fraud", &uri).to_string();
    let refused = others.try_apply(&["--server-side"], &service)?;
    for part in [owners.name(), "grants nothing to the namespace", others.name()] {
        ensure!(
            !refused.ok && refused.stderr.contains(part),
            "no word of {part}: {}",
            refused.stderr
        );
    }
    let there = others.kubectl(&["get", "isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "there is {there}");
    let secret = format!("secret/tidewaiter-{}", owners.name());
    ensure!(others.get(&secret).is_err(), "the Secret is there");
    // Where it is granted, the same policy has it delivered.
    owners.apply(&service)?;
    owners.get(&secret).map(drop)
}

/// A policy that does this fails for one of these reasons, in its own namespace.
fn fails_alone(world: &World, what: &str, does: &Value, says: &[&str]) -> Result<()> {
    world.policy()?;
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let (theirs, others) = (world.namespace("hostile")?, world.namespace("others")?);
    let api = world.cluster.api()?;
    let service = service("fraud", &uri);
    let name = format!("unruly-{}", theirs.name());
    let custom = Custom::apply(
        &world.cluster,
        &unruly_in(theirs.name(), &name, &json!("nothing"), "ignore"),
    )?;
    custom.until("Loaded", "True")?;
    let others_wait = |check: &(dyn Fn(&Answer) -> Result<()> + Sync)| -> Result<Duration> {
        let mut wait = Duration::ZERO;
        hammer(&world.cluster, theirs.name(), &service, check, |go_on| {
            go_on(4)?;
            wait = median(&api, others.name(), &service, 40)?;
            go_on(4)
        })?;
        Ok(wait)
    };
    // By default a policy's failure is a warning, and the others' work is done.
    custom.change(&unruly_in(theirs.name(), &name, does, "ignore"))?;
    custom.until("Loaded", "True")?;
    let warned = |answer: &Answer| -> Result<()> {
        filled(answer)?;
        ensure!(
            answer.warnings.iter().any(|line| line.contains(&name)),
            "no word of the failure: {:?}",
            answer.warnings
        );
        Ok(())
    };
    until(world, "the policy goes wrong", || {
        warned(&api.would_create(theirs.name(), &service)?)
    })?;
    // Other work of the machine may fall into one of the two; a policy that really slows others does so each time.
    let mut slow = Vec::new();
    while slow.len() < 3 {
        let beside_bad = others_wait(&warned)?;
        custom.change(&unruly_in(theirs.name(), &name, &json!("nothing"), "ignore"))?;
        custom.until("Loaded", "True")?;
        let beside_good = others_wait(&filled)?;
        if beside_bad < beside_good * SLOWER {
            break;
        }
        slow.push(format!(
            "{beside_bad:?} beside a {what}, {beside_good:?} beside a policy that behaves"
        ));
        custom.change(&unruly_in(theirs.name(), &name, does, "ignore"))?;
        custom.until("Loaded", "True")?;
        until(world, "the policy goes wrong", || {
            warned(&api.would_create(theirs.name(), &service)?)
        })?;
    }
    ensure!(slow.len() < 3, "others wait too long, three times: {}", slow.join("; "));

    // Where the admin says that its failure counts, it is its own objects' alone.
    custom.change(&unruly_in(theirs.name(), &name, does, "fail"))?;
    custom.until("Loaded", "True")?;
    until(world, "its failure counts", || {
        let answer = api.would_create(theirs.name(), &service)?;
        ensure!(!answer.admitted(), "admitted");
        let message = answer.message();
        ensure!(
            message.contains(&name) && says.iter().any(|reason| message.contains(reason)),
            "the refusal doesn't name {name} and one of {says:?}: {message}"
        );
        // Whatever a policy says, it is read by people.
        ensure!(message.len() < 4096, "the refusal has {} bytes", message.len());
        Ok(())
    })?;
    really_refused(&theirs, &uri)?;
    filled(&api.would_create(others.name(), &service)?).context("others")
}

/// Not a dry run, for once.
fn really_refused(namespace: &Namespace, uri: &str) -> Result<()> {
    let said = namespace.try_apply(&["--server-side"], &service("fraud", uri).to_string())?;
    ensure!(!said.ok, "admitted: {}", said.stdout);
    let there = namespace.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "there is {there}");
    Ok(())
}

fn until(world: &World, what: &str, mut holds: impl FnMut() -> Result<()>) -> Result<()> {
    world.cluster.until(what, Duration::from_mins(1), || holds().map(Some))
}
