//! What a device's text file says. One `key = value` a line; `#` begins a comment.
//!
//! | key | value | unless given |
//! |---|---|---|
//! | `card`, `driver`, `bus` | texts; `\xNN` is a byte | `Fake camera`, `fake`, `usb-fake` |
//! | `kind` | `capture`, `metadata` or `output` | `capture` |
//! | `plug` | a number; an open device whose file comes to have another is gone | 0 |
//! | `mode` | `YUYV 640x480 30,15`; `MJPG 1280x720 30000/1001`; `NV12 32..2592+2x32..1944+2 5..90`; any number of lines | none |
//! | `left`, `right` | Y, U and V of each half of the picture, as `81,90,240` | black |
//! | `mjpeg` | a JPEG file, relative to the text file | none |
//! | `tail` | bytes of garbage behind each JPEG | 0 |
//! | `padding` | bytes between the rows of raw formats | 0 |
//! | `pace` | milliseconds from frame to frame, whatever rate was set | the rate's |
//! | `age` | milliseconds that a frame is old when it is delivered | 0 |
//! | `stamp` | `monotonic`, `none`, or `future` | `monotonic` |
//! | `open` | the error number that opening fails with | |
//! | `busy` | `yes`: formats and buffers are refused with EBUSY | |
//! | `grant` | the size that S_FMT grants whatever is asked, as `640x360` | |
//! | `streamon` | the error number that STREAMON fails with | |
//! | `stall` | `yes`: no frame comes | |
//! | `alarm` | `yes`: while no frame comes, poll says that one has | |
//! | `short` | bytes filled of each frame | all |
//! | `buffer` | the length of the buffers in bytes | what the format needs |
//! | `error` | `yes`: each frame carries the error flag | |
//! | `garbage` | `yes`: each frame is noise | |
//! | `lose` | frames lost between any two | 0 |

use std::path::Path;

/// A parsed file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) card: Vec<u8>,
    pub(crate) driver: Vec<u8>,
    pub(crate) bus: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) plug: u32,
    pub(crate) modes: Vec<ModeLine>,
    pub(crate) left: [u8; 3],
    pub(crate) right: [u8; 3],
    pub(crate) mjpeg: Vec<u8>,
    pub(crate) tail: usize,
    pub(crate) padding: u32,
    pub(crate) pace_millis: Option<u64>,
    pub(crate) age_millis: i64,
    pub(crate) stamp: Stamp,
    pub(crate) open: Option<i32>,
    pub(crate) busy: bool,
    pub(crate) grant: Option<[u32; 2]>,
    pub(crate) streamon: Option<i32>,
    pub(crate) stall: bool,
    pub(crate) alarm: bool,
    pub(crate) short: Option<usize>,
    pub(crate) buffer: Option<u32>,
    pub(crate) error: bool,
    pub(crate) garbage: bool,
    pub(crate) lose: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Capture,
    Metadata,
    Output,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stamp {
    #[default]
    Monotonic,
    None,
    Future,
}

/// One `mode` line.
#[derive(Debug, Clone)]
pub(crate) struct ModeLine {
    pub(crate) fourcc: [u8; 4],
    /// Least, greatest and step.
    pub(crate) width: [u32; 3],
    pub(crate) height: [u32; 3],
    pub(crate) rates: Rates,
}

/// As numerator and denominator of the rate.
#[derive(Debug, Clone)]
pub(crate) enum Rates {
    Each(Vec<[u32; 2]>),
    Between([u32; 2], [u32; 2]),
}

impl ModeLine {
    pub(crate) const fn is_discrete(&self) -> bool {
        self.width[0] == self.width[1] && self.height[0] == self.height[1]
    }
}

