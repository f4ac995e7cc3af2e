//! Two models behind one service: split, promote, roll back.
//!
//! In Knative mode the two are revisions, and Knative leads `canaryTrafficPercent` of the requests to the newest. In Standard mode, from KServe 0.20 on, they
//! are the predictor and the entries of `spec.canary`, each with Pods and a Kubernetes Service of its own. **KServe 0.20.0 makes only replicas of an entry's
//! `trafficPercent`: nothing in its Ingress or `HTTPRoute` leads requests to a canary.** Who wants a split there has to make it in a gateway; so the notes say.
//!
//! Sources: `reconcilers/knative/ksvc_reconciler.go`, `components/predictor.go` (`buildCanaryPredictor`, `canaryReplicaCount`),
//! `inference_service_validation.go` (`validateCanarySpecs`) of 0.20.0.

use serde_json::{Map, Value, json};
use tidewaiter_core::kserve_config::DeploymentMode;

use super::change::{Planned, has_pods, told};
use super::deployed::storage_uri;
use super::{Component, Deployed, Error, Release};
use crate::model::Model;
use crate::service::{ALLOW_WRONG_ANSWERS, Facts, WishError, beside, format_name, loadable};

/// What stands beside a service's predictor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Its name, or its revision's.
    pub name: String,
    /// How many of a hundred requests are to be its own.
    pub percent: u64,
    /// Whether it can answer; none where it isn't told.
    pub ready: Option<bool>,
    /// Where its model lies, where that is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,
}

/// What a service's requests are split between, beside its predictor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canaries(pub Vec<Canary>);

impl Canaries {
    /// By spec and status: in Knative mode what Knative leads requests to, the newest first.
    pub fn of(service: &Deployed) -> Self {
        if service.mode() == Some(DeploymentMode::Knative) {
            let traffic = service.status()["components"]["predictor"]["traffic"].as_array();
            let revisions = traffic.into_iter().flatten().map(|target| Canary {
                name: target["revisionName"].as_str().unwrap_or_default().to_owned(),
                percent: target["percent"].as_u64().unwrap_or_default(),
                ready: None,
                storage_uri: None,
            });
            let revisions: Vec<Canary> = revisions.collect();
            return Self(if revisions.len() > 1 { revisions } else { Vec::new() });
        }
        let statuses = service.status()["canaryStatuses"].as_array();
        let status = |name: &str| statuses?.iter().find(|status| status["name"] == name);
        let canaries = entries(service).iter().map(|entry| {
            let name = name(entry);
            Canary {
                percent: entry["trafficPercent"].as_u64().unwrap_or_default(),
                ready: status(name).and_then(|status| status["ready"].as_bool()),
                storage_uri: storage_uri(&entry["predictor"]),
                name: name.to_owned(),
            }
        });
        Self(canaries.collect())
    }
}

/// How requests are to be split.
#[derive(Debug, Clone, Default)]
pub struct Split {
    /// How many of a hundred are the canary's, or the newest revision's.
    pub percent: u8,
    /// Which canary, in Standard mode; by default the only one, or `canary`.
    pub canary: Option<String>,
    /// The model of a canary that isn't there yet, or another one for it.
    pub model: Option<CanaryModel>,
}

/// A canary's model.
#[derive(Debug, Clone)]
pub struct CanaryModel {
    /// Where KServe reads it.
    pub storage_uri: String,
    /// What it is.
    pub model: Model,
    /// What the cluster serves it with.
    pub facts: Facts,
}

/// KServe splits nothing itself in Standard mode.
const NOT_LED: &str = "KServe 0.20 gives a canary replicas by its percent, but leads no requests to it in Standard mode: split them in your gateway";

