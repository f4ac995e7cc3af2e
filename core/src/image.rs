//! Container image references, as far as telling one server's image from another's needs.

use std::fmt;

/// Repositories whose images for a GPU carry `-gpu` behind the tag. KServe appends it where no `runtimeVersion` is set, and takes one that is set as it is
/// (`UpdateImageTag`, 0.15 to 0.20).
const GPU_VARIANTS: [&str; 3] = [
    "docker.io/tensorflow/serving",
    "docker.io/pytorch/torchserve-kfs",
    "docker.io/kserve/huggingfaceserver",
];

/// The tag of the image for a GPU, where the repository, written out, has such beside this one for the CPU.
pub fn gpu_tag(repository: &str, tag: &str) -> Option<String> {
    let varies = !tag.ends_with("-gpu") && GPU_VARIANTS.contains(&repository);
    varies.then(|| format!("{tag}-gpu"))
}

/// An image reference split where KServe splits it: repository, tag, digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    /// With its registry; Docker Hub's short forms are written out (`kserve/xgbserver` is `docker.io/kserve/xgbserver`), so that two names of
    /// one repository compare equal.
    pub repository: String,
    /// `latest` where the reference has neither tag nor digest; none where it has a digest, which a tag beside it doesn't change.
    pub tag: Option<String>,
    /// Such as `sha256:…`.
    pub digest: Option<String>,
}

impl Image {
    /// Splits a reference. Every text is some reference; what a registry would refuse is not looked for.
    pub fn parse(reference: &str) -> Self {
        let (name, digest) = match reference.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (reference, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[path_start..].split_once(':') {
            Some((path, tag)) => (&name[..path_start + path.len()], Some(tag)),
            None => (name, None),
        };
        let tag = if digest.is_some() {
            None
        } else {
            Some(tag.filter(|tag| !tag.is_empty()).unwrap_or("latest").to_owned())
        };
        Self {
            repository: canonical_repository(repository),
            tag,
            digest,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The one spelling of a repository: Docker Hub's short and old forms become `docker.io/…`, a single name its `library/…`.
pub fn canonical_repository(repository: &str) -> String {
    let (registry, path) = match repository.split_once('/') {
        // The first part is a registry where it can't be a Docker Hub user: the rule of every container engine.
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", repository),
    };
    let registry = match registry {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io",
        other => other,
    };
    if registry == "docker.io" && !path.contains('/') {
        format!("docker.io/library/{path}")
    } else {
        format!("{registry}/{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_references_as_container_engines_do() {
        for (reference, repository, tag, digest) in [
            (
                "kserve/xgbserver:v0.20.0",
                "docker.io/kserve/xgbserver",
                Some("v0.20.0"),
                None,
            ),
            (
                "docker.io/seldonio/mlserver:1.7.1",
                "docker.io/seldonio/mlserver",
                Some("1.7.1"),
                None,
            ),
            (
                "index.docker.io/seldonio/mlserver",
                "docker.io/seldonio/mlserver",
                Some("latest"),
                None,
            ),
            (
                "registry.local:5000/ml/mlserver",
                "registry.local:5000/ml/mlserver",
                Some("latest"),
                None,
            ),
            (
                "registry.local:5000/ml/mlserver:2",
                "registry.local:5000/ml/mlserver",
                Some("2"),
                None,
            ),
            ("localhost/mlserver:2", "localhost/mlserver", Some("2"), None),
            ("busybox", "docker.io/library/busybox", Some("latest"), None),
            (
                "nvcr.io/nvidia/tritonserver:23.05-py3",
                "nvcr.io/nvidia/tritonserver",
                Some("23.05-py3"),
                None,
            ),
            (
                "kserve/xgbserver@sha256:ab",
                "docker.io/kserve/xgbserver",
                None,
                Some("sha256:ab"),
            ),
            (
                "kserve/xgbserver:v1@sha256:ab",
                "docker.io/kserve/xgbserver",
                None,
                Some("sha256:ab"),
            ),
        ] {
            let image = Image::parse(reference);
            assert_eq!(
                (image.repository.as_str(), image.tag.as_deref(), image.digest.as_deref()),
                (repository, tag, digest),
                "{reference}"
            );
        }
    }

    #[test]
    fn canonical_form_is_its_own_canonical_form() {
        for repository in [
            "kserve/xgbserver",
            "busybox",
            "registry.local:5000/x",
            "a/b/c",
            "index.docker.io/library/busybox",
        ] {
            let once = canonical_repository(repository);
            assert_eq!(canonical_repository(&once), once);
        }
    }
}
