use std::collections::VecDeque;

/// Remembers which of the producer's packets a consumer's sequence numbers stood for, so that a NACK finds its packet.
///
/// As long as a consumer forwards everything, both counts advance together and one run covers it all; each pause and
/// each dropped frame starts another. The oldest runs are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct SequenceRuns {
    runs: VecDeque<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    index: u64,
    packet: u64,
    len: u64,
}

/// Two seconds at 60 frames/s with every other frame dropped.
const MAX_RUNS: usize = 128;

impl SequenceRuns {
    /// The producer's packet that went out with `sequence`; `next_index` is the index the consumer will use next.
    pub(crate) fn packet(&self, sequence: u16, next_index: u64) -> Option<u64> {
        // The newest index below `next_index` with these low 16 bits.
        let last = next_index.checked_sub(1)?;
        let age = u64::from((last as u16).wrapping_sub(sequence));
        let index = last.checked_sub(age)?;
        let run = self.runs.iter().rev().find(|run| run.index <= index)?;
        (index - run.index < run.len).then(|| run.packet + (index - run.index))
    }

    /// `len` packets of the producer's from `packet` on went out with indices from `index` on.
    pub(crate) fn push(&mut self, index: u64, packet: u64, len: u64) {
        if let Some(run) = self.runs.back_mut()
            && run.index + run.len == index
            && run.packet + run.len == packet
        {
            run.len += len;
            return;
        }
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(Run { index, packet, len });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(start in 0_u64..0x1_0000, steps in prop::collection::vec((0_u64..4, 1_u64..40), 1..300)) {
            let mut runs = SequenceRuns::default();
            let mut sent = BTreeMap::new();
            let (mut index, mut packet) = (start, 0);
            for (skipped, len) in steps {
                packet += skipped;
                runs.push(index, packet, len);
                for offset in 0..len {
                    sent.insert(index + offset, packet + offset);
                }
                index += len;
                packet += len;
            }
            for (&sent_index, &expected) in sent.iter().rev().take(2_000) {
                let found = runs.packet(sent_index as u16, index);
                prop_assert!(found == Some(expected) || (found.is_none() && runs.runs.len() == MAX_RUNS));
            }
        }
    }

    #[test]
    fn an_unbroken_stream_is_one_run_across_the_wrap() {
        let mut runs = SequenceRuns::default();
        for burst in 0..10_000_u64 {
            runs.push(65_000 + burst * 7, burst * 7, 7);
        }
        assert_eq!(runs.runs.len(), 1);
        let next = 65_000 + 70_000;
        assert_eq!(runs.packet((next - 1) as u16, next), Some(69_999));
        assert_eq!(runs.packet((next - 1_000) as u16, next), Some(69_000));
    }

    #[test]
    fn nothing_sent_means_nothing_found() {
        let mut runs = SequenceRuns::default();
        assert_eq!(runs.packet(5, 0), None);
        runs.push(100, 0, 10);
        assert_eq!(runs.packet(99, 110), None);
        assert_eq!(runs.packet(110, 110), None, "not sent yet");
    }
}
