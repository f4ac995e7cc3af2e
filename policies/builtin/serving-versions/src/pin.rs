//! The decision: nothing, a pin, a warning, a refusal.

use tidewaiter_policy::{
    Verdict,
    core::{
        containers::{self, Components, Container, RuntimeContainers, SERVER},
        fit::Fit,
        lines::cut,
    },
    is_digest,
    log::{self, Level},
    runtimes::{self, Runtime},
};

use crate::{
    ALLOW_WRONG_ANSWERS, PROTOCOL_VERSION, Pin, Predictor, RUNTIME, RUNTIME_VERSION, Subject,
    choice::{self, Best, Judged, Selected},
    model::{self, Facts, Unjudged},
};

/// The longest reason of a fill, in characters.
const REASON: usize = 90;
/// Why a runtime is filled in where only its version matters.
const BELONGS: &str = "a version belongs to its runtime";

pub(crate) fn review(subject: &Subject<'_>, verdict: Verdict) -> Verdict {
    let predictor = &subject.predictor;
    let candidates = runtimes::supporting(&predictor.format.name, predictor.format.version.as_deref());
    let selected = match choice::select(predictor, &candidates) {
        Ok(selected) => selected,
        Err(warning) => return verdict.warn(warning),
    };
    let facts = match look(predictor) {
        Ok(facts) => facts,
        Err(Unjudged::Logged(why)) => {
            write(subject, &why);
            return with_protocol(subject, &selected, verdict);
        }
        Err(Unjudged::Warned(line)) => return with_protocol(subject, &selected, verdict).warn(line),
    };

    let (repository, tag) = choice::image(predictor, &selected.runtime);
    let name = &selected.runtime.name;
    let Some(current) = choice::release(&facts, &repository, &tag).map(|release| choice::judge(&facts, &release))
    else {
        let image = if is_digest(&tag) {
            format!("{repository} by digest")
        } else {
            format!("{repository}:{tag}")
        };
        let unknown = format!("{name} runs {image}, of which the catalogue knows nothing");
        explain(subject, &facts, &unknown);
        return with_protocol(subject, &selected, verdict).warn(format!(
            "saved by {}; the catalogue does not know the image {image}",
            saved(&facts)
        ));
    };

    let mut verdict = verdict;
    let lacking = lacking(&facts, &repository);
    let falls_short = !matches!(current.fit, Fit::Fit | Fit::Unknown) || !lacking.is_empty();
    if falls_short && let Some(why) = elsewhere(subject, &facts, &selected.runtime, &repository) {
        explain(subject, &facts, &why);
        return with_protocol(subject, &selected, verdict);
    }
    let held = format!("{name} ({repository}:{tag}) has {} {}", facts.package, current.version);
    explain(subject, &facts, &format!("{held}: {}", words(current.fit)));
    if let [first, rest @ ..] = lacking.as_slice() {
        let more = if rest.is_empty() {
            String::new()
        } else {
            format!(" and {} more", rest.len())
        };
        verdict = verdict.warn(format!(
            "may fail: {name} lacks {first}{more}, which the model needs; pack its environment.tar.gz"
        ));
    }
    if !choice::finds_file(&repository, predictor, &facts) {
        verdict = verdict.warn(format!(
            "{name} may not find the model: it does not look for {}",
            facts.file.as_deref().unwrap_or_default()
        ));
    }
    let may_pin = !is_digest(&tag)
        && predictor.own_choice().iter().take(2).all(Option::is_none)
        && predictor.model.image.is_none()
        && subject.may_fill(&[RUNTIME, RUNTIME_VERSION]);
    match current.fit {
        Fit::Fit | Fit::Unknown if may_pin && subject.settings.pin == Pin::Always => {
            let best = Best {
                runtime: selected.runtime.clone(),
                tag,
                needs_v2: selected.needs_v2,
            };
            let reason = "the admin wants every model pinned";
            pinned(subject, &best, [reason, reason], verdict)
        }
        Fit::Fit | Fit::Unknown => with_protocol(subject, &selected, verdict),
        Fit::FitWithRemark(remark) => {
            with_protocol(subject, &selected, verdict).warn(remarked(&facts, &current.version, remark))
        }
        Fit::Misfit(why) | Fit::WrongAnswers(why) => {
            let best = may_pin
                .then(|| choice::best(predictor, &facts, &selected, &candidates))
                .flatten();
            // A runtime for another protocol is of use only where that may be said.
            match best.filter(|best| !best.needs_v2 || subject.may_fill(&[PROTOCOL_VERSION])) {
                Some(best) => {
                    let same_version = current.version == facts.version.to_string();
                    let saved = || format!("saved by {}", saved(&facts));
                    let reasons = match (best.runtime.name == *name, same_version) {
                        (true, true) => [BELONGS.to_owned(), why.to_owned()],
                        (true, false) => [
                            BELONGS.to_owned(),
                            format!("{}; {tag} has {}", saved(), current.version),
                        ],
                        (false, true) => [format!("{name} does not fit"), why.to_owned()],
                        (false, false) => [format!("{name} has {} {}", facts.package, current.version), saved()],
                    };
                    pinned(subject, &best, reasons.each_ref().map(String::as_str), verdict)
                }
                None => unfit(subject, &selected, &facts, &current, verdict),
            }
        }
    }
}

/// Why what the image holds may not be what the model gets.
fn elsewhere(subject: &Subject<'_>, facts: &Facts, runtime: &Runtime, repository: &str) -> Option<String> {
    if facts.by_mlflow && subject.predictor.uri.is_some_and(model::brings_environment) {
        return Some("it brings its own packages (environment.tar.gz), whatever the image holds".to_owned());
    }
    starts_another(subject, runtime, repository).then(|| {
        let name = &runtime.name;
        format!(
            "{name} or the service starts another program than {repository} does: what is in the image may not count"
        )
    })
}

