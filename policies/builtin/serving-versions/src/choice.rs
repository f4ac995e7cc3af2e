//! Which runtime: what KServe would choose, what its image holds, and which one would fit.

use tidewaiter_policy::{
    core::{
        fit::{self, Fit},
        version::Version,
    },
    image_by,
    runtimes::{self, Release, Runtime},
};

use crate::{Predictor, model::Facts};

/// The runtime that will serve.
pub(crate) struct Selected {
    pub(crate) runtime: Runtime,
    /// Only by asking for protocol v2 does KServe find it.
    pub(crate) needs_v2: bool,
}

/// What KServe will choose. The error is a warning for the user.
pub(crate) fn select(predictor: &Predictor<'_>, candidates: &[Runtime]) -> Result<Selected, String> {
    let model = predictor.model;
    if let Some(name) = model.runtime.as_deref() {
        return match runtimes::named(name) {
            Some(runtime) if runtime.disabled => Err(format!("runtime {name} is disabled, so KServe will not use it")),
            Some(runtime) => Ok(Selected {
                runtime,
                needs_v2: false,
            }),
            None => Err(format!(
                "runtime {name} is neither in this namespace nor in the cluster (yet)"
            )),
        };
    }
    let find = |protocol| {
        candidates
            .iter()
            .find(|runtime| runtime.auto_select && !runtime.disabled && speaks(runtime, protocol))
            .cloned()
    };
    let found = match model.protocol_version.as_deref() {
        Some(protocol) => find(protocol).map(|runtime| Selected {
            runtime,
            needs_v2: false,
        }),
        None => find("v1")
            .map(|runtime| Selected {
                runtime,
                needs_v2: false,
            })
            .or_else(|| {
                find("v2").map(|runtime| Selected {
                    runtime,
                    needs_v2: true,
                })
            }),
    };
    found.ok_or_else(|| none_found(predictor, candidates))
}

fn none_found(predictor: &Predictor<'_>, candidates: &[Runtime]) -> String {
    let name = &predictor.format.name;
    match (
        predictor.format.version.as_deref(),
        predictor.model.protocol_version.as_deref(),
    ) {
        (Some(version), _) if candidates.is_empty() && !runtimes::supporting(name, None).is_empty() => {
            format!(
                "no runtime supports modelFormat {name} version \"{version}\"; leave the version out, KServe compares it as text"
            )
        }
        _ if candidates.is_empty() => format!("no runtime in this cluster supports modelFormat {name}"),
        (_, Some(protocol))
            if candidates
                .iter()
                .any(|runtime| runtime.auto_select && !runtime.disabled) =>
        {
            format!("no runtime for modelFormat {name} speaks protocol {protocol}")
        }
        _ => format!(
            "KServe chooses no runtime for modelFormat {name} by itself; name one, such as {}",
            candidates[0].name
        ),
    }
}

/// An empty list speaks every protocol, as KServe reads it.
pub(crate) fn speaks(runtime: &Runtime, protocol: &str) -> bool {
    runtime.protocols.is_empty() || runtime.protocols.iter().any(|spoken| spoken == protocol)
}

/// Repository and tag of the image that will run.
pub(crate) fn image(predictor: &Predictor<'_>, runtime: &Runtime) -> (String, String) {
    image_by(Some(predictor.model), predictor.gpu, runtime)
}

/// What the catalogue says of one image, of all that matters for this model.
pub(crate) fn release(facts: &Facts, repository: &str, tag: &str) -> Option<Release> {
    runtimes::release_of(repository, tag, &packages(facts))
}

fn packages(facts: &Facts) -> [String; 3] {
    [facts.package, "numpy", "mlflow"].map(str::to_owned)
}

/// How a release takes the model.
pub(crate) struct Judged {
    pub(crate) fit: Fit,
    /// The package's version there.
    pub(crate) version: String,
}

/// Judges one release.
pub(crate) fn judge(facts: &Facts, release: &Release) -> Judged {
    let text = |name: &str| {
        release
            .packages
            .iter()
            .find(|package| package.name == name)
            .map(|package| package.version.as_str())
    };
    let Some(held) = text(facts.package) else {
        // These the catalogue lists wherever they are; of others it may be silent.
        let listed = ["scikit-learn", "xgboost", "lightgbm"].contains(&facts.package);
        let fit = if listed {
            Fit::Misfit("the image does not hold it")
        } else {
            Fit::Unknown
        };
        return Judged {
            fit,
            version: "none".to_owned(),
        };
    };
    // `~=2.1.1` is 2.1.1 or a later fix of it; other bounds say too little.
    let version = |text: &str| Version::parse(text.strip_prefix("~=").unwrap_or(text));
    let Some(server) = version(held) else {
        return Judged {
            fit: Fit::Unknown,
            version: held.to_owned(),
        };
    };
    let beside = |name: &str| text(name).and_then(version);
    let mut fit = fit::judge(facts.package, facts.form, &facts.version, &server);
    if let Some((model, server)) = facts.numpy.as_ref().zip(beside("numpy")) {
        fit = fit.and(fit::judge_numpy(facts.form, model, &server));
    }
    if let Some((model, server)) = facts.python.as_ref().zip(Version::parse(&release.python)) {
        fit = fit.and(fit::judge_python(facts.form, model, &server));
    }
    if let Some((protocol, server)) = facts.protocol.zip(Version::parse(&release.python)) {
        fit = fit.and(fit::judge_protocol(protocol, &server));
    }
    if let Some(server) = beside("mlflow").filter(|_| facts.by_mlflow) {
        fit = fit.and(fit::judge_mlflow(facts.form, &server));
        if let Some(model) = &facts.mlflow {
            fit = fit.and(fit::judge_logged(model, &server));
        }
    }
    Judged {
        fit,
        version: server.to_string(),
    }
}

