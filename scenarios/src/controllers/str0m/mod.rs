//! str0m on trial: two of its peers as they are, one sending a video to the other through the simulated network.
//!
//! str0m's estimator cannot be had alone: it, its prober and its pacer are private to `Rtc`, and it pads on its own. So
//! whole peers stand on trial, with all that belongs to them: pacer, probing, padding, NACK and RTX, transport-wide
//! feedback every 50 ms. What is given to them is what the crate's `docs/BWE.md` asks for: `enable_bwe` with the start
//! rate, and `set_bitrate` with what the source would like to send.
//! The estimate counts payloads only, without any headers (`payload_size` in `src/session.rs`), and so the source is to
//! take it as it is.
//!
//! Its best configuration, by trial: the estimate is read from `PeerStats` each 20 ms and not from
//! `EgressBitrateEstimate`. That event is an average over 3 s of changes (`src/bwe/smoother.rs`), which the pacer does not
//! wait for; by it a steady 3 Mb/s is full with 23 % of media late, where the estimate itself has 0.6 % late, and the
//! queue of a link that fell to a fifth takes 7.6 s to drain and not 2.9 s.
//!
//! **Invariant**: the same calls with the same seed give the same packets in size, order and time. What is random in
//! str0m comes from `fastrand`'s generator of the thread, which is seeded here; cryptography is none ([`plain`]). Its
//! receiver goes through its streams in the order of a hash map, which is another in each process, and asks for missing
//! packets in that order: so all videos of a sender share one stream, and are told apart by who wrote which packet. The time of day comes into the contents of sender reports, but into no
//! size.
//!
//! ICE and DTLS are over before the clock of a case begins: the peers connect over a wire of their own and live on a
//! clock that is ahead by what that took. Media is declared after that, so that probing begins with the case.
//! Not here: simulcast, marks (str0m reads none), pausing other than by not writing.

mod plain;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ::str0m::format::{Codec, PayloadParams};
use ::str0m::media::{MediaKind, Mid, Pt};
use ::str0m::net::{Protocol, Receive};
use ::str0m::rtp::{RtpWrite, Ssrc};
use ::str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};
use lenscast_congestion::{EstimateBounds, PacketKind};
use lenscast_media::Bitrate;

/// IPv4 and UDP.
const DATAGRAM_OVERHEAD: u32 = 28;
const AUDIO: u32 = 1;
/// All videos.
const VIDEO: u32 = 2;
/// What is sent of them again.
const REPAIR: u32 = 3;
/// The source of padding that belongs to no stream (str0m, `docs/BWE.md`, "Probe Padding Sources").
const PROBE: u32 = 0;
/// The clocks of video and Opus in RTP.
const VIDEO_CLOCK: u128 = 90_000;
const AUDIO_CLOCK: u128 = 48_000;
/// How often the estimate is read.
const GLANCE: Duration = Duration::from_millis(20);
/// A peer that wants to be called again at once, over and over, would hold up the simulation.
const MAX_CALLS_AT_ONCE: usize = 1_000;

/// A part of a video, as it is known at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MediaPart {
    /// Which video.
    pub(crate) track: u8,
    /// The how manieth packet of it, from 0.
    pub(crate) number: u64,
    /// Bytes of the video in it.
    pub(crate) payload: u32,
}

/// What one peer sends to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// Bytes on the wire, IP and UDP headers counted.
    pub(crate) size: u32,
    /// What it is for; `None` if it is about the session: feedback, reports, ICE.
    pub(crate) kind: Option<PacketKind>,
    /// Which part of a video it brings: for the first time, or once more.
    pub(crate) media: Option<MediaPart>,
    contents: Box<[u8]>,
}

