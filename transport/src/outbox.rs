//! What one thread sends to many viewers: written, then protected, then sent, each for a batch of viewers at once.
//!
//! The system call takes most of the time, and its code and memory push everything else out of the processor's caches: a
//! batch comes back to the cipher's code, and to the kernel's, less often than a viewer at a time would.
//!
//! **Invariants.** What is queued leaves in the order in which it was queued, before [`Outbox::flush`] returns. Nothing is
//! allocated for a packet once the buffers have grown to a batch.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::time::Instant;

use lenscast_router::{PacketLayout, RtpPackets, TransportId};

use crate::hub::Wire;
use crate::srtp::RtpSealer;
use crate::{ForwardingCost, Path};

/// Recipients, and what waits to be sent to them.
#[derive(Default)]
pub(crate) struct Outbox {
    recipients: HashMap<TransportId, Recipient, BuildHasherDefault<IdHasher>>,
    /// The packets of all messages, one behind the other: header, payload and room for the tag.
    buffer: Vec<u8>,
    /// Packet *i* ends at `ends[i]` in `buffer`.
    ends: Vec<usize>,
    layouts: Vec<PacketLayout>,
    messages: Vec<Message>,
    queued_to: Vec<TransportId>,
    began: Option<Instant>,
    cost: ForwardingCost,
}

/// Packets of one viewer.
pub(crate) struct Message {
    pub(crate) path: Path,
    /// Indices of its packets in the batch.
    pub(crate) packets: Range<usize>,
}

/// What the hot path needs of a session.
struct Recipient {
    path: Path,
    sealer: RtpSealer,
}

/// Viewers in a batch, and bytes that begin no further one. Measured with frames of 8 KB: with four and with sixteen a packet
/// costs the same within what runs differ by, with one 10 to 20 % more, with 32 some percent more.
const BATCH_MESSAGES: usize = 8;
const BATCH_BYTES: usize = 192 * 1024;

impl Outbox {
    pub(crate) const fn cost(&self) -> ForwardingCost {
        self.cost
    }

    /// From now on, packets of this transport go there. Without a path or keys they are dropped.
    pub(crate) fn direct(&mut self, id: TransportId, to: Option<(Path, RtpSealer)>) {
        match to {
            Some((path, sealer)) => _ = self.recipients.insert(id, Recipient { path, sealer }),
            None => _ = self.recipients.remove(&id),
        }
    }

    /// The time from here to the next flush is spent on what is queued till then.
    pub(crate) fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// Queues packets, and sends what is queued if that makes a batch.
    pub(crate) fn push(&mut self, id: TransportId, packets: &RtpPackets<'_>, wire: &mut impl Wire) {
        let Some(recipient) = self.recipients.get(&id) else { return };
        let tag = recipient.sealer.tag_len();
        let first = self.ends.len();
        for position in 0..packets.len() {
            self.layouts.push(packets.write(position, &mut self.buffer));
            self.buffer.resize(self.buffer.len() + tag, 0);
            self.ends.push(self.buffer.len());
        }
        self.messages.push(Message { path: recipient.path, packets: first..self.ends.len() });
        self.queued_to.push(id);
        if self.messages.len() >= BATCH_MESSAGES || self.buffer.len() >= BATCH_BYTES {
            self.flush(wire);
        }
    }

    /// Sends what is queued.
    pub(crate) fn flush(&mut self, wire: &mut impl Wire) {
        if self.messages.is_empty() {
            return;
        }
        let written = Instant::now();
        let mut start = 0;
        for (message, id) in self.messages.iter().zip(&self.queued_to) {
            let sealer = &self.recipients[id].sealer;
            for packet in message.packets.clone() {
                let end = self.ends[packet];
                sealer.seal(&mut self.buffer[start..end], &self.layouts[packet]);
                start = end;
            }
        }
        let sealed = Instant::now();
        wire.send_batch(&self.buffer, &self.ends, &self.messages);
        let sent = Instant::now();
        self.cost.packets += self.ends.len() as u64;
        self.cost.rewrite += self.began.map_or_else(Default::default, |began| written - began);
        self.cost.seal += sealed - written;
        self.cost.send += sent - sealed;
        self.began = Some(sent);
        self.buffer.clear();
        self.ends.clear();
        self.layouts.clear();
        self.messages.clear();
        self.queued_to.clear();
    }
}

/// Spreads identifiers, which count up, over a table. They are ours: nobody can choose them so that they collide.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing: the table looks at the lowest bits and at the highest seven.
        let spread = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ spread >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
