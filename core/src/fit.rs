//! Whether a server's package loads a model that another version of it saved, and answers the same.
//!
//! Each rule has its source beside it: the project's own promise where it gives one, else what was tried.

use crate::version::Version;

/// How the model is saved, as far as it decides who can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The library's own format.
    Own,
    /// XGBoost's UBJSON.
    Ubjson,
    /// XGBoost's binary format from before JSON.
    LegacyBinary,
    /// pickle or joblib.
    Pickle,
    /// cloudpickle, MLflow's default for scikit-learn up to 3.13.
    Cloudpickle,
    /// skops, MLflow's default for scikit-learn from 3.14 on.
    Skops,
}

/// The answer, from best to worst. Reasons have at most 50 characters, so that a warning holds them beside both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Loads and answers the same.
    Fit,
    /// No rule is known for this package.
    Unknown,
    /// Will do; what the user should know.
    FitWithRemark(&'static str),
    /// Fails, or is promised nothing; why.
    Misfit(&'static str),
    /// Loads without an error and answers wrongly; why.
    WrongAnswers(&'static str),
}

impl Fit {
    /// The worse of two answers.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rank = |fit| match fit {
            Self::Fit => 0,
            Self::Unknown => 1,
            Self::FitWithRemark(_) => 2,
            Self::Misfit(_) => 3,
            Self::WrongAnswers(_) => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    /// Nothing speaks against it.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Fit | Self::FitWithRemark(_))
    }
}

/// Whether a server that holds `server` of a package loads what `model` of it saved. Packages are named as on `PyPI`.
pub fn judge(package: &str, form: Form, model: &Version, server: &Version) -> Fit {
    let silent = SILENT.iter().find(|silent| {
        silent.package == package && model.series() >= silent.saved_since && server.series() < silent.served_before
    });
    // What can't be read at all fails loudly.
    if let Some(silent) = silent.filter(|_| form != Form::LegacyBinary) {
        return Fit::WrongAnswers(silent.why);
    }
    match package {
        "scikit-learn" => scikit_learn(model, server),
        "xgboost" => xgboost(form, model, server),
        "lightgbm" => lightgbm(form, model, server),
        "tensorflow" => tensorflow(model, server),
        _ => Fit::Unknown,
    }
}

/// Versions between which a file is loaded without an error and answered wrongly. Nothing at the server shows it, so these are refused.
struct Silent {
    package: &'static str,
    /// Saved by this series or a later one,
    saved_since: (u32, u32),
    /// and served by one before this.
    served_before: (u32, u32),
    why: &'static str,
}

/// - XGBoost: from 3.1 on `base_score` is written as a list (`[1.05E2]`), which earlier ones read as 0.5. Tried: 3.1.3 and 3.2.0 in 2.1.4 and 3.0.2, in every form; a
///   regressor that answered 105.3 answered 0.85. The list form is also told of in shap#4184 and treelite#635.
const SILENT: [Silent; 1] = [Silent {
    package: "xgboost",
    saved_since: (3, 1),
    served_before: (3, 1),
    why: "before 3.1 it loads and answers wrongly",
}];

/// A pickle's protocol under the server's Python: 4 came with 3.4 (PEP 3154), 5 with 3.8 (PEP 574); earlier ones stop with "unsupported pickle protocol".
pub fn judge_protocol(protocol: u8, server: &Version) -> Fit {
    match protocol {
        5.. if server.series() < (3, 8) => Fit::Misfit("pickle protocol 5 needs Python 3.8"),
        4 if server.series() < (3, 4) => Fit::Misfit("pickle protocol 4 needs Python 3.4"),
        _ => Fit::Fit,
    }
}

/// The MLflow that logged the model beside the one that loads it: models of 2 load in 3, and the other way round nothing is promised (MLflow 3's own FAQ).
pub fn judge_logged(model: &Version, server: &Version) -> Fit {
    if model.major() > server.major() {
        Fit::FitWithRemark("a newer MLflow logged it; nothing is promised")
    } else {
        Fit::Fit
    }
}

/// numpy, beside the package itself: a pickle from numpy 2 names modules that numpy 1 doesn't have (kserve#3968).
pub fn judge_numpy(form: Form, model: &Version, server: &Version) -> Fit {
    if matches!(form, Form::Pickle | Form::Cloudpickle) && model.major() >= 2 && server.major() < 2 {
        return Fit::Misfit("a pickle from numpy 2 fails under numpy 1");
    }
    Fit::Fit
}

/// Python itself. cloudpickle promises loading only in the very version that saved (its README); other minor versions often do, so this is a remark.
pub fn judge_python(form: Form, model: &Version, server: &Version) -> Fit {
    if form == Form::Cloudpickle && model.series() != server.series() {
        return Fit::FitWithRemark("cloudpickle wants the same Python");
    }
    Fit::Fit
}

/// MLflow, where it does the loading: skops is known from 3.9 on; earlier ones stop with "Unrecognized serialization format".
pub fn judge_mlflow(form: Form, server: &Version) -> Fit {
    if form == Form::Skops && server.series() < (3, 9) {
        return Fit::Misfit("skops needs MLflow 3.9");
    }
    Fit::Fit
}

/// scikit-learn calls any other version "entirely unsupported", for pickle, joblib, cloudpickle and skops (its `doc/model_persistence.rst`). Fixes of
/// one minor version have not changed what is stored.
fn scikit_learn(model: &Version, server: &Version) -> Fit {
    if model == server {
        Fit::Fit
    } else if model.series() == server.series() {
        Fit::FitWithRemark("only the same version is supported")
    } else {
        Fit::Misfit("only the same version is supported")
    }
}

/// Older files load in newer libraries (its `doc/tutorials/saving_model.rst`); the other way round nothing is promised. What was tried: 2.1.4 and 3.0.2 answer
/// exactly alike both ways. Across 3.1 see [`SILENT`].
fn xgboost(form: Form, model: &Version, server: &Version) -> Fit {
    if form == Form::LegacyBinary {
        return if server.series() >= (3, 1) {
            Fit::Misfit("3.1 dropped the old binary format")
        } else {
            Fit::Fit
        };
    }
    if form == Form::Ubjson && server.series() < (1, 6) {
        return Fit::Misfit("UBJSON needs 1.6");
    }
    let same_series = model.series() == server.series();
    let pickled = matches!(form, Form::Pickle | Form::Cloudpickle | Form::Skops);
    match (pickled, server >= model) {
        (false, true) => Fit::Fit,
        (true, true) if same_series => Fit::Fit,
        (true, true) => Fit::FitWithRemark("pickles are not promised to load"),
        (_, false) if same_series => Fit::FitWithRemark("an older fix of the same version"),
        (false, false) if server.series() >= (2, 1) => Fit::FitWithRemark("older, but known to answer alike"),
        (_, false) => Fit::Misfit("newer files are not promised to load"),
    }
}

/// Text files: readable within a major version (LightGBM#4407), and tried exact across 3.3.5, 4.3.0 and 4.6.0 in every direction; one file of 3 failed
/// on 4.0.0 (LightGBM#6082). Pickles of 4 fail on 3.3.5.
fn lightgbm(form: Form, model: &Version, server: &Version) -> Fit {
    if model.major() == server.major() {
        return Fit::Fit;
    }
    match form {
        Form::Pickle | Form::Cloudpickle | Form::Skops if model.major() > server.major() => {
            Fit::Misfit("a pickle from a newer major version fails")
        }
        Form::Pickle | Form::Cloudpickle | Form::Skops => Fit::Fit,
        _ => Fit::FitWithRemark("another major version, usually loads"),
    }
}

/// A `SavedModel` loads in later releases of the same major version (tensorflow.org/guide/versions).
fn tensorflow(model: &Version, server: &Version) -> Fit {
    if model.major() != server.major() {
        Fit::Misfit("another major version")
    } else if server.minor() < model.minor() {
        Fit::Misfit("models of later minor versions may not load")
    } else {
        Fit::Fit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn word(fit: Fit) -> &'static str {
        match fit {
            Fit::Fit => "fit",
            Fit::Unknown => "unknown",
            Fit::FitWithRemark(_) => "remark",
            Fit::Misfit(_) => "misfit",
            Fit::WrongAnswers(_) => "wrong",
        }
    }

    #[test]
    fn every_pair_that_was_tried_or_promised() {
        for (package, form, model, server, expected) in [
            ("scikit-learn", Form::Pickle, "1.5.2", "1.5.2", "fit"),
            ("scikit-learn", Form::Pickle, "1.5.1", "1.5.2", "remark"),
            ("scikit-learn", Form::Cloudpickle, "1.4.1.post1", "1.4.2", "remark"),
            ("scikit-learn", Form::Pickle, "1.6.1", "1.5.2", "misfit"),
            ("scikit-learn", Form::Pickle, "1.3.0", "1.5.2", "misfit"),
            ("scikit-learn", Form::Skops, "1.3.0", "1.5.2", "misfit"),
            ("scikit-learn", Form::Pickle, "0.24.2", "1.0.1", "misfit"),
            // 3.1.3 and 3.2.0 in 2.1.4 and 3.0.2: loaded, answered wrongly, in every form.
            ("xgboost", Form::Ubjson, "3.1.3", "2.1.4", "wrong"),
            ("xgboost", Form::Ubjson, "3.1.3", "3.0.2", "wrong"),
            ("xgboost", Form::Own, "3.2.0", "2.1.4", "wrong"),
            ("xgboost", Form::Own, "3.2.0", "3.0.2", "wrong"),
            ("xgboost", Form::Pickle, "3.2.0", "3.0.2", "wrong"),
            ("xgboost", Form::Ubjson, "3.2.0", "1.5.0", "wrong"),
            ("xgboost", Form::Own, "3.1.3", "3.2.0", "fit"),
            ("xgboost", Form::Own, "3.2.0", "3.1.3", "remark"),
            ("xgboost", Form::Own, "2.1.4", "3.1.3", "fit"),
            ("xgboost", Form::Own, "2.1.4", "3.2.0", "fit"),
            ("xgboost", Form::Own, "3.0.2", "3.1.3", "fit"),
            ("xgboost", Form::Own, "3.0.2", "3.2.0", "fit"),
            ("xgboost", Form::Own, "2.1.4", "3.0.2", "fit"),
            ("xgboost", Form::Own, "3.0.2", "2.1.4", "remark"),
            ("xgboost", Form::Own, "1.7.6", "2.1.4", "fit"),
            ("xgboost", Form::Own, "2.1.4", "1.7.6", "misfit"),
            ("xgboost", Form::Own, "2.1.4", "2.1.1", "remark"),
            ("xgboost", Form::Ubjson, "1.6.2", "1.5.0", "misfit"),
            ("xgboost", Form::Ubjson, "2.1.4", "1.5.0", "misfit"),
            ("xgboost", Form::LegacyBinary, "1.7.6", "3.0.5", "fit"),
            ("xgboost", Form::LegacyBinary, "1.7.6", "3.1.3", "misfit"),
            ("xgboost", Form::Pickle, "2.1.4", "2.1.4", "fit"),
            ("xgboost", Form::Pickle, "2.1.4", "3.0.2", "remark"),
            ("xgboost", Form::Pickle, "3.0.2", "2.1.4", "misfit"),
            // Text: all pairs of 3.3.5, 4.3.0, 4.6.0 exact; across majors not certain.
            ("lightgbm", Form::Own, "3.3.5", "3.3.5", "fit"),
            ("lightgbm", Form::Own, "3.3.5", "4.3.0", "remark"),
            ("lightgbm", Form::Own, "4.6.0", "3.3.5", "remark"),
            ("lightgbm", Form::Own, "4.6.0", "4.3.0", "fit"),
            ("lightgbm", Form::Own, "4.3.0", "4.6.0", "fit"),
            ("lightgbm", Form::Pickle, "4.6.0", "3.3.5", "misfit"),
            ("lightgbm", Form::Pickle, "3.3.5", "4.6.0", "fit"),
            ("lightgbm", Form::Pickle, "4.6.0", "4.3.0", "fit"),
            ("tensorflow", Form::Own, "2.14.1", "2.14.0", "fit"),
            ("tensorflow", Form::Own, "2.14.1", "2.15.1", "fit"),
            ("tensorflow", Form::Own, "2.14.1", "2.6.2", "misfit"),
            ("tensorflow", Form::Own, "1.15.0", "2.6.2", "misfit"),
            ("prophet", Form::Own, "1.1.5", "1.1.5", "unknown"),
        ] {
            assert_eq!(
                word(judge(package, form, &version(model), &version(server))),
                expected,
                "{package} {form:?} {model} in {server}"
            );
        }
    }

    #[test]
    fn what_stands_beside_the_package() {
        let numpy = |form, model, server| word(judge_numpy(form, &version(model), &version(server)));
        assert_eq!(numpy(Form::Pickle, "2.0.2", "1.26.4"), "misfit");
        assert_eq!(numpy(Form::Pickle, "1.26.4", "2.0.2"), "fit");
        assert_eq!(numpy(Form::Own, "2.0.2", "1.26.4"), "fit");
        let python = |form, model, server| word(judge_python(form, &version(model), &version(server)));
        assert_eq!(python(Form::Cloudpickle, "3.11.7", "3.10"), "remark");
        assert_eq!(python(Form::Cloudpickle, "3.11.7", "3.11"), "fit");
        assert_eq!(python(Form::Pickle, "3.11.7", "3.10"), "fit");
        assert_eq!(word(judge_mlflow(Form::Skops, &version("2.22.1"))), "misfit");
        assert_eq!(word(judge_mlflow(Form::Skops, &version("3.9.0"))), "fit");
        assert_eq!(word(judge_mlflow(Form::Cloudpickle, &version("2.3.1"))), "fit");
    }

    #[test]
    fn what_python_and_mlflow_can_read() {
        let protocol = |protocol, server| word(judge_protocol(protocol, &version(server)));
        assert_eq!(
            (protocol(5, "3.7"), protocol(5, "3.8"), protocol(5, "3.11")),
            ("misfit", "fit", "fit")
        );
        assert_eq!(
            (protocol(4, "3.7"), protocol(4, "3.3"), protocol(2, "3.3")),
            ("fit", "misfit", "fit")
        );
        let logged = |model, server| word(judge_logged(&version(model), &version(server)));
        assert_eq!(
            (
                logged("3.1.0", "2.22.1"),
                logged("2.22.1", "3.7.0"),
                logged("2.3.0", "2.22.1")
            ),
            ("remark", "fit", "fit")
        );
    }

    #[test]
    fn the_worse_answer_counts() {
        let (wrong, misfit, remark) = (Fit::WrongAnswers("w"), Fit::Misfit("m"), Fit::FitWithRemark("r"));
        assert_eq!(Fit::Fit.and(remark).and(misfit).and(wrong), wrong);
        assert_eq!(wrong.and(Fit::Fit), wrong);
        assert!(remark.is_usable() && !misfit.is_usable() && !Fit::Unknown.is_usable());
    }
}
