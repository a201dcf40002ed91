//! Models of the sender's concurrency, over the real code with loom's locks and atomics:
//!
//! ```text
//! RUSTFLAGS="--cfg lenscast_loom" cargo test -p lenscast-sender --no-default-features --lib --release
//! ```
//!
//! Each model is a function over a [`Scene`]: a sender whose encoders are scripted and write down what befalls them. It
//! must hold for [`REAL`] steps, and it must fail where one step is replaced by its mistaken form, out of `broken/`: those
//! tests say `should_panic` and name the mistake. docs/concurrency.md lists them all.
//!
//! loom explores every interleaving of at most so many preemptions ([`explore`]): a thread that is switched away from
//! although it could go on. Where threads block, any number of switches comes for free. What a model sets up beforehand,
//! and the closing at its end, is not explored.
//!
//! A failure shows only once a scene has been taken down ([`Log::verdict`]): a panic in the midst would unwind through
//! loom's guards. Where loom itself finds a deadlock there is no such moment, so what would use loom when it is dropped
//! is [`Kept`].

mod allocating;
mod closing;
mod encoding;
mod guards;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use lenscast_capture::FrameBufferCounters;
use lenscast_encoder::{
    Backend, BuildEncoderError, EncodeError, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder,
};
use lenscast_media::sync::atomic::{AtomicUsize, Ordering};
use lenscast_media::sync::thread;
use lenscast_media::{Bitrate, Burst, EncodedFrame, Frame, Picture, Resolution, TrackId};

use crate::allocations::Allocations;
use crate::{
    AddTrackError, AllocationRequest, BurstSink, Closed, DEFAULT_MIN, DegradationPreference, Demand, Sender,
    SetAllocationError, ShareChange, Track, TrackConfig, TrackControl, TrackShare, clock,
};

/// What a model calls. A broken variant has one of its own.
#[derive(Clone, Copy)]
struct Steps {
    add: Add,
    remove: fn(&Sender, TrackId) -> Result<bool, Closed>,
    allocate: fn(&Sender, &AllocationRequest) -> Result<u64, SetAllocationError>,
    equal: fn(&Sender) -> Result<u64, SetAllocationError>,
    update: fn(&Sender, Bitrate) -> Result<(), Closed>,
    close: fn(&Sender),
}

type Add = fn(&Sender, TrackConfig, Arc<TrackControl>, Box<dyn BurstSink>) -> Result<Arc<Track>, AddTrackError>;

const REAL: Steps = Steps {
    add: Sender::add_track,
    remove: Sender::remove_track,
    allocate: Sender::allocate,
    equal: |sender| sender.set_bitrate_allocation(None),
    update: Sender::update_bitrate,
    close: Sender::close,
};

/// Not dropped while a failure unwinds: loom is then past counting, and would abort the test.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("there until it is dropped")
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

/// Everything that befell a scene's encoders. What is written here is no part of the code under test, so it is behind a
/// lock of the standard library's; `moment` makes each entry an event to loom, which then tries every order of them.
struct Log {
    record: std::sync::Mutex<Record>,
    moment: AtomicUsize,
}

#[derive(Default)]
struct Record {
    failures: Vec<String>,
    built: u32,
    /// Encoders that live, with the track that they are for.
    living: BTreeMap<u32, usize>,
    /// The encoder that is at a frame, by track.
    encoding: BTreeMap<usize, u32>,
    /// Tasks that run, by track.
    tasks: BTreeMap<usize, usize>,
    bursts: Vec<Emitted>,
    /// By track, once nothing may come of it any more.
    over: BTreeMap<usize, bool>,
}

/// A burst as it was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Emitted {
    track: usize,
    frame: u64,
    encoder: u32,
    kbps: u64,
    key_frame: bool,
    packets: (u64, u64),
}

impl Log {
    /// Writes down what happens at this moment.
    fn note<R>(&self, note: impl FnOnce(&mut Record) -> R) -> R {
        self.moment.fetch_add(1, Ordering::SeqCst);
        note(&mut self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.note(|record| record.failures.push(what.to_owned()));
        }
    }

