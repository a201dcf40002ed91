//! The configuration: read from TOML, checked as a whole, and from then on valid by type.
//!
//! A flag wins over the environment, that over the file, that over the default. Errors name the key, its value and what
//! is legal, and all that are found are told at once.

mod camera;
mod need;
mod raw;
mod stream;
mod uplink;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lenscast_media::Bitrate;
use lenscast_transport::{Timeouts, TransportConfig};
use thiserror::Error;

pub use camera::{CameraConfig, CameraSettings, CameraShare};
pub use need::needed;
pub use raw::{
    RawBandwidth, RawCamera, RawConfig, RawDevice, RawHttp, RawIceServer, RawLog, RawLogFormat, RawPull, RawRtp,
    RawSrtp, RawStream, RawWebrtc,
};
pub use stream::{PullConfig, RtpConfig, SrtpConfig, StreamConfig, StreamSource, WhipConfig};
pub use uplink::{DEFAULT_START_KBPS, LEAST_ESTIMATE, MAX_UPLINK_KBPS, START_KBPS, UplinkConfig};

/// A configuration that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Web page, WHEP, API and metrics.
    pub http: HttpConfig,
    /// Media to viewers.
    pub webrtc: WebrtcConfig,
    /// What all cameras together may take, headers included, each counted once. `None` is no limit.
    pub total: Option<Bitrate>,
    /// What viewers' connections may take.
    pub uplink: UplinkConfig,
    /// What is written to standard error.
    pub log: LogConfig,
    /// The cameras, in order, with names of their own. Never empty unless there are streams.
    pub cameras: Vec<CameraConfig>,
    /// The streams that come in, in order, with names of their own.
    pub streams: Vec<StreamConfig>,
    /// The same as it would be written in a file.
    effective: RawConfig,
}

/// Web page, WHEP, API and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Where to listen. If the configuration says nothing, an address family that the system lacks is passed over.
    pub listen: Listen,
    /// What viewers must send as `Authorization: Bearer`, if anything.
    pub token: Option<Secret>,
    /// Origins whose pages may use WHEP and the API.
    pub allowed_origins: AllowedOrigins,
    /// Requests that change something, a minute and address.
    pub changes_per_minute: u32,
}

/// Addresses to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The addresses.
    pub addresses: Vec<SocketAddr>,
    /// False for the default: then it is enough that one of them can be had.
    pub all_required: bool,
}

/// Whose pages may use the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Everybody's.
    Any,
    /// Those of these origins.
    Only(Vec<String>),
}

/// Media to viewers.
#[derive(Debug, Clone, PartialEq)]
pub struct WebrtcConfig {
    /// Where to listen, on one port.
    pub listen: Listen,
    /// Addresses under which a NAT makes this machine known.
    pub public_addresses: Vec<IpAddr>,
    /// Threads that forward.
    pub workers: usize,
    /// Viewers at once.
    pub max_viewers: usize,
    /// How long viewers may be silent.
    pub timeouts: Timeouts,
    /// STUN and TURN servers that viewers are told of.
    pub ice_servers: Vec<IceServer>,
}

/// A STUN or TURN server that viewers are told of.
#[derive(Debug, Clone, PartialEq)]
pub struct IceServer {
    /// Its address.
    pub url: String,
    /// For TURN: user name and password.
    pub credentials: Option<(String, Secret)>,
}

/// What is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter as `tracing_subscriber::EnvFilter` reads it.
    pub filter: String,
    /// How a line is written.
    pub format: RawLogFormat,
}

