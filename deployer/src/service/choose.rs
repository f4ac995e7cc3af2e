//! Which protocol a model is asked in, by which runtime, of which release.

use std::cmp::Reverse;

use tidewaiter_core::catalogue::{Catalogue, Release};
use tidewaiter_core::fit::{self, Fit, Form};
use tidewaiter_core::image::canonical_repository;
use tidewaiter_core::runtimes::ServingRuntime;
use tidewaiter_core::version::Version;

use super::error::WishError;
use super::facts::Facts;
use super::wishes::{Protocol, Wishes};
use crate::model::{Framework, Model};

/// What KServe's servers listen on for REST; every runtime that KServe ships does.
pub(super) const REST_PORT: u16 = 8080;

/// How a model is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// As `protocolVersion` has it: `v1`, `v2`, `grpc-v2`.
    pub protocol_version: String,
    /// The runtime that will serve.
    pub runtime: String,
    /// Runtime and tag to write into the object; none where KServe's own choice is right. Both or neither: a tag belongs to its image.
    pub pin: Option<(String, Option<String>)>,
    /// Where its server answers gRPC.
    pub grpc_port: u16,
    /// What the user should know.
    pub remarks: Vec<String>,
}

/// Chooses among the runtimes that serve the framework: the one that fits the model best, KServe's own choice among equals. `pins`: nobody else will see to
/// the runtime's release, as Tidewaiter's webhook does.
///
/// # Errors
/// Where no runtime serves it in this protocol, or the one that was named doesn't.
pub fn choose(wishes: &Wishes, model: &Model, namespace: &str, facts: &Facts, pins: bool) -> Result<Chosen, WishError> {
    let protocol = wishes.protocol.unwrap_or(Protocol::Rest);
    let versions = protocol_versions(model.framework, protocol);
    let format = format_name(model.framework);
    if let Some(name) = &wishes.runtime {
        return named(name, wishes, model, namespace, facts, &versions);
    }
    let candidates = versions.iter().filter_map(|version| {
        let runtime = facts.runtimes.select(namespace, format, None, version)?;
        Some((*version, runtime, judged(model, runtime)))
    });
    // `min_by_key` keeps the first among equals.
    let best = candidates.min_by_key(|(_, _, fit)| rank(*fit));
    let Some((version, runtime, fit)) = best else {
        return Err(none(model.framework, protocol, namespace, facts));
    };
    let mut chosen = Chosen {
        protocol_version: version.to_owned(),
        runtime: runtime.name.clone(),
        pin: None,
        grpc_port: grpc_port(runtime),
        remarks: Vec::new(),
    };
    if let Some(tag) = &wishes.runtime_version {
        chosen.pin = Some((runtime.name.clone(), Some(tag.clone())));
        return Ok(chosen);
    }
    if let Some(reason) = misfit(fit) {
        let other = facts
            .runtimes
            .supporting(namespace, format, None)
            .into_iter()
            .filter(|found| !found.runtime.disabled && found.runtime.speaks(version))
            .filter_map(|found| Some((found.runtime, nearest(model, found.runtime)?)))
            .min_by_key(|(other, (exact, _))| (Reverse(*exact), other.name != runtime.name));
        match other {
            Some((other, (_, tag))) if pins => {
                chosen.remarks.push(format!(
                    "{} doesn't fit the model ({reason}): {} is used in release {tag}",
                    image(runtime),
                    other.name
                ));
                chosen.runtime.clone_from(&other.name);
                chosen.grpc_port = grpc_port(other);
                chosen.pin = Some((other.name.clone(), Some(tag)));
            }
            Some(_) => {}
            None => chosen
                .remarks
                .push(format!("{} doesn't fit the model: {reason}", image(runtime))),
        }
    }
    Ok(chosen)
}

