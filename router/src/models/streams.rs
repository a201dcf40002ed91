//! A producer on its home worker and its mirror on another, whoever attaches, pauses, closes and sends meanwhile: T1 to T5,
//! T10 to T12, T14, T15 (I1 to I9).
//!
//! Both workers are the real ones, each on a thread of its own, with a bounded ordered channel between them. The main
//! thread is the home's: what it does by itself stands for commands of others, which reach it through its channel anyway.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lenscast_media::sync::thread;
use lenscast_media::{Burst, BurstMeta, Codec, LayerSet, PassedExtensions, RtpTime, Ssrc, StageTimes, WallClock};

use super::*;
use crate::pipe::promise::{Awaited, Promise, promise};
use crate::{
    AttachParameters, Confirm, ConsumerId, ConsumerParameters, Egress, EndCause, Event, HeaderExtensions, Inbound,
    Layers, Open, OpenMirrorError, OutletId, OutletLink, PayloadType, Priority, ProducerId, ProducerKey,
    ProducerParameters, RouterId, RtpPackets, Source, StreamState, TransportId, TransportKind, TransportSlot, Upstream,
    Worker,
};

/// What a model calls. A broken variant has one of its own.
#[derive(Clone, Copy)]
struct Steps {
    /// Makes a mirror, and tells whether it stands.
    attach: fn(&Scene, OutletId) -> Result<(), Option<OpenMirrorError>>,
    /// What is done with an outlet whose mirror could not be opened.
    give_up: fn(&Scene, OutletId),
    /// Puts a message into the mirror's channel.
    send: fn(&Channel<Inbound>, Inbound) -> bool,
    /// The home worker has a burst.
    burst: fn(&mut Home, u64, bool),
    /// Somebody closes the producer.
    close: fn(&mut Home),
    /// Takes the outlets that have been nudged, and looks at them.
    look: fn(&mut Home),
    /// What the mirror's worker takes next.
    next: fn(&Channel<Inbound>) -> Option<Inbound>,
    /// Resumes the producer.
    resume: fn(&mut Home),
}

const REAL: Steps = Steps {
    attach: Scene::attach,
    give_up: |scene, outlet| scene.home.send(Ask::Detach(outlet)),
    send: Channel::try_send,
    burst: Home::burst,
    close: Home::close,
    look: Home::look,
    next: Channel::recv,
    resume: Home::resume,
};

/// The model of a bounded ordered channel.
struct Channel<T> {
    queue: Mutex<(VecDeque<T>, bool)>,
    changed: Condvar,
    capacity: usize,
}

impl<T> Channel<T> {
    fn new(capacity: usize) -> Self {
        Self { queue: Mutex::new((VecDeque::new(), false)), changed: Condvar::new(), capacity }
    }

    /// False if there is no room.
    fn try_send(&self, message: T) -> bool {
        let mut queue = self.queue.lock();
        if queue.1 || queue.0.len() >= self.capacity {
            return false;
        }
        queue.0.push_back(message);
        drop(queue);
        self.changed.notify_all();
        true
    }

    /// For channels that always have room.
    fn send(&self, message: T) {
        let _ = self.try_send(message);
    }

    fn try_recv(&self) -> Option<T> {
        self.queue.lock().0.pop_front()
    }

    /// Waits for a message; `None` once it is closed and empty.
    fn recv(&self) -> Option<T> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(message) = queue.0.pop_front() {
                self.changed.notify_all();
                return Some(message);
            }
            if queue.1 {
                return None;
            }
            queue = self.changed.wait(queue);
        }
    }

    /// Waits until there is room for one more.
    fn wait_for_room(&self) {
        let mut queue = self.queue.lock();
        while queue.0.len() >= self.capacity {
            queue = self.changed.wait(queue);
        }
    }

    fn close(&self) {
        self.queue.lock().1 = true;
        self.changed.notify_all();
    }
}

/// What the home worker is asked.
enum Ask {
    Attach {
        outlet: OutletId,
        created: Confirm,
        subscribes_only: bool,
    },
    /// What the producer is doing: the first half of check-then-subscribe.
    Read(Promise<StreamState>),
    Detach(OutletId),
    PauseConsumer,
    CloseTransport,
    /// An outlet has been nudged.
    Look,
    Stop,
}

