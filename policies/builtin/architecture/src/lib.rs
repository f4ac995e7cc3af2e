//! Built-in policy `architecture`: Pods go to nodes of the machine that their image, and the model's own libraries, are built for.
//!
//! An image for amd64 on a node of arm64 is never pulled (`no match for platform in manifest`), or ends at once (`exec format error`); a model that brings a library
//! for the other machine ends when the library is loaded. The catalogue says what an image is built for, the first bytes of native files and the names of wheels
//! what the model needs. Where the cluster has nodes of several machines and only one fits, the policy fills in `nodeSelector`; where none fits, it refuses.
//! What the user says of nodes counts: nothing is filled in beside it that it doesn't leave open.

mod headers;
mod image;
mod names;
mod natives;
mod placement;
mod settled;

use std::collections::BTreeSet;

use serde::Deserialize;
use tidewaiter_policy::{
    Mode, Policy, Request, Verdict, cluster,
    core::{
        kserve_config::DeploymentMode,
        lines, pointer,
        service::{AsWritten, Component, Role, Service, ServiceKind},
    },
};

use crate::image::{Image, Written};
use crate::natives::Natives;
use crate::placement::{ARCH, Placement};

/// The policy.
pub struct Architecture;

/// What the admin may set.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// An image that runs on no node. Default: refused.
    pub images: Mode,
    /// Libraries in the model that load on no node. Default: a warning, since nobody sees from here whether they are loaded.
    pub libraries: Mode,
    /// How many native files of a model are looked into, 0 to 64. Default: 8. With 0 no store is asked.
    pub files: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: Mode::Deny,
            libraries: Mode::Warn,
            files: 8,
        }
    }
}

const MOST_FILES: u32 = 64;
/// What fits beside the place and the value in a line of 120 characters.
const REASON: usize = 50;

impl Policy for Architecture {
    type Settings = Settings;
    const NAME: &'static str = "architecture";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Sends Pods to nodes of the machine that their image and the model's libraries are built for";

    fn settings_schema() -> Option<&'static str> {
        Some(
            r#"{"type":"object","additionalProperties":false,"properties":{"images":{"enum":["deny","warn","off"],"default":"deny","description":"An image that runs on no node"},"libraries":{"enum":["deny","warn","off"],"default":"warn","description":"Libraries in the model that load on no node"},"files":{"type":"integer","minimum":0,"maximum":64,"default":8,"description":"How many native files of a model are looked into; with 0 no store is asked"}}}"#,
        )
    }

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.files > MOST_FILES {
            return Err(format!(
                "settings of architecture: files is {}, and may be 0 to {MOST_FILES}",
                settings.files
            ));
        }
        Ok(())
    }

    fn review(request: &Request, settings: &Settings) -> Verdict {
        // What can't be read here KServe's own schema refuses, in better words. An LLMInferenceService's image stands elsewhere.
        let Ok(service) = Service::parse(&request.kind, &request.object) else {
            return Verdict::admit();
        };
        if service.kind() != ServiceKind::InferenceService || service.is_model_mesh() {
            return Verdict::admit();
        }
        let Some(object) = AsWritten::<Written>::parse(&request.object) else {
            return Verdict::admit();
        };
        let nodes = cluster::node_architectures();
        let mut verdict = Verdict::admit();
        for component in service.components().iter().filter(|component| !component.multi_node) {
            let Some(written) = object.get(component.role) else {
                continue;
            };
            verdict = match settled::kept(request, component, written) {
                Some(kept) => verdict.fill(kept.path, kept.value, "kept from an earlier admission"),
                None => Subject {
                    request,
                    service: &service,
                    component,
                    settings: *settings,
                    nodes: &nodes,
                }
                .review(written, verdict),
            };
        }
        verdict
    }
}

tidewaiter_policy::export!(Architecture);

/// JSON Pointer to where a component's machine is said.
fn selector_path(component: &Component<'_>) -> String {
    pointer::child(&pointer::child(&component.pointer, "nodeSelector"), ARCH)
}

/// One component under review.
struct Subject<'a> {
    request: &'a Request,
    service: &'a Service<'a>,
    component: &'a Component<'a>,
    settings: Settings,
    nodes: &'a [String],
}

