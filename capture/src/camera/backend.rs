//! V4L2 under nokhwa's [`Camera`](nokhwa::Camera).
//!
//! nokhwa brings a V4L2 backend of its own, over the crate `v4l`. This one takes its place, through
//! `Camera::with_custom`, because with that one (nokhwa 0.10.11, nokhwa-bindings-linux 0.1.4, v4l 0.14.0)
//!
//! - a frame that was cut short cannot be told from a whole one: `bytesused` and the driver's error flag are dropped, and
//!   the rest of the buffer, which holds an older frame, is handed out as part of the new one. Torn pictures would be shown
//!   and counted as good. `tests/v4l2.rs` shows this happen;
//! - `poll` waits for ever, and a device that stalls can neither be noticed nor be left without sending signals to the
//!   thread;
//! - a camera whose rate is no whole number cannot be opened (29.97, 7.5), nor one whose name is no UTF-8 or whose colour
//!   space is new, and steps of 0 in a driver's list panic;
//! - errors on closing panic in destructors, two of them nested: that aborts the whole process, all cameras of it.
//!
//! The rest of lenscast sees a `nokhwa::Camera` either way. Once nokhwa tells how much of a buffer is used, and waits with
//! a bound, this module can go.
//!
//! What it does not do: change the format of an open device, and the camera's controls.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use lenscast_media::sync::Arc;
use lenscast_media::sync::atomic::{AtomicU64, Ordering};
use nokhwa::camera_traits::CaptureBackendTrait;
use nokhwa::utils::{
    ApiBackend, CameraControl, CameraFormat, CameraIndex, CameraInfo, ControlValueSetter, FrameFormat,
    KnownCameraControl, Resolution,
};
use nokhwa::{Buffer, NokhwaError};

use crate::PixelFormat;
use crate::camera::device::Device;
use crate::camera::mode::Mode;
use crate::camera::stream::{Filled, NextError, Stream};
use crate::stop_signal::StopSignal;

/// A device in the mode it was set to.
pub(crate) struct Backend {
    device: Arc<Device>,
    /// `None` before it is opened and after it is stopped.
    stream: Option<Stream>,
    format: CameraFormat,
    info: CameraInfo,
    stop: Arc<StopSignal>,
    patience: Patience,
    notes: Arc<Notes>,
    /// `None` before the first frame.
    last_sequence: Option<u32>,
}

/// How long a frame may keep us waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The first: the camera powers up, and finds its exposure.
    pub(crate) first: Duration,
    pub(crate) next: Duration,
}

/// What nokhwa's `Buffer` and errors have no room for.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Frames that the driver lost, by the gaps in its numbers.
    lost: AtomicU64,
}

/// What [`CaptureBackendTrait::frame`] says when no frame came in time. nokhwa's errors are texts.
pub(crate) const STALLED: &str = "no frame in time";

impl Backend {
    pub(crate) fn new(
        device: Device,
        path: &str,
        mode: &Mode,
        stop: Arc<StopSignal>,
        patience: Patience,
        notes: Arc<Notes>,
    ) -> Self {
        let resolution = Resolution::new(mode.resolution.width(), mode.resolution.height());
        let frame_rate = mode.interval.and_then(|i| i.duration()).map_or(0, |i| (1.0 / i.as_secs_f64()).round() as u32);
        Self {
            device: Arc::new(device),
            stream: None,
            format: CameraFormat::new(resolution, frame_format(mode.format), frame_rate),
            info: CameraInfo::new(path, path, "", CameraIndex::String(path.to_owned())),
            stop,
            patience,
            notes,
            last_sequence: None,
        }
    }

    fn next(&mut self) -> Result<Filled<'_>, NokhwaError> {
        let stream = self.stream.as_mut().ok_or_else(|| read_error(&"the stream is not open"))?;
        let patience = if self.last_sequence.is_none() { self.patience.first } else { self.patience.next };
        match stream.next(&self.stop, Instant::now() + patience) {
            Ok(filled) => {
                if let Some(last) = self.last_sequence.replace(filled.sequence) {
                    self.notes.lost.fetch_add(lost_between(last, filled.sequence), Ordering::Relaxed);
                }
                Ok(filled)
            }
            Err(NextError::TimedOut) => Err(read_error(&STALLED)),
            Err(error) => Err(read_error(&error)),
        }
    }
}

impl Notes {
    /// Frames that the driver lost since this was asked last.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl CaptureBackendTrait for Backend {
    fn backend(&self) -> ApiBackend {
        ApiBackend::Video4Linux
    }

    fn camera_info(&self) -> &CameraInfo {
        &self.info
    }

