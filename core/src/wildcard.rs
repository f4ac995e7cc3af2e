//! The one wildcard of our configuration: `*` stands for any run of characters (also none). There is no other, so that a pattern means the same in
//! a namespace list, in a backend's `serves` and in a grant.

/// Whether `text` matches `pattern` as a whole.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to resume when a literal stops matching: behind the last star, one character of text later. Linear in memory, never exponential.
    let mut resume: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            resume = Some((p, t));
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after_star, at)) = resume {
            p = after_star;
            t = at + 1;
            resume = Some((after_star, at + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Why a pattern can't be used; none where it can.
pub fn problem(pattern: &str) -> Option<String> {
    if pattern.is_empty() {
        return Some("is empty".to_owned());
    }
    pattern
        .chars()
        .find(|c| "?[]{}!\\".contains(*c))
        .map(|c| format!("has `{c}`, but `*` is the only wildcard"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("team-a", "team-a", true),
            ("team-a", "team-ab", false),
            ("team-*", "team-", true),
            ("team-*", "team-a", true),
            ("*", "", true),
            ("*-prod", "a-prod-prod", true),
            ("*-prod", "a-prod-x", false),
            ("a*b*c", "a1b2b3c", true),
            ("", "a", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        assert!(!matches(
            &"a*".repeat(200),
            &"a".repeat(10_000).replace("aaaaa", "aaaab").replace('a', "b")
        ));
    }

    #[test]
    fn other_wildcards_are_refused_by_name() {
        assert_eq!(
            problem("team-?").as_deref(),
            Some("has `?`, but `*` is the only wildcard")
        );
        assert_eq!(problem("team-*"), None);
    }
}
