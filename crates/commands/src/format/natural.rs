//! The order of names people expect: `net9` before `net10`.

use std::cmp::Ordering;

/// Compares with runs of digits as numbers.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (left, more_a) = digits(a);
                let (right, more_b) = digits(b);
                let strip = |run: &[u8]| {
                    run.iter()
                        .position(|digit| *digit != b'0')
                        .unwrap_or(run.len())
                };
                let (x, y) = (&left[strip(left)..], &right[strip(right)..]);
                let order = x
                    .len()
                    .cmp(&y.len())
                    .then_with(|| x.cmp(y))
                    .then_with(|| left.len().cmp(&right.len()));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (more_a, more_b);
            }
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            (Some(x), Some(y)) => return x.cmp(y),
        }
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(
        text.iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = ["net10", "net9", "a", "net", "net09", "b2c10", "b2c9"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(
            names,
            ["a", "b2c9", "b2c10", "net", "net9", "net09", "net10"]
        );
    }
}
