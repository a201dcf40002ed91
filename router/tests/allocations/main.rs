//! Forwarding allocates nothing once it runs: not for packets, not for reports, not for retransmissions.
#![allow(clippy::disallowed_methods)]

mod counting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Burst, BurstMeta, Codec, LayerSet, PassedExtensions, RtpTime, Ssrc, StageTimes, WallClock};
use lenscast_router::rtcp::{Compound, ReportBlock};
use lenscast_router::{
    ConsumerId, ConsumerParameters, Egress, ExtensionId, HeaderExtensions, Inbound, Layers, OutletId, PayloadType,
    Priority, ProducerId, ProducerKey, ProducerParameters, RouterId, RtpPackets, RtxParameters, Source, TransportId,
    TransportKind, TransportSlot, Upstream, Worker,
};

const ROUTER: RouterId = RouterId(1);
const CAMERA: ProducerKey = ProducerKey { router: ROUTER, producer: ProducerId(1) };
const SOURCE: TransportId = TransportId(1_000_000);
const VIEWERS: u64 = 300;
const FRAME: Duration = Duration::from_millis(33);

struct Camera;

impl Upstream for Camera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {}
}

/// Counts, as a socket would.
#[derive(Default)]
struct Out {
    packets: u64,
    reports: u64,
}

impl Egress for Out {
    fn send_rtp(&mut self, _: TransportSlot, packets: &RtpPackets<'_>) {
        self.packets += packets.len() as u64;
    }

    fn send_rtcp(&mut self, _: TransportSlot, _: &[u8]) {
        self.reports += 1;
    }

    fn send_inbound(&mut self, _: OutletId, _: Inbound) -> bool {
        true
    }
}

#[test]
fn in_steady_state_nothing_is_allocated() {
    let start = Instant::now();
    let mut worker = Worker::new(WallClock::new(start, Duration::from_secs(1_000)));
    worker.create_router(ROUTER).unwrap();
    worker.create_transport(ROUTER, SOURCE, TransportKind::Direct).unwrap();
    let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 2);
    worker.produce(start, SOURCE, CAMERA.producer, parameters, Source::Local(Arc::new(Camera))).unwrap();
    for number in 0..VIEWERS {
        worker.create_transport(ROUTER, TransportId(number), TransportKind::WebRtc).unwrap();
        worker.connect_transport(start, TransportId(number)).unwrap();
        worker.consume(start, CAMERA.producer, consumer(number)).unwrap();
    }
    let (mut out, mut now) = (Out::default(), start);
    let mut run = |seconds: u64| {
        let mut allocations = 0;
        for _ in 0..seconds * 30 {
            now += FRAME;
            let number = (now - start).as_millis() as u64 / 33 - 1;
            let message =
                Inbound::Burst { key: CAMERA, outlet: None, layer: 0, broken: false, burst: frame(number, now) };
            let viewer = number % VIEWERS;
            let feedback = feedback(viewer, number as u16);
            allocations += counting::during(|| {
                worker.handle_inbound(now, message, &mut out);
                worker.handle_rtcp(now, TransportId(viewer), &feedback, &mut out).unwrap();
                while worker.poll_timeout().is_some_and(|due| due <= now) {
                    worker.handle_timeout(now, &mut out);
                }
                while worker.poll_event().is_some() {}
            });
        }
        allocations
    };
    assert!(run(60) > 0, "what is remembered of a stream grows in its first minute");
    assert_eq!(run(60), 0);
    assert!(out.packets > VIEWERS * 120 * 30 && out.reports >= VIEWERS * 100, "{} {}", out.packets, out.reports);
}

/// Every other viewer gets half of the frames.
fn consumer(number: u64) -> ConsumerParameters {
    let payload_type = |value| PayloadType::new(value).unwrap();
    ConsumerParameters {
        id: ConsumerId(number),
        transport: TransportId(number),
        ssrc: Ssrc(number as u32),
        payload_type: payload_type(96),
        rtx: Some(RtxParameters { ssrc: Ssrc(number as u32 + 1_000), payload_type: payload_type(97) }),
        extensions: HeaderExtensions { transport_sequence: ExtensionId::new(5), ..HeaderExtensions::default() },
        cname: "lenscast".to_owned(),
        initial_sequence: 0,
        initial_rtx_sequence: 0,
        timestamp_offset: 0,
        preferred_layers: Layers { spatial: 0, temporal: (number % 2) as u8 },
        priority: Priority::LOWEST,
        paused: false,
    }
}

/// Of four packets; every other one is of the second temporal layer.
fn frame(number: u64, at: Instant) -> Arc<Burst> {
    let temporal_layer = (number % 2) as u8;
    let mut burst = Burst::new(BurstMeta {
        codec: Codec::Vp8.into(),
        key_frame: number == 0,
        begins_frame: true,
        ends_frame: true,
        resolution: None,
        temporal_layer,
        layer_sync: temporal_layer > 0,
        first_packet: number * 4,
        rtp_time: RtpTime(number as u32 * 2_970),
        times: StageTimes { captured: at, ready: at, taken: at, encoded: at },
        extensions: PassedExtensions::default(),
    });
    for _ in 0..4 {
        burst.push(&[&[0x90, 0xE0], &(number as u16 | 0x8000).to_be_bytes(), &[0, temporal_layer << 6], &[0; 1_000]]);
    }
    Arc::new(burst)
}

/// What a viewer received, and which of its last packets it wants again.
fn feedback(viewer: u64, number: u16) -> Vec<u8> {
    let media = Ssrc(viewer as u32);
    let block = ReportBlock {
        ssrc: media,
        fraction_lost: 3,
        cumulative_lost: i32::from(number / 10),
        highest_sequence: u32::from(number),
        jitter: 90,
        last_sender_report: 0,
        delay_since_last_sender_report: 0,
    };
    let mut compound = Compound::new();
    compound.push_report_blocks(Ssrc(1), [&block]);
    let last = if viewer % 2 == 0 { number.wrapping_mul(2) } else { number.wrapping_mul(4) };
    compound.push_nack(Ssrc(1), media, [last.wrapping_sub(3), last.wrapping_sub(2)]);
    compound.as_bytes().to_vec()
}
