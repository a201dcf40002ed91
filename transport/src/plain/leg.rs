use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use lenscast_media::{NtpTime, Ssrc};
use lenscast_router::{LOCAL_SOURCE, RtpPackets, TransportSlot};
use tokio::task::JoinHandle;

use super::sockets::PlainSockets;
use crate::flood_guard::FloodGuard;
use crate::srtp::{SrtpReceiver, SrtpSender};
use crate::{OpenSrtcpError, OpenSrtpError, ProtectionProfile, PublishedProducer, SocketStats};

/// A plain transport on its worker: who its peer is, its keys, and the sockets it sends by.
///
/// The peer is who was named, or whoever sent the first packet that was accepted: until then anybody may try, from then on
/// nobody else.
pub(crate) struct PlainLeg {
    pub(crate) slot: TransportSlot,
    pub(crate) flood: FloodGuard,
    pub(crate) producers: Vec<PublishedProducer>,
    sockets: PlainSockets,
    srtp: Option<(SrtpSender, SrtpReceiver)>,
    profile: Option<ProtectionProfile>,
    /// Where our feedback comes from.
    source: Ssrc,
    remote: Option<SocketAddr>,
    /// Where the peer's RTCP has come from, if that has a port of its own.
    rtcp_remote: Option<SocketAddr>,
    created: Instant,
    connected: Option<Instant>,
    /// Its streams have been announced.
    published: bool,
    silence: Option<Duration>,
    heard: Option<Instant>,
    /// When its worker looks at it for silence.
    pub(crate) deadline: Option<Instant>,
    receiving: Option<JoinHandle<()>>,
    /// The next packet's number among all of the transport's.
    next_sequence: u16,
}

/// What a plain transport begins with.
pub(crate) struct PlainSetup {
    pub(super) sockets: PlainSockets,
    pub(super) srtp: Option<(SrtpSender, SrtpReceiver)>,
    pub(super) profile: Option<ProtectionProfile>,
    /// Random. Its keys may be those of an earlier transport: of one source, both would use the same keystream (RFC 3711
    /// §9.1).
    pub(super) source: Ssrc,
    pub(super) silence: Option<Duration>,
}

/// What a packet that was accepted has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The peer is known from now on.
    pub(crate) connected: bool,
    /// Its streams exist from now on.
    pub(crate) published: bool,
}

impl PlainLeg {
    pub(crate) fn new(setup: PlainSetup, slot: TransportSlot, producers: Vec<PublishedProducer>, now: Instant) -> Self {
        let PlainSetup { sockets, srtp, profile, source, silence } = setup;
        Self {
            slot,
            flood: FloodGuard::default(),
            producers,
            sockets,
            srtp,
            profile,
            source,
            remote: None,
            rtcp_remote: None,
            created: now,
            connected: None,
            published: false,
            silence,
            heard: None,
            deadline: None,
            receiving: None,
            next_sequence: 0,
        }
    }

    /// Who reads its sockets: to be stopped with it.
    pub(crate) fn is_read_by(&mut self, receiving: JoinHandle<()>) {
        self.receiving = Some(receiving);
    }

    /// Stops reading; once what is returned has ended, the ports are free.
    pub(crate) fn end(mut self) -> Option<JoinHandle<()>> {
        self.receiving.take().inspect(JoinHandle::abort)
    }

    /// Names its peer. False if it cannot be sent to.
    pub(crate) fn connect(&mut self, now: Instant, remote: SocketAddr) -> bool {
        let is_ipv6 = self.sockets.rtp.local_addr().is_ok_and(|local| local.is_ipv6());
        let ip = match remote.ip() {
            IpAddr::V4(ip) if is_ipv6 => ip.to_ipv6_mapped().into(),
            ip => ip,
        };
        if remote.port() == 0 || ip.is_ipv6() != is_ipv6 {
            return false;
        }
        self.remote = Some(SocketAddr::new(ip, remote.port()));
        self.connected = Some(now);
        true
    }

    pub(crate) const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    pub(crate) const fn created(&self) -> Instant {
        self.created
    }

    pub(crate) const fn connected(&self) -> Option<Instant> {
        self.connected
    }

    pub(crate) const fn profile(&self) -> Option<ProtectionProfile> {
        self.profile
    }

    /// True if RTP from there may be its peer's.
    pub(crate) fn may_send_rtp(&self, from: SocketAddr) -> bool {
        self.remote.is_none_or(|remote| same(remote, from))
    }

    /// True if RTCP from there may be its peer's. Of a port of its own only the host is known until the first comes; a peer
    /// that is to send RTP is not learned from RTCP.
    pub(crate) fn may_send_rtcp(&self, from: SocketAddr) -> bool {
        match (self.remote, &self.sockets.rtcp) {
            (Some(remote), None) => same(remote, from),
            (None, None) => self.producers.is_empty(),
            (Some(remote), Some(_)) => match self.rtcp_remote {
                Some(known) => same(known, from),
                None => remote.ip().to_canonical() == from.ip().to_canonical(),
            },
            (None, Some(_)) => false,
        }
    }