/// A release that fits.
pub(crate) struct Best {
    pub(crate) runtime: Runtime,
    pub(crate) tag: String,
    pub(crate) needs_v2: bool,
}

/// The release to pin. An exact fit before one with a remark; the selected runtime's own repository before other runtimes for the format, in KServe's order; and only
/// where none of these fits, a runtime for protocol v2 in place of v1, which changes the service's address. Of one repository the nearest newer release, then the nearest older.
pub(crate) fn best(
    predictor: &Predictor<'_>,
    facts: &Facts,
    selected: &Selected,
    candidates: &[Runtime],
) -> Option<Best> {
    let protocol = predictor.model.protocol_version.as_deref();
    let others = || {
        candidates.iter().filter(|other| {
            other.name != selected.runtime.name && !other.disabled && finds_file(&other.repository, predictor, facts)
        })
    };
    let same = others().filter(|other| !selected.needs_v2 && speaks(other, protocol.unwrap_or("v1")));
    let v2 = others()
        .filter(|other| protocol.is_none() && speaks(other, "v2") && (selected.needs_v2 || !speaks(other, "v1")));
    fit_of(
        predictor,
        facts,
        std::iter::once(&selected.runtime).chain(same),
        selected.needs_v2,
    )
    .or_else(|| fit_of(predictor, facts, v2, true))
}

/// The best release of several runtimes, all for one protocol.
fn fit_of<'r>(
    predictor: &Predictor<'_>,
    facts: &Facts,
    runtimes: impl Iterator<Item = &'r Runtime>,
    needs_v2: bool,
) -> Option<Best> {
    let found: Vec<_> = runtimes
        .filter_map(|runtime| {
            let (repository, tag) = image(predictor, runtime);
            nearest(facts, &runtimes::releases(&repository, &packages(facts)), &tag).map(|(exact, tag)| {
                (
                    exact,
                    Best {
                        runtime: runtime.clone(),
                        tag,
                        needs_v2,
                    },
                )
            })
        })
        .collect();
    // The first of the best: `min_by_key` keeps the earliest among equals.
    found.into_iter().min_by_key(|(exact, _)| !exact).map(|(_, best)| best)
}

/// The best release of the same variant as `current`, and whether it fits exactly.
fn nearest(facts: &Facts, releases: &[Release], current: &str) -> Option<(bool, String)> {
    let at = releases.iter().position(|release| release.tag == current)?;
    let distance = |index: usize| {
        if index >= at {
            index - at
        } else {
            releases.len() + at - index
        }
    };
    releases
        .iter()
        .enumerate()
        .filter(|(_, release)| variant(&release.tag) == variant(current))
        .map(|(index, release)| (judge(facts, release).fit, index))
        .filter(|(fit, _)| fit.is_usable())
        .min_by_key(|&(fit, index)| (fit != Fit::Fit, distance(index)))
        .map(|(fit, index)| (fit == Fit::Fit, releases[index].tag.clone()))
}

/// What stands behind a tag's version: `-gpu`, `-py3`, `-mlflow`, `-rc1`.
fn variant(tag: &str) -> &str {
    let at = tag
        .match_indices('-')
        .find(|(at, _)| tag[at + 1..].starts_with(|next: char| next.is_ascii_alphabetic()));
    at.map_or("", |(at, _)| &tag[at..])
}

/// Whether a server of this repository finds the model's file (from `python/*server/*/model.py` of KServe and `runtimes/*` of MLServer). Unknown servers do.
pub(crate) fn finds_file(repository: &str, predictor: &Predictor<'_>, facts: &Facts) -> bool {
    let Some(file) = facts.file.as_deref().filter(|file| !file.is_empty()) else {
        return true;
    };
    let name = file.rsplit('/').next().unwrap_or(file);
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return true;
    };
    let known = match &*predictor.format.name {
        "sklearn" => ["joblib", "pkl", "pickle"].contains(&extension),
        "xgboost" => ["bst", "json", "ubj"].contains(&extension),
        "lightgbm" => extension == "bst",
        _ => return true,
    };
    match repository {
        "docker.io/kserve/sklearnserver"
        | "docker.io/kserve/xgbserver"
        | "docker.io/kserve/lgbserver"
        | "docker.io/kserve/predictiveserver" => known,
        "docker.io/seldonio/mlserver" => known && stem == "model",
        _ => true,
    }
}