    /// The format is what the device said it would deliver when it was set.
    fn refresh_camera_format(&mut self) -> Result<(), NokhwaError> {
        Ok(())
    }

    fn camera_format(&self) -> CameraFormat {
        self.format
    }

    fn resolution(&self) -> Resolution {
        self.format.resolution()
    }

    fn frame_rate(&self) -> u32 {
        self.format.frame_rate()
    }

    fn frame_format(&self) -> FrameFormat {
        self.format.format()
    }

    fn open_stream(&mut self) -> Result<(), NokhwaError> {
        let stream = Stream::start(Arc::clone(&self.device));
        self.stream = Some(stream.map_err(|error| NokhwaError::OpenStreamError(explain(&error)))?);
        self.last_sequence = None;
        Ok(())
    }

    fn is_stream_open(&self) -> bool {
        self.stream.is_some()
    }

    /// The buffer holds what the driver filled, and nothing if it says that this is corrupted.
    ///
    /// Its timestamp is the driver's: time on the monotonic clock, not since 1970 as of nokhwa's own backends. There and
    /// back, a step of the wall clock in between would shift it. `None` if the driver gives none.
    fn frame(&mut self) -> Result<Buffer, NokhwaError> {
        let (resolution, format) = (self.format.resolution(), self.format.format());
        let filled = self.next()?;
        let timestamp = Some(filled.timestamp).filter(|time| !time.is_zero());
        Ok(Buffer::with_timestamp(resolution, filled.data, format, timestamp))
    }

    fn frame_raw(&mut self) -> Result<Cow<'_, [u8]>, NokhwaError> {
        Ok(Cow::Borrowed(self.next()?.data))
    }

    fn stop_stream(&mut self) -> Result<(), NokhwaError> {
        self.stream = None;
        Ok(())
    }

    fn set_camera_format(&mut self, _: CameraFormat) -> Result<(), NokhwaError> {
        unsupported()
    }

    fn compatible_list_by_resolution(&mut self, _: FrameFormat) -> Result<HashMap<Resolution, Vec<u32>>, NokhwaError> {
        unsupported()
    }

    fn compatible_fourcc(&mut self) -> Result<Vec<FrameFormat>, NokhwaError> {
        unsupported()
    }

    fn set_resolution(&mut self, _: Resolution) -> Result<(), NokhwaError> {
        unsupported()
    }

    fn set_frame_rate(&mut self, _: u32) -> Result<(), NokhwaError> {
        unsupported()
    }

    fn set_frame_format(&mut self, _: FrameFormat) -> Result<(), NokhwaError> {
        unsupported()
    }

    fn camera_control(&self, _: KnownCameraControl) -> Result<CameraControl, NokhwaError> {
        unsupported()
    }

    fn camera_controls(&self) -> Result<Vec<CameraControl>, NokhwaError> {
        unsupported()
    }

    fn set_camera_control(&mut self, _: KnownCameraControl, _: ControlValueSetter) -> Result<(), NokhwaError> {
        unsupported()
    }
}

/// Negotiation is over when a backend exists; to change the mode, lenscast opens the device anew.
fn unsupported<T>() -> Result<T, NokhwaError> {
    Err(NokhwaError::UnsupportedOperationError(ApiBackend::Video4Linux))
}

fn read_error(why: &dyn std::fmt::Display) -> NokhwaError {
    NokhwaError::ReadFrameError(why.to_string())
}

/// What a device's error means to whoever has plugged it in.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => format!("another program uses it ({error})"),
        Some(libc::EACCES) => format!("not allowed to open it; is the user in the group video? ({error})"),
        Some(libc::ENODEV | libc::ENXIO) => format!("it is gone ({error})"),
        Some(libc::ENOTTY) => format!("it is no video device ({error})"),
        _ => error.to_string(),
    }
}

const fn frame_format(format: PixelFormat) -> FrameFormat {
    match format {
        PixelFormat::Nv12 => FrameFormat::NV12,
        PixelFormat::Yuyv => FrameFormat::YUYV,
        PixelFormat::Mjpeg => FrameFormat::MJPEG,
    }
}

/// How many numbers lie between two that wrap. None if they stand still or jump back: some drivers do not count.
const fn lost_between(last: u32, next: u32) -> u64 {
    let step = next.wrapping_sub(last);
    if step == 0 || step > u32::MAX / 2 { 0 } else { step as u64 - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_the_drivers_numbers_are_lost_frames() {
        assert_eq!(lost_between(7, 8), 0);
        assert_eq!(lost_between(7, 10), 2);
        assert_eq!(lost_between(u32::MAX, 1), 1);
        assert_eq!((lost_between(7, 7), lost_between(7, 6)), (0, 0));
    }
}
