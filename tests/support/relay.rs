//! A network of our own between one viewer and the server: passes datagrams on, and loses, records or cuts them off.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Passes on datagrams between whoever sends to it and one server. Stops when it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    cut: AtomicBool,
    no_dtls: AtomicBool,
    /// Of a million datagrams, how many are lost.
    loss: AtomicU64,
    /// Bits a second that the way to the viewer carries; 0 for all.
    capacity: AtomicU64,
    passed: AtomicU64,
    lost: AtomicU64,
    recording: Mutex<Option<Vec<Recorded>>>,
    /// The socket that the server takes for the viewer, by the viewer's address.
    upstream: Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>,
}

/// A datagram that came by.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) from_server: bool,
    pub(crate) bytes: Vec<u8>,
}

/// How soon a thread notices that it is to stop.
const PERIOD: Duration = Duration::from_millis(50);

/// The shortest time that a read waits.
const SHORTEST: Duration = Duration::from_millis(1);

/// IPv4 and UDP, which a link carries too.
const HEADERS: usize = 28;

/// What a queue before a thin link holds: what RFC 8867 §4.2 has for its cases.
const QUEUE: Duration = Duration::from_millis(300);

impl Relay {
    /// To the server at `server`. `seed` decides which datagrams are lost.
    pub(crate) fn to(server: SocketAddr, seed: u64) -> Self {
        let front = socket();
        let address = front.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || forward(&front, server, seed, &state));
        Self { address, shared, thread: Some(thread) }
    }

    /// Where a viewer finds it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this share of the datagrams is lost, each way.
    pub(crate) fn lose(&self, share: f64) {
        self.shared.loss.store((share * 1e6) as u64, Ordering::Release);
    }

    /// From now on the way to the viewer carries so much, behind a queue of [`QUEUE`].
    pub(crate) fn carry(&self, kbps: u64) {
        self.shared.capacity.store(kbps * 1_000, Ordering::Release);
    }

    /// From now on nothing passes.
    pub(crate) fn cut(&self) {
        self.shared.cut.store(true, Ordering::Release);
    }

    /// From now on no DTLS passes (RFC 7983 §7).
    pub(crate) fn hold_back_dtls(&self) {
        self.shared.no_dtls.store(true, Ordering::Release);
    }

    /// Datagrams passed on and lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Acquire), self.shared.lost.load(Ordering::Acquire))
    }

    /// From now on keeps a copy of what passes.
    pub(crate) fn record(&self) {
        *self.shared.recording.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// What has passed since [`Relay::record`] or the last call of this.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        let mut recording = self.shared.recording.lock().unwrap_or_else(PoisonError::into_inner);
        recording.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Sends to the server from the viewer's own address, as the server knows it. Panics if no viewer has been here.
    pub(crate) fn inject(&self, datagram: &[u8]) {
        let upstream = self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in upstream.values() {
            socket.send(datagram).expect("the loopback takes everything");
        }
        assert!(!upstream.is_empty(), "a viewer must have been here");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What becomes of a datagram: true if it is to go on.
    fn passes(&self, random: &mut StdRng, from_server: bool, bytes: &[u8]) -> bool {
        // Drawn for each, so that which are lost depends on the seed alone.
        let unlucky = random.random_range(0..1_000_000) < self.loss.load(Ordering::Acquire);
        let held_back = matches!(bytes, [20..=63, ..]) && self.no_dtls.load(Ordering::Acquire);
        if unlucky || held_back || self.cut.load(Ordering::Acquire) {
            self.lost.fetch_add(1, Ordering::AcqRel);
            return false;
        }
        if let Some(recording) = self.recording.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            recording.push(Recorded { from_server, bytes: bytes.to_vec() });
        }
        self.passed.fetch_add(1, Ordering::AcqRel);
        true
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
    socket.set_read_timeout(Some(PERIOD)).expect("the period is not zero");
    // A key frame for a slow reader must not be lost here, where nobody counts it.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 21);
    socket
}

/// The way to the server, and a thread for each viewer's way back.
fn forward(front: &UdpSocket, server: SocketAddr, seed: u64, shared: &Shared) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut buffer = vec![0; 65_536];
    std::thread::scope(|scope| {
        loop {
            // What has come before the end still passes: a goodbye, for example.
            let is_over = shared.stop.load(Ordering::Acquire);
            if is_over {
                front.set_nonblocking(true).expect("every socket can be");
            }
            let Ok((len, viewer)) = front.recv_from(&mut buffer) else {
                if is_over {
                    break;
                }
                continue;
            };
            let known = shared.upstream.lock().unwrap_or_else(PoisonError::into_inner).get(&viewer).cloned();
            let upstream = known.unwrap_or_else(|| {
                let upstream = Arc::new(socket());
                upstream.connect(server).expect("the loopback is there");
                let back = Arc::clone(&upstream);
                scope.spawn(move || backward(&back, front, viewer, seed, shared));
                shared.upstream.lock().unwrap_or_else(PoisonError::into_inner).insert(viewer, Arc::clone(&upstream));
                upstream
            });
            if shared.passes(&mut random, false, &buffer[..len]) {
                // Refused if the server has gone, which is not for the network to judge.
                let _ = upstream.send(&buffer[..len]);
            }
        }
    });
}

fn backward(upstream: &UdpSocket, front: &UdpSocket, viewer: SocketAddr, seed: u64, shared: &Shared) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(1));
    let mut buffer = vec![0; 65_536];
    // What waits before the link, with the time at which its last bit has left.
    let mut queue: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    while !shared.stop.load(Ordering::Acquire) {
        let now = Instant::now();
        while queue.front().is_some_and(|(due, _)| *due <= now) {
            let (_, bytes) = queue.pop_front().expect("it was there a moment ago");
            let _ = front.send_to(&bytes, viewer);
        }
        let wait = queue.front().map_or(PERIOD, |(due, _)| due.saturating_duration_since(now).min(PERIOD));
        upstream.set_read_timeout(Some(wait.max(SHORTEST))).expect("it is not zero");
        let Ok(len) = upstream.recv(&mut buffer) else { continue };
        if !shared.passes(&mut random, true, &buffer[..len]) {
            continue;
        }
        let capacity = shared.capacity.load(Ordering::Acquire);
        if capacity == 0 && queue.is_empty() {
            let _ = front.send_to(&buffer[..len], viewer);
            continue;
        }
        let now = Instant::now();
        let begins = queue.back().map_or(now, |(due, _)| *due).max(now);
        // Drop-tail.
        if begins.saturating_duration_since(now) < QUEUE {
            let takes = Duration::from_secs_f64((len + HEADERS) as f64 * 8.0 / capacity.max(1_000) as f64);
            queue.push_back((begins + takes, buffer[..len].to_vec()));
        }
    }
}
