use std::net::SocketAddr;

/// What a viewer takes from an SDP answer, or from the SDP fragment that answers an ICE restart.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) ufrag: String,
    pub(crate) password: String,
    pub(crate) candidates: Vec<SocketAddr>,
}

/// The streams that an SDP answer announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) media: u32,
    pub(crate) media_type: u8,
    /// Source and payload type of the retransmissions, if there are to be any.
    pub(crate) rtx: Option<(u32, u8)>,
}

impl Answer {
    pub(crate) fn parse(sdp: &str) -> Self {
        Self {
            ufrag: value(sdp, "a=ice-ufrag:").expect("an answer has a user fragment").to_owned(),
            password: value(sdp, "a=ice-pwd:").expect("an answer has a password").to_owned(),
            candidates: values(sdp, "a=candidate:").map(address_of).collect(),
        }
    }
}

impl Streams {
    /// Those of the one video section.
    pub(crate) fn parse(sdp: &str) -> Self {
        let formats = value(sdp, "m=video 9 UDP/TLS/RTP/SAVPF ").expect("an answer has a video section");
        let mut types = formats.split(' ').map(|format| format.parse().expect("payload types are numbers"));
        let media_type = types.next().expect("a section has a payload type");
        let mut sources = value(sdp, "a=ssrc-group:FID ")
            .map(|group| {
                group.split(' ').map(|source| source.parse().expect("sources are numbers")).collect::<Vec<u32>>()
            })
            .unwrap_or_default()
            .into_iter();
        match (sources.next(), sources.next()) {
            (Some(media), Some(rtx)) => {
                let rtx_type = types.next().expect("a retransmission stream has a payload type");
                Self { media, media_type, rtx: Some((rtx, rtx_type)) }
            }
            _ => {
                let source = value(sdp, "a=ssrc:").expect("an answer names its source");
                let media = source.split(' ').next().expect("split gives one").parse().expect("sources are numbers");
                Self { media, media_type, rtx: None }
            }
        }
    }
}

/// `sdp` with every candidate led to `address` instead.
pub(crate) fn redirected(sdp: &str, address: SocketAddr) -> String {
    let lines = sdp.lines().map(|line| match line.strip_prefix("a=candidate:") {
        None => line.to_owned(),
        Some(candidate) => {
            let mut parts: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
            parts[4] = address.ip().to_string();
            parts[5] = address.port().to_string();
            format!("a=candidate:{}", parts.join(" "))
        }
    });
    lines.collect::<Vec<_>>().join("\r\n") + "\r\n"
}

/// The rest of the first line that begins like this.
pub(crate) fn value<'a>(sdp: &'a str, prefix: &'a str) -> Option<&'a str> {
    values(sdp, prefix).next()
}

/// The rest of all lines that begin like this.
pub(crate) fn values<'a>(sdp: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    sdp.lines().filter_map(move |line| line.strip_prefix(prefix))
}

fn address_of(candidate: &str) -> SocketAddr {
    let parts: Vec<&str> = candidate.split(' ').collect();
    let ip = parts[4].parse().expect("a candidate has an address");
    SocketAddr::new(ip, parts[5].parse().expect("a candidate has a port"))
}
