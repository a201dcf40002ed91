//! The least that a packet can cost with these means: seal it, and send seven in one call.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quinn_udp::{Transmit, UdpSocketState};

use crate::frames::{PACKETS_PER_FRAME, PAYLOAD};
use crate::processor::{self, MEASURED, pin, this_thread};

const PACKET: usize = PAYLOAD + 12 + 16;

/// Processor time of a packet, in microseconds, of a bare loop that runs for `length`.
///
/// Its receiver looks at the socket from time to time, as the viewers do.
pub(crate) fn micros(length: Duration) -> f64 {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    receiver.set_nonblocking(true).expect("a socket can be non-blocking");
    let destination = receiver.local_addr().expect("it is bound");
    let done = Arc::new(AtomicBool::new(false));
    let finished = Arc::clone(&done);
    let drain = std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while !finished.load(Ordering::Relaxed) {
            while receiver.recv(&mut buffer).is_ok() {}
        }
    });
    let measured = std::thread::spawn(move || {
        let thread = this_thread();
        pin(thread, &[MEASURED]);
        let state = UdpSocketState::new((&sender).into()).expect("a UDP socket");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16]).expect("the key has its length"));
        let mut buffer = vec![0; PACKETS_PER_FRAME * PACKET];
        let (start, before, mut bursts) = (Instant::now(), processor::time_of(thread), 0_u64);
        while start.elapsed() < length {
            for (number, packet) in buffer.chunks_mut(PACKET).enumerate() {
                let (header, rest) = packet.split_at_mut(12);
                let (payload, tag) = rest.split_at_mut(PAYLOAD);
                let mut nonce = [0; 12];
                nonce[..8].copy_from_slice(&bursts.to_be_bytes());
                nonce[8] = number as u8;
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload).expect("it seals");
                tag.copy_from_slice(sealed.as_ref());
            }
            let transmit =
                Transmit { destination, ecn: None, contents: &buffer, segment_size: Some(PACKET), src_ip: None };
            state.try_send((&sender).into(), &transmit).expect("loopback takes it");
            bursts += 1;
        }
        let used = processor::time_of(thread) - before;
        used.as_secs_f64() * 1e6 / (bursts as usize * PACKETS_PER_FRAME) as f64
    });
    let micros = measured.join().expect("the loop ends");
    done.store(true, Ordering::Relaxed);
    drain.join().expect("the receiver ends");
    micros
}
