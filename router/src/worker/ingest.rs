use std::time::Instant;

use lenscast_media::{NtpTime, RtpTime, Ssrc};

use super::Worker;
use crate::{Egress, HandleRtpError, TransportId, TransportSlot};

impl Worker {
    /// An RTP packet, decrypted, from a transport's peer. What it makes complete is forwarded by
    /// [`Worker::end_of_batch`].
    ///
    /// # Errors
    ///
    /// If it belongs to no producer, or its producer's receiver refuses it.
    pub fn handle_rtp(&mut self, _now: Instant, transport: TransportId, _packet: &[u8]) -> Result<(), HandleRtpError> {
        Err(HandleRtpError::UnknownTransport(transport))
    }

    /// All packets that were received together have been handled: forwards what they make up.
    pub fn end_of_batch(&mut self, _now: Instant, _egress: &mut impl Egress) {}

    pub(super) fn handle_sender_report(&mut self, _: Instant, _: TransportSlot, _: Ssrc, _: NtpTime, _: RtpTime) {}

    pub(super) fn receive_due(&mut self, _: Instant, _: usize, _: &mut impl Egress) {}
}
