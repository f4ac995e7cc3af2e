//! Whether the runtime that serves the model speaks the protocol.
//!
//! Source: `reconcileModel` in `pkg/controller/v1beta1/inferenceservice/components/predictor.go` of KServe 0.15 to 0.20.

use std::borrow::Cow;

use tidewaiter_policy::Verdict;
use tidewaiter_policy::core::lines::cut;
use tidewaiter_policy::core::runtimes::lists;
use tidewaiter_policy::core::service::{Component, Format, Implementation, Role, Service};
use tidewaiter_policy::runtimes::{self, Runtime};

use crate::{Served, Subject, found, just_made};

/// Characters of a list of names.
const NAMES: usize = 200;
/// Characters of a fill's reason.
const REASON: usize = 90;
/// In the order in which KServe takes a runtime's where a service sets none (`GetProtocolVersionPriority`).
const PROTOCOLS: [&str; 4] = ["v1", "v2", "grpc-v1", "grpc-v2"];

/// A canary's model with the protocol that this very review fills in for the predictor: that isn't written yet.
pub(crate) fn as_it_will_be<'m>(
    service: &Service<'m>,
    component: &Component<'_>,
    model: &'m Implementation<'m>,
    served: Option<&Served>,
) -> Cow<'m, Implementation<'m>> {
    let Some(served) = served.filter(|served| served.protocol != "v1" && matches!(component.role, Role::Canary(_)))
    else {
        return Cow::Borrowed(model);
    };
    let stable = service
        .predictor()
        .and_then(|predictor| predictor.implementation.as_ref());
    let is_filled = stable.is_some_and(|stable| stable.field == model.field && stable.runtime.is_none());
    if !is_filled || model.protocol_version.is_some() {
        return Cow::Borrowed(model);
    }
    Cow::Owned(Implementation {
        protocol_version: Some(Cow::Owned(served.protocol.clone())),
        ..model.clone()
    })
}

/// Judges one predictor, and says which runtime serves it; none where that isn't known, or none does.
pub(crate) fn review(
    subject: &Subject<'_>,
    component: &Component<'_>,
    model: &Implementation<'_>,
    verdict: &mut Verdict,
) -> Option<Served> {
    // An old per-framework field KServe rewrites, and the review comes again. With workers it chooses among other runtimes.
    if !component.is_predictor() || model.field != "model" || component.multi_node {
        return None;
    }
    let format = model.format.as_ref()?;
    match model.runtime.as_deref() {
        Some(name) => named(subject, component, (model, format, name), verdict),
        None => chosen(subject, component, (model, format), verdict),
    }
}

/// By the runtime that the object names.
fn named(
    subject: &Subject<'_>,
    component: &Component<'_>,
    (model, format, name): (&Implementation<'_>, &Format<'_>, &str),
    verdict: &mut Verdict,
) -> Option<Served> {
    // One that isn't there (yet) is said by the policy `serving-versions`.
    let runtime = runtimes::named(name).filter(|runtime| !runtime.disabled)?;
    let who = component.name();
    let candidates = runtimes::supporting(&format.name, format.version.as_deref());
    // Those for several models or nodes are none that KServe chooses from, and it takes them where they are named.
    let lists = |spec: String| lists(&spec, &format.name, format.version.as_deref());
    let protocol = model.protocol_version.as_deref();
    if !candidates.iter().any(|other| other.name == name) && !runtimes::spec(name).is_some_and(lists) {
        if just_made::serves(subject.request, name, format, protocol) {
            return None;
        }
        let format = written(format);
        let others: Vec<&str> = candidates.iter().map(|other| other.name.as_str()).collect();
        let others = cut(&others.join(", "), NAMES);
        let instead = if others.is_empty() {
            "Correct the modelFormat, or name another runtime".to_owned()
        } else {
            format!("Correct the modelFormat, or name one that does: {others}")
        };
        found(
            verdict,
            subject.settings.protocol,
            "runtime-format",
            format!(
                "{who}: runtime {name} doesn't serve modelFormat {format}, and KServe starts no Pod for it. {instead}"
            ),
            &format!("{who}: runtime {name} doesn't serve modelFormat {format}"),
            &format!("{}/runtime", model.pointer),
        );
        return None;
    }
    let protocol = match protocol {
        Some(protocol) if !runtime.speaks(protocol) => {
            if just_made::serves(subject.request, name, format, Some(protocol)) {
                return None;
            }
            let spoken = runtime.protocols.join(", ");
            found(
                verdict,
                subject.settings.protocol,
                "protocol-unspoken",
                format!(
                    "{who}: runtime {name} doesn't speak protocol {protocol}, and KServe starts no Pod for it. Set protocolVersion to what it speaks ({spoken}), or \
                     name another runtime"
                ),
                &format!("{who}: runtime {name} doesn't speak {protocol}, only {spoken}"),
                &format!("{}/protocolVersion", model.pointer),
            );
            return None;
        }
        Some(protocol) => protocol.to_owned(),
        None => PROTOCOLS
            .into_iter()
            .find(|protocol| runtime.speaks(protocol))
            .unwrap_or("v1")
            .to_owned(),
    };
    Some(Served { runtime, protocol })
}

