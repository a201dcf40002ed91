//! The configuration file as it is written: every key optional where it has a default, none unknown. What it means, and
//! whether it can be, is decided in [`super`].

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "lenscast configuration")]
pub struct RawConfig {
    /// Web page, WHEP, API and metrics.
    pub http: RawHttp,
    /// Media to viewers.
    pub webrtc: RawWebrtc,
    /// What all cameras together may take, and all viewers.
    pub bandwidth: RawBandwidth,
    /// What is written to standard error.
    pub log: RawLog,
    /// The cameras, in the order the page shows them. Without any camera, stream and pull, one test pattern.
    pub camera: Vec<RawCamera>,
    /// Streams that others send here, shown after the cameras.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stream: Vec<RawStream>,
    /// Streams that are fetched from other lenscasts, shown last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull: Vec<RawPull>,
}

/// Web page, WHEP, API and metrics.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {
    /// TCP addresses to listen on, "address:port" with IPv6 in brackets. Default: port 8080 of all addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<String>>,
    /// A file whose first line is the token that viewers must send as `Authorization: Bearer`. Default: no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Origins whose pages may use WHEP and the API, such as `https://example.org`; `["*"]` is all. Default: with
    /// a token all, without one none but the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_origins: Option<Vec<String>>,
    /// Requests that change something (POST, PUT, PATCH, DELETE) a minute from one address, 1 to 100000. Default: 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub changes_per_minute: Option<u32>,
}

/// Media to viewers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawWebrtc {
    /// UDP addresses to listen on, all on one port, at most one of each family. Default: port 8189 of all addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<String>>,
    /// Addresses under which a one-to-one NAT makes this machine known. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_addresses: Option<Vec<String>>,
    /// Threads that forward packets, 1 to 64. Default: as many as this machine has cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: Option<usize>,
    /// Viewers at once, 1 to 100000; one of several cameras counts for each. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_viewers: Option<usize>,
    /// Seconds a viewer may take to connect, 1 to 300. Default: 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300))]
    pub connect_timeout_s: Option<u64>,
    /// Seconds after which a viewer that sends nothing is gone, 2 to 300. Default: 30 (RFC 7675).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 300))]
    pub consent_timeout_s: Option<u64>,
    /// STUN and TURN servers that viewers are told of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ice_server: Vec<RawIceServer>,
}

/// What all cameras together may take, and all viewers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawBandwidth {
    /// Kilobits a second for all cameras together, each counted once however many watch, headers included; 30 to 10000000.
    /// Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 10_000_000))]
    pub total_kbps: Option<u64>,
    /// Kilobits a second for all viewers together, each counted, headers, retransmissions and probes included; 30 to 10000000.
    /// The last camera of each viewer is always sent at its `min_kbps`, each connection may take 30 kb/s, and viewers without
    /// `transport-cc`, plain RTP and pipes are counted but not limited: the sum exceeds it where these do.
    /// Default: no limit but what each viewer's connection is found to carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 10_000_000))]
    pub max_uplink_kbps: Option<u64>,
    /// Kilobits a second that a viewer's connection is taken to carry until more is known of it, 30 to 100000. Default: 1000,
    /// or `max_uplink_kbps` if that is lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 100_000))]
    pub start_kbps: Option<u64>,
}

/// A STUN or TURN server that viewers are told of.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIceServer {
    /// Its address, such as "turn:turn.example.org:3478?transport=udp".
    pub url: String,
    /// For TURN: the user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN: a file whose first line is the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_file: Option<PathBuf>,
}

/// What is written to standard error.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// "error", "warn", "info", "debug", "trace", or a filter like RUST_LOG's. Default: "info".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// "text" or "json". Default: "text".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<RawLogFormat>,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RawLogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One camera. Exactly one of `pattern`, `file` and `device` says where its pictures come from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawCamera {
    /// Its name in addresses and on the page: 1 to 64 letters, digits, '-', '_' and '.'.
    pub name: String,
    /// `true` for the moving test picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<bool>,
    /// A video file, looped: Y4M, or anything that ffmpeg reads where it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// A camera of this machine: a path ("/dev/video0"), a name under /dev/v4l/by-id, or an index (0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<RawDevice>,
    /// Pixels, even, 16 to 4096; with `height`. Default: 1280 (a file's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 4096))]
    pub width: Option<u32>,
    /// Pixels, even, 16 to 4096; with `width`. Default: 720 (a file's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 4096))]
    pub height: Option<u32>,
    /// Frames a second, 1 to 240. Default: 30 (a file's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 240))]
    pub fps: Option<u32>,
    /// What a device is to deliver: "nv12", "yuyv" or "mjpeg". Default: the cheapest that reaches size and rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// "vp8", "vp9", "h264" or "vpx-encode". Default: "vp8".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Spatial layers (simulcast), 1 to 3, each of half the size of the next. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub layers: Option<usize>,
    /// Temporal layers, 1 to 3; with "vpx-encode" 1. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub temporal_layers: Option<usize>,
    /// What gives way where the CPU or the bitrate does not suffice: "balanced", "maintain-framerate" (the size),
    /// "maintain-resolution" (the frame rate) or "disabled" (nothing). Default: "balanced".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degradation: Option<String>,
    /// Its part of the bandwidth in relation to the others' weights, 0 to 1000000; with 0 it sends nothing. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub weight: Option<f64>,
    /// Below this it pauses rather than send mud, 10 to 100000. Default: 30, or `max_kbps` if that is lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 100_000))]
    pub min_kbps: Option<u64>,
    /// It gets no more than this, 10 to 100000; of several layers the largest, and those below come on top, each up to what suits
    /// its size. Default: by the size, 2500 at 1280x720.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 100_000))]
    pub max_kbps: Option<u64>,
    /// `true`: it gets its minimum even if there is less than all minima take together. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_min: Option<bool>,
}