    fn bursts(&self) -> Vec<Emitted> {
        self.note(|record| record.bursts.clone())
    }

    fn built(&self) -> u32 {
        self.note(|record| record.built)
    }

    /// A track has ended, for whoever is told so: nothing of it is left, and nothing comes of it.
    fn is_over(&self, track: usize) {
        self.note(|record| {
            record.over.insert(track, true);
            if record.tasks.get(&track).is_some_and(|tasks| *tasks > 0) {
                record.failures.push(format!("the task of {track} still runs"));
            }
        });
    }

    /// Panics with what went wrong. Called when nothing of loom's is alive.
    fn verdict(&self) {
        let record = self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(record.failures.is_empty(), "{:?}; {:?}", record.failures, record.bursts);
        assert!(record.living.is_empty(), "encoders that outlived their track: {:?}", record.living);
    }
}

impl Record {
    fn emit(&mut self, burst: Emitted) {
        let Emitted { track, encoder, key_frame, packets, .. } = burst;
        let mut before = self.bursts.iter().filter(|other| other.track == track);
        let mut fail = |what: &str| self.failures.push(format!("{what}: {burst:?}"));
        if self.over.contains_key(&track) {
            fail("emitted by a track that is over");
        }
        match before.clone().next_back() {
            Some(last) if last.packets.1 != packets.0 => fail("a gap in the packets"),
            None if packets.0 != 0 => fail("the stream does not begin with its first packet"),
            _ => {}
        }
        if before.clone().next_back().is_none_or(|last| last.encoder != encoder) {
            if before.any(|other| other.encoder == encoder) {
                fail("a packet of a replaced encoder");
            }
            if !key_frame {
                fail("a new encoder's first frame is no key frame");
            }
        }
        self.bursts.push(burst);
    }
}

/// An encoder that makes of each frame its own number and target.
struct Scripted {
    id: u32,
    track: usize,
    settings: EncoderSettings,
    frames: u32,
    output: Vec<u8>,
    log: Arc<Log>,
    at_frame: AtFrame,
}

/// What else happens while an encoder is at a frame: given the track.
type AtFrame = Arc<dyn Fn(usize) + Send + Sync>;

impl VideoEncoder for Scripted {
    fn settings(&self) -> &EncoderSettings {
        &self.settings
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), EncodeError> {
        self.log
            .check(self.settings.backend.changes_bitrate_in_place(), "an encoder that cannot change its rate is to");
        self.settings.bitrate = target;
        Ok(())
    }

    fn encode(&mut self, _: &Picture, _: FrameTiming, key: bool) -> Result<Option<EncodedFrame<'_>>, EncodeError> {
        self.log.note(|record| {
            if let Some(other) = record.encoding.insert(self.track, self.id) {
                record.failures.push(format!("{other} and {} encode at once", self.id));
            }
        });
        (self.at_frame)(self.track);
        self.log.note(|record| record.encoding.remove(&self.track));
        let kbps = self.settings.bitrate.as_kbps() as u32;
        self.output = [self.id.to_be_bytes(), kbps.to_be_bytes()].concat();
        self.frames += 1;
        Ok(Some(EncodedFrame {
            data: &self.output,
            codec: self.settings.backend.codec(),
            key_frame: key || self.frames == 1,
            resolution: self.settings.resolution,
            temporal_layer: 0,
            layer_sync: false,
            quantizer: None,
        }))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.log.note(|record| {
            record.living.remove(&self.id);
            if record.encoding.get(&self.track) == Some(&self.id) {
                record.failures.push(format!("{} is dropped while it encodes", self.id));
            }
        });
    }
}

/// Takes a track's bursts. Lives as long as its encode task.
struct Tap {
    track: usize,
    log: Arc<Log>,
}

impl Tap {
    fn new(track: usize, log: &Arc<Log>) -> Box<Self> {
        log.note(|record| *record.tasks.entry(track).or_default() += 1);
        Box::new(Self { track, log: Arc::clone(log) })
    }
}

