//! What a backend is called.

use super::Source;

/// A label's value, which the name becomes, holds so much.
const LONGEST: usize = 63;

/// After the Secret; where that name is another's, with the namespace behind it.
pub(super) fn of(source: &Source, is_taken: impl Fn(&str) -> bool) -> String {
    let plain = match &source.key {
        Some(key) => clean(key),
        None => clean(&source.secret),
    };
    if is_taken(&plain) {
        let room = LONGEST.saturating_sub(source.namespace.len() + 1);
        clean(&format!("{}-{}", &plain[..plain.len().min(room)], source.namespace))
    } else {
        plain
    }
}

fn clean(text: &str) -> String {
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let text: String = text.chars().map(fits).collect();
    let text = &text[..text.len().min(LONGEST)];
    let text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    // An object's name has no dot beside another or a dash.
    let text = text.replace("..", ".").replace(".-", "-").replace("-.", "-");
    if text.is_empty() { "store".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_secrets_and_the_namespaces_where_it_is_taken() {
        let source = |text: &str| text.parse::<Source>().unwrap();
        assert_eq!(of(&source("team-a/minio"), |_| false), "minio");
        assert_eq!(of(&source("team-a/minio"), |name| name == "minio"), "minio-team-a");
        assert_eq!(of(&source("team-a/storage-config:localMinIO"), |_| false), "localminio");
        assert_eq!(of(&source("team-a/s:__"), |_| false), "store");
        assert_eq!(of(&source(&format!("a/{}", "x".repeat(80))), |_| false).len(), 63);
    }
}
