#![no_main]
// An encoder's output, as H.264 NAL units and as a VP8 or VP9 frame.
use lenscast_media::{Burst, BurstMeta, Codec, EncodedFrame, PassedExtensions, Resolution, RtpTime, StageTimes};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let resolution = Resolution::new(64, 64).expect("it is one");
    let now = std::time::Instant::now();
    let times = StageTimes { captured: now, ready: now, taken: now, encoded: now };
    for codec in Codec::ALL {
        let frame = EncodedFrame {
            data,
            codec,
            key_frame: true,
            resolution,
            temporal_layer: 0,
            layer_sync: false,
            quantizer: None,
        };
        let mut burst = Burst::new(BurstMeta {
            codec: codec.into(),
            key_frame: true,
            begins_frame: true,
            ends_frame: true,
            resolution: Some(resolution),
            temporal_layer: 0,
            layer_sync: false,
            first_packet: 0,
            rtp_time: RtpTime(0),
            times,
            extensions: PassedExtensions::default(),
        });
        lenscast_sender::Packetizer::new(codec, lenscast_encoder::TemporalLayers::One).packetize(&frame, &mut burst);
        assert!(
            (0..burst.len()).all(|packet| (1..=lenscast_sender::MAX_PAYLOAD).contains(&burst.payload(packet).len()))
        );
    }
});
