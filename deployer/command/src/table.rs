//! Tables as kubectl writes them: columns side by side, the last one as long as it is.

use std::fmt::Write as _;

const GAP: usize = 3;

/// A heading, and a line for each row.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heading = heading.map(str::to_owned);
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{:width$}", clean(cell), width = width + GAP);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What comes from a cluster may hold what moves a terminal's cursor.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_headings() {
        let rows = [
            ["team-a".into(), "x".into()],
            ["b".into(), "long\u{1b}[31m words".into()],
        ];
        assert_eq!(
            table(["NAMESPACE", "MESSAGE"], &rows),
            "NAMESPACE   MESSAGE\nteam-a      x\nb           long [31m words\n"
        );
    }
}
