//! A WHEP viewer on the webrtc crate: its ICE, DTLS and SRTP against ours.
//!
//! It hands out every RTP and RTCP packet as it came from the wire, before any of its own stack acted on it: a tap at the
//! wire's end of the interceptor chain. The chain behind it sends the NACKs and receiver reports that a browser would.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::{Duration, Instant};

use lenscast_media::Codec;
use rtc::interceptor::{Interceptor, Packet, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpHeaderExtensionCapability, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSdpType, RTCSessionDescription, SettingEngineBuilder, SrtpProtectionProfile,
    register_default_interceptors,
};

use super::answer::{Answer, Streams, redirected};
use super::frames::{Frame, Frames};
use super::http::{Http, Reply};
use super::wait::BOUND;

/// What a viewer does otherwise than by default.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// The SRTP profiles that it offers.
    pub(crate) profiles: Option<Vec<SrtpProtectionProfile>>,
    /// Where it sends to instead of the server's candidate.
    pub(crate) via: Option<SocketAddr>,
    /// The address of this machine that it is at; without it, the loopback's.
    pub(crate) at: Option<IpAddr>,
    /// Changes the offer on its way to the server.
    pub(crate) offer: Option<&'a dyn Fn(String) -> String>,
}

/// One viewer.
pub(crate) struct Client {
    peer: Arc<dyn PeerConnection>,
    events: mpsc::Receiver<Event>,
    http: Http,
    via: Option<SocketAddr>,
    track: Option<Arc<dyn TrackRemote>>,
    /// In the order of the offer's sections. At least one.
    cameras: Vec<Camera>,
    /// Bytes of all RTP packets that came, as they were on the wire: with SRTP's tag and the headers of UDP and IPv4.
    pub(crate) wire_bytes: u64,
    /// Where the session is.
    pub(crate) session: String,
    pub(crate) etag: String,
    /// The SDP answer.
    pub(crate) answer: String,
    /// The first camera's.
    pub(crate) streams: Streams,
}

/// What comes of one camera.
struct Camera {
    streams: Streams,
    frames: Frames,
    ready: VecDeque<Frame>,
}

/// What happens to a viewer.
pub(crate) enum Event {
    Rtp(rtp::Packet),
    Rtcp(Vec<Box<dyn rtcp::Packet>>),
    State(RTCPeerConnectionState),
    Gathered,
    Track(Arc<dyn TrackRemote>),
}

/// The default is 200 ms, for a network it knows nothing of.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How often consent is renewed: well within the shortest timeout of a test.
const KEEP_ALIVE: Duration = Duration::from_millis(250);

/// SRTP's tag (RFC 7714), UDP's header and IPv4's.
const AROUND_RTP: usize = 16 + 8 + 20;

const ABSOLUTE_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// Drives all viewers of a test.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("there is room for threads")
});

impl Client {
    /// Plays the camera at `path`, such as `/whep/front`. Panics if the server refuses.
    pub(crate) fn play(http: &Http, path: &str, codec: Codec) -> Self {
        Self::play_with(http, path, codec, &Options::default())
    }

    pub(crate) fn play_with(http: &Http, path: &str, codec: Codec, options: &Options<'_>) -> Self {
        Self::try_play(http, path, codec, options).unwrap_or_else(|reply| panic!("{path}: {reply:?}"))
    }

    /// Plays the cameras at `path`, such as `/whep/front,rear`, which send these codecs.
    pub(crate) fn play_all(http: &Http, path: &str, codecs: &[Codec]) -> Self {
        Self::try_play_all(http, path, codecs, &Options::default()).unwrap_or_else(|reply| panic!("{path}: {reply:?}"))
    }

    /// Plays the camera at `path`, unless the server refuses.
    pub(crate) fn try_play(http: &Http, path: &str, codec: Codec, options: &Options<'_>) -> Result<Self, Box<Reply>> {
        Self::try_play_all(http, path, &[codec], options)
    }

