//! What the namespace's quotas, limits and Pod Security level say to the Pods of a service.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidewaiter_policy::{
    Operation, Request, Verdict, cluster,
    core::{
        kserve_config::DeploymentMode,
        pointer,
        service::{AsWritten, Component, Role, Service},
    },
    runtime_of, runtimes,
};

use crate::initializer::{self, Initializer, Initializers};
use crate::limits::{self, LimitRange};
use crate::pod::{self, Container, Pod};
use crate::quota::{self, ResourceQuota, Said};
use crate::security::{self, Level, Missing};
use crate::speak::Finding;
use crate::webhooks::Labels;
use crate::{Act, Added, Settings};

/// The rules of the namespace.
struct Rules {
    quotas: Vec<ResourceQuota>,
    /// None where they can't be read: then nobody knows what they fill into a container.
    limits: Option<Vec<LimitRange>>,
    level: Option<Level>,
}

impl Rules {
    /// What can't be read is taken as if it weren't there.
    fn live(labels: &Labels, settings: &Settings) -> Self {
        let list = |kind: &str| match settings.quota {
            Act::Off => Some(Vec::new()),
            _ => cluster::list_objects("v1", kind).ok(),
        };
        let quotas = list("ResourceQuota").unwrap_or_default();
        let ranges = list("LimitRange");
        let level = labels
            .get(security::LABEL)
            .filter(|_| settings.pod_security != Act::Off);
        Self {
            quotas: quota::read(quotas.iter().map(String::as_str)).unwrap_or_default(),
            limits: ranges.and_then(|ranges| limits::read(ranges.iter().map(String::as_str))),
            level: level.and_then(|name| Level::named(name)),
        }
    }

    fn is_empty(&self) -> bool {
        self.quotas.is_empty() && self.limits.as_ref().is_none_or(Vec::is_empty) && self.level.is_none()
    }
}

/// One component under review.
struct Subject<'a> {
    request: &'a Request,
    component: &'a Component<'a>,
    mode: Option<DeploymentMode>,
    settings: &'a Settings,
}

/// Reviews each component's Pod.
pub(crate) fn review(
    request: &Request,
    service: &Service<'_>,
    all: &AsWritten<pod::Component>,
    labels: &Labels,
    settings: &Settings,
    mut verdict: Verdict,
) -> Verdict {
    let rules = Rules::live(labels, settings);
    if rules.is_empty() {
        return verdict;
    }
    let initializers = Initializers::live();
    let mode = service.deployment_mode(cluster::kserve_config("deploy").as_deref());
    for component in service.components() {
        let Some(written) = all.get(component.role) else {
            continue;
        };
        let limits = rules.limits.as_deref();
        let pod = pod_of(component, written, &initializers, limits);
        let subject = Subject {
            request,
            component,
            mode,
            settings,
        };
        verdict = subject.security(&pod, rules.level, verdict);
        verdict = subject.limits(&pod, limits.unwrap_or_default(), verdict);
        // One Pod answers even where none is to wait for requests.
        let replicas = written.min_replicas.unwrap_or(1).max(1);
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        verdict = subject.quotas(&pod, replicas, &rules.quotas, verdict);
    }
    verdict
}

fn pod_of(
    component: &Component<'_>,
    written: &pod::Component,
    initializers: &Initializers,
    limits: Option<&[LimitRange]>,
) -> Pod {
    let runtime = written
        .model
        .as_ref()
        .and_then(|_| runtime_of(component))
        .and_then(|runtime| runtimes::spec(&runtime.name));
    let runtime = runtime.and_then(|text| serde_json::from_str::<pod::Runtime>(&text).ok());
    let mut pod = Pod::of(written, runtime.as_ref(), initializers.servers());
    pod.complete &= !component.multi_node && limits.is_some();
    match initializer(component, written, initializers) {
        Initializer::None => {}
        Initializer::Is(container) => pod.init.push(*container),
        Initializer::Unknown => pod.complete = false,
    }
    pod.all_mut().for_each(Container::with_requests_of_limits);
    for range in limits.into_iter().flatten() {
        range.fill(&mut pod);
    }
    pod
}

