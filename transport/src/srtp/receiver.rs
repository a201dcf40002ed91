use lenscast_media::Ssrc;
use thiserror::Error;

use super::keys::{MasterKey, Transform, Use, srtcp_aad};
use super::replay::ReplayWindow;
use super::{ProtectionProfile, SRTCP_ENCRYPTED, SRTCP_HEADER, SRTCP_INDEX_LEN, source_of};

/// Accepts what comes in.
pub struct SrtpReceiver {
    rtp: Transform,
    rtcp: Transform,
    /// In the order of their sources.
    rtp_sources: Vec<(Ssrc, RtpWindow)>,
    rtcp_sources: Vec<(Ssrc, RtcpWindow)>,
}

/// libwebrtc remembers 1,024 packets (`SrtpSession`): a retransmission, or the slower of two paths, can be that late.
type RtpWindow = ReplayWindow<17>;
/// RFC 3711 §3.3.2 wants 64 at least.
type RtcpWindow = ReplayWindow<2>;

/// A pipe's 16 producers of four layers, each with a source for retransmissions, and as much again for the pipe's
/// successor under the same keys, were there one.
const MAX_RTP_SOURCES: usize = 256;
/// A viewer reports from one source; browsers that offer several tracks use one more for each.
const MAX_RTCP_SOURCES: usize = 32;

/// The fixed header of RFC 3550 §5.1 without CSRCs.
const RTP_HEADER: usize = 12;
/// 2³² rollovers: what a key is good for (RFC 3711 §3.2.1).
const INDEX_BITS: u32 = 48;

/// Why an RTP packet was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenSrtpError {
    /// Too short for its header and a tag, or not RTP.
    #[error("SRTP packet of {0} bytes is malformed")]
    Malformed(usize),
    /// The authentication tag does not fit.
    #[error("SRTP packet is not authentic")]
    NotAuthentic,
    /// It came before, or is older than what is remembered, or than the stream.
    #[error("SRTP packet with sequence number {sequence} of SSRC {ssrc} is a replay")]
    Replay {
        /// Its source.
        ssrc: Ssrc,
        /// Its sequence number.
        sequence: u16,
    },
    /// The peer uses more sources than any does.
    #[error("SRTP packets from more than {MAX_RTP_SOURCES} sources")]
    TooManySources,
}

/// Why an RTCP packet was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenSrtcpError {
    /// Too short for header, tag and index.
    #[error("SRTCP packet of {0} bytes is too short")]
    TooShort(usize),
    /// The authentication tag does not fit.
    #[error("SRTCP packet is not authentic")]
    NotAuthentic,
    /// It came before, or is older than what is remembered.
    #[error("SRTCP packet {index} of SSRC {ssrc} is a replay")]
    Replay {
        /// Its source.
        ssrc: Ssrc,
        /// Its index.
        index: u32,
    },
    /// The peer uses more sources than any does.
    #[error("SRTCP packets from more than {MAX_RTCP_SOURCES} sources")]
    TooManySources,
    /// The E bit is not set: the packet says that it is not encrypted, which no WebRTC endpoint's is. Whether it is
    /// authentic is not looked at.
    #[error("SRTCP packet is not encrypted")]
    NotEncrypted,
}

impl SrtpReceiver {
    pub(super) fn new(profile: ProtectionProfile, master: MasterKey<'_>) -> Self {
        Self {
            rtp: Transform::new(profile, master, Use::Rtp),
            rtcp: Transform::new(profile, master, Use::Rtcp),
            rtp_sources: Vec::new(),
            rtcp_sources: Vec::new(),
        }
    }