/// A runtime that the user named: only whether it can do it.
fn named(
    name: &str,
    wishes: &Wishes,
    model: &Model,
    namespace: &str,
    facts: &Facts,
    versions: &[&'static str],
) -> Result<Chosen, WishError> {
    let format = format_name(model.framework);
    let known = || {
        let supporting = facts.runtimes.supporting(namespace, format, None);
        supporting.iter().map(|found| found.runtime.name.clone()).collect()
    };
    let Some(runtime) = facts.runtimes.named(namespace, name) else {
        return Err(WishError::NoSuchRuntime {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            known: known(),
        });
    };
    let unfit = |reason: String| WishError::RuntimeUnfit {
        name: name.to_owned(),
        reason,
        known: known(),
    };
    if runtime.disabled {
        return Err(unfit("is disabled".to_owned()));
    }
    if !runtime.formats.iter().any(|supported| supported.name == format) {
        return Err(unfit(format!("doesn't serve {}", model.framework)));
    }
    let Some(version) = versions.iter().find(|version| runtime.speaks(version)) else {
        let protocol = wishes.protocol.unwrap_or(Protocol::Rest).as_str();
        return Err(unfit(format!(
            "speaks {}, and {protocol} needs {}",
            runtime.protocols.join(", "),
            versions.join(" or ")
        )));
    };
    Ok(Chosen {
        protocol_version: (*version).to_owned(),
        runtime: name.to_owned(),
        pin: Some((name.to_owned(), wishes.runtime_version.clone())),
        grpc_port: grpc_port(runtime),
        remarks: Vec::new(),
    })
}

/// The name under which runtimes list a framework. A function of the user's own is loaded by MLServer, which has to be found by a format it lists; what it loads is said
/// by the `model-settings.json` beside the function.
pub(super) fn format_name(framework: Framework) -> &'static str {
    match framework {
        Framework::Custom => Framework::Mlflow.as_str(),
        other => other.as_str(),
    }
}

/// What `protocolVersion` may say for a protocol, the preferred first. v2 answers REST and gRPC from the same server; TensorFlow Serving speaks v1 alone,
/// and the runtime that speaks v2 for it is Triton, which is far larger.
fn protocol_versions(framework: Framework, protocol: Protocol) -> Vec<&'static str> {
    match (protocol, framework) {
        (Protocol::Rest, Framework::Tensorflow | Framework::Pytorch) => vec!["v1", "v2"],
        (Protocol::Rest, _) => vec!["v2", "v1"],
        (Protocol::Grpc, _) => vec!["v2", "grpc-v2"],
        (Protocol::Both, _) => vec!["v2"],
    }
}

fn none(framework: Framework, protocol: Protocol, namespace: &str, facts: &Facts) -> WishError {
    let format = format_name(framework);
    let supporting = facts.runtimes.supporting(namespace, format, None);
    let usable = |version: &str| {
        supporting
            .iter()
            .any(|found| !found.runtime.disabled && found.runtime.speaks(version))
    };
    let instead = if protocol != Protocol::Rest && usable("v1") {
        "it is served over REST: leave --protocol out".to_owned()
    } else if let Some(found) = supporting
        .iter()
        .find(|found| !found.auto_select && !found.runtime.disabled)
    {
        format!(
            "KServe takes {} only where it is named: --runtime {0}",
            found.runtime.name
        )
    } else if let Some(found) = supporting.first() {
        format!("have an admin enable the runtime {}", found.runtime.name)
    } else {
        String::new()
    };
    WishError::NoRuntime {
        framework,
        protocol: protocol.as_str(),
        instead,
    }
}

/// Where the servers that KServe ships answer gRPC (`config/runtimes/` and `python/kserve/kserve/model_server.py`).
fn grpc_port(runtime: &ServingRuntime) -> u16 {
    let name = runtime
        .image
        .as_ref()
        .and_then(|image| image.repository.rsplit('/').next());
    match name {
        Some(
            "sklearnserver" | "xgbserver" | "lgbserver" | "pmmlserver" | "paddleserver" | "predictiveserver"
            | "huggingfaceserver",
        ) => 8081,
        Some("torchserve-kfs") => 7070,
        _ => 9000,
    }
}

fn image(runtime: &ServingRuntime) -> String {
    runtime
        .image
        .as_ref()
        .map_or_else(|| runtime.name.clone(), ToString::to_string)
}

