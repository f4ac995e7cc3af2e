//! Versions of Python packages, compared as PEP 440 says.

use std::{cmp::Ordering, fmt};

/// A version such as `3.0.2`, `1.4.1.post1` or `2.1.0+cu121`. Epochs are not known: no package of the catalogue has ever had one.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    release: Vec<u32>,
    pre: Phase,
    post: Option<u32>,
    dev: Option<u32>,
}

/// Where a version stands in the making of its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Only `.dev`: before every pre-release.
    Dev,
    Alpha(u32),
    Beta(u32),
    Candidate(u32),
    Final,
}

impl Version {
    /// Reads a version; none where the text is not one. The part behind `+` (a build's own label) is kept for display and not compared.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > 64 {
            return None;
        }
        let lower = text.to_ascii_lowercase();
        let public = lower.split_once('+').map_or(lower.as_str(), |(public, _)| public);
        let mut rest = public.strip_prefix('v').unwrap_or(public);

        let mut release = Vec::with_capacity(3);
        loop {
            release.push(take_number(&mut rest)?);
            match rest.strip_prefix('.') {
                Some(after) if after.starts_with(|next: char| next.is_ascii_digit()) => rest = after,
                _ => break,
            }
        }

        let mut version = Self {
            text: text.to_owned(),
            release,
            pre: Phase::Final,
            post: None,
            dev: None,
        };
        let mut pre_seen = false;
        while !rest.is_empty() {
            let part = rest.trim_start_matches(['.', '-', '_']);
            let letters = part.len() - part.trim_start_matches(|next: char| next.is_ascii_alphabetic()).len();
            let (word, after) = part.split_at(letters);
            rest = after.trim_start_matches(['.', '-', '_']);
            let number = if rest.starts_with(|next: char| next.is_ascii_digit()) {
                take_number(&mut rest)?
            } else {
                0
            };
            match word {
                "a" | "alpha" if !pre_seen => version.pre = Phase::Alpha(number),
                "b" | "beta" if !pre_seen => version.pre = Phase::Beta(number),
                "rc" | "c" | "pre" | "preview" if !pre_seen => version.pre = Phase::Candidate(number),
                "post" | "rev" | "r" if version.post.is_none() => version.post = Some(number),
                "dev" if version.dev.is_none() => version.dev = Some(number),
                _ => return None,
            }
            pre_seen = true;
        }
        if version.dev.is_some() && version.pre == Phase::Final && version.post.is_none() {
            version.pre = Phase::Dev;
        }
        Some(version)
    }

    /// First number.
    pub fn major(&self) -> u32 {
        self.part(0)
    }

    /// Second number, 0 where there is none.
    pub fn minor(&self) -> u32 {
        self.part(1)
    }

    /// First and second number.
    pub fn series(&self) -> (u32, u32) {
        (self.major(), self.minor())
    }

    /// An alpha, beta, release candidate or development version.
    pub fn is_prerelease(&self) -> bool {
        self.pre != Phase::Final || self.dev.is_some()
    }

    /// Whether the numbers start with these: `3.11.4` with `[3, 11]`.
    pub fn starts_with(&self, prefix: &[u32]) -> bool {
        prefix
            .iter()
            .enumerate()
            .all(|(index, &number)| self.part(index) == number)
    }

    /// The numbers.
    pub fn release(&self) -> &[u32] {
        &self.release
    }

    fn part(&self, index: usize) -> u32 {
        self.release.get(index).copied().unwrap_or(0)
    }
}

fn take_number(rest: &mut &str) -> Option<u32> {
    let digits = rest.len() - rest.trim_start_matches(|next: char| next.is_ascii_digit()).len();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    number.parse().ok()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = self.release.len().max(other.release.len());
        (0..parts)
            .map(|index| self.part(index).cmp(&other.part(index)))
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
            .then_with(|| self.pre.cmp(&other.pre))
            .then_with(|| self.post.cmp(&other.post))
            // A development version comes before what it leads to.
            .then_with(|| {
                self.dev
                    .map_or(u64::MAX, u64::from)
                    .cmp(&other.dev.map_or(u64::MAX, u64::from))
            })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_version_is_none() {
        for text in [
            "",
            "latest",
            "1.x",
            "1..2",
            "1.2.",
            ">=1",
            "99999999999",
            "1.2foo3",
            "1!2.0",
            "v",
            "1.0a1b2",
        ] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn keeps_the_text_and_reads_the_numbers() {
        let version = Version::parse("2.1.0+cu121").unwrap();
        assert_eq!(
            (version.to_string().as_str(), version.series(), version.is_prerelease()),
            ("2.1.0+cu121", (2, 1), false)
        );
        assert_eq!(Version::parse("3").unwrap().series(), (3, 0));
        assert!(Version::parse("1.7.2rc1").unwrap().is_prerelease());
        assert!(Version::parse("3.11.4").unwrap().starts_with(&[3, 11]));
    }

    proptest! {
        #[test]
        fn orders_as_the_reference_does(
            a in "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}((a|b|rc)[0-9]{1,2})?(\\.post[0-9])?(\\.dev[0-9])?",
            b in "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}((a|b|rc)[0-9]{1,2})?(\\.post[0-9])?(\\.dev[0-9])?",
        ) {
            let ours = Version::parse(&a).zip(Version::parse(&b)).map(|(a, b)| a.cmp(&b));
            let theirs = a.parse::<pep440_rs::Version>().ok().zip(b.parse::<pep440_rs::Version>().ok()).map(|(a, b)| a.cmp(&b));
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Version::parse(&text);
        }
    }
}