    /// Checks and decrypts an RTP packet in place; what it returns is the packet in the clear, without its tag. What
    /// fails leaves `packet` in no particular state.
    ///
    /// # Errors
    ///
    /// If the packet is not authentic, was here before, or is one too many.
    pub fn open_rtp<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], OpenSrtpError> {
        let len = packet.len();
        let malformed = OpenSrtpError::Malformed(len);
        let header_len = rtp_header_len(packet).ok_or(malformed)?;
        let plain_end = len.checked_sub(self.rtp.tag_len()).filter(|end| *end >= header_len).ok_or(malformed)?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = Ssrc(u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]));
        let replay = OpenSrtpError::Replay { ssrc, sequence };

        let known = self.rtp_sources.binary_search_by_key(&ssrc, |(source, _)| *source);
        let index = match known {
            Ok(position) => {
                let window = &self.rtp_sources[position].1;
                estimate_index(window.highest(), sequence).filter(|index| window.is_fresh(*index)).ok_or(replay)?
            }
            Err(_) if self.rtp_sources.len() == MAX_RTP_SOURCES => return Err(OpenSrtpError::TooManySources),
            Err(_) => u64::from(sequence),
        };
        let authentic = match &self.rtp {
            Transform::Gcm(gcm) => {
                let (header, sealed) = packet.split_at_mut(header_len);
                gcm.open(gcm.rtp_nonce(ssrc, index), header, sealed)
            }
            Transform::Cm(cm) => {
                let (signed, tag) = packet.split_at_mut(plain_end);
                let authentic = cm.rtp_tag(signed, (index >> 16) as u32).fits(tag);
                if authentic {
                    cm.apply(ssrc, index, &mut signed[header_len..]);
                }
                authentic
            }
        };
        if !authentic {
            return Err(OpenSrtpError::NotAuthentic);
        }
        match known {
            Ok(position) => self.rtp_sources[position].1.mark(index),
            Err(position) => self.rtp_sources.insert(position, (ssrc, RtpWindow::starting_with(index))),
        }
        Ok(&packet[..plain_end])
    }

    /// Checks and decrypts a compound RTCP packet in place; what it returns is the readable part of `packet`.
    ///
    /// # Errors
    ///
    /// If the packet is not authentic, was here before, or is one too many.
    pub fn open_rtcp<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], OpenSrtcpError> {
        let tag_len = self.rtcp.tag_len();
        let len = packet.len();
        let body_end = len
            .checked_sub(tag_len + SRTCP_INDEX_LEN)
            .filter(|end| *end >= SRTCP_HEADER)
            .ok_or(OpenSrtcpError::TooShort(len))?;
        let ssrc = source_of(packet);
        let known = self.rtcp_sources.iter().position(|(source, _)| *source == ssrc);
        if known.is_none() && self.rtcp_sources.len() == MAX_RTCP_SOURCES {
            return Err(OpenSrtcpError::TooManySources);
        }
        let index_at = match self.rtcp {
            Transform::Gcm(_) => len - SRTCP_INDEX_LEN,
            Transform::Cm(_) => body_end,
        };
        let index_word = [packet[index_at], packet[index_at + 1], packet[index_at + 2], packet[index_at + 3]];
        let word = u32::from_be_bytes(index_word);
        if word & SRTCP_ENCRYPTED == 0 {
            return Err(OpenSrtcpError::NotEncrypted);
        }
        let index = word & !SRTCP_ENCRYPTED;
        if known.is_some_and(|position| !self.rtcp_sources[position].1.is_fresh(u64::from(index))) {
            return Err(OpenSrtcpError::Replay { ssrc, index });
        }
        let authentic = match &self.rtcp {
            Transform::Gcm(gcm) => {
                let (header, sealed) = packet[..index_at].split_at_mut(SRTCP_HEADER);
                let aad = srtcp_aad(header, index_word);
                gcm.open(gcm.rtcp_nonce(ssrc, index), &aad, sealed)
            }
            Transform::Cm(cm) => {
                let (signed, tag) = packet.split_at_mut(len - tag_len);
                let authentic = cm.rtcp_tag(signed).fits(tag);
                if authentic {
                    cm.apply(ssrc, u64::from(index), &mut signed[SRTCP_HEADER..body_end]);
                }
                authentic
            }
        };
        if !authentic {
            return Err(OpenSrtcpError::NotAuthentic);
        }
        match known {
            Some(position) => self.rtcp_sources[position].1.mark(u64::from(index)),
            None => self.rtcp_sources.push((ssrc, RtcpWindow::starting_with(u64::from(index)))),
        }
        Ok(&packet[..body_end])
    }

    /// Sources that something is remembered of.
    #[cfg(test)]
    pub(super) fn sources(&self) -> usize {
        self.rtp_sources.len() + self.rtcp_sources.len()
    }
}

/// Bytes of the header with its CSRCs and extension (RFC 3550 §5.1), which stay readable. `None` if this is not RTP.
fn rtp_header_len(packet: &[u8]) -> Option<usize> {
    let fixed = packet.first_chunk::<RTP_HEADER>()?;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    let mut len = RTP_HEADER + 4 * usize::from(fixed[0] & 0x0F);
    if fixed[0] & 0x10 != 0 {
        let extension = packet.get(len..)?.first_chunk::<4>()?;
        len += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
    }
    (len <= packet.len()).then_some(len)
}

/// The index that a packet with this sequence number has, if it is within 2¹⁵ of the highest so far (RFC 3711 §3.3.1 and
/// appendix A). `None` for what would be before the stream's first rollover counter, or after the last.
fn estimate_index(highest: u64, sequence: u16) -> Option<u64> {
    let ahead = i64::from(sequence.wrapping_sub(highest as u16) as i16);
    let index = u64::try_from(highest as i64 + ahead).ok()?;
    (index >> INDEX_BITS == 0).then_some(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 3711, appendix A, in its own words.
    fn appendix_a(highest: u64, sequence: u16) -> i64 {
        let (rollover, s_l, seq) = ((highest >> 16) as i64, i64::from(highest as u16), i64::from(sequence));
        let v = if s_l < 32_768 {
            if seq - s_l > 32_768 { rollover - 1 } else { rollover }
        } else if s_l - 32_768 > seq {
            rollover + 1
        } else {
            rollover
        };
        (v << 16) + seq
    }

    proptest! {
        #[test]
        fn the_index_is_estimated_as_in_the_rfc(highest in prop_oneof![0_u64..1 << 18, (1 << 48) - 70_000..1_u64 << 48], sequence: u16) {
            // Half way round there is nothing to choose by; the RFC takes one side or the other.
            prop_assume!(sequence.wrapping_sub(highest as u16) != 1 << 15);
            let expected = appendix_a(highest, sequence);
            prop_assert_eq!(estimate_index(highest, sequence), u64::try_from(expected).ok().filter(|index| index >> 48 == 0));
        }
    }
}
