//! One stream that comes in: who sends it, if anybody does, and whether anything comes.
//!
//! A stream outlives its publishers: it is configured, listed and asked for by name, live or not. Times are arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::Bitrate;
use lenscast_media::sync::{Mutex, RwLock};
use lenscast_router::TransportId;
use lenscast_transport::PipeState;
use tokio::sync::Notify;

use crate::config::{StreamConfig, StreamSource};
use crate::ingress::{LayerState, Tracks};

/// A stream of the configuration.
pub struct Stream {
    config: RwLock<Arc<StreamConfig>>,
    inner: Mutex<Inner>,
    /// Told whenever its sender comes, goes or is lost.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    sender: Option<Sender>,
    /// Why nobody sends, if there is more to say than that.
    reason: Option<String>,
    since: Instant,
    paused: bool,
    stopped: bool,
}

/// Whoever sends a stream.
#[derive(Debug, Clone)]
struct Sender {
    session: TransportId,
    tracks: Tracks,
    /// It has been heard of: its producers exist.
    is_here: bool,
    /// Of a pipe: how it stands with the other machine. Packets tell nothing of that: they come while somebody here wants them.
    pipe: Option<PipeState>,
    /// Its video's layers at the last look, and when there were last more packets than before.
    layers: Vec<StreamLayer>,
    looked: Option<Instant>,
    moved: Option<Instant>,
}

/// One spatial layer of a stream's video.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StreamLayer {
    /// What was counted.
    pub counted: LayerState,
    /// What came between the last two looks, bits/s of payload.
    pub bitrate: Bitrate,
    /// Frames/s between the last two looks.
    pub frames_per_second: f64,
}

/// What a stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Nobody sends it.
    Offline,
    /// Somebody is about to.
    Connecting,
    /// Pictures come.
    Live,
    /// Somebody is connected and sends nothing.
    Silent,
    /// It is held up, here or where it comes from.
    Paused,
}

/// What a stream is doing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStatus {
    /// What.
    pub state: StreamState,
    /// Why, if there is more to say.
    pub reason: Option<String>,
    /// For how long its sender has been there, or not.
    pub since: Duration,
}

/// A sender of which no packet has come for so long is silent: the router's time after which a layer counts as gone is 1.5 s.
const SILENCE: Duration = Duration::from_secs(2);

impl StreamState {
    /// As the API and the metrics call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Silent => "silent",
            Self::Paused => "paused",
        }
    }
}

