//! What the chart and other tools render, as our own programs read it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidewaiter_e2e::server::{certificate, command_binary, webhook_binary};

use crate::{CHARTS, World};

/// The values alone are read in `webhook/tests/charts.rs`; what a template makes of lists and texts of several lines is another question.
pub(crate) fn the_server_reads_the_modules_that_the_chart_renders(world: &World) -> Result<()> {
    let folder = world.cluster.folder().join("modules");
    fs::create_dir_all(folder.join("config"))?;
    let pair = certificate()?;
    fs::write(folder.join("tls.crt"), &pair.certificate)?;
    fs::write(folder.join("tls.key"), &pair.key)?;
    for values in [
        "tidewaiter/ci/defaults-values.yaml",
        "tidewaiter/ci/modules-values.yaml",
    ] {
        let rendered = world.helm(&[
            "template",
            "tidewaiter",
            "tidewaiter",
            "--show-only",
            "templates/modules.yaml",
            "--values",
            values,
        ])?;
        let map: Value = serde_saphyr::from_str(&rendered)?;
        let modules = map["data"]["modules.yaml"]
            .as_str()
            .context("the ConfigMap has no modules.yaml")?;
        let asked: Value = serde_saphyr::from_str(&fs::read_to_string(Path::new(CHARTS).join(values))?)?;
        for key in asked["modules"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            ensure!(modules.contains(&format!("{key}:")), "{values}: no {key} in {modules}");
        }
        let (listens, log) = starts(&folder, modules)?;
        ensure!(listens, "{values}: the server doesn't start: {log}\n{modules}");
        let (listens, log) = starts(&folder, &format!("{modules}\nmisspelt: 1\n"))?;
        ensure!(
            !listens && log.contains("misspelt"),
            "{values}: it reads anything: {log}"
        );
    }
    Ok(())
}

/// By its operator: the `ServiceMonitor` selects the Service and names one of its ports, that selects the Pods and leads to one of theirs.
pub(crate) fn prometheus_is_led_to_the_port_of_the_metrics(world: &World) -> Result<()> {
    let template = |name: &str| -> Result<Value> {
        let (file, values) = (format!("templates/{name}.yaml"), "tidewaiter/ci/monitoring-values.yaml");
        let chart = [
            "template",
            "tidewaiter",
            "tidewaiter",
            "--show-only",
            &file,
            "--values",
            values,
        ];
        Ok(serde_saphyr::from_str(&world.helm(&chart)?)?)
    };
    let (monitor, service, deployment) = (
        template("servicemonitor")?,
        template("service")?,
        template("deployment")?,
    );
    let selects = |selector: &Value, labels: &Value| {
        let selector = selector.as_object();
        selector.is_some_and(|all| !all.is_empty() && all.iter().all(|(name, value)| labels[name] == *value))
    };
    ensure!(
        selects(
            &monitor["spec"]["selector"]["matchLabels"],
            &service["metadata"]["labels"]
        ),
        "{monitor} doesn't select {service}"
    );
    let pod = &deployment["spec"]["template"];
    ensure!(
        selects(&service["spec"]["selector"], &pod["metadata"]["labels"]),
        "{service} doesn't select {pod}"
    );
    let named = |ports: &Value, name: &Value| {
        let mut ports = ports.as_array().into_iter().flatten();
        ports.find(|port| port["name"] == *name).cloned()
    };
    let port = named(&service["spec"]["ports"], &monitor["spec"]["endpoints"][0]["port"]);
    let port = port.with_context(|| format!("{service} has no such port as {monitor}"))?;
    let own = named(&pod["spec"]["containers"][0]["ports"], &port["targetPort"]);
    own.with_context(|| format!("{pod} has no such port as {port}"))
        .map(drop)
}

/// Whether the server comes up with these modules, and what it says.
fn starts(folder: &Path, modules: &str) -> Result<(bool, String)> {
    fs::write(folder.join("modules.yaml"), modules)?;
    let mut server = Command::new(webhook_binary()?)
        .current_dir(folder)
        .args([
            "--config",
            "config",
            "--modules",
            "modules.yaml",
            "--cache-dir",
            "cache",
        ])
        .args(["--tls-cert", "tls.crt", "--tls-key", "tls.key"])
        .args(["--listen", "127.0.0.1:0", "--log-format", "text"])
        .stderr(Stdio::piped())
        .spawn()
        .context("can't start the server")?;
    let log = BufReader::new(server.stderr.take().context("the server has no standard error")?);
    let mut said = String::new();
    let listens = log.lines().map_while(Result::ok).any(|line| {
        said.push_str(&line);
        said.push('\n');
        line.contains("listening")
    });
    // It may have ended by itself.
    let _ = server.kill();
    server.wait()?;
    Ok((listens, said))
}

