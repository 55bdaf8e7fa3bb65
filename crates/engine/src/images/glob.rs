//! Patterns of the `reference` filter, as Go's `path.Match` has them.

/// Whether the whole of `name` matches: `*` and `?` stand for anything but `/`, `[a-z]` and `[^a-z]`
/// for one of a set, `\` takes away a character's meaning. `None`: the pattern is not well formed.
pub(super) fn matches(pattern: &str, name: &str) -> Option<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    well_formed(&pattern)?;
    let (mut p, mut n) = (0, 0);
    // Where to go on when the part after the last star does not fit: one character further.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if p == pattern.len() && n == name.len() {
            return Some(true);
        }
        if p < pattern.len()
            && let Some(&character) = name.get(n)
            && let (next, true) = one(&pattern, p, character)
        {
            p = next;
            n += 1;
            continue;
        }
        match star {
            Some((after, from)) if from < name.len() && name[from] != '/' => {
                star = Some((after, from + 1));
                p = after;
                n = from + 1;
            }
            _ => return Some(false),
        }
    }
}

/// Where the pattern goes on after the element at `p`, and whether the element fits.
fn one(pattern: &[char], p: usize, character: char) -> (usize, bool) {
    match pattern[p] {
        '?' => (p + 1, character != '/'),
        '\\' => (p + 2, pattern.get(p + 1) == Some(&character)),
        '[' => set(pattern, p, character),
        literal => (p + 1, literal == character),
    }
}

fn set(pattern: &[char], p: usize, character: char) -> (usize, bool) {
    let mut at = p + 1;
    let negated = pattern.get(at) == Some(&'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    let bound = |at: &mut usize| {
        if pattern.get(*at) == Some(&'\\') {
            *at += 1;
        }
        let character = pattern.get(*at).copied().unwrap_or('\0');
        *at += 1;
        character
    };
    let begin = at;
    while at < pattern.len() && (pattern[at] != ']' || at == begin) {
        let low = bound(&mut at);
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            bound(&mut at)
        } else {
            low
        };
        found |= (low..=high).contains(&character);
    }
    (at + 1, found != negated)
}

fn well_formed(pattern: &[char]) -> Option<()> {
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            '\\' => {
                pattern.get(at + 1)?;
                at += 2;
            }
            '[' => {
                let (end, _) = set(pattern, at, 'a');
                if end > pattern.len() || end <= at + 2 {
                    return None;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("busybox", "busybox", Some(true)),
            ("busy*", "busybox", Some(true)),
            ("*", "a/b", Some(false)),
            ("*/*", "a/b", Some(true)),
            ("b?sy[a-c]ox", "busybox", Some(true)),
            ("b[^u]sybox", "busybox", Some(false)),
            ("busybox:1.*", "busybox:1.36", Some(true)),
            ("*box:*", "busybox:1.36", Some(true)),
            ("\\*", "*", Some(true)),
            ("a*b*c", "axxbyyc", Some(true)),
            ("a*b*c", "axxbyy", Some(false)),
            ("", "", Some(true)),
            ("[", "a", None),
            ("[]", "a", None),
            ("a\\", "a", None),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in ".*", name in ".*") {
            matches(&pattern, &name);
        }

        #[test]
        fn a_name_matches_itself(name in "[a-z0-9./:_-]*") {
            prop_assert_eq!(matches(&name, &name), Some(true));
        }
    }
}
