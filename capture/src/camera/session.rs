//! One camera from opening to whatever ends it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lenscast_media::sync::Arc;
use lenscast_media::{PicturePool, Resolution};
use nokhwa::utils::{ApiBackend, CameraIndex};
use nokhwa::{Camera, NokhwaError};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tracing::debug;

use crate::camera::backend::{Backend, Notes, Patience, STALLED, explain};
use crate::camera::decode::{DecodeFrameError, FrameDecoder};
use crate::camera::device::Device;
use crate::camera::listing::{format_names, is_capture_device, offers};
use crate::camera::mode::{Interval, Mode, choose};
use crate::outlet::Outlet;
use crate::stop_signal::StopSignal;
use crate::{CameraConfig, PixelFormat};

/// What outlives a session: the numbers of the frames, and the pictures.
#[derive(Debug)]
pub(crate) struct Sessions<'a> {
    pub(crate) config: &'a CameraConfig,
    pub(crate) outlet: &'a Outlet,
    pub(crate) stop: &'a Arc<StopSignal>,
    pub(crate) pool: PicturePool,
    pub(crate) next_number: u64,
}

/// Why a session ended, unless it was stopped.
#[derive(Debug, Error)]
pub(crate) enum SessionError {
    #[error("{} is not there", path.display())]
    Missing { path: PathBuf },
    #[error("cannot open {}: {}", path.display(), explain(source))]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is no device to capture video from", path.display())]
    NotCapture { path: PathBuf },
    #[error("{} offers no format that lenscast can read (nv12, yuyv, mjpeg): it offers {offered}", path.display())]
    NothingUsable { path: PathBuf, offered: String },
    #[error("{} does not offer the configured format {format}: it offers {offered}", path.display())]
    FormatNotOffered { path: PathBuf, format: PixelFormat, offered: String },
    #[error("{} refuses {format} {resolution}: {}", path.display(), explain(source))]
    Refused { path: PathBuf, format: PixelFormat, resolution: Resolution, source: io::Error },
    #[error("{} was asked for {format} {resolution} and grants {granted}, which lenscast cannot use", path.display())]
    Granted { path: PathBuf, format: PixelFormat, resolution: Resolution, granted: String },
    #[error("{}: {source}", path.display())]
    Camera { path: PathBuf, source: NokhwaError },
    #[error("{} stalled: no frame for {} s", path.display(), patience.as_secs_f32())]
    Stalled { path: PathBuf, patience: Duration },
    #[error("{} delivers nothing usable: {source}", path.display())]
    Unusable { path: PathBuf, source: DecodeFrameError },
    #[error("{}: the capture code failed: {why}", path.display())]
    Panicked { path: PathBuf, why: String },
}

/// The session was stopped, or its buffer closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// The first frame may take this long: some cameras find their exposure first, and the kernel gives a USB camera 5 s to
/// answer a request (`UVC_CTRL_STREAMING_TIMEOUT`, drivers/media/usb/uvc/uvcvideo.h).
const FIRST_FRAME: Duration = Duration::from_secs(5);
/// A frame may be late by this much, or by [`LATE_FRAMES`] if that is more: cameras lengthen the exposure in the dark.
const LATE: Duration = Duration::from_secs(2);
const LATE_FRAMES: u32 = 5;
/// A capture time further back is a driver's error: its buffers are four, and emptied as they come.
const OLDEST: Duration = Duration::from_secs(10);

/// A camera that is set up and about to stream.
struct Opened {
    camera: Camera,
    mode: Mode,
    decoder: FrameDecoder,
    patience: Patience,
    notes: Arc<Notes>,
}

