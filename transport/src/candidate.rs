//! The addresses a viewer can reach us at, as ICE host candidates (RFC 8445 §5.1, RFC 8839 §5.1).

use std::io;
use std::net::{IpAddr, SocketAddr};

/// One `a=candidate` of ours. All are host candidates over UDP: behind a one-to-one NAT the public address is announced
/// as if it were the host's own, since an ICE-lite agent gathers nothing (RFC 8445 §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    address: SocketAddr,
    /// Position in the list, best first.
    rank: u16,
}

impl Candidate {
    /// Where it can be reached.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of its `a=candidate` attribute.
    #[must_use]
    pub fn to_sdp(&self) -> String {
        let Self { address, rank } = self;
        // RFC 8445 §5.1.2.1 with the recommended type preference of a host candidate, for component 1.
        let priority = 126_u32 << 24 | u32::from(u16::MAX - rank) << 8 | 255;
        format!("{} 1 udp {priority} {} {} typ host", rank + 1, address.ip(), address.port())
    }
}

/// The candidates of a server that is bound to `bound` and known from outside under `public`.
///
/// Public addresses come first, then those of the interfaces, IPv4 before IPv6. Loopback addresses are left out unless
/// `loopback`, or unless the server is bound to nothing else.
///
/// # Errors
///
/// If the system does not tell its interfaces' addresses.
pub(crate) fn candidates(bound: &[SocketAddr], public: &[IpAddr], loopback: bool) -> io::Result<Vec<Candidate>> {
    let interfaces = if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip()).collect::<Vec<_>>();
    Ok(candidates_of(bound, public, &interfaces, loopback))
}

fn candidates_of(bound: &[SocketAddr], public: &[IpAddr], interfaces: &[IpAddr], loopback: bool) -> Vec<Candidate> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for &ip in public {
        // A public address reaches us through the socket of its family, or through whichever there is.
        let socket = bound.iter().find(|socket| socket.is_ipv4() == ip.is_ipv4()).or(bound.first());
        addresses.extend(socket.map(|socket| SocketAddr::new(ip, socket.port())));
    }
    let mut own: Vec<SocketAddr> = Vec::new();
    for socket in bound {
        if socket.ip().is_unspecified() {
            let usable = interfaces.iter().filter(|ip| ip.is_ipv4() == socket.is_ipv4() && !is_link_local(**ip));
            own.extend(usable.map(|ip| SocketAddr::new(*ip, socket.port())));
        } else {
            own.push(*socket);
        }
    }
    own.sort_by_key(|address| (address.ip().is_loopback(), address.is_ipv6()));
    let only_loopback = addresses.is_empty() && own.iter().all(|address| address.ip().is_loopback());
    addresses.extend(own.into_iter().filter(|address| loopback || only_loopback || !address.ip().is_loopback()));

    let mut seen = Vec::new();
    addresses.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
    addresses.into_iter().zip(0..).map(|(address, rank)| Candidate { address, rank }).collect()
}

/// A link-local IPv6 address means nothing without its zone, which SDP cannot carry; IPv4's are self-assigned.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(bound: &[&str], public: &[&str], interfaces: &[&str], loopback: bool) -> Vec<String> {
        let bound: Vec<SocketAddr> = bound.iter().map(|text| text.parse().unwrap()).collect();
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let found = candidates_of(&bound, &ips(public), &ips(interfaces), loopback);
        found.iter().map(|candidate| candidate.address().to_string()).collect()
    }

    const INTERFACES: [&str; 5] = ["127.0.0.1", "10.0.0.5", "::1", "2001:db8::5", "fe80::1"];

    #[test]
    fn a_wildcard_means_every_interface_of_its_family() {
        assert_eq!(addresses(&["0.0.0.0:9", "[::]:9"], &[], &INTERFACES, false), ["10.0.0.5:9", "[2001:db8::5]:9"]);
        assert_eq!(addresses(&["0.0.0.0:9"], &[], &INTERFACES, false), ["10.0.0.5:9"]);
    }

    #[test]
    fn loopback_is_offered_when_asked_for_or_when_there_is_nothing_else() {
        assert_eq!(addresses(&["0.0.0.0:9"], &[], &INTERFACES, true), ["10.0.0.5:9", "127.0.0.1:9"]);
        assert_eq!(addresses(&["127.0.0.1:9"], &[], &INTERFACES, false), ["127.0.0.1:9"]);
        assert_eq!(addresses(&["0.0.0.0:9"], &[], &["127.0.0.1"], false), ["127.0.0.1:9"]);
    }

    #[test]
    fn public_addresses_come_first_and_nothing_comes_twice() {
        let found =
            addresses(&["0.0.0.0:9", "[::]:10"], &["203.0.113.7", "10.0.0.5", "2001:db8::9"], &INTERFACES, false);
        assert_eq!(found, ["203.0.113.7:9", "10.0.0.5:9", "[2001:db8::9]:10", "[2001:db8::5]:10"]);
    }

    #[test]
    fn better_candidates_have_higher_priorities() {
        let bound = ["0.0.0.0:9".parse().unwrap()];
        let found = candidates_of(&bound, &["203.0.113.7".parse().unwrap()], &["10.0.0.5".parse().unwrap()], false);
        assert_eq!(found[0].to_sdp(), "1 1 udp 2130706431 203.0.113.7 9 typ host");
        assert_eq!(found[1].to_sdp(), "2 1 udp 2130706175 10.0.0.5 9 typ host");
    }
}
