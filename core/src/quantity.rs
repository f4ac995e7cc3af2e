//! Kubernetes' quantities: `500m`, `2Gi`, `1.5`, `1e3`.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource/quantity.go`.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// Parts of one: nano is the finest that Kubernetes keeps; what is finer is rounded up, as there.
const NANO: i128 = 1_000_000_000;
/// More digits than any quantity that Kubernetes itself can hold.
const MAX_DIGITS: usize = 24;
const MAX_EXPONENT: i32 = 18;

/// An amount of a resource, with the meaning that Kubernetes gives its text. Two texts of one amount are equal: `1`, `1000m`, `1e0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Quantity(i128);

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many whole units: cores, bytes, Pods.
    pub fn units(count: i64) -> Self {
        Self(i128::from(count) * NANO)
    }

    /// None for a text that is no quantity, or one larger than Kubernetes holds (2^63).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.len() + fraction.len();
        if digits == 0 || digits > MAX_DIGITS || fraction.contains('.') {
            return None;
        }
        let mantissa = [whole, fraction].concat().parse::<i128>().ok()?;
        let (multiplier, power) = scale(suffix)?;
        // In nano units: mantissa × multiplier × 10^(power + 9 − digits of the fraction).
        let power = power + 9 - i32::try_from(fraction.len()).ok()?;
        let scaled = mantissa.checked_mul(multiplier)?;
        let nano = if power >= 0 {
            scaled.checked_mul(10_i128.checked_pow(power.unsigned_abs())?)?
        } else {
            match 10_i128.checked_pow(power.unsigned_abs()) {
                Some(divisor) => scaled / divisor + i128::from(scaled % divisor != 0),
                None => i128::from(scaled != 0),
            }
        };
        (nano <= i128::from(i64::MAX) * NANO).then_some(Self(if negative { -nano } else { nano }))
    }

    /// Whether it is more than nothing.
    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// What is left of it; less than nothing where the other is larger.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many of it.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }

    /// Whether it is more than so many times the other; 1.5 times is a number too.
    pub fn is_above(self, times: Self, other: Self) -> bool {
        // Past what can be counted nothing is above.
        self.0.saturating_mul(NANO) > times.0.saturating_mul(other.0)
    }
}

/// What a suffix stands for: a multiplier, and a power of ten beside it.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (power.abs() <= MAX_EXPONENT).then_some((1, power))?
        }
    })
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

/// As people write it: `250m`, `3`, `2Gi`, `1536Mi`. Parsing gives the same amount again, but for what is finer than a thousandth: that is rounded up.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milli = self.0.div_euclid(1_000_000) + i128::from(self.0.rem_euclid(1_000_000) != 0);
        if milli % 1000 != 0 {
            return write!(f, "{milli}m");
        }
        let whole = milli / 1000;
        for (shift, suffix) in [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
            let unit = 1_i128 << shift;
            if whole != 0 && whole % unit == 0 {
                return write!(f, "{}{suffix}", whole / unit);
            }
        }
        write!(f, "{whole}")
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QuantityVisitor;
        impl Visitor<'_> for QuantityVisitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity, such as 500m or 2Gi")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Quantity::parse(text)
                    .ok_or_else(|| E::custom(format_args!("`{text}` is not a quantity, such as 500m or 2Gi")))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Quantity::units(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(QuantityVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|| panic!("{text} is a quantity"))
    }

    #[test]
    fn texts_of_one_amount_are_equal() {
        for (one, other) in [
            ("1", "1000m"),
            ("2Gi", "2147483648"),
            ("1.5Gi", "1536Mi"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("12e-1", "1200m"),
            ("1E", "1e18"),
            ("100u", "100000n"),
            ("+2", "2"),
            ("2.", "2"),
        ] {
            assert_eq!(quantity(one), quantity(other), "{one}");
        }
        assert!(quantity("1G") < quantity("1Gi") && quantity("-1") < Quantity::ZERO);
        // Kubernetes rounds up what is finer than nano.
        assert_eq!(quantity("0.1n"), quantity("1n"));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in [
            "",
            "Gi",
            "1 Gi",
            "1gi",
            "1.2.3",
            "--1",
            "1e",
            "1e99",
            "a",
            "9Ei9",
            "99999999999999999999999999",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn they_are_written_as_people_do() {
        for (text, written) in [
            ("1500m", "1500m"),
            ("2147483648", "2Gi"),
            ("1.5Gi", "1536Mi"),
            ("3", "3"),
            ("0", "0"),
            ("100M", "100000000"),
            ("1n", "1m"),
        ] {
            assert_eq!(quantity(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn json_has_them_as_text_or_number() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json);
        assert_eq!(read("\"2Gi\"").unwrap(), quantity("2Gi"));
        assert_eq!(read("2").unwrap(), quantity("2"));
        assert_eq!(read("0.5").unwrap(), quantity("500m"));
        assert_eq!(
            read("\"much\"").unwrap_err().to_string(),
            "`much` is not a quantity, such as 500m or 2Gi at line 1 column 6"
        );
        assert!(read("true").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_quantity_or_none_and_never_panics(text in "[-+]?[0-9]{0,26}\\.?[0-9]{0,26}(Ki|Mi|Ei|n|u|m|k|E|e-?[0-9]{0,3})?") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn what_is_written_reads_as_the_same(milli in 0_i64..1_000_000_000_000) {
            let amount = quantity(&format!("{milli}m"));
            prop_assert_eq!(quantity(&amount.to_string()), amount);
        }
    }
}
