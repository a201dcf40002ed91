/// Remembers which of the latest packets came: at least 64 × (`WORDS` − 1) of them.
///
/// A ring of words (RFC 6479), so that a step forward clears whole words and shifts nothing.
pub(super) struct ReplayWindow<const WORDS: usize> {
    highest: u64,
    /// Bit *n* stands for the latest index that is congruent to *n* modulo the window's bits.
    seen: [u64; WORDS],
}

const BITS: u64 = u64::BITS as u64;

impl<const WORDS: usize> ReplayWindow<WORDS> {
    /// Indices below the highest by this much or more are too old to tell.
    pub(super) const SPAN: u64 = (WORDS as u64 - 1) * BITS;

    pub(super) const fn starting_with(index: u64) -> Self {
        let mut seen = [0; WORDS];
        seen[(index / BITS) as usize % WORDS] = 1 << (index % BITS);
        Self { highest: index, seen }
    }

    /// The latest index that came.
    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// False for an index that came already, or might have.
    pub(super) const fn is_fresh(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        self.highest - index < Self::SPAN && self.seen[(index / BITS) as usize % WORDS] >> (index % BITS) & 1 == 0
    }

    /// A fresh packet of this index is accepted.
    pub(super) fn mark(&mut self, index: u64) {
        if index > self.highest {
            let words = (index / BITS - self.highest / BITS).min(WORDS as u64);
            for step in 1..=words {
                self.seen[(self.highest / BITS + step) as usize % WORDS] = 0;
            }
            self.highest = index;
        }
        self.seen[(index / BITS) as usize % WORDS] |= 1 << (index % BITS);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_set(indices in prop::collection::vec(prop_oneof![0_u64..400, 0_u64..4_000], 1..600)) {
            let mut window = ReplayWindow::<3>::starting_with(indices[0]);
            let mut seen = BTreeSet::from([indices[0]]);
            for &index in &indices[1..] {
                let highest = *seen.last().unwrap();
                let expected = !seen.contains(&index) && index + 128 > highest;
                prop_assert_eq!(window.is_fresh(index), expected);
                if expected {
                    window.mark(index);
                    seen.insert(index);
                }
                prop_assert_eq!(window.highest(), *seen.last().unwrap());
            }
        }
    }
}