/// A token or a password: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What it is the base64 of (RFC 4648 §4); `None` if it is none.
    #[must_use]
    pub fn base64(&self) -> Option<Vec<u8>> {
        let text = self.0.trim_end_matches('=').as_bytes();
        let digit = |byte: u8| match byte {
            b'A'..=b'Z' => Some(byte - b'A'),
            b'a'..=b'z' => Some(byte - b'a' + 26),
            b'0'..=b'9' => Some(byte - b'0' + 52),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        };
        let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
        for group in text.chunks(4) {
            if group.len() == 1 {
                return None;
            }
            let bits = group.iter().try_fold(0_u32, |bits, byte| Some(bits << 6 | u32::from(digit(*byte)?)))?;
            let bits = bits << (6 * (4 - group.len()));
            bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
        }
        Some(bytes)
    }

    /// The first line of a file.
    fn from_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let first = text.lines().next().unwrap_or("").trim();
        let printable = first.bytes().all(|byte| byte.is_ascii_graphic());
        if first.is_empty() || !printable {
            return Err("its first line must be printable ASCII without spaces, and not empty".to_owned());
        }
        Ok(Self(first.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a configuration cannot be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{path} is larger than {MAX_FILE_BYTES} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, or has keys that do not exist, or values of the wrong kind.
    #[error("{path}: {message}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong and where, of several lines.
        message: String,
    },
    /// Values that cannot be.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// A thousand cameras take a tenth of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Default ports: HTTP's usual alternative, and the one MediaMTX made known for WebRTC over UDP.
const HTTP_PORT: u16 = 8080;
const WEBRTC_PORT: u16 = 8189;

/// What may be set as the limit of all cameras together: from the default minimum of one camera, without its headers, to ten
/// gigabits. Whether a camera can send with so little is told by [`Config::warnings`].
pub const TOTAL_KBPS: RangeInclusive<u64> = 30..=10_000_000;

/// Viewers that there may be at once.
const MAX_VIEWERS: RangeInclusive<usize> = 1..=100_000;

/// What flags and environment say, over what the file says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `http.listen`
    pub http_listen: Option<Vec<String>>,
    /// `webrtc.listen`
    pub webrtc_listen: Option<Vec<String>>,
    /// `webrtc.public_addresses`
    pub public_addresses: Option<Vec<String>>,
    /// `log.level`
    pub log_level: Option<String>,
    /// `log.format`
    pub log_format: Option<RawLogFormat>,
}

impl Config {
    /// Reads and checks a file; without one, the embedded default: one test pattern.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no TOML, or says what cannot be.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let raw = match path {
            Some(path) => read(path)?,
            None => RawConfig::default(),
        };
        Self::from_raw(overrides.apply(raw))
    }

    /// Checks what a file says.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`], with everything that is wrong.
    pub fn from_raw(mut raw: RawConfig) -> Result<Self, ConfigError> {
        if raw.camera.is_empty() && raw.stream.is_empty() && raw.pull.is_empty() {
            raw.camera.push(RawCamera { name: "pattern".into(), pattern: Some(true), ..RawCamera::default() });
        }
        let mut problems = Problems::default();
        let http = http(&raw.http, &mut problems);
        let webrtc = webrtc(&raw.webrtc, &mut problems);
        let (least, most) = (*TOTAL_KBPS.start(), *TOTAL_KBPS.end());
        let total = raw.bandwidth.total_kbps;
        let total = total.map(|total| problems.within("bandwidth.total_kbps", Some(total), least, (least, most)));
        let total = total.map(Bitrate::from_kbps);
        let uplink = UplinkConfig::new(&raw.bandwidth, &mut problems);
        let log = log(&raw.log, &mut problems);
        let cameras = camera::cameras(&raw.camera, &mut problems);
        let taken: Vec<&str> = raw.camera.iter().map(|camera| camera.name.as_str()).collect();
        let streams = stream::streams(&raw.stream, &raw.pull, &taken, webrtc.max_viewers, &mut problems);
        if !problems.0.is_empty() {
            return Err(ConfigError::Invalid(problems.0));
        }
        let effective = effective(&raw, &http, &webrtc, &uplink, &log, &cameras);
        Ok(Self { http, webrtc, total, uplink, log, cameras, streams, effective })
    }

    /// The configuration as it would be written in a file, defaults filled in. Secrets stay in their own files.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.effective).expect("a configuration has only what TOML can hold")
    }

    /// For the transport, with the UDP addresses that are to be used.
    #[must_use]
    pub fn transport(&self, listen: Vec<SocketAddr>) -> TransportConfig {
        TransportConfig {
            listen,
            public_addresses: self.webrtc.public_addresses.clone(),
            workers: self.webrtc.workers,
            max_sessions: self.webrtc.max_viewers,
            timeouts: self.webrtc.timeouts,
        }
    }
}

impl Overrides {
    fn apply(&self, mut raw: RawConfig) -> RawConfig {
        let Self { http_listen, webrtc_listen, public_addresses, log_level, log_format } = self.clone();
        raw.http.listen = http_listen.or(raw.http.listen);
        raw.webrtc.listen = webrtc_listen.or(raw.webrtc.listen);
        raw.webrtc.public_addresses = public_addresses.or(raw.webrtc.public_addresses);
        raw.log.level = log_level.or(raw.log.level);
        raw.log.format = log_format.or(raw.log.format);
        raw
    }
}

