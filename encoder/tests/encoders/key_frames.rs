//! Key frames come first and on demand, and at no other time.

use lenscast_encoder::Backend;

use crate::bitstream::{IDR_SLICE, PPS, SLICE, SPS, is_key_frame, nal_type, nal_units};
use crate::content::{Reel, noise, pattern, psnr};
use crate::decoder::Decoder;
use crate::stream::{Coded, IN_PLACE, Stream, size};

/// Says whether it is a key frame, by its own bits, which must agree with what the encoder says.
fn is_key(stream: &Stream, frame: &Coded) -> bool {
    let codec = stream.encoder.settings().backend.codec();
    assert_eq!(is_key_frame(codec, &frame.data), frame.key_frame, "{codec}");
    frame.key_frame
}

#[test]
fn the_first_frame_is_a_key_frame_and_no_other_of_300_even_across_cuts() {
    let resolution = size(192, 108);
    let mut cut_to = pattern(resolution, 500);
    cut_to.data_mut().iter_mut().for_each(|sample| *sample = 255 - *sample);
    for backend in IN_PLACE {
        let mut stream = Stream::new(backend, resolution, 30.0, 500);
        let mut keys = Vec::new();
        for frame in 0..300 {
            let picture = if frame / 75 % 2 == 0 { &pattern(resolution, frame) } else { &cut_to };
            if let Some(coded) = stream.encode(picture, false)
                && is_key(&stream, &coded)
            {
                keys.push(frame);
            }
        }
        assert_eq!(keys, [0], "{backend}");
    }
}

#[test]
fn a_key_frame_on_demand_is_the_next_frame_and_a_decoder_can_start_there() {
    let resolution = size(192, 108);
    for backend in IN_PLACE {
        let mut stream = Stream::new(backend, resolution, 30.0, 800);
        let mut late = None;
        for frame in 0..60 {
            let picture = pattern(resolution, frame);
            let coded = stream.encode(&picture, [10, 11, 40].contains(&frame)).expect("nothing to drop at this rate");
            assert_eq!(is_key(&stream, &coded), [0, 10, 11, 40].contains(&frame), "{backend}, frame {frame}");
            if frame == 40 {
                late = Some(Decoder::new(backend.codec()));
            }
            if let Some(decoder) = &mut late {
                let value = psnr(&picture, &decoder.decode(&coded.data));
                assert!(value > 30.0, "{backend}, frame {frame}: {value:.1} dB");
            }
        }
    }
}

#[test]
fn a_key_frame_asked_for_while_frames_are_dropped_comes_as_the_next_frame() {
    let resolution = size(192, 108);
    for backend in IN_PLACE {
        let mut stream = Stream::new(backend, resolution, 30.0, 50);
        let mut reel = (0..).map(|seed| noise(resolution, seed));
        let mut next = |stream: &mut Stream, key_frame| stream.encode(&reel.next().unwrap(), key_frame);
        let drops = (0..300).any(|_| next(&mut stream, false).is_none());
        assert!(drops, "{backend} drops, or this tests nothing");
        let dropping = (0..300).map(|_| next(&mut stream, false)).filter(Option::is_none).count();
        assert!(dropping > 100, "{backend} drops, or this tests nothing: {dropping}");
        for round in 0..3 {
            let mut asked = next(&mut stream, true);
            for _ in 0..900 {
                asked = asked.or_else(|| next(&mut stream, false));
            }
            let asked = asked.unwrap_or_else(|| panic!("{backend}, round {round}: nothing for 30 s"));
            assert!(is_key(&stream, &asked), "{backend}, round {round}");
        }
    }
}

#[test]
fn openh264_comes_back_with_a_key_frame_after_a_frame_that_it_cannot_hold() {
    let resolution = size(192, 108);
    let mut stream = Stream::new(Backend::H264, resolution, 30.0, 5_000);
    for _ in 0..30 {
        stream.encode(&pattern(resolution, 0), false);
    }
    // By now at the finest quantizer, at which noise takes up more than 8 bits a pixel.
    let mut decoder = Decoder::new(stream.encoder.settings().backend.codec());
    let first = stream.encode(&noise(resolution, 1), false).unwrap();
    assert!(is_key(&stream, &first), "or the frame fits, and this tests nothing");
    decoder.decode(&first.data);
    for seed in 2..30 {
        if let Some(coded) = stream.encode(&noise(resolution, seed), false) {
            decoder.decode(&coded.data);
        }
    }
}

#[test]
fn the_fallback_makes_key_frames_by_being_rebuilt_and_every_128_frames() {
    let resolution = size(64, 64);
    let mut stream = Stream::new(Backend::VpxEncode, resolution, 30.0, 300);
    let mut keys = Vec::new();
    for frame in 0..300 {
        let coded = stream.encode(&pattern(resolution, frame), frame == 20).expect("it drops nothing");
        if is_key(&stream, &coded) {
            keys.push(frame);
        }
    }
    assert_eq!(keys, [0, 20, 20 + 128, 20 + 2 * 128]);
}

#[test]
fn a_new_target_makes_no_key_frame_but_in_the_fallback() {
    let resolution = size(64, 64);
    for backend in Backend::ALL {
        let mut stream = Stream::new(backend, resolution, 30.0, 300);
        let mut pictures = (0..).map(|frame| pattern(resolution, frame));
        let mut next = |stream: &mut Stream| pictures.find_map(|picture| stream.encode(&picture, false)).unwrap();
        assert!(next(&mut stream).key_frame);
        for kbps in [299, 80, 900, 10, 100_000] {
            stream.set_kbps(kbps);
            assert_eq!(next(&mut stream).key_frame, backend == Backend::VpxEncode, "{backend} at {kbps} kb/s");
        }
    }
}

#[test]
fn sps_and_pps_precede_each_idr_of_one_slice_in_constrained_baseline() {
    // Level times ten that holds the size at 30 frames/s at least (ITU-T H.264 table A-1).
    for (resolution, level) in
        [(size(176, 144), 11), (size(640, 360), 30), (size(1280, 720), 31), (size(1920, 1080), 40)]
    {
        let mut stream = Stream::new(Backend::H264, resolution, 30.0, 1_000);
        let reel = Reel::new(2, |frame| pattern(resolution, frame));
        for frame in 0..8 {
            let coded = stream.encode(reel.picture(frame), frame == 5);
            let Some(coded) = coded else { continue };
            let units = nal_units(&coded.data);
            let types: Vec<_> = units.iter().map(|nal| nal_type(nal)).collect();
            if frame == 0 || frame == 5 {
                assert_eq!(types, [SPS, PPS, IDR_SLICE], "{resolution}, frame {frame}");
                let &[_, profile, constraints, level_of_sps] = units[0].first_chunk().unwrap();
                // §A.2.1.1: baseline that keeps to main's limits too.
                assert_eq!((profile, constraints & 0x40), (66, 0x40), "{resolution}: constrained baseline");
                assert!((level..=52).contains(&level_of_sps), "{resolution}: level {level_of_sps} is under {level}");
            } else {
                assert_eq!(types, [SLICE], "{resolution}, frame {frame}");
            }
        }
    }
}
