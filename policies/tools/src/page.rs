//! A policy's page, from what it says of itself.

use std::fmt::Write as _;

use crate::about::About;

/// Where a `WasmPolicy` has its component from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Tidewaiter ships it.
    Builtin,
    /// A file of this name.
    File(String),
    /// An `oci://` reference.
    Registry(String),
}

/// Markdown: what the policy is for, how it is installed, what may be set.
pub fn page(about: &About, origin: &Origin) -> String {
    let mut text = format!("# {}\n\n{}\n", about.name, about.summary);
    let _ = writeln!(
        text,
        "\n| | |\n|---|---|\n| version | {} |\n| contract | {} |\n| size | {} KiB |\n| digest | `{}` |",
        about.version,
        about.contract.as_deref().unwrap_or("not named"),
        about.size.div_ceil(1024),
        about.digest,
    );
    text.push_str("\n## Install\n\n");
    let image = match origin {
        Origin::Builtin => None,
        Origin::File(_) => Some(image_of(about)),
        Origin::Registry(reference) => Some(reference.trim_start_matches("oci://").to_owned()),
    };
    if let (Origin::File(file), Some(image)) = (origin, &image) {
        let _ = writeln!(
            text,
            "A cluster has it from a registry:\n\n    tidewaiter policy push {file} {image}\n"
        );
    }
    let _ = writeln!(
        text,
        "```yaml\napiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata:\n  name: {}\nspec:\n  module:",
        about.name,
    );
    let _ = match &image {
        // It is what this release ships, and has all that it asks for.
        None => writeln!(text, "    builtin: {}", about.name),
        Some(image) => writeln!(text, "    oci: {{image: \"{image}\"}}\n  digest: {}", about.digest),
    };
    let has_to_be_granted = *origin != Origin::Builtin;
    if has_to_be_granted && !about.capabilities.is_empty() {
        let names: Vec<_> = about
            .capabilities
            .iter()
            .map(|capability| capability.as_str())
            .collect();
        let _ = writeln!(text, "  capabilities: [{}]", names.join(", "));
    }
    if has_to_be_granted && !about.objects.is_empty() {
        text.push_str("  objects:\n");
        for object in &about.objects {
            let _ = writeln!(
                text,
                "    - {{apiVersion: {}, kind: {}}}",
                object.api_version, object.kind
            );
        }
    }
    let required: Vec<_> = about
        .settings
        .iter()
        .filter(|setting| setting.required && !setting.path.contains(['.', '[']))
        .collect();
    if !required.is_empty() {
        text.push_str("  settings:\n");
        for setting in required {
            let _ = writeln!(text, "    {}: # {}", setting.path, setting.kind);
        }
    }
    text.push_str("```\n\n");
    if let Origin::File(file) = origin {
        let _ = writeln!(
            text,
            "In a folder (`tidewaiter-webhook --config`) the file lies beside the object, and `module` is `{{file: {file}}}`.\n"
        );
    }
    text.push_str("## Settings\n\n");
    if about.settings.is_empty() {
        text.push_str(if about.settings_schema.is_some() {
            "It has none.\n"
        } else {
            "It has no schema that says which.\n"
        });
        return text;
    }
    text.push_str("| setting | what it may be | default | |\n|---|---|---|---|\n");
    for setting in &about.settings {
        let default = match (&setting.default, setting.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".to_owned(),
            (None, false) => String::new(),
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            setting.path,
            cell(&setting.kind),
            cell(&default),
            cell(&setting.description)
        );
    }
    text
}

/// Where a policy might be pushed to. What a version has behind a `+` can't be in a tag.
pub fn image_of(about: &About) -> String {
    format!(
        "registry.example.com/policies/{}:{}",
        about.name,
        about.version.replace('+', "-")
    )
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewaiter_engine::Capability;

    use super::*;
    use crate::settings::Setting;

    #[test]
    fn a_page_says_how_to_install_it_and_what_may_be_set() {
        let schema = json!({"required": ["team"], "properties": {
            "team": {"type": "string", "description": "Whose it is,\nor a | b"}, "max": {"type": "integer", "default": 3}}});
        let about = About {
            name: "owner".into(),
            version: "1.2.0".into(),
            summary: "Every service says whose it is.".into(),
            contract: Some("0.1.0".into()),
            digest: "sha256:00".into(),
            size: 70_000,
            imports: Vec::new(),
            exports: Vec::new(),
            capabilities: vec![Capability::Cluster, Capability::Log],
            objects: Vec::new(),
            settings: Setting::of(&schema),
            settings_schema: Some(schema),
        };
        insta::assert_snapshot!(page(&about, &Origin::File("owner.wasm".to_owned())));
    }
}
