//! The emergency page, typed block by block as it stands.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{NAMESPACE, without_pods};
use tidewaiter_e2e::load::{has_credentials, service};
use tidewaiter_e2e::path;
use tidewaiter_e2e::policy::{install_unruly, unruly_in};
use tidewaiter_e2e::shell::Shell;
use tidewaiter_e2e::transcript::{blocks, section, with_names};
use tidewaiter_ground::Namespace;

use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "each_way_out_of_the_emergency_page_leads_out_and_back",
    each_way_out_of_the_emergency_page_leads_out_and_back,
)];

const MINUTE: Duration = Duration::from_mins(1);

fn each_way_out_of_the_emergency_page_leads_out_and_back(world: &World) -> Result<()> {
    let release = world.release()?;
    release.definitions(&["--set", "policyReports.enabled=true"])?;
    let namespace = world.cluster.namespace("emergency")?;
    without_pods(&namespace)?;
    let admin = Admin {
        world,
        shell: Shell::open(&world.cluster)?,
        namespace: &namespace,
    };
    let uri = world.model()?.1;
    namespace.apply(&service("fraud", &uri).to_string())?;
    path::has_credentials(&namespace, "fraud")?;

    admin.lets_one_service_pass(&uri)?;
    admin.opens_a_namespace()?;
    admin.switches_a_policy_off(&uri)?;
    admin.takes_it_out_of_the_way(&uri)?;
    admin.takes_an_upgrade_back()?;
    admin.has_another_certificate()?;
    admin.has_credentials_again()?;
    admin.keeps_the_program_from_running(&uri)
}

struct Admin<'a> {
    world: &'a World,
    shell: Shell,
    namespace: &'a Namespace,
}

