use crate::{RtpPackets, TransportId};

/// Where a [`Worker`](crate::Worker) writes what leaves it: the driver's side of the sockets.
pub trait Egress {
    /// Protects the packets and sends them to the transport's peer, all in one system call if that can be done.
    fn send_rtp(&mut self, transport: TransportId, packets: &RtpPackets<'_>);

    /// Protects one compound RTCP packet and sends it.
    fn send_rtcp(&mut self, transport: TransportId, compound: &[u8]);
}
