//! Whatever is handed in, nothing panics, and the encoder goes on.

use std::time::Duration;

use lenscast_encoder::{BITRATES, Backend, EncoderSettings, FRAMERATES, FrameTiming, TemporalLayers, build};
use lenscast_media::{Bitrate, Picture};
use proptest::prelude::*;

use crate::content::{noise, pattern};
use crate::decoder::Decoder;
use crate::stream::{Stream, size};

#[test]
fn a_picture_of_another_size_is_refused_by_both_sizes_and_the_next_is_encoded() {
    for backend in Backend::ALL {
        let mut stream = Stream::new(backend, size(320, 180), 30.0, 500);
        for (width, height) in [(180, 320), (16, 16), (1280, 720)] {
            let wrong = Picture::black(size(width, height));
            let error = stream.encode_after(&wrong, false, Duration::from_millis(33)).unwrap_err().to_string();
            for part in [&backend.to_string(), "320x180", &format!("{width}x{height}")] {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        }
        let first = (0..40).find_map(|frame| stream.encode(&pattern(size(320, 180), frame), false)).unwrap();
        assert!(first.key_frame);
    }
}

#[test]
fn the_legal_extremes_work_in_every_combination() {
    for backend in Backend::ALL {
        for resolution in [size(16, 16), size(320, 180)] {
            for framerate in [*FRAMERATES.start(), *FRAMERATES.end()] {
                for bitrate in [*BITRATES.start(), *BITRATES.end()] {
                    let settings = EncoderSettings {
                        backend,
                        resolution,
                        framerate,
                        bitrate,
                        temporal_layers: TemporalLayers::One,
                    };
                    let mut encoder = build(&settings).unwrap_or_else(|error| panic!("{error}"));
                    let mut decoder = Decoder::new(backend.codec());
                    let step = Duration::from_secs_f64(1.0 / framerate);
                    for frame in 0..40 {
                        let timing = FrameTiming { timestamp: step * frame, duration: step };
                        let picture = noise(resolution, u64::from(frame));
                        if let Some(coded) = encoder.encode(&picture, timing, frame == 30).unwrap() {
                            decoder.decode(coded.data);
                        }
                    }
                }
            }
        }
    }
}

fn even_side() -> impl Strategy<Value = u32> {
    // Small ones mostly: a large frame takes a hundred times as long.
    prop_oneof![4 => 8_u32..80, 1 => 80_u32..=640].prop_map(|half| half * 2)
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => (0_u64..100_000).prop_map(Duration::from_micros),
        1 => any::<u64>().prop_map(Duration::from_nanos),
        1 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
        1 => Just(Duration::from_secs(72 * 60)),
    ]
}

#[derive(Debug, Clone)]
struct Step {
    timestamp: Duration,
    duration: Duration,
    key_frame: bool,
    /// Any at all, the illegal too.
    target: Option<u64>,
    noisy: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let target = prop::option::weighted(0.3, prop_oneof![10_000_u64..20_000_000, any::<u64>()]);
    (span(), span(), prop::bool::weighted(0.2), target, any::<bool>()).prop_map(
        |(timestamp, duration, key_frame, target, noisy)| Step { timestamp, duration, key_frame, target, noisy },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_size_rate_and_timing_is_encoded_into_what_a_decoder_takes(
        backend in prop::sample::select(&Backend::ALL[..]),
        width in even_side(),
        height in even_side(),
        framerate in 1.0_f64..=240.0,
        bps in 10_000_u64..=100_000_000,
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let resolution = size(width, height);
        let settings = EncoderSettings { backend, resolution, framerate, bitrate: Bitrate::from_bps(bps), temporal_layers: TemporalLayers::One };
        let mut encoder = build(&settings).unwrap();
        let mut decoder = Decoder::new(backend.codec());
        for (number, step) in steps.into_iter().enumerate() {
            if let Some(bps) = step.target {
                let target = Bitrate::from_bps(bps);
                prop_assert_eq!(encoder.set_bitrate(target).is_ok(), BITRATES.contains(&target));
            }
            let picture = if step.noisy { noise(resolution, number as u64) } else { pattern(resolution, number as u32) };
            let timing = FrameTiming { timestamp: step.timestamp, duration: step.duration };
            if let Some(coded) = encoder.encode(&picture, timing, step.key_frame).unwrap() {
                prop_assert_eq!(decoder.decode(coded.data).resolution(), resolution);
            }
        }
    }
}