impl Admin<'_> {
    fn lets_one_service_pass(&self, uri: &str) -> Result<()> {
        let elsewhere = json!({"spec": {"predictor": {"model": {"storageUri": "s3://mlflow/elsewhere/fraud"}}}});
        let change = |to: &Value| {
            let patch = [
                "patch",
                "-n",
                self.namespace.name(),
                "isvc/fraud",
                "--type=merge",
                "-p",
                &to.to_string(),
            ];
            self.world.cluster.try_kubectl(&patch, "")
        };
        let refused = change(&elsewhere)?;
        ensure!(
            !refused.ok && refused.stderr.contains("refused by storage-credentials"),
            "{}{}",
            refused.stdout,
            refused.stderr
        );
        self.types("Let one service pass", 0, &[("NAME", "fraud")])?;
        let passed = change(&elsewhere)?;
        ensure!(passed.ok, "{}", passed.stderr);
        change(&json!({"spec": {"predictor": {"model": {"storageUri": uri}}}}))?;
        self.namespace
            .kubectl(&["label", "isvc/fraud", "tidewaiter.dev/ignore-"])
            .map(drop)
    }

    fn opens_a_namespace(&self) -> Result<()> {
        let label = "tidewaiter.dev/failure-policy";
        let of_namespace = ["label", "namespace", self.namespace.name()];
        self.world
            .cluster
            .kubectl(&[&of_namespace[..], &[&format!("{label}=fail")]].concat())?;
        self.types("Open a namespace", 0, &[])?;
        let object = self
            .world
            .cluster
            .get("", &format!("namespace/{}", self.namespace.name()))?;
        ensure!(object["metadata"]["labels"][label].is_null(), "{}", object["metadata"]);
        Ok(())
    }

    fn switches_a_policy_off(&self, uri: &str) -> Result<()> {
        const SECTION: &str = "Switch a policy off";
        let refused = self.types(SECTION, 0, &[])?;
        ensure!(
            refused
                .lines()
                .any(|line| line.contains(self.namespace.name()) && line.contains("storage-credentials")),
            "the log tells of no refusal: {refused}"
        );
        install_unruly(&self.world.cluster)?;
        let name = self.namespace.name();
        let policy = Custom::apply(
            &self.world.cluster,
            &unruly_in(name, name, &json!({"deny": "not today"}), "fail"),
        )?;
        policy.until("Loaded", "True")?;
        let api = self.world.cluster.api()?;
        let until = |is_refused: bool| {
            let what = format!("the policy refuses: {is_refused}");
            let mut in_a_row = 0;
            self.world.cluster.until(&what, MINUTE, || {
                let answer = api.would_create(name, &service("other", uri))?;
                let is_so = answer.admitted() != is_refused;
                in_a_row = if is_so { in_a_row + 1 } else { 0 };
                ensure!(is_so, "{}{:?}", answer.message(), answer.warnings);
                Ok((in_a_row == 5).then_some(answer))
            })
        };
        let refused = until(true)?;
        ensure!(
            refused.message().contains(&format!("refused by {name}: not today")),
            "{}",
            refused.message()
        );
        let said = self.types(SECTION, 1, &[("NAME", name)])?;
        ensure!(said.contains(&format!("{name} patched")), "{said}");
        let spec = self.world.cluster.get("", &format!("wasmpolicy/{name}"))?["spec"].take();
        ensure!(spec["mode"] == "audit" && spec["failurePolicy"] == "ignore", "{spec}");
        let told = until(false)?;
        ensure!(
            told.warnings.iter().any(|line| line.contains("not today")),
            "{:?}",
            told.warnings
        );

        self.types(SECTION, 2, &[])?;
        let mode = self.world.cluster.get("", "wasmpolicy/serving-versions")?;
        ensure!(mode["spec"]["mode"] == "audit", "{mode}");
        self.world
            .cluster
            .kubectl(&["delete", "wasmpolicy/serving-versions"])
            .map(drop)
    }

    fn takes_it_out_of_the_way(&self, uri: &str) -> Result<()> {
        const SECTION: &str = "Take it out of the way";
        self.types(SECTION, 0, &[])?;
        let api = self.world.cluster.api()?;
        self.world.cluster.until("nobody is asked", MINUTE, || {
            let answer = api.would_create(self.namespace.name(), &service("unseen", uri))?;
            Ok((answer.admitted() && !has_credentials(&answer.body)).then_some(()))
        })?;
        self.namespace.apply(&service("unseen", uri).to_string())?;
        self.types(SECTION, 1, &[])?;
        self.world.until_asked()?;
        let commands = self.block(SECTION, 2)?;
        let commands: Vec<&str> = commands.lines().collect();
        let [restart, status, audit, fix] = commands[..] else {
            anyhow::bail!("the page has other commands: {commands:?}");
        };
        self.shell.run(&format!("{restart}\n{status}"))?;
        // "Half a minute later": the leader has looked for what came past a few times by then.
        std::thread::sleep(MINUTE / 2);
        self.world.cluster.until("the audit tells of it", MINUTE, || {
            // Whoever finds something says so by the exit code, too.
            let told = self.shell.run(&format!("{audit} || true"))?;
            let mut lines = told.lines();
            ensure!(lines.any(|line| line.contains("unseen")), "{told}");
            Ok(Some(()))
        })?;
        let left = self.namespace.get("isvc/unseen")?;
        ensure!(
            !has_credentials(&left),
            "it was filled in without anybody's doing: {}",
            left["metadata"]
        );
        // On a terminal it asks.
        self.shell.run(&format!("{fix} --yes"))?;
        path::has_credentials(self.namespace, "unseen")
    }

    fn takes_an_upgrade_back(&self) -> Result<()> {
        const SECTION: &str = "It came with an upgrade";
        let commands = self.block(SECTION, 0)?;
        let (history, rollback) = commands.trim().split_once('\n').context("two commands")?;
        let table = self.shell.run(history)?;
        let mut revisions = table
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse::<u32>().ok());
        let last = revisions.next_back().context("no revision")?;
        let before = revisions.next_back().context("no revision before the last")?;
        self.shell.run(&rollback.replace("REVISION", &before.to_string()))?;
        let now = self.shell.run(history)?;
        let row = now.lines().last().unwrap_or_default().trim();
        ensure!(
            row.starts_with(&(last + 1).to_string()) && row.ends_with(&format!("Rollback to {before}")),
            "{now}"
        );
        self.world.until_asked()?;
        let told = self.types(SECTION, 1, &[("NAME", "minio")])?;
        ensure!(told.contains("minio") && told.contains("Accepted"), "{told}");
        Ok(())
    }

    fn has_another_certificate(&self) -> Result<()> {
        const SECTION: &str = "The certificate";
        let uid = || -> Result<Value> {
            let mut secret = self.world.cluster.get(NAMESPACE, "secret/tidewaiter-tls")?;
            Ok(secret["metadata"]["uid"].take())
        };
        let before = uid()?;
        self.types(SECTION, 0, &[])?;
        let after = uid()?;
        ensure!(before != after, "the Secret is the one of before");
        self.types(SECTION, 1, &[])?;
        self.world.release()?.until_alone(REPLICAS)?;
        self.world.until_asked()
    }

    fn has_credentials_again(&self) -> Result<()> {
        let secrets = self.types("Credentials", 0, &[("NAME", "minio")])?;
        ensure!(secrets.contains("tidewaiter-minio"), "{secrets}");
        self.namespace.kubectl(&["delete", "secret", "tidewaiter-minio"])?;
        self.world.cluster.until("the leader writes it again", MINUTE, || {
            Ok(self.namespace.get("secret/tidewaiter-minio").ok().map(drop))
        })
    }

    fn keeps_the_program_from_running(&self, uri: &str) -> Result<()> {
        const SECTION: &str = "Take it out of the way";
        let release = self.world.release()?;
        self.types(SECTION, 3, &[])?;
        release.until_alone(0)?;
        let said = self.namespace.apply(&service("alone", uri).to_string())?;
        ensure!(said.warnings().is_empty(), "somebody was asked: {:?}", said.warnings());
        // The number of before, as the page says.
        release.scale(REPLICAS)?;
        release.until_alone(REPLICAS)?;
        path::has_credentials(self.namespace, "alone")
    }

    /// One of a section's blocks, with this namespace in place of `NAMESPACE`.
    fn block(&self, heading: &str, number: usize) -> Result<String> {
        const PAGE: &str = include_str!("../../../../docs/emergency.md");
        let blocks = blocks(section(PAGE, heading)?)?;
        let (kind, text) = blocks
            .get(number)
            .with_context(|| format!("{heading} has no block {number}"))?;
        ensure!(*kind == "sh", "{heading}: block {number} is {kind}");
        Ok(text.replace("NAMESPACE", self.namespace.name()))
    }

    /// Types one of a section's blocks, with these in place of what the page has names for.
    fn types(&self, heading: &str, number: usize, names: &[(&str, &str)]) -> Result<String> {
        let commands = with_names(&self.block(heading, number)?, names).with_context(|| heading.to_owned())?;
        self.shell.run(&commands).with_context(|| heading.to_owned())
    }
}
