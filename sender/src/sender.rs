use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lenscast_capture::Put;
use lenscast_congestion::MAX_LAYERS;
use lenscast_media::sync::{Mutex, RwLock, thread};
use lenscast_media::{Bitrate, Frame, TrackId};
use thiserror::Error;

use crate::allocations::Allocations;
use crate::cpu_watch::CpuWatch;
use crate::encode_task::{Build, EncodeTask};
use crate::{
    AllocationReport, AllocationRequest, BurstSink, Health, SetAllocationError, ShareChange, ShareError, Track,
    TrackConfig, TrackControl, TrackState, clock,
};

/// All tracks of this process, each with its encode task, and what is allotted to them.
pub struct Sender {
    /// Held from taking tracks out of the table until their tasks have ended (L5). Before `tracks` in the lock order.
    ending: Mutex<()>,
    /// `None` once closed.
    tracks: RwLock<Option<Table>>,
    allocations: Arc<Allocations>,
    cpu: Arc<CpuWatch>,
    build: Arc<Build>,
}

#[derive(Default)]
struct Table {
    running: BTreeMap<TrackId, Running>,
    next_id: u32,
}

struct Running {
    track: Arc<Track>,
    task: thread::JoinHandle<()>,
}

/// The sender has been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the sender is closed")]
pub struct Closed;

/// Why a track could not be added.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddTrackError {
    /// The sender has been closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// No frame rate an encoder could work with.
    #[error("framerate is {0}, must be {min} to {max} frames/s",
        min = lenscast_encoder::FRAMERATES.start(), max = lenscast_encoder::FRAMERATES.end())]
    Framerate(f64),
    /// No such number of spatial layers.
    #[error("layers is {0}, must be 1 to {MAX_LAYERS}")]
    Layers(usize),
    /// Its claim on the bandwidth cannot be.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The system has no room for another thread.
    #[error("cannot start an encode task: {0}")]
    Thread(io::Error),
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendFrameError {
    /// The sender has been closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// There is no such track, or its task has ended.
    #[error("there is no {0}")]
    UnknownTrack(TrackId),
}

impl Sender {
    /// No tracks yet, and no limit to what they may take.
    #[must_use]
    pub fn new() -> Self {
        Self::with_encoders(Arc::new(lenscast_encoder::build))
    }

    /// The same with encoders of the caller's making. `build` is called without any lock held, by encode tasks and by whoever
    /// allocates.
    #[must_use]
    pub fn with_encoders(build: Arc<Build>) -> Self {
        Self {
            ending: Mutex::new(()),
            tracks: RwLock::new(Some(Table::default())),
            allocations: Arc::new(Allocations::new()),
            cpu: Arc::new(CpuWatch::new(clock::now())),
            build,
        }
    }

    /// Every running track, in the order they were added.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`Sender::close`].
    pub fn tracks(&self) -> Result<Vec<Arc<Track>>, Closed> {
        let tracks = self.tracks.read();
        let table = tracks.as_ref().ok_or(Closed)?;
        Ok(table.running.values().map(|running| Arc::clone(&running.track)).collect())
    }

    /// What each track is allotted, and why.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`Sender::close`].
    pub fn allocation(&self) -> Result<AllocationReport, Closed> {
        self.allocations.report()
    }

    /// Differs from an earlier answer if any track's target or claim has changed since.
    #[must_use]
    pub fn allocation_changes(&self) -> u64 {
        self.allocations.changes()
    }

    /// How each track fares: one stalled camera does not hide behind another. To be asked about once a second: this also
    /// notices who begins or stops to watch a camera of which no frames come.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`Sender::close`].
    pub fn health(&self) -> Result<Vec<(TrackId, Health)>, Closed> {
        let now = clock::now();
        self.allocations.refresh_if_stale();
        Ok(self.tracks()?.iter().map(|track| (track.id(), track.health(now))).collect())
    }

