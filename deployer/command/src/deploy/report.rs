//! What became of it, for programs: `-o json` of a deployment that isn't a dry run.

use anstream::print;
use serde::Serialize;
use tidewaiter_deployer::cluster::{Kind, kinds};
use tidewaiter_deployer::service::{Built, Router};
use tidewaiter_deployer::source::without_token;
use tidewaiter_deployer::wait::Finding;

use super::super::Failure;
use super::super::output::document;
use super::Context;
use super::staging::Ready;

/// Fields that don't apply are left out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) namespace: String,
    /// `unchanged`, `submitted`, `ready`, `failed`, `timeout`, `replaced`, `deleted`, `unknown`
    pub(super) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) framework: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) graph: Option<Router>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) evidence: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) remarks: Vec<String>,
}

/// Of a service.
pub(super) fn submitted(context: &Context, built: &Built, ready: &Ready, outcome: &'static str) -> Report {
    let chosen = built.chosen.as_ref();
    Report {
        protocol_version: chosen.map(|chosen| chosen.protocol_version.clone()),
        runtime: chosen.map(|chosen| chosen.runtime.clone()),
        remarks: built.remarks.clone(),
        ..of(context, &kinds::INFERENCE_SERVICE, Some(ready), outcome)
    }
}

/// Of an object of whatever kind. A graph has no model of its own.
pub(super) fn of(context: &Context, kind: &Kind, ready: Option<&Ready>, outcome: &'static str) -> Report {
    let wishes = &context.wishes;
    Report {
        kind: kind.kind,
        name: context.name.clone(),
        namespace: context.namespace.clone(),
        outcome,
        url: None,
        from: ready.map(|ready| without_token(&ready.from)),
        storage_uri: ready.and_then(|ready| ready.uri.as_deref()).map(without_token),
        framework: ready.map(|ready| ready.model.framework.to_string()),
        protocol_version: None,
        runtime: None,
        graph: wishes.graph,
        steps: wishes.steps.clone(),
        server: wishes.server.clone(),
        memory: wishes.memory.clone(),
        stage: None,
        cause: None,
        message: None,
        next: None,
        evidence: Vec::new(),
        remarks: Vec::new(),
    }
}

impl Report {
    pub(super) fn found(&mut self, finding: &Finding) {
        self.cause = Some(finding.cause.as_str());
        self.message = Some(finding.message.clone());
        self.next = Some(finding.next.clone());
        self.evidence.clone_from(&finding.evidence);
    }

    /// Where it was asked for.
    pub(super) fn print(&self, context: &Context) -> Result<(), Failure> {
        if let Some(format) = context.arguments.output {
            print!("{}", document(self, format)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_page_for_scripts_has_every_field() {
        let text = || Some(String::new());
        let report = Report {
            kind: "",
            name: String::new(),
            namespace: String::new(),
            outcome: "failed",
            url: text(),
            from: text(),
            storage_uri: text(),
            framework: text(),
            protocol_version: text(),
            runtime: text(),
            graph: Some(Router::Sequence),
            steps: vec![String::new()],
            server: text(),
            memory: text(),
            stage: Some(""),
            cause: Some(""),
            message: text(),
            next: text(),
            evidence: vec![String::new()],
            remarks: vec![String::new()],
        };
        let page = include_str!("../../../../docs/deploy.md");
        let (_, fields) = page.split_once("\n| field of a deployment | what it is |\n").unwrap();
        let (fields, _) = fields.split_once("\n\n").unwrap();
        let mut told: Vec<&str> = fields.lines().filter_map(|row| row.split('`').nth(1)).collect();
        told.sort_unstable();
        let Value::Object(report) = serde_json::to_value(report).unwrap() else {
            panic!("an object")
        };
        let mut fields: Vec<&str> = report.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(told, fields, "docs/deploy.md, \"For scripts\"");
    }
}