/// Everything wrong that was found so far.
#[derive(Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    pub(crate) fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    /// The value, or the default after noting that it is out of bounds.
    fn within<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: Option<T>,
        default: T,
        bounds: (T, T),
    ) -> T {
        match value {
            Some(value) if value < bounds.0 || value > bounds.1 => {
                self.add(format!("{key} = {value}: must be {} to {}", bounds.0, bounds.1));
                default
            }
            Some(value) => value,
            None => default,
        }
    }
}

fn read(path: &Path) -> Result<RawConfig, ConfigError> {
    let failed = |error| ConfigError::Read { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    // Read no more than is allowed, whatever the file's size claims to be: it may be a device.
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_FILE_BYTES + 1), &mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    parse(&text).map_err(|message| ConfigError::Toml { path: path.to_owned(), message })
}

/// Reads TOML; the error says where and what.
///
/// # Errors
///
/// If `text` is no TOML, or has keys or kinds of values that do not exist.
pub fn parse(text: &str) -> Result<RawConfig, String> {
    toml::from_str(text).map_err(|error| {
        let mut message = error.to_string().trim_end().to_owned();
        if message.contains("unknown field `bitrate_kbps`") {
            message.push_str("\nbitrate_kbps is called max_kbps now");
        }
        message
    })
}

fn http(raw: &RawHttp, problems: &mut Problems) -> HttpConfig {
    let token = raw.token_file.as_ref().and_then(|path| secret("http.token_file", path, problems));
    let allowed_origins = match raw.allowed_origins.as_deref() {
        // Without a token, any page that somebody has open in a browser could watch what only this machine serves.
        None if raw.token_file.is_none() => AllowedOrigins::Only(Vec::new()),
        None => AllowedOrigins::Any,
        Some(origins) if origins.iter().any(|origin| origin == "*") => AllowedOrigins::Any,
        Some(origins) => {
            for origin in origins.iter().filter(|origin| !is_origin(origin)) {
                problems.add(format!(
                    "http.allowed_origins = {origin:?}: must be \"*\", or as a browser sends it: scheme and \
                     host in lower case, and a port other than the scheme's own, such as \"https://example.org\""
                ));
            }
            AllowedOrigins::Only(origins.to_vec())
        }
    };
    HttpConfig {
        listen: listen("http.listen", raw.listen.as_deref(), HTTP_PORT, problems),
        token,
        allowed_origins,
        changes_per_minute: problems.within("http.changes_per_minute", raw.changes_per_minute, 600, (1, 100_000)),
    }
}

/// As RFC 6454 §6.2 has it: what differs from it in case or port never equals what a browser sends.
fn is_origin(origin: &str) -> bool {
    let parts = [("http://", ":80"), ("https://", ":443")];
    let found = parts.into_iter().find_map(|(scheme, port)| Some((origin.strip_prefix(scheme)?, port)));
    found.is_some_and(|(host, default_port)| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
        !host.is_empty() && host.bytes().all(allowed) && !host.ends_with(default_port)
    })
}

fn webrtc(raw: &RawWebrtc, problems: &mut Problems) -> WebrtcConfig {
    let listen = listen("webrtc.listen", raw.listen.as_deref(), WEBRTC_PORT, problems);
    let ports: Vec<u16> = listen.addresses.iter().map(SocketAddr::port).collect();
    let families: Vec<bool> = listen.addresses.iter().map(SocketAddr::is_ipv4).collect();
    if families.iter().filter(|v4| **v4).count() > 1 || families.iter().filter(|v4| !**v4).count() > 1 {
        problems.add("webrtc.listen: must have at most one IPv4 and one IPv6 address".to_owned());
    }
    if ports.windows(2).any(|pair| pair[0] != pair[1]) {
        problems.add(format!("webrtc.listen: all addresses must have the same port, these have {ports:?}"));
    }
    let mut public_addresses = Vec::new();
    for text in raw.public_addresses.iter().flatten() {
        match text.parse::<IpAddr>() {
            Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => public_addresses.push(ip),
            _ => problems.add(format!("webrtc.public_addresses = {text:?}: must be IP addresses, without ports")),
        }
    }
    let seconds = |value| Duration::from_secs(value);
    WebrtcConfig {
        listen,
        public_addresses,
        workers: problems.within("webrtc.workers", raw.workers, cores(), (1, TransportConfig::MAX_WORKERS)),
        max_viewers: problems.within(
            "webrtc.max_viewers",
            raw.max_viewers,
            1_000,
            (*MAX_VIEWERS.start(), *MAX_VIEWERS.end()),
        ),
        timeouts: Timeouts {
            connect: seconds(problems.within("webrtc.connect_timeout_s", raw.connect_timeout_s, 15, (1, 300))),
            consent: seconds(problems.within("webrtc.consent_timeout_s", raw.consent_timeout_s, 30, (2, 300))),
        },
        ice_servers: raw.ice_server.iter().filter_map(|server| ice_server(server, problems)).collect(),
    }
}

