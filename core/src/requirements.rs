//! Which packages a model was saved with: `requirements.txt`, `python_env.yaml`, `conda.yaml` beside an `MLmodel`.

mod marker;

use crate::{
    version::Version,
    yaml::{Value, Yaml, YamlError},
};

/// Packages and their versions, in the order of the file; the first of a name that applies counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The Python that was asked for, such as `3.11.7`; from `python_env.yaml` and `conda.yaml`.
    pub python: Option<String>,
    /// Those whose markers hold on Linux, x86-64 and the given Python.
    pub packages: Vec<Requirement>,
    /// Files that the file includes (`-r requirements.txt`), as written. They are not followed.
    pub includes: Vec<String>,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// In `PyPI`'s normal form: lower case, runs of `-_.` as one `-`.
    pub name: String,
    /// The version, where exactly one will do.
    pub exact: Option<Version>,
}

impl Requirements {
    /// Reads a `requirements.txt`. Options, URLs and what can't be read are passed over: they say nothing of versions.
    ///
    /// `python` is the version that markers are judged with; where none is known, a marker that asks for it holds.
    pub fn from_text(text: &str, python: Option<&str>) -> Self {
        let mut requirements = Self::default();
        let mut joined = String::new();
        for line in text.lines() {
            if let Some(start) = line.strip_suffix('\\') {
                joined.push_str(start);
                continue;
            }
            joined.push_str(line);
            requirements.line(&joined, python);
            joined.clear();
        }
        requirements.line(&joined, python);
        requirements
    }

    /// Reads a `python_env.yaml`: `python`, `build_dependencies`, `dependencies`.
    pub fn from_python_env(text: &str) -> Result<Self, YamlError> {
        let yaml = Yaml::parse(text)?;
        let root = yaml.root();
        let python = root.get("python").and_then(Value::text).map(str::to_owned);
        let mut requirements = Self {
            python: python.clone(),
            ..Self::default()
        };
        for line in root
            .get("dependencies")
            .into_iter()
            .flat_map(Value::items)
            .filter_map(Value::text)
        {
            requirements.line(line, python.as_deref());
        }
        Ok(requirements)
    }

    /// Reads a `conda.yaml`: conda's own dependencies and those below `pip`.
    pub fn from_conda(text: &str) -> Result<Self, YamlError> {
        let yaml = Yaml::parse(text)?;
        let dependencies = || yaml.root().get("dependencies").into_iter().flat_map(Value::items);
        let mut requirements = Self::default();
        for (name, version) in dependencies().filter_map(Value::text).filter_map(conda_package) {
            if name == "python" {
                requirements.python = version.map(str::to_owned);
            } else {
                requirements.packages.push(Requirement {
                    name,
                    exact: version.and_then(Version::parse),
                });
            }
        }
        let python = requirements.python.clone();
        for line in dependencies()
            .filter_map(|entry| entry.get("pip"))
            .flat_map(Value::items)
            .filter_map(Value::text)
        {
            requirements.line(line, python.as_deref());
        }
        Ok(requirements)
    }

    /// The version of a package, where the file fixes one.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.packages
            .iter()
            .find(|package| package.name == name)?
            .exact
            .as_ref()
    }

    fn line(&mut self, line: &str, python: Option<&str>) {
        let line = line.trim();
        if let Some(option) = line.strip_prefix("-r").or_else(|| line.strip_prefix("--requirement")) {
            self.includes
                .push(strip_comment(option).trim_start_matches('=').trim().to_owned());
        } else if !line.starts_with('-')
            && let Some(requirement) = requirement(strip_comment(line), python)
        {
            self.packages.push(requirement);
        }
    }
}

/// A `#` starts a comment at the line's start or after a blank; elsewhere it belongs to a URL.
fn strip_comment(line: &str) -> &str {
    let comment = line
        .match_indices('#')
        .find(|(at, _)| *at == 0 || line[..*at].ends_with([' ', '\t']));
    comment.map_or(line, |(at, _)| &line[..at]).trim()
}

fn requirement(line: &str, python: Option<&str>) -> Option<Requirement> {
    let (specification, marker) = match line.split_once(';') {
        Some((specification, marker)) => (specification.trim(), Some(marker)),
        None => (line, None),
    };
    if marker.is_some_and(|marker| marker::holds(marker, python) == Some(false)) {
        return None;
    }
    let end = specification
        .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')))
        .unwrap_or(specification.len());
    let (name, rest) = specification.split_at(end);
    // A URL or a path starts like a name.
    if name.is_empty() || rest.starts_with([':', '/', '+', '\\']) {
        return None;
    }
    let rest = match rest.trim_start().strip_prefix('[') {
        Some(extras) => extras.split_once(']')?.1,
        None => rest,
    };
    let bounds = rest
        .split(" --")
        .next()
        .unwrap_or_default()
        .trim()
        .trim_start_matches('(')
        .trim_end_matches(')');
    let exact = bounds.split(',').find_map(|bound| {
        let version = bound
            .trim()
            .strip_prefix("===")
            .or_else(|| bound.trim().strip_prefix("=="))?;
        Version::parse(version)
    });
    Some(Requirement {
        name: normal_name(name),
        exact,
    })
}

