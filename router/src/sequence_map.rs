use std::collections::VecDeque;

use crate::rewrite::Rewrite;

/// Which of a consumer's sequence numbers stands for which packet of its producer, and with what rewriting it went out.
///
/// Packets of the current layer come in order ([`SequenceMap::forward`], [`SequenceMap::leave_out`]); what is missing
/// between them was lost on the way here and keeps its place, so that it can still be sent there if it comes late
/// ([`SequenceMap::late`]). What was left out has no place.
///
/// As long as everything is forwarded, both counts advance together and one run covers it all; each frame that is left
/// out and each switch starts another. The oldest runs are forgotten first.
#[derive(Debug)]
pub(crate) struct SequenceMap {
    runs: VecDeque<Run>,
    /// Index of the next packet: the sequence number continued without wrapping.
    next_index: u64,
    /// The current layer's packets below this are decided.
    decided: u64,
    /// The last run ends at `decided`: what follows can go on with it.
    open: bool,
    /// The highest temporal layer of the frames decided last.
    temporal: u8,
}

/// Where a packet is, or belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) layer: u8,
    /// Index in the producer's encoding.
    pub(crate) packet: u64,
    /// Index in the consumer's stream.
    pub(crate) index: u64,
    pub(crate) rewrite: Rewrite,
    /// The highest temporal layer that went out there. A packet of a higher one that comes late belongs to a frame that
    /// was left out.
    pub(crate) temporal: u8,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    index: u64,
    packet: u64,
    len: u64,
    layer: u8,
    rewrite: Rewrite,
    temporal: u8,
}

/// Two seconds at 60 frames/s with every other frame left out.
const MAX_RUNS: usize = 128;

impl SequenceMap {
    pub(crate) const fn new(first_index: u64) -> Self {
        Self { runs: VecDeque::new(), next_index: first_index, decided: 0, open: false, temporal: 0 }
    }

    /// Where the packet is that went out with `sequence`.
    pub(crate) fn find(&self, sequence: u16) -> Option<Place> {
        // The newest index below the next one with these low 16 bits.
        let last = self.next_index.checked_sub(1)?;
        let age = u64::from((last as u16).wrapping_sub(sequence));
        let index = last.checked_sub(age)?;
        let after = self.runs.partition_point(|run| run.index <= index);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (index - run.index < run.len).then(|| run.place(index - run.index))
    }

    /// The sequence number that went out last, if one has.
    pub(crate) fn newest(&self) -> Option<u16> {
        self.runs.back()?;
        Some((self.next_index - 1) as u16)
    }

    /// What went out so far is not to be found any more.
    pub(crate) fn forget(&mut self) {
        self.runs.clear();
        self.open = false;
    }

    /// Where `len` packets belong that come late; `None` if they were left out, precede the switch, or are too old.
    pub(crate) fn late(&self, layer: u8, packet: u64, len: u64) -> Option<Place> {
        let mut runs = self.runs.iter().rev().filter(|run| run.layer == layer);
        let run = runs.find(|run| run.packet <= packet)?;
        (packet + len <= run.packet + run.len).then(|| run.place(packet - run.packet))
    }

    /// The stream goes on with this packet, whatever was before.
    pub(crate) fn restart(&mut self, packet: u64) {
        self.decided = packet;
        self.open = false;
    }

    /// `len` packets from `packet` on go out, after all before them, of frames up to the temporal layer `temporal`. Returns
    /// the first one's index.
    pub(crate) fn forward(&mut self, layer: u8, packet: u64, len: u64, rewrite: Rewrite, temporal: u8) -> u64 {
        self.keep_places(layer, packet, rewrite);
        self.temporal = temporal;
        self.extend(layer, len, rewrite);
        self.next_index - len
    }

    /// `len` packets from `packet` on are left out, after all before them: frames go out up to `temporal` only.
    pub(crate) fn leave_out(&mut self, layer: u8, packet: u64, len: u64, rewrite: Rewrite, temporal: u8) {
        self.keep_places(layer, packet, rewrite);
        self.temporal = temporal;
        self.decided += len;
        self.open = false;
    }

    /// What is missing before `packet` may still come.
    fn keep_places(&mut self, layer: u8, packet: u64, rewrite: Rewrite) {
        match packet.checked_sub(self.decided) {
            Some(0) => {}
            Some(missing) => self.extend(layer, missing, rewrite),
            None => self.restart(packet),
        }
    }

    fn extend(&mut self, layer: u8, len: u64, rewrite: Rewrite) {
        let (index, packet, temporal) = (self.next_index, self.decided, self.temporal);
        self.next_index += len;
        self.decided += len;
        if self.open
            && let Some(run) = self.runs.back_mut()
            && (run.layer, run.rewrite, run.temporal) == (layer, rewrite, temporal)
        {
            run.len += len;
            return;
        }
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(Run { index, packet, len, layer, rewrite, temporal });
        self.open = true;
    }
}

