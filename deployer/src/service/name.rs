//! Names that KServe takes.
//!
//! Source: `IsvcNameFmt` in `pkg/apis/serving/v1beta1/inference_service_validation.go`. How long one may be follows from what KServe makes of it: the label
//! `app: isvc.NAME-predictor` and the host's first part `NAME-predictor-NAMESPACE`, of 63 characters at most each.

use super::error::WishError;

const LABEL: usize = 63;
const SHORTEST: usize = 8;

/// The name, if KServe takes it in this namespace.
///
/// # Errors
/// [`WishError::Name`] with one that it does take.
pub fn checked_name<'a>(name: &'a str, namespace: &str) -> Result<&'a str, WishError> {
    let limit = longest(namespace);
    let refused = |reason: String| WishError::Name {
        name: name.to_owned(),
        reason,
        suggested: suggested_name(name, namespace),
    };
    if !is_well_formed(name) {
        return Err(refused(
            "KServe takes small letters, digits and '-', with a letter first and no '-' at the end".to_owned(),
        ));
    }
    if name.len() > limit {
        return Err(refused(format!(
            "it has {} characters, and in namespace {namespace} {limit} fit into the labels and hosts that KServe makes of it",
            name.len()
        )));
    }
    Ok(name)
}

/// The closest name that KServe takes; `model` where nothing of it can be kept.
pub fn suggested_name(name: &str, namespace: &str) -> String {
    let mut suggested = String::with_capacity(name.len());
    let mut previous = ' ';
    for character in name.chars() {
        let lower = character.to_ascii_lowercase();
        if lower.is_ascii_lowercase() || lower.is_ascii_digit() {
            // `FraudModel` is two words.
            if character.is_ascii_uppercase() && previous.is_ascii_lowercase() {
                suggested.push('-');
            }
            suggested.push(lower);
        } else if !suggested.is_empty() && !suggested.ends_with('-') {
            suggested.push('-');
        }
        previous = character;
    }
    let suggested = suggested.trim_matches('-');
    let suggested = if suggested.starts_with(|first: char| first.is_ascii_digit()) {
        format!("m-{suggested}")
    } else {
        suggested.to_owned()
    };
    let cut: String = suggested.chars().take(longest(namespace)).collect();
    let cut = cut.trim_end_matches('-');
    if cut.is_empty() {
        "model".to_owned()
    } else {
        cut.to_owned()
    }
}

/// How long a name may be in a namespace.
fn longest(namespace: &str) -> usize {
    let by_label = LABEL - "isvc.-predictor".len();
    let by_host = LABEL.saturating_sub("-predictor-".len() + namespace.len());
    by_label.min(by_host).max(SHORTEST)
}

fn is_well_formed(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refused_name_comes_with_a_valid_one() {
        for (name, suggested) in [
            ("Fraud_Model", "fraud-model"),
            ("fraud.v2", "fraud-v2"),
            ("3d-net", "m-3d-net"),
            ("FraudModel", "fraud-model"),
            ("-a-", "a"),
            ("___", "model"),
            ("größe", "gr-e"),
        ] {
            let error = checked_name(name, "team-a").unwrap_err();
            let WishError::Name { suggested: offered, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(offered, suggested, "{name}");
            assert!(error.next().contains(suggested), "{}", error.next());
        }
        let long = "a".repeat(49);
        assert!(
            checked_name(&long, "a")
                .unwrap_err()
                .to_string()
                .contains("49 characters")
        );
        assert!(checked_name(&long[1..], "a").is_ok());
        assert!(checked_name("fraud-detection-2", "team-a").is_ok());
        // The host's first part would be too long.
        assert!(checked_name(&"a".repeat(30), &"n".repeat(30)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_suggested_is_taken(name in ".{0,80}", namespace in "[a-z]{1,40}") {
            let suggested = suggested_name(&name, &namespace);
            prop_assert!(checked_name(&suggested, &namespace).is_ok(), "{suggested}");
        }

        #[test]
        fn a_valid_name_is_its_own_suggestion(name in "[a-z][a-z0-9]{0,20}") {
            prop_assert_eq!(suggested_name(&name, "a"), name);
        }
    }
}
