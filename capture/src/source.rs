//! Starting, watching and stopping a source.
//!
//! Each source runs on its own named thread and puts its frames into one [`FrameBuffer`]. What can go wrong outside the
//! program (no such file, device or helper program, a device that stalls or vanishes) never ends a source: it is then
//! [`Degraded`](crate::SourceState::Degraded), keeps trying, and comes back by itself.
//!
//! **Invariants.** A source ends only by its handle being stopped or dropped, or by its buffer being closed. Once
//! [`SourceHandle::stop`] has returned no frame of the source reaches the buffer.
//!
//! What it does not do: close the buffer. That is the owner's business, who may start another source on it.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use lenscast_media::sync::Arc;
use lenscast_media::{Frame, Resolution};
use thiserror::Error;
use tracing::error;

use crate::camera_config::CameraConfig;
use crate::outlet::Outlet;
use crate::status::StatusBoard;
use crate::stop_signal::StopSignal;
use crate::{FrameBuffer, FrameRate, Pattern, SourceStatus, file_source, pattern_source};

/// Where frames come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceConfig {
    /// A moving test picture with a burnt-in frame number and capture time.
    Pattern {
        /// Both sides at least [`Pattern::MIN_SIDE`].
        resolution: Resolution,
        /// Frames a second.
        rate: FrameRate,
    },
    /// A file, looped for ever: Y4M by ourselves, anything else through `ffmpeg` where that is installed.
    File {
        /// Must be a regular file.
        path: PathBuf,
        /// Scales to this size, with black bars where the shapes differ. The file's own size if `None`.
        resolution: Option<Resolution>,
        /// Drops frames down to this rate. The file's own rate if `None` or if that is lower.
        rate: Option<FrameRate>,
    },
    /// A camera of this machine.
    Camera(CameraConfig),
}

/// Starts sources. See the module's text.
#[derive(Debug)]
pub enum Source {}

/// Why a source cannot even be started. What may change by itself is no such error: see the module's text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartSourceError {
    /// The test picture has no room for its burnt-in code.
    #[error(
        "source {name}: resolution {resolution} is too small for the test pattern: both sides must be at least {min}",
        min = Pattern::MIN_SIDE
    )]
    PatternTooSmall {
        /// The source.
        name: String,
        /// What was asked for.
        resolution: Resolution,
    },
    /// The program was built without the feature `camera`.
    #[error("source {name}: this build has no camera support (cargo feature `camera` of lenscast-capture)")]
    CameraUnsupported {
        /// The source.
        name: String,
    },
    /// The operating system gave no thread or file descriptor.
    #[error("source {name}: cannot start its thread: {source}")]
    Thread {
        /// The source.
        name: String,
        /// What it said.
        source: io::Error,
    },
}

impl Source {
    /// Starts a source called `name` that puts its frames into `buffer`.
    ///
    /// # Errors
    ///
    /// [`StartSourceError`], for what can never work.
    pub fn start(
        name: &str,
        config: SourceConfig,
        buffer: Arc<FrameBuffer<Frame>>,
    ) -> Result<SourceHandle, StartSourceError> {
        let out_of_resources = |source| StartSourceError::Thread { name: name.to_owned(), source };
        let board = Arc::new(StatusBoard::new(name));
        let stop = Arc::new(StopSignal::new().map_err(out_of_resources)?);
        let outlet = Outlet::new(buffer, Arc::clone(&board));
        let run = prepare(name, config, outlet, Arc::clone(&stop))?;
        let ending = EndOfThread(Arc::clone(&board));
        let thread = thread::Builder::new()
            // A thread's name is a C string.
            .name(name.replace('\0', "?"))
            .spawn(move || {
                let _ending = ending;
                run();
            })
            .map_err(out_of_resources)?;
        Ok(SourceHandle { board, stop, thread: Some(thread) })
    }
}

fn prepare(
    name: &str,
    config: SourceConfig,
    outlet: Outlet,
    stop: Arc<StopSignal>,
) -> Result<Box<dyn FnOnce() + Send>, StartSourceError> {
    Ok(match config {
        SourceConfig::Pattern { resolution, rate } => {
            let pattern = Pattern::new(resolution)
                .ok_or_else(|| StartSourceError::PatternTooSmall { name: name.to_owned(), resolution })?;
            Box::new(move || pattern_source::run(pattern, rate, &outlet, &stop))
        }
        SourceConfig::File { path, resolution, rate } => {
            let file = file_source::FileSource::new(path, resolution, rate);
            Box::new(move || file.run(&outlet, &stop))
        }
        #[cfg(feature = "camera")]
        SourceConfig::Camera(camera) => Box::new(move || crate::camera::run(&camera, &outlet, &stop)),
        #[cfg(not(feature = "camera"))]
        SourceConfig::Camera(_) => return Err(StartSourceError::CameraUnsupported { name: name.to_owned() }),
    })
}