    fn try_play_all(http: &Http, path: &str, codecs: &[Codec], options: &Options<'_>) -> Result<Self, Box<Reply>> {
        let (sender, events) = mpsc::channel();
        let peer = RUNTIME.block_on(peer(sender, codecs.len(), options));
        let offer = RUNTIME.block_on(offer(&*peer, &events, None));
        let offer = options.offer.map_or(offer.clone(), |change| change(offer));
        let reply = http.call("POST", path, &[("Content-Type", "application/sdp")], &offer);
        if reply.status != 201 {
            let _ = RUNTIME.block_on(peer.close());
            return Err(Box::new(reply));
        }
        let sections: Vec<String> = reply.body.split("\r\nm=").skip(1).map(|rest| format!("m={rest}")).collect();
        let cameras = codecs.iter().zip(sections.iter().filter(|section| section.starts_with("m=video 9 ")));
        let cameras = cameras.map(|(codec, section)| {
            let streams = Streams::parse(section);
            Camera { streams, frames: Frames::new(*codec, streams), ready: VecDeque::new() }
        });
        let cameras: Vec<_> = cameras.collect();
        assert_eq!(cameras.len(), codecs.len(), "{}", reply.body);
        let client = Self {
            peer,
            events,
            http: http.clone(),
            via: options.via,
            track: None,
            streams: cameras[0].streams,
            cameras,
            wire_bytes: 0,
            session: reply.header("location").expect("a session has an address").to_owned(),
            etag: reply.header("etag").expect("a session has an entity tag").to_owned(),
            answer: reply.body.clone(),
        };
        client.accept(&reply.body);
        Ok(client)
    }

    /// The next event. Panics if none comes.
    pub(crate) fn event(&self) -> Event {
        self.event_within(BOUND).unwrap_or_else(|| panic!("waited {BOUND:?} in vain for anything to happen"))
    }

    /// The next event, if there is one within `bound`.
    pub(crate) fn event_within(&self, bound: Duration) -> Option<Event> {
        self.events.recv_timeout(bound).ok()
    }

    /// Lets pass what comes until `wanted` finds something. Frames are put together all the while.
    pub(crate) fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + BOUND;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(event) = self.event_within(left) else { panic!("waited {BOUND:?} in vain for {what}") };
            let found = wanted(&event);
            self.take(event);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Waits until ICE and DTLS are done.
    pub(crate) fn connected(&mut self) {
        self.until("the connection", |event| match event {
            Event::State(RTCPeerConnectionState::Connected) | Event::Rtp(_) => Some(()),
            Event::State(state @ (RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)) => {
                panic!("not connected but {state}")
            }
            _ => None,
        });
    }

    /// The next frame, in order and without a gap. Panics if none comes.
    pub(crate) fn frame(&mut self) -> Frame {
        self.frame_of(0)
    }

    /// The same of one of several cameras.
    pub(crate) fn frame_of(&mut self, camera: usize) -> Frame {
        self.frame_of_within(camera, BOUND).unwrap_or_else(|| {
            let held_back = self.cameras[camera].frames.held_back();
            panic!("waited {BOUND:?} in vain for a frame; {held_back} packets wait for one before them")
        })
    }

    /// The next frame, in order and without a gap, if it is complete within `bound`.
    pub(crate) fn frame_within(&mut self, bound: Duration) -> Option<Frame> {
        self.frame_of_within(0, bound)
    }

    /// The same of one of several cameras.
    pub(crate) fn frame_of_within(&mut self, camera: usize, bound: Duration) -> Option<Frame> {
        let deadline = Instant::now() + bound;
        while self.cameras[camera].ready.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.event_within(left)?;
            self.take(event);
        }
        self.cameras[camera].ready.pop_front()
    }

    /// What its packets were put together from.
    pub(crate) fn received(&self) -> &Frames {
        &self.cameras[0].frames
    }

    /// Sends feedback. Panics before the first media packet.
    pub(crate) fn send_rtcp(&mut self, packet: impl rtcp::Packet + 'static) {
        while self.track.is_none() {
            let event = self.event();
            self.take(event);
        }
        let track = self.track.clone().expect("the loop waits for it");
        RUNTIME.block_on(track.write_rtcp(vec![Box::new(packet)])).expect("the connection is up");
    }

    /// Restarts ICE by a PATCH of the session, and returns the server's reply to it.
    pub(crate) fn restart_ice(&mut self, if_match: &str) -> Reply {
        let options = RTCOfferOptions { ice_restart: true };
        let offer = RUNTIME.block_on(offer(&*self.peer, &self.events, Some(options)));
        let credentials = Answer::parse(&offer);
        let fragment = format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n",
            credentials.ufrag, credentials.password
        );
        let headers = [("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", if_match)];
        let reply = self.http.call("PATCH", &self.session, &headers, &fragment);
        if reply.status == 200 {
            let (old, fresh) = (Answer::parse(&self.answer), Answer::parse(&reply.body));
            let answer = self.answer.replace(&old.ufrag, &fresh.ufrag).replace(&old.password, &fresh.password);
            self.accept(&answer);
            self.answer = answer;
            reply.header("etag").expect("a restart gives a new entity tag").clone_into(&mut self.etag);
        }
        reply
    }

    /// Leaves as a browser does that closes its connection: DTLS says goodbye, HTTP does not.
    pub(crate) fn close(self) {
        RUNTIME.block_on(self.peer.close()).expect("closing is always possible");
    }

    /// Deletes the session over HTTP.
    pub(crate) fn delete(&self) -> Reply {
        self.http.call("DELETE", &self.session, &[], "")
    }

    fn accept(&self, answer: &str) {
        let sdp = self.via.map_or_else(|| answer.to_owned(), |relay| redirected(answer, relay));
        let answer = RTCSessionDescription::answer(sdp).expect("the server's answer can be read");
        assert_eq!(answer.sdp_type, RTCSdpType::Answer);
        RUNTIME.block_on(self.peer.set_remote_description(answer)).expect("the server's answer fits the offer");
    }

    /// As a browser does that has missed the beginning.
    fn ask_for_key_frame(&self, media_ssrc: u32) {
        let Some(track) = &self.track else { return };
        let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc };
        RUNTIME.block_on(track.write_rtcp(vec![Box::new(pli)])).expect("the connection is up");
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Rtp(packet) => {
                self.wire_bytes += (packet.marshal_size() + AROUND_RTP) as u64;
                let source = packet.header.ssrc;
                let is_its = |camera: &Camera| {
                    camera.streams.media == source || camera.streams.rtx.is_some_and(|(rtx, _)| rtx == source)
                };
                // What is nobody's fails with the first.
                let camera = self.cameras.iter().position(is_its).unwrap_or(0);
                let Camera { streams, frames, ready } = &mut self.cameras[camera];
                ready.extend(frames.push(packet));
                if !frames.begun() {
                    let media = streams.media;
                    self.ask_for_key_frame(media);
                }
            }
            Event::Track(track) => self.track = Some(track),
            Event::Rtcp(_) | Event::State(_) | Event::Gathered => {}
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let peer = Arc::clone(&self.peer);
        // Its sockets are to be gone, not only forgotten; an error means that it was closed already.
        let _ = RUNTIME.block_on(peer.close());
    }
}

