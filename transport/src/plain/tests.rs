//! Peers on sockets of their own, with the SRTP of the other side.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lenscast_media::{Codec, MediaCodec, RtpTime, Ssrc, WallClock};
use lenscast_router::rtcp::{self, Compound, Packet};
use lenscast_router::{PacketLayout, PayloadType, Stamps};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::*;
use crate::{
    CloseCause, DropStats, SessionEvent, SessionState, SrtpReceiver, SrtpSender, Timeouts, TransportConfig,
    TransportServer, master_keys,
};

const LIMIT: Duration = Duration::from_secs(20);
const VP8: MediaCodec = MediaCodec::Video(Codec::Vp8);

fn server(workers: usize) -> (TransportServer, mpsc::UnboundedReceiver<SessionEvent>) {
    let config = TransportConfig {
        listen: vec![any()],
        public_addresses: Vec::new(),
        workers,
        max_sessions: 3,
        timeouts: Timeouts { connect: Duration::from_secs(30), consent: Duration::from_secs(30) },
    };
    let wall = WallClock::new(Instant::now(), Duration::from_secs(1_000));
    TransportServer::start(config, wall, StdRng::seed_from_u64(1)).unwrap()
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn payload_type(number: u8) -> PayloadType {
    PayloadType::new(number).unwrap()
}

/// A peer to be learned that sends VP8 as payload type 96, RTCP on the same port.
fn sends_vp8() -> PlainTransportOptions {
    let produce = vec![PlainProducer { codec: VP8, payload_type: payload_type(96), ssrc: None }];
    PlainTransportOptions { listen: any(), remote: None, rtcp_mux: true, srtp: None, produce, silence: None }
}

/// Keys of a transport: ours begin with `number`, the peer's with `number` + 1.
fn keys(profile: ProtectionProfile, number: u8) -> SrtpParameters {
    let key = |first: u8| (0..profile.master_key_len() as u8).map(|byte| first.wrapping_add(3 * byte)).collect();
    SrtpParameters { profile, local: key(number), remote: key(number + 1) }
}

struct Peer {
    socket: UdpSocket,
    keys: Option<(SrtpSender, SrtpReceiver)>,
    ssrc: Ssrc,
    index: u64,
}

impl Peer {
    async fn new(srtp: Option<&SrtpParameters>) -> Self {
        let socket = UdpSocket::bind(any()).await.unwrap();
        let keys = srtp.map(|srtp| master_keys(srtp.profile, &srtp.remote, &srtp.local).unwrap());
        Self { socket, keys, ssrc: Ssrc(0xABCD), index: 0 }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    async fn send_packet(&mut self, to: SocketAddr, marker: bool, payload: &[u8]) {
        let mut packet = vec![0x80, 96 | u8::from(marker) << 7];
        packet.extend_from_slice(&(self.index as u16).to_be_bytes());
        packet.extend_from_slice(&(self.index as u32 / 2 * 3_000).to_be_bytes());
        packet.extend_from_slice(&self.ssrc.0.to_be_bytes());
        packet.extend_from_slice(payload);
        let layout = PacketLayout { header_len: 12, ssrc: self.ssrc, index: self.index, stamps: Stamps::default() };
        if let Some((sender, _)) = &self.keys {
            sender.seal_rtp(&mut packet, 0, &layout);
        }
        self.index += 1;
        self.socket.send_to(&packet, to).await.unwrap();
    }

    /// A key frame of two packets.
    async fn send_frame(&mut self, to: SocketAddr) {
        self.send_packet(to, false, &frame()[0]).await;
        self.send_packet(to, true, &frame()[1]).await;
    }

    async fn send_rtcp(&mut self, to: SocketAddr, compound: &Compound) {
        let mut packet = compound.as_bytes().to_vec();
        if let Some((sender, _)) = &mut self.keys {
            sender.seal_rtcp(&mut packet);
        }
        self.socket.send_to(&packet, to).await.unwrap();
    }

    /// The next datagram in the clear, and where it is from.
    async fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 2_048];
        let (len, from) = self.socket.recv_from(&mut buffer).await.unwrap();
        let packet = &mut buffer[..len];
        let clear = match &mut self.keys {
            None => packet.to_vec(),
            Some((_, receiver)) if is_rtcp(packet) => receiver.open_rtcp(packet).unwrap().to_vec(),
            Some((_, receiver)) => receiver.open_rtp(packet).unwrap().to_vec(),
        };
        (clear, from)
    }

    /// The next RTCP that `wanted` finds something in.
    async fn receive_rtcp<T>(&mut self, mut wanted: impl FnMut(&Packet<'_>) -> Option<T>) -> (T, SocketAddr) {
        loop {
            let (packet, from) = self.receive().await;
            if is_rtcp(&packet)
                && let Some(found) = rtcp::read(&packet).find_map(|packet| wanted(&packet.unwrap()))
            {
                return (found, from);
            }
        }
    }
}

fn is_rtcp(packet: &[u8]) -> bool {
    (192..=223).contains(&packet[1])
}

/// RFC 7741 §4.2 with S set, then RFC 6386 §9.1: a key frame of 64×64.
fn frame() -> [Vec<u8>; 2] {
    let first = [&[0x10, 0x10, 2, 0, 0x9D, 1, 0x2A, 64, 0, 64, 0][..], &[7; 500]].concat();
    [first, [&[0x00][..], &[8; 400]].concat()]
}

/// Sends frames again and again until `done`.
async fn while_sending<T>(peer: &mut Peer, to: SocketAddr, done: impl Future<Output = T>) -> T {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let sending = async {
        loop {
            tick.tick().await;
            peer.send_frame(to).await;
        }
    };
    tokio::select! {
        done = tokio::time::timeout(LIMIT, done) => done.expect("it comes within the limit"),
        () = sending => unreachable!("it goes on for ever"),
    }
}

async fn next_event(events: &mut mpsc::UnboundedReceiver<SessionEvent>) -> SessionState {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("an event").expect("a server").state
}

/// What has been dropped once `counted` finds that there is enough of it.
async fn dropped(server: &TransportServer, counted: impl Fn(&DropStats) -> bool) -> DropStats {
    let look = async {
        loop {
            let stats = server.stats().await;
            let dropped = stats.workers[0].dropped;
            if counted(&dropped) {
                return dropped;
            }
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("it is counted")
}

async fn published(events: &mut mpsc::UnboundedReceiver<SessionEvent>) -> Vec<PublishedProducer> {
    match next_event(events).await {
        SessionState::Published(producers) => producers,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_comes_in_goes_out_under_each_suite_and_without() {
    for workers in [1, 2] {
        let suites = ProtectionProfile::ALL.map(Some).into_iter().chain([None]);
        for srtp in suites.map(|profile| profile.map(|profile| keys(profile, 50))) {
            let (server, mut events) = server(workers);
            let created = server.create_plain_transport(PlainTransportOptions { srtp: srtp.clone(), ..sends_vp8() });
            let inward = created.await.unwrap();
            let mut sender = Peer::new(srtp.as_ref()).await;
            sender.send_frame(inward.rtp).await;
            assert_eq!(published(&mut events).await, inward.producers);
            assert_eq!(next_event(&mut events).await, SessionState::Connected);

            let mut viewer = Peer::new(srtp.as_ref()).await;
            let options = PlainTransportOptions {
                remote: Some(viewer.address()),
                produce: Vec::new(),
                srtp: srtp.clone(),
                ..sends_vp8()
            };
            let outward = server.create_plain_transport(options).await.unwrap();
            assert_eq!(next_event(&mut events).await, SessionState::Connected);
            let video = inward.producers[0].id;
            let options = PlainConsumerOptions { producer: video, payload_type: payload_type(100), ssrc: None };
            // A mirror on another worker may be on its way.
            let consumer = loop {
                match server.consume_plain(outward.id, options).await {
                    Ok(consumer) => break consumer,
                    Err(ConsumePlainError::Consume(ConsumeError::UnknownProducer(_))) => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            let receive = async {
                let (mut packets, mut reported) = (Vec::new(), false);
                while packets.len() < 4 || !reported {
                    let (packet, from) = viewer.receive().await;
                    assert_eq!(from, outward.rtp);
                    if is_rtcp(&packet) {
                        reported |= rtcp::read(&packet).any(|packet| {
                            matches!(packet.unwrap(), Packet::SenderReport(report) if report.sender == consumer.ssrc)
                        });
                    } else {
                        packets.push(packet);
                    }
                }
                packets
            };
            let packets = while_sending(&mut sender, inward.rtp, receive).await;
            for (packet, sent) in packets.iter().zip(frame().iter().cycle()) {
                assert_eq!((packet[1] & 0x7F, &packet[8..12]), (100, &consumer.ssrc.0.to_be_bytes()[..]));
                assert_eq!(packet[12..], sent[..], "{srtp:?}");
            }
            let stats = server.session_stats(outward.id).await.unwrap();
            assert_eq!((stats.remote, stats.profile), (Some(viewer.address()), srtp.map(|srtp| srtp.profile)));
            server.shutdown().await;
        }
    }
}

#[tokio::test]
async fn the_peer_is_told_what_is_missing_and_how_much_came() {
    for srtp in [None, Some(keys(ProtectionProfile::AeadAes256Gcm, 9))] {
        let (server, _events) = server(1);
        let created = server.create_plain_transport(PlainTransportOptions { srtp: srtp.clone(), ..sends_vp8() });
        let inward = created.await.unwrap();
        let mut sender = Peer::new(srtp.as_ref()).await;
        sender.send_frame(inward.rtp).await;
        // One is lost.
        sender.index = 3;
        sender.send_packet(inward.rtp, true, &frame()[1]).await;
        let asked = async {
            let wanted = |packet: &Packet<'_>| match packet {
                Packet::Nack { media, lost } => Some((*media, lost.sequences().collect::<Vec<_>>())),
                _ => None,
            };
            let (nack, _) = sender.receive_rtcp(wanted).await;
            let wanted = |packet: &Packet<'_>| match packet {
                Packet::Reports(blocks) => blocks.clone().next().map(|block| block.ssrc),
                _ => None,
            };
            (nack, sender.receive_rtcp(wanted).await.0)
        };
        let (nack, reported) = tokio::time::timeout(LIMIT, asked).await.unwrap();
        assert_eq!((nack, reported), ((sender.ssrc, vec![2]), sender.ssrc));
        server.shutdown().await;
    }
}

#[tokio::test]
async fn rtcp_on_a_port_of_its_own() {
    let (server, mut events) = server(1);
    let inward = server.create_plain_transport(PlainTransportOptions { rtcp_mux: false, ..sends_vp8() }).await.unwrap();
    let rtcp = inward.rtcp.unwrap();
    assert_eq!(rtcp.port(), inward.rtp.port() + 1);
    let (mut sender, mut control) = (Peer::new(None).await, Peer::new(None).await);
    let mut report = Compound::new();
    report.push_receiver_report(sender.ssrc);
    // Nobody is known yet whose it could be.
    control.send_rtcp(rtcp, &report).await;
    dropped(&server, |dropped| dropped.plain_stranger == 1).await;
    sender.send_frame(inward.rtp).await;
    published(&mut events).await;
    let mut said = Compound::new();
    said.push_sender_report(
        sender.ssrc,
        WallClock::new(Instant::now(), LIMIT).ntp_at(Instant::now()),
        RtpTime(0),
        2,
        2,
    );
    control.send_rtcp(rtcp, &said).await;
    let pli = |packet: &Packet<'_>| match packet {
        Packet::Pli { media } => Some(*media),
        _ => None,
    };
    // Whoever consumes makes it ask for a key frame.
    let viewer = Peer::new(None).await;
    let options = PlainTransportOptions { remote: Some(viewer.address()), produce: Vec::new(), ..sends_vp8() };
    let outward = server.create_plain_transport(options).await.unwrap();
    let consumed = PlainConsumerOptions {
        producer: inward.producers[0].id,
        payload_type: payload_type(100),
        ssrc: Some(Ssrc(77)),
    };
    assert_eq!(server.consume_plain(outward.id, consumed).await.unwrap().ssrc, Ssrc(77));
    let (media, from) = tokio::time::timeout(LIMIT, control.receive_rtcp(pli)).await.unwrap();
    assert_eq!((media, from), (sender.ssrc, rtcp));
    let again = server.consume_plain(outward.id, consumed).await;
    assert!(matches!(again, Err(ConsumePlainError::Consume(ConsumeError::DuplicateSsrc { .. }))));
    server.shutdown().await;
}

#[tokio::test]
async fn nobody_is_learned_who_is_not_authentic_and_nobody_else_afterwards() {
    let (server, mut events) = server(1);
    let right = keys(ProtectionProfile::Aes128CmHmacSha1_80, 1);
    let created = server.create_plain_transport(PlainTransportOptions { srtp: Some(right.clone()), ..sends_vp8() });
    let inward = created.await.unwrap();
    let mut wrong = Peer::new(Some(&keys(ProtectionProfile::Aes128CmHmacSha1_80, 2))).await;
    wrong.send_frame(inward.rtp).await;
    dropped(&server, |dropped| dropped.srtp_refused == 2).await;
    assert!(events.try_recv().is_err());
    let mut sender = Peer::new(Some(&right)).await;
    sender.send_frame(inward.rtp).await;
    published(&mut events).await;
    let stats = server.session_stats(inward.id).await.unwrap();
    assert_eq!(stats.remote, Some(sender.address()));

    let mut elsewhere = Peer::new(Some(&right)).await;
    elsewhere.index = 2;
    elsewhere.send_frame(inward.rtp).await;
    let mut report = Compound::new();
    report.push_receiver_report(elsewhere.ssrc);
    elsewhere.send_rtcp(inward.rtp, &report).await;
    dropped(&server, |dropped| dropped.plain_stranger == 3).await;
    // The same again from the right one is a replay.
    sender.index = 0;
    sender.send_frame(inward.rtp).await;
    let counted = dropped(&server, |dropped| dropped.srtp_replayed == 2).await;
    assert_eq!((counted.srtp_refused, counted.rtp_refused), (2, 0));
    server.shutdown().await;
}

#[tokio::test]
async fn what_is_no_packet_of_its_streams_is_counted() {
    let (server, mut events) = server(1);
    let inward = server.create_plain_transport(sends_vp8()).await.unwrap();
    let mut sender = Peer::new(None).await;
    for datagram in [&b""[..], b"\x00\x01", b"hello", &[0x80, 96], &[0x80, 97, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]] {
        sender.socket.send_to(datagram, inward.rtp).await.unwrap();
    }
    sender.send_packet(inward.rtp, false, &[0x10; 1_500]).await;
    sender.send_packet(inward.rtp, false, &[0x10; 8_000]).await;
    // RTCP before RTP tells nothing of whose it is.
    let mut report = Compound::new();
    report.push_receiver_report(sender.ssrc);
    sender.send_rtcp(inward.rtp, &report).await;
    let counted = dropped(&server, |dropped| dropped.plain_stranger == 1).await;
    assert_eq!((counted.unknown_protocol, counted.rtp_malformed, counted.rtp_unknown_source), (3, 1, 1));
    assert_eq!(counted.rtp_too_long, 2);
    assert!(events.try_recv().is_err());
    sender.send_frame(inward.rtp).await;
    published(&mut events).await;
    sender.socket.send_to(&[0x80, 200, 0, 9, 0, 0, 0, 1], inward.rtp).await.unwrap();
    sender.socket.send_to(&[[0x80, 201].as_slice(), &[0; 1_600]].concat(), inward.rtp).await.unwrap();
    let counted = dropped(&server, |dropped| dropped.rtcp_too_long == 1).await;
    assert_eq!(counted.rtcp_malformed, 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_ends_its_transport_and_the_port_is_free_again() {
    let (server, mut events) = server(1);
    let silence = Some(Duration::from_millis(50));
    let inward = server.create_plain_transport(PlainTransportOptions { silence, ..sends_vp8() }).await.unwrap();
    let mut sender = Peer::new(None).await;
    sender.send_frame(inward.rtp).await;
    published(&mut events).await;
    assert_eq!(next_event(&mut events).await, SessionState::Connected);
    assert_eq!(next_event(&mut events).await, SessionState::Closed(CloseCause::ConsentExpired));
    assert!(!server.has_session(inward.id) && !server.close_session(inward.id).await);
    for _ in 0..20 {
        let options = PlainTransportOptions { listen: inward.rtp, ..sends_vp8() };
        let again = server.create_plain_transport(options).await.unwrap();
        assert_eq!(again.rtp, inward.rtp);
        assert!(server.close_session(again.id).await);
    }
    assert_eq!(next_event(&mut events).await, SessionState::Closed(CloseCause::Requested));
    assert_eq!(server.session_count(), 0);
    server.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let (server, mut events) = server(1);
    let taken = UdpSocket::bind(any()).await.unwrap().into_std().unwrap();
    let listen = taken.local_addr().unwrap();
    let refused = server.create_plain_transport(PlainTransportOptions { listen, ..sends_vp8() }).await.unwrap_err();
    assert!(refused.to_string().starts_with(&format!("cannot listen on UDP {listen}: Address already in use")));
    let mut short = keys(ProtectionProfile::AeadAes128Gcm, 1);
    short.remote.pop();
    let refused = server.create_plain_transport(PlainTransportOptions { srtp: Some(short), ..sends_vp8() }).await;
    assert!(matches!(refused, Err(CreatePlainTransportError::Keys(_))));
    let mut options = sends_vp8();
    options.produce.push(options.produce[0]);
    let refused = server.create_plain_transport(options).await;
    assert!(matches!(refused, Err(CreatePlainTransportError::PayloadType(_))));
    let mut options = sends_vp8();
    options.produce.push(PlainProducer { codec: MediaCodec::Opus, payload_type: payload_type(97), ssrc: None });
    options.produce.iter_mut().for_each(|stream| stream.ssrc = Some(Ssrc(1)));
    let refused = server.create_plain_transport(options).await;
    assert!(matches!(refused, Err(CreatePlainTransportError::Produce(_))));
    for remote in ["127.0.0.1:0", "[::1]:9"] {
        let remote = Some(remote.parse().unwrap());
        let refused = server.create_plain_transport(PlainTransportOptions { remote, ..sends_vp8() }).await;
        assert!(matches!(refused, Err(CreatePlainTransportError::Remote(_))));
    }
    assert_eq!(server.session_count(), 0);

    let first = server.create_plain_transport(sends_vp8()).await.unwrap();
    let there: SocketAddr = "127.0.0.1:9".parse().unwrap();
    server.connect_plain_transport(first.id, there).await.unwrap();
    assert_eq!(next_event(&mut events).await, SessionState::Connected);
    let twice = server.connect_plain_transport(first.id, there).await;
    assert_eq!(twice, Err(ConnectPlainTransportError::Connected(first.id, there)));
    for _ in 0..2 {
        server.create_plain_transport(sends_vp8()).await.unwrap();
    }
    assert!(matches!(server.create_plain_transport(sends_vp8()).await, Err(CreatePlainTransportError::Full(3))));
    let nobody = TransportId(1 << 40);
    let unknown = server.connect_plain_transport(nobody, there).await;
    assert_eq!(unknown, Err(ConnectPlainTransportError::Unknown(nobody)));
    server.shutdown().await;
    let stopping = server.create_plain_transport(sends_vp8()).await;
    assert!(matches!(stopping, Err(CreatePlainTransportError::Stopping)));
}