/// Plans a split.
///
/// # Errors
/// In Standard mode before 0.20, where KServe has no canaries; where there is nothing to split between; beyond a hundred per cent.
pub fn split(service: &Deployed, wanted: &Split, release: Release) -> Result<Planned, Error> {
    let refused = |reason: &str, next: &str| Error::refused(service, "split", reason, next);
    if wanted.percent > 100 {
        return Err(refused("there are 100 per cent", "give 0 to 100"));
    }
    if is_knative(service, "split")? {
        if wanted.canary.is_some() || wanted.model.is_some() {
            return Err(no_model_of_its_own(service));
        }
        has_two_revisions(service, "split")?;
        if knative_percent(service) == Some(u64::from(wanted.percent)) {
            return Err(Error::already(
                service,
                &format!("is split {} to the newest already", wanted.percent),
            ));
        }
        return Ok(Planned::new(
            json!({"spec": {"predictor": {"canaryTrafficPercent": wanted.percent}}}),
        ));
    }
    has_canaries(service, "split", release)?;
    let mut canaries = entries(service).to_vec();
    let index = match &wanted.canary {
        Some(canary) => canaries.iter().position(|entry| name(entry) == canary),
        None if canaries.len() > 1 => return Err(refused("it has several canaries", "name one with --canary")),
        None => (!canaries.is_empty()).then_some(0),
    };
    let (model, remark) = match &wanted.model {
        Some(model) => {
            let (model, remark) = model_of(service, model)?;
            (Some(model), remark)
        }
        None => (None, None),
    };
    match (index, model) {
        (Some(index), model) => {
            let entry = &mut canaries[index];
            let before = entry.clone();
            entry["trafficPercent"] = json!(wanted.percent);
            if let Some(model) = model {
                let written = &mut entry["predictor"]["model"];
                if let Some(written) = written.as_object_mut() {
                    // They were for the model before.
                    written.remove("runtime");
                    written.remove("runtimeVersion");
                }
                for (name, value) in model {
                    written[name] = value;
                }
            }
            if *entry == before {
                return Err(Error::already(
                    service,
                    &format!("gives its canary {} % already", wanted.percent),
                ));
            }
        }
        (None, Some(model)) => canaries.push(entry_of(service, wanted, model)?),
        (None, None) => {
            return Err(refused(
                "it has no such canary",
                "`tidewaiter split NAME PERCENT --storage-uri URI` makes one of another model",
            ));
        }
    }
    let sum: u64 = canaries
        .iter()
        .filter_map(|entry| entry["trafficPercent"].as_u64())
        .sum();
    if sum > 100 {
        return Err(refused(
            &format!("its canaries would have {sum} per cent together"),
            "give less, or take another canary's away with `tidewaiter rollback --canary NAME`",
        ));
    }
    let mut planned = Planned::new(json!({"spec": {"canary": canaries}}));
    planned.notes.extend(remark);
    planned.notes.push(NOT_LED.to_owned());
    Ok(planned)
}

/// Whether a canary with a model of its own can stand beside the service's predictor: to be asked before that model is looked for.
///
/// # Errors
/// In Knative mode; in Standard mode before 0.20.
pub fn takes_models(service: &Deployed, release: Release) -> Result<(), Error> {
    has_pods(service)?;
    if is_knative(service, "split")? {
        return Err(no_model_of_its_own(service));
    }
    has_canaries(service, "split", release)
}

fn no_model_of_its_own(service: &Deployed) -> Error {
    Error::refused(
        service,
        "split",
        "in Knative mode the canary is the newest revision, and has neither a name nor a model of its own",
        "`tidewaiter deploy --canary-percent` makes that revision",
    )
}

/// The canary's `model`: what differs from the predictor's. KServe merges it over that, so what isn't named is the predictor's, also its runtime and version.
fn model_of(service: &Deployed, wanted: &CanaryModel) -> Result<(Map<String, Value>, Option<String>), Error> {
    let Some(("model", stable)) = service.model() else {
        return Err(Error::refused(
            service,
            "split",
            "its predictor has no `model`",
            "a canary of the user's own containers has to be written by hand, in spec.canary",
        ));
    };
    let allowed = service.annotation(ALLOW_WRONG_ANSWERS) == Some("true");
    let beside = || beside(&wanted.model, stable, &service.namespace(), &wanted.facts, allowed);
    let beside = loadable(&wanted.storage_uri).and_then(|()| beside()).map_err(|error| {
        let next = match &error {
            WishError::WrongAnswers { package, held, .. } => format!(
                "save the canary's model with {package} {held} or an earlier version; to serve it all the same, set the service's annotation \
                 {ALLOW_WRONG_ANSWERS}: \"true\""
            ),
            other => other.next(),
        };
        Error::refused(service, "split", &error.to_string(), &next)
    })?;
    let format = format_name(wanted.model.framework);
    let format = if stable["modelFormat"]["name"] == format {
        stable["modelFormat"].clone()
    } else {
        json!({"name": format})
    };
    let mut model = Map::from_iter([
        ("modelFormat".to_owned(), format),
        ("storageUri".to_owned(), json!(wanted.storage_uri)),
    ]);
    if let Some((runtime, version)) = beside.pin {
        model.insert("runtime".to_owned(), json!(runtime));
        if let Some(version) = version {
            model.insert("runtimeVersion".to_owned(), json!(version));
        }
    }
    Ok((model, beside.remark))
}

