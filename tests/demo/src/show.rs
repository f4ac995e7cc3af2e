//! How it looks. Colours only on a terminal: `anstream` takes them out elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anstream::println;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use tidewaiter_webhook::namespaces::folder::Recorded;

use crate::apiserver::Reviewed;
use crate::scenes::Scene;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const REFUSED: Style = AnsiColor::Red.on_default().bold();

pub(crate) struct Stage {
    recorded: Arc<Recorded>,
    shown_secrets: usize,
    scenes: usize,
}

impl Stage {
    pub(crate) fn open(recorded: Arc<Recorded>, store: &str, server: SocketAddr, config: &str) -> Self {
        println!("{BOLD}Tidewaiter sees to the papers of every InferenceService that enters a cluster.{BOLD:#}\n");
        println!(
            "An S3 store with three models listens at {store}, the webhook at https://{server}. Its whole configuration:\n"
        );
        for line in config.lines().filter(|line| !line.starts_with('#')) {
            let secret = line.trim_start().starts_with("AWS_");
            let line = if secret {
                line.split_once(':')
                    .map_or(line.to_owned(), |(key, _)| format!("{key}: ••••••••"))
            } else {
                line.to_owned()
            };
            println!("  {DIM}{line}{DIM:#}");
        }
        Self {
            recorded,
            shown_secrets: 0,
            scenes: 0,
        }
    }

    pub(crate) fn scene(
        &mut self,
        scene: &Scene,
        first: &Reviewed,
        second: Option<&Reviewed>,
        before: &str,
        after: &str,
    ) -> Result<()> {
        self.scenes += 1;
        println!("\n{BOLD}{}. {}{BOLD:#}\n", self.scenes, scene.title);
        println!("   kubectl apply -f - <<EOF");
        match &first.object {
            Some(object) if *object != first.sent => diff(&yaml(&first.sent)?, &yaml(object)?),
            _ => yaml(&first.sent)?.lines().for_each(|line| println!("     {line}")),
        }
        println!("   EOF");
        for warning in &first.warnings {
            println!("   {WARNING}Warning: {warning}{WARNING:#}");
        }
        match &first.refusal {
            Some(message) => println!("   {REFUSED}Refused:{REFUSED:#} {message}"),
            None => println!(
                "   inferenceservice.serving.kserve.io/{} created",
                first.sent["metadata"]["name"].as_str().unwrap_or_default()
            ),
        }
        self.secrets();
        if let Some(second) = second {
            let still = second.object.as_ref() == first.object.as_ref();
            println!(
                "   {DIM}reviewed again: {}{DIM:#}",
                if still { "nothing changes" } else { "IT CHANGED AGAIN" }
            );
        }
        for (policy, took) in times(before, after) {
            println!("   {DIM}{policy} took {took:.0} µs, the store's answers included{DIM:#}");
        }
        Ok(())
    }

    fn secrets(&mut self) {
        let objects = self.recorded.objects();
        for object in objects.iter().skip(self.shown_secrets) {
            println!("\n   Before it was admitted, this would have been put into its namespace:\n");
            masked(&object.secret);
        }
        self.shown_secrets = objects.len();
    }

    pub(crate) fn close() {
        println!(
            "\n{DIM}The same on a real control plane, ending in a model that answers: cargo xtask demo --cluster{DIM:#}"
        );
    }
}

fn yaml(object: &Value) -> Result<String> {
    Ok(serde_saphyr::to_string(object)?)
}

fn diff(old: &str, new: &str) {
    for change in TextDiff::from_lines(old, new).iter_all_changes() {
        let line = change.value().trim_end();
        match change.tag() {
            ChangeTag::Equal => println!("     {line}"),
            ChangeTag::Insert => println!("   {ADDED}+ {line}{ADDED:#}"),
            ChangeTag::Delete => println!("   {REMOVED}- {line}{REMOVED:#}"),
        }
    }
}

/// Names are shown, values never.
fn masked(secret: &Secret) {
    let metadata = &secret.metadata;
    println!("     apiVersion: v1\n     kind: Secret\n     metadata:");
    println!(
        "       name: {}\n       namespace: {}",
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default()
    );
    for (field, entries) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
        println!("       {field}:");
        for (key, value) in entries.iter().flatten() {
            println!("         {key}: {value:?}");
        }
    }
    println!("     data:");
    for key in secret.data.iter().flatten().map(|(key, _)| key) {
        println!("       {key}: ••••••••");
    }
    println!();
}

/// What each policy's running time grew by between two readings of `/metrics`, in microseconds.
fn times(before: &str, after: &str) -> Vec<(String, f64)> {
    // One sum for each way that a run ends.
    let sums = |text: &str| -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for line in text.lines() {
            let told = line.strip_prefix("tidewaiter_policy_seconds_sum{");
            let Some((labels, value)) = told.and_then(|told| told.split_once("} ")) else {
                continue;
            };
            if let (Some(policy), Ok(value)) = (labels.split('"').nth(1), value.parse::<f64>()) {
                *sums.entry(policy.to_owned()).or_default() += value;
            }
        }
        sums
    };
    let before = sums(before);
    let mut times: Vec<_> = sums(after)
        .into_iter()
        .map(|(policy, total)| {
            let earlier = before.get(&policy).copied().unwrap_or_default();
            (policy, (total - earlier) * 1e6)
        })
        .filter(|(_, took)| *took > 0.0)
        .collect();
    // Metrics come in no order.
    times.sort_by(|(a, _), (b, _)| a.cmp(b));
    times
}
