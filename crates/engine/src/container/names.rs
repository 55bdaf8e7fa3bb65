//! Names for containers that were given none: `brisk_hopper`.

use wharf_ids::random_bytes;

const MOODS: [&str; 64] = [
    "able", "agile", "amber", "ample", "avid", "bold", "brave", "breezy", "brisk", "bright",
    "calm", "candid", "cheery", "clever", "cosy", "crisp", "curious", "daring", "deft", "eager",
    "earnest", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand",
    "handy", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid",
    "mellow", "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "placid",
    "plucky", "polite", "proud", "quick", "quiet", "ready", "serene", "sharp", "steady", "sunny",
    "swift", "tidy", "vivid", "warm", "witty",
];

const PEOPLE: [&str; 64] = [
    "ampere",
    "babbage",
    "banach",
    "becquerel",
    "bell",
    "bohr",
    "boole",
    "borg",
    "brunel",
    "cauchy",
    "cayley",
    "church",
    "curie",
    "dalton",
    "darwin",
    "dijkstra",
    "dirac",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "fourier",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "hamming",
    "hamilton",
    "hilbert",
    "hopper",
    "huygens",
    "joule",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "mirzakhani",
    "morse",
    "nash",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "planck",
    "poincare",
    "ramanujan",
    "ritchie",
    "shannon",
    "somerville",
    "stokes",
    "tesla",
    "thompson",
    "turing",
    "volta",
    "watt",
    "wiles",
];

/// A name that `is_taken` does not know.
pub(super) fn generate(is_taken: impl Fn(&str) -> bool) -> String {
    let mut tries = 0;
    loop {
        let [one, two, three, four] = random_bytes::<4>();
        let name = format!(
            "{}_{}",
            MOODS[usize::from(one % 64)],
            PEOPLE[usize::from(two % 64)]
        );
        // With many containers the plain names run out.
        let name = if tries < 4 {
            name
        } else {
            format!("{name}{}", u16::from_be_bytes([three, four]))
        };
        if !is_taken(&name) {
            return name;
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_free() {
        for _ in 0..100 {
            wharf_ids::validate_container_name(&generate(|_| false)).unwrap();
        }
        let name = generate(|name| !name.ends_with(|c: char| c.is_ascii_digit()));
        assert!(name.ends_with(|c: char| c.is_ascii_digit()));
    }
}
