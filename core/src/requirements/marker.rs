//! Environment markers (PEP 508), judged for Linux on x86-64.

use crate::version::Version;

/// Deeper parentheses are not followed.
const MAX_DEPTH: usize = 16;

/// Whether a marker holds; none where it can't be read or asks for something unknown here.
pub(super) fn holds(marker: &str, python: Option<&str>) -> Option<bool> {
    let mut judge = Judge {
        rest: marker.trim(),
        python,
    };
    let answer = judge.either(0)?;
    judge.rest.is_empty().then_some(answer)?.known()
}

/// What a part of a marker comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// It asks for something unknown here.
    Unknown,
}

impl Answer {
    fn known(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No => Some(false),
            Self::Unknown => None,
        }
    }
}

struct Judge<'m> {
    rest: &'m str,
    python: Option<&'m str>,
}

/// A side of a comparison: none where its value is unknown.
type Side<'m> = Option<std::borrow::Cow<'m, str>>;

impl<'m> Judge<'m> {
    /// None: can't be read. An unknown part doesn't matter where the other part decides.
    fn either(&mut self, depth: usize) -> Option<Answer> {
        let mut answer = self.both(depth)?;
        while self.word("or") {
            let next = self.both(depth)?;
            answer = match (answer, next) {
                (Answer::Yes, _) | (_, Answer::Yes) => Answer::Yes,
                (Answer::No, Answer::No) => Answer::No,
                _ => Answer::Unknown,
            };
        }
        Some(answer)
    }

    fn both(&mut self, depth: usize) -> Option<Answer> {
        let mut answer = self.term(depth)?;
        while self.word("and") {
            let next = self.term(depth)?;
            answer = match (answer, next) {
                (Answer::No, _) | (_, Answer::No) => Answer::No,
                (Answer::Yes, Answer::Yes) => Answer::Yes,
                _ => Answer::Unknown,
            };
        }
        Some(answer)
    }

    fn term(&mut self, depth: usize) -> Option<Answer> {
        if let Some(inside) = self.rest.strip_prefix('(') {
            if depth == MAX_DEPTH {
                return None;
            }
            self.rest = inside.trim_start();
            let answer = self.either(depth + 1)?;
            self.rest = self.rest.strip_prefix(')')?.trim_start();
            return Some(answer);
        }
        let left = self.side()?;
        let operator = self.operator()?;
        let right = self.side()?;
        Some(
            match left
                .zip(right)
                .and_then(|(left, right)| compare(&left, operator, &right))
            {
                Some(true) => Answer::Yes,
                Some(false) => Answer::No,
                None => Answer::Unknown,
            },
        )
    }

    fn word(&mut self, word: &str) -> bool {
        match self
            .rest
            .strip_prefix(word)
            .filter(|rest| rest.starts_with([' ', '\t', '(']))
        {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn side(&mut self) -> Option<Side<'m>> {
        if let Some(quote) = self.rest.chars().next().filter(|first| matches!(first, '"' | '\'')) {
            let (text, rest) = self.rest[1..].split_once(quote)?;
            self.rest = rest.trim_start();
            return Some(Some(text.into()));
        }
        let end = self
            .rest
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.')))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        let value: Side<'m> = match name {
            "python_version" => self.python.map(|python| match python.match_indices('.').nth(1) {
                Some((end, _)) => python[..end].into(),
                None => python.into(),
            }),
            "python_full_version" | "implementation_version" => self
                .python
                .filter(|python| python.matches('.').count() == 2)
                .map(Into::into),
            "os_name" | "os.name" => Some("posix".into()),
            "sys_platform" | "sys.platform" => Some("linux".into()),
            "platform_machine" | "platform.machine" => Some("x86_64".into()),
            "platform_system" => Some("Linux".into()),
            "platform_python_implementation" | "platform.python_implementation" | "python_implementation" => {
                Some("CPython".into())
            }
            "implementation_name" => Some("cpython".into()),
            "extra" => Some("".into()),
            "platform_release" | "platform_version" | "platform.version" => None,
            _ => return None,
        };
        Some(value)
    }

    fn operator(&mut self) -> Option<&'static str> {
        const OPERATORS: [&str; 9] = ["===", "==", "!=", "<=", ">=", "~=", "<", ">", "in "];
        if let Some(rest) = self.rest.strip_prefix("not ") {
            self.rest = rest.trim_start().strip_prefix("in ")?.trim_start();
            return Some("not in");
        }
        let operator = OPERATORS.into_iter().find(|operator| self.rest.starts_with(operator))?;
        self.rest = self.rest[operator.len()..].trim_start();
        Some(operator)
    }
}

fn compare(left: &str, operator: &str, right: &str) -> Option<bool> {
    match operator {
        "in " => return Some(right.contains(left)),
        "not in" => return Some(!right.contains(left)),
        "===" => return Some(left == right),
        _ => {}
    }
    if let (Some(left), Some(prefix)) = (Version::parse(left), right.strip_suffix(".*")) {
        let same = left.starts_with(Version::parse(prefix)?.release());
        return match operator {
            "==" => Some(same),
            "!=" => Some(!same),
            _ => None,
        };
    }
    let Some((version, bound)) = Version::parse(left).zip(Version::parse(right)) else {
        return match operator {
            "==" => Some(left == right),
            "!=" => Some(left != right),
            _ => None,
        };
    };
    Some(match operator {
        "==" => version == bound,
        "!=" => version != bound,
        "<=" => version <= bound,
        ">=" => version >= bound,
        "<" => version < bound,
        ">" => version > bound,
        "~=" => version >= bound && version.starts_with(bound.release().split_last()?.1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn judges_markers_on_linux() {
        for (marker, answer) in [
            ("python_version >= '3.9'", Some(true)),
            ("python_version<\"3.10\"", Some(false)),
            ("python_full_version == '3.11.7'", Some(true)),
            ("sys_platform == 'win32' or sys_platform == 'darwin'", Some(false)),
            (
                "sys_platform != 'win32' and platform_machine in 'x86_64 AMD64'",
                Some(true),
            ),
            (
                "(os_name == 'nt' or python_version > '3.8') and implementation_name == 'cpython'",
                Some(true),
            ),
            ("platform_machine not in 'aarch64'", Some(true)),
            ("extra == 'dev'", Some(false)),
            ("python_version ~= '3.10'", Some(true)),
            ("python_version == '3.*'", Some(true)),
            ("platform_release > '5'", None),
            ("platform_release > '5' and sys_platform == 'win32'", Some(false)),
            ("unknown == 'x'", None),
            ("python_version >=", None),
            ("python_version >= '3' garbage", None),
            ("", None),
        ] {
            assert_eq!(holds(marker, Some("3.11.7")), answer, "{marker}");
        }
        assert_eq!(holds("python_version >= '3.9'", None), None);
        assert_eq!(holds(&"(".repeat(10_000), None), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(marker in "[pyos_a-z().'\"<>=! 0-9]{0,60}") {
            let _ = holds(&marker, Some("3.11.7"));
        }
    }
}
