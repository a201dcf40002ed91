//! What the parts of forwarding cost, sampled: one call in [`PERIOD`] is timed.

use std::time::{Duration, Instant};

/// Where the time of the sampled packets went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardingCost {
    /// Packets sampled.
    pub packets: u64,
    /// From the end of the send before to packets that are written but for their protection.
    pub rewrite: Duration,
    /// Protecting them.
    pub seal: Duration,
    /// Handing them to the system.
    pub send: Duration,
}

impl ForwardingCost {
    /// What was added to an `earlier` reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            rewrite: self.rewrite - earlier.rewrite,
            seal: self.seal - earlier.seal,
            send: self.send - earlier.send,
        }
    }
}

/// A prime, so that no viewer of any number is left out for ever. A sample reads the clock four times: 0.1 µs of, with seven
/// packets a frame, some 600.
const PERIOD: u32 = 61;

/// Picks the samples.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    cost: ForwardingCost,
    /// Sends since the last sample.
    sends: u32,
    /// When the send before ended, if the next one is to be timed.
    before: Option<Instant>,
}

/// A send that is timed.
#[derive(Debug)]
pub(crate) struct Sample {
    packets: u64,
    before: Instant,
    written: Instant,
    sealed: Instant,
}

impl Sampler {
    pub(crate) const fn cost(&self) -> ForwardingCost {
        self.cost
    }

    /// The time until the next send is not all spent on it.
    pub(crate) fn interrupt(&mut self) {
        self.before = None;
    }

    /// The packets of a send are written.
    pub(crate) fn written(&mut self, packets: usize) -> Option<Sample> {
        let before = self.before.take()?;
        let now = Instant::now();
        Some(Sample { packets: packets as u64, before, written: now, sealed: now })
    }

    /// They are on their way.
    pub(crate) fn sent(&mut self, sample: Option<Sample>) {
        match sample {
            Some(sample) => {
                self.cost.packets += sample.packets;
                self.cost.rewrite += sample.written - sample.before;
                self.cost.seal += sample.sealed - sample.written;
                self.cost.send += sample.sealed.elapsed();
            }
            None => {
                self.sends += 1;
                if self.sends >= PERIOD {
                    self.sends = 0;
                    self.before = Some(Instant::now());
                }
            }
        }
    }
}

impl Sample {
    pub(crate) fn sealed(&mut self) {
        self.sealed = Instant::now();
    }
}
