use crate::{Inbound, OutletId, RtpPackets, TransportSlot};

/// Where a [`Worker`](crate::Worker) writes what leaves it: the driver's side of the sockets and of the other workers'
/// channels.
pub trait Egress {
    /// Protects the packets and sends them to the transport's peer, all in one system call if that can be done.
    fn send_rtp(&mut self, transport: TransportSlot, packets: &RtpPackets<'_>);

    /// Protects one compound RTCP packet and sends it.
    fn send_rtcp(&mut self, transport: TransportSlot, compound: &[u8]);

    /// Puts a message into the channel of the worker that an outlet leads to, without waiting. False if there is no room;
    /// the message is gone then.
    fn send_inbound(&mut self, outlet: OutletId, message: Inbound) -> bool;
}
