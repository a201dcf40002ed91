use std::io;
use std::net::SocketAddr;

use lenscast_router::TransportId;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::port::PeerPort;

/// The sockets of a plain transport.
pub(super) struct PlainSockets {
    pub(super) rtp: std::net::UdpSocket,
    /// If RTCP has a port of its own: RTP's next.
    pub(super) rtcp: Option<std::net::UdpSocket>,
}

/// A datagram for a plain transport.
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    /// It came to the port that is RTCP's alone.
    pub(crate) to_rtcp: bool,
    pub(crate) datagram: Vec<u8>,
}

/// Of a key frame in one go; the kernel caps this at `net.core.rmem_max`.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Datagrams that are handed over together.
const MAX_BATCH: usize = 64;

/// Longer than anything that is accepted: what does not fit is cut, and too long still.
const MAX_DATAGRAM: usize = 2_048;

/// Any port may have a neighbour that is taken.
const ATTEMPTS: usize = 16;

impl PlainSockets {
    /// Binds RTP's port, and with `two` the next one for RTCP.
    pub(super) fn bind(listen: SocketAddr, two: bool) -> Result<Self, (SocketAddr, io::Error)> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let rtp = bind(listen).map_err(|error| (listen, error))?;
            if !two {
                return Ok(Self { rtp, rtcp: None });
            }
            let bound = rtp.local_addr().map_err(|error| (listen, error))?;
            let next = bound.port().checked_add(1).ok_or_else(|| io::Error::other("there is no next port for RTCP"));
            match next.and_then(|port| bind(SocketAddr::new(bound.ip(), port))) {
                Ok(rtcp) => return Ok(Self { rtp, rtcp: Some(rtcp) }),
                Err(error) => {
                    let next = SocketAddr::new(bound.ip(), bound.port().saturating_add(1));
                    if listen.port() != 0 {
                        return Err((next, error));
                    }
                    last = Some((next, error));
                }
            }
        }
        Err(last.expect("there was an attempt at least"))
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let rtcp = self.rtcp.as_ref().map(std::net::UdpSocket::try_clone).transpose()?;
        Ok(Self { rtp: self.rtp.try_clone()?, rtcp })
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Smaller ones do, too.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Reads the sockets and hands over what comes, until the worker or the transport has ended. To be called on the worker's
/// thread.
///
/// # Errors
///
/// If the sockets cannot be waited for.
pub(super) fn receive(id: TransportId, sockets: PlainSockets, worker: PeerPort) -> io::Result<JoinHandle<()>> {
    let rtp = UdpSocket::from_std(sockets.rtp)?;
    let rtcp = sockets.rtcp.map(UdpSocket::from_std).transpose()?;
    let run = async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let to_rtcp = match &rtcp {
                None => rtp.readable().await.is_err(),
                Some(rtcp) => tokio::select! {
                    _ = rtp.readable() => false,
                    _ = rtcp.readable() => true,
                },
            };
            let socket = rtcp.as_ref().filter(|_| to_rtcp).unwrap_or(&rtp);
            let mut batch = Vec::new();
            while batch.len() < MAX_BATCH {
                match socket.try_recv_from(&mut buffer) {
                    Ok((len, from)) => {
                        batch.push(Received { from, to_rtcp, datagram: buffer[..len].to_vec() });
                    }
                    Err(error) => {
                        if error.kind() != io::ErrorKind::WouldBlock {
                            tracing::debug!(%error, "a plain transport cannot receive");
                            tokio::task::yield_now().await;
                        }
                        break;
                    }
                }
            }
            if batch.is_empty() {
                continue;
            }
            // A port that is held only while it is used does not keep the worker from stopping.
            let Some(port) = worker.upgrade() else { return };
            if port.call(move |hub, wire, now| hub.handle_plain(now, id, batch, wire)).await.is_err() {
                return;
            }
        }
    };
    Ok(tokio::spawn(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtcp_has_the_next_port_and_one_that_is_taken_is_named() {
        let any = "127.0.0.1:0".parse().unwrap();
        let sockets = PlainSockets::bind(any, true).unwrap();
        let rtp = sockets.rtp.local_addr().unwrap();
        let rtcp = sockets.rtcp.as_ref().unwrap().local_addr().unwrap();
        assert_eq!(rtcp.port(), rtp.port() + 1);
        let (address, error) = PlainSockets::bind(rtp, true).err().unwrap();
        assert_eq!((address, error.kind()), (rtp, io::ErrorKind::AddrInUse));
    }

    #[test]
    fn a_taken_neighbour_is_named() {
        let any = "127.0.0.1:0".parse().unwrap();
        let PlainSockets { rtp, rtcp } = PlainSockets::bind(any, true).unwrap();
        let (first, second) = (rtp.local_addr().unwrap(), rtcp.as_ref().unwrap().local_addr().unwrap());
        drop(rtp);
        let (address, error) = PlainSockets::bind(first, true).err().unwrap();
        assert_eq!((address, error.kind()), (second, io::ErrorKind::AddrInUse));
    }
}