/// A worker for each core.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(TransportConfig::MAX_WORKERS))
}

fn ice_server(raw: &RawIceServer, problems: &mut Problems) -> Option<IceServer> {
    let url = &raw.url;
    let known = ["stun:", "stuns:", "turn:", "turns:"].iter().any(|scheme| url.starts_with(scheme));
    // It goes into an HTTP header between angle brackets.
    let printable = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte));
    if !known || !printable {
        problems.add(format!("webrtc.ice_server.url = {url:?}: must begin with stun:, stuns:, turn: or turns:"));
        return None;
    }
    let credentials = match (&raw.username, &raw.credential_file) {
        (Some(username), Some(path)) => {
            if username.is_empty() || !username.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
            {
                problems
                    .add(format!("webrtc.ice_server.username = {username:?}: must be printable ASCII without quotes"));
            }
            Some((username.clone(), secret("webrtc.ice_server.credential_file", path, problems)?))
        }
        (None, None) => None,
        _ => {
            problems.add(format!("webrtc.ice_server {url:?}: username and credential_file must come together"));
            return None;
        }
    };
    Some(IceServer { url: url.clone(), credentials })
}

fn log(raw: &RawLog, problems: &mut Problems) -> LogConfig {
    let filter = raw.level.clone().unwrap_or_else(|| "info".to_owned());
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&filter) {
        problems.add(format!("log.level = {filter:?}: {error}; such as \"info\" or \"warn,lenscast_transport=debug\""));
    }
    LogConfig { filter, format: raw.format.unwrap_or(RawLogFormat::Text) }
}

fn listen(key: &str, raw: Option<&[String]>, port: u16, problems: &mut Problems) -> Listen {
    let Some(texts) = raw else {
        let any: [IpAddr; 2] = [std::net::Ipv4Addr::UNSPECIFIED.into(), std::net::Ipv6Addr::UNSPECIFIED.into()];
        let addresses = any.map(|ip| SocketAddr::new(ip, port)).to_vec();
        return Listen { addresses, all_required: false };
    };
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(address) if addresses.contains(&address) => problems.add(format!("{key} = {text:?}: is there twice")),
            Ok(address) => addresses.push(address),
            Err(_) => problems.add(format!(
                "{key} = {text:?}: must be address and port, such as \"0.0.0.0:{port}\" or \"[::]:{port}\""
            )),
        }
    }
    if texts.is_empty() {
        problems.add(format!("{key} = []: must have at least one address"));
    }
    Listen { addresses, all_required: true }
}

fn secret(key: &str, path: &Path, problems: &mut Problems) -> Option<Secret> {
    match Secret::from_file(path) {
        Ok(secret) => Some(secret),
        Err(error) => {
            problems.add(format!("{key} = {:?}: {error}", path.display().to_string()));
            None
        }
    }
}

