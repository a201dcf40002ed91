/// Unwraps a stream's sequence numbers to indices that never wrap, and knows which of the newest have come.
///
/// Follows RFC 3550 A.1: what is a little ahead or a little behind belongs to the sequence, what is far off does not,
/// unless the next number follows on it: then the source has started anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceWindow {
    /// `None` before the first packet.
    state: Option<State>,
    /// The highest index of the sequence before this one.
    after: Option<u64>,
}

#[derive(Debug, Clone)]
struct State {
    /// The highest index that has come, and its sequence number.
    highest: u64,
    sequence: u16,
    /// The lowest index of the sequence, older ones cannot come.
    base: u64,
    /// One bit for each of the newest [`WINDOW`] indices, at the index modulo [`WINDOW`]: it has come.
    arrived: [u64; WORDS],
    /// What must come next for a far-off number to have been a new beginning.
    restart: Option<u16>,
}

/// What became of a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The first packet, or the second of a sequence that began anew; it continues the indices.
    First(u64),
    /// Ahead of all others; what lies between is missing.
    Newest(u64),
    /// It comes after later ones.
    Late(u64),
    /// It has come before.
    Duplicate,
    /// Farther behind than packets are waited for, or far ahead: dropped unless its successor comes next.
    FarOff,
}

/// How far behind the newest a packet may be: mediasoup's `MaxMisorder` is 1,500 (`RTC/RTP/RtpStream.cpp`), and two
/// seconds of 10 Mb/s are 2,000 packets.
pub(crate) const MAX_MISORDER: u64 = 2_000;
/// How far ahead of the newest a packet may be (`MAX_DROPOUT` of RFC 3550 A.1).
const MAX_DROPOUT: u16 = 3_000;
const WORDS: usize = 32;
/// More than [`MAX_MISORDER`].
const WINDOW: u64 = WORDS as u64 * 64;
/// Where indices begin: above 0, because packets may come that were sent before the first.
const FIRST_INDEX: u64 = 1 << 16;

impl SequenceWindow {
    /// Continues the indices of another sequence behind `index`.
    pub(crate) fn after(index: u64) -> Self {
        Self { state: None, after: Some(index) }
    }

    /// The highest index that has come, of the sequence before if none has of this one.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.highest).or(self.after)
    }

    #[inline]
    pub(crate) fn place(&mut self, sequence: u16) -> Placed {
        if let Some(state) = &mut self.state {
            return state.place(sequence);
        }
        let (index, base) = match self.after {
            Some(before) => (before + 1, before + 1),
            None => (FIRST_INDEX, FIRST_INDEX - MAX_MISORDER),
        };
        self.state = Some(State::begin(index, base, sequence));
        Placed::First(index)
    }

    /// The number of an index.
    pub(crate) fn sequence_of(&self, index: u64) -> u16 {
        let state = self.state.as_ref();
        state.map_or(0, |state| state.sequence.wrapping_add(index.wrapping_sub(state.highest) as u16))
    }

    /// Where a number belongs without taking it in, if it is among those that may still come.
    pub(crate) fn index_of(&self, sequence: u16) -> Option<u64> {
        let state = self.state.as_ref()?;
        let behind = u64::from(state.sequence.wrapping_sub(sequence));
        let index = state.highest.checked_sub(behind)?;
        (behind <= MAX_MISORDER && index >= state.base).then_some(index)
    }
}

impl State {
    fn begin(index: u64, base: u64, sequence: u16) -> Self {
        let mut state = Self { highest: index, sequence, base, arrived: [0; WORDS], restart: None };
        state.set(index);
        state
    }

    #[inline]
    fn place(&mut self, sequence: u16) -> Placed {
        let ahead = sequence.wrapping_sub(self.sequence);
        if ahead == 0 {
            return Placed::Duplicate;
        }
        if ahead < MAX_DROPOUT {
            let index = self.highest + u64::from(ahead);
            self.clear_between(self.highest + 1, index);
            self.set(index);
            (self.highest, self.sequence, self.restart) = (index, sequence, None);
            return Placed::Newest(index);
        }
        let behind = u64::from(self.sequence.wrapping_sub(sequence));
        if behind <= MAX_MISORDER {
            return match self.highest.checked_sub(behind).filter(|index| *index >= self.base) {
                Some(index) if self.has(index) => Placed::Duplicate,
                Some(index) => {
                    self.set(index);
                    Placed::Late(index)
                }
                None => Placed::FarOff,
            };
        }
        if self.restart == Some(sequence) {
            let index = self.highest + 1;
            *self = Self::begin(index, index, sequence);
            return Placed::First(index);
        }
        self.restart = Some(sequence.wrapping_add(1));
        Placed::FarOff
    }

