use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lenscast_media::NtpTime;
use lenscast_router::RtpPackets;
use tokio::sync::mpsc;

/// Packets that a direct transport sends, as they would go to a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectPackets {
    /// RTP packets of one burst, in order.
    Rtp(Vec<Vec<u8>>),
    /// A compound RTCP packet.
    Rtcp(Vec<u8>),
}

/// The other side of a direct transport.
#[derive(Debug)]
pub struct DirectReceiver {
    packets: mpsc::Receiver<DirectPackets>,
    dropped: Arc<AtomicU64>,
}

/// Where a worker puts what a direct transport sends.
pub(crate) struct DirectSink {
    packets: mpsc::Sender<DirectPackets>,
    dropped: Arc<AtomicU64>,
    /// The next packet's number among all of the transport's.
    next_sequence: u16,
}

pub(crate) fn direct_channel(capacity: usize) -> (DirectSink, DirectReceiver) {
    let (sender, packets) = mpsc::channel(capacity.max(1));
    let dropped = Arc::new(AtomicU64::new(0));
    (
        DirectSink { packets: sender, dropped: Arc::clone(&dropped), next_sequence: 0 },
        DirectReceiver { packets, dropped },
    )
}

impl DirectReceiver {
    /// The next packets; `None` once the transport is closed and everything has been read.
    pub async fn recv(&mut self) -> Option<DirectPackets> {
        self.packets.recv().await
    }

    /// How many bursts and RTCP packets were dropped because nobody read them in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl DirectSink {
    /// Packets of one burst, which leave now.
    pub(crate) fn send_rtp(&mut self, packets: &RtpPackets<'_>, sent: NtpTime) {
        let written = (0..packets.len()).map(|position| {
            let mut packet = Vec::new();
            let layout = packets.write(position, &mut packet);
            layout.stamps.write(&mut packet, sent, self.next_sequence);
            self.next_sequence = self.next_sequence.wrapping_add(1);
            packet
        });
        let written = written.collect();
        self.send(DirectPackets::Rtp(written));
    }

    pub(crate) fn send(&self, packets: DirectPackets) {
        if self.packets.try_send(packets).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
