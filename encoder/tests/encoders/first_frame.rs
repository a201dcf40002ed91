//! Key frames are small, whatever they show.

use lenscast_media::Picture;

use crate::content::{Reel, grainy, noise, pattern, psnr};
use crate::decoder::Decoder;
use crate::stream::{IN_PLACE, Stream, size};

/// Bytes of an average frame at 1.5 Mb/s and 30 frames/s.
const AVERAGE: usize = 6_250;

/// Encodes `picture` as the first frame, at 720p; gives its size in bytes and its PSNR.
fn first_frames(picture: &Picture) -> [(usize, f64); 3] {
    IN_PLACE.map(|backend| {
        let mut stream = Stream::new(backend, picture.resolution(), 30.0, 1_500);
        let coded = stream.encode(picture, false).expect("a first frame is not dropped");
        assert!(coded.key_frame);
        let decoded = Decoder::new(backend.codec()).decode(&coded.data);
        (coded.data.len(), psnr(picture, &decoded))
    })
}

#[test]
fn of_a_clean_picture_it_takes_up_four_average_frames_at_most_and_is_sharp() {
    for (bytes, psnr) in first_frames(&pattern(size(1280, 720), 0)) {
        assert!(bytes <= 4 * AVERAGE && psnr > 33.0, "{bytes} bytes, {psnr:.1} dB");
    }
}

#[test]
fn of_a_grainy_picture_it_takes_up_four_average_frames_at_most_and_shows_what_is_behind_the_grain() {
    let resolution = size(1280, 720);
    let clean = pattern(resolution, 0);
    for amplitude in [20, 60] {
        let picture = grainy(resolution, 0, amplitude);
        let of_grain = psnr(&picture, &clean);
        for (bytes, psnr) in first_frames(&picture) {
            assert!(bytes <= 4 * AVERAGE, "{bytes} bytes with grain of {amplitude}");
            // As far from the picture as the clean one is, or nearly: what is lost is grain.
            assert!(psnr > of_grain - 1.5, "{psnr:.1} dB with grain of {of_grain:.1} dB");
        }
    }
}

#[test]
fn of_white_noise_it_takes_up_four_average_frames_at_most() {
    for (bytes, _) in first_frames(&noise(size(1280, 720), 1)) {
        assert!(bytes <= 4 * AVERAGE, "{bytes} bytes");
    }
}

#[test]
fn a_key_frame_in_mid_stream_takes_up_four_average_frames_at_most() {
    let resolution = size(640, 360);
    for (what, kbps, amplitude) in [("clean", 400, 0), ("grainy", 800, 12), ("very grainy", 1_500, 40)] {
        let reel = Reel::new(12, |frame| grainy(resolution, frame, amplitude));
        for backend in IN_PLACE {
            let mut stream = Stream::new(backend, resolution, 30.0, kbps);
            let mut costs = Vec::new();
            for number in 0..120 {
                if let Some(coded) = stream.encode(reel.picture(number), number % 40 == 39)
                    && coded.key_frame
                {
                    costs.push(coded.data.len() as f64 * 8.0 / (kbps as f64 * 1_000.0 / 30.0));
                }
            }
            assert!(costs.len() == 4 && costs.iter().all(|&cost| cost <= 4.0), "{backend}, {what}: {costs:.1?}");
        }
    }
}