    fn has(&self, index: u64) -> bool {
        let bit = index % WINDOW;
        self.arrived[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    fn set(&mut self, index: u64) {
        let bit = index % WINDOW;
        self.arrived[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn clear_between(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW {
            self.arrived = [0; WORDS];
            return;
        }
        for index in from..=to {
            let bit = index % WINDOW;
            self.arrived[(bit / 64) as usize] &= !(1 << (bit % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wraps_reorders_and_drops_duplicates() {
        let mut window = SequenceWindow::default();
        let first = FIRST_INDEX;
        assert_eq!(window.place(65_534), Placed::First(first));
        assert_eq!(window.place(1), Placed::Newest(first + 3));
        assert_eq!(window.place(65_535), Placed::Late(first + 1));
        assert_eq!(window.place(65_535), Placed::Duplicate);
        assert_eq!(window.place(1), Placed::Duplicate);
        assert_eq!(window.place(65_530), Placed::Late(first - 4), "sent before the first that came");
        assert_eq!(window.index_of(0), Some(first + 2));
    }

    #[test]
    fn a_far_jump_counts_once_its_successor_follows() {
        let mut window = SequenceWindow::default();
        assert_eq!(window.place(100), Placed::First(FIRST_INDEX));
        assert_eq!(window.place(30_000), Placed::FarOff);
        assert_eq!(window.place(101), Placed::Newest(FIRST_INDEX + 1), "it was a stray packet");
        assert_eq!(window.place(30_001), Placed::FarOff);
        assert_eq!(window.place(30_002), Placed::First(FIRST_INDEX + 2), "indices go on");
        assert_eq!(window.place(30_001), Placed::FarOff, "nothing lies between the two sequences");
        assert_eq!(window.place(30_003), Placed::Newest(FIRST_INDEX + 3));
    }

    #[test]
    fn another_source_continues_the_indices() {
        let mut window = SequenceWindow::after(FIRST_INDEX + 9);
        assert_eq!(window.index_of(7), None);
        assert_eq!(window.place(7), Placed::First(FIRST_INDEX + 10));
        assert_eq!(window.place(6), Placed::FarOff, "it would fall on an index of the source before");
    }

    proptest! {
        /// Loss, duplication and reordering by less than the window leave each packet with its index, exactly once.
        #[test]
        fn every_packet_gets_its_index_exactly_once(
            start: u16,
            packets in prop::collection::vec((0_u64..1_500, 1_usize..3, prop::bool::weighted(0.9)), 1..6_000)
        ) {
            let mut order: Vec<(u64, u64)> = Vec::new();
            for (number, (delay, copies, sent)) in packets.iter().enumerate() {
                let number = number as u64;
                order.extend((0..if *sent { *copies } else { 0 }).map(|copy| (number + delay + copy as u64, number)));
            }
            order.sort_unstable();
            let mut window = SequenceWindow::default();
            let mut seen = std::collections::BTreeSet::new();
            let mut offset = None;
            for (_, number) in order {
                match window.place(start.wrapping_add(number as u16)) {
                    Placed::First(index) | Placed::Newest(index) | Placed::Late(index) => {
                        prop_assert_eq!(index.wrapping_sub(number), *offset.get_or_insert(index.wrapping_sub(number)));
                        prop_assert!(seen.insert(number));
                    }
                    Placed::Duplicate => prop_assert!(seen.contains(&number)),
                    Placed::FarOff => prop_assert!(false, "{number} is not far off"),
                }
            }
        }

        #[test]
        fn any_numbers_are_survived_and_indices_are_unique(sequences in prop::collection::vec(any::<u16>(), 0..500)) {
            let mut window = SequenceWindow::default();
            let mut seen = std::collections::BTreeSet::new();
            for sequence in sequences {
                if let Placed::First(index) | Placed::Newest(index) | Placed::Late(index) = window.place(sequence) {
                    prop_assert!(seen.insert(index));
                    prop_assert_eq!(window.index_of(sequence), Some(index));
                    prop_assert_eq!(window.sequence_of(index), sequence);
                }
            }
        }
    }
}