    /// Starts a track: its encode task waits for the first frame in [`Track::buffer`]. What it makes goes to `sink`. From now
    /// on it has its share.
    ///
    /// # Errors
    ///
    /// If the sender is closed, the configuration cannot be, or the system gives no thread. Nothing is left behind then.
    pub fn add_track(
        &self,
        config: TrackConfig,
        control: Arc<TrackControl>,
        sink: Box<dyn BurstSink>,
    ) -> Result<Arc<Track>, AddTrackError> {
        if !lenscast_encoder::FRAMERATES.contains(&config.framerate) {
            return Err(AddTrackError::Framerate(config.framerate));
        }
        if !(1..=MAX_LAYERS).contains(&config.layers) {
            return Err(AddTrackError::Layers(config.layers));
        }
        config.share.validate()?;
        let mut tracks = self.tracks.write();
        let table = tracks.as_mut().ok_or(Closed)?;
        let id = TrackId(table.next_id);
        let track = Arc::new(Track::new(id, config, control));
        let (build, allocations, cpu) = (Arc::clone(&self.build), Arc::clone(&self.allocations), Arc::clone(&self.cpu));
        let task = EncodeTask::new(Arc::clone(&track), sink, build, allocations, cpu);
        let alarm = PanicAlarm { track: Arc::clone(&track), allocations: Arc::clone(&self.allocations) };
        let task = thread::Builder::new()
            .name(format!("encode-{}", id.0))
            .spawn(move || {
                let _alarm = alarm;
                task.run();
            })
            .map_err(AddTrackError::Thread)?;
        table.next_id += 1;
        table.running.insert(id, Running { track: Arc::clone(&track), task });
        self.allocations.add(Arc::clone(&track))?;
        Ok(track)
    }

    /// Ends a track and waits for the frame it is at. Its share goes to the others. False if there is no such track.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`Sender::close`].
    pub fn remove_track(&self, id: TrackId) -> Result<bool, Closed> {
        let _ending = self.ending.lock();
        let removed = self.tracks.write().as_mut().ok_or(Closed)?.running.remove(&id);
        let found = removed.is_some();
        if let Some(running) = removed {
            self.allocations.remove(id);
            running.stop();
        }
        Ok(found)
    }

    /// Hands a frame to a track's encode task. Never blocks: the newest wins, and [`Put::Evicted`] tells that one lost.
    ///
    /// # Errors
    ///
    /// If the sender is closed, or there is no such track.
    pub fn send_frame(&self, id: TrackId, frame: Frame) -> Result<Put, SendFrameError> {
        let track = self.track(id)?.ok_or(SendFrameError::UnknownTrack(id))?;
        track.buffer().put(frame).map_err(|_| SendFrameError::UnknownTrack(id))
    }

    /// Makes the next frame of each of a track's layers a key frame. False if there is no such track.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`Sender::close`].
    pub fn force_key_frame(&self, id: TrackId) -> Result<bool, Closed> {
        let track = self.track(id)?;
        if let Some(track) = &track {
            (0..track.config().layers).for_each(|layer| track.control().request_key_frame(layer));
        }
        Ok(track.is_some())
    }

    /// Splits the bandwidth by these weights, the sooner the better: within a frame. `None` makes all shares equal; tracks that
    /// are not named keep their weight. Returns the allocation's new version.
    ///
    /// A track at weight 0 sends nothing. If one gets something that had nothing, its encoder is built by the caller's thread,
    /// which holds no lock meanwhile, and is in place when this returns.
    ///
    /// # Errors
    ///
    /// [`SetAllocationError`]; nothing has changed then.
    pub fn set_bitrate_allocation(&self, weights: Option<&[(TrackId, f64)]>) -> Result<u64, SetAllocationError> {
        let change = |weight| ShareChange { weight: Some(weight), ..ShareChange::default() };
        let allocate = |shares| self.allocate(&AllocationRequest { shares, ..AllocationRequest::default() });
        if let Some(weights) = weights {
            return allocate(weights.iter().map(|(track, weight)| (*track, change(*weight))).collect());
        }
        loop {
            match allocate(self.tracks()?.iter().map(|track| (track.id(), change(1.0))).collect()) {
                // Removed since it was listed: the caller did not name it.
                Err(SetAllocationError::UnknownTrack(_)) => {}
                allocated => return allocated,
            }
        }
    }

    /// Changes weights, minima, maxima and the limit together, all or nothing. See [`Sender::set_bitrate_allocation`].
    ///
    /// # Errors
    ///
    /// [`SetAllocationError`]; nothing has changed then.
    pub fn allocate(&self, request: &AllocationRequest) -> Result<u64, SetAllocationError> {
        self.allocations.apply(request, &*self.build)
    }

    /// What the network carries is now estimated at this. Waits for no encode, and makes no memory.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`Sender::close`].
    pub fn update_bitrate(&self, estimate: Bitrate) -> Result<(), Closed> {
        self.allocations.update_estimate(estimate)
    }

