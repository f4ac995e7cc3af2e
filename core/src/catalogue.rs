//! The runtime catalogue: which package versions a model server's image holds.
//!
//! The table is data: `core/data/catalogue.yaml`, which also documents its form. An admin extends or replaces it with a `ConfigMap` of the same form.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::OnceLock,
};

use serde::Deserialize;

use crate::image::canonical_repository;

/// A longer chain of `like` is a circle, or close to one.
const MAX_LIKE: usize = 8;

/// Repositories and their releases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    repositories: HashMap<String, Repository>,
    /// Names of all packages in a repository's images, where they are known.
    holds: HashMap<String, BTreeSet<String>>,
}

/// One release of an image, with the packages that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release<'a> {
    /// The tag.
    pub tag: &'a str,
    /// Minor version of the image's Python, such as `3.11`; empty where unknown or where there is none.
    pub python: &'a str,
    /// In the order in which they were asked for.
    pub packages: Vec<PackageVersion<'a>>,
    /// The architectures that the image is built for, as in `kubernetes.io/arch`; empty where unknown.
    pub architectures: &'a [String],
}

/// What is known of one package in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageVersion<'a> {
    /// As on `PyPI`.
    pub name: &'a str,
    /// A version, or bounds such as `>=2.0,<3`.
    pub version: &'a str,
    /// A lock file fixes the version. Else it is what the build most likely resolved to, or bounds.
    pub exact: bool,
}

/// Why a catalogue can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not YAML, a field that doesn't exist, or a value of another type; the parser's error knows line and column.
    #[error("the catalogue can't be read: {}", .0.without_snippet())]
    Yaml(Box<serde_saphyr::Error>),
    /// Written for another version of Tidewaiter.
    #[error("the catalogue says schema: {0}; this version reads schema: 1")]
    Schema(u32),
    /// Two entries of one repository in one file.
    #[error("the catalogue lists repository {0} twice; Docker Hub's short and long names mean the same repository")]
    RepositoryTwice(String),
    /// Two releases with one tag.
    #[error("the catalogue lists tag {tag} of {repository} twice")]
    TagTwice {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
    },
    /// Neither, both, or `tags` without `like`.
    #[error("repository {0} needs either `releases` or `like` (and `tags` only beside `like`)")]
    ReleasesOrLike(String),
}

/// Own tag to the tag that it stands for.
type TagMap = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repository {
    Releases(Vec<Entry>),
    Like {
        repository: String,
        tags: Option<TagMap>,
        /// Where a mirror has not all that the repository has; empty where it does.
        architectures: Vec<String>,
    },
}

