/// What is on the other side of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// A browser or another WebRTC endpoint: ICE, DTLS, SRTP.
    WebRtc,
    /// RTP or SRTP with keys from elsewhere, to a fixed address.
    Plain,
    /// A router on another machine.
    Pipe,
    /// This process: sources hand their bursts over directly.
    Direct,
}
