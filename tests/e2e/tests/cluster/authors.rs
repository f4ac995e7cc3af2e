//! A policy that was written by the guide a minute ago, enforced by the real API server.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::author::{self, NAME};
use tidewaiter_e2e::command::tidewaiter;
use tidewaiter_e2e::install::make_up_models;
use tidewaiter_e2e::registry::Shop;
use tidewaiter_e2e::server::command_binary;
use tidewaiter_e2e::transcript::Step;
use tidewaiter_ground::Namespace;
use tidewaiter_tools::Language;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl",
    false,
    an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl,
)];

/// A component of a script language is too large for a `ConfigMap`, so all come from a registry.
const ADDRESS: &str = "127.0.0.1:5001";

fn service(team: Option<&str>) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud", "labels": team.map(|team| json!({"team": team})).unwrap_or_default()},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "example.com/server:1"}]}},
    })
}

/// Takes the README's steps that need a cluster, from where a language's author stands, for one namespace: with a registry of ours, and with the policy's
/// name and match rules such that it says nothing of others.
fn enforced(world: &World, desk: &Path, namespace: &Namespace) -> Result<()> {
    let guide = author::guide()?;
    let name = format!("{NAME}-{}", namespace.name());
    let ours = |text: &str| {
        text.replace(
            "registry.example.com/policies/house-rules:1",
            &format!("{ADDRESS}/authors/{}:1", namespace.name()),
        )
        .replace("wasmpolicy/house-rules", &format!("wasmpolicy/{name}"))
        .replace("tidewaiter.dev/house-rules", &format!("tidewaiter.dev/{name}"))
    };
    for (file, text) in &guide.files {
        let mut object: Value = serde_saphyr::from_str(&ours(text))?;
        if object["kind"] == "WasmPolicy" {
            object["metadata"]["name"] = json!(name);
            object["spec"]["match"] = json!({"namespaces": [namespace.name()]});
        }
        std::fs::write(desk.join(file), object.to_string())?;
    }
    for step in guide.steps.iter().filter(|step| author::needs_cluster(step)) {
        let words: Vec<String> = step.words().into_iter().map(ours).collect();
        let (program, arguments) = words.split_first().context("a step without a command")?;
        let mut command = match &**program {
            "kubectl" => {
                let mut kubectl = world.cluster.kubectl_command();
                kubectl.args(["-n", namespace.name()]);
                kubectl
            }
            "tidewaiter" => Command::new(command_binary()?),
            other => anyhow::bail!("the README's section for authors has a step by {other}"),
        };
        let output = command
            .args(arguments)
            .current_dir(desk)
            .stdin(Stdio::null())
            .output()?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let fails = step.prints.starts_with("Error");
        ensure!(output.status.success() != fails, "{}: {said}", words.join(" "));
        let step = Step {
            command: words.join(" "),
            prints: ours(&step.prints),
        };
        step.holds(&said)?;
    }
    Ok(())
}

fn an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let _shop = Shop::open(&world.cluster, "authors", ADDRESS, false)?;
    let folder = author::authored()?;
    for language in Language::ALL {
        let Some(component) = author::component(&folder, language) else {
            continue;
        };
        let namespace = world.namespace(&format!("authored-{language}"))?;
        // Its model is nowhere, and that is not the point.
        make_up_models(&namespace)?;
        let desk = tempfile::tempdir()?;
        std::os::unix::fs::symlink(folder.join(language.as_str()).join(NAME), desk.path().join(NAME))?;
        enforced(world, desk.path(), &namespace).with_context(|| language.to_string())?;
        let admitted = namespace.try_apply(&["--server-side"], &service(Some("fraud")).to_string())?;
        ensure!(admitted.ok, "{language}: {admitted:?}");
        // Nobody gets round it by size: a trap or a time over its limit would be refused in other words.
        let mut large = service(None);
        large["metadata"]["name"] = json!("large");
        let padding = json!([{"name": "PADDING", "value": "x".repeat(1 << 20)}]);
        large["spec"]["predictor"]["containers"][0]["env"] = padding;
        let said = namespace.try_apply(&["--server-side", "--dry-run=server"], &large.to_string())?;
        ensure!(
            !said.ok && said.stderr.contains("large belongs to no team"),
            "{language}: {}",
            said.stderr
        );
        reviewed(world, &namespace).with_context(|| language.to_string())?;
        run_on_it(world, &component, &namespace).with_context(|| language.to_string())?;
        let policy = format!("wasmpolicy/{NAME}-{}", namespace.name());
        world.cluster.kubectl(&["delete", &policy])?;
    }
    Ok(())
}

/// `policy run` takes the service from the cluster.
fn run_on_it(world: &World, component: &Path, namespace: &Namespace) -> Result<()> {
    let (component, live) = (component.display().to_string(), format!("{}/fraud", namespace.name()));
    let run = ["policy", "run", &component, "--object", &live, "-o", "json"];
    let said = tidewaiter(world.cluster.kubeconfig(), &run)?.ended(0)?;
    let ran: Value = serde_json::from_str(&said.stdout)?;
    let outcome = &ran["outcome"];
    ensure!(
        outcome["allowed"] == true && outcome["object"]["metadata"]["labels"]["team"] == "fraud",
        "{said:#?}"
    );
    Ok(())
}

/// `review` and `explain` say the same, by the cluster's own configuration, read through a kubeconfig.
fn reviewed(world: &World, namespace: &Namespace) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("services.yaml");
    let mut own = service(Some("fraud"));
    own["metadata"]["name"] = json!("own");
    std::fs::write(&file, format!("{}\n---\n{}\n", service(None), own))?;
    let file = file.display().to_string();
    let kubeconfig = world.cluster.kubeconfig();
    let said = tidewaiter(kubeconfig, &["review", &file, "-n", namespace.name(), "-o", "json"])?.ended(1)?;
    let reviewed: Value = serde_json::from_str(&said.stdout)?;
    let verdicts = [0, 1].map(|index| reviewed["objects"][index]["verdict"].as_str().unwrap_or_default());
    ensure!(verdicts == ["refused", "admitted"], "{said:#?}");
    let finding = &reviewed["objects"][0]["findings"][0];
    ensure!(finding["code"] == "no-team" && finding["line"] == 1, "{said:#?}");

    let live = format!("{}/fraud", namespace.name());
    // It answers 2 for as long as another test's object is broken, whoever that object is for: what the cluster would say isn't sure then.
    let said = world.cluster.until("it is explained", Duration::from_mins(1), || {
        let said = tidewaiter(kubeconfig, &["explain", &live, "-o", "json"])?;
        said.ended(0).map(Some)
    })?;
    let explained: Value = serde_json::from_str(&said.stdout)?;
    let policies = explained["policies"].as_array().into_iter().flatten();
    let ours = format!("{NAME}-{}", namespace.name());
    ensure!(
        policies
            .filter_map(|policy| policy["policy"].as_str())
            .any(|name| name == ours),
        "{said:#?}"
    );
    Ok(())
}