/// What befell both sides.
#[derive(Default)]
struct Record {
    /// Of each mirror: whether it is paused, in the order of what was told of it; the snapshot's first.
    mirrors: Vec<Mirror>,
    /// Bursts that the mirror's consumer was sent, by their first packet.
    forwarded: Vec<u64>,
    /// Every end that was told, with its cause.
    ends: Vec<(String, EndCause)>,
}

#[derive(Debug, Clone, Default)]
struct Mirror {
    paused: Vec<bool>,
    /// It could not be opened.
    refused: bool,
    ended: Option<EndCause>,
}

fn confirm() -> (Confirm, Awaited<Result<(), OpenMirrorError>>) {
    let (tell, told) = promise();
    let mut tell = Kept::new(Some(tell));
    let confirm = Confirm::new(move |result| {
        if let Some(tell) = tell.take() {
            let _ = tell.keep(result);
        }
    });
    (confirm, told)
}

fn confirmed(told: Awaited<Result<(), OpenMirrorError>>) -> Result<(), Option<OpenMirrorError>> {
    match block_on(told) {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(Some(error)),
        None => Err(None),
    }
}

/// What all threads of a model share. A clone is for another thread.
struct Scene {
    home: Kept<Arc<Channel<Ask>>>,
    mirror: Kept<Arc<Channel<Inbound>>>,
    nudged: Kept<Arc<Mutex<Vec<OutletId>>>>,
    log: Arc<Log<Record>>,
    steps: Steps,
}

impl Clone for Scene {
    fn clone(&self) -> Self {
        Self {
            home: Kept::new(Arc::clone(&self.home)),
            mirror: Kept::new(Arc::clone(&self.mirror)),
            nudged: Kept::new(Arc::clone(&self.nudged)),
            log: Arc::clone(&self.log),
            steps: self.steps,
        }
    }
}

const CAMERA: ProducerId = ProducerId(1);
const HERE: RouterId = RouterId(1);
const THERE: RouterId = RouterId(2);
const HOME_KEY: ProducerKey = ProducerKey { router: HERE, producer: CAMERA };
const MIRROR_KEY: ProducerKey = ProducerKey { router: THERE, producer: CAMERA };
const LOCAL: TransportId = TransportId(1);

/// Time stands still.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn wall() -> WallClock {
    WallClock::new(now(), Duration::from_secs(1_000))
}

impl Scene {
    fn new(steps: Steps, room: usize) -> Self {
        Self {
            home: Kept::new(Arc::new(Channel::new(usize::MAX))),
            mirror: Kept::new(Arc::new(Channel::new(room))),
            nudged: Kept::new(Arc::new(Mutex::new(Vec::new()))),
            log: Log::new(),
            steps,
        }
    }

    fn spawn<R: 'static>(&self, run: impl FnOnce(&Self) -> R + 'static) -> thread::JoinHandle<R> {
        let scene = self.clone();
        thread::spawn(move || run(&scene))
    }

    /// Attaches in one step on the producer's home.
    fn attach(&self, outlet: OutletId) -> Result<(), Option<OpenMirrorError>> {
        let (created, told) = confirm();
        self.home.send(Ask::Attach { outlet, created, subscribes_only: false });
        confirmed(told)
    }

    /// Reads what the producer is doing, makes the mirror of that, and then subscribes, as mediasoup does.
    fn check_then_subscribe(&self, outlet: OutletId) -> Result<(), Option<OpenMirrorError>> {
        let (tell, told) = promise();
        self.home.send(Ask::Read(tell));
        let Some(snapshot) = block_on(told) else { return Err(None) };
        let (created, told) = confirm();
        let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
        let upstream = Arc::new(Wanted::default());
        self.mirror.wait_for_room();
        self.mirror.send(Inbound::Open(Box::new(Open {
            key: MIRROR_KEY,
            outlet: Some(outlet),
            parameters,
            snapshot,
            upstream,
            created,
        })));
        let opened = confirmed(told);
        self.home.send(Ask::Attach { outlet, created: Confirm::none(), subscribes_only: true });
        opened
    }

    /// The home worker's side, with one producer.
    fn home(&self) -> Home {
        let mut worker = Worker::new(wall());
        worker.create_router(HERE).expect("it is the first");
        worker.create_transport(HERE, LOCAL, TransportKind::Direct).expect("it is the first");
        let upstream = Arc::new(Wanted { calls_back: Some(Kept::new(Arc::clone(&self.nudged))), ..Wanted::default() });
        let source = Source::Local(Arc::clone(&upstream) as Arc<dyn Upstream>);
        let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
        worker.produce(now(), LOCAL, CAMERA, parameters, source).expect("it is the first");
        Home {
            worker,
            scene: self.clone(),
            upstream,
            paused: false,
            closed: false,
            version: 0,
            subscribes_only: false,
            behind: false,
        }
    }

    /// Runs the mirror's worker until its channel is closed. With a consumer, what it forwards is written down.
    fn mirror_thread(&self, with_consumer: bool) -> thread::JoinHandle<()> {
        self.spawn(move |scene| {
            let mut side = Side { worker: mirror_worker(), scene: scene.clone(), consumes: with_consumer };
            while let Some(message) = (scene.steps.next)(&scene.mirror) {
                side.handle(message);
            }
        })
    }
}

