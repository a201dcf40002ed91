//! What remains without the upper layers is a stream of its own.

use std::time::Duration;

use lenscast_encoder::{Backend, TemporalLayers};
use lenscast_media::{Picture, Resolution};

use crate::bitstream::{SLICE, nal_type, nal_units};
use crate::content::{Reel, grainy, noise, pattern, psnr};
use crate::decoder::Decoder;
use crate::stream::{Coded, IN_PLACE, Stream, size};

const LAYERED: [TemporalLayers; 2] = [TemporalLayers::Two, TemporalLayers::Three];

/// A frame, what a decoder of all frames makes of it, and the picture it was made of.
struct Shown {
    coded: Coded,
    decoded: Picture,
    number: u32,
}

/// Encodes pictures 0.. of `picture` and decodes all that comes out. Key frames are asked for at `keys`.
fn shown(stream: &mut Stream, frames: u32, picture: impl Fn(u32) -> Picture, keys: &[u32]) -> Vec<Shown> {
    let mut decoder = Decoder::new(stream.encoder.settings().backend.codec());
    let coded = (0..frames).filter_map(|number| {
        let coded = stream.encode(&picture(number), keys.contains(&number))?;
        let decoded = decoder.decode(&coded.data);
        Some(Shown { coded, decoded, number })
    });
    coded.collect()
}

/// Decodes the frames up to layer `top` alone. Each must become the same picture as among all the others.
fn assert_stands_alone(backend: Backend, shown: &[Shown], top: u8, what: &str) {
    let mut decoder = Decoder::new(backend.codec());
    for Shown { coded, decoded, number } in shown.iter().filter(|shown| shown.coded.temporal_layer <= top) {
        let alone = decoder.decode(&coded.data);
        assert!(alone == *decoded, "{what}: frame {number} of layer {} is another up to {top}", coded.temporal_layer);
    }
}

#[test]
fn layers_follow_the_pattern_from_each_key_frame_on() {
    let resolution = size(192, 108);
    for backend in IN_PLACE {
        for (layers, expected) in [
            // Frames 7 and 8 start the pattern anew.
            (TemporalLayers::One, "0000000000000"),
            (TemporalLayers::Two, "01*01*01*0001*01*0"),
            (TemporalLayers::Three, "02*1*202*1*002*1*20"),
        ] {
            let mut stream = Stream::layered(backend, resolution, 30.0, 500, layers);
            let frames = shown(&mut stream, 13, |frame| pattern(resolution, frame), &[7, 8]);
            let told = |shown: &Shown| {
                let sync = if shown.coded.layer_sync { "*" } else { "" };
                format!("{}{sync}", shown.coded.temporal_layer)
            };
            let told: String = frames.iter().map(told).collect();
            assert_eq!(told, expected, "{backend} {layers}");
        }
    }
}

#[test]
fn without_the_upper_layers_a_stream_stays_the_same_to_the_bit_and_near_its_source() {
    let resolution = size(320, 180);
    for backend in IN_PLACE {
        for layers in LAYERED {
            let mut stream = Stream::layered(backend, resolution, 30.0, 600, layers);
            let frames = shown(&mut stream, 90, |frame| pattern(resolution, frame), &[41, 50]);
            let what = format!("{backend} {layers}");
            assert!(frames.len() >= 85, "{what}: {} frames for 90 pictures", frames.len());
            for shown in &frames {
                let value = psnr(&shown.decoded, &pattern(resolution, shown.number));
                assert!(value > 29.0, "{what}, frame {}: {value:.1} dB", shown.number);
            }
            for top in 0..layers.count() {
                assert_stands_alone(backend, &frames, top, &what);
            }
            let base = frames.iter().filter(|shown| shown.coded.temporal_layer == 0).count();
            let share = base as f64 / frames.len() as f64 * f64::from(1 << (layers.count() - 1));
            assert!((0.95..1.15).contains(&share), "{what}: {base} of {} frames in the base", frames.len());
        }
    }
}

