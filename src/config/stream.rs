use std::fmt;
use std::net::SocketAddr;

use lenscast_encoder::BITRATES;
use lenscast_media::{Bitrate, Codec};
use lenscast_transport::ProtectionProfile;

use super::camera::require_name;
use super::raw::{RawPull, RawRtp, RawSrtp, RawStream};
use super::{MAX_VIEWERS, Problems, Secret, secret};

/// One stream that comes in and can be served.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamConfig {
    /// Its name in addresses and on the page.
    pub name: String,
    /// How it comes.
    pub source: StreamSource,
    /// What plays this stream and nothing else, beside the token that plays everything.
    pub play_token: Option<Secret>,
    /// Viewers of it at once.
    pub max_viewers: usize,
}

/// How a stream comes in.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamSource {
    /// Somebody publishes it here.
    Whip(WhipConfig),
    /// Somebody sends it to a port of its own.
    Rtp(RtpConfig),
    /// It is fetched from another lenscast.
    Pull(PullConfig),
}

/// Who may publish a stream, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct WhipConfig {
    /// What a publisher must send as `Authorization: Bearer`; `None`: what everybody must.
    pub token: Option<Secret>,
    /// What a publisher is told to keep to.
    pub max: Option<Bitrate>,
    /// What a publisher may send, the most wanted first; empty: anything, as the publisher prefers.
    pub codecs: Vec<Codec>,
}

/// Where plain RTP comes to, and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct RtpConfig {
    /// The UDP address.
    pub listen: SocketAddr,
    /// The codec.
    pub codec: Codec,
    /// Under this payload type.
    pub payload_type: u8,
    /// RTCP shares the port; if not, it has the next one.
    pub rtcp_mux: bool,
    /// How packets are protected, if they are.
    pub srtp: Option<SrtpConfig>,
}

/// How plain RTP is protected.
#[derive(Debug, Clone, PartialEq)]
pub struct SrtpConfig {
    /// The suite.
    pub profile: ProtectionProfile,
    /// Master key and salt, base64.
    pub key: Secret,
}

/// Where a stream is fetched from.
#[derive(Debug, Clone, PartialEq)]
pub struct PullConfig {
    /// The other lenscast, without a slash at the end.
    pub url: String,
    /// The stream's name there.
    pub stream: String,
    /// What it asks for as `Authorization: Bearer`.
    pub token: Option<Secret>,
}

/// The suites as `a=crypto` calls them (RFC 4568 §6.2, RFC 7714 §14.2).
const SUITES: [(&str, ProtectionProfile); 4] = [
    ("AES_CM_128_HMAC_SHA1_80", ProtectionProfile::Aes128CmHmacSha1_80),
    ("AES_CM_128_HMAC_SHA1_32", ProtectionProfile::Aes128CmHmacSha1_32),
    ("AEAD_AES_128_GCM", ProtectionProfile::AeadAes128Gcm),
    ("AEAD_AES_256_GCM", ProtectionProfile::AeadAes256Gcm),
];

const MAX_STREAMS: usize = 256;

/// The first of the dynamic payload types (RFC 3551 §6).
const FIRST_DYNAMIC: u8 = 96;

impl StreamConfig {
    /// What the API and metrics call this kind of source.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.source {
            StreamSource::Whip(_) => "whip",
            StreamSource::Rtp(_) => "rtp",
            StreamSource::Pull(_) => "pull",
        }
    }

    /// If it comes by WHIP: who may publish.
    #[must_use]
    pub const fn whip(&self) -> Option<&WhipConfig> {
        match &self.source {
            StreamSource::Whip(whip) => Some(whip),
            _ => None,
        }
    }

    /// If it comes as plain RTP: where.
    #[must_use]
    pub const fn rtp(&self) -> Option<&RtpConfig> {
        match &self.source {
            StreamSource::Rtp(rtp) => Some(rtp),
            _ => None,
        }
    }
}