fn misfit(fit: Fit) -> Option<&'static str> {
    match fit {
        Fit::Misfit(reason) | Fit::WrongAnswers(reason) => Some(reason),
        Fit::Fit | Fit::Unknown | Fit::FitWithRemark(_) => None,
    }
}

fn rank(fit: Fit) -> u8 {
    match fit {
        Fit::Fit | Fit::Unknown | Fit::FitWithRemark(_) => 0,
        Fit::Misfit(_) => 1,
        Fit::WrongAnswers(_) => 2,
    }
}

/// How a runtime's own image takes the model.
fn judged(model: &Model, runtime: &ServingRuntime) -> Fit {
    let Some(image) = &runtime.image else {
        return Fit::Unknown;
    };
    let Some(tag) = &image.tag else { return Fit::Unknown };
    let catalogue = Catalogue::built_in();
    match catalogue.release(&image.repository, tag, &PACKAGES) {
        Some(release) => judge(model, &release),
        None => Fit::Unknown,
    }
}

/// The release of a runtime's image that fits, whether exactly, and its tag: the nearest newer one, else the nearest older one.
fn nearest(model: &Model, runtime: &ServingRuntime) -> Option<(bool, String)> {
    let image = runtime.image.as_ref()?;
    let current = image.tag.as_deref()?;
    let releases = Catalogue::built_in().releases(&canonical_repository(&image.repository), &PACKAGES);
    let at = releases.iter().position(|release| release.tag == current)?;
    let distance = |index: usize| {
        if index >= at {
            index - at
        } else {
            releases.len() + at - index
        }
    };
    let plain = |tag: &str| tag.chars().all(|c| c.is_ascii_digit() || c == '.' || c == 'v');
    releases
        .iter()
        .enumerate()
        .filter(|(_, release)| plain(release.tag) == plain(current))
        .map(|(index, release)| (judge(model, release), index))
        .filter(|(fit, _)| fit.is_usable())
        .min_by_key(|&(fit, index)| (fit != Fit::Fit, distance(index)))
        .map(|(fit, index)| (fit == Fit::Fit, releases[index].tag.to_owned()))
}

const PACKAGES: [&str; 6] = ["xgboost", "lightgbm", "scikit-learn", "tensorflow", "numpy", "mlflow"];

/// The package whose version decides, and how its model is most likely written: nothing here has looked into the file.
fn decides(model: &Model) -> Option<(&'static str, Form)> {
    let has = |package: &str| model.versions.contains_key(package);
    match model.framework {
        Framework::Sklearn => Some(("scikit-learn", Form::Pickle)),
        Framework::Xgboost => Some(("xgboost", Form::Ubjson)),
        Framework::Lightgbm => Some(("lightgbm", Form::Own)),
        Framework::Tensorflow => Some(("tensorflow", Form::Own)),
        Framework::Mlflow if has("xgboost") => Some(("xgboost", Form::Ubjson)),
        Framework::Mlflow if has("lightgbm") => Some(("lightgbm", Form::Own)),
        Framework::Mlflow if has("scikit-learn") => Some(("scikit-learn", Form::Cloudpickle)),
        _ => None,
    }
}

fn judge(model: &Model, release: &Release<'_>) -> Fit {
    let Some((package, form)) = decides(model) else {
        return Fit::Unknown;
    };
    let saved = |name: &str| model.versions.get(name).and_then(|text| Version::parse(text));
    let held = |name: &str| {
        let package = release.packages.iter().find(|held| held.name == name)?;
        Version::parse(package.version.strip_prefix("~=").unwrap_or(package.version))
    };
    let mut fit = match (saved(package), held(package)) {
        (Some(model), Some(server)) => fit::judge(package, form, &model, &server),
        _ => return Fit::Unknown,
    };
    if let (Some(model), Some(server)) = (saved("numpy"), held("numpy")) {
        fit = fit.and(fit::judge_numpy(form, &model, &server));
    }
    fit
}
