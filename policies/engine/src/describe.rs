//! What a policy says of itself, held against the contract: it comes out of a component, and ends up in front of people.

use semver::Version;
use tidewaiter_core::lines;

use crate::load::Description;

/// Characters of a DNS label.
const NAME: usize = 63;
/// Characters of a version and of a summary.
const VERSION: usize = 64;
const SUMMARY: usize = 300;
/// Kinds of objects that a policy may say that it reads, and characters of each name.
const OBJECTS: usize = 32;
const OBJECT: usize = 253;
/// Characters of what it says that are quoted.
const QUOTED: usize = 80;

/// # Errors
/// What breaks the contract, in one line for the author.
pub(crate) fn check(description: &Description) -> Result<(), String> {
    let Description {
        name,
        version,
        summary,
        objects,
        settings_schema: _,
    } = description;
    let quoted = |text: &str| lines::cut(text, QUOTED);
    if !is_dns_label(name) {
        return Err(format!(
            "its name is `{}`, which is no DNS label (small letters, digits and `-`; {NAME} at most)",
            quoted(name)
        ));
    }
    if version.len() > VERSION || Version::parse(version).is_err() {
        return Err(format!(
            "its version is `{}`, which is no semantic version, such as 1.0.0",
            quoted(version)
        ));
    }
    if summary.chars().count() > SUMMARY || summary.contains(char::is_control) {
        return Err(format!(
            "its summary is not one line of at most {SUMMARY} characters: `{}`",
            quoted(summary)
        ));
    }
    if objects.len() > OBJECTS {
        return Err(format!(
            "it reads {} kinds of objects, and may read {OBJECTS}",
            objects.len()
        ));
    }
    for object in objects {
        let is_word = |text: &str| {
            (1..=OBJECT).contains(&text.len()) && !text.contains(|c: char| c.is_control() || c.is_whitespace())
        };
        if !is_word(&object.api_version) || !is_word(&object.kind) {
            return Err(format!(
                "it reads objects of kind `{}` in `{}`, which can't be one",
                quoted(&object.kind),
                quoted(&object.api_version)
            ));
        }
        if object.kind == "Secret" {
            return Err("it says that it reads Secrets, and no policy ever gets one".to_owned());
        }
    }
    Ok(())
}

fn is_dns_label(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=NAME).contains(&name.len()) && name.chars().all(inside) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ObjectKind;

    fn description() -> Description {
        Description {
            name: "house-rules".to_owned(),
            version: "1.2.0-rc.1".to_owned(),
            summary: "Every service says whose it is.".to_owned(),
            settings_schema: None,
            objects: vec![ObjectKind {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
            }],
        }
    }

    #[test]
    fn what_a_policy_says_of_itself_is_what_the_contract_asks_for() {
        assert_eq!(check(&description()), Ok(()));
        let error = |change: fn(&mut Description)| {
            let mut wrong = description();
            change(&mut wrong);
            check(&wrong).unwrap_err()
        };
        for name in ["", "House", "-a", "a-", "a.b", "a b", "kube\nsystem", "é"] {
            let wrong = Description {
                name: name.to_owned(),
                ..description()
            };
            assert!(check(&wrong).unwrap_err().contains("no DNS label"), "{name:?}");
        }
        assert!(error(|wrong| wrong.name = "a".repeat(64)).chars().count() < 200);
        for version in ["", "1", "v1.0.0", "latest"] {
            let wrong = Description {
                version: version.to_owned(),
                ..description()
            };
            assert!(
                check(&wrong).unwrap_err().contains("no semantic version"),
                "{version:?}"
            );
        }
        assert!(error(|wrong| wrong.summary = "two\nlines".to_owned()).contains("not one line"));
        assert!(error(|wrong| wrong.summary = "x".repeat(301)).contains("not one line"));
        assert!(error(|wrong| wrong.objects[0].kind = "Secret".to_owned()).contains("no policy ever gets one"));
        assert!(error(|wrong| wrong.objects[0].kind = String::new()).contains("can't be one"));
        assert!(error(|wrong| wrong.objects = vec![wrong.objects[0].clone(); 33]).contains("33 kinds"));
    }
}
