//! Fourteen tracks with real encoders, a thousand allocations a second, tracks and viewers that come and go, and a close in
//! the midst of it.
//!
//! Runs for a minute; `LENSCAST_STRESS_SECONDS` shortens it, `LENSCAST_STRESS_SEED` repeats a run's choices. It goes by the
//! clock, but no verdict depends on how much it gets done.

#![cfg(all(not(lenscast_loom), feature = "codecs"))]
#![allow(clippy::print_stdout)]

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lenscast_encoder::{Backend, EncodeError, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder};
use lenscast_media::{Bitrate, Burst, EncodedFrame, Frame, Picture, Resolution, TrackId};
use lenscast_sender::{
    AddTrackError, AllocationRequest, BurstSink, Closed, DEFAULT_MIN, DegradationPreference, Demand, Health,
    SendFrameError, Sender, SetAllocationError, ShareChange, Track, TrackConfig, TrackControl, TrackShare,
};

const TRACKS: usize = 14;
/// No call takes this long, on the slowest machine there is.
const BOUND: Duration = Duration::from_secs(10);
/// Memory may grow by this much from a quarter of the run on: the system's allocator keeps what encoders leave behind in an
/// arena for each of many threads, some tens of megabytes. A hundred thousand bytes lost with each encoder would be gigabytes.
const GROWTH_KIB: i64 = 256 * 1_024;
/// Encoders at once: two layers of each track, as many again in the hands of whoever allocates, and some of tracks that end.
const MAX_ENCODERS: i64 = 3 * 2 * TRACKS as i64;

/// What every thread of the test shares.
struct Scene {
    sender: Sender,
    tracks: Mutex<Vec<Live>>,
    pictures: Vec<Arc<Picture>>,
    faults: Arc<Faults>,
    ending: AtomicBool,
    waits: [Wait; 6],
    counts: Counts,
}

/// A track with whoever watches it.
struct Live {
    track: Arc<Track>,
    demands: Vec<Demand>,
}

#[derive(Default)]
struct Faults {
    found: Mutex<Vec<String>>,
    closed: AtomicBool,
    encoders: AtomicI64,
    built: AtomicU64,
    bursts: AtomicU64,
    streams: AtomicU64,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    conflicts: AtomicU64,
    estimates: AtomicU64,
    frames: AtomicU64,
    added: AtomicU64,
    removed: AtomicU64,
}

/// How long a kind of call took at most.
struct Wait {
    name: &'static str,
    longest_us: AtomicU64,
}

const ALLOCATE: usize = 0;
const UPDATE: usize = 1;
const REPORT: usize = 2;
const SEND: usize = 3;
const ADD: usize = 4;
const REMOVE: usize = 5;
const NAMES: [&str; 6] = ["allocate", "update_bitrate", "allocation", "send_frame", "add_track", "remove_track"];

impl Faults {
    fn add(&self, fault: String) {
        let mut found = self.found.lock().unwrap();
        // The first few tell.
        if found.len() < 20 {
            found.push(fault);
        }
    }
}

impl Wait {
    fn time<R>(&self, call: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = call();
        self.longest_us.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        result
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn kbps(&mut self, from: u64, to: u64) -> Bitrate {
        Bitrate::from_kbps(from + self.below(to - from))
    }
}

thread_local! {
    /// The encoder that this encode task used last: an encoder and its sink are called by the same thread.
    static ENCODER: Cell<u64> = const { Cell::new(0) };
}

/// A real encoder that says which it is.
struct Numbered {
    number: u64,
    encoder: Box<dyn VideoEncoder>,
    faults: Arc<Faults>,
}

impl VideoEncoder for Numbered {
    fn settings(&self) -> &EncoderSettings {
        self.encoder.settings()
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), EncodeError> {
        self.encoder.set_bitrate(target)
    }

