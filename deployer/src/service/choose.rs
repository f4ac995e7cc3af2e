//! Which protocol a model is asked in, by which runtime, of which release.

use std::cmp::Reverse;

use serde_json::Value;
use tidewaiter_core::catalogue::{Catalogue, Release};
use tidewaiter_core::fit::{self, Fit, Form};
use tidewaiter_core::image::{canonical_repository, gpu_tag};
use tidewaiter_core::runtimes::ServingRuntime;
use tidewaiter_core::version::Version;

use super::build::resources;
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

/// Has Tidewaiter's policy `serving-versions` admit a model that is known to be answered wrongly, and this command submit it.
pub(crate) const ALLOW_WRONG_ANSWERS: &str = "tidewaiter.dev/allow-wrong-answers";

/// Chooses among the runtimes that serve the framework: the one that fits the model best, KServe's own choice among equals. `pins`: nobody else will see to
/// the runtime's release, as Tidewaiter's webhook does.
///
/// # Errors
/// Where no runtime serves it in this protocol, or the one that was named doesn't; where nobody else sees to it, also where the server is known to answer wrongly.
pub fn choose(wishes: &Wishes, model: &Model, namespace: &str, facts: &Facts, pins: bool) -> Result<Chosen, WishError> {
    let protocol = wishes.protocol.unwrap_or(Protocol::Rest);
    let versions = protocol_versions(model.framework, protocol);
    let format = format_name(model.framework);
    if let Some(name) = &wishes.runtime {
        return named(name, wishes, model, namespace, facts, &versions, pins);
    }
    let gpu = asks_gpu(wishes);
    let candidates = versions.iter().filter_map(|version| {
        let runtime = facts.runtimes.select(namespace, format, None, version)?;
        Some((*version, runtime, judged(model, runtime, None, gpu)))
    });
    // `min_by_key` keeps the first among equals.
    let best = candidates.min_by_key(|(_, _, judged)| rank(judged.as_ref().map_or(Fit::Unknown, |judged| judged.fit)));
    let Some((version, runtime, judged)) = best else {
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
        let judged = self::judged(model, runtime, Some(tag), gpu);
        chosen.remarks.extend(unfit(wishes, runtime, judged.as_ref(), pins)?);
        return Ok(chosen);
    }
    if let Some(reason) = judged.as_ref().and_then(Judged::misfit) {
        match release_that_fits(model, runtime, version, namespace, facts, gpu) {
            Some((other, tag)) if pins => {
                chosen
                    .remarks
                    .push(format!("{reason}: {} is used in release {tag}", other.name));
                chosen.runtime.clone_from(&other.name);
                chosen.grpc_port = grpc_port(other);
                chosen.pin = Some((other.name.clone(), Some(tag)));
            }
            Some(_) => {}
            None => chosen.remarks.extend(unfit(wishes, runtime, judged.as_ref(), pins)?),
        }
    }
    Ok(chosen)
}

/// What has to be written into a canary beside the model, since KServe merges it over its predictor, whose runtime and version are for another model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Runtime and tag; none where the predictor's own serve it.
    pub(crate) pin: Option<(String, Option<String>)>,
    /// What the user should know.
    pub(crate) remark: Option<String>,
}

/// Chooses for a model that stands beside another one, given as the `model` of its predictor, and is asked in the same protocol. `allowed`: also where it is
/// known to be answered wrongly.
///
/// # Errors
/// Where no runtime serves it in this protocol, or only one that is known to answer wrongly.
pub(crate) fn beside(
    model: &Model,
    stable: &Value,
    namespace: &str,
    facts: &Facts,
    allowed: bool,
) -> Result<Beside, WishError> {
    let text = |name: &str| stable[name].as_str().filter(|text| !text.is_empty());
    let format = format_name(model.framework);
    let is_same_format = stable["modelFormat"]["name"] == format;
    let inherited = text("runtime").and_then(|name| facts.runtimes.named(namespace, name));
    // A runtime that is named is asked in what it speaks; else v1 is KServe's default.
    let spoken = inherited.and_then(|runtime| runtime.protocols.first());
    let version = text("protocolVersion").or(spoken.map(String::as_str)).unwrap_or("v1");
    let selected = facts.runtimes.select(namespace, format, None, version);
    let (runtime, is_other) = match (text("runtime"), inherited) {
        (Some(_), Some(runtime)) if serves(runtime, format, version) => (runtime, false),
        (named, _) => {
            // A service that runs, by a runtime that nobody here knows, is believed to go on with what it serves.
            if is_same_format && inherited.is_none() && (named.is_some() || selected.is_none()) {
                return Ok(Beside::default());
            }
            let Some(runtime) = selected else {
                return Err(WishError::contradiction(
                    format!(
                        "no serving runtime of this cluster serves {} over {version}, which the service is asked in",
                        model.framework
                    ),
                    "deploy the model under a name of its own with `tidewaiter deploy`",
                ));
            };
            let is_other = named.is_some() || (text("runtimeVersion").is_some() && !is_same_format);
            (runtime, is_other)
        }
    };
    let limits = stable["resources"]["limits"].as_object().into_iter().flatten();
    let gpu = limits
        .filter_map(|(name, amount)| Some((name.as_str(), amount.as_str()?)))
        .any(is_gpu);
    let own_tag = || own_tag(runtime, gpu);
    // The tag that would be merged in belongs to the image of another runtime.
    let tag = text("runtimeVersion").filter(|_| !is_other);
    let judged = judged(model, runtime, tag, gpu);
    let Some(reason) = judged.as_ref().and_then(Judged::misfit) else {
        let pin = is_other.then(|| (runtime.name.clone(), own_tag()));
        return Ok(Beside { pin, remark: None });
    };
    if let Some((other, tag)) = release_that_fits(model, runtime, version, namespace, facts, gpu) {
        return Ok(Beside {
            remark: Some(format!("{reason}: the canary gets {} in release {tag}", other.name)),
            pin: Some((other.name.clone(), Some(tag))),
        });
    }
    let wishes = Wishes {
        annotations: allowed
            .then(|| (ALLOW_WRONG_ANSWERS.to_owned(), "true".to_owned()))
            .into_iter()
            .collect(),
        ..Wishes::default()
    };
    Ok(Beside {
        pin: is_other.then(|| (runtime.name.clone(), own_tag())),
        remark: unfit(&wishes, runtime, judged.as_ref(), true)?,
    })
}

