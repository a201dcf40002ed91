//! The UDP sockets of one worker: bursts leave in as few system calls as the kernel allows.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::outbox::Message;
use crate::send_batch::{self, Datagrams, MAX_MESSAGES};
use crate::{Path, SocketStats};

/// The sockets that share a worker's port: one per address it listens on.
pub(crate) struct Sockets {
    sockets: Vec<BoundSocket>,
    stats: SocketStats,
    /// False from the first wait in vain for room in a send buffer to the end of the worker's turn.
    may_wait: bool,
}

struct BoundSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
}

/// A key frame for a thousand viewers is a megabyte and more. The kernel caps this at `net.core.wmem_max`.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The longest a burst waits for room in the send buffer. Everything behind it waits too, so it is short, and after a
/// wait in vain the rest of the worker's turn does not wait: what cannot be sent is dropped, counted, and asked for again
/// by its viewer.
const MAX_SEND_WAIT: Duration = Duration::from_millis(5);

/// What one GSO call takes at most: the payload of the largest IPv4 datagram, and the kernel's `UDP_MAX_SEGMENTS` of old.
const MAX_GSO_BYTES: usize = 65_507;
const MAX_GSO_SEGMENTS: usize = 64;

const NOWHERE: Path = Path { remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), local: None };

impl Sockets {
    /// Binds `addresses`; `shared` lets other workers' sockets bind the same ones.
    pub(crate) fn bind(
        addresses: &[SocketAddr],
        shared: bool,
    ) -> Result<Vec<std::net::UdpSocket>, (SocketAddr, io::Error)> {
        let mut sockets: Vec<std::net::UdpSocket> = Vec::new();
        for &address in addresses {
            // With port 0 the first socket picks one, and the others follow it.
            let port = sockets.first().and_then(|socket| socket.local_addr().ok()).map(|bound| bound.port());
            let address = match port {
                Some(port) if address.port() == 0 => SocketAddr::new(address.ip(), port),
                _ => address,
            };
            sockets.push(bind(address, shared).map_err(|error| (address, error))?);
        }
        Ok(sockets)
    }