    fn encode(
        &mut self,
        picture: &Picture,
        timing: FrameTiming,
        key: bool,
    ) -> Result<Option<EncodedFrame<'_>>, EncodeError> {
        ENCODER.set(self.number);
        self.encoder.encode(picture, timing, key)
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.faults.encoders.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Holds each layer's stream against the rules.
struct Checking {
    name: String,
    layers: Mutex<[Stream; 2]>,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Stream {
    next_packet: u64,
    encoder: u64,
    replaced: HashSet<u64>,
}

impl BurstSink for Checking {
    fn deliver(&self, layer: usize, burst: &Arc<Burst>) -> bool {
        let stream = &mut self.layers.lock().unwrap()[layer];
        let (packets, meta) = (burst.packets(), burst.meta());
        let fault =
            |what: &str| self.faults.add(format!("{} layer {layer}: {what}, at packet {}", self.name, packets.start));
        if self.faults.closed.load(Ordering::SeqCst) {
            fault("emitted after it was closed");
        }
        if packets.start != stream.next_packet {
            fault("a gap");
        }
        let encoder = ENCODER.get();
        if encoder != stream.encoder {
            if !meta.key_frame {
                fault("a new encoder begins without a key frame");
            }
            if !stream.replaced.insert(encoder) {
                fault("a packet of a replaced encoder");
            }
            stream.encoder = encoder;
            self.faults.streams.fetch_add(1, Ordering::Relaxed);
        }
        stream.next_packet = packets.end;
        self.faults.bursts.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl Scene {
    fn new() -> Self {
        let faults = Arc::new(Faults::default());
        let build = {
            let faults = Arc::clone(&faults);
            move |settings: &EncoderSettings| {
                let encoder = lenscast_encoder::build(settings)?;
                let living = 1 + faults.encoders.fetch_add(1, Ordering::SeqCst);
                if living > MAX_ENCODERS {
                    faults.add(format!("{living} encoders at once"));
                }
                let number = 1 + faults.built.fetch_add(1, Ordering::SeqCst);
                Ok(Box::new(Numbered { number, encoder, faults: Arc::clone(&faults) }) as Box<dyn VideoEncoder>)
            }
        };
        Self {
            sender: Sender::with_encoders(Arc::new(build)),
            tracks: Mutex::new(Vec::new()),
            pictures: pictures(),
            faults,
            ending: AtomicBool::new(false),
            waits: NAMES.map(|name| Wait { name, longest_us: AtomicU64::new(0) }),
            counts: Counts::default(),
        }
    }

    /// Adds a track that somebody watches.
    fn add(&self, random: &mut Random) -> Result<(), AddTrackError> {
        let backend = Backend::ALL[random.below(Backend::ALL.len() as u64) as usize];
        let layers = if backend == Backend::VpxEncode || !random.one_in(3) { 1 } else { 2 };
        let config = TrackConfig {
            backend,
            framerate: 30.0,
            layers,
            temporal_layers: TemporalLayers::One,
            degradation: DegradationPreference::Balanced,
            share: TrackShare { weight: 1.0, min: DEFAULT_MIN, max: Bitrate::from_kbps(500), enforced: false },
        };
        let control = TrackControl::new();
        let demands = (0..layers).map(|layer| control.subscribe(layer)).collect();
        let name = format!("{backend} track {}", self.counts.added.fetch_add(1, Ordering::Relaxed));
        let sink = Checking { name, layers: Mutex::default(), faults: Arc::clone(&self.faults) };
        let track = self.waits[ADD].time(|| self.sender.add_track(config, control, Box::new(sink)))?;
        self.tracks.lock().unwrap().push(Live { track, demands });
        Ok(())
    }

    /// Runs `step` so often a second, until it says that the sender is closed.
    fn repeat(&self, hertz: u32, mut step: impl FnMut() -> Result<(), Closed>) {
        let (mut due, interval) = (Instant::now(), Duration::from_secs(1) / hertz);
        while step().is_ok() {
            // What was missed is not made up for.
            due = (due + interval).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if !self.ending.load(Ordering::SeqCst) {
            self.faults.add("closed before anybody closed it".to_owned());
        }
    }

    fn allocate(&self, random: &mut Random) -> Result<(), Closed> {
        let (request, must_fail) = self.request(random)?;
        let result = self.waits[ALLOCATE].time(|| self.sender.allocate(&request));
        let counted = match &result {
            Ok(_) => &self.counts.accepted,
            Err(SetAllocationError::Closed(Closed)) => return Err(Closed),
            Err(SetAllocationError::Conflict { .. }) => &self.counts.conflicts,
            Err(SetAllocationError::Encoder { track, error }) => {
                self.faults.add(format!("{track}: {error}"));
                &self.counts.refused
            }
            // Removed meanwhile, or all others have weight zero.
            Err(_) => &self.counts.refused,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        if must_fail && result.is_ok() {
            self.faults.add(format!("accepted: {request:?}"));
        }
        self.check_sum()
    }

    /// A change at random, and whether it cannot be.
    fn request(&self, random: &mut Random) -> Result<(AllocationRequest, bool), Closed> {
        let ids: Vec<TrackId> = self.tracks.lock().unwrap().iter().map(|live| live.track.id()).collect();
        let mut shares: Vec<(TrackId, ShareChange)> = Vec::new();
        for _ in 0..random.below(4) {
            let id = ids[random.below(ids.len() as u64) as usize];
            let weight = [0.0, 0.5, 1.0, 1.0, 3.0, 1e6][random.below(6) as usize];
            let change = ShareChange {
                weight: (!random.one_in(4)).then_some(weight),
                min: random.one_in(3).then(|| random.kbps(10, 100)),
                max: random.one_in(3).then(|| random.kbps(100, 2_000)),
                enforced: None,
            };
            if shares.iter().all(|(other, _)| *other != id) {
                shares.push((id, change));
            }
        }
        let mut must_fail = random.one_in(10);
        if must_fail {
            let wrong = ShareChange { weight: Some(f64::NAN), ..ShareChange::default() };
            match (random.below(4), shares.first().copied()) {
                (0, Some(first)) => shares.push(first),
                (1, _) => shares.push((TrackId(u32::MAX), ShareChange::default())),
                (2, Some((_, first))) => shares[0].1 = ShareChange { min: Some(Bitrate::from_bps(1)), ..first },
                (_, Some(_)) => shares[0].1 = wrong,
                (_, None) => must_fail = false,
            }
        }
        let limit = match random.below(6) {
            0 => Some(random.kbps(100, 1_000)),
            1 => Some(random.kbps(1_000, 20_000)),
            2 if random.one_in(4) => Some(Bitrate::UNLIMITED),
            _ => None,
        };
        let version = self.sender.allocation()?.version;
        let expected_version = random.one_in(5).then(|| version - random.below(2));
        Ok((AllocationRequest { expected_version, limit, shares }, must_fail))
    }

    fn check_sum(&self) -> Result<(), Closed> {
        let report = self.waits[REPORT].time(|| self.sender.allocation())?;
        let targets: u64 = report.tracks.iter().map(|allotted| allotted.target.as_bps()).sum();
        let budget = report.limit.min(report.estimate);
        if budget != Bitrate::UNLIMITED && targets + report.overhead.as_bps() > budget.as_bps() {
            self.faults.add(format!("{targets} b/s and {:?} of {budget:?}", report.overhead));
        }
        Ok(())
    }

    fn estimate(&self, random: &mut Random) -> Result<(), Closed> {
        let estimate = if random.one_in(20) { Bitrate::UNLIMITED } else { random.kbps(50, 10_000) };
        self.waits[UPDATE].time(|| self.sender.update_bitrate(estimate))?;
        self.counts.estimates.fetch_add(1, Ordering::Relaxed);
        self.check_sum()
    }

    /// A frame for every camera.
    fn send_frames(&self, number: u64) -> Result<(), Closed> {
        let ids: Vec<TrackId> = self.tracks.lock().unwrap().iter().map(|live| live.track.id()).collect();
        for id in ids {
            let now = Instant::now();
            let picture = Arc::clone(&self.pictures[number as usize % self.pictures.len()]);
            let frame = Frame { picture, number, captured: now, ready: now };
            match self.waits[SEND].time(|| self.sender.send_frame(id, frame)) {
                Err(SendFrameError::Closed(Closed)) => return Err(Closed),
                // Removed meanwhile.
                Err(_) => {}
                Ok(_) => {
                    self.counts.frames.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Somebody comes or goes.
    fn churn(&self, random: &mut Random) -> Result<(), Closed> {
        let mut tracks = self.tracks.lock().unwrap();
        let at = random.below(tracks.len() as u64) as usize;
        let Live { track, demands } = &mut tracks[at];
        match random.below(10) {
            0..=2 => demands.clear(),
            3..=6 => {
                let layer = random.below(track.config().layers as u64) as usize;
                demands.push(track.control().subscribe(layer));
            }
            7 | 8 => {
                self.sender.force_key_frame(track.id())?;
            }
            _ => {
                let Live { track, .. } = tracks.swap_remove(at);
                drop(tracks);
                self.waits[REMOVE].time(|| self.sender.remove_track(track.id()))?;
                self.counts.removed.fetch_add(1, Ordering::Relaxed);
                match self.add(random) {
                    Err(AddTrackError::Closed(closed)) => return Err(closed),
                    Err(error) => self.faults.add(error.to_string()),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }
}

/// Some pictures that differ: a camera that moves.
fn pictures() -> Vec<Arc<Picture>> {
    let size = Resolution::new(160, 90).unwrap();
    let picture = |number: usize| {
        let mut picture = Picture::black(size);
        for (place, luma) in picture.planes_mut().y.iter_mut().enumerate() {
            *luma = 16 + ((place % 160 * 3 + place / 160 * 2 + number * 7) % 200) as u8;
        }
        Arc::new(picture)
    };
    (0..16).map(picture).collect()
}

fn from_environment(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Threads of this process that encode.
fn encode_tasks() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // A thread that ends meanwhile has no name any more.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("encode-")).count()
}

fn memory_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn real_encoders_bear_a_thousand_allocations_a_second() {
    let seconds = from_environment("LENSCAST_STRESS_SECONDS").unwrap_or(60);
    let seed = from_environment("LENSCAST_STRESS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("LENSCAST_STRESS_SEED={seed}");
    let random = |role: u64| Random(seed ^ role);
    let scene = Scene::new();
    for number in 0..TRACKS {
        scene.add(&mut random(number as u64 + 100)).unwrap();
    }
    let length = Duration::from_secs(seconds);
    let (memory, closing) = thread::scope(|scope| {
        let scene = &scene;
        scope.spawn(move || {
            let mut random = random(1);
            scene.repeat(1_000, || scene.allocate(&mut random));
        });
        scope.spawn(move || {
            let mut random = random(2);
            scene.repeat(100, || scene.estimate(&mut random));
        });
        scope.spawn(move || {
            let mut random = random(3);
            scene.repeat(20, || scene.churn(&mut random));
        });
        scope.spawn(move || {
            let mut number = 0;
            scene.repeat(30, || {
                number += 1;
                scene.send_frames(number)
            });
        });
        thread::sleep(length / 4);
        let early = memory_kib();
        thread::sleep(length * 3 / 4);
        let late = memory_kib();
        for (track, health) in scene.sender.health().unwrap() {
            if let Health::Failed(reason) = health {
                scene.faults.add(format!("{track} has failed: {reason}"));
            }
        }
        scene.ending.store(true, Ordering::SeqCst);
        let began = Instant::now();
        scene.sender.close();
        scene.faults.closed.store(true, Ordering::SeqCst);
        let (closing, tasks) = (began.elapsed(), encode_tasks());
        if tasks > 0 {
            scene.faults.add(format!("{tasks} encode tasks run on"));
        }
        ((early, late), closing)
    });
    scene.tracks.lock().unwrap().clear();
    let (counts, faults) = (&scene.counts, &scene.faults);
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{seconds} s: allocations {} made, {} refused, {} in conflict; estimates {}; tracks {} added, {} removed",
        read(&counts.accepted),
        read(&counts.refused),
        read(&counts.conflicts),
        read(&counts.estimates),
        read(&counts.added),
        read(&counts.removed),
    );
    println!(
        "frames {} in, {} out, of {} encoders in turn, {} built; memory {} KiB, then {} KiB",
        read(&counts.frames),
        read(&faults.bursts),
        read(&faults.streams),
        read(&faults.built),
        memory.0,
        memory.1,
    );
    let mut longest = vec![("close", closing)];
    longest.extend(scene.waits.iter().map(|wait| (wait.name, Duration::from_micros(read(&wait.longest_us)))));
    println!("longest waits: {longest:?}");
    for (name, wait) in longest {
        if wait > BOUND {
            faults.add(format!("{name} took {wait:?}"));
        }
    }
    let left = faults.encoders.load(Ordering::SeqCst);
    if left != 0 {
        faults.add(format!("{left} encoders are left"));
    }
    if memory.1 - memory.0 > GROWTH_KIB {
        faults.add(format!("memory grew from {} KiB to {} KiB", memory.0, memory.1));
    }
    if read(&faults.bursts) == 0 {
        faults.add("nothing was encoded".to_owned());
    }
    let found = faults.found.lock().unwrap();
    assert!(found.is_empty(), "LENSCAST_STRESS_SEED={seed}: {found:#?}");
}
