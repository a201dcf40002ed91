use super::*;
use crate::{AttachError, Confirm, OpenMirrorError, OutletLink};

const AWAY: RouterId = RouterId(2);
const MIRROR: ProducerKey = ProducerKey { router: AWAY, producer: ProducerId(1) };
const OUTLET: OutletId = OutletId(5);

/// Two workers, and the channel between them.
struct Bench {
    home: Scene,
    away: Scene,
    link: Arc<OutletLink>,
    nudged: Arc<Mutex<usize>>,
    told: Arc<Mutex<Vec<Result<(), OpenMirrorError>>>>,
}

impl Bench {
    fn new() -> Self {
        let mut away = Scene::new();
        away.worker.create_router(AWAY).unwrap();
        let nudged = Arc::new(Mutex::new(0));
        let count = Arc::clone(&nudged);
        let link = Arc::new(OutletLink::new(OUTLET, move |_| *count.lock().unwrap() += 1));
        let mut home = Scene::new();
        home.out.room = 100;
        Self { home, away, link, nudged, told: Arc::default() }
    }

    fn attached() -> Self {
        let mut bench = Self::new();
        bench.attach().unwrap();
        bench.drain();
        assert_eq!(*bench.told.lock().unwrap(), [Ok(())]);
        bench
    }

    fn attach(&mut self) -> Result<(), AttachError> {
        let told = Arc::clone(&self.told);
        let parameters = AttachParameters {
            producer: CAMERA,
            destination: AWAY,
            link: Arc::clone(&self.link),
            created: Confirm::new(move |result| told.lock().unwrap().push(result)),
        };
        self.home.worker.attach(self.home.now, parameters, &mut self.home.out)
    }

    fn with_viewer(mut self) -> Self {
        let slot = self.away.worker.create_transport(AWAY, TransportId(1), TransportKind::WebRtc).unwrap();
        self.away.out.by_slot.insert(slot, TransportId(1));
        self.away.worker.consume(self.away.now, MIRROR.producer, parameters(1)).unwrap();
        self.away.worker.connect_transport(self.away.now, TransportId(1)).unwrap();
        self.nudge();
        self
    }

    /// What has been put into the channel arrives.
    fn drain(&mut self) {
        for (outlet, message) in std::mem::take(&mut self.home.out.inbound) {
            assert_eq!(outlet, OUTLET);
            self.away.worker.handle_inbound(self.away.now, message, &mut self.away.out);
        }
        self.nudge();
    }

    fn nudge(&mut self) {
        while std::mem::take(&mut *self.nudged.lock().unwrap()) > 0 {
            self.home.worker.handle_outlet(self.home.now, OUTLET, &mut self.home.out);
        }
    }

    fn pause(&mut self, paused: bool) {
        let (worker, now) = (&mut self.home.worker, self.home.now);
        let out = &mut self.home.out;
        let done =
            if paused { worker.pause_producer(now, CAMERA, out) } else { worker.resume_producer(now, CAMERA, out) };
        done.unwrap();
    }

    fn mirror_is_paused(&self) -> bool {
        self.away.worker.producers.get(MIRROR).unwrap().state.paused
    }

    fn sent(&self) -> Vec<u64> {
        self.away.sent_to(1).into_iter().map(producer_packet).collect()
    }
}

#[test]
fn media_flows_only_while_the_mirror_wants_it() {
    let mut bench = Bench::attached();
    bench.home.burst(0, 1, true);
    assert!(bench.home.out.inbound.is_empty());
    let mut bench = bench.with_viewer();
    assert_eq!(bench.home.asked(), [Asked::Wanted(LayerSet::only(0)), Asked::KeyFrame(0)]);
    bench.home.burst(1, 2, true);
    bench.home.burst(3, 1, false);
    bench.drain();
    assert_eq!(bench.sent(), [1, 2, 3]);
    bench.away.worker.close_transport(bench.away.now, TransportId(1), &mut bench.away.out).unwrap();
    bench.nudge();
    assert_eq!(bench.home.asked(), [Asked::Wanted(LayerSet::EMPTY)]);
}