/// Checks all streams of a file. `taken` are the cameras' names.
pub(super) fn streams(
    streams: &[RawStream],
    pulls: &[RawPull],
    taken: &[&str],
    max_viewers: usize,
    problems: &mut Problems,
) -> Vec<StreamConfig> {
    if streams.len() + pulls.len() > MAX_STREAMS {
        let count = streams.len() + pulls.len();
        problems.add(format!("stream, pull: {count} of them, at most {MAX_STREAMS} are possible"));
        return Vec::new();
    }
    let mut taken = taken.to_vec();
    let mut checked = Vec::new();
    for raw in streams {
        let mut check = Checked { kind: "stream", name: &raw.name, problems };
        check.name(&mut taken);
        checked.extend(check.stream(raw, max_viewers));
    }
    for raw in pulls {
        let mut check = Checked { kind: "pull", name: &raw.name, problems };
        check.name(&mut taken);
        checked.extend(check.pull(raw, max_viewers));
    }
    if let Some((first, second, listen)) = shared_port(&checked) {
        problems.add(format!("stream {second:?}: rtp.listen: \"{listen}\" is already used by stream {first:?}"));
    }
    checked
}

fn shared_port(streams: &[StreamConfig]) -> Option<(&str, &str, SocketAddr)> {
    let ports = streams.iter().flat_map(|stream| {
        let rtp = match &stream.source {
            StreamSource::Rtp(rtp) if rtp.listen.port() != 0 => Some(rtp),
            _ => None,
        };
        let own = rtp.map(|rtp| rtp.listen);
        let next = rtp
            .filter(|rtp| !rtp.rtcp_mux)
            .and_then(|rtp| rtp.listen.port().checked_add(1).map(|port| SocketAddr::new(rtp.listen.ip(), port)));
        own.into_iter().chain(next).map(|port| (stream.name.as_str(), port))
    });
    let ports: Vec<_> = ports.collect();
    ports.iter().enumerate().find_map(|(position, (second, listen))| {
        let (first, _) = ports[..position].iter().find(|(_, other)| other == listen)?;
        Some((*first, *second, *listen))
    })
}

/// One stream under examination.
struct Checked<'n, 'p> {
    kind: &'static str,
    name: &'n str,
    problems: &'p mut Problems,
}

