//! What was meant by a word that isn't known.

/// The name that was most likely meant: at most a third of its letters are off, whatever their case. None where none is so near.
pub fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    names
        .iter()
        .map(|name| (distance(&given, &name.to_lowercase()), *name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .map(|(_, name)| name)
}

/// The name that is written almost like this, but not quite; for names of which many more are right than are known here.
pub fn one_letter_off<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    if names.contains(&given) {
        return None;
    }
    names.iter().find(|name| distance(given, name) == 1).copied()
}

/// How many letters to insert, leave out or exchange; two beside each other that change places count once.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let a: Vec<char> = a.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1; b.len() + 1];
        for (j, to) in b.iter().enumerate() {
            let exchanged = row[j] + usize::from(from != to);
            next[j + 1] = exchanged.min(next[j] + 1).min(row[j + 1] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_what_was_meant_and_nonsense_finds_nothing() {
        assert_eq!(nearest("endpont", &["endpoint", "region"]), Some("endpoint"));
        assert_eq!(
            nearest("storagebackend", &["StorageBackend", "WasmPolicy"]),
            Some("StorageBackend")
        );
        assert_eq!(nearest("fruad", &["fraud", "churn"]), Some("fraud"));
        assert_eq!(nearest("banana", &["endpoint", "region"]), None);
        assert_eq!(one_letter_off("xgbost", &["xgboost", "numpy"]), Some("xgboost"));
        assert_eq!(one_letter_off("numba", &["xgboost", "numpy"]), None);
        assert_eq!(one_letter_off("numpy", &["numpyx", "numpy"]), None);
    }
}