/// A canary that differs from the predictor in its model alone.
fn entry_of(service: &Deployed, wanted: &Split, model: Map<String, Value>) -> Result<Value, Error> {
    let refused = |reason: &str, next: &str| Error::refused(service, "split", reason, next);
    let stable = service.spec()["predictor"]["name"].as_str().unwrap_or_default();
    let name = match &wanted.canary {
        Some(name) => name.clone(),
        // A promoted canary gave the predictor its name.
        None if stable == "canary" => "canary2".to_owned(),
        None => "canary".to_owned(),
    };
    if name == stable {
        return Err(refused(
            &format!("its predictor is called `{name}`"),
            "give the canary another name with --canary",
        ));
    }
    let service_name = format!("{}-{name}-predictor", service.name());
    if service_name.len() > 63 {
        return Err(refused(
            &format!("the canary's Kubernetes Service `{service_name}` would have more than 63 letters"),
            "give the canary a shorter name with --canary",
        ));
    }
    Ok(json!({
        "predictor": {"name": name, "model": model},
        "trafficPercent": wanted.percent,
    }))
}

/// Plans that the canary, or the newest revision, takes all requests.
///
/// In Standard mode the predictor takes the canary's name, so that KServe keeps the Pods that run.
///
/// # Errors
/// Where there is no canary.
pub fn promote(service: &Deployed, canary: Option<&str>, release: Release) -> Result<Planned, Error> {
    if is_knative(service, "promoted")? {
        return match knative_percent(service) {
            Some(_) => Ok(Planned::new(
                json!({"spec": {"predictor": {"canaryTrafficPercent": null}}}),
            )),
            None => Err(Error::already(
                service,
                "leads all requests to its newest revision already",
            )),
        };
    }
    has_canaries(service, "promoted", release)?;
    let (index, entry) = chosen(service, canary, "promoted")?;
    let stable = service.component(Component::Predictor).cloned().unwrap_or_default();
    let mut over = entry["predictor"].clone();
    if let Some(members) = over.as_object_mut() {
        // Its share of the predictor's replicas.
        members.remove("minReplicas");
    }
    let promoted = merged(&stable, &over);
    let mut planned = Planned::new(json!({"spec": {
        "predictor": difference(&stable, &promoted),
        "canary": without(service, index),
    }}));
    planned.brings_model = true;
    let ready = Canaries::of(service).0.get(index).and_then(|canary| canary.ready);
    if ready == Some(false) {
        planned.notes.push(format!(
            "the canary isn't ready yet: {} answers when its Pods are",
            told(service)
        ));
    }
    Ok(planned)
}

/// Plans that the predictor, or the revision before, takes all requests again.
///
/// # Errors
/// Where there is nothing to go back to.
pub fn rollback(service: &Deployed, canary: Option<&str>, release: Release) -> Result<Planned, Error> {
    if is_knative(service, "rolled back")? {
        has_two_revisions(service, "rolled back")?;
        if knative_percent(service) == Some(0) {
            return Err(Error::already(
                service,
                "leads no requests to its newest revision already",
            ));
        }
        let mut planned = Planned::new(json!({"spec": {"predictor": {"canaryTrafficPercent": 0}}}));
        planned.notes.push(
            "the newest revision stays, without requests, and so does every later one until `tidewaiter promote` or `tidewaiter split`"
                .to_owned(),
        );
        return Ok(planned);
    }
    has_canaries(service, "rolled back", release)?;
    let (index, _) = chosen(service, canary, "rolled back")?;
    Ok(Planned::new(json!({"spec": {"canary": without(service, index)}})))
}