impl<'n> Checked<'n, '_> {
    fn problem(&mut self, key: &str, value: impl fmt::Debug, legal: impl fmt::Display) {
        let Self { kind, name, .. } = self;
        self.problems.add(format!("{kind} {name:?}: {key} = {value:?}: {legal}"));
    }

    fn name(&mut self, taken: &mut Vec<&'n str>) {
        if taken.contains(&self.name) {
            let Self { kind, name, .. } = self;
            self.problems.add(format!("{kind}.name = {name:?}: is there twice, names must differ, cameras' too"));
        }
        taken.push(self.name);
        require_name(self.kind, self.name, self.problems);
    }

    fn stream(&mut self, raw: &RawStream, max_viewers: usize) -> Option<StreamConfig> {
        let play_token = self.secret("play_token_file", raw.play_token_file.as_deref());
        let max_viewers = self.max_viewers(raw.max_viewers, max_viewers);
        let source = match &raw.rtp {
            None => StreamSource::Whip(self.whip(raw)?),
            Some(rtp) => {
                for (key, is_set) in [("max_kbps", raw.max_kbps.is_some()), ("codecs", raw.codecs.is_some())] {
                    if is_set {
                        let (kind, name) = (self.kind, self.name);
                        self.problems.add(format!("{kind} {name:?}: {key} is for WHIP only, not beside rtp"));
                    }
                }
                StreamSource::Rtp(self.rtp(rtp)?)
            }
        };
        Some(StreamConfig { name: raw.name.clone(), source, play_token, max_viewers })
    }

    fn whip(&mut self, raw: &RawStream) -> Option<WhipConfig> {
        let token = self.secret("token_file", raw.token_file.as_deref());
        let max = raw.max_kbps.map(Bitrate::from_kbps);
        if let Some(max) = max.filter(|max| !BITRATES.contains(max)) {
            let legal = format!("must be {} to {}", BITRATES.start().as_kbps(), BITRATES.end().as_kbps());
            self.problem("max_kbps", max.as_kbps(), legal);
            return None;
        }
        let mut codecs = Vec::new();
        for text in raw.codecs.iter().flatten() {
            match codec(text) {
                Some(codec) if codecs.contains(&codec) => self.problem("codecs", text, "is there twice"),
                Some(codec) => codecs.push(codec),
                None => self.problem("codecs", text, CODECS),
            }
        }
        if raw.codecs.as_ref().is_some_and(Vec::is_empty) {
            self.problem("codecs", [""; 0], format!("{CODECS}, one at least"));
        }
        Some(WhipConfig { token, max, codecs })
    }

    fn rtp(&mut self, raw: &RawRtp) -> Option<RtpConfig> {
        let listen: Option<SocketAddr> = raw.listen.parse().ok();
        if listen.is_none() {
            self.problem(
                "rtp.listen",
                &raw.listen,
                "must be address and port, such as \"0.0.0.0:5004\" or \"[::]:5004\"",
            );
        }
        let codec = codec(&raw.codec);
        if codec.is_none() {
            self.problem("rtp.codec", &raw.codec, CODECS);
        }
        let payload_type = raw.payload_type.unwrap_or(FIRST_DYNAMIC);
        // RFC 5761 §4: with the marker bit, 64 to 95 are RTCP's.
        if payload_type > 127 || (64..96).contains(&payload_type) {
            self.problem("rtp.payload_type", payload_type, "must be 0 to 63 or 96 to 127");
            return None;
        }
        let srtp = match &raw.srtp {
            None => None,
            Some(srtp) => Some(self.srtp(srtp)?),
        };
        let (listen, rtcp_mux) = (listen?, raw.rtcp_mux);
        if listen.port() == u16::MAX && !rtcp_mux {
            self.problem("rtp.listen", &raw.listen, "must leave a port above it for RTCP, or rtp.rtcp_mux be true");
            return None;
        }
        Some(RtpConfig { listen, codec: codec?, payload_type, rtcp_mux, srtp })
    }

    fn srtp(&mut self, raw: &RawSrtp) -> Option<SrtpConfig> {
        let suite = raw.profile.as_deref().unwrap_or(SUITES[0].0);
        let Some((_, profile)) = SUITES.into_iter().find(|(name, _)| *name == suite) else {
            let suites = SUITES.map(|(suite, _)| suite).join(", ");
            self.problem("rtp.srtp.profile", suite, format!("must be one of {suites}"));
            return None;
        };
        let key = self.secret("rtp.srtp.key_file", Some(&raw.key_file))?;
        let bytes = profile.master_key_len();
        if key.base64().is_none_or(|key| key.len() != bytes) {
            let path = raw.key_file.display().to_string();
            self.problem("rtp.srtp.key_file", path, format!("its first line must be {bytes} bytes in base64"));
            return None;
        }
        Some(SrtpConfig { profile, key })
    }

    fn pull(&mut self, raw: &RawPull, max_viewers: usize) -> Option<StreamConfig> {
        let url = raw.url.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let is_url = host.is_some_and(|host| {
            // It becomes the beginning of a request's address.
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"?#@\\".contains(&byte))
        });
        if url.starts_with("https://") {
            self.problem(
                "url",
                &raw.url,
                "must be http://: TLS is not spoken here, let a tunnel or a proxy on this machine do",
            );
        } else if !is_url {
            self.problem("url", &raw.url, "must be where the other lenscast is, such as \"http://robot.local:8080\"");
        }
        let stream = raw.stream.clone().unwrap_or_else(|| raw.name.clone());
        if raw.stream.is_some() && !super::camera::could_be_name(&stream) {
            self.problem("stream", &stream, "cannot be a stream's name");
        }
        let token = self.secret("token_file", raw.token_file.as_deref());
        Some(StreamConfig {
            name: raw.name.clone(),
            source: StreamSource::Pull(PullConfig { url: url.to_owned(), stream, token }),
            play_token: self.secret("play_token_file", raw.play_token_file.as_deref()),
            max_viewers: self.max_viewers(raw.max_viewers, max_viewers),
        })
    }

    fn max_viewers(&mut self, raw: Option<usize>, default: usize) -> usize {
        if let Some(viewers) = raw.filter(|viewers| !MAX_VIEWERS.contains(viewers)) {
            let legal = format!("must be {} to {}", MAX_VIEWERS.start(), MAX_VIEWERS.end());
            self.problem("max_viewers", viewers, legal);
        }
        raw.unwrap_or(default)
    }

    fn secret(&mut self, key: &str, path: Option<&std::path::Path>) -> Option<Secret> {
        let (kind, name) = (self.kind, self.name);
        secret(&format!("{kind} {name:?}: {key}"), path?, self.problems)
    }
}