    /// What each layer of these tracks is to make at most from now on, since its viewers' paths carry no more; the smallest
    /// first, [`Bitrate::UNLIMITED`] for as much as the allocation gives. Tracks that are not named keep theirs. A fall acts
    /// with the next frame, in place and without a key frame where the library can; no ceiling brings a layer below its
    /// minimum. Waits for no encode. No person's change: the version stays.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`Sender::close`].
    pub fn set_ceilings(&self, ceilings: &[(TrackId, [Bitrate; MAX_LAYERS])]) -> Result<(), Closed> {
        self.allocations.set_ceilings(ceilings)
    }

    /// Ends all tracks and waits for the frames they are at (L5), those of tracks too that others are removing. Idempotent.
    pub fn close(&self) {
        let _ending = self.ending.lock();
        let Some(table) = self.tracks.write().take() else { return };
        self.allocations.close();
        // All are told before any is waited for.
        for running in table.running.values() {
            running.track.buffer().close();
        }
        for running in table.running.into_values() {
            running.stop();
        }
    }

    fn track(&self, id: TrackId) -> Result<Option<Arc<Track>>, Closed> {
        let tracks = self.tracks.read();
        let table = tracks.as_ref().ok_or(Closed)?;
        Ok(table.running.get(&id).map(|running| Arc::clone(&running.track)))
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.close();
    }
}

impl Running {
    fn stop(self) {
        self.track.buffer().close();
        // A panic has been told by then, see `PanicAlarm`.
        let _ = self.task.join();
    }
}

/// Tells at once that an encode task panicked: its thread is joined only when the track ends, which may be in weeks.
struct PanicAlarm {
    track: Arc<Track>,
    allocations: Arc<Allocations>,
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The camera learns that nobody takes its frames any more.
            self.track.buffer().close();
            self.track.end_encoding();
            self.track.set_state(TrackState::Failed { reason: "the encode task panicked".to_owned() });
            // Its share goes to the others.
            self.allocations.refresh();
        }
    }
}

