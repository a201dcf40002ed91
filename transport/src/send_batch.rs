//! Several datagrams, to whomever, in one system call: `sendmmsg(2)` with a segment size for each.
//!
//! `quinn-udp` sends one message a call. What it knows beyond that, which systems refuse segmentation and what to do then,
//! stays its business: what fails here is sent again through it.

#![allow(unsafe_code)]

use std::io;

use crate::Path;

/// One message: a datagram, or several of one size (the last may be shorter) that the kernel takes apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagrams<'a> {
    pub(crate) path: Path,
    pub(crate) contents: &'a [u8],
    /// Bytes of each but the last, if there are several.
    pub(crate) segment: Option<u16>,
}

impl Datagrams<'_> {
    /// How many datagrams it is.
    pub(crate) fn packets(&self) -> usize {
        self.segment.map_or(1, |segment| self.contents.len().div_ceil(usize::from(segment)))
    }
}

/// Messages of one call at most; the kernel takes up to 1,024 (`UIO_MAXIOV`).
pub(crate) const MAX_MESSAGES: usize = 32;

/// Sends messages in their order from one socket without blocking. Returns how many were sent, at least one, or why the
/// first was not. Those beyond [`MAX_MESSAGES`] are left.
#[cfg(target_os = "linux")]
pub(crate) fn send(socket: std::os::fd::BorrowedFd<'_>, messages: &[Datagrams<'_>]) -> io::Result<usize> {
    use std::os::fd::AsRawFd;

    let messages = &messages[..messages.len().min(MAX_MESSAGES)];
    let mut envelopes = [const { linux::Envelope::new() }; MAX_MESSAGES];
    // SAFETY: zeros are a valid `mmsghdr`: null pointers and lengths of 0.
    let mut headers: [libc::mmsghdr; MAX_MESSAGES] = unsafe { std::mem::zeroed() };
    for ((header, envelope), message) in headers.iter_mut().zip(&mut envelopes).zip(messages) {
        envelope.address(message, &mut header.msg_hdr);
    }
    // SAFETY: each of the first `messages.len()` headers points to its envelope and its message's contents, with their
    // lengths; both outlive the call, and the kernel only reads them (it writes `msg_len` of the headers, which are ours).
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), messages.len() as libc::c_uint, libc::MSG_DONTWAIT)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Elsewhere there is no such call.
#[cfg(not(target_os = "linux"))]
pub(crate) fn send(_: std::os::fd::BorrowedFd<'_>, _: &[Datagrams<'_>]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::mem::{size_of, zeroed};
    use std::net::{IpAddr, SocketAddr};

    use super::Datagrams;

    /// Room for two control messages, 24 (segment size) and 40 bytes (`in6_pktinfo`), aligned as their headers.
    const CONTROL_WORDS: usize = 8;

    /// What a message's header points to besides its contents.
    pub(super) struct Envelope {
        iov: libc::iovec,
        name: Name,
        control: [u64; CONTROL_WORDS],
    }

    #[repr(C)]
    union Name {
        v4: libc::sockaddr_in,
        v6: libc::sockaddr_in6,
    }

    impl Envelope {
        pub(super) const fn new() -> Self {
            Self {
                iov: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
                // SAFETY: zeros are a valid address of either family.
                name: unsafe { zeroed() },
                control: [0; CONTROL_WORDS],
            }
        }

        /// Makes `header` point to this envelope and the message's contents.
        pub(super) fn address(&mut self, message: &Datagrams<'_>, header: &mut libc::msghdr) {
            self.iov.iov_base = message.contents.as_ptr().cast_mut().cast();
            self.iov.iov_len = message.contents.len();
            header.msg_iov = &raw mut self.iov;
            header.msg_iovlen = 1;
            header.msg_namelen = self.name.set(message.path.remote);
            header.msg_name = (&raw mut self.name).cast();

            let mut used = 0;
            if let Some(segment) = message.segment {
                used += self.push(used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
            }
            match message.path.local {
                Some(IpAddr::V4(ip)) => {
                    let source = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                    let info = libc::in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: source,
                        ipi_addr: libc::in_addr { s_addr: 0 },
                    };
                    used += self.push(used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                }
                Some(IpAddr::V6(ip)) => {
                    let info =
                        libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                    used += self.push(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                }
                None => {}
            }
            if used > 0 {
                header.msg_control = self.control.as_mut_ptr().cast();
                header.msg_controllen = used;
            }
        }

        /// Writes a control message at byte `at`, and returns how many bytes it takes (`cmsg(3)`).
        fn push<T: Copy>(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
            const HEADER: usize = size_of::<libc::cmsghdr>();
            let space = HEADER + size_of::<T>().next_multiple_of(size_of::<usize>());
            assert!(at + space <= size_of::<[u64; CONTROL_WORDS]>(), "the room is for the longest two");
            // SAFETY: zeros are a valid header.
            let mut header: libc::cmsghdr = unsafe { zeroed() };
            header.cmsg_len = (HEADER + size_of::<T>()) as _;
            header.cmsg_level = level;
            header.cmsg_type = kind;
            // SAFETY: both writes are within `control`, as the assertion says; they need no alignment.
            unsafe {
                let start = self.control.as_mut_ptr().cast::<u8>().add(at);
                start.cast::<libc::cmsghdr>().write_unaligned(header);
                start.add(HEADER).cast::<T>().write_unaligned(value);
            }
            space
        }
    }

    impl Name {
        fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
            match address {
                SocketAddr::V4(address) => {
                    // SAFETY: zeros are a valid address.
                    let mut name: libc::sockaddr_in = unsafe { zeroed() };
                    name.sin_family = libc::AF_INET as libc::sa_family_t;
                    name.sin_port = address.port().to_be();
                    name.sin_addr = libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) };
                    self.v4 = name;
                    size_of::<libc::sockaddr_in>() as libc::socklen_t
                }
                SocketAddr::V6(address) => {
                    // SAFETY: likewise.
                    let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
                    name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                    name.sin6_port = address.port().to_be();
                    name.sin6_flowinfo = address.flowinfo();
                    name.sin6_addr = libc::in6_addr { s6_addr: address.ip().octets() };
                    name.sin6_scope_id = address.scope_id();
                    self.v6 = name;
                    size_of::<libc::sockaddr_in6>() as libc::socklen_t
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn each_message_reaches_its_address_in_its_segments_from_the_source_it_names() {
        for (listen, source) in [("127.0.0.1:0", "127.0.0.9"), ("[::1]:0", "::1")] {
            let receivers: Vec<UdpSocket> = (0..MAX_MESSAGES + 1).map(|_| UdpSocket::bind(listen).unwrap()).collect();
            let any = if listen.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let sender = UdpSocket::bind(any).unwrap();
            let contents: Vec<u8> = (0..250).collect();
            let messages: Vec<_> = receivers
                .iter()
                .enumerate()
                .map(|(number, receiver)| Datagrams {
                    path: Path {
                        remote: receiver.local_addr().unwrap(),
                        local: (number % 2 == 0).then(|| source.parse().unwrap()),
                    },
                    contents: &contents[..250 - number],
                    segment: (number % 3 > 0).then_some(100),
                })
                .collect();
            assert_eq!(send(sender.as_fd(), &messages).unwrap(), MAX_MESSAGES);
            assert_eq!(send(sender.as_fd(), &messages[MAX_MESSAGES..]).unwrap(), 1);
            for (number, receiver) in receivers.iter().enumerate() {
                let mut received = Vec::new();
                let mut buffer = [0; 500];
                while received.len() < 250 - number {
                    let (len, from) = receiver.recv_from(&mut buffer).unwrap();
                    if number % 2 == 0 {
                        assert_eq!(from, SocketAddr::new(source.parse().unwrap(), sender.local_addr().unwrap().port()));
                    }
                    assert_eq!(len, if number % 3 > 0 { 100.min(250 - number - received.len()) } else { 250 - number });
                    received.extend_from_slice(&buffer[..len]);
                }
                assert_eq!(received, contents[..250 - number]);
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_stops_those_behind_it_only() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        let good = Datagrams {
            path: Path { remote: receiver.local_addr().unwrap(), local: None },
            contents: b"x",
            segment: None,
        };
        let vanished = Datagrams { path: Path { local: Some("192.0.2.1".parse().unwrap()), ..good.path }, ..good };
        assert_eq!(send(sender.as_fd(), &[good, good, vanished, good]).unwrap(), 2);
        assert!(send(sender.as_fd(), &[vanished, good]).is_err());
    }
}
