//! A sender whose encoders do as a test tells them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use lenscast_encoder::{
    Backend, BuildEncoderError, EncodeError, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder,
};
use lenscast_media::{Bitrate, Burst, EncodedFrame, Frame, Picture, Resolution, TrackId};
use lenscast_sender::{
    BurstSink, DEFAULT_MIN, DegradationPreference, Demand, Sender, Track, TrackConfig, TrackControl, TrackShare,
};

/// Far longer than anything takes; reached only by a failure.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// What the encoders of a [`Scene`] are to do, and what they did.
#[derive(Default)]
pub(crate) struct Script {
    /// Each build takes the first of these and waits until it is opened.
    pub(crate) build_gates: Mutex<VecDeque<Arc<Gate>>>,
    /// Each encode of a picture of this width waits for the gate.
    pub(crate) encode_gate: Mutex<Option<(u32, Arc<Gate>)>>,
    /// Builds for pictures of this width fail.
    pub(crate) failing_width: AtomicUsize,
    /// Every encode fails.
    pub(crate) failing: AtomicBool,
    pub(crate) built: Mutex<Vec<EncoderSettings>>,
    /// Encoders that were built and not dropped.
    pub(crate) alive: AtomicUsize,
}

/// Somebody waits here until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// Waits until somebody waits at the gate.
    pub(crate) fn wait_for_somebody(&self) {
        let state = self.state.lock().unwrap();
        let (state, result) = self.changed.wait_timeout_while(state, BOUND, |(waits, _)| !*waits).unwrap();
        assert!(!result.timed_out(), "nobody came");
        drop(state);
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        let (_state, result) = self.changed.wait_timeout_while(state, BOUND, |(_, open)| !*open).unwrap();
        assert!(!result.timed_out(), "the gate was never opened");
    }
}

struct Scripted {
    settings: EncoderSettings,
    script: Arc<Script>,
    frames: u64,
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
        let gate = self.script.encode_gate.lock().unwrap().clone();
        if let Some((width, gate)) = gate
            && width == picture.resolution().width()
        {
            gate.pass();
        }
        if self.script.failing.load(Ordering::SeqCst) {
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

impl Drop for Scripted {
    fn drop(&mut self) {
        self.script.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A sender, and what its tracks sent.
pub(crate) struct Scene {
    pub(crate) sender: Arc<Sender>,
    pub(crate) script: Arc<Script>,
    start: Instant,
}

/// A camera of a [`Scene`].
pub(crate) struct Camera {
    pub(crate) track: Arc<Track>,
    pub(crate) demand: Option<Demand>,
    pub(crate) bursts: mpsc::Receiver<(usize, Arc<Burst>)>,
    size: Resolution,
    start: Instant,
    frames: u64,
}

struct Channel(mpsc::Sender<(usize, Arc<Burst>)>);

impl BurstSink for Channel {
    fn deliver(&self, layer: usize, burst: &Arc<Burst>) -> bool {
        self.0.send((layer, Arc::clone(burst))).is_ok()
    }
}

pub(crate) fn kbps(kbps: u64) -> Bitrate {
    Bitrate::from_kbps(kbps)
}

pub(crate) fn config() -> TrackConfig {
    TrackConfig {
        backend: Backend::Vp8,
        framerate: 30.0,
        layers: 1,
        temporal_layers: TemporalLayers::One,
        degradation: DegradationPreference::Disabled,
        share: TrackShare { weight: 1.0, min: DEFAULT_MIN, max: kbps(2_500), enforced: false },
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let script = Arc::<Script>::default();
        let of_builder = Arc::clone(&script);
        let build = move |settings: &EncoderSettings| -> Result<Box<dyn VideoEncoder>, BuildEncoderError> {
            let script = &of_builder;
            let gate = script.build_gates.lock().unwrap().pop_front();
            if let Some(gate) = gate {
                gate.pass();
            }
            let EncoderSettings { backend, resolution, .. } = *settings;
            if script.failing_width.load(Ordering::SeqCst) == resolution.width() as usize {
                let (operation, detail) = ("testing", "as ordered".to_owned());
                return Err(BuildEncoderError::Library { backend, resolution, operation, detail });
            }
            script.built.lock().unwrap().push(*settings);
            script.alive.fetch_add(1, Ordering::SeqCst);
            let script = Arc::clone(script);
            Ok(Box::new(Scripted { settings: *settings, script, frames: 0, output: Vec::new() }))
        };
        Self { sender: Arc::new(Sender::with_encoders(Arc::new(build))), script, start: Instant::now() }
    }

    /// A camera whose pictures are this wide, that somebody watches.
    pub(crate) fn watched(&self, width: u32) -> Camera {
        let mut camera = self.camera(width, config());
        camera.demand = Some(camera.track.control().subscribe(0));
        camera
    }

    pub(crate) fn camera(&self, width: u32, config: TrackConfig) -> Camera {
        let (sink, bursts) = mpsc::channel();
        let track = self.sender.add_track(config, TrackControl::new(), Box::new(Channel(sink))).unwrap();
        let size = Resolution::new(width, (width * 9 / 16).next_multiple_of(2).max(64)).unwrap();
        Camera { track, demand: None, bursts, size, start: self.start, frames: 0 }
    }

    pub(crate) fn built(&self) -> usize {
        self.script.built.lock().unwrap().len()
    }

    pub(crate) fn target(&self, camera: &Camera) -> Bitrate {
        let report = self.sender.allocation().unwrap();
        report.tracks.iter().find(|track| track.track == camera.track.id()).unwrap().target
    }

    pub(crate) fn limit(&self, limit: Bitrate) {
        self.sender.update_bitrate(limit).unwrap();
    }

    pub(crate) fn weigh(&self, weights: &[(&Camera, f64)]) -> Result<u64, lenscast_sender::SetAllocationError> {
        let weights: Vec<(TrackId, f64)> =
            weights.iter().map(|(camera, weight)| (camera.track.id(), *weight)).collect();
        self.sender.set_bitrate_allocation(Some(&weights))
    }
}

impl Camera {
    /// Puts a frame, one 30th of a second after the last.
    pub(crate) fn put(&mut self) {
        self.put_at(self.start + Duration::from_secs(self.frames) / 30);
    }

    pub(crate) fn put_at(&mut self, captured: Instant) {
        let picture = Arc::new(Picture::black(self.size));
        let frame = Frame { picture, number: self.frames, captured, ready: captured };
        self.frames += 1;
        self.track.buffer().put(frame).unwrap();
    }

    /// Puts a frame and waits until the task is done with it. True if something came out.
    pub(crate) fn frame(&mut self) -> bool {
        // What the task writes down last.
        let done = |track: &Track| {
            let stats = track.stats();
            (stats.total_encode_time, stats.frames_unwanted)
        };
        let (before, encoded) = (done(&self.track), self.track.stats().frames_encoded);
        self.put();
        wait_until("the encode task handles the frame", || done(&self.track) != before);
        self.track.stats().frames_encoded > encoded
    }

    pub(crate) fn burst(&self) -> Arc<Burst> {
        self.bursts.recv_timeout(BOUND).expect("a burst").1
    }

    /// The bitrate that the last frame was encoded at.
    pub(crate) fn encoded_at(&self) -> Bitrate {
        let mut last = self.burst();
        while let Ok((_, burst)) = self.bursts.try_recv() {
            last = burst;
        }
        Bitrate::from_bps(u64::from_be_bytes(last.payload(0)[6..].try_into().unwrap()))
    }
}

/// Waits until `done`, for [`BOUND`] at most.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}