impl Stream {
    /// Nobody sends it yet.
    #[must_use]
    pub fn new(config: StreamConfig, now: Instant) -> Self {
        let inner = Inner { sender: None, reason: None, since: now, paused: false, stopped: false };
        Self { config: RwLock::new(Arc::new(config)), inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn config(&self) -> Arc<StreamConfig> {
        Arc::clone(&self.config.read())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.config().name.clone()
    }

    /// Its tracks, while somebody sends it and it can be played.
    #[must_use]
    pub fn tracks(&self) -> Option<Tracks> {
        self.inner.lock().sender.as_ref().filter(|sender| sender.is_here).map(|sender| sender.tracks)
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self, now: Instant) -> StreamStatus {
        let inner = self.inner.lock();
        let since = now.saturating_duration_since(inner.since);
        let state = match &inner.sender {
            None => StreamState::Offline,
            // Whoever sends plain RTP does not say so first.
            Some(sender) if !sender.is_here && self.config().rtp().is_some() => StreamState::Offline,
            Some(sender) if !sender.is_here => StreamState::Connecting,
            Some(Sender { pipe: Some(pipe), .. }) => match pipe {
                PipeState::Connecting => StreamState::Connecting,
                PipeState::Connected { paused: true } => StreamState::Paused,
                PipeState::Connected { paused: false } => StreamState::Live,
                PipeState::Lost => StreamState::Silent,
            },
            Some(_) if inner.paused => StreamState::Paused,
            Some(sender) if sender.is_moving(now) => StreamState::Live,
            Some(sender) if sender.moved.is_none() && since < SILENCE => StreamState::Connecting,
            Some(_) => StreamState::Silent,
        };
        let is_pipe = inner.sender.as_ref().is_some_and(|sender| sender.pipe.is_some());
        let reason = match state {
            StreamState::Live | StreamState::Connecting => None,
            StreamState::Silent if is_pipe => inner.reason.clone().or_else(|| Some("its origin is lost".to_owned())),
            StreamState::Silent => Some("its sender is silent".to_owned()),
            StreamState::Paused if is_pipe => Some("it is held up at its origin".to_owned()),
            StreamState::Paused => Some("it is held up here".to_owned()),
            StreamState::Offline => inner.reason.clone(),
        };
        StreamStatus { state, reason, since }
    }

    /// True while it can be played: somebody sends it, or did so a moment ago.
    #[must_use]
    pub fn is_live(&self, now: Instant) -> bool {
        self.status(now).state == StreamState::Live
    }

    /// True while it is held up, here or at its origin.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let inner = self.inner.lock();
        let pipe = inner.sender.as_ref().and_then(|sender| sender.pipe);
        inner.paused || pipe == Some(PipeState::Connected { paused: true })
    }

    /// True if its sender is to make place for another one: it has had time to send something, and nothing comes.
    #[must_use]
    pub fn makes_place(&self, now: Instant) -> bool {
        let inner = self.inner.lock();
        let had_time = now.saturating_duration_since(inner.since) >= SILENCE;
        inner.sender.as_ref().is_some_and(|sender| sender.is_here && had_time && !sender.is_moving(now))
    }

    /// The session that it comes by.
    #[must_use]
    pub fn session(&self) -> Option<TransportId> {
        self.inner.lock().sender.as_ref().map(|sender| sender.session)
    }

    /// Takes over what of a new configuration can change while it runs. False if it must be started anew for that.
    pub(crate) fn reconfigure(&self, config: &StreamConfig) -> bool {
        let mut own = self.config.write();
        let same = match (&own.source, &config.source) {
            (StreamSource::Whip(_), StreamSource::Whip(_)) => true,
            (own, new) => own == new,
        };
        if same && **own != *config {
            *own = Arc::new(config.clone());
        }
        same
    }

    /// Somebody is about to send it. False if the stream has just been ended: nobody may.
    #[must_use]
    pub fn begin(&self, session: TransportId, tracks: Tracks, now: Instant) -> bool {
        let is_pipe = matches!(self.config().source, StreamSource::Pull(_));
        let mut inner = self.inner.lock();
        if inner.stopped {
            return false;
        }
        inner.sender = Some(Sender {
            session,
            tracks,
            is_here: false,
            pipe: is_pipe.then_some(PipeState::Connecting),
            layers: Vec::new(),
            looked: None,
            moved: None,
        });
        inner.reason = None;
        inner.since = now;
        drop(inner);
        self.changed.notify_waiters();
        true
    }

    /// That somebody has been heard of. Returns its tracks if the stream is held up: theirs are to be too.
    pub(crate) fn arrive(&self, session: TransportId, now: Instant) -> Option<Tracks> {
        let mut inner = self.inner.lock();
        let sender = inner.sender.as_mut().filter(|sender| sender.session == session)?;
        sender.is_here = true;
        let tracks = sender.tracks;
        inner.since = now;
        let paused = inner.paused;
        drop(inner);
        self.changed.notify_waiters();
        paused.then_some(tracks)
    }

    /// How it stands with the pipe that it comes by.
    pub(crate) fn note_pipe(&self, session: TransportId, pipe: PipeState, now: Instant) {
        let mut inner = self.inner.lock();
        let Some(sender) = inner.sender.as_mut().filter(|sender| sender.session == session) else { return };
        if sender.pipe.replace(pipe) == Some(pipe) {
            return;
        }
        inner.since = now;
        if matches!(pipe, PipeState::Connected { .. }) {
            inner.reason = None;
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Its sender has gone. False if it is another's session.
    pub(crate) fn end(&self, session: TransportId, reason: Option<String>, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        if inner.sender.as_ref().is_none_or(|sender| sender.session != session) {
            return false;
        }
        inner.sender = None;
        inner.reason = reason;
        inner.since = now;
        drop(inner);
        self.changed.notify_waiters();
        true
    }

    /// Says why nobody sends it.
    pub(crate) fn explain(&self, reason: String) {
        self.inner.lock().reason = Some(reason);
    }

    /// How it stands with the pipe that it comes by, if it comes by one.
    pub(crate) fn pipe(&self) -> Option<PipeState> {
        self.inner.lock().sender.as_ref().and_then(|sender| sender.pipe)
    }

    /// Its video's spatial layers, the smallest first, as they were at the last look. None while nobody sends it.
    #[must_use]
    pub fn layers(&self) -> Vec<StreamLayer> {
        self.inner.lock().sender.as_ref().map_or_else(Vec::new, |sender| sender.layers.clone())
    }

    /// Notes what has come of its video.
    pub(crate) fn observe(&self, counted: &[LayerState], now: Instant) {
        let mut inner = self.inner.lock();
        let Some(sender) = &mut inner.sender else { return };
        let elapsed = sender.looked.replace(now).map(|looked| now.saturating_duration_since(looked).as_secs_f64());
        let layers = counted.iter().enumerate().map(|(index, counted)| {
            let before = sender.layers.get(index).map(|layer| layer.counted).unwrap_or_default();
            let rate = |now: u64, before: u64| match elapsed {
                Some(elapsed) if elapsed > 0.0 => now.saturating_sub(before) as f64 / elapsed,
                _ => 0.0,
            };
            StreamLayer {
                counted: *counted,
                bitrate: Bitrate::from_bps((rate(counted.bytes, before.bytes) * 8.0) as u64),
                frames_per_second: rate(counted.frames, before.frames),
            }
        });
        let layers: Vec<_> = layers.collect();
        let packets = |layers: &[StreamLayer]| layers.iter().map(|layer| layer.counted.packets).sum::<u64>();
        if packets(&layers) > packets(&sender.layers) {
            sender.moved = Some(now);
        }
        sender.layers = layers;
    }

    /// Remembers that it is held up, or goes on.
    pub(crate) fn note_paused(&self, paused: bool) {
        self.inner.lock().paused = paused;
    }

    /// From now on nobody may send it. Returns the session to be closed.
    pub(crate) fn stop(&self) -> Option<TransportId> {
        let mut inner = self.inner.lock();
        inner.stopped = true;
        let session = inner.sender.take().map(|sender| sender.session);
        drop(inner);
        self.changed.notify_waiters();
        session
    }

    /// True once it has been ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.inner.lock().stopped
    }

    /// Resolves once it has been ended, or nobody sends it.
    pub(crate) async fn until_broken(&self) {
        self.until(|| self.is_stopped() || self.session().is_none()).await;
    }

    /// Waits so long, or until it is ended.
    pub(crate) async fn pause_for(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.until(|| self.is_stopped())).await;
    }

    /// Resolves once that is done, which only changes of who sends it can do.
    pub(crate) async fn until(&self, done: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Counts from here on, so that nothing is missed between the look and the wait.
            changed.as_mut().enable();
            if done() {
                return;
            }
            changed.await;
        }
    }
}

