//! SRTP and SRTCP (RFC 3711, RFC 7714), both ways, in place and without allocation.
//!
//! Why not `rtc-srtp`: it copies each packet into a fresh buffer, looks its source up in a map and calls the cipher
//! through a vtable, which costs 300 ns for 1,200 bytes where sealing in place costs 175 (docs/benchmarks.md); and on
//! the way in it makes an entry for a packet's source before the packet is authenticated, so that a stranger can make it
//! grow. It is the oracle of the tests here.
//!
//! **Invariants.** Nothing is remembered of a packet that fails authentication. On the way out a packet index never comes
//! twice from one source: the router hands each out once. On the way in none is accepted twice.
//!
//! What it does not do: master key identifiers, key derivation rates, and setting a source's rollover counter from
//! outside: who joins a stream late must be told of it by a sender that starts anew, as all of ours do.

mod keys;
mod receiver;
mod replay;
mod sender;
#[cfg(test)]
mod tests;

pub use keys::{ProtectionProfile, SrtpKeyError, client_keys, master_keys, server_keys};
pub use receiver::{OpenSrtcpError, OpenSrtpError, SrtpReceiver};
pub use sender::{RtpSealer, SrtpSender};

/// Bytes of SRTCP that stay readable: RTCP's first header and its source (RFC 3711 §3.4).
const SRTCP_HEADER: usize = 8;
const SRTCP_INDEX_LEN: usize = 4;
/// The E bit in front of the SRTCP index.
const SRTCP_ENCRYPTED: u32 = 1 << 31;

fn source_of(compound: &[u8]) -> lenscast_media::Ssrc {
    lenscast_media::Ssrc(u32::from_be_bytes([compound[4], compound[5], compound[6], compound[7]]))
}
