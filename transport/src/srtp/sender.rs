use lenscast_router::PacketLayout;

use super::keys::{MasterKey, Transform, Use, srtcp_aad};
use super::{ProtectionProfile, SRTCP_ENCRYPTED, SRTCP_HEADER, source_of};

/// Protects what goes out.
pub struct SrtpSender {
    rtp: Transform,
    rtcp: Transform,
    /// SRTCP's own index, one for all our sources: it only has to be unique per source.
    rtcp_index: u32,
}

impl SrtpSender {
    pub(super) fn new(profile: ProtectionProfile, master: MasterKey<'_>) -> Self {
        Self {
            rtp: Transform::new(profile, master, Use::Rtp),
            rtcp: Transform::new(profile, master, Use::Rtcp),
            rtcp_index: 0,
        }
    }

    /// Protects the RTP packet that `buffer` holds from `start` to its end, and appends its tag.
    pub fn seal_rtp(&self, buffer: &mut Vec<u8>, start: usize, layout: &PacketLayout) {
        let packet = &mut buffer[start..];
        let (header, payload) = packet.split_at_mut(layout.header_len);
        match &self.rtp {
            Transform::Gcm(gcm) => {
                let tag = gcm.seal(gcm.rtp_nonce(layout.ssrc, layout.index), header, payload);
                buffer.extend_from_slice(tag.as_ref());
            }
            Transform::Cm(cm) => {
                cm.apply(layout.ssrc, layout.index, payload);
                let rollover = (layout.index >> 16) as u32;
                let tag = cm.rtp_tag(&buffer[start..], rollover);
                buffer.extend_from_slice(tag.as_bytes());
            }
        }
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
