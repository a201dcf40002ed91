//! SDP answers: bundled, multiplexed, ICE-lite, DTLS server (RFC 8829 §5.3.1, RFC 8839 §5.3).

use std::fmt::{self, Write as _};

use lenscast_media::MediaCodec;
use lenscast_router::ExtensionId;
use lenscast_router::rtp_parameters::{ExtensionUri, RtcpFeedback};

use crate::offer::{OfferedCodec, Section};
use crate::{Candidate, Fingerprint, IceCredentials};

pub(crate) mod publisher;
pub(crate) mod viewer;

/// What every answer tells of our side.
#[derive(Debug, Clone)]
pub(crate) struct LocalDescription<'a> {
    /// SDP's session identifier: digits, below 2⁶³ (RFC 8829 §5.2.1).
    pub(crate) session: u64,
    pub(crate) credentials: &'a IceCredentials,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) candidates: &'a [Candidate],
    /// Names of the media streams: the cameras'.
    pub(crate) streams: &'a [&'a str],
}

/// Both sides send reference times and return each other's (RFC 3611 §5).
const RECEIVER_ROUND_TRIP: &str = "a=rtcp-xr:rcvr-rtt=all\r\n";

fn write_session<'m>(
    sdp: &mut String,
    mids: impl Iterator<Item = &'m str>,
    local: &LocalDescription<'_>,
) -> fmt::Result {
    write!(sdp, "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", local.session)?;
    sdp.push_str("a=group:BUNDLE");
    for mid in mids {
        write!(sdp, " {mid}")?;
    }
    write!(sdp, "\r\na=msid-semantic: WMS {}\r\na=ice-lite\r\n", local.streams.join(" "))
}

/// A section with one codec, up to where its direction decides what more there is to say.
struct SectionHead<'a> {
    mid: &'a str,
    direction: &'a str,
    codec: &'a OfferedCodec,
    has_rtx: bool,
    max_bps: Option<u64>,
    reduced_size_rtcp: bool,
}

impl SectionHead<'_> {
    fn write(&self, sdp: &mut String, local: &LocalDescription<'_>) -> fmt::Result {
        let kind = if self.codec.codec == MediaCodec::Opus { "audio" } else { "video" };
        write!(sdp, "m={kind} 9 UDP/TLS/RTP/SAVPF {}", self.codec.payload_type)?;
        if let Some(rtx) = self.rtx() {
            write!(sdp, " {rtx}")?;
        }
        sdp.push_str("\r\nc=IN IP4 0.0.0.0\r\n");
        if let Some(bps) = self.max_bps {
            // RFC 8866 §5.8 in kilobits with all headers, RFC 3890 in bits without those below RTP.
            write!(sdp, "b=AS:{}\r\nb=TIAS:{bps}\r\n", bps.div_ceil(1_000))?;
        }
        write!(sdp, "a=mid:{}\r\na={}\r\na=rtcp-mux\r\n", self.mid, self.direction)?;
        if self.reduced_size_rtcp {
            sdp.push_str("a=rtcp-rsize\r\n");
        }
        write!(sdp, "a=setup:passive\r\na=fingerprint:{}\r\n", local.fingerprint)?;
        write!(sdp, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.credentials.ufrag, local.credentials.password)
    }

    fn write_codec(&self, sdp: &mut String, feedback: impl Iterator<Item = RtcpFeedback>) -> fmt::Result {
        let OfferedCodec { codec, payload_type, parameters, .. } = self.codec;
        let clock = if *codec == MediaCodec::Opus { "48000/2" } else { "90000" };
        write!(sdp, "a=rtpmap:{payload_type} {}/{clock}\r\n", codec.encoding_name())?;
        if !parameters.is_empty() {
            write!(sdp, "a=fmtp:{payload_type} {parameters}\r\n")?;
        }
        for feedback in feedback {
            write!(sdp, "a=rtcp-fb:{payload_type} {feedback}\r\n")?;
        }
        if let Some(rtx) = self.rtx() {
            write!(sdp, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload_type}\r\n")?;
        }
        Ok(())
    }

    fn rtx(&self) -> Option<lenscast_router::PayloadType> {
        self.codec.rtx.filter(|_| self.has_rtx)
    }
}

fn write_extension(sdp: &mut String, id: Option<ExtensionId>, uri: ExtensionUri, direction: &str) -> fmt::Result {
    match id {
        Some(id) => write!(sdp, "a=extmap:{}/{direction} {uri}\r\n", id.value()),
        None => Ok(()),
    }
}

fn write_candidates(sdp: &mut String, local: &LocalDescription<'_>) -> fmt::Result {
    for candidate in local.candidates {
        write!(sdp, "a=candidate:{}\r\n", candidate.to_sdp())?;
    }
    sdp.push_str("a=end-of-candidates\r\n");
    Ok(())
}

/// A section we have nothing for: port zero (RFC 3264 §6), outside the bundle (RFC 9143 §7.3.3).
fn write_refusal(sdp: &mut String, section: &Section) -> fmt::Result {
    let format = section.formats.first().map_or("0", String::as_str);
    write!(sdp, "m={} 0 {} {format}\r\nc=IN IP4 0.0.0.0\r\n", section.media, section.protocol)?;
    if let Some(mid) = &section.mid {
        write!(sdp, "a=mid:{mid}\r\n")?;
    }
    sdp.push_str("a=inactive\r\n");
    Ok(())
}