impl Sessions<'_> {
    /// Opens the camera and delivers its frames until that ends. Contains panics of the crates it is built on.
    pub(crate) fn run(&mut self) -> Result<Stopped, SessionError> {
        let path = self.config.selector.path();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let opened = self.open(&path)?;
            self.stream(&path, opened)
        }));
        result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(SessionError::Panicked { path, why: text.unwrap_or_default() })
        })
    }

    fn open(&self, path: &Path) -> Result<Opened, SessionError> {
        let failed = |source: io::Error| open_error(path, source);
        let device = Device::open(path).map_err(failed)?;
        if !is_capture_device(&device.capability().map_err(failed)?) {
            return Err(SessionError::NotCapture { path: path.to_owned() });
        }
        let mode = self.choose(path, &device)?;
        let pix =
            device.set_format(mode.fourcc, mode.resolution.width(), mode.resolution.height()).map_err(|source| {
                let (format, resolution) = (mode.format, mode.resolution);
                SessionError::Refused { path: path.to_owned(), format, resolution, source }
            })?;
        // A driver may grant another size than it offered; a picture of that size is better than none.
        let granted = Resolution::new(pix.width, pix.height).filter(|_| pix.pixelformat == mode.fourcc);
        let resolution = granted.ok_or_else(|| SessionError::Granted {
            path: path.to_owned(),
            format: mode.format,
            resolution: mode.resolution,
            granted: format!("{} {}x{}", fourcc_text(pix.pixelformat), pix.width, pix.height),
        })?;
        let interval = mode.interval.map(|wanted| granted_interval(wanted, device.set_interval(wanted)));
        let mode = Mode { resolution, interval, ..mode };
        let frame_time = interval.and_then(Interval::duration).unwrap_or_default();
        let patience = Patience { first: FIRST_FRAME, next: LATE.max(frame_time.saturating_mul(LATE_FRAMES)) };
        let notes = Arc::new(Notes::default());
        let name = path.display().to_string();
        let backend = Backend::new(device, &name, &mode, Arc::clone(self.stop), patience, Arc::clone(&notes));
        let index = CameraIndex::String(name);
        Ok(Opened {
            camera: Camera::with_custom(index, ApiBackend::Video4Linux, Box::new(backend)),
            mode,
            decoder: FrameDecoder::new(mode.format, pix.bytesperline as usize),
            patience,
            notes,
        })
    }

    fn choose(&self, path: &Path, device: &Device) -> Result<Mode, SessionError> {
        let wanted = self.config.resolution.unwrap_or(CameraConfig::DEFAULT_RESOLUTION);
        let formats = device.formats().map_err(|source| open_error(path, source))?;
        let offers = offers(device, &formats, wanted);
        choose(&offers, self.config).ok_or_else(|| {
            let (path, offered) = (path.to_owned(), format_names(&formats));
            match self.config.format {
                Some(format) => SessionError::FormatNotOffered { path, format, offered },
                None => SessionError::NothingUsable { path, offered },
            }
        })
    }

    fn stream(&mut self, path: &Path, opened: Opened) -> Result<Stopped, SessionError> {
        let Opened { mut camera, mode, mut decoder, patience, notes } = opened;
        let failed = |source| SessionError::Camera { path: path.to_owned(), source };
        camera.open_stream().map_err(failed)?;
        debug!(
            source = self.outlet.board().name(), path = %path.display(), format = %mode.format,
            resolution = %mode.resolution, rate = mode.interval.map(tracing::field::display), "opened"
        );
        let mut last_good = Instant::now();
        let mut allowed = patience.first;
        loop {
            let buffer = match camera.frame() {
                Ok(buffer) => buffer,
                Err(_) if self.stop.is_given() => return Ok(Stopped),
                Err(NokhwaError::ReadFrameError(text)) if text == STALLED => {
                    return Err(SessionError::Stalled { path: path.to_owned(), patience: allowed });
                }
                Err(source) => return Err(failed(source)),
            };
            let (arrival, arrival_monotonic) = (Instant::now(), monotonic_now());
            let captured = capture_time(buffer.capture_timestamp(), arrival_monotonic, arrival);
            let lost = notes.take_lost();
            self.outlet.board().missed_frames(lost);
            let number = self.next_number + lost;
            self.next_number = number + 1;
            match self.pool.fill(mode.resolution, |picture| decoder.decode(buffer.buffer(), picture)) {
                Ok(picture) => {
                    if self.outlet.deliver(picture, number, captured).is_err() {
                        return Ok(Stopped);
                    }
                    last_good = arrival;
                    allowed = patience.next;
                }
                Err(source) => {
                    debug!(source = self.outlet.board().name(), number, error = %source, "dropped a frame");
                    self.outlet.board().corrupt_frame();
                    if arrival.saturating_duration_since(last_good) > allowed {
                        return Err(SessionError::Unusable { path: path.to_owned(), source });
                    }
                }
            }
        }
    }
}

