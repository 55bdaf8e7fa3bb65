//! Lists of processors and memory nodes as the kernel writes them: `0-3,7`. Pure.

/// The numbers of `list`, all below `end`; an empty list has none.
pub(crate) fn parse(list: &str, end: u32) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (first, last),
            None => (part, part),
        };
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= end {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(parse("7,0-2, 1", 8), Some(vec![0, 1, 2, 7]));
        assert_eq!(parse("", 8), Some(vec![]));
        for wrong in ["8", "2-1", "x", "1-", "-1", "0-8"] {
            assert_eq!(parse(wrong, 8), None, "{wrong}");
        }
    }
}