/// Why a component runs on some machines alone.
struct Fit {
    architectures: BTreeSet<String>,
    /// The image and what it is built for, where it is known.
    image: Option<Image>,
    natives: Natives,
}

impl Fit {
    fn of(image: Option<Image>, natives: Natives) -> Option<Self> {
        let by_image = image.as_ref().map(|image| image.architectures.clone());
        let by_natives = natives
            .architectures
            .as_ref()
            .map(|all| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
        let architectures = match (by_image, by_natives) {
            (Some(image), Some(natives)) => {
                let both: BTreeSet<_> = image.intersection(&natives).cloned().collect();
                // A library that the image can't load is said for itself; where to send the Pod the image says.
                if both.is_empty() { image } else { both }
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        Some(Self {
            architectures,
            image,
            natives,
        })
    }

    /// Whether the image alone forbids a machine.
    fn image_forbids(&self, architecture: &str) -> bool {
        self.image
            .as_ref()
            .is_some_and(|image| !image.architectures.contains(architecture))
    }

    /// What decides, for a sentence: "image a:1 is built for amd64", "code/libx.so in the model is built for arm64".
    fn because(&self, by_image: bool) -> String {
        match (&self.image, &self.natives.architectures) {
            (Some(image), _) if by_image => {
                format!("image {} is built for {}", image.name, words(&image.architectures))
            }
            (_, Some(natives)) => format!("{} in the model is built for {}", self.natives.because, words(natives)),
            (Some(image), None) => format!("image {} is built for {}", image.name, words(&image.architectures)),
            (None, None) => String::new(),
        }
    }

    /// The same in few words.
    fn reason(&self, by_image: bool) -> String {
        if by_image || self.natives.architectures.is_none() {
            return "its image is built for no other".to_owned();
        }
        format!("for {} in the model", names::file_name(&self.natives.because))
    }
}

impl Subject<'_> {
    fn review(&self, written: &Written, verdict: Verdict) -> Verdict {
        let found = image::find(self.component, written);
        let natives = if self.component.models.is_empty() || self.settings.files == 0 {
            Natives::default()
        } else {
            natives::look(
                self.component.models.iter().map(|model| &*model.uri),
                self.settings.files,
            )
        };
        let mut verdict = verdict;
        if let Some((path, system)) = &natives.foreign {
            verdict = verdict.warn(lines::line(&format!(
                "{path} in the model is built for {system}; no container here loads it"
            )));
        }
        if let (Some(image), Some(libraries)) = (&found.image, &natives.architectures)
            && image
                .architectures
                .iter()
                .all(|name| !libraries.contains(name.as_str()))
        {
            let library = format!(
                "{} in the model is built for {}, and image {} for {}",
                natives.because,
                words(libraries),
                image.name,
                words(&image.architectures)
            );
            verdict = self.say(
                self.settings.libraries,
                &format!(
                    "{library}: it can't be loaded. Save the model with a library for {}",
                    words(&image.architectures)
                ),
                &library,
                verdict,
            );
        }
        let placement = written.placement().over(found.placement);
        match Fit::of(found.image, natives) {
            Some(fit) if !placement.names_a_node() => self.place(&fit, &placement, verdict),
            _ => verdict,
        }
    }

    fn place(&self, fit: &Fit, placement: &Placement, verdict: Verdict) -> Verdict {
        let allowed: BTreeSet<&str> = self
            .nodes
            .iter()
            .map(String::as_str)
            .filter(|node| placement.allows(node))
            .collect();
        let runs: BTreeSet<&str> = allowed
            .iter()
            .copied()
            .filter(|node| fit.architectures.contains(*node))
            .collect();
        let by_image = allowed.iter().any(|node| fit.image_forbids(node));
        if runs.is_empty() {
            return self.nowhere(fit, placement, &allowed, verdict);
        }
        if runs.len() == allowed.len() {
            return verdict;
        }
        let because = fit.because(by_image);
        let path = selector_path(self.component);
        match Vec::from_iter(&runs).as_slice() {
            [only] if self.may_fill(&path) => verdict.fill(path, **only, lines::cut(&fit.reason(by_image), REASON)),
            [only] => verdict.warn(lines::line(&format!("set nodeSelector {ARCH}: {only}: {because}"))),
            _ => verdict.warn(lines::line(&format!(
                "may go to a node that it can't run on: {because}"
            ))),
        }
    }

    /// No node that the user leaves open is fit.
    fn nowhere(&self, fit: &Fit, placement: &Placement, allowed: &BTreeSet<&str>, verdict: Verdict) -> Verdict {
        let wanted = fit.architectures.iter().any(|name| placement.allows(name));
        if wanted && (placement.asks_for_nodes() || self.component.gpu || self.nodes.is_empty()) {
            // The user waits for nodes that are still to come, as where a pool of nodes grows from nothing: which ones a selector means, or have the GPU, isn't
            // known from here.
            return if self.nodes.is_empty() {
                verdict
            } else {
                let nodes = words(self.nodes);
                verdict.warn(lines::line(&format!(
                    "waits for a node of {}: this cluster's are {nodes}",
                    words(&fit.architectures)
                )))
            };
        }
        let by_image = if allowed.is_empty() {
            fit.image.is_some()
        } else {
            allowed.iter().all(|node| fit.image_forbids(node))
        };
        let because = fit.because(by_image);
        let (elsewhere, line) = if placement.is_about_machines() {
            (
                "nodeSelector or affinity lets it run on none of these".to_owned(),
                "nodeSelector or affinity forbids these".to_owned(),
            )
        } else {
            let nodes = words(allowed);
            (
                format!("this cluster's nodes are {nodes}"),
                format!("the nodes are {nodes}"),
            )
        };
        let then = if by_image {
            format!(
                "its Pods would end with \"exec format error\" or \"no match for platform in manifest\". {}",
                self.instead(fit, allowed)
            )
        } else {
            format!(
                "its server would end where it loads that. Save the model with a library for {}",
                words(allowed)
            )
        };
        let act = if by_image {
            self.settings.images
        } else {
            self.settings.libraries
        };
        let still = fit.architectures.iter().next().map_or(String::new(), |name| {
            format!("; if such nodes are still to come, set nodeSelector {ARCH}: {name}")
        });
        self.say(
            act,
            &format!("{because}, and {elsewhere}: {then}{still}"),
            &format!("{because}; {line}"),
            verdict,
        )
    }

    /// What else could be run.
    fn instead(&self, fit: &Fit, allowed: &BTreeSet<&str>) -> String {
        let newest = fit.image.as_ref().and_then(|image| image.newest_for(allowed));
        match newest {
            Some(tag)
                if self
                    .component
                    .implementation
                    .as_ref()
                    .is_some_and(|model| model.field == "model") =>
            {
                format!("runtimeVersion {tag} is built for it")
            }
            _ => format!("Use a runtime or an image that is built for {}", words(allowed)),
        }
    }

    fn say(&self, act: Mode, message: &str, line: &str, verdict: Verdict) -> Verdict {
        let implementation = self.component.implementation.as_ref();
        let pointer = implementation.map_or(self.component.pointer.as_str(), |implementation| {
            &implementation.pointer
        });
        match act {
            Mode::Off => verdict,
            Mode::Deny if verdict.denial.is_none() => {
                let message = lines::cut(&format!("{pointer}: {message}"), lines::MESSAGE);
                verdict.deny("architecture", message, Some(pointer))
            }
            Mode::Deny | Mode::Warn => verdict.warn(lines::line(line)),
        }
    }

    /// Whether a node selector may be filled in: not in a canary, which is an element of a list; not where the user took ours out; and Knative passes one on
    /// only where its admin turned that on (`kubernetes.podspec-nodeselector`).
    fn may_fill(&self, path: &str) -> bool {
        let deploy = || cluster::kserve_config("deploy");
        !self.request.is_withheld(path)
            && !matches!(self.component.role, Role::Canary(_))
            && self.service.deployment_mode(deploy().as_deref()) == Some(DeploymentMode::Standard)
    }
}

/// "amd64", "amd64 and arm64".
fn words<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<T> = names.into_iter().collect();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests;
