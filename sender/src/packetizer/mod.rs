//! From one encoded frame to the payloads of its RTP packets.
//!
//! **Invariants.** No payload exceeds [`MAX_PAYLOAD`]. The payloads of one frame (of one NAL unit in H.264) are of equal
//! length but for a shorter last one: that is what lets one system call send them. What a packetizer counts (picture
//! identifiers) goes on across encoders, so that a rebuild looks like any key frame.

mod fragments;
mod h264;
mod vp8;
mod vp9;

use lenscast_encoder::TemporalLayers;
use lenscast_media::{Burst, Codec, EncodedFrame};

pub(crate) use fragments::fragments;

/// Bytes of one payload at most, codec descriptor included.
///
/// A datagram of ours has at most 1,200 bytes, what QUIC holds safe everywhere (RFC 9000 §14) and libwebrtc uses too. Of
/// these go: 12 for the RTP header, 36 for header extensions, 16 for the SRTP tag, and 2 for the original sequence number
/// when a packet is sent again.
pub const MAX_PAYLOAD: usize = 1_200 - 12 - 36 - 16 - 2;

/// Cuts one track's frames.
#[derive(Debug)]
pub enum Packetizer {
    /// RFC 7741.
    Vp8(vp8::Vp8Packetizer),
    /// RFC 9628.
    Vp9(vp9::Vp9Packetizer),
    /// RFC 6184, packetization-mode 1.
    H264(h264::H264Packetizer),
}

impl Packetizer {
    /// For a track in this codec with so many temporal layers.
    #[must_use]
    pub fn new(codec: Codec, layers: TemporalLayers) -> Self {
        match codec {
            Codec::Vp8 => Self::Vp8(vp8::Vp8Packetizer::default()),
            Codec::Vp9 => Self::Vp9(vp9::Vp9Packetizer::new(layers)),
            Codec::H264 => Self::H264(h264::H264Packetizer),
        }
    }

    /// Appends the frame's packets to `burst`. A frame without data makes none.
    pub fn packetize(&mut self, frame: &EncodedFrame<'_>, burst: &mut Burst) {
        match self {
            Self::Vp8(packetizer) => packetizer.packetize(frame, burst),
            Self::Vp9(packetizer) => packetizer.packetize(frame, burst),
            Self::H264(packetizer) => packetizer.packetize(frame, burst),
        }
    }
}

/// Picture identifiers of VP8 and VP9: 15 bits, and 8 bits that count base-layer frames (RFC 7741 §4.2, RFC 9628 §4.2).
#[derive(Debug, Default)]
struct PictureIds {
    picture_id: u16,
    tl0_picture_index: u8,
    started: bool,
}

impl PictureIds {
    fn advance(&mut self, temporal_layer: u8) {
        if temporal_layer == 0 {
            self.tl0_picture_index = self.tl0_picture_index.wrapping_add(u8::from(self.started));
        }
        self.picture_id = self.picture_id.wrapping_add(u16::from(self.started)) & 0x7FFF;
        self.started = true;
    }

    /// With the bit set that says it has 15 bits.
    const fn long_picture_id(&self) -> [u8; 2] {
        (self.picture_id | 0x8000).to_be_bytes()
    }
}

#[cfg(all(test, not(lenscast_loom)))]
pub(crate) mod tests {
    use std::time::Instant;

    use lenscast_media::{BurstMeta, PassedExtensions, Resolution, RtpTime, StageTimes};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn frame(codec: Codec, data: &[u8], key_frame: bool) -> EncodedFrame<'_> {
        EncodedFrame {
            data,
            codec,
            key_frame,
            resolution: Resolution::new(1280, 720).unwrap(),
            temporal_layer: 0,
            layer_sync: false,
            quantizer: None,
        }
    }

    pub(crate) fn packetized(packetizer: &mut Packetizer, frame: &EncodedFrame<'_>) -> Burst {
        let now = Instant::now();
        let mut burst = Burst::new(BurstMeta {
            codec: frame.codec.into(),
            key_frame: frame.key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: Some(frame.resolution),
            temporal_layer: frame.temporal_layer,
            layer_sync: frame.layer_sync,
            first_packet: 0,
            rtp_time: RtpTime(0),
            times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
            extensions: PassedExtensions::default(),
        });
        packetizer.packetize(frame, &mut burst);
        burst
    }

    pub(crate) fn payloads(burst: &Burst) -> impl Iterator<Item = &[u8]> {
        (0..burst.len()).map(|index| burst.payload(index))
    }

    pub(crate) fn assert_equal_but_last(payloads: &[&[u8]]) {
        if let [first, .., last] = payloads {
            let (_, all_but_last) = payloads.split_last().unwrap();
            assert!(all_but_last.iter().all(|payload| payload.len() == first.len()));
            assert!(last.len() <= first.len() && !last.is_empty());
        }
    }

    proptest! {
        #[test]
        fn nothing_exceeds_the_datagram_and_nothing_makes_nothing(
            len in prop_oneof![0_usize..5_000, Just(0), Just(1_134), 100_000_usize..1_500_000], key_frame in any::<bool>()
        ) {
            let data: Vec<u8> = (0..len).map(|byte| byte as u8 | 1).collect();
            for codec in [Codec::Vp8, Codec::Vp9] {
                let burst = packetized(&mut Packetizer::new(codec, TemporalLayers::One), &frame(codec, &data, key_frame));
                let payloads: Vec<_> = payloads(&burst).collect();
                prop_assert_eq!(payloads.is_empty(), data.is_empty());
                prop_assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
                assert_equal_but_last(&payloads);
            }
        }
    }
}