    /// Decrypts in place.
    pub(crate) fn open_rtp<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], OpenSrtpError> {
        match &mut self.srtp {
            Some((_, receiver)) => receiver.open_rtp(packet),
            None => Ok(packet),
        }
    }

    /// Decrypts in place.
    pub(crate) fn open_rtcp<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], OpenSrtcpError> {
        match &mut self.srtp {
            Some((_, receiver)) => receiver.open_rtcp(packet),
            None => Ok(packet),
        }
    }

    /// RTP from there has been accepted.
    pub(crate) fn hear_rtp(&mut self, now: Instant, from: SocketAddr) -> Heard {
        self.heard = Some(now);
        let connected = self.remote.is_none();
        if connected {
            self.remote = Some(from);
            self.connected = Some(now);
        }
        Heard { connected, published: !std::mem::replace(&mut self.published, true) }
    }

    /// RTCP from there has been accepted.
    pub(crate) fn hear_rtcp(&mut self, now: Instant, from: SocketAddr) -> Heard {
        if self.sockets.rtcp.is_some() {
            self.rtcp_remote = Some(from);
        }
        let connected = self.remote.is_none();
        if connected {
            self.remote = Some(from);
            self.connected = Some(now);
        }
        if self.heard.is_some() || self.producers.is_empty() {
            self.heard = Some(now);
        }
        Heard { connected, published: false }
    }

    /// When the peer will have been silent for too long.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.heard? + self.silence?)
    }

    /// Sends to the peer, protected, once it is known.
    pub(crate) fn send_rtp(
        &mut self,
        packets: &RtpPackets<'_>,
        sent: NtpTime,
        buffer: &mut Vec<u8>,
        stats: &mut SocketStats,
    ) {
        let Some(remote) = self.remote else { return };
        for position in 0..packets.len() {
            buffer.clear();
            let layout = packets.write(position, buffer);
            layout.stamps.write(buffer, sent, self.next_sequence);
            self.next_sequence = self.next_sequence.wrapping_add(1);
            if let Some((sender, _)) = &self.srtp {
                sender.seal_rtp(buffer, 0, &layout);
            }
            send(&self.sockets.rtp, remote, buffer, stats);
        }
    }

    /// Sends to where the peer's RTCP comes from, or else to where it should (RFC 3550 §11).
    pub(crate) fn send_rtcp(&mut self, compound: &[u8], buffer: &mut Vec<u8>, stats: &mut SocketStats) {
        let Some(remote) = self.remote else { return };
        let (socket, to) = match &self.sockets.rtcp {
            None => (&self.sockets.rtp, remote),
            Some(socket) => {
                let next = remote.port().checked_add(1).map(|port| SocketAddr::new(remote.ip(), port));
                let Some(to) = self.rtcp_remote.or(next) else { return };
                (socket, to)
            }
        };
        buffer.clear();
        buffer.extend_from_slice(compound);
        speak_as(self.source, buffer);
        if let Some((sender, _)) = &mut self.srtp {
            sender.seal_rtcp(buffer);
        }
        send(socket, to, buffer, stats);
    }
}

/// An IPv4 address may come mapped into IPv6.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

/// Puts a transport's own source into what the router says for all transports as one.
fn speak_as(source: Ssrc, compound: &mut [u8]) {
    let mut rest = compound;
    while let [_, _, high, low, _, _, _, _, ..] = *rest {
        // RFC 3550 §6.4.1: in words of 32 bits, less one. Every packet begins with its sender, after its first word.
        let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        if rest[4..8] == LOCAL_SOURCE.0.to_be_bytes() {
            rest[4..8].copy_from_slice(&source.0.to_be_bytes());
        }
        if len > rest.len() {
            return;
        }
        rest = &mut rest[len..];
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, datagram: &[u8], stats: &mut SocketStats) {
    stats.send_calls += 1;
    match socket.send_to(datagram, to) {
        Ok(_) => stats.sent += 1,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => stats.send_would_block += 1,
        Err(_) => stats.send_errors += 1,
    }
}

#[cfg(test)]
mod tests {
    use lenscast_router::rtcp::{self, Compound, Packet};

    use super::*;

    #[test]
    fn only_what_the_router_says_for_all_gets_the_transports_source() {
        let (own, stream) = (Ssrc(0x1234_5678), Ssrc(7));
        let mut compound = Compound::new();
        compound.push_receiver_report(LOCAL_SOURCE);
        compound.push_pli(LOCAL_SOURCE, LOCAL_SOURCE);
        compound.push_receiver_report(stream);
        let mut bytes = compound.as_bytes().to_vec();
        speak_as(own, &mut bytes);
        let sender = |at: usize| Ssrc(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()));
        assert_eq!((sender(4), sender(12), sender(24)), (own, own, stream));
        // Whose picture is lost is none of it.
        assert!(rtcp::read(&bytes).any(|packet| packet == Ok(Packet::Pli { media: LOCAL_SOURCE })));
        // Of what is cut short nothing is read that is not there.
        for len in 0..bytes.len() {
            speak_as(own, &mut bytes[..len].to_vec());
        }
    }
}