fn effective(
    raw: &RawConfig,
    http: &HttpConfig,
    webrtc: &WebrtcConfig,
    uplink: &UplinkConfig,
    log: &LogConfig,
    cameras: &[CameraConfig],
) -> RawConfig {
    let texts = |listen: &Listen| Some(listen.addresses.iter().map(ToString::to_string).collect());
    RawConfig {
        http: RawHttp {
            listen: texts(&http.listen),
            token_file: raw.http.token_file.clone(),
            allowed_origins: Some(match &http.allowed_origins {
                AllowedOrigins::Any => vec!["*".to_owned()],
                AllowedOrigins::Only(origins) => origins.clone(),
            }),
            changes_per_minute: Some(http.changes_per_minute),
        },
        webrtc: RawWebrtc {
            listen: texts(&webrtc.listen),
            public_addresses: Some(webrtc.public_addresses.iter().map(ToString::to_string).collect()),
            workers: Some(webrtc.workers),
            max_viewers: Some(webrtc.max_viewers),
            connect_timeout_s: Some(webrtc.timeouts.connect.as_secs()),
            consent_timeout_s: Some(webrtc.timeouts.consent.as_secs()),
            ice_server: raw.webrtc.ice_server.clone(),
        },
        bandwidth: RawBandwidth { start_kbps: Some(uplink.start.as_kbps()), ..raw.bandwidth.clone() },
        log: RawLog { level: Some(log.filter.clone()), format: Some(log.format) },
        camera: raw.camera.iter().zip(cameras).map(|(raw, camera)| camera.effective(raw)).collect(),
        stream: raw.stream.clone(),
        pull: raw.pull.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match Config::from_raw(parse(text).unwrap()) {
            Err(ConfigError::Invalid(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    fn config(text: &str) -> Config {
        Config::from_raw(parse(text).unwrap()).unwrap()
    }

    #[test]
    fn the_readme_shows_every_key_and_can_be_read() {
        let readme = include_str!("../../README.md");
        let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
        parse(example).unwrap();
        let schema = schemars::schema_for!(RawConfig).to_value();
        let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        let keys =
            definitions.filter_map(|definition| definition["properties"].as_object()).flat_map(|keys| keys.keys());
        let missing: Vec<_> = keys.filter(|key| !example.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "not in the README: {missing:?}");
    }

    #[test]
    fn nothing_at_all_is_one_test_pattern() {
        let config = config("");
        assert_eq!(config.cameras.len(), 1);
        assert_eq!(config.cameras[0].name, "pattern");
        assert_eq!(config.http.listen.addresses.len(), 2);
        assert!(!config.http.listen.all_required);
        assert_eq!(config.webrtc.timeouts.consent, Duration::from_secs(30));
    }

    #[test]
    fn the_effective_configuration_reads_back_as_itself() {
        let text =
            "[webrtc]\npublic_addresses = [\"203.0.113.7\"]\n[[camera]]\nname = \"front\"\npattern = true\nfps = 15\n";
        let config = config(text);
        let again = Config::from_raw(parse(&config.to_toml()).unwrap()).unwrap();
        let meant = |config: &Config| {
            let cameras =
                config.cameras.iter().map(|camera| (camera.source.clone(), camera.settings, camera.share.claim));
            cameras.collect::<Vec<_>>()
        };
        assert_eq!(meant(&again), meant(&config));
        assert_eq!(again.to_toml(), config.to_toml());
        assert!(config.to_toml().contains("consent_timeout_s = 30"));
    }

    #[test]
    fn an_unknown_key_is_named_with_those_there_are() {
        let message = parse("[http]\nport = 8080\n").unwrap_err();
        assert!(message.contains("unknown field `port`") && message.contains("`listen`"), "{message}");
        let message = parse("[[camera]]\nname = \"a\"\nbitrate = \"2M\"\n").unwrap_err();
        assert!(message.contains("unknown field `bitrate`") && message.contains("`max_kbps`"), "{message}");
        assert!(!message.contains("is called"), "{message}");
        let message = parse("[[camera]]\nname = \"a\"\nbitrate_kbps = 900\n").unwrap_err();
        assert!(message.ends_with("bitrate_kbps is called max_kbps now"), "{message}");
    }

    #[test]
    fn shares_and_layers_have_defaults_and_read_back() {
        let all = config("[[camera]]\nname = \"a\"\npattern = true\n").to_toml();
        for line in [
            "layers = 1",
            "temporal_layers = 1",
            "degradation = \"balanced\"",
            "weight = 1.0",
            "min_kbps = 30",
            "max_kbps = 2500",
            "enforce_min = false",
        ] {
            assert!(all.lines().any(|found| found == line), "{line} is not in\n{all}");
        }
        assert_eq!(config("").total, None);
        let low = config("[bandwidth]\ntotal_kbps = 900\n[[camera]]\nname = \"a\"\npattern = true\nmax_kbps = 20\n");
        assert_eq!(low.total, Some(Bitrate::from_kbps(900)));
        assert_eq!(low.cameras[0].share.claim.min, Bitrate::from_kbps(20), "no more than the maximum");
        assert!(low.to_toml().contains("total_kbps = 900"));
        assert_eq!(Config::from_raw(parse(&low.to_toml()).unwrap()).unwrap().total, low.total);
    }

    #[test]
    fn weights_and_limits_that_cannot_be_are_refused() {
        let camera = "[[camera]]\nname = \"a\"\npattern = true\nweight = 0\n";
        let two = format!("{camera}{}", camera.replace("\"a\"", "\"b\""));
        assert_eq!(problems(&two), ["camera.weight = 0: is so of all cameras, one at least must be above 0"]);
        for total in ["29", "10000001"] {
            let found = problems(&format!("[bandwidth]\ntotal_kbps = {total}\n"));
            assert_eq!(found, [format!("bandwidth.total_kbps = {total}: must be 30 to 10000000")]);
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_shown_with_what_is_legal() {
        let message = parse("[[camera]]\nname = \"a\"\ndevice = 1.5\n").unwrap_err();
        assert!(message.contains("an index such as 0, a path"), "{message}");
        let message = parse("[[camera]]\nname = \"a\"\nmax_kbps = \"2 Mb/s\"\n").unwrap_err();
        assert!(message.contains("2 Mb/s") && message.contains("u64"), "{message}");
    }

    #[test]
    fn every_problem_is_told_at_once_with_key_value_and_range() {
        let text = "[http]\nlisten = [\"nowhere\"]\nchanges_per_minute = 0\nallowed_origins = [\"example.org\"]\n\
                    [webrtc]\nworkers = 65\npublic_addresses = [\"0.0.0.0\"]\nconsent_timeout_s = 1\n\
                    listen = [\"0.0.0.0:1\", \"[::]:2\"]\n[log]\nlevel = \"=,=\"\n";
        let found = problems(text).join("\n");
        for expected in [
            "http.listen = \"nowhere\": must be address and port, such as \"0.0.0.0:8080\" or \"[::]:8080\"",
            "http.changes_per_minute = 0: must be 1 to 100000",
            "http.allowed_origins = \"example.org\": must be \"*\", or as a browser sends it",
            "webrtc.workers = 65: must be 1 to 64",
            "webrtc.public_addresses = \"0.0.0.0\": must be IP addresses, without ports",
            "webrtc.consent_timeout_s = 1: must be 2 to 300",
            "webrtc.listen: all addresses must have the same port, these have [1, 2]",
            "log.level = \"=,=\"",
        ] {
            assert!(found.contains(expected), "{expected}\nis not in\n{found}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "s3cret\nsecond line\n").unwrap();
        let text = format!("[http]\ntoken_file = {:?}\n", path.display().to_string());
        let config = config(&text);
        assert_eq!(config.http.token.as_ref().unwrap().expose(), "s3cret");
        assert!(!format!("{config:?}").contains("s3cret") && !config.to_toml().contains("s3cret"));
        std::fs::write(&path, "\n").unwrap();
        assert!(problems(&text)[0].contains("its first line must be printable ASCII"));
        std::fs::remove_file(&path).unwrap();
        assert!(problems(&text)[0].contains("No such file"));
    }

    #[test]
    fn base64_is_read_or_refused() {
        for (text, bytes) in
            [("AAEC/v8=", &[0, 1, 2, 254, 255][..]), ("AA==", &[0]), ("AA", &[0]), ("AAAB", &[0, 0, 1])]
        {
            assert_eq!(Secret(text.to_owned()).base64().as_deref(), Some(bytes), "{text}");
        }
        assert!(["A", "AA-A", "AAAAA"].iter().all(|text| Secret((*text).to_owned()).base64().is_none()));
    }

    #[test]
    fn flags_win_over_the_file() {
        let overrides = Overrides { http_listen: Some(vec!["127.0.0.1:1".to_owned()]), ..Overrides::default() };
        let raw = parse("[http]\nlisten = [\"127.0.0.1:2\"]\n").unwrap();
        let config = Config::from_raw(overrides.apply(raw)).unwrap();
        assert_eq!(config.http.listen.addresses, ["127.0.0.1:1".parse::<SocketAddr>().unwrap()]);
    }

    #[test]
    fn a_file_that_cannot_be_read_or_is_too_large_is_named() {
        let error = Config::load(Some(Path::new("/nonexistent.toml")), &Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent.toml"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.toml");
        std::fs::write(&path, "#".repeat(MAX_FILE_BYTES as usize + 1)).unwrap();
        let error = Config::load(Some(&path), &Overrides::default()).unwrap_err();
        assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_valid_but_never_a_panic(text in "\\PC{0,200}") {
            let _ = parse(&text).map(Config::from_raw);
        }
    }
}