impl Sender {
    fn is_moving(&self, now: Instant) -> bool {
        self.moved.is_some_and(|moved| now.saturating_duration_since(moved) < SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use lenscast_media::Codec;
    use lenscast_router::ProducerId;

    use super::*;
    use crate::config::WhipConfig;

    fn config(codecs: &[Codec]) -> StreamConfig {
        let source = StreamSource::Whip(WhipConfig { token: None, max: None, codecs: codecs.to_vec() });
        StreamConfig { name: "robot".to_owned(), source, play_token: None, max_viewers: 1 }
    }

    const TRACKS: Tracks = Tracks { video: ProducerId(1), codec: Codec::Vp8, layers: 3, audio: None };

    fn counted(packets: u64) -> LayerState {
        LayerState { packets, bytes: packets * 1_000, frames: packets, ..LayerState::default() }
    }

    #[test]
    fn rates_are_of_what_came_between_two_looks() {
        let start = Instant::now();
        let stream = Stream::new(config(&[]), start);
        assert!(stream.begin(TransportId(7), TRACKS, start));
        stream.observe(&[counted(10), counted(0)], start);
        stream.observe(&[counted(20), counted(5)], start + Duration::from_millis(500));
        let rates: Vec<_> =
            stream.layers().iter().map(|layer| (layer.bitrate.as_kbps(), layer.frames_per_second)).collect();
        assert_eq!(rates, [(160, 20.0), (80, 10.0)]);
    }

    #[test]
    fn a_stream_is_live_from_its_first_packet_until_two_seconds_after_its_last() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let stream = Stream::new(config(&[]), start);
        let state = |millis| stream.status(at(millis)).state;
        assert_eq!((state(0), stream.tracks()), (StreamState::Offline, None));
        assert!(stream.begin(TransportId(7), TRACKS, start));
        assert_eq!((state(0), stream.tracks()), (StreamState::Connecting, None));
        assert_eq!(stream.arrive(TransportId(8), start), None, "somebody else");
        assert_eq!(stream.arrive(TransportId(7), start), None);
        assert_eq!((state(0), stream.tracks()), (StreamState::Connecting, Some(TRACKS)));
        stream.observe(&[counted(1)], at(100));
        assert_eq!(
            (state(100), state(2_099), state(2_100)),
            (StreamState::Live, StreamState::Live, StreamState::Silent)
        );
        stream.observe(&[counted(1)], at(2_200));
        assert_eq!(state(2_200), StreamState::Silent, "no packet has come since");
        stream.observe(&[counted(2)], at(2_300));
        assert_eq!(state(2_300), StreamState::Live);
        assert!(!stream.end(TransportId(8), None, at(2_400)) && state(2_400) == StreamState::Live);
        assert!(stream.end(TransportId(7), Some("it left".to_owned()), at(2_400)));
        let status = stream.status(at(3_400));
        assert_eq!((status.state, status.reason.as_deref()), (StreamState::Offline, Some("it left")));
        assert_eq!(status.since, Duration::from_secs(1));
    }

    #[test]
    fn what_is_fetched_is_live_without_any_packet_and_held_up_when_its_origin_is() {
        let now = Instant::now();
        let source = StreamSource::Pull(crate::config::PullConfig {
            url: "http://a".to_owned(),
            stream: "b".to_owned(),
            token: None,
        });
        let stream = Stream::new(StreamConfig { source, ..config(&[]) }, now);
        let note = |pipe| {
            stream.note_pipe(TransportId(7), pipe, now);
            (stream.status(now + SILENCE * 10).state, stream.is_paused())
        };
        assert!(stream.begin(TransportId(7), TRACKS, now));
        assert_eq!(stream.arrive(TransportId(7), now), None);
        assert_eq!(stream.status(now + SILENCE * 10).state, StreamState::Connecting);
        assert_eq!(note(PipeState::Connected { paused: false }), (StreamState::Live, false));
        assert_eq!(note(PipeState::Connected { paused: true }), (StreamState::Paused, true));
        assert_eq!(note(PipeState::Lost), (StreamState::Silent, false));
        stream.explain("it does not answer".to_owned());
        assert_eq!(stream.status(now).reason.as_deref(), Some("it does not answer"));
        assert_eq!(note(PipeState::Connected { paused: false }), (StreamState::Live, false));
    }

    #[test]
    fn who_has_sent_nothing_for_two_seconds_makes_place_held_up_or_not() {
        let start = Instant::now();
        let stream = Stream::new(config(&[]), start);
        let at = |millis| start + Duration::from_millis(millis);
        stream.note_paused(true);
        assert!(stream.begin(TransportId(7), TRACKS, start));
        assert!(!stream.makes_place(at(60_000)), "it has not come yet");
        assert!(stream.arrive(TransportId(7), at(1_000)).is_some());
        assert_eq!((stream.makes_place(at(2_999)), stream.makes_place(at(3_000))), (false, true));
        stream.note_paused(false);
        assert_eq!(stream.status(at(3_000)).state, StreamState::Silent);
        stream.observe(&[counted(1)], at(3_000));
        assert_eq!((stream.makes_place(at(4_999)), stream.makes_place(at(5_000))), (false, true));
    }

    #[test]
    fn who_comes_to_a_stream_that_is_held_up_is_held_up_too() {
        let now = Instant::now();
        let stream = Stream::new(config(&[]), now);
        stream.note_paused(true);
        assert!(stream.begin(TransportId(7), TRACKS, now));
        assert_eq!(stream.arrive(TransportId(7), now), Some(TRACKS));
        stream.observe(&[counted(5)], now);
        assert_eq!(stream.status(now).state, StreamState::Paused);
        stream.note_paused(false);
        assert_eq!(stream.status(now).state, StreamState::Live);
    }

    #[test]
    fn what_a_publisher_may_do_changes_without_ending_it_and_where_it_comes_from_does_not() {
        let now = Instant::now();
        let stream = Stream::new(config(&[]), now);
        assert!(stream.reconfigure(&config(&[Codec::H264])));
        assert_eq!(stream.config().whip().unwrap().codecs, [Codec::H264]);
        let source = StreamSource::Pull(crate::config::PullConfig {
            url: "http://a".to_owned(),
            stream: "b".to_owned(),
            token: None,
        });
        assert!(!stream.reconfigure(&StreamConfig { source, ..config(&[]) }));
    }

    #[test]
    fn nobody_begins_to_send_a_stream_that_has_been_ended() {
        let stream = Stream::new(config(&[]), Instant::now());
        assert!(stream.begin(TransportId(7), TRACKS, Instant::now()));
        assert_eq!(stream.stop(), Some(TransportId(7)));
        assert!(!stream.begin(TransportId(8), TRACKS, Instant::now()));
        assert!(stream.is_stopped() && stream.session().is_none());
    }
}
