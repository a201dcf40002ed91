//! What the ends of a pipe tell each other of their producers: RTCP APP packets (RFC 3550 §6.7) with the name `LCST`, in
//! SRTCP like all other feedback.
//!
//! Each message holds everything that its sender has to say, under a version, and is sent again until a message of the
//! other end has acknowledged that version: 200 ms after the first time, then after twice as long, a second at most.
//! Whatever is lost, repeated or overtaken, the newest counts at last.
//!
//! ```text
//! both     epoch: u64, acknowledge: u8 (1: the other end is to answer)
//! states   wanted version seen: u64, count: u8, { producer: u64, version: u64, flags: u8, sending: u8 } …
//! wanted   version: u64, count: u8, { producer: u64, state version seen: u64, wanted: u8 } …
//! ```
//! in network order; which of both it is, the subtype says. A message with more than that at its end is read as if it had
//! no more, so that later versions may say more; a format that is not compatible gets another subtype.

use std::time::{Duration, Instant};

use lenscast_media::{LayerSet, Ssrc};
use lenscast_router::rtcp::{Application, Compound};
use lenscast_router::{ProducerId, StreamState};

use super::MAX_PIPED_PRODUCERS;

const NAME: [u8; 4] = *b"LCST";
const STATES: u8 = 1;
const WANTED: u8 = 2;

const PAUSED: u8 = 1;
const CLOSED: u8 = 2;

/// From the origin: what its producers are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct States {
    /// As [`PipeOffer::epoch`](super::PipeOffer::epoch).
    pub(crate) epoch: u64,
    /// It is sent again until it is answered.
    pub(crate) acknowledge: bool,
    /// The newest [`Wanted::version`] that has arrived; 0 for none.
    pub(crate) wanted_seen: u64,
    pub(crate) producers: Vec<(ProducerId, StreamState)>,
}

/// From the edge: what it wants of each producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) epoch: u64,
    /// It is sent again until it is answered.
    pub(crate) acknowledge: bool,
    /// From 1.
    pub(crate) version: u64,
    pub(crate) producers: Vec<WantedProducer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WantedProducer {
    pub(crate) producer: ProducerId,
    /// The newest [`StreamState::version`] that has arrived, and one: 0 for none.
    pub(crate) state_seen: u64,
    pub(crate) layers: LayerSet,
}

/// A message of either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    States(States),
    Wanted(Wanted),
}

impl Control {
    /// `None` for a packet of somebody else's, of another format, or cut short.
    pub(crate) fn read(packet: &Application<'_>) -> Option<Self> {
        if packet.name != NAME {
            return None;
        }
        let mut data = Reader(packet.data);
        let (epoch, acknowledge) = (data.u64()?, data.u8()? != 0);
        match packet.subtype {
            STATES => {
                let wanted_seen = data.u64()?;
                let producers = data.list(|data| {
                    let (producer, version, flags, sending) = (data.u64()?, data.u64()?, data.u8()?, data.u8()?);
                    let state = StreamState {
                        version,
                        paused: flags & PAUSED != 0,
                        closed: flags & CLOSED != 0,
                        sending: LayerSet::from_bits(sending),
                    };
                    Some((ProducerId(producer), state))
                });
                Some(Self::States(States { epoch, acknowledge, wanted_seen, producers: producers? }))
            }
            WANTED => {
                let version = data.u64()?;
                let producers = data.list(|data| {
                    Some(WantedProducer {
                        producer: ProducerId(data.u64()?),
                        state_seen: data.u64()?,
                        layers: LayerSet::from_bits(data.u8()?),
                    })
                });
                Some(Self::Wanted(Wanted { epoch, acknowledge, version, producers: producers? }))
            }
            _ => None,
        }
    }

    /// Appends it to `compound`.
    pub(crate) fn write(&self, sender: Ssrc, compound: &mut Compound) {
        let mut data = Vec::new();
        let subtype = match self {
            Self::States(states) => {
                data.extend_from_slice(&states.epoch.to_be_bytes());
                data.push(u8::from(states.acknowledge));
                data.extend_from_slice(&states.wanted_seen.to_be_bytes());
                data.push(states.producers.len() as u8);
                for (producer, state) in &states.producers {
                    data.extend_from_slice(&producer.0.to_be_bytes());
                    data.extend_from_slice(&state.version.to_be_bytes());
                    data.push((u8::from(state.paused) * PAUSED) | (u8::from(state.closed) * CLOSED));
                    data.push(state.sending.bits());
                }
                STATES
            }
            Self::Wanted(wanted) => {
                data.extend_from_slice(&wanted.epoch.to_be_bytes());
                data.push(u8::from(wanted.acknowledge));
                data.extend_from_slice(&wanted.version.to_be_bytes());
                data.push(wanted.producers.len() as u8);
                for producer in &wanted.producers {
                    data.extend_from_slice(&producer.producer.0.to_be_bytes());
                    data.extend_from_slice(&producer.state_seen.to_be_bytes());
                    data.push(producer.layers.bits());
                }
                WANTED
            }
        };
        compound.push_application(sender, subtype, NAME, &data);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::from(self.u8()?);
        (count <= MAX_PIPED_PRODUCERS).then(|| (0..count).map(|_| read(self)).collect()).flatten()
    }
}

