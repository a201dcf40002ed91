//! What comes out of a decoder is what went into the encoder.
//!
//! Not of `vpx-encode`: it chooses its speed, and with it what a frame looks like, by the clock.

use lenscast_encoder::Backend;
use lenscast_media::Picture;

use crate::content::{noise, pattern, psnr};
use crate::decoder::Decoder;
use crate::stream::{IN_PLACE, Stream, size};

/// Encodes and decodes `pictures`; gives each decoded one's PSNR against the picture it was made of.
fn fidelity(stream: &mut Stream, pictures: &[Picture]) -> Vec<f64> {
    let backend = stream.encoder.settings().backend;
    let mut decoder = Decoder::new(backend.codec());
    // Where nothing is dropped, each picture gives a frame.
    let coded = pictures.iter().filter_map(|picture| stream.encode(picture, false));
    coded.zip(pictures).map(|(frame, picture)| psnr(picture, &decoder.decode(&frame.data))).collect()
}

fn assert_all_above(values: &[f64], least: f64, what: &str) {
    assert!(!values.is_empty() && values.iter().all(|&value| value >= least), "{what}: {values:.1?}");
}

#[test]
fn a_moving_pattern_is_the_same_after_decoding() {
    let resolution = size(320, 180);
    let pictures: Vec<_> = (0..60).map(|frame| pattern(resolution, frame)).collect();
    for backend in IN_PLACE {
        let values = fidelity(&mut Stream::new(backend, resolution, 30.0, 600), &pictures);
        assert!(values.len() >= 59, "{backend}: {} frames for 60 pictures", values.len());
        assert_all_above(&values, 30.0, &format!("{backend}, all frames"));
        assert_all_above(&values[15..], 36.0, &format!("{backend}, after half a second"));
    }
}

#[test]
fn still_noise_is_the_same_after_decoding_once_the_rate_has_paid_for_it() {
    let resolution = size(64, 64);
    let pictures = vec![noise(resolution, 7); 60];
    for backend in IN_PLACE {
        let values = fidelity(&mut Stream::new(backend, resolution, 30.0, 4_000), &pictures);
        assert_all_above(&values[values.len() - 5..], 30.0, &backend.to_string());
    }
}

#[test]
fn sizes_that_no_macroblock_divides_lose_nothing_at_their_edges() {
    for (width, height) in [(16, 16), (18, 16), (16, 30), (50, 34), (322, 182), (1280, 16), (16, 720)] {
        let resolution = size(width, height);
        let pictures: Vec<_> = (0..30).map(|frame| pattern(resolution, frame)).collect();
        for backend in IN_PLACE {
            let values = fidelity(&mut Stream::new(backend, resolution, 30.0, 2_000), &pictures);
            assert_all_above(&values[values.len() - 5..], 33.0, &format!("{backend} {resolution}"));
        }
    }
}

#[test]
fn quantizers_are_told_in_the_codecs_own_scale_and_follow_the_target() {
    let resolution = size(320, 180);
    for (backend, coarsest) in [(Backend::Vp8, 127), (Backend::Vp9, 255), (Backend::H264, 51)] {
        let last_at = |kbps| {
            let mut stream = Stream::new(backend, resolution, 30.0, kbps);
            let frames = (0..60).filter_map(|frame| stream.encode(&pattern(resolution, frame), false));
            let quantizers: Vec<_> = frames.map(|frame| frame.quantizer.unwrap()).collect();
            assert!(quantizers.iter().all(|&quantizer| quantizer <= coarsest), "{backend}: {quantizers:?}");
            *quantizers.last().unwrap()
        };
        let (coarse, fine) = (last_at(60), last_at(1_500));
        assert!(coarse > fine, "{backend}: {coarse} at 60 kb/s, {fine} at 1500");
    }
}