/// By the runtime that KServe chooses.
fn chosen(
    subject: &Subject<'_>,
    component: &Component<'_>,
    (model, format): (&Implementation<'_>, &Format<'_>),
    verdict: &mut Verdict,
) -> Option<Served> {
    let candidates = runtimes::supporting(&format.name, format.version.as_deref());
    let first = |protocol: &str| candidates.iter().find(|runtime| runtime.may_be_chosen(protocol));
    let asked = model.protocol_version.as_deref();
    if let Some(runtime) = first(asked.unwrap_or("v1")) {
        return Some(Served {
            runtime: runtime.clone(),
            protocol: asked.unwrap_or("v1").to_owned(),
        });
    }
    // Without any, or any that KServe may choose, it isn't a matter of protocols, and may come later. The policy `serving-versions` says so.
    let any = candidates.iter().find(|runtime| chooses(runtime))?;
    let path = format!("{}/protocolVersion", model.pointer);
    if let (None, Some(runtime)) = (asked, first("v2"))
        && subject.may_fill(component, &path)
    {
        let reason = format!("{} speaks v2, and none that fits speaks v1", runtime.name);
        *verdict = std::mem::take(verdict).fill(path, "v2", cut(&reason, REASON));
        return Some(Served {
            runtime: runtime.clone(),
            protocol: "v2".to_owned(),
        });
    }
    if just_made::is_chosen(subject.request, format, asked.unwrap_or("v1")) {
        return None;
    }
    let who = component.name();
    let format = written(format);
    let wanted = match asked {
        Some(protocol) => format!("protocol {protocol}"),
        None => "protocol v1, which KServe takes where none is set".to_owned(),
    };
    let spoken = spoken(candidates.iter().filter(|runtime| chooses(runtime)));
    found(
        verdict,
        subject.settings.protocol,
        "protocol-unspoken",
        format!(
            "{who}: no runtime for modelFormat {format} speaks {wanted}, so KServe finds none and starts no Pod. Set protocolVersion to one that is spoken: {spoken} \
             ({} does), or install a runtime that speaks it before the service",
            any.name
        ),
        &format!(
            "{who}: no runtime for {format} speaks {}, only {spoken}",
            asked.unwrap_or("v1")
        ),
        &path,
    );
    None
}

/// Whether KServe may choose it by itself.
fn chooses(runtime: &Runtime) -> bool {
    runtime.auto_select && !runtime.disabled
}

/// The protocols that these runtimes speak, each once.
fn spoken<'r>(runtimes: impl Iterator<Item = &'r Runtime>) -> String {
    let mut spoken: Vec<&str> = runtimes
        .flat_map(|runtime| &runtime.protocols)
        .map(String::as_str)
        .collect();
    spoken.sort_unstable();
    spoken.dedup();
    spoken.join(", ")
}

fn written(format: &Format<'_>) -> String {
    match &format.version {
        Some(version) => format!("{} (version \"{version}\")", format.name),
        None => format.name.to_string(),
    }
}
