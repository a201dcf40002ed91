//! What it costs to cut a frame into packets: `packetize/<codec>-<bytes>`, one frame of that size into a burst.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lenscast_media::{BurstMeta, BurstPool, Codec, EncodedFrame, PassedExtensions, Resolution, RtpTime, StageTimes};
use lenscast_sender::Packetizer;

/// An average frame of 1.5 Mb/s at 30 frames/s, and a key frame of five of those.
const SIZES: [usize; 2] = [6_250, 31_250];

fn packetize(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packetize");
    let resolution = Resolution::new(1280, 720).expect("a resolution");
    for codec in Codec::ALL {
        for size in SIZES {
            let mut data: Vec<u8> = (0..size).map(|byte| byte as u8 | 2).collect();
            data[..5].copy_from_slice(&[0, 0, 0, 1, 0x61]);
            let frame = EncodedFrame {
                data: &data,
                codec,
                key_frame: false,
                resolution,
                temporal_layer: 0,
                layer_sync: false,
                quantizer: None,
            };
            let now = Instant::now();
            let meta = BurstMeta {
                codec: codec.into(),
                key_frame: false,
                begins_frame: true,
                ends_frame: true,
                resolution: Some(resolution),
                temporal_layer: 0,
                layer_sync: false,
                first_packet: 0,
                rtp_time: RtpTime(0),
                times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
                extensions: PassedExtensions::default(),
            };
            let (mut packetizer, mut pool) =
                (Packetizer::new(codec, lenscast_encoder::TemporalLayers::One), BurstPool::new());
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(format!("{}-{size}", codec.encoding_name().to_lowercase()), |bencher| {
                // Each burst is dropped before the next is asked for, so that the pool gives the same one again.
                bencher.iter(|| pool.fill(meta, |burst| packetizer.packetize(black_box(&frame), burst)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, packetize);
criterion_main!(benches);
