//! Spans of time as people write them.

use std::time::Duration;

/// Reads a whole number with its unit, such as `500ms`, `2s`, `5m`, `12h` or `30d`. The error says how to write it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number
        .parse()
        .map_err(|_| "write a whole number and ms, s, m, h or d, such as 2s".to_owned())?;
    let seconds = |unit: u64| Ok(Duration::from_secs(number.saturating_mul(unit)));
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(24 * 3600),
        _ => Err("the unit is ms, s, m, h or d, such as 2s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse("90d"), Ok(Duration::from_hours(90 * 24)));
        assert!(parse("2").is_err() && parse("").is_err() && parse("1.5s").is_err());
    }
}