/// Two peers that have just connected, the first of which is to send so many videos, and audio or not.
pub(crate) fn connect(
    now: Instant,
    seed: u64,
    bounds: EstimateBounds,
    videos: u8,
    audio: bool,
) -> (SendingPeer, ReceivingPeer) {
    fastrand::seed(seed);
    let mut sender = Peer::new(now, [10, 0, 0, 1], Some(bounds.start));
    let mut receiver = Peer::new(now, [10, 0, 0, 2], None);
    let lead = meet(&mut sender, &mut receiver, now) - now;

    let payload_type = |codec| {
        let of_codec = sender.rtc.codec_config().find(|params| params.spec().codec == codec);
        of_codec.map(PayloadParams::pt).expect("VP8 and Opus are on by default")
    };
    let (video_type, audio_type) = (payload_type(Codec::Vp8), payload_type(Codec::Opus));
    declare(&mut sender, &mut receiver, MediaKind::Video, VIDEO, Some(REPAIR));
    if audio {
        declare(&mut sender, &mut receiver, MediaKind::Audio, AUDIO, None);
    }
    receiver.rtc.direct_api().enable_twcc_feedback();
    for peer in [&mut sender, &mut receiver] {
        peer.lead = lead;
        peer.run(now + lead);
    }
    let sender = SendingPeer {
        peer: sender,
        video_type,
        audio_type,
        bounds,
        started_at: now,
        videos: vec![0; usize::from(videos)],
        written: Vec::new(),
        audio_written: 0,
    };
    (sender, ReceivingPeer { peer: receiver })
}

/// The peer that sends.
pub(crate) struct SendingPeer {
    peer: Peer,
    video_type: Pt,
    audio_type: Pt,
    bounds: EstimateBounds,
    started_at: Instant,
    /// Packets of each video.
    videos: Vec<u64>,
    /// Which video's packets those of the stream are, and their numbers there. It grows with the run.
    written: Vec<(u8, u64)>,
    audio_written: u64,
}

impl SendingPeer {
    /// What may be sent, headers not counted.
    pub(crate) fn target(&self) -> Bitrate {
        let estimate = self.peer.estimate.unwrap_or(self.bounds.start);
        estimate.max(self.bounds.min).min(self.bounds.max)
    }

    /// A datagram of the receiver's has come.
    pub(crate) fn handle_datagram(&mut self, now: Instant, datagram: &Datagram) {
        self.peer.receive(now, datagram);
    }

    /// Time has come to [`poll_timeout`](Self::poll_timeout).
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
    }

    /// How much there would be to send if the path carried everything.
    pub(crate) fn set_wanted(&mut self, now: Instant, wanted: Bitrate) {
        self.peer.rtc.bwe().set_bitrate(rate(Bitrate::ZERO), rate(wanted));
        self.peer.run(now + self.peer.lead);
    }

    /// The next packet of a video, to be sent as soon as str0m's pacer lets it go. Returns its number.
    pub(crate) fn push_video(&mut self, now: Instant, track: u8, payload: u32, ends_frame: bool) -> u64 {
        let number = self.videos[usize::from(track)];
        self.videos[usize::from(track)] += 1;
        let packet = self.packet(now, self.video_type, self.written.len() as u64, VIDEO_CLOCK, payload);
        self.written.push((track, number));
        self.write(now, VIDEO, packet.nackable(true).marker(ends_frame));
        number
    }

    /// A packet of audio.
    pub(crate) fn push_audio(&mut self, now: Instant, payload: u32) {
        let packet = self.packet(now, self.audio_type, self.audio_written, AUDIO_CLOCK, payload);
        self.audio_written += 1;
        self.write(now, AUDIO, packet);
    }

    /// What is sent now.
    pub(crate) fn poll_datagram(&mut self) -> Option<Datagram> {
        let mut datagram = self.peer.outgoing.pop_front()?;
        datagram.media = datagram.media.and_then(|part| {
            let (track, number) = *self.written.get(part.number as usize)?;
            Some(MediaPart { track, number, ..part })
        });
        Some(datagram)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.peer.due - self.peer.lead
    }

    /// Sequence numbers begin with 0, so that the receiver finds the rollover counter by itself.
    fn packet(&self, now: Instant, payload_type: Pt, number: u64, clock: u128, payload: u32) -> RtpWrite {
        let timestamp = (now - self.started_at).as_nanos() * clock / 1_000_000_000;
        let contents = vec![0; payload as usize];
        RtpWrite::new(payload_type, number.into(), timestamp as u32, now + self.peer.lead, contents)
    }

    fn write(&mut self, now: Instant, ssrc: u32, packet: RtpWrite) {
        let mut api = self.peer.rtc.direct_api();
        api.stream_tx(&Ssrc::from(ssrc)).expect("declared when the peers connected").write_rtp(packet);
        self.peer.run(now + self.peer.lead);
    }
}