/// Marks the source as stopped when its thread ends, in whatever way.
struct EndOfThread(Arc<StatusBoard>);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A running source. Stops it when dropped.
#[must_use = "a source stops when its handle is dropped"]
pub struct SourceHandle {
    board: Arc<StatusBoard>,
    stop: Arc<StopSignal>,
    /// `None` once joined.
    thread: Option<JoinHandle<()>>,
}

impl SourceHandle {
    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.board.name()
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        self.board.status()
    }

    /// Blocks until `wanted` holds, for `bound` at most; `None` if it did not come to hold. Looks at every change.
    ///
    /// The source waits while `wanted` looks, so `wanted` must not call this handle.
    #[must_use]
    pub fn wait_until(&self, bound: Duration, wanted: impl FnMut(&SourceStatus) -> bool) -> Option<SourceStatus> {
        self.board.wait_until(bound, wanted)
    }

    /// Tells the source to stop, without waiting for it: for an owner of several who does not want to wait for each in turn.
    pub fn request_stop(&self) {
        self.stop.give();
    }

    /// Stops the source and waits for its thread: milliseconds, unless the kernel holds it in a request to a device.
    pub fn stop(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        self.stop.give();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(source = self.board.name(), "the source's thread had panicked");
        }
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

impl fmt::Debug for SourceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceHandle").field("name", &self.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BurnIn, SourceState};

    fn pattern(width: u32, height: u32, rate: u32) -> SourceConfig {
        let resolution = Resolution::new(width, height).unwrap();
        SourceConfig::Pattern { resolution, rate: FrameRate::whole(rate).unwrap() }
    }

    const BOUND: Duration = Duration::from_secs(60);

    #[test]
    fn a_pattern_source_delivers_frames_that_name_themselves_and_their_time() {
        let buffer = Arc::new(FrameBuffer::new());
        let source = Source::start("pattern", pattern(320, 240, 120), Arc::clone(&buffer)).unwrap();
        let mut last: Option<Frame> = None;
        for _ in 0..20 {
            buffer.wait().unwrap();
            let Some(frame) = buffer.try_take() else { continue };
            let burn_in = BurnIn::read(&frame.picture).expect("every frame carries its code");
            assert_eq!(u64::from(burn_in.number), frame.number);
            let age = frame.captured.elapsed();
            let unix_age = std::time::UNIX_EPOCH.elapsed().unwrap().saturating_sub(burn_in.captured_unix);
            assert!(unix_age.abs_diff(age) < Duration::from_secs(1), "burnt-in age {unix_age:?}, age {age:?}");
            assert!(frame.ready >= frame.captured);
            if let Some(last) = last {
                assert!(frame.number > last.number && frame.captured > last.captured);
            }
            last = Some(frame);
        }
        let status = source.wait_until(BOUND, |status| status.counters.frames >= 20).expect("frames are counted");
        assert!(matches!(status.state, SourceState::Live { resolution, .. } if resolution.width() == 320));
        source.stop();
        let _ = buffer.try_take();
        assert!(buffer.try_take().is_none(), "no frame after the stop");
    }

    #[test]
    fn a_closed_buffer_ends_the_source() {
        let buffer = Arc::new(FrameBuffer::new());
        let source = Source::start("pattern", pattern(64, 64, 240), Arc::clone(&buffer)).unwrap();
        buffer.close();
        assert!(source.wait_until(BOUND, |status| status.state == SourceState::Stopped).is_some());
    }

    #[test]
    fn a_pattern_without_room_for_its_code_is_refused_by_name_and_size() {
        let error = Source::start("tiny", pattern(62, 64, 30), Arc::new(FrameBuffer::new())).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("tiny") && text.contains("62x64") && text.contains("64"), "{text}");
    }

    #[test]
    fn any_name_will_do() {
        let source = Source::start("a\0b", pattern(64, 64, 30), Arc::new(FrameBuffer::new())).unwrap();
        assert_eq!(source.name(), "a\0b");
    }
}