/// All models of a component are fetched by one container.
fn initializer(component: &Component<'_>, written: &pod::Component, initializers: &Initializers) -> Initializer {
    let named = written
        .storage_container_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let mut found = Initializer::None;
    for model in &component.models {
        match initializers.of(&model.uri, named) {
            Initializer::None => {}
            // Of several, with sources of different kinds, KServe merges what this policy doesn't follow.
            other if found != Initializer::None && found != other => return Initializer::Unknown,
            other => found = other,
        }
    }
    let implementation = component.implementation.as_ref();
    let elsewhere = implementation.is_some_and(|implementation| {
        implementation.uri_from_elsewhere
            || implementation
                .storage
                .as_ref()
                .is_some_and(|storage| storage.path.is_some())
    });
    if elsewhere { Initializer::Unknown } else { found }
}

impl Subject<'_> {
    fn pointer(&self) -> &str {
        let implementation = self.component.implementation.as_ref();
        implementation.map_or(self.component.pointer.as_str(), |implementation| {
            &implementation.pointer
        })
    }

    fn security(&self, pod: &Pod, level: Option<Level>, verdict: Verdict) -> Verdict {
        let Some(level) = level else {
            return verdict;
        };
        let (name, namespace, pointer) = (level.as_str(), &self.request.namespace, &self.component.pointer);
        let refused = level.refuses(pod);
        if !refused.is_empty() {
            let refused = refused.join(", ");
            return Finding {
                code: "pod-security",
                certain: true,
                pointer,
                message: format!(
                    "{pointer}: namespace {namespace} enforces Pod Security level {name}, which refuses every Pod of the {}: {refused}. Leave that out (what the \
                     service doesn't say comes from its runtime), or deploy into a namespace that allows it",
                    self.component.name()
                ),
                line: format!("Pod Security level {name} refuses the Pods of the {}: {refused}", self.component.name()),
            }
            .said(self.settings.pod_security, verdict);
        }
        if !pod.complete {
            return verdict;
        }
        let mut missing: BTreeMap<Missing, BTreeSet<&str>> = BTreeMap::new();
        for container in pod.all() {
            for what in level.missing(pod, container) {
                missing.entry(what).or_default().insert(&container.name);
            }
        }
        if missing.is_empty() {
            return verdict;
        }
        if let Some(paths) = self.may_fill(missing.keys().copied()) {
            return paths.into_iter().fold(verdict, |verdict, (what, path)| {
                let value = match what {
                    Missing::Seccomp => json!({"type": "RuntimeDefault"}),
                    _ => json!(true),
                };
                verdict.fill(path, value, format!("its namespace is {name}"))
            });
        }
        self.lacking(level, &missing, verdict)
    }

    /// Where what is missing may be filled in: all of it can be said of the whole Pod, and KServe takes it there. Knative passes on a Pod's security settings
    /// only where its admin turned that on.
    fn may_fill(&self, missing: impl Iterator<Item = Missing>) -> Option<Vec<(Missing, String)>> {
        if self.mode != Some(DeploymentMode::Standard) || matches!(self.component.role, Role::Canary(_)) {
            return None;
        }
        let security = pointer::child(&self.component.pointer, "securityContext");
        missing
            .map(|what| {
                let field = match what {
                    Missing::NonRoot => "runAsNonRoot",
                    Missing::Seccomp => "seccompProfile",
                    Missing::Escalation | Missing::DropAll => return None,
                };
                let path = pointer::child(&security, field);
                (!self.request.is_withheld(&path)).then_some((what, path))
            })
            .collect()
    }

    fn lacking(&self, level: Level, missing: &BTreeMap<Missing, BTreeSet<&str>>, mut verdict: Verdict) -> Verdict {
        let (name, namespace, pointer) = (level.as_str(), &self.request.namespace, &self.component.pointer);
        let said = |(what, containers): (&Missing, &BTreeSet<&str>)| {
            let containers: Vec<_> = containers.iter().copied().collect();
            format!("{} in {}", what.as_str(), containers.join(" and "))
        };
        let initializer = missing
            .values()
            .any(|containers| containers.contains("storage-initializer"));
        let whose = if initializer {
            " What storage-initializer lacks KServe's admin says in spec.container of the ClusterStorageContainer."
        } else {
            ""
        };
        let act = self.settings.pod_security;
        if self.settings.security_added == Added::Never {
            let all: Vec<_> = missing.iter().map(said).collect();
            return Finding {
                code: "pod-security",
                certain: true,
                pointer,
                message: format!(
                    "{pointer}: namespace {namespace} enforces Pod Security level {name}, which refuses every Pod of the {} that doesn't say {}. Say it in \
                     securityContext.{whose}",
                    self.component.name(),
                    all.join("; ")
                ),
                line: format!("Pod Security {name} wants {}", all.join("; ")),
            }
            .said(act, verdict);
        }
        for found in missing {
            verdict = Finding {
                code: "pod-security",
                certain: false,
                pointer,
                message: String::new(),
                line: format!("Pod Security {name} wants {}", said(found)),
            }
            .said(act, verdict);
        }
        verdict
    }

    /// One thing is said: the first that is certain, else the first.
    fn limits(&self, pod: &Pod, limits: &[LimitRange], verdict: Verdict) -> Verdict {
        let added = self.settings.resources_added;
        let mut refused: Vec<_> = limits.iter().flat_map(|range| range.refuses(pod, added)).collect();
        refused.sort_by_key(|refused| !refused.certain);
        let Some(refused) = refused.into_iter().next() else {
            return verdict;
        };
        let (pointer, range, what) = (self.pointer(), refused.limit_range, refused.what);
        let do_this = if refused.container.as_deref() == Some(initializer::NAME) {
            "What KServe's own container asks its admin says, in storageInitializer of KServe's configuration or in spec.container of the \
             ClusterStorageContainer; or have the LimitRange changed"
        } else {
            "Change its resources, or have the LimitRange changed"
        };
        Finding {
            code: "limit-range",
            certain: refused.certain,
            pointer,
            message: format!(
                "{pointer}: LimitRange {range} of namespace {} refuses every Pod of the {}: {what}. {do_this}",
                self.request.namespace,
                self.component.name(),
            ),
            line: if refused.certain {
                format!("LimitRange {range} refuses its Pods: {what}")
            } else {
                format!("LimitRange {range} may refuse its Pods: {what}")
            },
        }
        .said(self.settings.quota, verdict)
    }

    fn quotas(&self, pod: &Pod, replicas: u32, quotas: &[ResourceQuota], mut verdict: Verdict) -> Verdict {
        let component = self.component.name();
        for quota in quotas {
            let Some(said) = quota.says(pod, replicas) else {
                continue;
            };
            let name = quota.name();
            let (what, line, do_this) = match &said {
                Said::Never { resource, asked, hard } => (
                    format!("one Pod takes {asked} of {resource}, and all of it is {hard}"),
                    format!("ResourceQuota {name}: a Pod takes {asked} of {resource}, of {hard} in all"),
                    "Ask for less in its resources, or have the quota raised",
                ),
                Said::Unsaid { resource, containers } => (
                    format!("{resource} is not said for {}", containers.join(", ")),
                    format!(
                        "ResourceQuota {name} refuses Pods that don't say {resource}; say it for {}",
                        containers.join(", ")
                    ),
                    "Say it in its resources, or have a LimitRange with a default made",
                ),
                // What runs already takes its part of what is used.
                Said::NotNow { .. } if self.request.operation == Operation::Update => continue,
                Said::NotNow { resource, asked, left } => (
                    String::new(),
                    format!("ResourceQuota {name} has {left} of {resource} left, and a Pod takes {asked}: it waits"),
                    "",
                ),
                Said::Fewer { resource, asked, hard } => (
                    String::new(),
                    format!(
                        "ResourceQuota {name}: minReplicas take {asked} of {resource}, of {hard} in all: fewer run"
                    ),
                    "",
                ),
            };
            let pointer = self.pointer();
            verdict = Finding {
                code: "quota",
                certain: said.is_certain(self.settings.resources_added),
                pointer,
                message: format!(
                    "{pointer}: ResourceQuota {name} of namespace {} refuses every Pod of the {component}: {what}. {do_this}",
                    self.request.namespace
                ),
                line,
            }
            .said(self.settings.quota, verdict);
        }
        verdict
    }
}