impl BurstSink for Tap {
    fn deliver(&self, _: usize, burst: &Arc<Burst>) -> bool {
        let meta = burst.meta();
        // Behind the six bytes of the codec's descriptor.
        let number = |at: usize| u32::from_be_bytes(burst.payload(0)[6 + at..10 + at].try_into().expect("four bytes"));
        let frame = meta.times.captured.duration_since(clock::now()).as_millis() as u64;
        let emitted = Emitted {
            track: self.track,
            frame,
            encoder: number(0),
            kbps: u64::from(number(4)),
            key_frame: meta.key_frame,
            packets: (burst.packets().start, burst.packets().end),
        };
        self.log.note(|record| record.emit(emitted));
        true
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.log.note(|record| *record.tasks.entry(self.track).or_default() -= 1);
        }
    }
}

/// A sender with scripted encoders. A clone is for another thread.
struct Scene {
    sender: Kept<Arc<Sender>>,
    log: Arc<Log>,
    steps: Steps,
    picture: Arc<Picture>,
    demands: Kept<Vec<Demand>>,
}

impl Clone for Scene {
    fn clone(&self) -> Self {
        Self {
            sender: Kept::new(Arc::clone(&self.sender)),
            log: Arc::clone(&self.log),
            steps: self.steps,
            picture: Arc::clone(&self.picture),
            demands: Kept::new(Vec::new()),
        }
    }
}

/// What a model makes of building an encoder: given the sender and the track.
type AtBuild = fn(&Sender, usize) -> Result<(), &'static str>;

const SIZE: Resolution = match Resolution::new(16, 16) {
    Some(size) => size,
    None => unreachable!(),
};

impl Scene {
    fn new(steps: Steps, at_build: AtBuild, at_frame: AtFrame) -> Self {
        let log = Arc::new(Log { record: std::sync::Mutex::default(), moment: AtomicUsize::new(0) });
        let sender = Arc::new_cyclic(|sender: &std::sync::Weak<Sender>| {
            let (sender, log) = (sender.clone(), Arc::clone(&log));
            Sender::with_encoders(Arc::new(move |settings: &EncoderSettings| {
                let track = tag(settings);
                let sender = Kept::new(sender.upgrade().expect("its tasks end before it"));
                at_build(&sender, track).map_err(|detail| BuildEncoderError::Library {
                    backend: settings.backend,
                    resolution: settings.resolution,
                    operation: "the script",
                    detail: detail.to_owned(),
                })?;
                let id = log.note(|record| {
                    record.built += 1;
                    record.living.insert(record.built, track);
                    record.built
                });
                let (log, at_frame, settings) = (Arc::clone(&log), Arc::clone(&at_frame), *settings);
                let encoder = Scripted { id, track, settings, frames: 0, output: Vec::new(), log, at_frame };
                Ok(Box::new(encoder) as Box<dyn VideoEncoder>)
            }))
        });
        let picture = Arc::new(Picture::black(SIZE));
        Self { sender: Kept::new(sender), log, steps, picture, demands: Kept::new(Vec::new()) }
    }

    /// Adds track number `number`, which somebody wants and which has had a frame, in this codec, at this weight.
    fn track(&mut self, number: usize, backend: Backend, weight: f64) -> Arc<Track> {
        let track = self.unwanted_track(number, backend, weight).expect("nothing is closed yet");
        self.demands.push(track.control().subscribe(0));
        track
    }

    fn unwanted_track(&self, number: usize, backend: Backend, weight: f64) -> Result<Arc<Track>, AddTrackError> {
        let config = config(number, backend, weight);
        let track = (self.steps.add)(&self.sender, config, TrackControl::new(), Tap::new(number, &self.log))?;
        track.control().set_source(SIZE);
        Ok(track)
    }

    fn send(&self, track: &Track, frame: u64) {
        let captured = clock::now() + Duration::from_millis(frame);
        let frame = Frame { picture: Arc::clone(&self.picture), number: frame, captured, ready: captured };
        let _ = self.sender.send_frame(track.id(), frame);
    }