fn is_knative(service: &Deployed, done: &'static str) -> Result<bool, Error> {
    if service.is_graph() {
        let next = "`tidewaiter deploy --graph splitter` says how it splits its requests, with --step SERVICE=WEIGHT";
        return Err(Error::refused(service, done, "graphs have no canaries", next));
    }
    match service.mode() {
        Some(DeploymentMode::Knative) => Ok(true),
        Some(DeploymentMode::Standard) => Ok(false),
        Some(DeploymentMode::ModelMesh) => Err(Error::refused(
            service,
            done,
            "ModelMesh has no canaries",
            "deploy the other model under a name of its own",
        )),
        None => Err(Error::refused(
            service,
            done,
            "KServe has not said yet how it deploys it",
            "`tidewaiter status` says what it waits for",
        )),
    }
}

fn has_canaries(service: &Deployed, done: &'static str, release: Release) -> Result<(), Error> {
    if release.has_canaries {
        return Ok(());
    }
    Err(Error::refused(
        service,
        done,
        "it is in Standard mode, where KServe has canaries from 0.20 on (spec.canary), and this cluster's has none",
        "deploy the other model under a name of its own, and split requests in your gateway; Knative mode splits them in every release",
    ))
}

fn has_two_revisions(service: &Deployed, done: &'static str) -> Result<(), Error> {
    let predictor = &service.status()["components"]["predictor"];
    let revision = |name: &str| predictor[name].as_str().filter(|name| !name.is_empty());
    let rolled_out = revision("latestRolledoutRevision");
    let has_newer = rolled_out.is_some() && rolled_out != revision("latestCreatedRevision");
    if has_newer || revision("previousRolledoutRevision").is_some() || knative_percent(service).is_some() {
        return Ok(());
    }
    Err(Error::refused(
        service,
        done,
        "it has only ever had one revision",
        "`tidewaiter deploy --canary-percent` makes a second one beside it",
    ))
}

fn knative_percent(service: &Deployed) -> Option<u64> {
    service.spec()["predictor"]["canaryTrafficPercent"].as_u64()
}

fn entries(service: &Deployed) -> &[Value] {
    service.spec()["canary"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn name(entry: &Value) -> &str {
    entry["predictor"]["name"].as_str().unwrap_or_default()
}

fn chosen<'a>(service: &'a Deployed, canary: Option<&str>, done: &'static str) -> Result<(usize, &'a Value), Error> {
    let canaries = entries(service);
    let names: Vec<&str> = canaries.iter().map(name).collect();
    let refused = |reason: &str, next: &str| Error::refused(service, done, reason, next);
    let index = match canary {
        Some(canary) => names.iter().position(|name| *name == canary),
        None if names.len() > 1 => {
            let next = format!("name one with --canary: {}", names.join(", "));
            return Err(refused("it has several canaries", &next));
        }
        None => (!names.is_empty()).then_some(0),
    };
    match index {
        Some(index) => Ok((index, &canaries[index])),
        None if names.is_empty() => Err(refused(
            "it has no canary",
            "`tidewaiter split NAME PERCENT --storage-uri URI` makes one of another model",
        )),
        None => Err(refused(
            "it has no canary of this name",
            &format!("it has {}", names.join(", ")),
        )),
    }
}

/// The other canaries; null takes the whole list away.
fn without(service: &Deployed, index: usize) -> Value {
    let mut canaries = entries(service).to_vec();
    canaries.remove(index);
    if canaries.is_empty() {
        Value::Null
    } else {
        json!(canaries)
    }
}

/// As KServe merges a canary over its predictor: what isn't empty there counts, objects are merged, lists are not.
fn merged(under: &Value, over: &Value) -> Value {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            let mut both = under.clone();
            for (name, value) in over.iter().filter(|(_, value)| !is_empty(value)) {
                let value = merged(both.get(name).unwrap_or(&Value::Null), value);
                both.insert(name.clone(), value);
            }
            Value::Object(both)
        }
        _ => over.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// The merge patch that makes the one of the other.
fn difference(from: &Value, to: &Value) -> Value {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            let mut patch = Map::new();
            for name in from.keys().filter(|name| !to.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            for (name, value) in to {
                match from.get(name) {
                    Some(before) if before == value => {}
                    before => {
                        let value = difference(before.unwrap_or(&Value::Null), value);
                        patch.insert(name.clone(), value);
                    }
                }
            }
            Value::Object(patch)
        }
        _ => to.clone(),
    }
}

#[cfg(test)]
#[path = "canary_tests.rs"]
mod tests;