/// A stream that others send here: by WHIP, unless `rtp` says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawStream {
    /// Its name in addresses and on the page, as a camera's, and no camera's.
    pub name: String,
    /// A file whose first line is the token of whoever may publish it and pause it. Default: `http.token_file`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A file whose first line is a token that plays this stream, and nothing else; `http.token_file`'s plays it too.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub play_token_file: Option<PathBuf>,
    /// A publisher by WHIP is told to send no more than this, 10 to 100000. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 100_000))]
    pub max_kbps: Option<u64>,
    /// Viewers of it at once, 1 to 100000. Default: `webrtc.max_viewers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_viewers: Option<usize>,
    /// What a publisher by WHIP may send, of "vp8", "vp9" and "h264", the most wanted first. Default: all, as the publisher
    /// prefers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codecs: Option<Vec<String>>,
    /// It comes as plain RTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RawRtp>,
}

/// A stream that comes as plain RTP, as GStreamer's rtpvp8pay and udpsink send it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRtp {
    /// The UDP address to listen on, such as "0.0.0.0:5004": not that of `webrtc.listen`.
    pub listen: String,
    /// "vp8", "vp9" or "h264".
    pub codec: String,
    /// The payload type of its packets, 0 to 127 but for 64 to 95. Default: 96.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 127))]
    pub payload_type: Option<u8>,
    /// RTCP comes to the same port. Default: to the next one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rtcp_mux: bool,
    /// Its packets are protected. Default: they are not, and whoever reaches the port can send pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp: Option<RawSrtp>,
}

/// How plain RTP is protected.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSrtp {
    /// "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM" or "AEAD_AES_256_GCM" (RFC 4568, RFC 7714).
    /// Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A file whose first line is master key and salt, base64, as in `a=crypto` behind `inline:`. They protect both what
    /// comes and the reports that are sent back.
    pub key_file: PathBuf,
}

/// A stream of another lenscast, served here to viewers of its own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawPull {
    /// Its name here, as a camera's, and no camera's and no stream's.
    pub name: String,
    /// Where the other lenscast is, such as `http://robot.local:8080`.
    pub url: String,
    /// The name of the camera or stream there. Default: the same as here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// A file whose first line is the token that the other one asks for. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A file whose first line is a token that plays this stream here, and nothing else; `http.token_file`'s plays it too.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub play_token_file: Option<PathBuf>,
    /// Viewers of it here at once, 1 to 100000. Default: `webrtc.max_viewers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_viewers: Option<usize>,
}

/// A path, a name or an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RawDevice {
    /// An index under /dev/video.
    Index(u32),
    /// A path, or a name under /dev/v4l/by-id.
    Name(String),
}

impl<'de> Deserialize<'de> for RawDevice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = RawDevice;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an index such as 0, a path such as \"/dev/video0\", or a name under /dev/v4l/by-id")
            }

            fn visit_i64<E: serde::de::Error>(self, index: i64) -> Result<RawDevice, E> {
                let refused = |_| E::invalid_value(serde::de::Unexpected::Signed(index), &self);
                u32::try_from(index).map(RawDevice::Index).map_err(refused)
            }

            fn visit_u64<E: serde::de::Error>(self, index: u64) -> Result<RawDevice, E> {
                let refused = |_| E::invalid_value(serde::de::Unexpected::Unsigned(index), &self);
                u32::try_from(index).map(RawDevice::Index).map_err(refused)
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<RawDevice, E> {
                Ok(RawDevice::Name(name.to_owned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl std::fmt::Display for RawDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}