/// `channel::name=version=build`, `name==version`, `name>=1`, `name`. A version of two parts is a prefix to conda, unless it is Python's.
fn conda_package(text: &str) -> Option<(String, Option<&str>)> {
    let text = text.rsplit("::").next().unwrap_or(text).trim();
    let end = text.find(['=', '<', '>', '!', '~', ' ', '[']).unwrap_or(text.len());
    let name = normal_name(&text[..end]);
    if name.is_empty() {
        return None;
    }
    let rest = text[end..].trim_start();
    let version = rest
        .strip_prefix("==")
        .or_else(|| rest.strip_prefix('='))
        .map(|version| version.split('=').next().unwrap_or(version).trim());
    let exact = version.filter(|version| {
        !version.contains('*') && (name == "python" || rest.starts_with("==") || version.matches('.').count() >= 2)
    });
    Some((name, exact))
}

fn normal_name(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for letter in name.chars() {
        if !matches!(letter, '-' | '_' | '.') {
            normal.push(letter.to_ascii_lowercase());
        } else if !normal.ends_with('-') {
            normal.push('-');
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(requirements: &Requirements) -> Vec<String> {
        let show = |package: &Requirement| match &package.exact {
            Some(version) => format!("{} {version}", package.name),
            None => package.name.clone(),
        };
        requirements.packages.iter().map(show).collect()
    }

    #[test]
    fn reads_what_pip_reads() {
        let text = "# made by mlflow\nmlflow==3.17.2\n--extra-index-url https://example.com/simple\n-r more.txt  # there\nscikit_learn [alldeps] == 1.5.2 # pinned\n\
            numpy>=1.26,<3\nxgboost==3.0.2 \\\n    --hash=sha256:abc\npkg @ https://example.com/pkg-1.0-py3-none-any.whl#egg=x\n\
            git+https://example.com/a.git#egg=a\n./local/wheel.whl\ncolorama==0.4.6; sys_platform == 'win32'\n\
            pandas==2.2.3 ; python_version < \"3.11\"\npandas==3.1.1 ; python_version >= \"3.11\"\ntorch==2.1.0+cu121\nclose==1.*\nlast~=1.2";
        let requirements = Requirements::from_text(text, Some("3.11.7"));
        assert_eq!(
            shown(&requirements),
            [
                "mlflow 3.17.2",
                "scikit-learn 1.5.2",
                "numpy",
                "xgboost 3.0.2",
                "pkg",
                "pandas 3.1.1",
                "torch 2.1.0+cu121",
                "close",
                "last"
            ]
        );
        assert_eq!(requirements.includes, ["more.txt"]);
        assert_eq!(
            requirements.version("pandas").map(ToString::to_string).as_deref(),
            Some("3.1.1")
        );
        let older = Requirements::from_text(text, Some("3.10.12"));
        assert_eq!(
            older.version("pandas").map(ToString::to_string).as_deref(),
            Some("2.2.3")
        );
    }

    #[test]
    fn reads_python_env() {
        let text = "python: 3.11.7\nbuild_dependencies:\n- pip==23.2.1\n- setuptools\ndependencies:\n- -r requirements.txt\n- numpy==1.26.4\n";
        let requirements = Requirements::from_python_env(text).unwrap();
        assert_eq!(
            (requirements.python.as_deref(), shown(&requirements)),
            (Some("3.11.7"), vec!["numpy 1.26.4".to_owned()])
        );
        assert_eq!(requirements.includes, ["requirements.txt"]);
        assert_eq!(Requirements::from_python_env("python: [").unwrap_err().line, 1);
    }

    #[test]
    fn reads_conda() {
        let text = "channels:\n- conda-forge\ndependencies:\n- python=3.10\n- pip<=23\n- conda-forge::lightgbm=4.3.0=py310_0\n- numpy=1.26\n- scikit-learn==1.5.2\n- pip:\n  - xgboost==3.0.2\n  - colorama; sys_platform == \"win32\"\nname: mlflow-env\n";
        let requirements = Requirements::from_conda(text).unwrap();
        assert_eq!(requirements.python.as_deref(), Some("3.10"));
        assert_eq!(
            shown(&requirements),
            ["pip", "lightgbm 4.3.0", "numpy", "scikit-learn 1.5.2", "xgboost 3.0.2"]
        );
    }
}