/// A chart and an overlay as users have them, with a protocol that a runtime speaks or none does.
pub(crate) fn what_helm_and_kustomize_make_is_reviewed(world: &World) -> Result<()> {
    let folder = world.cluster.folder().join("reviewed");
    for (name, text) in [
        ("config/policy.yaml", POLICY),
        ("chart/Chart.yaml", "{apiVersion: v2, name: fraud, version: 0.1.0}\n"),
        ("chart/values.yaml", "protocol: v2\n"),
        (
            "chart/templates/service.yaml",
            &SERVICE.replace("PROTOCOL", "{{ .Values.protocol }}"),
        ),
        ("base/service.yaml", &SERVICE.replace("PROTOCOL", "v1")),
        ("base/kustomization.yaml", "resources: [service.yaml]\n"),
        (
            "prod/kustomization.yaml",
            "namespace: team-a\nnamePrefix: prod-\nresources: [../base]\n",
        ),
        ("mended/kustomization.yaml", MENDED),
    ] {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().context("a file in no folder")?)?;
        fs::write(file, text)?;
    }
    let chart = folder.join("chart").display().to_string();
    let kustomized = |overlay: &str| {
        world
            .cluster
            .kubectl(&["kustomize", &folder.join(overlay).display().to_string()])
    };

    let rendered = world.helm(&["template", "fraud", &chart, "--set", "protocol=v1"])?;
    let (code, reviewed) = review(&folder, &rendered)?;
    let object = &reviewed["objects"][0];
    ensure!(
        code == Some(1) && object["verdict"] == "refused" && object["template"] == "fraud/templates/service.yaml",
        "{reviewed}"
    );
    let finding = &object["findings"][0];
    let line = finding["line"].as_u64().and_then(|line| usize::try_from(line).ok());
    let line = line.and_then(|line| rendered.lines().nth(line.checked_sub(1)?));
    ensure!(
        finding["code"] == "protocol-unspoken" && line.is_some_and(|line| line.trim() == "protocolVersion: v1"),
        "line {line:?}: {reviewed}"
    );
    let (code, reviewed) = review(&folder, &world.helm(&["template", "fraud", &chart])?)?;
    ensure!(code == Some(0), "{reviewed}");

    let (code, reviewed) = review(&folder, &kustomized("prod")?)?;
    let object = &reviewed["objects"][0];
    ensure!(
        code == Some(1) && object["name"] == "prod-fraud" && object["namespace"] == "team-a",
        "{reviewed}"
    );
    ensure!(object["findings"][0]["code"] == "protocol-unspoken", "{reviewed}");
    let (code, reviewed) = review(&folder, &kustomized("mended")?)?;
    ensure!(code == Some(0), "{reviewed}");
    Ok(())
}

/// A configuration under which nothing is looked for in stores: there are none.
const POLICY: &str = "
apiVersion: tidewaiter.dev/v1alpha1
kind: WasmPolicy
metadata: {name: model-exists}
spec:
  module: {builtin: model-exists}
  match: {namespaces: [nowhere]}
";

const SERVICE: &str = "
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: fraud
spec:
  predictor:
    model:
      modelFormat: {name: mlflow}
      protocolVersion: PROTOCOL
      storageUri: s3://mlflow/fraud
";

const MENDED: &str = "
resources: [../base]
patches:
  - target: {kind: InferenceService}
    patch: |
      - {op: replace, path: /spec/predictor/model/protocolVersion, value: v2}
";

/// What `tidewaiter review` says of manifests on standard input, and how it ends.
fn review(folder: &Path, manifests: &str) -> Result<(Option<i32>, Value)> {
    let mut command = Command::new(command_binary()?)
        .current_dir(folder)
        .args(["review", "-", "--config", "config", "-o", "json"])
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("can't start tidewaiter")?;
    // It reads all of it before it writes.
    let mut stdin = command.stdin.take().context("tidewaiter has no standard input")?;
    stdin.write_all(manifests.as_bytes())?;
    drop(stdin);
    let output = command.wait_with_output()?;
    let complained = String::from_utf8_lossy(&output.stderr);
    let said = serde_json::from_slice(&output.stdout).with_context(|| complained.into_owned())?;
    Ok((output.status.code(), said))
}
