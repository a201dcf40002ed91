//! An offer as a WHEP player writes it, for the tests that only look at what HTTP makes of it.

/// The viewer's user fragment in [`offer`].
pub(crate) const UFRAG: &str = "vwrF";
/// The viewer's ICE password in [`offer`].
pub(crate) const PASSWORD: &str = "viewerPasswordOf24Chars+";

/// One video section that receives VP8, VP9 and H.264.
pub(crate) fn offer() -> String {
    let fingerprint = ["A5"; 32].join(":");
    let lines = [
        "v=0",
        "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=msid-semantic: WMS",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 102",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        &format!("a=ice-ufrag:{UFRAG}"),
        &format!("a=ice-pwd:{PASSWORD}"),
        "a=ice-options:trickle",
        &format!("a=fingerprint:sha-256 {fingerprint}"),
        "a=setup:actpass",
        "a=mid:0",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=rtpmap:98 VP9/90000",
        "a=fmtp:98 profile-id=0",
        "a=rtpmap:102 H264/90000",
        "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    ];
    lines.join("\r\n") + "\r\n"
}

/// An offer as a WHIP publisher writes it: one video section that sends VP8, VP9 and H.264.
pub(crate) fn publisher_offer() -> String {
    offer().replace("a=recvonly\r\n", "a=sendonly\r\na=msid:stream track\r\na=ssrc:4711 cname:robot\r\n")
}

/// [`publisher_offer`] with simulcast of these RIDs.
pub(crate) fn simulcast_offer(rids: &[&str]) -> String {
    let lines: String = rids.iter().map(|rid| format!("a=rid:{rid} send\r\n")).collect();
    let extensions = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
                      a=extmap:5 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                      a=extmap:6 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n";
    let offer = publisher_offer().replace("a=ssrc:4711 cname:robot\r\n", "");
    offer + extensions + &lines + &format!("a=simulcast:send {}\r\n", rids.join(";"))
}

/// [`publisher_offer`] with an audio section before it.
pub(crate) fn publisher_offer_with_audio() -> String {
    let offer = publisher_offer();
    let (session, video) = offer.split_at(offer.find("m=video").expect("there is one"));
    let audio: String = video
        .lines()
        .filter(|line| !["a=rtpmap", "a=fmtp", "a=rtcp-fb", "a=ssrc"].iter().any(|key| line.starts_with(key)))
        .map(|line| {
            line.replace("m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 102", "m=audio 9 UDP/TLS/RTP/SAVPF 111")
                .replace("a=mid:0", "a=mid:1")
                + "\r\n"
        })
        .collect();
    session.replace("BUNDLE 0", "BUNDLE 1 0") + &audio + "a=rtpmap:111 opus/48000/2\r\n" + video
}

/// The media section of [`offer`].
fn section() -> String {
    let offer = offer();
    let start = offer.find("m=video").expect("there is one");
    offer[start..].to_owned()
}

/// [`offer`] with a second video section in the same bundle.
pub(crate) fn offer_of_two_cameras() -> String {
    offer_of_cameras(2)
}

/// [`offer`] with so many video sections in the same bundle.
pub(crate) fn offer_of_cameras(cameras: usize) -> String {
    let mids: Vec<String> = (0..cameras).map(|mid| mid.to_string()).collect();
    let more: String = mids.iter().skip(1).map(|mid| section().replace("a=mid:0", &format!("a=mid:{mid}"))).collect();
    offer().replace("BUNDLE 0", &format!("BUNDLE {}", mids.join(" "))) + &more
}

/// [`offer`] with an audio section beside it, inside the bundle or outside.
pub(crate) fn offer_with_audio(bundled: bool) -> String {
    let audio = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
                 a=rtpmap:111 opus/48000/2\r\n";
    let group = if bundled { "BUNDLE 0 1" } else { "BUNDLE 1" };
    offer().replace("BUNDLE 0", group) + audio
}

/// An SDP fragment (RFC 8840) with one candidate, under this user fragment.
pub(crate) fn fragment(ufrag: &str) -> String {
    format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{PASSWORD}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.7 61764 typ host\r\n"
    )
}