/// The peer that receives, and asks for what is missing.
pub(crate) struct ReceivingPeer {
    peer: Peer,
}

impl ReceivingPeer {
    /// A datagram of the sender's has come.
    pub(crate) fn handle_datagram(&mut self, now: Instant, datagram: &Datagram) {
        self.peer.receive(now, datagram);
    }

    /// Time has come to [`poll_timeout`](Self::poll_timeout).
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
    }

    /// What is sent now.
    pub(crate) fn poll_datagram(&mut self) -> Option<Datagram> {
        self.peer.outgoing.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.peer.due - self.peer.lead
    }
}

/// A stream from one peer to the other.
fn declare(sender: &mut Peer, receiver: &mut Peer, kind: MediaKind, ssrc: u32, repair: Option<u32>) {
    let mid = Mid::from(ssrc.to_string().as_str());
    let (ssrc, repair) = (Ssrc::from(ssrc), repair.map(Ssrc::from));
    let mut api = sender.rtc.direct_api();
    api.declare_media(mid, kind);
    api.declare_stream_tx(ssrc, repair, mid, None);
    let mut api = receiver.rtc.direct_api();
    api.declare_media(mid, kind);
    api.expect_stream_rx(ssrc, repair, mid, None);
}

fn rate(bitrate: Bitrate) -> ::str0m::bwe::Bitrate {
    ::str0m::bwe::Bitrate::from(bitrate.as_bps())
}

/// Lets the peers find each other over a wire without delay. Returns when they had.
fn meet(sender: &mut Peer, receiver: &mut Peer, now: Instant) -> Instant {
    introduce(sender, receiver);
    introduce(receiver, sender);
    for (peer, active) in [(&mut *sender, true), (&mut *receiver, false)] {
        let mut api = peer.rtc.direct_api();
        api.set_ice_controlling(active);
        api.start_dtls(active).expect("DTLS without cryptography starts");
    }
    let mut now = now;
    sender.run(now);
    receiver.run(now);
    for _ in 0..MAX_CALLS_AT_ONCE {
        while let Some(datagram) = sender.outgoing.pop_front() {
            receiver.receive(now, &datagram);
        }
        while let Some(datagram) = receiver.outgoing.pop_front() {
            sender.receive(now, &datagram);
        }
        if !sender.outgoing.is_empty() {
            continue;
        }
        if sender.rtc.is_connected() && receiver.rtc.is_connected() {
            return now;
        }
        now = now.max(sender.due.min(receiver.due));
        sender.run(now);
        receiver.run(now);
    }
    unreachable!("two peers on a perfect wire connect")
}

/// Tells a peer of the other what signalling would.
fn introduce(peer: &mut Peer, other: &mut Peer) {
    let candidate = Candidate::host(other.address, Protocol::Udp).expect("a private address makes a candidate");
    peer.rtc.add_remote_candidate(candidate);
    let theirs = other.rtc.direct_api();
    let (fingerprint, credentials) = (theirs.local_dtls_fingerprint().clone(), theirs.local_ice_credentials());
    peer.other = other.address;
    let mut api = peer.rtc.direct_api();
    api.set_remote_fingerprint(fingerprint);
    api.set_remote_ice_credentials(credentials);
}