fn serves(runtime: &ServingRuntime, format: &str, version: &str) -> bool {
    !runtime.disabled && runtime.speaks(version) && runtime.formats.iter().any(|supported| supported.name == format)
}

/// The runtime and the release that fit the model, asked in the same version of the protocol: exactly before nearly, the same runtime before others.
fn release_that_fits<'a>(
    model: &Model,
    runtime: &ServingRuntime,
    version: &str,
    namespace: &str,
    facts: &'a Facts,
    gpu: bool,
) -> Option<(&'a ServingRuntime, String)> {
    let supporting = facts.runtimes.supporting(namespace, format_name(model.framework), None);
    supporting
        .into_iter()
        .filter(|found| !found.runtime.disabled && found.runtime.speaks(version))
        .filter_map(|found| Some((found.runtime, nearest(model, found.runtime, gpu)?)))
        .min_by_key(|(other, (exact, _))| (Reverse(*exact), other.name != runtime.name))
        .map(|(other, (_, tag))| (other, tag))
}

/// What is said of a server that doesn't fit and takes the model all the same. One that answers wrongly shows it to nobody, so it is refused as
/// Tidewaiter's policy does; where that reviews the service, it is that policy's to judge, with what its admin set.
fn unfit(
    wishes: &Wishes,
    runtime: &ServingRuntime,
    judged: Option<&Judged>,
    pins: bool,
) -> Result<Option<String>, WishError> {
    let Some(judged) = judged else { return Ok(None) };
    let allowed = wishes
        .annotations
        .get(ALLOW_WRONG_ANSWERS)
        .is_some_and(|value| value == "true");
    if pins && !allowed && matches!(judged.fit, Fit::WrongAnswers(_)) {
        return Err(WishError::WrongAnswers {
            package: judged.package,
            saved: judged.saved.clone(),
            runtime: runtime.name.clone(),
            image: judged.image.clone(),
            held: judged.held.clone(),
        });
    }
    Ok(judged.misfit())
}

