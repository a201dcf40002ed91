//! What fuzz targets need of the inside. Compiled for them only.

use std::time::{Duration, Instant};

use lenscast_media::{Codec, MediaCodec, NtpTime, RtpTime, Ssrc};

use crate::receive::{ExtensionReader, PublisherClock, Receiver, RtpPacket, TransportFeedback};
use crate::rtcp::Compound;
use crate::vp8::Vp8Descriptor;
use crate::{EncodingParameters, ExtensionId, PayloadType, ProducerParameters, ReceivedExtensions, Rid};

/// Reads one RTP packet and all its extensions.
pub fn rtp_packet(packet: &[u8]) {
    if let Ok(packet) = RtpPacket::read(packet) {
        let id = ExtensionId::new;
        let extensions = ReceivedExtensions { mid: id(1), rid: id(2), playout_delay: id(3), ..extensions() };
        let _ = ExtensionReader::new(&extensions).read(packet.extensions);
        let _ = packet.extensions.elements().count();
    }
}

/// Reads a VP8 payload's descriptor and rewrites it.
///
/// # Panics
///
/// If what was rewritten reads otherwise.
pub fn vp8_descriptor(payload: &[u8]) {
    if let Some(descriptor) = Vp8Descriptor::read(payload) {
        let mut rewritten = payload.to_vec();
        descriptor.rewrite(&mut rewritten, 1_000, 7);
        let again = Vp8Descriptor::read(&rewritten).expect("it was one before");
        assert_eq!(again.len, descriptor.len);
        assert!(again.picture_id.is_none_or(|id| id.value == if id.long { 1_000 } else { 1_000 & 0x7F }));
        let _ = descriptor.resolution(payload);
    }
}

/// Reads a VP9 payload's descriptor.
pub fn vp9_descriptor(payload: &[u8]) {
    let _ = crate::receive::Vp9Descriptor::read(payload);
}

/// Reads an H.264 payload and its sequence parameters.
pub fn h264_payload(payload: &[u8]) {
    let _ = crate::receive::H264Payload::read(payload);
}

/// Feeds a receiver packets cut from `data`: a byte of milliseconds, a byte of length, the packet. The first byte chooses the
/// codec.
///
/// # Panics
///
/// If the receiver does, or hands out a packet twice, or cannot be brought to rest.
pub fn receiver(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let codec = match choice % 4 {
        0 => MediaCodec::Opus,
        number => Codec::ALL[usize::from(number) - 1].into(),
    };
    #[allow(clippy::disallowed_methods)]
    let mut now = Instant::now();
    let named = |rid| EncodingParameters { rid: Rid::new(rid), ..EncodingParameters::default() };
    let parameters = ProducerParameters {
        codec,
        clock_rate: codec.clock_rate(),
        encodings: vec![named("0"), named("1")],
        temporal_layers: 1,
        payload_type: PayloadType::new(96),
        rtx_payload_type: PayloadType::new(97),
        mid: None,
        returns_reference_times: false,
        extensions: extensions(),
    };
    let mut receiver = Receiver::new(&parameters, Ssrc(1), now).expect("the parameters are right");
    let reader = ExtensionReader::new(&parameters.extensions);
    let mut feedback = TransportFeedback::new(Ssrc(1), now);
    let mut clock = PublisherClock::new();
    let mut handed_out = std::collections::BTreeSet::new();
    while let Some(([millis, len], behind)) = rest.split_first_chunk::<2>() {
        now += Duration::from_millis(u64::from(*millis) * 4);
        let (bytes, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        if let Ok(packet) = RtpPacket::read(bytes) {
            let values = reader.read(packet.extensions);
            if let Some(sequence) = values.transport_sequence {
                feedback.handle_packet(now, packet.ssrc, sequence);
            }
            let _ = receiver.handle_rtp(now, &packet, &values, &clock);
        } else if let Some(times) = bytes.first_chunk::<8>() {
            let ntp = NtpTime(u64::from_be_bytes(*times));
            clock.handle_sender_report(now, ntp);
            receiver.handle_sender_report(now, Ssrc(u32::from(times[0])), ntp, RtpTime(u32::from(times[1])));
        }
        if millis % 2 == 0 {
            for received in receiver.take_bursts() {
                for index in received.burst.packets() {
                    assert!(handed_out.insert((received.layer, index)), "{index} was handed out twice");
                }
            }
        }
        let mut compound = Compound::new();
        for _ in 0..16 {
            receiver.handle_timeout(now);
            receiver.write_feedback(now, &mut compound);
            feedback.write_due(now, &mut compound);
        }
        assert!(receiver.poll_timeout() > now, "it does not come to rest");
        assert!(crate::rtcp::read(compound.as_bytes()).all(|packet| packet.is_ok()), "what is written can be read");
    }
}

fn extensions() -> ReceivedExtensions {
    let id = ExtensionId::new;
    ReceivedExtensions {
        rid: id(4),
        repaired_rid: id(5),
        transport_sequence: id(6),
        absolute_capture_time: id(7),
        video_orientation: id(8),
        ..ReceivedExtensions::default()
    }
}
