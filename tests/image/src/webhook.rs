//! What the image of the webhook holds, and what is said about it.

use std::collections::BTreeMap;

use crate::layer::{File, Layer};
use crate::oci::{Architecture, Attachment, Image};
use crate::source::{self, Commit};
use crate::{binary, roots};

/// As the chart's default values have it, whole: a node that imported the image then asks no registry for it.
pub const REPOSITORY: &str = "docker.io/tidewaiter/tidewaiter-webhook";

/// The id that images from scratch commonly give to a user who is nobody. No file belongs to it.
const USER: &str = "65532:65532";

/// The program and its compiled policies beside the certificate authorities, and `extra` files, such as the libraries of a program that isn't static.
pub fn image(
    architecture: Architecture,
    program: Vec<u8>,
    policies: Vec<File>,
    mut extra: Vec<File>,
    attachments: Vec<Attachment>,
) -> Image {
    extra.push(File::executable(binary::PACKAGE, program));
    Image {
        architecture,
        // The lower layer is the same for all architectures, and from one release to the next unless Mozilla's list has changed.
        layers: vec![
            Layer {
                what: "certificate authorities that Mozilla trusts".to_owned(),
                files: vec![roots::file()],
            },
            Layer {
                what: "compiled policies".to_owned(),
                files: policies,
            },
            Layer {
                what: binary::PACKAGE.to_owned(),
                files: extra,
            },
        ],
        entrypoint: vec![format!("/{}", binary::PACKAGE)],
        user: USER.to_owned(),
        ports: vec!["8443/tcp".to_owned()],
        attachments,
    }
}

/// The specification's labels, as far as they are known.
pub fn labels(commit: Option<&Commit>) -> BTreeMap<String, String> {
    let mut labels = vec![
        ("title", binary::PACKAGE),
        (
            "description",
            "Admission webhook that gives KServe InferenceServices their storage credentials and runtime versions",
        ),
        ("version", source::VERSION),
        ("licenses", source::LICENCE),
    ];
    if let Some(commit) = commit {
        labels.push(("revision", &commit.revision));
    }
    // Empty until the packages name it.
    if !source::REPOSITORY.is_empty() {
        labels.push(("source", source::REPOSITORY));
    }
    let label = |(name, value): (&str, &str)| (format!("org.opencontainers.image.{name}"), value.to_owned());
    labels.into_iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_one_program_with_the_roots_beside_it_and_runs_as_nobody() {
        let image = image(
            Architecture::Amd64,
            b"program".to_vec(),
            vec![File::readable("policy", Vec::new())],
            Vec::new(),
            Vec::new(),
        );
        let files: Vec<_> = image
            .layers
            .iter()
            .flat_map(|layer| &layer.files)
            .map(|file| (file.path.as_str(), file.mode))
            .collect();
        assert_eq!(
            files,
            [(roots::PATH, 0o644), ("policy", 0o644), ("tidewaiter-webhook", 0o755)]
        );
        assert_eq!(image.entrypoint, ["/tidewaiter-webhook"]);
        assert_eq!(image.user, "65532:65532");
    }

    #[test]
    fn labels_say_what_is_known() {
        let commit = Commit {
            revision: "f00".to_owned(),
            time: 0,
        };
        let known = labels(Some(&commit));
        assert_eq!(known["org.opencontainers.image.revision"], "f00");
        assert_eq!(known["org.opencontainers.image.licenses"], "Apache-2.0");
        assert_eq!(labels(None).len(), known.len() - 1);
        assert!(known.values().all(|value| !value.is_empty()));
    }
}