/// A runtime that the user named: whether it can do it, and isn't known to do it wrongly.
fn named(
    name: &str,
    wishes: &Wishes,
    model: &Model,
    namespace: &str,
    facts: &Facts,
    versions: &[&'static str],
    pins: bool,
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
    let cannot = |reason: String| WishError::RuntimeUnfit {
        name: name.to_owned(),
        reason,
        known: known(),
    };
    if runtime.disabled {
        return Err(cannot("is disabled".to_owned()));
    }
    if !runtime.formats.iter().any(|supported| supported.name == format) {
        return Err(cannot(format!("doesn't serve {}", model.framework)));
    }
    let Some(version) = versions.iter().find(|version| runtime.speaks(version)) else {
        let protocol = wishes.protocol.unwrap_or(Protocol::Rest).as_str();
        return Err(cannot(format!(
            "speaks {}, and {protocol} needs {}",
            runtime.protocols.join(", "),
            versions.join(" or ")
        )));
    };
    let judged = judged(model, runtime, wishes.runtime_version.as_deref(), asks_gpu(wishes));
    let remark = unfit(wishes, runtime, judged.as_ref(), pins)?;
    Ok(Chosen {
        protocol_version: (*version).to_owned(),
        runtime: name.to_owned(),
        pin: Some((name.to_owned(), wishes.runtime_version.clone())),
        grpc_port: grpc_port(runtime),
        remarks: remark.into_iter().collect(),
    })
}

/// The name under which runtimes list a framework. A function of the user's own is loaded by MLServer, which has to be found by a format it lists; what it loads is said
/// by the `model-settings.json` beside the function.
pub(crate) fn format_name(framework: Framework) -> &'static str {
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

fn rank(fit: Fit) -> u8 {
    match fit {
        Fit::Fit | Fit::Unknown | Fit::FitWithRemark(_) => 0,
        Fit::Misfit(_) => 1,
        Fit::WrongAnswers(_) => 2,
    }
}

/// How a release takes the model.
struct Judged {
    fit: Fit,
    /// With its tag.
    image: String,
    package: &'static str,
    /// The package's version that saved the model, and the image's.
    saved: String,
    held: String,
}

impl Judged {
    /// Why it doesn't fit, with both versions.
    fn misfit(&self) -> Option<String> {
        let (Fit::Misfit(why) | Fit::WrongAnswers(why)) = self.fit else {
            return None;
        };
        let Self {
            image,
            package,
            saved,
            held,
            ..
        } = self;
        Some(format!(
            "{image} has {package} {held}, and the model was saved by {saved}, which doesn't fit ({why})"
        ))
    }
}

/// Whether a GPU is asked for that KServe takes another image for.
fn asks_gpu(wishes: &Wishes) -> bool {
    let limits = resources(wishes).limits;
    limits.iter().any(|(name, amount)| is_gpu((name, amount)))
}

/// As KServe's `IsGPUEnabled` (`pkg/utils/utils.go`) has it.
fn is_gpu((name, amount): (&str, &str)) -> bool {
    (name == "nvidia.com/gpu" || name.starts_with("nvidia.com/mig-")) && amount != "0"
}

/// The tag that a runtime's image runs with where no other one is set.
fn own_tag(runtime: &ServingRuntime, gpu: bool) -> Option<String> {
    let image = runtime.image.as_ref()?;
    let tag = image.tag.as_deref()?;
    let for_gpu = gpu
        .then(|| gpu_tag(&canonical_repository(&image.repository), tag))
        .flatten();
    Some(for_gpu.unwrap_or_else(|| tag.to_owned()))
}

/// How a runtime's image takes the model, in its own release or another one; none where that isn't known.
fn judged(model: &Model, runtime: &ServingRuntime, tag: Option<&str>, gpu: bool) -> Option<Judged> {
    let image = runtime.image.as_ref()?;
    // KServe puts another version in a tag's place alone.
    let own = own_tag(runtime, gpu)?;
    let tag = tag.unwrap_or(&own);
    let catalogue = Catalogue::built_in();
    let release = catalogue.release(&image.repository, tag, &PACKAGES)?;
    let (package, _, saved, held) = compared(model, &release)?;
    Some(Judged {
        fit: judge(model, &release),
        image: format!("{}:{tag}", image.repository),
        package,
        saved: saved.to_string(),
        held: held.to_string(),
    })
}

/// The release of a runtime's image that fits, whether exactly, and its tag: the nearest newer one, else the nearest older one; for a GPU where one is asked for and
/// the image has such releases.
fn nearest(model: &Model, runtime: &ServingRuntime, gpu: bool) -> Option<(bool, String)> {
    let image = runtime.image.as_ref()?;
    let current = own_tag(runtime, gpu)?;
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
        .filter(|(_, release)| plain(release.tag) == plain(&current))
        .filter(|(_, release)| release.tag.ends_with("-gpu") == current.ends_with("-gpu"))
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

/// The package that decides, how its model is most likely written, and its two versions: the model's and the release's.
fn compared(model: &Model, release: &Release<'_>) -> Option<(&'static str, Form, Version, Version)> {
    let (package, form) = decides(model)?;
    Some((package, form, saved(model, package)?, held(release, package)?))
}

fn saved(model: &Model, name: &str) -> Option<Version> {
    model.versions.get(name).and_then(|text| Version::parse(text))
}

fn held(release: &Release<'_>, name: &str) -> Option<Version> {
    let package = release.packages.iter().find(|held| held.name == name)?;
    Version::parse(package.version.strip_prefix("~=").unwrap_or(package.version))
}

fn judge(model: &Model, release: &Release<'_>) -> Fit {
    // A model of MLflow's that brings its packages is served by these, whatever the image holds.
    let brings = model.framework == Framework::Mlflow && model.has_environment;
    let Some((package, form, model_version, server_version)) = compared(model, release).filter(|_| !brings) else {
        return Fit::Unknown;
    };
    let mut fit = fit::judge(package, form, &model_version, &server_version);
    if let (Some(model), Some(server)) = (saved(model, "numpy"), held(release, "numpy")) {
        fit = fit.and(fit::judge_numpy(form, &model, &server));
    }
    fit
}