impl Settings {
    /// Reads a device's file. `None` if there is none.
    ///
    /// # Panics
    ///
    /// If the file says something that this crate does not understand: the test is wrong.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut settings = Self {
            card: b"Fake camera".to_vec(),
            driver: b"fake".to_vec(),
            bus: b"usb-fake".to_vec(),
            left: [16, 128, 128],
            right: [16, 128, 128],
            ..Self::default()
        };
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            if line.is_empty() {
                continue;
            }
            let understood = line.split_once('=').and_then(|(key, value)| settings.set(key.trim(), value.trim(), path));
            assert!(understood.is_some(), "{}: cannot understand {line:?}", path.display());
        }
        Some(settings)
    }

    fn set(&mut self, key: &str, value: &str, path: &Path) -> Option<()> {
        match key {
            "card" => self.card = bytes(value)?,
            "driver" => self.driver = bytes(value)?,
            "bus" => self.bus = bytes(value)?,
            "kind" => {
                self.kind = match value {
                    "capture" => Kind::Capture,
                    "metadata" => Kind::Metadata,
                    "output" => Kind::Output,
                    _ => return None,
                };
            }
            "plug" => self.plug = value.parse().ok()?,
            "mode" => self.modes.push(mode(value)?),
            "left" => self.left = colour(value)?,
            "right" => self.right = colour(value)?,
            "mjpeg" => self.mjpeg = std::fs::read(path.with_file_name(value)).ok()?,
            "tail" => self.tail = value.parse().ok()?,
            "padding" => self.padding = value.parse().ok()?,
            "pace" => self.pace_millis = Some(value.parse().ok()?),
            "age" => self.age_millis = value.parse().ok()?,
            "stamp" => {
                self.stamp = match value {
                    "monotonic" => Stamp::Monotonic,
                    "none" => Stamp::None,
                    "future" => Stamp::Future,
                    _ => return None,
                };
            }
            "open" => self.open = Some(value.parse().ok()?),
            "busy" => self.busy = yes(value)?,
            "grant" => {
                let (width, height) = value.split_once('x')?;
                self.grant = Some([width.parse().ok()?, height.parse().ok()?]);
            }
            "streamon" => self.streamon = Some(value.parse().ok()?),
            "stall" => self.stall = yes(value)?,
            "alarm" => self.alarm = yes(value)?,
            "short" => self.short = Some(value.parse().ok()?),
            "buffer" => self.buffer = Some(value.parse().ok()?),
            "error" => self.error = yes(value)?,
            "garbage" => self.garbage = yes(value)?,
            "lose" => self.lose = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn yes(value: &str) -> Option<bool> {
    match value {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn bytes(value: &str) -> Option<Vec<u8>> {
    let mut parts = value.split("\\x");
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

fn colour(value: &str) -> Option<[u8; 3]> {
    let samples: Option<Vec<u8>> = value.split(',').map(|sample| sample.trim().parse().ok()).collect();
    samples?.try_into().ok()
}

fn mode(value: &str) -> Option<ModeLine> {
    let mut words = value.split_whitespace();
    let fourcc = words.next()?.as_bytes().try_into().ok()?;
    let (width, height) = words.next()?.split_once('x')?;
    let rates = words.next()?;
    let rates = match rates.split_once("..") {
        Some((slow, fast)) => Rates::Between(rate(slow)?, rate(fast)?),
        None => Rates::Each(rates.split(',').map(rate).collect::<Option<_>>()?),
    };
    Some(ModeLine { fourcc, width: steps(width)?, height: steps(height)?, rates })
}

fn steps(value: &str) -> Option<[u32; 3]> {
    let Some((min, rest)) = value.split_once("..") else {
        let one = value.parse().ok()?;
        return Some([one, one, 1]);
    };
    let (max, step) = rest.split_once('+')?;
    Some([min.parse().ok()?, max.parse().ok()?, step.parse().ok()?])
}

fn rate(value: &str) -> Option<[u32; 2]> {
    let (frames, seconds) = value.split_once('/').unwrap_or((value, "1"));
    Some([frames.parse().ok()?, seconds.parse().ok()?])
}