#[test]
fn a_mirror_begins_as_the_producer_is_and_follows_every_change_in_order() {
    let mut bench = Bench::new();
    bench.pause(true);
    bench.attach().unwrap();
    bench.pause(false);
    bench.pause(true);
    bench.drain();
    assert!(bench.mirror_is_paused());
    let flips: Vec<_> = bench.away.events();
    assert_eq!(flips, [Event::ProducerResumed(MIRROR), Event::ProducerPaused(MIRROR)], "I4");
    let error = bench.away.worker.resume_producer(bench.away.now, MIRROR, &mut bench.away.out).unwrap_err();
    assert_eq!(error, crate::PauseProducerError::Mirror(MIRROR), "one writer only");
}

#[test]
fn an_older_state_changes_nothing() {
    let mut bench = Bench::attached();
    bench.pause(true);
    bench.pause(false);
    bench.pause(true);
    bench.home.out.inbound.reverse();
    bench.drain();
    assert!(bench.mirror_is_paused(), "I2");
    assert_eq!(bench.away.events(), [Event::ProducerPaused(MIRROR)]);
}

#[test]
fn a_burst_that_finds_the_channel_full_breaks_the_layer_and_a_state_gets_through() {
    let mut bench = Bench::attached().with_viewer();
    bench.home.burst(0, 1, true);
    bench.drain();
    let _ = (bench.home.asked(), bench.away.events());
    bench.home.out.room = 0;
    bench.home.burst(1, 1, false);
    bench.pause(true);
    bench.pause(false);
    bench.nudge();
    bench.home.out.room = 100;
    bench.home.burst(2, 1, false);
    let kinds = bench.home.out.inbound.iter().map(|(_, message)| match message {
        Inbound::State { state, .. } => (state.version, state.paused),
        Inbound::Burst { broken, .. } => (u64::MAX, *broken),
        Inbound::Open(_) | Inbound::Sending { .. } => unreachable!(),
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [(2, false), (u64::MAX, true)], "the newest state, before the burst");
    bench.drain();
    assert!(bench.home.asked().contains(&Asked::KeyFrame(0)), "the viewer cannot go on");
    bench.home.burst(3, 1, true);
    bench.drain();
    assert_eq!(bench.sent(), [0, 3]);
    let stats = bench.home.worker.dump(bench.home.now).routers[0].producers[0].outlets[0].stats;
    assert_eq!((stats.bursts_refused, stats.states_refused), (1, 2));
}

#[test]
fn a_state_gets_through_without_any_burst() {
    let mut bench = Bench::attached();
    bench.home.out.room = 0;
    bench.pause(true);
    let due = bench.home.worker.poll_timeout().unwrap();
    bench.home.worker.handle_timeout(due, &mut bench.home.out);
    bench.home.out.room = 100;
    let due = bench.home.worker.poll_timeout().unwrap();
    bench.home.worker.handle_timeout(due, &mut bench.home.out);
    bench.drain();
    assert!(bench.mirror_is_paused());
    assert_eq!(bench.home.worker.poll_timeout(), None);
}

#[test]
fn the_end_of_a_producer_reaches_its_mirror_even_if_the_channel_is_full() {
    let mut bench = Bench::attached().with_viewer();
    bench.home.out.room = 0;
    bench.home.worker.close_producer(bench.home.now, CAMERA, &mut bench.home.out).unwrap();
    assert!(bench.home.events().contains(&Event::OutletClosed(OUTLET, EndCause::ProducerClosed)));
    bench.home.out.room = 100;
    let due = bench.home.worker.poll_timeout().unwrap();
    bench.home.worker.handle_timeout(due, &mut bench.home.out);
    bench.drain();
    let closures: Vec<_> = bench.away.endings();
    let consumer = Event::ConsumerClosed {
        consumer: ConsumerId(1),
        transport: TransportId(1),
        producer: MIRROR.producer,
        cause: EndCause::ProducerClosed,
    };
    assert_eq!(closures, [Event::ProducerClosed(MIRROR, EndCause::OriginClosed), consumer]);
    assert!(bench.home.worker.dump(bench.home.now).closing_outlets.is_empty());
}

#[test]
fn either_side_can_end_a_mirror_and_another_can_follow() {
    let mut bench = Bench::attached().with_viewer();
    assert!(bench.home.worker.detach(bench.home.now, OUTLET, &mut bench.home.out));
    assert!(!bench.home.worker.detach(bench.home.now, OUTLET, &mut bench.home.out));
    assert_eq!(bench.home.events(), [Event::OutletClosed(OUTLET, EndCause::Requested)]);
    bench.drain();
    assert!(bench.away.worker.producers.get(MIRROR).is_none());

    let nudged = Arc::clone(&bench.nudged);
    bench.link = Arc::new(OutletLink::new(OUTLET, move |_| *nudged.lock().unwrap() += 1));
    bench.attach().unwrap();
    bench.drain();
    bench.away.worker.close_producer(bench.away.now, MIRROR, &mut bench.away.out).unwrap();
    bench.nudge();
    assert_eq!(bench.home.events(), [Event::OutletClosed(OUTLET, EndCause::MirrorClosed)]);
    assert!(bench.home.worker.outlets.is_empty());
}

#[test]
fn what_cannot_be_attached_leaves_nothing() {
    let mut bench = Bench::new();
    bench.home.out.room = 0;
    assert_eq!(bench.attach(), Err(AttachError::NoRoom(AWAY)));
    assert!(bench.home.worker.outlets.is_empty());
    bench.home.out.room = 100;
    bench.attach().unwrap();
    assert_eq!(bench.attach(), Err(AttachError::Exists(OUTLET)));
    let nudged = Arc::clone(&bench.nudged);
    bench.link = Arc::new(OutletLink::new(OutletId(6), move |_| *nudged.lock().unwrap() += 1));
    assert_eq!(bench.attach(), Err(AttachError::AlreadyThere { producer: CAMERA, destination: AWAY }), "I10");
    bench.home.out.inbound.clear();

    let mut bench = Bench::new();
    bench.away.worker.close_router(bench.away.now, AWAY, &mut bench.away.out).unwrap();
    bench.attach().unwrap();
    bench.drain();
    assert_eq!(*bench.told.lock().unwrap(), [Err(OpenMirrorError::UnknownRouter(AWAY))]);
    assert_eq!(
        bench.home.events(),
        [Event::OutletClosed(OUTLET, EndCause::MirrorClosed)],
        "the origin stops feeding it"
    );
}

#[test]
fn a_mirror_can_be_piped_on_but_not_back() {
    let mut bench = Bench::attached();
    let link = |outlet, nudged: &Arc<Mutex<usize>>| {
        let nudged = Arc::clone(nudged);
        Arc::new(OutletLink::new(OutletId(outlet), move |_| *nudged.lock().unwrap() += 1))
    };
    // On to a third router of the away worker, and back to the first.
    let third = RouterId(3);
    bench.away.worker.create_router(third).unwrap();
    bench.away.out.room = 100;
    let nudged = Arc::default();
    let on =
        AttachParameters { producer: MIRROR, destination: third, link: link(6, &nudged), created: Confirm::none() };
    bench.away.worker.attach(bench.away.now, on, &mut bench.away.out).unwrap();
    bench.pause(true);
    bench.drain();
    for (_, message) in std::mem::take(&mut bench.away.out.inbound) {
        bench.away.worker.handle_inbound(bench.away.now, message, &mut bench.away.out);
    }
    let last = ProducerKey { router: third, producer: MIRROR.producer };
    assert!(bench.away.worker.producers.get(last).unwrap().state.paused, "I1 at the chain's end");

    let told: Arc<Mutex<Vec<_>>> = Arc::default();
    let tell = Arc::clone(&told);
    let back = AttachParameters {
        producer: MIRROR,
        destination: HOME,
        link: link(7, &nudged),
        created: Confirm::new(move |result| tell.lock().unwrap().push(result)),
    };
    bench.away.worker.attach(bench.away.now, back, &mut bench.away.out).unwrap();
    for (_, message) in std::mem::take(&mut bench.away.out.inbound) {
        bench.home.worker.handle_inbound(bench.home.now, message, &mut bench.home.out);
    }
    assert_eq!(*told.lock().unwrap(), [Err(OpenMirrorError::Exists(CAMERA))]);
}