#[test]
fn a_decoder_can_switch_up_at_every_sync_frame() {
    let resolution = size(192, 108);
    for backend in IN_PLACE {
        for layers in LAYERED {
            let mut stream = Stream::layered(backend, resolution, 30.0, 400, layers);
            let frames = shown(&mut stream, 24, |frame| pattern(resolution, frame), &[]);
            for (index, switch) in frames.iter().enumerate().filter(|(_, shown)| shown.coded.layer_sync) {
                let mut decoder = Decoder::new(backend.codec());
                for before in frames[..index].iter().filter(|shown| shown.coded.temporal_layer == 0) {
                    decoder.decode(&before.coded.data);
                }
                let decoded = decoder.decode(&switch.coded.data);
                assert!(decoded == switch.decoded, "{backend} {layers}, frame {index}");
            }
        }
    }
}

#[test]
fn the_layers_stand_alone_while_frames_are_dropped() {
    let resolution = size(192, 108);
    let reel = Reel::new(8, |frame| noise(resolution, u64::from(frame)));
    for backend in IN_PLACE {
        for layers in LAYERED {
            let mut stream = Stream::layered(backend, resolution, 30.0, 150, layers);
            let frames = shown(&mut stream, 300, |frame| reel.picture(frame).clone(), &[100, 200]);
            let what = format!("{backend} {layers}, noise");
            assert!(frames.len() < 250, "{what}: nothing is dropped, so this tests nothing");
            assert!(frames.len() > 12, "{what}: {} frames", frames.len());
            for top in 0..layers.count() {
                assert_stands_alone(backend, &frames, top, &what);
            }
        }
    }
}

/// Bytes of each layer and the frames' whole, over `span` after two seconds to settle.
fn bytes_by_layer(stream: &mut Stream, resolution: Resolution, span: Duration) -> ([usize; 3], usize) {
    let reel = Reel::new(40, |frame| grainy(resolution, frame, 8));
    let mut bytes = [0; 3];
    for number in 0.. {
        if stream.now >= span + Duration::from_secs(2) {
            break;
        }
        let settled = stream.now >= Duration::from_secs(2);
        if let Some(coded) = stream.encode(reel.picture(number), false)
            && settled
        {
            bytes[usize::from(coded.temporal_layer)] += coded.data.len();
        }
    }
    (bytes, bytes.iter().sum())
}

#[test]
fn the_layers_share_the_target_out_and_meet_it_together() {
    let resolution = size(320, 180);
    let span = Duration::from_secs(10);
    for backend in IN_PLACE {
        for (layers, split) in [(TemporalLayers::Two, [60, 40, 0]), (TemporalLayers::Three, [40, 20, 40])] {
            let mut stream = Stream::layered(backend, resolution, 30.0, 500, layers);
            let (bytes, whole) = bytes_by_layer(&mut stream, resolution, span);
            let kbps = whole as f64 * 8.0 / 1_000.0 / span.as_secs_f64();
            let shares = bytes.map(|bytes| bytes as f64 / whole as f64 * 100.0);
            let what = format!("{backend} {layers}: {kbps:.0} kb/s of 500, shares {shares:.0?}");
            assert!((425.0..=575.0).contains(&kbps), "{what}");
            for (share, expected) in shares.into_iter().zip(split) {
                assert!((share - f64::from(expected)).abs() <= 13.0, "{what}");
            }
        }
    }
}

#[test]
fn upper_slices_of_h264_are_of_one_slice_and_the_topmost_are_no_references() {
    let resolution = size(320, 180);
    let mut stream = Stream::layered(Backend::H264, resolution, 30.0, 500, TemporalLayers::Three);
    for shown in shown(&mut stream, 12, |frame| pattern(resolution, frame), &[]).iter().skip(1) {
        let units = nal_units(&shown.coded.data);
        assert_eq!(units.iter().map(|nal| nal_type(nal)).collect::<Vec<_>>(), [SLICE]);
        // ITU-T H.264 §7.4.1: nal_ref_idc.
        assert_eq!(units[0][0] >> 5 & 3 == 0, shown.coded.temporal_layer == 2);
    }
}