/// What one tag holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    tag: String,
    python: String,
    packages: BTreeMap<String, (String, bool)>,
    architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    repositories: Vec<FileRepository>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRepository {
    name: String,
    #[serde(default, rename = "source")]
    _source: Option<String>,
    #[serde(default)]
    variants: Vec<String>,
    #[serde(default)]
    architectures: Vec<String>,
    releases: Option<Vec<FileRelease>>,
    #[serde(default)]
    holds: BTreeSet<String>,
    like: Option<String>,
    tags: Option<TagMap>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRelease {
    tags: Vec<String>,
    #[serde(default)]
    python: String,
    #[serde(default)]
    packages: BTreeMap<String, String>,
    #[serde(default)]
    expected: BTreeMap<String, String>,
    architectures: Option<Vec<String>>,
}

impl Catalogue {
    /// The table that comes with Tidewaiter; read once.
    ///
    /// # Panics
    ///
    /// Never in a build whose tests passed: the table is part of the program.
    pub fn built_in() -> &'static Self {
        static BUILT_IN: OnceLock<Catalogue> = OnceLock::new();
        BUILT_IN.get_or_init(|| match Self::parse(include_str!("../data/catalogue.yaml")) {
            Ok(catalogue) => catalogue,
            Err(error) => unreachable!("{error}"),
        })
    }

    /// Reads a catalogue file. Unknown fields are refused.
    pub fn parse(yaml: &str) -> Result<Self, CatalogueError> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| CatalogueError::Yaml(Box::new(error)))?;
        if file.schema != 1 {
            return Err(CatalogueError::Schema(file.schema));
        }
        let mut repositories = HashMap::with_capacity(file.repositories.len());
        let mut holds = HashMap::new();
        for repository in file.repositories {
            let name = canonical_repository(&repository.name);
            let value = match (repository.releases, repository.like, repository.tags) {
                (Some(releases), None, None) => Repository::Releases(entries(
                    &name,
                    releases,
                    &repository.variants,
                    &repository.architectures,
                )?),
                (None, Some(like), tags) => Repository::Like {
                    repository: canonical_repository(&like),
                    tags,
                    architectures: repository.architectures,
                },
                _ => return Err(CatalogueError::ReleasesOrLike(name)),
            };
            if !repository.holds.is_empty() {
                holds.insert(name.clone(), repository.holds);
            }
            if repositories.insert(name.clone(), value).is_some() {
                return Err(CatalogueError::RepositoryTwice(name));
            }
        }
        Ok(Self { repositories, holds })
    }

    /// Adds another catalogue to this one. Where both list releases of a repository, the other's replace those with the same tag and the rest
    /// is added behind; in every other case the other's entry stands in for ours.
    pub fn extend(&mut self, other: Self) {
        for (name, holds) in other.holds {
            self.holds.entry(name).or_default().extend(holds);
        }
        for (name, theirs) in other.repositories {
            match (self.repositories.get_mut(&name), theirs) {
                (Some(Repository::Releases(ours)), Repository::Releases(theirs)) => {
                    for entry in theirs {
                        match ours.iter_mut().find(|own| own.tag == entry.tag) {
                            Some(own) => *own = entry,
                            None => ours.push(entry),
                        }
                    }
                }
                (_, theirs) => {
                    self.repositories.insert(name, theirs);
                }
            }
        }
    }

    /// Entries that lead nowhere: a `like` whose repository isn't listed, or that goes in a circle. One sentence each.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems: Vec<_> = self
            .repositories
            .iter()
            .filter_map(|(name, repository)| match repository {
                Repository::Like { repository: like, .. } if self.resolve(name).is_none() => Some((
                    name.clone(),
                    format!("repository {name} is like {like}, which the catalogue doesn't know, or which is like {name} itself"),
                )),
                _ => None,
            })
            .collect();
        problems.sort();
        problems
    }

    /// Every package that a repository's releases name, with the repository; as often as they name it.
    pub fn packages(&self) -> impl Iterator<Item = (&str, &str)> {
        self.repositories.iter().flat_map(|(name, repository)| {
            let entries = match repository {
                Repository::Releases(entries) => entries.as_slice(),
                Repository::Like { .. } => &[],
            };
            let packages = entries.iter().flat_map(|entry| entry.packages.keys());
            packages.map(move |package| (name.as_str(), package.as_str()))
        })
    }

    /// Whether the images of a repository are known to be without this package (as `PyPI` normalises its name): all that is in them is known, and it isn't there.
    pub fn lacks(&self, repository: &str, package: &str) -> bool {
        let mut name = canonical_repository(repository);
        for _ in 0..MAX_LIKE {
            match self.repositories.get(&name) {
                Some(Repository::Like { repository, .. }) if !self.holds.contains_key(&name) => {
                    name.clone_from(repository)
                }
                Some(Repository::Releases(entries))
                    if entries.iter().any(|entry| entry.packages.contains_key(package)) =>
                {
                    return false;
                }
                _ => return self.holds.get(&name).is_some_and(|holds| !holds.contains(package)),
            }
        }
        false
    }

    /// Whether the catalogue has an entry of this repository, with releases or without; by its canonical name.
    pub fn lists(&self, repository: &str) -> bool {
        self.repositories.contains_key(repository)
    }

    /// Whether the catalogue has releases of this repository.
    pub fn knows(&self, repository: &str) -> bool {
        self.resolve(&canonical_repository(repository)).is_some()
    }

    /// The releases of a repository, oldest first, each with those of these packages that it holds. Empty where the repository isn't known.
    /// A mirror with own tags lists them in the order of the releases that they stand for.
    pub fn releases(&self, repository: &str, packages: &[impl AsRef<str>]) -> Vec<Release<'_>> {
        let Some(Resolved {
            entries,
            maps,
            architectures,
        }) = self.resolve(&canonical_repository(repository))
        else {
            return Vec::new();
        };
        if maps.is_empty() {
            return entries
                .iter()
                .map(|entry| release(&entry.tag, entry, architectures, packages))
                .collect();
        }
        // The repository's own tags lead, map by map, to tags of the repository with releases.
        let mut found = Vec::new();
        for entry in entries {
            // A digest says what an image is, and is no tag that one could be pinned to.
            for own in maps[0].keys().filter(|own| !own.contains(':')) {
                let target = maps.iter().try_fold(own, |tag, map| map.get(tag));
                if target == Some(&entry.tag) {
                    found.push(release(own, entry, architectures, packages));
                }
            }
        }
        found
    }

    /// The release of a repository by its tag, or by a digest that its `tags` map, with those of these packages that it holds.
    pub fn release<'a>(&'a self, repository: &str, tag: &str, packages: &[impl AsRef<str>]) -> Option<Release<'a>> {
        let Resolved {
            entries,
            maps,
            architectures,
        } = self.resolve(&canonical_repository(repository))?;
        let target = maps.iter().try_fold(tag, |tag, map| map.get(tag).map(String::as_str))?;
        let entry = entries.iter().find(|entry| entry.tag == target)?;
        // A repository's own tag is the one that was asked for, as the catalogue holds it.
        let own = match maps.first() {
            Some(map) => map.get_key_value(tag)?.0,
            None => &entry.tag,
        };
        Some(release(own, entry, architectures, packages))
    }

    /// The releases behind a repository's name, and what was said on the way to them.
    fn resolve(&self, name: &str) -> Option<Resolved<'_>> {
        let mut maps = Vec::new();
        let mut said: &[String] = &[];
        let mut name = name;
        for _ in 0..MAX_LIKE {
            match self.repositories.get(name)? {
                Repository::Releases(entries) => {
                    return Some(Resolved {
                        entries,
                        maps,
                        architectures: said,
                    });
                }
                Repository::Like {
                    repository,
                    tags,
                    architectures,
                } => {
                    maps.extend(tags);
                    if said.is_empty() {
                        said = architectures;
                    }
                    name = repository;
                }
            }
        }
        None
    }
}