    /// Takes bound sockets into the running runtime.
    pub(crate) fn new(sockets: Vec<std::net::UdpSocket>) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(|socket| {
            let state = UdpSocketState::new((&socket).into())?;
            Ok(BoundSocket { address: socket.local_addr()?, state, socket: UdpSocket::from_std(socket)? })
        });
        Ok(Self { sockets: sockets.collect::<io::Result<_>>()?, stats: SocketStats::default(), may_wait: true })
    }

    pub(crate) fn stats(&self) -> SocketStats {
        let max_segments = self.sockets.iter().map(|bound| bound.state.max_gso_segments() as u64).min().unwrap_or(1);
        SocketStats { max_segments, ..self.stats }
    }

    /// A turn of the worker begins.
    pub(crate) fn begin_turn(&mut self) {
        self.may_wait = true;
    }

    /// Waits until one of the sockets has something, and says which.
    pub(crate) async fn readable(&self) -> usize {
        std::future::poll_fn(|context| {
            for (index, bound) in self.sockets.iter().enumerate() {
                if bound.socket.poll_recv_ready(context).is_ready() {
                    return std::task::Poll::Ready(index);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Receives what is there, in one system call, and hands each datagram to `handle`. False once there is no more.
    pub(crate) fn receive(
        &mut self,
        index: usize,
        buffers: &mut ReceiveBuffers,
        mut handle: impl FnMut(&mut Self, Path, &mut [u8]),
    ) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let bound = &self.sockets[index];
        let received = bound.socket.try_io(Interest::READABLE, || {
            let mut slices = buffers.slices();
            bound.state.recv((&bound.socket).into(), &mut slices, &mut metas)
        });
        let messages = match received {
            Ok(messages) => messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // ICMP errors of earlier sends surface here; they say nothing about this receive.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in metas[..messages].iter().zip(&mut buffers.buffers) {
            let path = Path { remote: meta.addr, local: meta.dst_ip.filter(can_be_source) };
            if meta.len == 0 {
                self.stats.received += 1;
                handle(self, path, &mut []);
            }
            // An empty datagram has a stride of 0, too.
            for datagram in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
                self.stats.received += 1;
                handle(self, path, datagram);
            }
        }
        Ok(true)
    }

    /// Sends one datagram.
    pub(crate) fn send(&mut self, path: Path, datagram: &[u8]) {
        self.send_run(path, datagram, datagram.len(), 1);
    }

    /// Sends the packets that stand one behind the other in `buffer`, packet *i* ending at `ends[i]`.
    pub(crate) fn send_packets(&mut self, path: Path, buffer: &[u8], ends: &[usize]) {
        let Some(index) = self.socket_for(path) else {
            self.stats.send_errors += ends.len() as u64;
            return;
        };
        let max_segments = self.sockets[index].state.max_gso_segments();
        for run in runs(0, ends, max_segments.min(MAX_GSO_SEGMENTS)) {
            self.send_run(path, &buffer[run.bytes], run.segment, run.packets);
        }
    }

    /// Sends many viewers' packets in as few calls as they fit into, in order. All stand one behind the other in `buffer`,
    /// packet *i* ending at `ends[i]`.
    pub(crate) fn send_batch(&mut self, buffer: &[u8], ends: &[usize], messages: &[Message]) {
        let nothing = Datagrams { path: NOWHERE, contents: &[], segment: None };
        let (mut batch, mut waiting, mut from) = ([nothing; MAX_MESSAGES], 0, 0);
        for Message { path, packets } in messages {
            let Some(index) = self.socket_for(*path) else {
                self.stats.send_errors += packets.len() as u64;
                continue;
            };
            if index != from {
                self.send_all(from, &batch[..waiting]);
                (from, waiting) = (index, 0);
            }
            // Bound to one address, a socket sends from no other.
            let any = self.sockets[index].address.ip().is_unspecified();
            let path = Path { local: path.local.filter(|_| any), ..*path };
            let max_segments = self.sockets[index].state.max_gso_segments().min(MAX_GSO_SEGMENTS);
            let start = if packets.start == 0 { 0 } else { ends[packets.start - 1] };
            for run in runs(start, &ends[packets.clone()], max_segments) {
                let segment = (run.packets > 1).then_some(run.segment as u16);
                batch[waiting] = Datagrams { path, contents: &buffer[run.bytes], segment };
                waiting += 1;
                if waiting == MAX_MESSAGES {
                    self.send_all(from, &batch);
                    waiting = 0;
                }
            }
        }
        self.send_all(from, &batch[..waiting]);
    }

    /// Sends from one socket; what cannot be sent with the others is tried by itself.
    fn send_all(&mut self, index: usize, messages: &[Datagrams<'_>]) {
        let mut left = messages;
        while let Some(first) = left.first() {
            match send_batch::send(self.sockets[index].socket.as_fd(), left) {
                Ok(sent) => {
                    self.stats.send_calls += 1;
                    self.stats.sent += left[..sent].iter().map(|message| message.packets() as u64).sum::<u64>();
                    left = &left[sent..];
                }
                Err(_) => {
                    let segment = first.segment.map_or(first.contents.len(), usize::from);
                    self.send_run(first.path, first.contents, segment, first.packets());
                    left = &left[1..];
                }
            }
        }
    }

    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize, packets: usize) {
        let Some(index) = self.socket_for(path) else {
            self.stats.send_errors += packets as u64;
            return;
        };
        let segmented = self.sockets[index].state.max_gso_segments() > 1;
        let result = self.attempt(index, path, contents, segment, packets);
        // `quinn-udp` takes every EINVAL and EIO for a refusal of segmentation and stops offering it, to all viewers.
        let refused = self.sockets[index].state.max_gso_segments() == 1;
        match result {
            Err(error) if refused && packets > 1 && error.kind() != io::ErrorKind::WouldBlock => {
                self.send_singly(index, path, contents, segment, segmented);
            }
            result => {
                if refused && segmented {
                    // One packet has no segments: something else was wrong with it.
                    self.sockets[index].offer_segmentation_again();
                }
                self.count(path, packets, result);
            }
        }
    }

    /// Sends packet by packet what could not be sent at once.
    fn send_singly(&mut self, index: usize, path: Path, contents: &[u8], segment: usize, segmented: bool) {
        let mut left = contents.len().div_ceil(segment);
        for packet in contents.chunks(segment) {
            let result = self.attempt(index, path, packet, packet.len(), 1);
            let failed = result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
            if failed {
                // Not the segments were to blame but the path: our address there has vanished, for example. What was
                // learnt from it must not slow all others down.
                if segmented {
                    self.sockets[index].offer_segmentation_again();
                }
                self.count(path, left, result);
                return;
            }
            self.count(path, 1, result);
            left -= 1;
        }
    }

    fn attempt(&mut self, index: usize, path: Path, contents: &[u8], segment: usize, packets: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination: path.remote,
            ecn: None,
            contents,
            segment_size: (packets > 1).then_some(segment),
            src_ip: path.local,
        };
        let bound = &self.sockets[index];
        let attempt = || bound.state.try_send((&bound.socket).into(), &transmit);
        send_patiently(&mut self.may_wait, attempt, || bound.wait_for_room())
    }

    fn count(&mut self, path: Path, packets: usize, result: io::Result<()>) {
        match result {
            Ok(()) => {
                self.stats.sent += packets as u64;
                self.stats.send_calls += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stats.send_would_block += packets as u64,
            Err(error) => {
                tracing::debug!(remote = %path.remote, %error, packets, "cannot send");
                self.stats.send_errors += packets as u64;
            }
        }
    }

    fn socket_for(&self, path: Path) -> Option<usize> {
        let fits = |bound: &BoundSocket| {
            let same_family = bound.address.is_ipv4() == path.remote.is_ipv4();
            let ip = bound.address.ip();
            same_family && (ip.is_unspecified() || path.local.is_none_or(|local| local == ip))
        };
        self.sockets.iter().position(fits)
    }
}

impl BoundSocket {
    /// False if there was no room for [`MAX_SEND_WAIT`].
    fn wait_for_room(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.socket, PollFlags::OUT)];
        let limit = Timespec { tv_sec: 0, tv_nsec: MAX_SEND_WAIT.as_nanos() as i64 };
        // Interrupted: the next attempt tells.
        rustix::event::poll(&mut descriptors, Some(&limit)).map_or(true, |ready| ready > 0)
    }

    /// The refusal is kept in a state that can only be made anew.
    fn offer_segmentation_again(&mut self) {
        match UdpSocketState::new((&self.socket).into()) {
            Ok(state) => self.state = state,
            Err(error) => tracing::debug!(%error, "cannot set the socket up again"),
        }
    }
}

