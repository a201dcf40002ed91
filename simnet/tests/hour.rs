//! An hour of a call: how long it takes to simulate, and that it ends the same everywhere.

// The one instant that everything is counted from, and the time that the test itself takes.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;
use lenscast_simnet::video::{VideoConfig, VideoSource};
use lenscast_simnet::{
    EcnCodepoint, FlowId, Jitter, LinkConfig, Loss, Network, Packet, QueueLimit, Route, Trace, audio,
};

/// Payload of a video packet, and the headers of IP, UDP and RTP with its extensions.
const PAYLOAD: u32 = 1_150;
const HEADERS: u32 = 50;

/// Sums up what arrived and when (FNV-1a).
struct Digest(u64);

impl Digest {
    fn add(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[test]
fn an_hour_takes_seconds_and_ends_the_same_on_every_machine() {
    let began = Instant::now();
    let (start, length) = (began, Duration::from_secs(3_600));
    let end = start + length;
    let mut network: Network<u32> = Network::new(start);
    let there = network.add_link(LinkConfig {
        capacity: Trace::lte_like(1, Bitrate::from_kbps(3_000), Duration::from_secs(300)),
        jitter: Jitter { deviation: Duration::from_millis(5), cut: 3.0 },
        loss: Loss::bursts(0.01, 2.0),
        queue: QueueLimit::Bytes(100_000),
        seed: 1,
        ..LinkConfig::new(Trace::constant(Bitrate::ZERO))
    });
    let back = network.add_link(LinkConfig::new(Trace::constant(Bitrate::from_kbps(500))));
    let (there, back) = (Route::new(&[there]), Route::new(&[back]));
    let mut video = VideoSource::new(2, VideoConfig::default());
    video.set_target(start, Bitrate::from_kbps(1_500));
    let mut audio = audio::Source::new(start, Bitrate::from_kbps(20), audio::Source::USUAL_INTERVAL);
    let mut feedback_at = start;
    let (mut digest, mut number, mut packets) = (Digest(0xcbf2_9ce4_8422_2325), 0, 0_u64);
    let mut now = start;
    while now < end {
        network.handle_timeout(now);
        while let Some(delivered) = network.poll_delivered() {
            packets += 1;
            digest.add((delivered.arrived_at - start).as_nanos() as u64);
            digest.add(u64::from(delivered.packet.payload) << 32 | u64::from(delivered.packet.size));
        }
        let mut send = |flow, route, size| {
            number += 1;
            network.send(now, route, Packet { flow: FlowId(flow), size, ecn: EcnCodepoint::Ect1, payload: number });
        };
        while let Some(frame) = video.poll_frame(now) {
            let mut rest = frame.bytes;
            while rest > 0 {
                let payload = rest.min(PAYLOAD);
                send(0, &there, payload + HEADERS);
                rest -= payload;
            }
        }
        while let Some(frame) = audio.poll_frame(now) {
            send(1, &there, frame.bytes + HEADERS);
        }
        if feedback_at <= now {
            send(2, &back, 100);
            feedback_at += Duration::from_millis(50);
        }
        let timeouts = [network.poll_timeout(), video.poll_timeout(), audio.poll_timeout(), Some(feedback_at)];
        now = timeouts.into_iter().flatten().min().unwrap_or(end);
    }
    let took = began.elapsed();
    println!("{packets} packets in {took:?}, digest {:#018x}", digest.0);
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(digest.0, 0xfb26_57ac_923d_c1db, "whoever changes the model changes the figures of docs/congestion.md");
}