#[cfg(all(test, lenscast_loom))]
#[path = "models/broken/sender.rs"]
mod broken;

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use lenscast_encoder::{
        Backend, BuildEncoderError, EncodeError, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder,
    };
    use lenscast_media::{Bitrate, Burst, EncodedFrame, Frame, Picture, Resolution};

    use super::*;
    use crate::{DEFAULT_MIN, DegradationPreference, Demand, TrackShare, TrackStats};

    /// An encoder whose frames say what they were made of, and that fails when it is told to.
    struct Scripted {
        settings: EncoderSettings,
        frames: u64,
        fail: Arc<AtomicUsize>,
        output: Vec<u8>,
    }

    impl VideoEncoder for Scripted {
        fn settings(&self) -> &EncoderSettings {
            &self.settings
        }

        fn set_bitrate(&mut self, target: Bitrate) -> Result<(), EncodeError> {
            self.settings.bitrate = target;
            Ok(())
        }

        fn encode(
            &mut self,
            picture: &Picture,
            _: FrameTiming,
            key_frame: bool,
        ) -> Result<Option<EncodedFrame<'_>>, EncodeError> {
            assert_eq!(picture.resolution(), self.settings.resolution);
            if self.fail.load(Ordering::SeqCst) > 0 {
                self.fail.fetch_sub(1, Ordering::SeqCst);
                return Err(EncodeError::Bitrate { backend: self.settings.backend, bitrate: self.settings.bitrate });
            }
            self.output = self.settings.bitrate.as_bps().to_be_bytes().to_vec();
            let key_frame = key_frame || self.frames == 0;
            self.frames += 1;
            Ok(Some(EncodedFrame {
                data: &self.output,
                codec: self.settings.backend.codec(),
                key_frame,
                resolution: self.settings.resolution,
                temporal_layer: 0,
                layer_sync: false,
                quantizer: None,
            }))
        }
    }

    struct Channel(mpsc::Sender<std::sync::Arc<Burst>>);

    impl BurstSink for Channel {
        fn deliver(&self, _: usize, burst: &std::sync::Arc<Burst>) -> bool {
            self.0.send(std::sync::Arc::clone(burst)).is_ok()
        }
    }

    struct Panicking;

    impl BurstSink for Panicking {
        fn deliver(&self, _: usize, _: &std::sync::Arc<Burst>) -> bool {
            panic!("as the test wants it");
        }
    }

    /// Says that it is called, and waits to be let go: what a sink must not do.
    struct Blocking {
        entered: mpsc::Sender<()>,
        released: Mutex<mpsc::Receiver<()>>,
    }

    impl BurstSink for Blocking {
        fn deliver(&self, _: usize, _: &std::sync::Arc<Burst>) -> bool {
            self.entered.send(()).unwrap();
            self.released.lock().recv_timeout(BOUND).is_ok()
        }
    }

    struct Scene {
        sender: Sender,
        track: Arc<Track>,
        bursts: mpsc::Receiver<std::sync::Arc<Burst>>,
        /// How many of the next calls of the encoder fail.
        fail: Arc<AtomicUsize>,
        built: Arc<AtomicUsize>,
        frames: u64,
        start: Instant,
    }

    const CONFIG: TrackConfig = TrackConfig {
        backend: Backend::Vp8,
        framerate: 30.0,
        layers: 1,
        temporal_layers: TemporalLayers::One,
        degradation: DegradationPreference::Disabled,
        share: TrackShare { weight: 1.0, min: DEFAULT_MIN, max: Bitrate::from_kbps(500), enforced: false },
    };
    /// Far longer than anything takes; reached only by a failure.
    const BOUND: Duration = Duration::from_secs(20);

    impl Scene {
        fn new() -> Self {
            let (fail, built) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (fail_of_encoders, count) = (Arc::clone(&fail), Arc::clone(&built));
            let build = move |settings: &EncoderSettings| -> Result<Box<dyn VideoEncoder>, BuildEncoderError> {
                count.fetch_add(1, Ordering::SeqCst);
                let fail = Arc::clone(&fail_of_encoders);
                Ok(Box::new(Scripted { settings: *settings, frames: 0, fail, output: Vec::new() }))
            };
            let sender = Sender::with_encoders(Arc::new(build));
            let (sink, bursts) = mpsc::channel();
            let control = TrackControl::new();
            let track = sender.add_track(CONFIG, control, Box::new(Channel(sink))).unwrap();
            Self { sender, track, bursts, fail, built, frames: 0, start: Instant::now() }
        }

        fn put(&mut self, resolution: Resolution) {
            let at = self.start + Duration::from_millis(33) * self.frames as u32;
            let picture = std::sync::Arc::new(Picture::black(resolution));
            let frame = Frame { picture, number: self.frames, captured: at, ready: at };
            self.frames += 1;
            self.track.buffer().put(frame).unwrap();
        }

        /// Puts a frame and waits until the task is done with it.
        fn frame(&mut self) -> TrackStats {
            self.frame_of(Resolution::new(64, 64).unwrap())
        }

        fn frame_of(&mut self, resolution: Resolution) -> TrackStats {
            // What the task writes down last.
            let seen = |stats: &TrackStats| (stats.total_encode_time, stats.frames_unwanted);
            let before = seen(&self.track.stats());
            self.put(resolution);
            let deadline = Instant::now() + BOUND;
            while seen(&self.track.stats()) == before {
                assert!(Instant::now() < deadline, "the encode task did not handle a frame");
                std::thread::yield_now();
            }
            self.track.stats()
        }

        fn burst(&self) -> std::sync::Arc<Burst> {
            self.bursts.recv_timeout(BOUND).expect("a burst")
        }

        fn set(&self, change: ShareChange) -> Result<u64, SetAllocationError> {
            let shares = vec![(self.track.id(), change)];
            self.sender.allocate(&AllocationRequest { shares, ..AllocationRequest::default() })
        }

        fn demand(&self) -> Demand {
            self.track.control().subscribe(0)
        }
    }

    #[test]
    fn a_track_that_nobody_wants_does_not_encode_and_keeps_no_encoder() {
        let mut scene = Scene::new();
        assert_eq!(scene.frame().frames_unwanted, 1);
        assert_eq!(scene.built.load(Ordering::SeqCst), 0);
        let demand = scene.demand();
        assert_eq!(scene.frame().frames_encoded, 1);
        drop(demand);
        let stats = scene.frame();
        assert_eq!((stats.frames_encoded, stats.frames_unwanted, stats.state), (1, 2, TrackState::Idle));
        assert!(scene.track.layers_with_encoder() == [false; 3]);
        let _demand = scene.demand();
        scene.frame();
        assert!(scene.burst().meta().key_frame && scene.burst().meta().key_frame, "each start is a key frame");
        assert_eq!(scene.built.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn packets_are_counted_without_a_gap_across_encoders() {
        let mut scene = Scene::new();
        let _demand = scene.demand();
        scene.frame();
        scene.frame_of(Resolution::new(128, 64).unwrap());
        scene.frame_of(Resolution::new(128, 64).unwrap());
        let bursts = [scene.burst(), scene.burst(), scene.burst()];
        assert_eq!(bursts.each_ref().map(|burst| burst.packets()), [0..1, 1..2, 2..3]);
        assert_eq!(bursts.each_ref().map(|burst| burst.meta().key_frame), [true, true, false]);
        assert_eq!(scene.built.load(Ordering::SeqCst), 2, "another size needs another encoder");
        assert!(bursts[2].meta().rtp_time.ticks_since(bursts[0].meta().rtp_time) > 0);
    }

    #[test]
    fn a_new_target_is_used_by_the_next_frame() {
        let mut scene = Scene::new();
        let _demand = scene.demand();
        scene.frame();
        scene.set(ShareChange { max: Some(Bitrate::from_kbps(900)), ..ShareChange::default() }).unwrap();
        assert_eq!(scene.frame().target_bitrate, Bitrate::from_kbps(900));
        let target = |burst: &Burst| u64::from_be_bytes(burst.payload(0)[6..].try_into().unwrap());
        assert_eq!((target(&scene.burst()), target(&scene.burst())), (500_000, 900_000));
        assert_eq!(scene.built.load(Ordering::SeqCst), 1, "in place");
    }

    #[test]
    fn a_track_whose_target_is_zero_does_not_encode_and_begins_anew_with_a_key_frame() {
        let mut scene = Scene::new();
        let _demand = scene.demand();
        scene.frame();
        let limit = Some(Bitrate::ZERO);
        scene.sender.allocate(&AllocationRequest { limit, ..AllocationRequest::default() }).unwrap();
        let stats = scene.frame();
        assert_eq!((stats.frames_encoded, stats.frames_unwanted, stats.frames_failed), (1, 1, 0));
        assert_eq!(stats.state, TrackState::Paused);
        assert!(scene.track.layers_with_encoder() == [false; 3]);
        let limit = Some(Bitrate::UNLIMITED);
        scene.sender.allocate(&AllocationRequest { limit, ..AllocationRequest::default() }).unwrap();
        assert_eq!(scene.frame().key_frames_encoded, 2);
    }

    #[test]
    fn many_requests_make_one_key_frame_and_none_comes_within_300_ms_of_another() {
        let mut scene = Scene::new();
        let _demand = scene.demand();
        // Before the first key frame is taken, so that a slow machine only makes what is measured longer.
        let began = Instant::now();
        scene.frame();
        scene.track.control().request_key_frame(0);
        scene.track.control().request_key_frame(0);
        let deadline = began + BOUND;
        while scene.frame().key_frames_encoded < 2 {
            assert!(Instant::now() < deadline);
        }
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert_eq!(scene.frame().key_frames_encoded, 2);
    }

    #[test]
    fn an_encoder_that_fails_is_restarted_at_once_and_then_less_and_less_often() {
        let mut scene = Scene::new();
        let _demand = scene.demand();
        scene.frame();
        scene.fail.store(1, Ordering::SeqCst);
        assert_eq!(scene.frame().frames_failed, 1);
        let stats = scene.frame();
        assert_eq!((stats.frames_encoded, stats.encoders_built), (2, 2), "the first restart does not wait");

        scene.fail.store(usize::MAX, Ordering::SeqCst);
        let deadline = Instant::now() + BOUND;
        let failed = loop {
            let stats = scene.frame();
            if let TrackState::Failed { reason } = &stats.state {
                assert!(reason.contains("bitrate"), "{reason}");
                break stats;
            }
            assert!(Instant::now() < deadline);
        };
        assert!(failed.encoders_built < 10, "{} encoders built for {} frames", failed.encoders_built, scene.frames);
        assert!(failed.frames_failed > failed.encoders_built, "frames went by while it waited");

        scene.fail.store(0, Ordering::SeqCst);
        while scene.frame().state != TrackState::Active {
            assert!(Instant::now() < deadline, "it comes back by itself");
        }
    }

    #[test]
    fn a_removed_track_stops_and_the_others_go_on() {
        let mut scene = Scene::new();
        let (sink, bursts) = mpsc::channel();
        let control = TrackControl::new();
        let other = scene.sender.add_track(CONFIG, control, Box::new(Channel(sink))).unwrap();
        assert_eq!(scene.sender.tracks().unwrap().len(), 2);
        assert_eq!(scene.sender.remove_track(other.id()), Ok(true));
        assert_eq!(scene.sender.remove_track(other.id()), Ok(false));
        assert!(bursts.recv_timeout(BOUND).is_err(), "its task and with it the sink are gone");
        let _demand = scene.demand();
        assert_eq!(scene.frame().frames_encoded, 1);
    }

    /// A panic was seen only when the track was removed.
    #[test]
    fn a_task_that_panics_is_seen_at_once_and_takes_no_more_frames() {
        let scene = Scene::new();
        let control = TrackControl::new();
        let _demand = control.subscribe(0);
        let track = scene.sender.add_track(CONFIG, control, Box::new(Panicking)).unwrap();
        track.buffer().put(frame_like(&scene)).unwrap();
        let deadline = Instant::now() + BOUND;
        while !matches!(track.stats().state, TrackState::Failed { .. }) {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(track.buffer().put(frame_like(&scene)).is_err(), "its camera stops");
        assert_eq!(scene.sender.remove_track(track.id()), Ok(true));
    }

    #[test]
    fn after_close_nothing_runs_and_every_call_says_so() {
        let mut scene = Scene::new();
        let _demand = scene.demand();
        scene.frame();
        scene.burst();
        scene.sender.close();
        scene.sender.close();
        assert!(matches!(scene.bursts.recv_timeout(BOUND), Err(mpsc::RecvTimeoutError::Disconnected)));
        assert!(scene.track.buffer().put(frame_like(&scene)).is_err());
        assert_eq!(scene.sender.remove_track(scene.track.id()), Err(Closed));
        assert_eq!(scene.sender.tracks().unwrap_err(), Closed);
        let control = TrackControl::new();
        let (sink, _bursts) = mpsc::channel();
        let added = scene.sender.add_track(CONFIG, control, Box::new(Channel(sink)));
        assert!(matches!(added, Err(AddTrackError::Closed(Closed))));
    }

    /// It returned while a track that another thread had taken out of the table still ran.
    #[test]
    fn close_waits_for_a_track_that_is_being_removed() {
        let scene = Scene::new();
        let (entered_tell, entered) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let sink = Blocking { entered: entered_tell, released: Mutex::new(released) };
        let control = TrackControl::new();
        let _demand = control.subscribe(0);
        let track = scene.sender.add_track(CONFIG, control, Box::new(sink)).unwrap();
        track.buffer().put(frame_like(&scene)).unwrap();
        entered.recv_timeout(BOUND).unwrap();
        let sender = &scene.sender;
        std::thread::scope(|scope| {
            scope.spawn(|| sender.remove_track(track.id()));
            let deadline = Instant::now() + BOUND;
            while sender.tracks().unwrap().len() > 1 {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
            let (closed_tell, closed) = mpsc::channel();
            scope.spawn(move || {
                sender.close();
                closed_tell.send(()).unwrap();
            });
            let early = closed.recv_timeout(Duration::from_millis(100));
            release.send(()).unwrap();
            assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout), "the track's task still runs");
            closed.recv_timeout(BOUND).unwrap();
        });
        assert!(matches!(entered.recv_timeout(BOUND), Err(mpsc::RecvTimeoutError::Disconnected)));
    }

    fn frame_like(scene: &Scene) -> Frame {
        let picture = std::sync::Arc::new(Picture::black(Resolution::new(64, 64).unwrap()));
        Frame { picture, number: 0, captured: scene.start, ready: scene.start }
    }

    #[test]
    fn a_frame_rate_that_no_encoder_takes_is_refused() {
        let scene = Scene::new();
        for framerate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            let (sink, _bursts) = mpsc::channel();
            let config = TrackConfig { framerate, ..CONFIG };
            let control = TrackControl::new();
            let error = scene.sender.add_track(config, control, Box::new(Channel(sink))).unwrap_err();
            assert!(error.to_string().contains("must be 1 to 240"), "{error}");
        }
    }
}