/// When a message that is not acknowledged is sent again.
#[derive(Debug)]
pub(crate) struct Repetition {
    due: Option<Instant>,
    interval: Duration,
}

const FIRST_INTERVAL: Duration = Duration::from_millis(200);
const MAX_INTERVAL: Duration = Duration::from_secs(1);

impl Repetition {
    /// Nothing has to be sent.
    pub(crate) const fn idle() -> Self {
        Self { due: None, interval: FIRST_INTERVAL }
    }

    /// There is something new to send, at once.
    pub(crate) const fn start(&mut self, now: Instant) {
        *self = Self { due: Some(now), interval: FIRST_INTERVAL };
    }

    /// It is being sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.due = Some(now + self.interval);
        self.interval = (self.interval * 2).min(MAX_INTERVAL);
    }

    /// It has arrived.
    pub(crate) const fn stop(&mut self) {
        *self = Self::idle();
    }

    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use lenscast_router::rtcp::{self, Packet};
    use proptest::prelude::*;

    use super::*;

    fn read_back(control: &Control) -> Option<Control> {
        let mut compound = Compound::new();
        control.write(Ssrc(1), &mut compound);
        match rtcp::read(compound.as_bytes()).next() {
            Some(Ok(Packet::Application(packet))) => Control::read(&packet),
            other => panic!("{other:?}"),
        }
    }

    fn states() -> impl Strategy<Value = Control> {
        let producer = (any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>(), any::<u8>());
        let producers = prop::collection::vec(producer, 0..=MAX_PIPED_PRODUCERS);
        (any::<u64>(), any::<bool>(), any::<u64>(), producers).prop_map(
            |(epoch, acknowledge, wanted_seen, producers)| {
                let state = |(producer, version, paused, closed, sending)| {
                    let sending = LayerSet::from_bits(sending);
                    (ProducerId(producer), StreamState { version, paused, closed, sending })
                };
                Control::States(States {
                    epoch,
                    acknowledge,
                    wanted_seen,
                    producers: producers.into_iter().map(state).collect(),
                })
            },
        )
    }

    fn wanted() -> impl Strategy<Value = Control> {
        let producers = prop::collection::vec((any::<u64>(), any::<u64>(), any::<u8>()), 0..=MAX_PIPED_PRODUCERS);
        (any::<u64>(), any::<bool>(), any::<u64>(), producers).prop_map(|(epoch, acknowledge, version, producers)| {
            let producer = |(producer, state_seen, layers)| WantedProducer {
                producer: ProducerId(producer),
                state_seen,
                layers: LayerSet::from_bits(layers),
            };
            Control::Wanted(Wanted {
                epoch,
                acknowledge,
                version,
                producers: producers.into_iter().map(producer).collect(),
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(control in prop_oneof![states(), wanted()]) {
            prop_assert_eq!(read_back(&control), Some(control));
        }

        #[test]
        fn garbage_is_read_or_refused(subtype in 0_u8..4, data in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(control) = Control::read(&Application { sender: Ssrc(1), name: NAME, subtype, data: &data }) {
                prop_assert_eq!(read_back(&control), Some(control));
            }
        }
    }

    #[test]
    fn other_applications_are_left_alone() {
        let packet = Application { sender: Ssrc(1), name: *b"qtsi", subtype: STATES, data: &[0; 64] };
        assert_eq!(Control::read(&packet), None);
    }

    #[test]
    fn repetitions_slow_down_to_one_a_second() {
        let start = Instant::now();
        let (mut repetition, mut now) = (Repetition::idle(), start);
        repetition.start(now);
        let times: Vec<_> = (0..6)
            .map(|_| {
                now = repetition.due().unwrap();
                repetition.sent(now);
                (now - start).as_millis()
            })
            .collect();
        assert_eq!(times, [0, 200, 600, 1_400, 2_400, 3_400]);
        repetition.stop();
        assert_eq!(repetition.due(), None);
    }
}