async fn peer(events: mpsc::Sender<Event>, cameras: usize, options: &Options<'_>) -> Arc<dyn PeerConnection> {
    let mut media = MediaEngine::default();
    media.register_default_codecs().expect("the defaults are consistent");
    for uri in [ABSOLUTE_CAPTURE_TIME, PLAYOUT_DELAY] {
        let extension = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
        media.register_header_extension(extension, RtpCodecKind::Video, None).expect("there is room for extensions");
    }
    let registry = register_default_interceptors(Registry::new(), &mut media).expect("the defaults are consistent");
    let tap = Tap { events: events.clone(), read: VecDeque::new(), written: VecDeque::new() };
    let registry = registry.with(Slot::CongestionControl, tap);
    let mut settings = SettingEngineBuilder::new()
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(200))
        .with_ice_timeouts(None, None, Some(KEEP_ALIVE));
    if let Some(profiles) = &options.profiles {
        settings = settings.with_srtp_protection_profiles(profiles.clone());
    }
    let peer = PeerConnectionBuilder::new()
        .with_media_engine(media)
        .with_setting_engine(settings.build())
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(Handler(events)))
        .with_udp_addrs(vec![SocketAddr::new(options.at.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0).to_string()])
        .build()
        .await
        .expect("its address has free ports");
    for _ in 0..cameras {
        let receive = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        peer.add_transceiver_from_kind(RtpCodecKind::Video, Some(receive)).await.expect("it is open");
    }
    Arc::new(peer)
}

/// An offer with all candidates in it.
async fn offer(peer: &dyn PeerConnection, events: &mpsc::Receiver<Event>, options: Option<RTCOfferOptions>) -> String {
    let restarts = options.is_some();
    let offer = peer.create_offer(options).await.expect("it is open");
    peer.set_local_description(offer).await.expect("the offer is its own");
    if !restarts {
        let gathered = || matches!(events.recv_timeout(BOUND), Ok(Event::Gathered));
        tokio::task::block_in_place(|| while !gathered() {});
    }
    peer.local_description().await.expect("it was set a moment ago").sdp
}

struct Handler(mpsc::Sender<Event>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.0.send(Event::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.0.send(Event::State(state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.0.send(Event::Track(Arc::clone(&track)));
        // The packets are taken at the tap already; here they only must not pile up.
        tokio::spawn(async move { while track.poll().await.is_some() {} });
    }
}

/// Copies what comes in from the wire.
struct Tap {
    events: mpsc::Sender<Event>,
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        // Nobody listens to a viewer that has been dropped.
        let _ = match &message.message.packet {
            Packet::Rtp(packet) => self.events.send(Event::Rtp(packet.clone())),
            Packet::Rtcp(packets) => self.events.send(Event::Rtcp(packets.clone())),
            _ => Ok(()),
        };
        self.read.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.written.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.written.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
