//! What a source spends on a frame before it is in the frame buffer: drawing, converting, decoding.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use lenscast_capture::{MjpegDecoder, Pattern, nv12_to_i420, yuyv_to_i420};
use lenscast_media::{Picture, Resolution};

const HD: Resolution = Resolution::new(1_280, 720).expect("a legal size");
const FULL_HD: Resolution = Resolution::new(1_920, 1_080).expect("a legal size");

fn drawn(resolution: Resolution) -> Picture {
    let mut picture = Picture::black(resolution);
    let mut pattern = Pattern::new(resolution).expect("there is room for the code");
    pattern.draw(&mut picture, 1, Duration::from_millis(33), Duration::from_secs(1_700_000_000));
    picture
}

fn pattern(c: &mut Criterion) {
    for (name, resolution) in [("pattern/720p", HD), ("pattern/1080p", FULL_HD)] {
        let mut picture = Picture::black(resolution);
        let mut pattern = Pattern::new(resolution).expect("there is room for the code");
        let mut number = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                number += 1;
                let elapsed = Duration::from_millis(number * 33);
                pattern.draw(&mut picture, number, elapsed, elapsed);
                black_box(&picture);
            });
        });
    }
}

fn raw(c: &mut Criterion) {
    let source = drawn(HD);
    let width = HD.width() as usize;
    let planes = source.planes();
    let nv12: Vec<u8> =
        planes.y.iter().copied().chain(planes.u.iter().zip(planes.v).flat_map(|(u, v)| [*u, *v])).collect();
    let yuyv: Vec<u8> = (0..HD.pixels() / 2)
        .flat_map(|pair| {
            let (row, column) = (2 * pair / width, 2 * pair % width);
            let chroma = row / 2 * (width / 2) + column / 2;
            [planes.y[2 * pair], planes.u[chroma], planes.y[2 * pair + 1], planes.v[chroma]]
        })
        .collect();
    let mut picture = Picture::black(HD);
    // Once by itself: a bench that the command line leaves out does not run.
    yuyv_to_i420(&yuyv, 2 * width, &mut picture).expect("a whole picture");
    assert!(picture == source, "the conversion is right");
    c.bench_function("yuyv_to_i420/720p", |b| b.iter(|| yuyv_to_i420(black_box(&yuyv), 2 * width, &mut picture)));
    picture = Picture::black(HD);
    nv12_to_i420(&nv12, width, &mut picture).expect("a whole picture");
    assert!(picture == source, "the conversion is right");
    c.bench_function("nv12_to_i420/720p", |b| b.iter(|| nv12_to_i420(black_box(&nv12), width, &mut picture)));
}

fn mjpeg(c: &mut Criterion) {
    let source = drawn(HD);
    let width = HD.width() as usize;
    let planes = source.planes();
    let pixels: Vec<u8> = (0..HD.pixels())
        .flat_map(|at| {
            let chroma = at / width / 2 * (width / 2) + at % width / 2;
            [planes.y[at], planes.u[chroma], planes.v[chroma]]
        })
        .collect();
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 85);
    encoder.set_sampling_factor(SamplingFactor::F_2_1);
    encoder.encode(&pixels, 1_280, 720, ColorType::Ycbcr).expect("a picture of that size");
    let (mut decoder, mut picture) = (MjpegDecoder::new(), Picture::black(HD));
    c.bench_function("mjpeg_to_i420/720p", |b| b.iter(|| decoder.decode(black_box(&jpeg), &mut picture)));
    decoder.decode(&jpeg, &mut picture).expect("the encoder's own picture");
}

criterion_group!(benches, pattern, raw, mjpeg);
criterion_main!(benches);
