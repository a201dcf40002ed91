use super::*;
use lenscast_media::Bitrate;

/// A camera of three layers beside the scene's own.
const FRONT: ProducerKey = ProducerKey { router: HOME, producer: ProducerId(2) };

struct Bench {
    scene: Scene,
    next: [u64; 3],
}

impl Bench {
    fn new() -> Self {
        let mut scene = Scene::new();
        let source = Source::Local(Arc::clone(&scene.camera) as Arc<dyn Upstream>);
        let parameters = ProducerParameters::local(Codec::Vp8.into(), 3, 1);
        scene.worker.produce(scene.now, LOCAL, FRONT.producer, parameters, source).unwrap();
        Self { scene, next: [0; 3] }
    }

    fn viewer(mut self, number: u64, preferred: u8) -> Self {
        let scene = &mut self.scene;
        let slot = scene.worker.create_transport(HOME, TransportId(number), TransportKind::WebRtc).unwrap();
        scene.out.by_slot.insert(slot, TransportId(number));
        let preferred_layers = Layers { spatial: preferred, temporal: 0 };
        let parameters = ConsumerParameters { preferred_layers, ..parameters(number) };
        scene.worker.consume(scene.now, FRONT.producer, parameters).unwrap();
        scene.worker.connect_transport(scene.now, TransportId(number)).unwrap();
        self
    }

    /// A frame of each layer, larger ones in more packets. Returns the layers that went out.
    fn frame(&mut self, key_frames: &[u8]) -> Vec<usize> {
        self.scene.now += Duration::from_millis(40);
        let mut went = Vec::new();
        for layer in 0..3_u8 {
            let len = 1 + 3 * usize::from(layer);
            let burst = burst(self.next[usize::from(layer)], len, key_frames.contains(&layer), self.scene.now);
            self.next[usize::from(layer)] += len as u64;
            let before = self.scene.out.calls;
            let message = Inbound::Burst { key: FRONT, outlet: None, layer, broken: false, burst };
            self.scene.worker.handle_inbound(self.scene.now, message, &mut self.scene.out);
            if self.scene.out.calls > before {
                went.push(usize::from(layer));
            }
        }
        went
    }

    fn sending(&mut self, layers: &[u8]) {
        let sending = layers.iter().copied().collect();
        let message = Inbound::Sending { key: FRONT, sending };
        self.scene.worker.handle_inbound(self.scene.now, message, &mut self.scene.out);
    }

    fn prefer(&mut self, spatial: u8) {
        let layers = Layers { spatial, temporal: 0 };
        self.scene.worker.set_preferred_layers(self.scene.now, ConsumerId(1), layers).unwrap();
    }

    fn available(&mut self, kbps: u64) {
        let available = Some(Bitrate::from_kbps(kbps));
        self.scene.worker.set_available_bitrate(self.scene.now, TransportId(1), available).unwrap();
    }
}

fn set(layers: &[u8]) -> LayerSet {
    layers.iter().copied().collect()
}

#[test]
fn a_switch_waits_for_a_key_frame_of_the_target_and_the_old_layer_goes_on_until_then() {
    let mut bench = Bench::new().viewer(1, 2);
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[2])), Asked::KeyFrame(2)]);
    assert_eq!(bench.frame(&[0, 1, 2]), [2]);
    let _ = bench.scene.asked();
    bench.prefer(0);
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[0, 2])), Asked::KeyFrame(0)]);
    assert_eq!(bench.frame(&[1, 2]), [2]);
    assert_eq!(bench.scene.asked(), [Asked::KeyFrame(0)], "asked for again until it comes");
    assert_eq!(bench.frame(&[0]), [0]);
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[0]))]);
    assert_eq!(bench.frame(&[]), [0]);
    let sent = bench.scene.sent_to(1);
    assert!(sent.windows(2).all(|pair| pair[1].header.sequence_number == pair[0].header.sequence_number + 1));
    let frames: BTreeSet<u32> = sent.iter().map(|packet| packet.header.timestamp).collect();
    let steps: Vec<u32> = frames.iter().zip(frames.iter().skip(1)).map(|(first, second)| second - first).collect();
    assert_eq!(frames.len(), 4);
    assert_eq!(steps[1], 3_600, "by the capture times, 40 ms: the layers' own clocks differ");
    assert_eq!(bench.scene.stats(1).layer_switches, 2);
}

#[test]
fn a_layer_that_cannot_be_had_is_replaced_by_the_next_below_and_still_wanted() {
    let mut bench = Bench::new().viewer(1, 2);
    bench.frame(&[2]);
    let _ = bench.scene.asked();
    bench.sending(&[0, 1]);
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[1, 2])), Asked::KeyFrame(1)]);
    assert_eq!(bench.frame(&[1]), [1]);
    bench.sending(&[0, 1, 2]);
    assert_eq!(bench.scene.asked(), [Asked::KeyFrame(2)]);
    assert_eq!(bench.frame(&[2]), [1, 2], "the old layer's frame came first");
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[2]))]);
}