/// The releases behind a repository's name.
struct Resolved<'a> {
    entries: &'a [Entry],
    /// From the repository's own tags to those of `entries`, one after the other.
    maps: Vec<&'a TagMap>,
    /// What mirrors on the way say of themselves; empty where they say nothing.
    architectures: &'a [String],
}

fn release<'a>(tag: &'a str, entry: &'a Entry, mirrored: &'a [String], packages: &[impl AsRef<str>]) -> Release<'a> {
    let packages = packages
        .iter()
        .filter_map(|name| entry.packages.get_key_value(name.as_ref()))
        .map(|(name, (version, exact))| PackageVersion {
            name,
            version,
            exact: *exact,
        })
        .collect();
    Release {
        tag,
        python: &entry.python,
        packages,
        architectures: if mirrored.is_empty() {
            &entry.architectures
        } else {
            mirrored
        },
    }
}

fn entries(
    repository: &str,
    releases: Vec<FileRelease>,
    variants: &[String],
    architectures: &[String],
) -> Result<Vec<Entry>, CatalogueError> {
    let mut entries: Vec<Entry> = Vec::new();
    for release in releases {
        let is_exact = |version: &str| version.starts_with(|first: char| first.is_ascii_digit());
        let packages: BTreeMap<_, _> = release
            .expected
            .into_iter()
            .map(|(name, version)| (name, (version, false)))
            .chain(
                release
                    .packages
                    .into_iter()
                    .map(|(name, version)| (name, (version.clone(), is_exact(&version)))),
            )
            .collect();
        for tag in release.tags {
            for ending in std::iter::once("").chain(variants.iter().map(String::as_str)) {
                let tag = format!("{tag}{ending}");
                if entries.iter().any(|entry| entry.tag == tag) {
                    return Err(CatalogueError::TagTwice {
                        repository: repository.to_owned(),
                        tag,
                    });
                }
                entries.push(Entry {
                    tag,
                    python: release.python.clone(),
                    packages: packages.clone(),
                    architectures: release.architectures.as_deref().unwrap_or(architectures).to_vec(),
                });
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_lacks_is_known_where_all_that_it_holds_is() {
        let built_in = Catalogue::built_in();
        for (repository, package, lacks) in [
            ("seldonio/mlserver", "imbalanced-learn", true),
            ("docker.io/seldonio/mlserver", "scikit-learn", false),
            ("docker.io/seldonio/mlserver", "cloudpickle", false),
            ("docker.io/seldonio/mlserver", "torch", false),
            // Nobody has listed what is in these.
            ("docker.io/kserve/sklearnserver", "imbalanced-learn", false),
            ("registry.example/any", "imbalanced-learn", false),
        ] {
            assert_eq!(built_in.lacks(repository, package), lacks, "{repository} {package}");
        }
        let mut catalogue = built_in.clone();
        let own = "schema: 1\nrepositories:\n  - name: own/mlserver\n    like: seldonio/mlserver\n  - name: own/fat\n    like: seldonio/mlserver\n    holds: [imbalanced-learn]\n";
        catalogue.extend(Catalogue::parse(own).unwrap());
        assert!(catalogue.lacks("own/mlserver", "imbalanced-learn"));
        assert!(!catalogue.lacks("own/fat", "imbalanced-learn"));
    }

    fn versions(catalogue: &Catalogue, repository: &str, tag: &str, package: &str) -> Option<(String, bool)> {
        let releases = catalogue.releases(repository, &[package]);
        let release = releases.iter().find(|release| release.tag == tag)?;
        release
            .packages
            .first()
            .map(|package| (package.version.to_owned(), package.exact))
    }

    #[test]
    fn the_built_in_table_holds_what_its_sources_say() {
        let table = Catalogue::built_in();
        for (repository, tag, package, version, exact) in [
            ("kserve/xgbserver", "v0.20.0", "xgboost", "2.1.4", true),
            (
                "docker.io/kserve/sklearnserver",
                "v0.14.1",
                "scikit-learn",
                "1.5.1",
                true,
            ),
            ("kserve/lgbserver", "v0.13.1", "lightgbm", "3.3.5", true),
            ("seldonio/mlserver", "1.7.1", "xgboost", "3.0.2", false),
            ("seldonio/mlserver", "1.5.0", "scikit-learn", "1.4.1.post1", true),
            ("kserve/autogluonserver", "v0.20.0", "xgboost", "3.1.3", true),
            ("tensorflow/serving", "2.15.1-gpu", "tensorflow", "2.15.1", false),
        ] {
            assert_eq!(
                versions(table, repository, tag, package),
                Some((version.into(), exact)),
                "{repository}:{tag} {package}"
            );
        }
        assert!(table.problems().is_empty());
        assert!(table.releases("docker.io/somebody/else", &["xgboost"]).is_empty());
        assert!(!table.knows("docker.io/somebody/else"));
    }

    #[test]
    fn a_release_is_found_by_its_tag_as_among_all() {
        let mut table = Catalogue::built_in().clone();
        let own = "schema: 1\nrepositories: [{name: r.local/ml, like: docker.io/seldonio/mlserver, tags: {a: 1.7.1, b: 1.5.0}}]";
        table.extend(Catalogue::parse(own).unwrap());
        for (repository, packages) in [
            ("kserve/xgbserver", &["numpy", "xgboost"][..]),
            ("docker.io/seldonio/mlserver", &["mlflow"]),
            ("r.local/ml", &["xgboost"]),
        ] {
            let releases = table.releases(repository, packages);
            assert!(!releases.is_empty());
            for release in releases {
                assert_eq!(table.release(repository, release.tag, packages), Some(release));
            }
        }
        for (repository, tag) in [("r.local/ml", "1.7.1"), ("kserve/xgbserver", "v9"), ("none", "a")] {
            assert_eq!(table.release(repository, tag, &["xgboost"]), None);
        }
    }

    #[test]
    fn releases_are_oldest_first_and_carry_only_what_was_asked() {
        let releases = Catalogue::built_in().releases("kserve/xgbserver", &["numpy", "catboost", "xgboost"]);
        assert_eq!(
            (releases[0].tag, releases.last().map(|last| last.tag)),
            ("v0.7.0", Some("v0.20.0"))
        );
        assert_eq!(
            releases
                .last()
                .map(|last| (last.python, last.packages.iter().map(|p| p.name).collect())),
            Some(("3.11", vec!["numpy", "xgboost"]))
        );
    }

    #[test]
    fn every_version_of_the_built_in_table_is_a_version_or_bounds() {
        for repository in Catalogue::built_in().repositories.values() {
            let Repository::Releases(entries) = repository else {
                continue;
            };
            for (name, (version, exact)) in entries.iter().flat_map(|entry| &entry.packages) {
                let bounds = version.starts_with(['<', '>', '~', '=', '!']);
                assert!(
                    bounds != crate::version::Version::parse(version).is_some(),
                    "{name} {version}"
                );
                assert!(!(bounds && *exact), "{name} {version}");
            }
        }
    }

    #[test]
    fn an_admin_adds_releases_replaces_tags_and_maps_a_private_repository() {
        let mut catalogue = Catalogue::built_in().clone();
        let ours = r#"
schema: 1
repositories:
  - name: docker.io/seldonio/mlserver
    releases:
      - {tags: ["1.7.1"], python: "3.10", packages: {xgboost: "3.0.5"}}
      - {tags: ["1.8.0"], python: "3.12", packages: {xgboost: "3.2.0"}}
  - name: registry.local:5000/ml/mlserver
    like: seldonio/mlserver
    tags: {"2026-2": "1.8.0", "2026-1": "1.7.1", "old": "9.9.9"}
  - name: mirror.local/seldonio/mlserver
    like: docker.io/seldonio/mlserver
"#;
        catalogue.extend(Catalogue::parse(ours).unwrap());
        assert_eq!(
            versions(&catalogue, "seldonio/mlserver", "1.7.1", "xgboost"),
            Some(("3.0.5".into(), true))
        );
        assert_eq!(
            versions(&catalogue, "seldonio/mlserver", "1.5.0", "xgboost"),
            Some(("2.0.3".into(), true))
        );
        assert_eq!(
            versions(&catalogue, "mirror.local/seldonio/mlserver", "1.8.0", "xgboost"),
            Some(("3.2.0".into(), true))
        );
        let own = catalogue.releases("registry.local:5000/ml/mlserver", &["xgboost"]);
        assert_eq!(
            own.iter().map(|release| release.tag).collect::<Vec<_>>(),
            ["2026-1", "2026-2"]
        );
        assert!(catalogue.problems().is_empty());
    }

    #[test]
    fn architectures_are_those_of_the_release_or_of_its_mirror() {
        let mut catalogue = Catalogue::built_in().clone();
        let own = "schema: 1\nrepositories:\n  - {name: r.local/part, like: kserve/xgbserver, architectures: [arm64]}\n  - {name: r.local/all, like: kserve/xgbserver}";
        catalogue.extend(Catalogue::parse(own).unwrap());
        let architectures = |repository: &str, tag: &str| {
            let release = catalogue.release(repository, tag, &[""; 0]).unwrap();
            release.architectures.join(" ")
        };
        for (repository, tag, expected) in [
            ("kserve/xgbserver", "v0.20.0", "amd64 arm64"),
            ("kserve/xgbserver", "v0.15.0", "amd64"),
            ("kserve/paddleserver", "v0.12.1", "amd64"),
            ("seldonio/mlserver", "1.7.1-xgboost", "amd64"),
            ("pytorch/torchserve-kfs", "0.12.0", "amd64 arm64"),
            ("nvcr.io/nvidia/tritonserver", "25.12-py3", ""),
            ("r.local/part", "v0.20.0", "arm64"),
            ("r.local/all", "v0.15.0", "amd64"),
        ] {
            assert_eq!(architectures(repository, tag), expected, "{repository}:{tag}");
        }
    }

    #[test]
    fn a_digest_that_an_admin_maps_is_known_and_no_tag() {
        let own = "schema: 1\nrepositories: [{name: r.local/ml, like: seldonio/mlserver, tags: {'sha256:0a': 1.7.1, b: 1.5.0}}]";
        let mut catalogue = Catalogue::built_in().clone();
        catalogue.extend(Catalogue::parse(own).unwrap());
        let release = catalogue.release("r.local/ml", "sha256:0a", &["mlflow"]).unwrap();
        assert_eq!(release.packages[0].version, "2.22.1");
        let tags: Vec<&str> = catalogue
            .releases("r.local/ml", &[""; 0])
            .iter()
            .map(|release| release.tag)
            .collect();
        assert_eq!(tags, ["b"]);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |yaml: &str| Catalogue::parse(yaml).unwrap_err().to_string();
        assert!(error("schema: 2\nrepositories: []").contains("schema: 2"));
        assert!(error("schema: 1\nrepositories: [{name: a, releases: [], relases: []}]").contains("relases"));
        assert!(error("schema: 1\nrepositories: [{name: a}]").contains("docker.io/library/a needs either"));
        assert!(
            error("schema: 1\nrepositories: [{name: x/a, releases: []}, {name: docker.io/x/a, releases: []}]")
                .contains("docker.io/x/a twice")
        );
        assert!(
            error("schema: 1\nrepositories: [{name: x/a, releases: [{tags: [v1]}, {tags: [v1]}]}]")
                .contains("tag v1 of docker.io/x/a twice")
        );
        assert!(error("schema: [").contains("can't be read"));
    }

    #[test]
    fn a_like_that_leads_nowhere_is_a_problem_and_has_no_releases() {
        let yaml = "schema: 1\nrepositories:\n- {name: x/a, like: x/b}\n- {name: x/b, like: x/a}\n- {name: x/c, like: x/nowhere}";
        let catalogue = Catalogue::parse(yaml).unwrap();
        let problems = catalogue.problems();
        let about: Vec<&str> = problems.iter().map(|(repository, _)| repository.as_str()).collect();
        assert_eq!(about, ["docker.io/x/a", "docker.io/x/b", "docker.io/x/c"]);
        assert!(catalogue.lists("docker.io/x/a"));
        assert!(catalogue.releases("x/a", &["xgboost"]).is_empty());
    }
}