fn mirror_worker() -> Worker {
    let mut worker = Worker::new(wall());
    worker.create_router(THERE).expect("it is the first");
    worker.create_transport(THERE, LOCAL, TransportKind::Direct).expect("it is the first");
    worker
}

/// What the producer's source was told.
#[derive(Default)]
struct Wanted {
    told: std::sync::Mutex<(LayerSet, u32)>,
    /// What it locks when it is told something, as a source does that nudges its worker.
    calls_back: Option<Kept<Arc<Mutex<Vec<OutletId>>>>>,
}

impl Upstream for Wanted {
    fn set_wanted(&self, layers: LayerSet) {
        if let Some(nudged) = &self.calls_back {
            drop(nudged.lock());
        }
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = layers;
    }

    fn request_key_frame(&self, _: u8) {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1 += 1;
    }
}

impl Wanted {
    fn now(&self) -> (LayerSet, u32) {
        *self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The home worker.
struct Home {
    worker: Worker,
    scene: Scene,
    upstream: Arc<Wanted>,
    paused: bool,
    closed: bool,
    version: u64,
    subscribes_only: bool,
    /// Something found no room.
    behind: bool,
}

impl Home {
    fn act<T>(&mut self, act: impl FnOnce(&mut Worker, &mut Way) -> T) -> T {
        let mut way = Way { scene: self.scene.clone(), subscribes_only: self.subscribes_only, behind: false };
        let result = act(&mut self.worker, &mut way);
        self.behind |= way.behind;
        while let Some(event) = self.worker.poll_event() {
            self.scene.note_end(&event);
        }
        result
    }

    fn pause(&mut self) {
        let _ = self.act(|worker, way| worker.pause_producer(now(), HOME_KEY, way));
        (self.paused, self.version) = (true, self.version + 1);
    }

    fn resume(&mut self) {
        let _ = self.act(|worker, way| worker.resume_producer(now(), HOME_KEY, way));
        (self.paused, self.version) = (false, self.version + 1);
    }

    fn close(&mut self) {
        let _ = self.act(|worker, way| worker.close_producer(now(), HOME_KEY, way));
        self.closed = true;
    }

    /// Gives this side a consumer.
    fn consume(&mut self) {
        let created = self.act(|worker, _| worker.consume(now(), CAMERA, consumer()));
        self.scene.log.check(created.is_ok(), "no consumer");
    }

    fn burst(&mut self, first_packet: u64, key_frame: bool) {
        let message = Inbound::Burst {
            key: HOME_KEY,
            outlet: None,
            layer: 0,
            broken: false,
            burst: burst(first_packet, key_frame),
        };
        self.act(|worker, way| worker.handle_inbound(now(), message, way));
    }

    fn look(&mut self) {
        let nudged = std::mem::take(&mut *self.scene.nudged.lock());
        for outlet in nudged {
            self.act(|worker, way| worker.handle_outlet(now(), outlet, way));
        }
    }

    fn handle(&mut self, ask: Ask) -> bool {
        match ask {
            Ask::Attach { outlet, created, subscribes_only } => {
                let (nudged, home) =
                    (Kept::new(Arc::clone(&self.scene.nudged)), Kept::new(Arc::clone(&self.scene.home)));
                let link = Arc::new(OutletLink::new(outlet, move |outlet| {
                    nudged.lock().push(outlet);
                    home.send(Ask::Look);
                }));
                self.subscribes_only = subscribes_only;
                let parameters = AttachParameters { producer: HOME_KEY, destination: THERE, link, created };
                // Refused, it drops what confirms it: whoever asked is told by that.
                let _ = self.act(|worker, way| worker.attach(now(), parameters, way));
                self.subscribes_only = false;
            }
            Ask::Read(tell) => {
                let state = StreamState {
                    version: self.version,
                    paused: self.paused,
                    closed: self.closed,
                    sending: LayerSet::all(1),
                };
                let _ = tell.keep(state);
            }
            Ask::Detach(outlet) => {
                self.act(|worker, way| worker.detach(now(), outlet, way));
            }
            Ask::PauseConsumer => {
                let _ = self.act(|worker, _| worker.pause_consumer(now(), consumer().id));
            }
            Ask::CloseTransport => {
                let _ = self.act(|worker, way| worker.close_transport(now(), LOCAL, way));
            }
            Ask::Look => (self.scene.steps.look)(self),
            Ask::Stop => return false,
        }
        true
    }

    /// Does what it has been asked so far.
    fn turn(&mut self) {
        while let Some(ask) = self.scene.home.try_recv() {
            if !self.handle(ask) {
                self.scene.home.send(Ask::Stop);
                return;
            }
        }
    }

    /// Does what it is asked until it is told to stop.
    fn serve(&mut self) {
        while let Some(ask) = self.scene.home.recv() {
            if !self.handle(ask) {
                return;
            }
        }
    }

    /// Sends what could not be sent, as its timer would, and ends the channel.
    fn finish(&mut self) {
        let far = now() + Duration::from_secs(3_600);
        while self.behind {
            self.scene.mirror.wait_for_room();
            self.behind = false;
            self.act(|worker, way| worker.handle_timeout(far, way));
        }
        self.scene.mirror.close();
    }

    /// Attaches a mirror that has a consumer, and waits until it is wanted.
    fn attach_and_wait(&mut self, outlet: OutletId) {
        let (created, told) = confirm();
        self.handle(Ask::Attach { outlet, created, subscribes_only: false });
        let opened = confirmed(told);
        self.scene.log.check(opened.is_ok(), "refused");
        while self.upstream.now().0.is_empty() {
            thread::yield_now();
            self.turn();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(std::mem::replace(&mut self.worker, Worker::new(wall())));
        }
    }
}

/// The way from the home worker to the mirror's.
struct Way {
    scene: Scene,
    /// The mirror stands already.
    subscribes_only: bool,
    /// Something found no room.
    behind: bool,
}

impl Egress for Way {
    fn send_rtp(&mut self, _: TransportSlot, packets: &RtpPackets<'_>) {
        let mut bytes = Vec::new();
        let layout = packets.write(0, &mut bytes);
        let number: [u8; 8] = bytes[layout.header_len..layout.header_len + 8].try_into().expect("as they are made");
        let number = u64::from_be_bytes(number);
        self.scene.log.note(|record| record.forwarded.push(number));
    }

    fn send_rtcp(&mut self, _: TransportSlot, _: &[u8]) {}

    fn send_inbound(&mut self, _: OutletId, message: Inbound) -> bool {
        if self.subscribes_only && matches!(message, Inbound::Open(_)) {
            return true;
        }
        let sent = (self.scene.steps.send)(&self.scene.mirror, message);
        self.behind |= !sent;
        sent
    }
}

/// The mirror's worker.
struct Side {
    worker: Worker,
    scene: Scene,
    consumes: bool,
}

impl Side {
    fn handle(&mut self, message: Inbound) {
        if let Inbound::Open(open) = &message {
            let snapshot = open.snapshot.paused;
            self.scene.log.note(|record| record.mirrors.push(Mirror { paused: vec![snapshot], ..Mirror::default() }));
        }
        let opens = matches!(message, Inbound::Open(_));
        let mut way = self.way();
        self.worker.handle_inbound(now(), message, &mut way);
        let refused = opens && self.worker.producer_stats(MIRROR_KEY).is_none();
        if refused {
            self.scene.log.note(|record| record.mirrors.last_mut().expect("noted above").refused = true);
        }
        if opens && self.consumes {
            // Refused where there is still one of the mirror before, which has not ended.
            let _ = self.worker.consume(now(), CAMERA, consumer());
        }
        self.note_events();
    }

    fn close_router(&mut self) {
        let mut way = self.way();
        let _ = self.worker.close_router(now(), THERE, &mut way);
        self.note_events();
    }

    fn way(&self) -> Way {
        Way { scene: self.scene.clone(), subscribes_only: false, behind: false }
    }

    fn note_events(&mut self) {
        while let Some(event) = self.worker.poll_event() {
            self.scene.note_end(&event);
            self.scene.log.note(|record| {
                let Some(mirror) = record.mirrors.last_mut() else { return };
                match event {
                    Event::ProducerPaused(key) if key == MIRROR_KEY => mirror.paused.push(true),
                    Event::ProducerResumed(key) if key == MIRROR_KEY => mirror.paused.push(false),
                    Event::ProducerClosed(key, cause) if key == MIRROR_KEY => mirror.ended = Some(cause),
                    _ => {}
                }
            });
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(std::mem::replace(&mut self.worker, Worker::new(wall())));
        }
    }
}

impl Scene {
    fn note_end(&self, event: &Event) {
        let ended = match event {
            Event::RouterClosed(id, cause) => (id.to_string(), *cause),
            Event::TransportClosed(id, cause) => (id.to_string(), *cause),
            Event::ProducerClosed(key, cause) => (key.to_string(), *cause),
            Event::ConsumerClosed { consumer, cause, .. } => (consumer.to_string(), *cause),
            Event::OutletClosed(id, cause) => (id.to_string(), *cause),
            _ => return,
        };
        self.log.note(|record| record.ends.push(ended));
    }

    /// I4, I7: what was told alternates, and each end was told once.
    fn check_told(&self) {
        let (mirrors, ends) = self.log.note(|record| (record.mirrors.clone(), record.ends.clone()));
        for mirror in mirrors {
            let alternates = mirror.paused.windows(2).all(|pair| pair[0] != pair[1]);
            self.log.check(alternates, "the same was told twice");
        }
        let mut names: Vec<_> = ends.iter().map(|(name, _)| name).collect();
        names.sort();
        self.log.check(names.windows(2).all(|pair| pair[0] != pair[1]), "an end was told twice");
    }

    /// I1: the mirror is as its producer.
    fn check_mirror(&self, paused: bool) {
        let last = self.log.note(|record| record.mirrors.last().cloned());
        let shows = last.and_then(|mirror| mirror.paused.last().copied());
        self.log.check(shows == Some(paused), "the mirror is not as its producer");
    }
}

fn burst(first_packet: u64, key_frame: bool) -> Arc<Burst> {
    let at = now();
    let mut burst = Burst::new(BurstMeta {
        codec: Codec::Vp8.into(),
        key_frame,
        begins_frame: true,
        ends_frame: true,
        resolution: None,
        temporal_layer: 0,
        layer_sync: false,
        first_packet,
        rtp_time: RtpTime((first_packet * 3_000) as u32),
        times: StageTimes { captured: at, ready: at, taken: at, encoded: at },
        extensions: PassedExtensions::default(),
    });
    burst.push(&[&first_packet.to_be_bytes(), &[0; 8]]);
    Arc::new(burst)
}

fn consumer() -> ConsumerParameters {
    ConsumerParameters {
        id: ConsumerId(7),
        transport: LOCAL,
        ssrc: Ssrc(7),
        payload_type: PayloadType::new(96).expect("it is one"),
        rtx: None,
        extensions: HeaderExtensions::default(),
        cname: "model".to_owned(),
        initial_sequence: 0,
        initial_rtx_sequence: 0,
        timestamp_offset: 0,
        preferred_layers: Layers::HIGHEST,
        priority: Priority::default(),
        paused: false,
    }
}

fn run(steps: Steps, room: usize, model: fn(&Scene)) {
    run_bounded(BOUND, steps, room, model);
}

fn run_bounded(preemptions: usize, steps: Steps, room: usize, model: fn(&Scene)) {
    explore(preemptions, move || {
        let scene = Scene::new(steps, room);
        model(&scene);
        loom::stop_exploring();
        scene.check_told();
        let log = Arc::clone(&scene.log);
        drop(scene);
        log
    });
}

/// Asks for a mirror, gives up what came of it if it could not be opened, and stops the home worker.
fn ask(scene: &Scene) {
    let outlet = OutletId(1);
    if (scene.steps.attach)(scene, outlet).is_err() {
        (scene.steps.give_up)(scene, outlet);
    }
    scene.home.send(Ask::Stop);
}

/// T1. Attach ∥ pause.
fn an_attach_meets_a_pause(steps: Steps) {
    run(steps, 4, |scene| {
        let mut home = scene.home();
        loom::explore();
        let mirror = scene.mirror_thread(false);
        let asking = scene.spawn(ask);
        home.turn();
        home.pause();
        home.serve();
        asking.join().unwrap();
        home.finish();
        mirror.join().unwrap();
        scene.check_mirror(true);
    });
}

/// T2. Attach ∥ pause, resume (N1).
fn an_attach_meets_two_flips(steps: Steps) {
    run(steps, 4, |scene| {
        let mut home = scene.home();
        home.pause();
        loom::explore();
        let mirror = scene.mirror_thread(false);
        let asking = scene.spawn(ask);
        home.turn();
        (scene.steps.resume)(&mut home);
        home.turn();
        home.pause();
        home.turn();
        (scene.steps.resume)(&mut home);
        home.serve();
        asking.join().unwrap();
        home.finish();
        mirror.join().unwrap();
        scene.check_mirror(false);
    });
}

/// T2 again, through a channel that has room for one message: a state that finds none is sent later.
fn flips_meet_a_full_channel(steps: Steps) {
    run(steps, 1, |scene| {
        let mut home = scene.home();
        loom::explore();
        let mirror = scene.mirror_thread(false);
        let asking = scene.spawn(ask);
        home.serve();
        home.pause();
        home.resume();
        home.pause();
        asking.join().unwrap();
        home.finish();
        mirror.join().unwrap();
        scene.check_mirror(true);
    });
}

/// T3, T12. Pause ∥ packets on their way ∥ a new consumer: nothing that comes after the pause is forwarded until the
/// resume, and then a key frame first (I5, I6).
fn a_pause_meets_packets(steps: Steps) {
    run(steps, 8, |scene| {
        let mut home = scene.home();
        let mirror = scene.mirror_thread(true);
        home.attach_and_wait(OutletId(1));
        loom::explore();
        (scene.steps.burst)(&mut home, 0, true);
        home.pause();
        (scene.steps.burst)(&mut home, 1, true);
        home.turn();
        (scene.steps.resume)(&mut home);
        (scene.steps.burst)(&mut home, 2, false);
        home.turn();
        (scene.steps.burst)(&mut home, 3, true);
        home.finish();
        mirror.join().unwrap();
        let forwarded = scene.log.note(|record| record.forwarded.clone());
        scene.log.check(!forwarded.contains(&1), "forwarded after the pause");
        scene.log.check(!forwarded.contains(&2), "no key frame after the resume");
        scene.log.check(forwarded.windows(2).all(|pair| pair[0] < pair[1]), "backwards");
        scene.check_mirror(false);
    });
}

/// T12, the way back: what a mirror wants, and that it needs a key frame, reaches the source, whenever the home worker
/// looks.
fn a_want_meets_a_look(steps: Steps) {
    run(steps, 4, |scene| {
        let mut home = scene.home();
        loom::explore();
        let mirror = scene.mirror_thread(true);
        let asking = scene.spawn(ask);
        home.serve();
        asking.join().unwrap();
        home.turn();
        home.scene.mirror.close();
        mirror.join().unwrap();
        home.turn();
        let (wanted, key_frames) = home.upstream.now();
        scene.log.check(wanted == LayerSet::all(1), "it does not know that it is wanted");
        scene.log.check(key_frames > 0, "it does not know that a key frame is");
    });
}

/// T4. Attach ∥ the producer's close (N3): refused, or the mirror ends.
fn an_attach_meets_a_close(steps: Steps) {
    run(steps, 4, |scene| {
        let mut home = scene.home();
        loom::explore();
        let mirror = scene.mirror_thread(false);
        let asking = scene.spawn(ask);
        home.turn();
        (scene.steps.close)(&mut home);
        home.serve();
        asking.join().unwrap();
        home.finish();
        mirror.join().unwrap();
        let mirrors = scene.log.note(|record| record.mirrors.clone());
        scene.log.check(mirrors.iter().all(|mirror| mirror.ended.is_some()), "an orphan is left");
    });
}

/// T5. Attach ∥ the close of the destination's router (N5): the outlet does not outlive who asked for it.
fn an_attach_meets_the_close_of_the_destination(steps: Steps) {
    run(steps, 4, |scene| {
        let mut home = scene.home();
        loom::explore();
        let mirror = scene.spawn(|scene| {
            let mut side = Side { worker: mirror_worker(), scene: scene.clone(), consumes: false };
            if let Some(message) = scene.mirror.try_recv() {
                side.handle(message);
            }
            side.close_router();
            while let Some(message) = (scene.steps.next)(&scene.mirror) {
                side.handle(message);
            }
            side.scene.log.check(side.worker.close_router(now(), THERE, &mut side.way()).is_err(), "it is there again");
        });
        let asking = scene.spawn(|scene| {
            let outlet = OutletId(1);
            match (scene.steps.attach)(scene, outlet) {
                // Whoever has it drops it once it has ended.
                Ok(()) => scene.home.send(Ask::Detach(outlet)),
                Err(_) => (scene.steps.give_up)(scene, outlet),
            }
            scene.home.send(Ask::Stop);
        });
        home.serve();
        asking.join().unwrap();
        home.finish();
        mirror.join().unwrap();
        let ended = scene.log.note(|record| record.ends.iter().any(|(name, _)| *name == OutletId(1).to_string()));
        scene.log.check(ended, "an outlet is left");
        let mirrors = scene.log.note(|record| record.mirrors.clone());
        scene.log.check(mirrors.iter().all(|mirror| mirror.ended.is_some() || mirror.refused), "an orphan is left");
    });
}

/// T10. A consumer is paused ∥ its producer is paused and resumed: either alone keeps it silent.
fn a_consumers_pause_meets_its_producers(steps: Steps) {
    run(steps, 4, |scene| {
        let mut home = scene.home();
        home.consume();
        loom::explore();
        let asking = scene.spawn(|scene| {
            scene.home.send(Ask::PauseConsumer);
            scene.home.send(Ask::Stop);
        });
        home.turn();
        home.pause();
        home.turn();
        (scene.steps.resume)(&mut home);
        home.serve();
        asking.join().unwrap();
        (scene.steps.burst)(&mut home, 0, true);
        let forwarded = scene.log.note(|record| record.forwarded.clone());
        scene.log.check(forwarded.is_empty(), "a paused consumer was sent something");
    });
}

/// T11. The producer's close ∥ its transport's: each object ends once, with one cause.
fn a_close_meets_the_transports(steps: Steps) {
    run(steps, 4, |scene| {
        let mut home = scene.home();
        home.consume();
        loom::explore();
        let asking = scene.spawn(|scene| {
            scene.home.send(Ask::CloseTransport);
            scene.home.send(Ask::Stop);
        });
        home.turn();
        (scene.steps.close)(&mut home);
        home.serve();
        asking.join().unwrap();
        let mut ends = scene.log.note(|record| record.ends.clone());
        ends.retain(|(name, _)| *name == HOME_KEY.to_string() || *name == consumer().id.to_string());
        scene.log.check(ends.len() >= 2, "an end was not told");
    });
}

/// T14. Detach and attach again while packets fly: the old one's packets and end do nothing to the new one.
fn a_pipe_again_meets_old_packets(steps: Steps) {
    run_bounded(2, steps, 8, |scene| {
        let mut home = scene.home();
        let mirror = scene.mirror_thread(true);
        home.attach_and_wait(OutletId(1));
        loom::explore();
        let asking = scene.spawn(|scene| {
            scene.home.send(Ask::Detach(OutletId(1)));
            scene.log.check((scene.steps.attach)(scene, OutletId(2)).is_ok(), "refused");
            scene.home.send(Ask::Stop);
        });
        home.turn();
        (scene.steps.burst)(&mut home, 0, true);
        home.serve();
        asking.join().unwrap();
        home.turn();
        (scene.steps.burst)(&mut home, 1, true);
        home.finish();
        mirror.join().unwrap();
        let (mirrors, forwarded) = scene.log.note(|record| (record.mirrors.clone(), record.forwarded.clone()));
        let [old, new] = &mirrors[..] else { return scene.log.check(false, "not two") };
        scene.log.check(old.ended.is_some(), "the old one is left");
        scene.log.check(new.ended.is_none(), "the new one is gone");
        scene.log.check(forwarded.windows(2).all(|pair| pair[0] < pair[1]), "backwards");
    });
}

const BOUND: usize = 3;

const CHECKS_THEN_SUBSCRIBES: Steps = Steps { attach: Scene::check_then_subscribe, ..REAL };
const FORWARDS_ANYHOW: Steps = Steps {
    burst: |home, number, key_frame| {
        // Not gated at the source: the mirror is to know.
        let message = Inbound::Burst {
            key: MIRROR_KEY,
            outlet: Some(OutletId(1)),
            layer: 0,
            broken: false,
            burst: burst(number, key_frame),
        };
        home.act(|_, way| way.send_inbound(OutletId(1), message));
    },
    send: |channel, message| match message {
        // A channel of their own for packets: a state may come after what was sent behind it.
        Inbound::State { .. } => {
            thread::yield_now();
            channel.try_send(message)
        }
        other => channel.try_send_first(other),
    },
    ..REAL
};
const FORGETS_AFTER_LOOKING: Steps = Steps {
    look: |home| {
        let nudged = home.scene.nudged.lock().clone();
        for outlet in nudged {
            home.act(|worker, way| worker.handle_outlet(now(), outlet, way));
        }
        home.scene.nudged.lock().clear();
    },
    ..REAL
};
const LOOKS_UNDER_THE_LOCK: Steps = Steps {
    look: |home| {
        let scene = home.scene.clone();
        let mut nudged = scene.nudged.lock();
        for outlet in nudged.drain(..) {
            home.act(|worker, way| worker.handle_outlet(now(), outlet, way));
        }
    },
    ..REAL
};
// Neither whoever asked nor the home worker, which the mirror's side has nudged.
const LEAVES_THE_OUTLET: Steps = Steps { give_up: |_, _| {}, look: |_| {}, ..REAL };
const ONE_PAUSE_FOR_BOTH: Steps = Steps {
    resume: |home| {
        home.resume();
        let _ = home.act(|worker, _| worker.resume_consumer(now(), consumer().id));
    },
    ..REAL
};
const TELLS_ITSELF: Steps = Steps {
    close: |home| {
        home.close();
        let end = (HOME_KEY.to_string(), EndCause::Requested);
        home.scene.log.note(|record| record.ends.push(end));
    },
    ..REAL
};
const OPENS_FIRST: Steps = Steps { next: Channel::recv_opens_first, ..REAL };
const LOSES_A_STATE: Steps = Steps {
    send: |channel, message| {
        let _ = channel.try_send(message);
        true
    },
    ..REAL
};

impl<T> Channel<T> {
    /// Overtakes all that waits.
    fn try_send_first(&self, message: T) -> bool {
        self.queue.lock().0.push_front(message);
        self.changed.notify_one();
        true
    }
}

impl Channel<Inbound> {
    /// Takes the beginning of a mirror before all else, as if it came by another way.
    fn recv_opens_first(&self) -> Option<Inbound> {
        let open = {
            let mut queue = self.queue.lock();
            let position = queue.0.iter().position(|message| matches!(message, Inbound::Open(_)));
            position.and_then(|position| queue.0.remove(position))
        };
        open.or_else(|| self.recv())
    }
}

models! {
    a_pause_meets_packets {
        finds_a_mirror_that_gates_by_itself => FORWARDS_ANYHOW, "forwarded after the pause",
    }
    a_want_meets_a_look {
        finds_nudges_that_are_forgotten_after_a_look => FORGETS_AFTER_LOOKING, "it does not know",
        finds_a_look_under_the_lock => LOOKS_UNDER_THE_LOCK, "deadlock",
    }
    an_attach_meets_a_close {
        finds_a_check_then_subscribe => CHECKS_THEN_SUBSCRIBES, "an orphan is left",
    }
    an_attach_meets_the_close_of_the_destination {
        finds_an_outlet_that_nobody_detaches => LEAVES_THE_OUTLET, "an outlet is left",
    }
    a_consumers_pause_meets_its_producers {
        finds_one_pause_for_both => ONE_PAUSE_FOR_BOTH, "a paused consumer",
    }
    a_close_meets_the_transports {
        finds_a_closer_that_tells_it_himself => TELLS_ITSELF, "told twice",
    }
    a_pipe_again_meets_old_packets {
        finds_openings_that_overtake => OPENS_FIRST, "refused",
    }
    an_attach_meets_a_pause {
        finds_a_check_then_subscribe => CHECKS_THEN_SUBSCRIBES, "not as its producer",
    }
    an_attach_meets_two_flips {
        finds_a_check_then_subscribe => CHECKS_THEN_SUBSCRIBES, "not as its producer",
    }
    flips_meet_a_full_channel {
        finds_a_state_that_is_lost => LOSES_A_STATE, "not as its producer",
    }
}