/// Sends, waiting for room once at most and not at all once `may_wait` is false, which a wait in vain makes it.
fn send_patiently(
    may_wait: &mut bool,
    mut attempt: impl FnMut() -> io::Result<()>,
    wait: impl FnOnce() -> bool,
) -> io::Result<()> {
    match attempt() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && *may_wait => {
            *may_wait = wait();
            attempt()
        }
        result => result,
    }
}

/// False for addresses that something can be sent to but nothing from: broadcast and multicast.
fn can_be_source(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast && !ip.is_multicast()
}

/// Room for a batch of received datagrams, each possibly many that the kernel joined (GRO).
pub(crate) struct ReceiveBuffers {
    buffers: Vec<Vec<u8>>,
}

impl ReceiveBuffers {
    pub(crate) fn new() -> Self {
        Self { buffers: vec![vec![0; 65_536]; BATCH_SIZE] }
    }

    fn slices(&mut self) -> [IoSliceMut<'_>; BATCH_SIZE] {
        let mut buffers = self.buffers.iter_mut();
        std::array::from_fn(|_| IoSliceMut::new(buffers.next().expect("there are BATCH_SIZE buffers")))
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own: mapped addresses would only have to be told apart again.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Packets that one call can send: all of one size, but for a shorter last one.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    bytes: Range<usize>,
    segment: usize,
    packets: usize,
}

/// Divides packets, of which the first begins at `start`.
fn runs(start: usize, ends: &[usize], max_segments: usize) -> impl Iterator<Item = Run> {
    let (first, mut next) = (start, 0);
    std::iter::from_fn(move || {
        let start = if next == 0 { first } else { ends[next - 1] };
        let segment = ends.get(next)? - start;
        let mut packets = 1;
        while let Some(end) = ends.get(next + packets) {
            let previous = ends[next + packets - 1];
            let full = previous - start == packets * segment;
            if !full || end - previous > segment || packets == max_segments || end - start > MAX_GSO_BYTES {
                break;
            }
            packets += 1;
        }
        next += packets;
        Some(Run { bytes: start..ends[next - 1], segment, packets })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(sizes: &[usize]) -> Vec<usize> {
        sizes
            .iter()
            .scan(0, |end, size| {
                *end += size;
                Some(*end)
            })
            .collect()
    }

    fn packets_of(sizes: &[usize], max_segments: usize) -> Vec<usize> {
        runs(0, &ends(sizes), max_segments).map(|run| run.packets).collect()
    }

    #[test]
    fn equal_packets_and_a_shorter_last_one_are_one_run() {
        assert_eq!(packets_of(&[100; 7], 64), [7]);
        assert_eq!(packets_of(&[100, 100, 40], 64), [3]);
        assert_eq!(packets_of(&[40, 100, 100], 64), [1, 2]);
        assert_eq!(packets_of(&[100, 40, 100], 64), [2, 1]);
        assert_eq!(packets_of(&[100; 7], 1), [1; 7]);
        assert_eq!(packets_of(&[1_200; 100], 64), [54, 46], "65,507 bytes at most");
        assert_eq!(packets_of(&[], 64), Vec::<usize>::new());
    }

    #[test]
    fn a_wait_in_vain_is_the_turns_last() {
        let blocked = || Err(io::Error::from(io::ErrorKind::WouldBlock));
        let (mut may_wait, mut waits) = (true, 0);
        for room in [true, true, false, true, true] {
            let wait = || {
                waits += 1;
                room
            };
            assert!(send_patiently(&mut may_wait, blocked, wait).is_err());
        }
        assert_eq!(waits, 3);
    }

    #[test]
    fn nothing_is_sent_from_a_broadcast_or_multicast_address() {
        for (ip, expected) in [
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("255.255.255.255", false),
            ("224.0.0.251", false),
            ("ff02::fb", false),
        ] {
            assert_eq!(can_be_source(&ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[test]
    fn empty_datagrams_are_handed_on_like_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bound = Sockets::bind(&["127.0.0.1:0".parse().unwrap()], false).unwrap();
            let address = bound[0].local_addr().unwrap();
            let mut sockets = Sockets::new(bound).unwrap();
            let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            stranger.send_to(&[], address).unwrap();
            stranger.send_to(&[7], address).unwrap();
            let (mut received, mut buffers) = (Vec::new(), ReceiveBuffers::new());
            while received.len() < 2 {
                let index = sockets.readable().await;
                sockets.receive(index, &mut buffers, |_, _, datagram| received.push(datagram.to_vec())).unwrap();
            }
            assert_eq!((received, sockets.stats().received), (vec![vec![], vec![7]], 2));
        });
    }

    #[test]
    fn a_path_that_cannot_be_used_does_not_end_segmentation_for_the_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bound = Sockets::bind(&["0.0.0.0:0".parse().unwrap()], false).unwrap();
            let mut sockets = Sockets::new(bound).unwrap();
            let before = sockets.stats().max_segments;
            let viewer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let remote = viewer.local_addr().unwrap();
            // EINVAL with any kernel, as an address that has vanished is with older ones.
            let vanished = Path { remote, local: Some("255.255.255.255".parse().unwrap()) };
            let packets = [0; 600];
            sockets.send_packets(vanished, &packets, &[200, 400, 600]);
            assert_eq!(sockets.stats(), SocketStats { send_errors: 3, max_segments: before, ..SocketStats::default() });
            sockets.send(vanished, &packets);
            assert_eq!(sockets.stats(), SocketStats { send_errors: 4, max_segments: before, ..SocketStats::default() });
            sockets.send_packets(Path { remote, local: None }, &packets, &[200, 400, 600]);
            assert_eq!(sockets.stats().sent, 3);
        });
    }

    proptest! {
        #[test]
        fn runs_cover_every_packet_within_the_kernels_limits(
            sizes in prop::collection::vec(prop_oneof![1_usize..1_500, Just(1_200)], 0..200), max in 1_usize..64
        ) {
            let ends = ends(&sizes);
            let mut covered = 0;
            for run in runs(0, &ends, max) {
                let of_run = &sizes[covered..covered + run.packets];
                prop_assert!(run.packets <= max && run.bytes.len() <= MAX_GSO_BYTES);
                prop_assert!(of_run[..run.packets - 1].iter().all(|&size| size == run.segment));
                prop_assert!(of_run[run.packets - 1] <= run.segment);
                prop_assert_eq!(run.bytes.len(), of_run.iter().sum::<usize>());
                covered += run.packets;
            }
            prop_assert_eq!(covered, sizes.len());
        }
    }
}