    fn allocate(&self, request: &AllocationRequest) -> Result<u64, SetAllocationError> {
        (self.steps.allocate)(&self.sender, request)
    }

    fn spawn<R: 'static>(&self, run: impl FnOnce(&Self) -> R + 'static) -> thread::JoinHandle<R> {
        let scene = self.clone();
        thread::spawn(move || run(&scene))
    }

    /// Waits until the track's task has taken what was sent.
    fn wait_until_taken(&self, track: &Track) {
        loop {
            let FrameBufferCounters { put, evicted, taken } = track.buffer().counters();
            if put == evicted + taken {
                return;
            }
            thread::yield_now();
        }
    }

    /// Waits until the track's task is done with what was sent, and ends it.
    fn finish(&self, track: &Track) {
        self.wait_until_taken(track);
        let _ = self.sender.remove_track(track.id());
    }

    /// What the report says is what the tracks have been told.
    fn check_published(&self, tracks: &[&Arc<Track>]) {
        let Ok(report) = self.sender.allocation() else { return self.log.check(false, "closed") };
        let reported: Vec<_> = report.tracks.iter().map(|allotted| (allotted.track, allotted.target)).collect();
        let published: Vec<_> = tracks.iter().map(|track| (track.id(), track.control().target(0))).collect();
        self.log.check(reported == published, &format!("reported {reported:?}, published {published:?}"));
        let sum: u64 = published.iter().map(|(_, target)| target.as_bps()).sum();
        let budget = report.limit.min(report.estimate).as_bps();
        self.log.check(sum + report.overhead.as_bps() <= budget, &format!("{sum} b/s of {budget}"));
    }
}

/// The settings say which track an encoder is for.
fn tag(settings: &EncoderSettings) -> usize {
    settings.framerate as usize - 30
}

fn config(number: usize, backend: Backend, weight: f64) -> TrackConfig {
    TrackConfig {
        backend,
        framerate: 30.0 + number as f64,
        layers: 1,
        temporal_layers: TemporalLayers::One,
        degradation: DegradationPreference::Disabled,
        share: TrackShare { weight, min: DEFAULT_MIN, max: Bitrate::from_kbps(500), enforced: false },
    }
}

fn weight(track: &Track, weight: f64) -> (TrackId, ShareChange) {
    (track.id(), ShareChange { weight: Some(weight), ..ShareChange::default() })
}

fn weights(shares: Vec<(TrackId, ShareChange)>) -> AllocationRequest {
    AllocationRequest { shares, ..AllocationRequest::default() }
}

fn limit(kbps: u64) -> AllocationRequest {
    AllocationRequest { limit: Some(Bitrate::from_kbps(kbps)), ..AllocationRequest::default() }
}

/// Explores a model in which building and encoding are nothing but themselves.
fn explore(preemptions: usize, steps: Steps, model: fn(&mut Scene)) {
    explore_with(preemptions, steps, |_, _| Ok(()), || Arc::new(|_| ()), model);
}

/// Explores a model up to so many preemptions. `at_frame` makes what happens at each frame.
fn explore_with(preemptions: usize, steps: Steps, at_build: AtBuild, at_frame: fn() -> AtFrame, model: fn(&mut Scene)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 5_000;
    let iterations = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&iterations);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        loom::stop_exploring();
        let mut scene = Scene::new(steps, at_build, at_frame());
        model(&mut scene);
        loom::stop_exploring();
        let log = Arc::clone(&scene.log);
        scene.sender.close();
        drop(scene);
        log.verdict();
    });
    #[allow(clippy::print_stdout)]
    {
        println!("{} interleavings", iterations.load(std::sync::atomic::Ordering::Relaxed));
    }
}

/// The model over the real steps, and over steps of which one is mistaken in a way that it must find.
macro_rules! models {
    ($($model:ident { $($name:ident => $broken:expr, $tells:literal),+ $(,)? })+) => {$(
        mod $model {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn holds() {
                super::$model(REAL);
            }

            $(
                #[test]
                #[should_panic(expected = $tells)]
                fn $name() {
                    super::$model($broken);
                }
            )+
        }
    )+};
}

use models;
