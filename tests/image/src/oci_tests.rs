use std::io::Read;

use serde_json::{Value, json};

use super::*;
use crate::layer::File;

fn release() -> Release {
    let image = |architecture: Architecture| Image {
        architecture,
        layers: vec![
            Layer {
                what: "roots".to_owned(),
                files: vec![File::readable("etc/roots", b"shared".to_vec())],
            },
            Layer {
                what: "the program".to_owned(),
                files: vec![
                    File::executable("program", architecture.name().as_bytes().to_vec()),
                    File::readable("extra/file", b"more".to_vec()),
                ],
            },
        ],
        entrypoint: vec!["/program".to_owned()],
        user: "65532:65532".to_owned(),
        ports: vec!["8443/tcp".to_owned()],
        attachments: vec![
            Attachment {
                kind: "application/vnd.cyclonedx+json".to_owned(),
                file: "sbom.cdx.json".to_owned(),
                content: format!("parts of {}", architecture.name()).into_bytes(),
            },
            Attachment {
                kind: "application/spdx+json".to_owned(),
                file: "sbom.spdx.json".to_owned(),
                content: b"the same".to_vec(),
            },
        ],
    };
    Release {
        repository: "example.org/house/program".to_owned(),
        tag: "1.2.3".to_owned(),
        created: 1_700_000_000,
        labels: [("org.opencontainers.image.version".to_owned(), "1.2.3".to_owned())].into(),
        images: Architecture::ALL.map(image).to_vec(),
    }
}

fn follow(blobs: &Blobs, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().expect("a digest");
    let bytes = &blobs.by_digest[digest.strip_prefix("sha256:").expect("SHA-256")];
    assert_eq!(descriptor["size"], json!(bytes.len()));
    assert_eq!(super::digest(bytes), digest);
    bytes.clone()
}

fn document(blobs: &Blobs, descriptor: &Value) -> Value {
    let document: Value = serde_json::from_slice(&follow(blobs, descriptor)).expect("JSON");
    if document["mediaType"].is_string() {
        assert_eq!(document["mediaType"], descriptor["mediaType"]);
    }
    document
}

/// The release's index, behind the one entry of `index.json`.
fn index(blobs: &Blobs) -> Value {
    let layout: Value = serde_json::from_slice(&blobs.index).expect("JSON");
    let entries = layout["manifests"].as_array().expect("entries");
    assert_eq!(entries.len(), 1, "whoever is given a layout takes the one image in it");
    assert_eq!(entries[0]["digest"], json!(blobs.digest));
    document(blobs, &entries[0])
}

#[test]
fn every_digest_and_size_is_that_of_a_blob_and_no_blob_is_left_over() {
    let blobs = release().blobs().expect("blobs");
    let mut seen = vec![blobs.digest.clone()];
    for manifest in index(&blobs)["manifests"].as_array().expect("manifests") {
        let document = document(&blobs, manifest);
        let layers = document["layers"].as_array().expect("layers").clone();
        for blob in layers.iter().chain([&document["config"], manifest]) {
            follow(&blobs, blob);
            seen.push(blob["digest"].as_str().expect("a digest").to_owned());
        }
    }
    seen.sort();
    seen.dedup();
    let stored: Vec<_> = blobs
        .by_digest
        .keys()
        .map(|digits| format!("sha256:{digits}"))
        .collect();
    assert_eq!(seen, stored);
}

#[test]
fn diff_ids_are_the_digests_of_the_layers_unpacked() {
    let blobs = release().blobs().expect("blobs");
    for manifest in &index(&blobs)["manifests"].as_array().expect("manifests")[..2] {
        let image = document(&blobs, manifest);
        let config = document(&blobs, &image["config"]);
        let unpacked: Vec<_> = image["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .map(|layer| {
                let mut tar = Vec::new();
                flate2::read::GzDecoder::new(follow(&blobs, layer).as_slice())
                    .read_to_end(&mut tar)
                    .expect("gzip");
                super::digest(&tar)
            })
            .collect();
        assert_eq!(config["rootfs"]["diff_ids"], json!(unpacked));
        assert_eq!(config["architecture"], manifest["platform"]["architecture"]);
        assert_eq!(
            config["config"],
            json!({
                "User": "65532:65532",
                "ExposedPorts": {"8443/tcp": {}},
                "Entrypoint": ["/program"],
                "WorkingDir": "/",
                "Labels": {
                    "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
                    "org.opencontainers.image.version": "1.2.3",
                },
            })
        );
    }
}

#[test]
fn an_attachment_names_the_image_it_is_about_and_is_no_image_for_any_node() {
    let blobs = release().blobs().expect("blobs");
    let index = index(&blobs);
    let manifests = index["manifests"].as_array().expect("manifests");
    let platforms: Vec<_> = manifests
        .iter()
        .map(|manifest| manifest["platform"]["architecture"].as_str().expect("a platform"))
        .collect();
    assert_eq!(
        platforms,
        ["amd64", "arm64", "unknown", "unknown", "unknown", "unknown"]
    );
    for (position, about, kind, content) in [
        (2, 0, "application/spdx+json", "the same"),
        (3, 0, "application/vnd.cyclonedx+json", "parts of amd64"),
        (4, 1, "application/spdx+json", "the same"),
        (5, 1, "application/vnd.cyclonedx+json", "parts of arm64"),
    ] {
        let attachment = document(&blobs, &manifests[position]);
        assert_eq!(attachment["subject"]["digest"], manifests[about]["digest"]);
        assert_eq!(attachment["artifactType"], json!(kind));
        assert_eq!(follow(&blobs, &attachment["config"]), b"{}");
        // Some tools write the index anew, without what they don't know: see `attach`.
        assert_eq!(manifests[position]["artifactType"], Value::Null);
        assert_eq!(follow(&blobs, &attachment["layers"][0]), content.as_bytes());
    }
}

#[test]
fn the_order_of_what_is_given_does_not_matter() {
    let mut shuffled = release();
    shuffled.images.reverse();
    for image in &mut shuffled.images {
        image.attachments.reverse();
        for layer in &mut image.layers {
            layer.files.reverse();
        }
    }
    assert_eq!(release().blobs().expect("blobs"), shuffled.blobs().expect("blobs"));
}

#[test]
fn what_differs_has_another_digest() {
    let digest = |change: fn(&mut Release)| {
        let mut release = release();
        change(&mut release);
        release.blobs().expect("blobs").digest
    };
    let changes: [fn(&mut Release); 6] = [
        |_| {},
        |release| release.created += 1,
        |release| release.labels.clear(),
        |release| release.images[1].layers[1].files[0].content.push(0),
        |release| release.images[1].layers[1].files[0].mode = 0o700,
        |release| release.images[0].attachments[0].content.push(0),
    ];
    let digests: std::collections::BTreeSet<_> = changes.into_iter().map(digest).collect();
    assert_eq!(digests.len(), changes.len());
}

#[test]
fn a_layer_that_two_architectures_have_in_common_is_there_once() {
    let blobs = release().blobs().expect("blobs");
    let index = index(&blobs);
    let first = |position: usize| document(&blobs, &index["manifests"][position])["layers"][0]["digest"].clone();
    assert_eq!(first(0), first(1));
}

#[test]
fn a_release_of_nothing_or_of_two_images_for_one_architecture_is_refused() {
    let mut none = release();
    none.images.clear();
    assert!(none.blobs().is_err());
    let mut twice = release();
    twice.images[1].architecture = Architecture::Amd64;
    assert!(twice.blobs().is_err());
}