const CODECS: &str = "must be \"vp8\", \"vp9\" or \"h264\"";

fn codec(text: &str) -> Option<Codec> {
    Codec::ALL.into_iter().find(|codec| codec.encoding_name().to_ascii_lowercase() == text)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigError, parse};
    use super::*;

    fn streams(text: &str) -> Vec<StreamConfig> {
        Config::from_raw(parse(text).unwrap()).unwrap().streams
    }

    fn problem(text: &str) -> String {
        match Config::from_raw(parse(text).unwrap()) {
            Err(ConfigError::Invalid(problems)) => problems.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_of_stream() {
        let text = "[[stream]]\nname = \"robot\"\nmax_kbps = 900\ncodecs = [\"h264\", \"vp8\"]\n\
                    [[stream]]\nname = \"gate\"\nrtp = { listen = \"127.0.0.1:5004\", codec = \"vp8\" }\n\
                    [[pull]]\nname = \"far\"\nurl = \"http://robot.local:8080/\"\nstream = \"front\"\nmax_viewers = 7\n";
        let [whip, rtp, pull] = &streams(text)[..] else { panic!() };
        let StreamSource::Whip(config) = &whip.source else { panic!("{whip:?}") };
        assert_eq!((config.max, &config.codecs[..]), (Some(Bitrate::from_kbps(900)), &[Codec::H264, Codec::Vp8][..]));
        let StreamSource::Rtp(config) = &rtp.source else { panic!("{rtp:?}") };
        assert_eq!((config.listen.port(), config.codec, config.payload_type), (5004, Codec::Vp8, 96));
        let StreamSource::Pull(config) = &pull.source else { panic!("{pull:?}") };
        assert_eq!((config.url.as_str(), config.stream.as_str()), ("http://robot.local:8080", "front"));
        assert_eq!((whip.max_viewers, pull.max_viewers), (1_000, 7));
        assert_eq!([whip, rtp, pull].map(StreamConfig::kind), ["whip", "rtp", "pull"]);
    }

    #[test]
    fn streams_without_cameras_are_a_relay_without_a_test_pattern() {
        let config = Config::from_raw(parse("[[stream]]\nname = \"robot\"\n").unwrap()).unwrap();
        assert_eq!((config.cameras.len(), config.streams.len()), (0, 1));
        let again = Config::from_raw(parse(&config.to_toml()).unwrap()).unwrap();
        assert_eq!((again.to_toml(), again.cameras.len()), (config.to_toml(), 0));
    }

    #[test]
    fn impossible_streams_are_refused_by_key_value_and_range() {
        let stream = "[[stream]]\nname = \"s\"\n";
        let pull = "[[pull]]\nname = \"s\"\nurl = \"http://a\"\n";
        let rtp = |keys: &str| format!("{stream}rtp = {{ listen = \"0.0.0.0:5004\", codec = \"vp8\", {keys} }}\n");
        for (text, expected) in [
            (format!("{stream}max_kbps = 5\n"), "stream \"s\": max_kbps = 5: must be 10 to 100000"),
            (format!("{stream}max_viewers = 0\n"), "stream \"s\": max_viewers = 0: must be 1 to 100000"),
            (format!("{stream}codecs = [\"av1\"]\n"), "codecs = \"av1\": must be \"vp8\", \"vp9\" or \"h264\""),
            (format!("{stream}codecs = [\"vp8\", \"vp8\"]\n"), "codecs = \"vp8\": is there twice"),
            (format!("{stream}codecs = []\n"), "codecs = []: must be"),
            (
                format!("{stream}token_file = \"/nonexistent\"\n"),
                "stream \"s\": token_file = \"/nonexistent\": No such",
            ),
            (format!("{stream}play_token_file = \"/nonexistent\"\n"), "play_token_file = \"/nonexistent\": No such"),
            (rtp("").replace(":5004", ":65535"), "must leave a port above it for RTCP"),
            (
                format!("{}{}", rtp(""), rtp("").replace(":5004", ":5005").replace("\"s\"", "\"t\"")),
                "\"0.0.0.0:5005\" is already used by stream \"s\"",
            ),
            (rtp("").replace("0.0.0.0:5004", "5004"), "rtp.listen = \"5004\": must be address and port"),
            (pull.replace("http:", "https:"), "url = \"https://a\": must be http://: TLS is not spoken here"),
            (rtp("").replace("vp8", "av1"), "rtp.codec = \"av1\": must be"),
            (rtp("payload_type = 72"), "rtp.payload_type = 72: must be 0 to 63 or 96 to 127"),
            (
                rtp("srtp = { profile = \"X\", key_file = \"k\" }"),
                "rtp.srtp.profile = \"X\": must be one of AES_CM_128",
            ),
            (rtp("srtp = { key_file = \"/nonexistent\" }"), "rtp.srtp.key_file = \"/nonexistent\": No such file"),
            (format!("{}max_kbps = 50\n", rtp("")), "stream \"s\": max_kbps is for WHIP only"),
            (pull.replace("http://a", "ftp://a"), "pull \"s\": url = \"ftp://a\": must be where the other lenscast is"),
            (format!("{pull}stream = \"a/b\"\n"), "pull \"s\": stream = \"a/b\": cannot be a stream's name"),
            (stream.replace("\"s\"", "\"a b\""), "stream.name = \"a b\": must be 1 to 64 letters"),
            (format!("{stream}{pull}"), "pull.name = \"s\": is there twice"),
            (format!("{stream}[[camera]]\nname = \"s\"\npattern = true\n"), "stream.name = \"s\": is there twice"),
            (format!("{}{}", rtp(""), rtp("").replace("\"s\"", "\"t\"")), "is already used by stream \"s\""),
        ] {
            let found = problem(&text);
            assert!(found.contains(expected), "{text:?}: {found}");
        }
    }

    #[test]
    fn a_key_must_be_as_long_as_its_suite_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let text = |profile: &str| {
            format!(
                "[[stream]]\nname = \"s\"\nrtp = {{ listen = \"127.0.0.1:5004\", codec = \"h264\", srtp = {{ profile = {profile:?}, key_file = {path:?} }} }}\n"
            )
        };
        std::fs::write(&path, "A".repeat(40)).unwrap();
        assert_eq!(streams(&text("AES_CM_128_HMAC_SHA1_32")).len(), 1);
        assert!(problem(&text("AEAD_AES_256_GCM")).contains("its first line must be 44 bytes in base64"));
        std::fs::write(&path, "A".repeat(59) + "=").unwrap();
        assert_eq!(streams(&text("AEAD_AES_256_GCM")).len(), 1);
    }
}