#[test]
fn a_ceiling_holds_whatever_is_preferred_and_nothing_beyond_it_is_wanted() {
    let mut bench = Bench::new().viewer(1, 2);
    bench.frame(&[2]);
    let _ = bench.scene.asked();
    let ceiling = |bench: &mut Bench, spatial: Option<u8>| {
        let layers = spatial.map(|spatial| Layers { spatial, temporal: 0 });
        bench.scene.worker.set_layer_ceiling(bench.scene.now, ConsumerId(1), layers).unwrap();
    };
    ceiling(&mut bench, Some(1));
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[1, 2])), Asked::KeyFrame(1)]);
    assert_eq!(bench.frame(&[]), [2], "until there is a key frame");
    assert_eq!(bench.frame(&[1]), [1]);
    assert_eq!(bench.scene.asked().last(), Some(&Asked::Wanted(set(&[1]))));
    bench.prefer(0);
    bench.frame(&[0]);
    assert_eq!(bench.frame(&[]), [0], "less may be preferred");
    bench.prefer(2);
    bench.frame(&[1, 2]);
    assert_eq!(bench.frame(&[]), [1], "more may not");
    let _ = bench.scene.asked();
    ceiling(&mut bench, None);
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[]))]);
    assert_eq!(bench.frame(&[0, 1, 2]), [0_usize; 0]);
    ceiling(&mut bench, Some(u8::MAX));
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[2])), Asked::KeyFrame(2)]);
    assert_eq!(bench.frame(&[2]), [2]);
}

#[test]
fn what_all_viewers_want_together_is_wanted() {
    let mut bench = Bench::new().viewer(1, 0).viewer(2, 2);
    let _ = bench.scene.asked();
    bench.frame(&[0, 1, 2]);
    bench.scene.worker.pause_consumer(bench.scene.now, ConsumerId(2)).unwrap();
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[0]))]);
    bench.scene.worker.close_consumer(bench.scene.now, ConsumerId(1), &mut bench.scene.out).unwrap();
    assert_eq!(bench.scene.asked(), [Asked::Wanted(set(&[]))]);
}

#[test]
fn the_available_bitrate_brings_a_consumer_down_and_holds_it_there_for_a_while() {
    let mut bench = Bench::new().viewer(1, 2);
    for number in 0..30 {
        bench.frame(if number == 0 { &[0, 1, 2] } else { &[] });
    }
    // About 25 × 108 bytes × 8 × {1, 4, 7} a second: 22, 86 and 151 kb/s.
    bench.available(100);
    for _ in 0..3 {
        bench.frame(&[1]);
    }
    assert_eq!(bench.frame(&[]), [1]);
    bench.available(1_000);
    for _ in 0..20 {
        assert_eq!(bench.frame(&[0, 1, 2]), [1], "held");
    }
    bench.scene.now += Duration::from_secs(10);
    let now = bench.scene.now;
    bench.scene.worker.handle_timeout(now, &mut bench.scene.out);
    bench.frame(&[2]);
    assert_eq!(bench.frame(&[]), [2]);
    bench.available(31);
    bench.frame(&[0, 1, 2]);
    let available = bench.scene.worker.set_available_bitrate(bench.scene.now, TransportId(1), None);
    available.unwrap();
    bench.frame(&[0, 1, 2]);
    assert_eq!(bench.frame(&[]), [2], "no limit, no hold");
}

#[test]
fn nacks_find_packets_of_the_layer_that_was_forwarded_then() {
    let mut bench = Bench::new().viewer(1, 2);
    bench.frame(&[2]);
    bench.prefer(0);
    bench.frame(&[0]);
    let sent = bench.scene.sent_to(1).len() as u16;
    bench.scene.out.rtp.clear();
    bench.scene.rtcp(1, &nack(1, &[32_000, 32_000 + sent - 1]));
    let resent: Vec<_> = bench.scene.sent_to(1).iter().map(|packet| packet.payload[2..10].to_vec()).collect();
    assert_eq!(resent, [0_u64.to_be_bytes(), 1_u64.to_be_bytes()], "the first of layer 2, the second of layer 0");
}

#[test]
fn who_joins_over_a_limited_path_goes_for_what_fits_at_once() {
    let mut bench = Bench::new().viewer(1, 2);
    for number in 0..30 {
        bench.frame(if number == 0 { &[0, 1, 2] } else { &[] });
    }
    let scene = &mut bench.scene;
    scene.worker.create_transport(HOME, TransportId(2), TransportKind::WebRtc).unwrap();
    scene.worker.set_available_bitrate(scene.now, TransportId(2), Some(Bitrate::from_kbps(31))).unwrap();
    scene.worker.consume(scene.now, FRONT.producer, parameters(2)).unwrap();
    let _ = scene.asked();
    scene.worker.connect_transport(scene.now, TransportId(2)).unwrap();
    assert_eq!(scene.asked(), [Asked::Wanted(set(&[0, 2])), Asked::KeyFrame(0)]);
}

#[test]
fn packets_of_a_layer_that_nobody_wants_any_more_are_not_kept_for_ever() {
    let mut bench = Bench::new().viewer(1, 2);
    bench.frame(&[2]);
    bench.prefer(0);
    bench.frame(&[0]);
    let kept = |bench: &Bench| {
        let dump = bench.scene.worker.dump(bench.scene.now);
        let producer = dump.routers[0].producers.iter().find(|producer| producer.key == FRONT).unwrap();
        producer.encodings.iter().map(|encoding| encoding.kept_packets).collect::<Vec<_>>()
    };
    assert_eq!(kept(&bench), [1, 0, 7], "what is on its way may be asked for again");
    for _ in 0..60 {
        bench.frame(&[]);
    }
    assert_eq!(kept(&bench)[1..], [0, 0]);
}
