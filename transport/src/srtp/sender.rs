use std::sync::Arc;

use lenscast_router::PacketLayout;

use super::keys::{MasterKey, Transform, Use, srtcp_aad};
use super::{ProtectionProfile, SRTCP_ENCRYPTED, SRTCP_HEADER, source_of};

/// Protects what goes out.
pub struct SrtpSender {
    rtp: RtpSealer,
    rtcp: Transform,
    /// SRTCP's own index, one for all our sources: it only has to be unique per source.
    rtcp_index: u32,
}

/// Protects RTP that goes out. Cheap to clone: the keys are shared.
#[derive(Clone)]
pub struct RtpSealer(Arc<Transform>);

impl RtpSealer {
    /// Bytes that stand behind a protected payload.
    #[must_use]
    pub fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    /// Protects an RTP packet in place, and writes its tag to its last [`RtpSealer::tag_len`] bytes.
    ///
    /// # Panics
    ///
    /// If `packet` is shorter than its header and the tag.
    pub fn seal(&self, packet: &mut [u8], layout: &PacketLayout) {
        let (body, tag) = packet.split_at_mut(packet.len() - self.tag_len());
        let (header, payload) = body.split_at_mut(layout.header_len);
        match &*self.0 {
            Transform::Gcm(gcm) => {
                tag.copy_from_slice(gcm.seal(gcm.rtp_nonce(layout.ssrc, layout.index), header, payload).as_ref());
            }
            Transform::Cm(cm) => {
                cm.apply(layout.ssrc, layout.index, payload);
                let rollover = (layout.index >> 16) as u32;
                tag.copy_from_slice(cm.rtp_tag(body, rollover).as_bytes());
            }
        }
    }

    /// Protects `payload` on its way into an RTP packet, of which the header is written already: `packet` has room for the
    /// payload and the tag behind it.
    ///
    /// # Panics
    ///
    /// If `packet` is not as long as all three.
    pub fn seal_into(&self, payload: &[u8], packet: &mut [u8], layout: &PacketLayout) {
        let Transform::Gcm(gcm) = &*self.0 else {
            packet[layout.header_len..][..payload.len()].copy_from_slice(payload);
            return self.seal(packet, layout);
        };
        let (header, rest) = packet.split_at_mut(layout.header_len);
        let (sealed, tag) = rest.split_at_mut(payload.len());
        gcm.seal_into(gcm.rtp_nonce(layout.ssrc, layout.index), header, payload, sealed, tag);
    }
}

impl SrtpSender {
    pub(super) fn new(profile: ProtectionProfile, master: MasterKey<'_>) -> Self {
        Self {
            rtp: RtpSealer(Arc::new(Transform::new(profile, master, Use::Rtp))),
            rtcp: Transform::new(profile, master, Use::Rtcp),
            rtcp_index: 0,
        }
    }

    /// What protects RTP.
    #[must_use]
    pub fn rtp(&self) -> RtpSealer {
        self.rtp.clone()
    }

    /// Protects the RTP packet that `buffer` holds from `start` to its end, and appends its tag.
    pub fn seal_rtp(&self, buffer: &mut Vec<u8>, start: usize, layout: &PacketLayout) {
        buffer.resize(buffer.len() + self.rtp.tag_len(), 0);
        self.rtp.seal(&mut buffer[start..], layout);
    }

    /// Protects the compound RTCP packet that `buffer` holds, and appends its tag and index.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than an RTCP header with its source, 8 bytes.
    pub fn seal_rtcp(&mut self, buffer: &mut Vec<u8>) {
        let ssrc = source_of(buffer);
        // 31 bits. A session that lasts 68 years at one report a second wraps them.
        let index = self.rtcp_index;
        self.rtcp_index = (index + 1) & !SRTCP_ENCRYPTED;
        let index_word = (index | SRTCP_ENCRYPTED).to_be_bytes();
        match &self.rtcp {
            Transform::Gcm(gcm) => {
                let (header, body) = buffer.split_at_mut(SRTCP_HEADER);
                let aad = srtcp_aad(header, index_word);
                let tag = gcm.seal(gcm.rtcp_nonce(ssrc, index), &aad, body);
                buffer.extend_from_slice(tag.as_ref());
                buffer.extend_from_slice(&index_word);
            }
            Transform::Cm(cm) => {
                cm.apply(ssrc, u64::from(index), &mut buffer[SRTCP_HEADER..]);
                buffer.extend_from_slice(&index_word);
                let tag = cm.rtcp_tag(buffer);
                buffer.extend_from_slice(tag.as_bytes());
            }
        }
    }
}