/// One end: a peer and what it has to say.
struct Peer {
    rtc: Rtc,
    address: SocketAddr,
    /// The other's.
    other: SocketAddr,
    /// Its clock is ahead of the caller's by so much.
    lead: Duration,
    /// By its own clock.
    due: Instant,
    outgoing: VecDeque<Datagram>,
    estimate: Option<Bitrate>,
    /// The index of the newest packet of the video stream that left.
    newest: u64,
}

impl Peer {
    fn new(now: Instant, address: [u8; 4], start: Option<Bitrate>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::from(address), 10_000));
        let mut rtc = Rtc::builder()
            .set_crypto_provider(plain::provider())
            .set_local_ice_credentials(IceCreds::new())
            .set_rtp_mode(true)
            .enable_bwe(start.map(rate))
            .set_stats_interval(start.map(|_| GLANCE))
            .build(now);
        let candidate = Candidate::host(address, Protocol::Udp).expect("a private address makes a candidate");
        rtc.add_local_candidate(candidate);
        Self {
            rtc,
            address,
            other: address,
            lead: Duration::ZERO,
            due: now,
            outgoing: VecDeque::new(),
            estimate: None,
            newest: 0,
        }
    }

    fn receive(&mut self, now: Instant, datagram: &Datagram) {
        let now = now + self.lead;
        let Ok(receive) = Receive::new(Protocol::Udp, self.other, self.address, &datagram.contents) else {
            return;
        };
        // What it refuses it has not got: that is its affair, as on a real path.
        let _ = self.rtc.handle_input(Input::Receive(now, receive));
        self.run(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = now + self.lead;
        if self.due <= now {
            self.run(now);
        }
    }

    /// Lets the peer do all that is due, and takes what comes of it.
    fn run(&mut self, now: Instant) {
        for _ in 0..MAX_CALLS_AT_ONCE {
            if self.rtc.handle_input(Input::Timeout(now)).is_err() {
                break;
            }
            self.due = self.drain(now);
            if self.due > now {
                return;
            }
        }
        // Not to be called again at the same time for ever.
        self.due = now + Duration::from_millis(1);
    }

    fn drain(&mut self, now: Instant) -> Instant {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(due)) => return due,
                Ok(Output::Transmit(transmit)) => {
                    let datagram = self.read(&transmit.contents);
                    self.outgoing.push_back(datagram);
                }
                Ok(Output::Event(Event::PeerStats(stats))) => {
                    let estimate = stats.bwe_tx.map(|estimate| Bitrate::from_bps(estimate.as_u64()));
                    self.estimate = estimate.or(self.estimate);
                }
                Ok(Output::Event(_)) => {}
                Err(_) => return now + Duration::from_millis(1),
            }
        }
    }

    /// Looks at a datagram of this peer's: it is in the clear.
    fn read(&mut self, contents: &[u8]) -> Datagram {
        let (kind, media) = match RtpHeader::parse(contents) {
            None => (None, None),
            Some(RtpHeader { ssrc: PROBE, .. } | RtpHeader { padding: true, .. }) => (Some(PacketKind::Padding), None),
            Some(RtpHeader { ssrc: AUDIO, .. }) => (Some(PacketKind::Audio), None),
            Some(header) => self.read_video(&header, &contents[header.length..]),
        };
        Datagram { size: contents.len() as u32 + DATAGRAM_OVERHEAD, kind, media, contents: contents.into() }
    }

    /// A packet of the videos, by its index in their stream as yet.
    fn read_video(&mut self, header: &RtpHeader, body: &[u8]) -> (Option<PacketKind>, Option<MediaPart>) {
        let payload = body.len().saturating_sub(plain::TAG_LENGTH);
        let part = |number, payload| MediaPart { track: 0, number, payload };
        if header.ssrc == VIDEO {
            let index = self.unwrap(header.sequence);
            self.newest = self.newest.max(index);
            return (Some(PacketKind::Video), Some(part(index, payload as u32)));
        }
        // RFC 4588, section 4: the original's number comes first.
        let original = body.first_chunk::<2>().map(|original| self.unwrap(u16::from_be_bytes(*original)));
        let payload = payload.saturating_sub(2) as u32;
        (Some(PacketKind::Retransmission), original.map(|index| part(index, payload)))
    }

    /// The index that is nearest to the newest.
    fn unwrap(&self, sequence: u16) -> u64 {
        let step = sequence.wrapping_sub(self.newest as u16) as i16;
        self.newest.saturating_add_signed(step.into())
    }
}

