//! Sets of ids, and taking a part of one that nobody has. Pure.
//!
//! Nothing here remembers what was given away: who asks says what is in use, so a crash can
//! neither lose a range nor give it to two.

/// A run of ids. Ends are 64 bits wide: a run may reach past the last id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IdRange {
    start: u64,
    end: u64,
}

impl IdRange {
    /// `size` ids from `start` on.
    pub(crate) fn new(start: u32, size: u32) -> Self {
        Self {
            start: start.into(),
            end: u64::from(start) + u64::from(size),
        }
    }

    /// The first id.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The id after the last.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether `id` is one of them.
    pub(crate) fn contains(&self, id: u32) -> bool {
        (self.start..self.end).contains(&id.into())
    }

    fn len(&self) -> u64 {
        self.end - self.start
    }

    /// First id and number of ids; `None` for what is no range of real ids.
    pub(crate) fn parts(&self) -> Option<(u32, u32)> {
        Some((
            u32::try_from(self.start).ok()?,
            u32::try_from(self.len()).ok()?,
        ))
    }
}

/// Ids, as runs in order that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<IdRange>);

impl FromIterator<IdRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = IdRange>>(ranges: I) -> Self {
        let mut all: Vec<IdRange> = ranges.into_iter().filter(|r| r.start < r.end).collect();
        all.sort_unstable();
        let mut merged: Vec<IdRange> = Vec::with_capacity(all.len());
        for range in all {
            match merged.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl RangeSet {
    /// The runs.
    pub(crate) fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ids.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(IdRange::len).sum()
    }

    /// Ids of either.
    pub(crate) fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// Ids that `other` does not have.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for range in &self.0 {
            let mut at = range.start;
            for hole in other
                .0
                .iter()
                .skip_while(|hole| hole.end <= range.start)
                .take_while(|hole| hole.start < range.end)
            {
                if hole.start > at {
                    left.push(IdRange {
                        start: at,
                        end: hole.start,
                    });
                }
                at = at.max(hole.end);
            }
            if at < range.end {
                left.push(IdRange {
                    start: at,
                    end: range.end,
                });
            }
        }
        Self(left)
    }

    /// `size` ids of this set: the first run that is long enough, or else the first ids of
    /// several. `None` when there are not that many.
    pub(crate) fn take(&self, size: u32) -> Option<Vec<IdRange>> {
        let wanted = u64::from(size);
        if wanted == 0 {
            return Some(Vec::new());
        }
        if let Some(run) = self.0.iter().find(|run| run.len() >= wanted) {
            return Some(vec![IdRange {
                start: run.start,
                end: run.start + wanted,
            }]);
        }
        if self.len() < wanted {
            return None;
        }
        let mut missing = wanted;
        let mut taken = Vec::new();
        for run in &self.0 {
            let part = run.len().min(missing);
            taken.push(IdRange {
                start: run.start,
                end: run.start + part,
            });
            missing -= part;
            if missing == 0 {
                break;
            }
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[(u32, u32)]) -> RangeSet {
        ranges.iter().map(|(a, n)| IdRange::new(*a, *n)).collect()
    }

    #[test]
    fn runs_are_merged_and_cut() {
        let all = set(&[(10, 5), (0, 4), (13, 7), (20, 1), (30, 0)]);
        assert_eq!(all, set(&[(0, 4), (10, 11)]));
        assert_eq!(
            all.without(&set(&[(2, 10), (15, 1)])),
            set(&[(0, 2), (12, 3), (16, 5)])
        );
        assert_eq!(all.without(&all), RangeSet::default());
    }

    #[test]
    fn the_first_run_long_enough_is_taken_else_several() {
        let free = set(&[(0, 4), (10, 11)]);
        assert_eq!(free.take(5), Some(vec![IdRange::new(10, 5)]));
        assert_eq!(
            free.take(14),
            Some(vec![IdRange::new(0, 4), IdRange::new(10, 10)])
        );
        assert_eq!(free.take(16), None);
    }

    fn some_set() -> impl Strategy<Value = RangeSet> {
        prop::collection::vec((0_u32..400, 0_u32..60), 0..8)
            .prop_map(|ranges| ranges.iter().map(|(a, n)| IdRange::new(*a, *n)).collect())
    }

    fn ids(set: &RangeSet) -> std::collections::BTreeSet<u64> {
        set.ranges().iter().flat_map(|r| r.start..r.end).collect()
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(one in some_set(), other in some_set()) {
            let (a, b) = (ids(&one), ids(&other));
            prop_assert_eq!(ids(&one.union(&other)), &a | &b);
            prop_assert_eq!(ids(&one.without(&other)), &a - &b);
            prop_assert_eq!(one.len(), a.len() as u64);
            for pair in one.ranges().windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
        }

        /// Any order of taking and giving back: nothing is given to two, nothing is refused while
        /// enough is free, and what was given back is there again.
        #[test]
        fn what_is_taken_never_overlaps(
            pool in some_set(),
            steps in prop::collection::vec((any::<bool>(), 1_u32..80, any::<prop::sample::Index>()), 0..40),
        ) {
            let mut held: Vec<Vec<IdRange>> = Vec::new();
            for (take, size, which) in steps {
                if take || held.is_empty() {
                    let used: RangeSet = held.iter().flatten().copied().collect();
                    let free = pool.without(&used);
                    match free.take(size) {
                        Some(taken) => {
                            let new: RangeSet = taken.iter().copied().collect();
                            prop_assert_eq!(new.len(), u64::from(size));
                            prop_assert!(new.without(&pool).is_empty());
                            prop_assert_eq!(new.without(&used), new);
                            held.push(taken);
                        }
                        None => prop_assert!(free.len() < u64::from(size)),
                    }
                } else {
                    held.swap_remove(which.index(held.len()));
                }
            }
        }
    }
}