impl SessionError {
    /// True if there is nothing to open: looking again costs nothing.
    pub(crate) const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// True if frames ceased to come without an error.
    pub(crate) const fn is_stall(&self) -> bool {
        matches!(self, Self::Stalled { .. })
    }
}

fn open_error(path: &Path, source: io::Error) -> SessionError {
    let path = path.to_owned();
    match source.raw_os_error() {
        // A node may linger for a moment after its device.
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => SessionError::Missing { path },
        _ => SessionError::Open { path, source },
    }
}

/// Four characters, or what is left of them.
pub(crate) fn fourcc_text(fourcc: u32) -> String {
    fourcc.to_le_bytes().iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect()
}

/// What the driver made of the interval that was asked for. Not every driver knows rates, and some answer with nonsense
/// such as zeros: it may then run at any, and what was wanted of what it offers is the best guess.
fn granted_interval(wanted: Interval, answer: io::Result<Interval>) -> Interval {
    answer.ok().filter(|granted| granted.duration().is_some()).unwrap_or(wanted)
}

/// The time on the clock that drivers stamp frames by.
fn monotonic_now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// When a frame with this device time, on the same clock as `now`, was captured: its arrival, less its age. The arrival
/// itself if the device gives no time, or one that is not of the last [`OLDEST`].
fn capture_time(device_time: Option<Duration>, now: Duration, arrival: Instant) -> Instant {
    let age = device_time.and_then(|time| now.checked_sub(time));
    age.filter(|age| *age <= OLDEST).and_then(|age| arrival.checked_sub(age)).unwrap_or(arrival)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_old_as_its_device_says_within_reason() {
        let arrival = Instant::now() + Duration::from_secs(100);
        let now = Duration::from_secs(70_000);
        let at = |time| capture_time(time, now, arrival);
        assert_eq!(at(Some(now - Duration::from_millis(40))), arrival - Duration::from_millis(40));
        assert_eq!(at(Some(now)), arrival);
        assert_eq!(at(None), arrival, "no time");
        assert_eq!(at(Some(now + Duration::from_millis(1))), arrival, "in the future");
        assert_eq!(at(Some(now - Duration::from_secs(11))), arrival, "long ago");
    }

    #[test]
    fn an_interval_that_makes_no_sense_is_not_believed() {
        let interval = |numerator, denominator| Interval { numerator, denominator };
        let wanted = interval(1, 5);
        assert_eq!(granted_interval(wanted, Ok(interval(2, 30))), interval(2, 30));
        for nonsense in [interval(0, 0), interval(1, 0), interval(0, 30), interval(u32::MAX, 1)] {
            assert_eq!(granted_interval(wanted, Ok(nonsense)), wanted, "{nonsense:?}");
        }
        assert_eq!(granted_interval(wanted, Err(io::Error::from_raw_os_error(libc::ENOTTY))), wanted);
    }

    #[test]
    fn a_drivers_code_is_shown_whatever_it_is() {
        assert_eq!(fourcc_text(u32::from_le_bytes(*b"H264")), "H264");
        assert_eq!(fourcc_text(u32::from_le_bytes([b'Y', 0, 0xFF, b' '])), "Y???");
    }
}