impl Run {
    const fn place(&self, offset: u64) -> Place {
        Place {
            layer: self.layer,
            packet: self.packet + offset,
            index: self.index + offset,
            rewrite: self.rewrite,
            temporal: self.temporal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const PLAIN: Rewrite = Rewrite { timestamp: 0, picture_id: 0, base_layer_index: 0 };

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Forward(u64),
        LeaveOut(u64),
        Lose(u64),
        Switch,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1_u64..40).prop_map(Step::Forward),
            2 => (1_u64..40).prop_map(Step::LeaveOut),
            2 => (1_u64..40).prop_map(Step::Lose),
            1 => Just(Step::Switch),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(
            start in 0_u64..0x1_0000,
            steps in prop::collection::vec(step(), 1..300)
        ) {
            let mut map = SequenceMap::new(start);
            let mut sent = BTreeMap::new();
            let mut lost = BTreeMap::new();
            let mut left_out = Vec::new();
            let (mut index, mut layer, mut packets) = (start, 0_u8, [0_u64; 2]);
            let mut rewrite = PLAIN;
            let mut pending: Vec<u64> = Vec::new();
            map.restart(0);
            for step in steps {
                let packet = &mut packets[usize::from(layer)];
                let settle = |pending: &mut Vec<u64>, index: &mut u64, lost: &mut BTreeMap<_, _>, rewrite: Rewrite| {
                    for number in pending.drain(..) {
                        lost.insert(*index, (layer, number, rewrite));
                        *index += 1;
                    }
                };
                match step {
                    Step::Forward(len) => {
                        settle(&mut pending, &mut index, &mut lost, rewrite);
                        prop_assert_eq!(map.forward(layer, *packet, len, rewrite, 0), index);
                        for offset in 0..len {
                            sent.insert(index + offset, (layer, *packet + offset, rewrite));
                        }
                        index += len;
                        *packet += len;
                    }
                    Step::LeaveOut(len) => {
                        settle(&mut pending, &mut index, &mut lost, rewrite);
                        map.leave_out(layer, *packet, len, rewrite, 0);
                        left_out.push((layer, *packet));
                        *packet += len;
                        rewrite.picture_id += 1;
                    }
                    Step::Lose(len) => {
                        pending.extend(*packet..*packet + len);
                        *packet += len;
                    }
                    Step::Switch => {
                        pending.clear();
                        layer = 1 - layer;
                        // What came while the other was forwarded.
                        packets[usize::from(layer)] += 50;
                        rewrite.timestamp += 1;
                        map.restart(packets[usize::from(layer)]);
                    }
                }
            }
            let complete = map.runs.len() < MAX_RUNS;
            for (&at, &(layer, packet, rewrite)) in sent.iter().chain(&lost).take(2_000) {
                let expected = Place { layer, packet, index: at, rewrite, temporal: 0 };
                if index - at <= 0x1_0000 {
                    let found = map.find(at as u16);
                    prop_assert!(found == Some(expected) || (found.is_none() && !complete));
                }
                let late = map.late(layer, packet, 1);
                prop_assert!(late == Some(expected) || (late.is_none() && !complete));
            }
            for (layer, packet) in left_out {
                prop_assert_eq!(map.late(layer, packet, 1), None);
            }
        }
    }

    #[test]
    fn an_unbroken_stream_is_one_run_across_the_wrap() {
        let mut map = SequenceMap::new(65_000);
        for burst in 0..10_000_u64 {
            map.forward(0, burst * 7, 7, PLAIN, 0);
        }
        assert_eq!(map.runs.len(), 1);
        let next = 65_000 + 70_000_u64;
        assert_eq!(map.find((next - 1) as u16).unwrap().packet, 69_999);
        assert_eq!(map.find((next - 1_000) as u16).unwrap().packet, 69_000);
    }

    #[test]
    fn a_place_knows_what_temporal_layers_went_out_there() {
        let mut map = SequenceMap::new(0);
        map.forward(0, 0, 1, PLAIN, 0);
        // One is lost, then one more layer goes out.
        map.forward(0, 2, 1, PLAIN, 1);
        map.forward(0, 4, 1, PLAIN, 1);
        assert_eq!([1, 3].map(|packet| map.late(0, packet, 1).unwrap().temporal), [0, 1]);
    }

    #[test]
    fn nothing_sent_means_nothing_found() {
        let mut map = SequenceMap::new(0);
        assert_eq!(map.find(5), None);
        let mut map2 = SequenceMap::new(100);
        map2.forward(0, 0, 10, PLAIN, 0);
        assert_eq!((map2.find(99), map2.find(110)), (None, None), "not sent yet");
        map.restart(50);
        assert_eq!(map.late(0, 49, 1), None);
        map.forward(0, 50, 2, PLAIN, 0);
        assert_eq!(map.late(0, 49, 1), None, "it precedes the switch");
        assert_eq!(map.late(1, 50, 1), None, "of another layer");
    }
}