/// As much of an RTP header (RFC 3550, section 5.1) as is needed to tell packets apart.
struct RtpHeader {
    ssrc: u32,
    sequence: u16,
    padding: bool,
    length: usize,
}

impl RtpHeader {
    /// `None` if it is something else, such as RTCP or STUN (RFC 7983, RFC 5761).
    fn parse(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<12>()?;
        if head[0] >> 6 != 2 || (192..=223).contains(&head[1]) {
            return None;
        }
        let mut length = 12 + 4 * usize::from(head[0] & 0xf);
        if head[0] & 0x10 != 0 {
            let extension = bytes.get(length..)?.first_chunk::<4>()?;
            length += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        (length <= bytes.len()).then_some(Self {
            ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
            sequence: u16::from_be_bytes([head[2], head[3]]),
            padding: head[0] & 0x20 != 0,
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has left and when it comes, over a path of so much capacity with 50 ms either way and a queue of 300 ms.
    struct Path {
        start: Instant,
        capacity: fn(Duration) -> u64,
        lose_every: u64,
        free_at: Instant,
        forward: VecDeque<(Instant, Datagram)>,
        back: VecDeque<(Instant, Datagram)>,
        offered: u64,
        log: Vec<(Duration, u32, Option<PacketKind>)>,
    }

    impl Path {
        fn take(&mut self, now: Instant, sender: &mut SendingPeer, receiver: &mut ReceivingPeer) {
            while let Some(datagram) = sender.poll_datagram() {
                self.log.push((now - self.start, datagram.size, datagram.kind));
                self.offered += 1;
                let begins = self.free_at.max(now);
                let is_lost = self.lose_every > 0 && self.offered.is_multiple_of(self.lose_every);
                if begins - now > Duration::from_millis(300) || is_lost {
                    continue;
                }
                let bits = u64::from(datagram.size) * 8;
                let nanos = bits * 1_000_000_000 / (self.capacity)(now - self.start);
                self.free_at = begins + Duration::from_nanos(nanos);
                self.forward.push_back((self.free_at + DELAY, datagram));
            }
            while let Some(datagram) = receiver.poll_datagram() {
                self.log.push((now - self.start, datagram.size, None));
                self.back.push_back((now + DELAY, datagram));
            }
        }
    }

    const DELAY: Duration = Duration::from_millis(50);
    const FRAME: Duration = Duration::from_millis(33);

    struct Run {
        log: Vec<(Duration, u32, Option<PacketKind>)>,
        targets: Vec<Bitrate>,
        arrived: std::collections::BTreeSet<u64>,
        written: u64,
    }

    /// A video whose frames are as large as the target allows, at most 4 Mb/s.
    fn run(seed: u64, length: Duration, lose_every: u64, capacity: fn(Duration) -> u64) -> Run {
        // Any time will do: only differences count.
        #[expect(clippy::disallowed_methods, reason = "a test is a driver")]
        let start = Instant::now();
        let bounds = EstimateBounds {
            min: Bitrate::from_bps(30_000),
            start: Bitrate::from_bps(300_000),
            max: Bitrate::from_bps(20_000_000),
        };
        let wanted = Bitrate::from_bps(4_000_000);
        let (mut sender, mut receiver) = connect(start, seed, bounds, 1, true);
        sender.set_wanted(start, wanted);
        let mut path = Path {
            start,
            capacity,
            lose_every,
            free_at: start,
            forward: VecDeque::new(),
            back: VecDeque::new(),
            offered: 0,
            log: Vec::new(),
        };
        let mut run = Run { log: Vec::new(), targets: Vec::new(), arrived: Default::default(), written: 0 };
        let mut next_frame = start;
        let mut now = start;
        while now < start + length {
            path.take(now, &mut sender, &mut receiver);
            let forward = path.forward.front().map_or(next_frame, |(at, _)| *at);
            let back = path.back.front().map_or(next_frame, |(at, _)| *at);
            now = next_frame.min(forward).min(back).min(sender.poll_timeout()).min(receiver.poll_timeout()).max(now);
            while path.forward.front().is_some_and(|(at, _)| *at <= now) {
                let (_, datagram) = path.forward.pop_front().unwrap();
                run.arrived.extend(datagram.media.map(|part| part.number));
                receiver.handle_datagram(now, &datagram);
            }
            while path.back.front().is_some_and(|(at, _)| *at <= now) {
                let (_, datagram) = path.back.pop_front().unwrap();
                sender.handle_datagram(now, &datagram);
            }
            sender.handle_timeout(now);
            receiver.handle_timeout(now);
            if now >= next_frame {
                next_frame += FRAME;
                sender.push_audio(now, 80);
                let mut bytes = sender.target().min(wanted).as_bps() * 33 / 8 / 1000;
                while bytes > 0 {
                    let payload = bytes.min(1100);
                    bytes -= payload;
                    sender.push_video(now, 0, payload as u32, bytes == 0);
                    run.written += 1;
                }
                run.targets.push(sender.target());
            }
        }
        run.log = path.log;
        run
    }

    fn mean(targets: &[Bitrate]) -> u64 {
        targets.iter().map(|target| target.as_bps()).sum::<u64>() / targets.len() as u64
    }

    #[test]
    fn media_comes_and_the_estimate_follows_the_capacity() {
        let run = run(1, Duration::from_secs(30), 0, |at| if at.as_secs() < 20 { 3_000_000 } else { 600_000 });
        let frames = |from: usize, to: usize| &run.targets[from * 30..to * 30];
        let steady = mean(frames(10, 20));
        assert!((2_000_000..3_200_000).contains(&steady), "{steady} b/s on 3 Mb/s");
        let fallen = mean(frames(25, 30));
        assert!((100_000..700_000).contains(&fallen), "{fallen} b/s on 600 kb/s");
    }

    #[test]
    fn it_begins_to_probe_when_the_case_begins() {
        let run = run(1, Duration::from_secs(2), 0, |_| 3_000_000);
        let is_padding =
            |kind: &Option<PacketKind>| matches!(kind, Some(PacketKind::Padding | PacketKind::Retransmission));
        let first = run.log.iter().find(|(.., kind)| is_padding(kind)).expect("probes are padded");
        assert!(first.0 < Duration::from_millis(500), "first padding after {:?}", first.0);
        assert!(run.log.iter().any(|(.., kind)| *kind == Some(PacketKind::Video)));
    }

    #[test]
    fn what_is_lost_is_sent_again() {
        let run = run(1, Duration::from_secs(10), 20, |_| 3_000_000);
        let first_seconds = run.written * 8 / 10;
        let missing = (0..first_seconds).filter(|index| !run.arrived.contains(index)).count();
        assert!((missing as u64) < first_seconds / 100, "{missing} of {first_seconds} packets never came");
    }

    #[test]
    fn the_same_seed_gives_the_same_packets() {
        let once = run(7, Duration::from_secs(20), 10, |_| 1_000_000);
        let again = run(7, Duration::from_secs(20), 10, |_| 1_000_000);
        assert!(once.log == again.log, "packets differ in size or time");
        assert_eq!(once.targets, again.targets);
    }
}
