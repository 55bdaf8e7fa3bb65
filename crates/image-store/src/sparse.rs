//! Maps of sparse files in tar archives.
//!
//! A sparse file's body has only its pieces, one behind the other; a map says where they belong.
//! GNU tar has written the map in four ways: in the header and in blocks behind it (type `S`), as
//! PAX records one by one (0.0) or as one list (0.1), and at the beginning of the body (1.0).

use crate::error::EntryProblem;

/// More pieces than any real file has; bounds the memory of one map to 1 MiB.
pub(crate) const PIECE_COUNT_MAX: usize = 65_536;

/// Where the pieces of a body belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// The file's length.
    pub(crate) size: u64,
    /// Offset and length of each piece, in the order of the body.
    pub(crate) pieces: Vec<(u64, u64)>,
}

impl Sparse {
    /// Refuses maps whose pieces overlap, go backwards, lie behind the file's end or do not fill
    /// the body of `body` bytes.
    pub(crate) fn check(self, body: u64) -> Result<Self, EntryProblem> {
        let (mut end, mut stored) = (0_u64, 0_u64);
        for (offset, length) in &self.pieces {
            if *offset < end {
                return Err(EntryProblem::SparseMap);
            }
            end = offset.checked_add(*length).ok_or(EntryProblem::SparseMap)?;
            stored += length;
        }
        let fits = end <= self.size && stored == body && i64::try_from(self.size).is_ok();
        if fits && self.pieces.len() <= PIECE_COUNT_MAX {
            Ok(self)
        } else {
            Err(EntryProblem::SparseMap)
        }
    }
}

/// What PAX records say about a sparse file.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    pub(crate) name: Option<Vec<u8>>,
    size: Option<u64>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    map: Vec<u64>,
    major: Option<u64>,
}

/// Which way a file is sparse.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PaxMap {
    /// The map is here.
    Given(Sparse),
    /// The map is at the beginning of the body.
    InBody { size: u64 },
}

impl PaxSparse {
    /// Takes one record whose key is `GNU.sparse.` and `key`.
    pub(crate) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryProblem> {
        let number = || parse(value).ok_or(EntryProblem::SparseMap);
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"offset" => self.offsets.push(number()?),
            b"numbytes" => self.lengths.push(number()?),
            b"major" => self.major = Some(number()?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(parse);
                self.map = numbers
                    .collect::<Option<_>>()
                    .ok_or(EntryProblem::SparseMap)?;
            }
            // `numblocks` and `minor` say nothing new.
            _ => {}
        }
        Ok(())
    }

    /// What the records make together; `None` for an ordinary file.
    pub(crate) fn finish(self) -> Result<Option<PaxMap>, EntryProblem> {
        let Some(size) = self.size else {
            let any = self.major.is_some() || !self.map.is_empty() || !self.offsets.is_empty();
            return if any {
                Err(EntryProblem::SparseMap)
            } else {
                Ok(None)
            };
        };
        if self.major == Some(1) {
            return Ok(Some(PaxMap::InBody { size }));
        }
        let pieces = if self.map.is_empty() {
            if self.offsets.len() != self.lengths.len() {
                return Err(EntryProblem::SparseMap);
            }
            self.offsets.into_iter().zip(self.lengths).collect()
        } else {
            if !self.map.len().is_multiple_of(2) {
                return Err(EntryProblem::SparseMap);
            }
            self.map
                .chunks_exact(2)
                .map(|pair| (pair[0], pair[1]))
                .collect()
        };
        Ok(Some(PaxMap::Given(Sparse { size, pieces })))
    }
}

/// Reads a map at the beginning of a body line by line: the count, then offset and length of each
/// piece.
#[derive(Debug, Default)]
pub(crate) struct BodyMap {
    line: Vec<u8>,
    numbers: Vec<u64>,
}

impl BodyMap {
    /// Takes one block; `true` when the map is complete. What is left of the block is padding.
    pub(crate) fn block(&mut self, block: &[u8]) -> Result<bool, EntryProblem> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                // No 64-bit number is longer.
                if self.line.len() > 20 {
                    return Err(EntryProblem::SparseMap);
                }
                continue;
            }
            self.numbers
                .push(parse(&self.line).ok_or(EntryProblem::SparseMap)?);
            self.line.clear();
            let count = self.numbers[0];
            if count > PIECE_COUNT_MAX as u64 {
                return Err(EntryProblem::SparseMap);
            }
            if self.numbers.len() as u64 == 1 + 2 * count {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn pieces(self) -> Vec<(u64, u64)> {
        self.numbers[1..]
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect()
    }
}

fn parse(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_make_no_sense_are_refused() {
        let map = |size, pieces: &[(u64, u64)], body| {
            Sparse {
                size,
                pieces: pieces.to_vec(),
            }
            .check(body)
            .is_ok()
        };
        assert!(map(10, &[(0, 2), (5, 5)], 7));
        assert!(map(10, &[(3, 2), (10, 0)], 2));
        assert!(map(10, &[], 0));
        assert!(!map(10, &[(0, 5), (4, 1)], 6));
        assert!(!map(10, &[(8, 5)], 5));
        assert!(!map(10, &[(0, 5)], 6));
        assert!(!map(10, &[(u64::MAX, 5)], 5));
        assert!(!map(u64::MAX, &[], 0));
    }

    #[test]
    fn body_maps_are_read_across_blocks() {
        let mut map = BodyMap::default();
        assert!(!map.block(b"2\n0\n51").unwrap());
        assert!(map.block(b"2\n1024\n0\n\0\0").unwrap());
        assert_eq!(map.pieces(), [(0, 512), (1024, 0)]);
        assert!(BodyMap::default().block(b"99999999\n").is_err());
        assert!(BodyMap::default().block(&[b'1'; 100]).is_err());
        assert!(BodyMap::default().block(b"x\n").is_err());
    }
}