/// Whether the image's own server may not be what runs, or not as it is there: a command of the user's own may install packages first.
fn starts_another(subject: &Subject<'_>, runtime: &Runtime, repository: &str) -> bool {
    let components = Components::parse(&subject.request.object);
    let own = components
        .as_ref()
        .and_then(|components| components.part(subject.predictor.role)?.model.as_ref());
    let spec = runtimes::spec(&runtime.name).and_then(|spec| RuntimeContainers::parse(&spec));
    let server = spec.as_ref().and_then(|spec| spec.named(SERVER));
    containers::starts_another(repository, own.unwrap_or(&Container::default()), server)
}

fn remarked(facts: &Facts, served: &str, remark: &str) -> String {
    // Where the package is the same, the remark is about what is around it.
    let under = match &facts.python {
        Some(python) if served == facts.version.to_string() => format!(" under Python {python}"),
        _ => String::new(),
    };
    format!("saved by {}{under}, served by {served}: {remark}", saved(facts))
}

/// Why it comes to what it comes to, for whoever asks: a line of the log, which `tidewaiter explain` shows.
fn explain(subject: &Subject<'_>, facts: &Facts, then: &str) {
    let mut said = format!("{} saved the model", saved(facts));
    if let Some(python) = &facts.python {
        said = format!("{said} under Python {python}");
    }
    if let Some(mlflow) = &facts.mlflow {
        said = format!("{said}, logged by MLflow {mlflow}");
    }
    write(subject, &format!("{said}; {then}"));
}

fn look(predictor: &Predictor<'_>) -> Result<Facts, Unjudged> {
    match predictor.uri {
        Some(uri) => model::look(&predictor.format.name, uri),
        None => Err(Unjudged::Logged(
            "its model isn't at one URI; the runtime is not checked".to_owned(),
        )),
    }
}

fn write(subject: &Subject<'_>, line: &str) {
    let format = &subject.predictor.format.name;
    log::write(Level::Info, &format!("modelFormat {format}: {line}"));
}

fn words(fit: Fit) -> String {
    match fit {
        Fit::Fit => "it loads and answers the same".to_owned(),
        Fit::Unknown => "no rule is known for it".to_owned(),
        Fit::FitWithRemark(why) => format!("it will do, though {why}"),
        Fit::Misfit(why) => format!("it doesn't fit: {why}"),
        Fit::WrongAnswers(why) => format!("it would answer wrongly: {why}"),
    }
}

/// What the model asks for and the image is known to be without. The package that decides is judged by itself.
fn lacking(facts: &Facts, repository: &str) -> Vec<String> {
    if facts.needs.is_empty() {
        return Vec::new();
    }
    let mut lacking = runtimes::lacking(repository, &facts.needs);
    lacking.retain(|name| name != facts.package);
    lacking
}

fn saved(facts: &Facts) -> String {
    format!("{} {}", facts.package, facts.version)
}

/// Fills in both, with a reason for each: beside their long places there is little room for one.
fn pinned(subject: &Subject<'_>, best: &Best, [runtime, version]: [&str; 2], verdict: Verdict) -> Verdict {
    let verdict = verdict
        .fill(RUNTIME, best.runtime.name.as_str(), cut(runtime, REASON))
        .fill(RUNTIME_VERSION, best.tag.as_str(), cut(version, REASON));
    with_protocol(
        subject,
        &Selected {
            runtime: best.runtime.clone(),
            needs_v2: best.needs_v2,
        },
        verdict,
    )
}

/// Asks for protocol v2, where KServe would otherwise look for v1 and find nothing.
fn with_protocol(subject: &Subject<'_>, selected: &Selected, verdict: Verdict) -> Verdict {
    let (name, format) = (&selected.runtime.name, &subject.predictor.format.name);
    if !selected.needs_v2 {
        verdict
    } else if subject.may_fill(&[PROTOCOL_VERSION]) {
        let reason = format!("{name} speaks v2, and none that fits speaks v1");
        verdict.fill(PROTOCOL_VERSION, "v2", cut(&reason, REASON))
    } else {
        verdict.warn(format!(
            "no runtime for modelFormat {format} speaks v1; set protocolVersion: v2, which {name} speaks"
        ))
    }
}

fn unfit(subject: &Subject<'_>, selected: &Selected, facts: &Facts, current: &Judged, verdict: Verdict) -> Verdict {
    let verdict = with_protocol(subject, selected, verdict);
    let (name, saved, server) = (&selected.runtime.name, saved(facts), &current.version);
    if let Fit::Misfit(why) = current.fit {
        return verdict.warn(format!("may fail: saved by {saved}, {name} has {server}: {why}"));
    }
    if subject.wrong_answers_allowed() {
        return verdict.warn(format!(
            "wrong answers: saved by {saved}, {name} has {server}, which misreads it without an error"
        ));
    }
    let pointer = &subject.predictor.model.pointer;
    verdict.deny(
        "wrong-answers",
        format!(
            "{pointer}: the model was saved by {saved}, and {name} serves it with {server}, which loads it without an error and answers wrongly. \
             Save it with xgboost < 3.1; or serve it with a runtime whose image holds xgboost >= 3.1 and that the admin has mapped in the catalogue. \
             To serve it all the same, set the annotation {ALLOW_WRONG_ANSWERS}: \"true\""
        ),
        Some(pointer),
    )
}
