//! A video file, played in a loop at its own rate as if it were a camera.
//!
//! Y4M is read here; anything else goes through [`FfmpegOutput`]. Each pass opens the file anew, so that a file that is
//! replaced plays on, at its new size and rate if need be.
//!
//! **Invariants.** Frames come at the file's rate, or at the lower one that was asked for. When this machine cannot keep
//! up the video plays slower, no frame of it is left out, and the slots that passed are counted. Frame numbers ascend
//! over all passes and interruptions.
//!
//! What it does not do: sound; reading pipes and devices, where opening may block for ever.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lenscast_media::sync::Arc;
use lenscast_media::{Picture, PicturePool, Resolution};
use thiserror::Error;

use crate::FrameRate;
use crate::backoff::Backoff;
use crate::ffmpeg::{FfmpegOutput, SpawnFfmpegError};
use crate::outlet::Outlet;
use crate::scaler::Scaler;
use crate::schedule::Schedule;
use crate::status::StatusBoard;
use crate::stop_signal::StopSignal;
use crate::y4m::{self, OpenY4mError, ReadY4mFrameError, Y4mReader};

/// Plays a file. See the module's text.
#[derive(Debug)]
pub(crate) struct FileSource {
    path: PathBuf,
    resolution: Option<Resolution>,
    rate: Option<FrameRate>,
    ffmpeg: PathBuf,
}

/// What is carried from pass to pass.
struct Playback<'a> {
    outlet: &'a Outlet,
    stop: &'a Arc<StopSignal>,
    scaler: Option<Scaler>,
    decoded: PicturePool,
    scaled: PicturePool,
    /// `None` before the first frame and after an interruption.
    timeline: Option<Timeline>,
    next_number: u64,
    /// Before this moment no `ffmpeg` is started again.
    next_spawn: Instant,
}

/// Which frame is shown when.
struct Timeline {
    file_rate: FrameRate,
    /// The file's rate, or the lower one asked for.
    rate: FrameRate,
    schedule: Schedule,
    /// The number of slot 0.
    first_number: u64,
    /// Frames put into the buffer.
    delivered: u64,
    /// Frames of the file read or passed over.
    consumed: u64,
}

/// How a pass ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PassEnd {
    EndOfFile,
    Stopped,
}

/// Why a file does not play.
#[derive(Debug, Error)]
enum PlayFileError {
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error(transparent)]
    Ffmpeg(#[from] SpawnFfmpegError),
    #[error("{}: {source}", path.display())]
    Header { path: PathBuf, source: OpenY4mError },
    #[error("{}: {source}", path.display())]
    Frame { path: PathBuf, source: ReadY4mFrameError },
    #[error("{} holds no whole frame", path.display())]
    NoFrame { path: PathBuf },
}

/// At most so often is an `ffmpeg` started: a file of one frame would otherwise start one for every frame.
const SPAWN_INTERVAL: Duration = Duration::from_secs(1);

impl FileSource {
    pub(crate) fn new(path: PathBuf, resolution: Option<Resolution>, rate: Option<FrameRate>) -> Self {
        Self { path, resolution, rate, ffmpeg: PathBuf::from("ffmpeg") }
    }

    /// Plays the file over and over until stopped, or until the buffer is closed.
    pub(crate) fn run(&self, outlet: &Outlet, stop: &Arc<StopSignal>) {
        let mut playback = Playback {
            outlet,
            stop,
            scaler: self.resolution.map(Scaler::new),
            decoded: PicturePool::new(),
            scaled: PicturePool::new(),
            timeline: None,
            next_number: 0,
            next_spawn: Instant::now(),
        };
        let mut backoff = Backoff::new();
        loop {
            let before = playback.next_number;
            let result = self.play(&mut playback);
            if playback.next_number > before {
                backoff.reset();
            }
            match result {
                Ok(PassEnd::EndOfFile) => {}
                Ok(PassEnd::Stopped) => return,
                // The stop signal makes reads fail as well.
                Err(_) if stop.is_given() => return,
                Err(error) => {
                    if error.is_stall() {
                        outlet.board().stall();
                    }
                    outlet.board().degrade(&error.to_string());
                    playback.timeline = None;
                    if stop.wait_for(backoff.after_failure()) {
                        return;
                    }
                }
            }
        }
    }

    /// One pass from the file's first frame to its end.
    fn play(&self, playback: &mut Playback<'_>) -> Result<PassEnd, PlayFileError> {
        let input: Box<dyn BufRead> = match self.open()? {
            Opened::Y4m(file) => Box::new(file),
            Opened::Other => {
                if playback.stop.wait_until(playback.next_spawn) {
                    return Ok(PassEnd::Stopped);
                }
                playback.next_spawn = Instant::now() + SPAWN_INTERVAL;
                let stop = Arc::clone(playback.stop);
                let output = FfmpegOutput::spawn(&self.ffmpeg, &self.path, self.resolution, self.rate, stop)?;
                Box::new(BufReader::with_capacity(PIPE_BUFFER, output))
            }
        };
        let path = || self.path.clone();
        let mut reader = Y4mReader::new(input).map_err(|source| PlayFileError::Header { path: path(), source })?;
        loop {
            // Not the delivered ones: at a lower rate than the file's, all frames of a short pass may be passed over.
            match playback.next_frame(&mut reader, self.rate) {
                Ok(Next::Delivered) => {}
                Ok(Next::EndOfFile) if reader.frames() == 0 => return Err(PlayFileError::NoFrame { path: path() }),
                Ok(Next::EndOfFile) => return Ok(PassEnd::EndOfFile),
                Ok(Next::Stopped) => return Ok(PassEnd::Stopped),
                // The rest of the file is lost, what came before it is worth playing again.
                Err(ReadY4mFrameError::Truncated { .. } | ReadY4mFrameError::Marker { .. }) if reader.frames() > 0 => {
                    playback.board().corrupt_frame();
                    return Ok(PassEnd::EndOfFile);
                }
                Err(source) => {
                    if !matches!(source, ReadY4mFrameError::Io { .. }) {
                        playback.board().corrupt_frame();
                    }
                    return Err(PlayFileError::Frame { path: path(), source });
                }
            }
        }
    }

    fn open(&self) -> Result<Opened, PlayFileError> {
        let failed = |source| PlayFileError::Open { path: self.path.clone(), source };
        if !fs::metadata(&self.path).map_err(failed)?.is_file() {
            return Err(PlayFileError::NotAFile { path: self.path.clone() });
        }
        let mut file = BufReader::with_capacity(PIPE_BUFFER, File::open(&self.path).map_err(failed)?);
        let begins_as_y4m = file.fill_buf().map_err(failed)?.starts_with(y4m::MAGIC);
        Ok(if begins_as_y4m { Opened::Y4m(file) } else { Opened::Other })
    }
}

/// As much as a pipe holds.
const PIPE_BUFFER: usize = 64 << 10;

enum Opened {
    Y4m(BufReader<File>),
    Other,
}

enum Next {
    Delivered,
    EndOfFile,
    Stopped,
}

impl Playback<'_> {
    fn board(&self) -> &StatusBoard {
        self.outlet.board()
    }

    /// Reads the next frame to be shown, waits for its time, and delivers it.
    fn next_frame<R: BufRead>(
        &mut self,
        reader: &mut Y4mReader<R>,
        rate: Option<FrameRate>,
    ) -> Result<Next, ReadY4mFrameError> {
        let (resolution, file_rate) = (reader.header().resolution(), reader.header().rate());
        let first_number = self.next_number;
        let timeline = match self.timeline.take() {
            Some(timeline) if timeline.file_rate == file_rate => self.timeline.insert(timeline),
            _ => self.timeline.insert(Timeline::new(file_rate, rate, first_number)),
        };
        while timeline.consumed < timeline.wanted() {
            if !reader.skip_frame()? {
                return Ok(Next::EndOfFile);
            }
            timeline.consumed += 1;
        }
        let mut read = false;
        let decoded = self.decoded.fill(resolution, |picture| {
            read = reader.read_frame(picture)?;
            Ok::<_, ReadY4mFrameError>(())
        })?;
        if !read {
            return Ok(Next::EndOfFile);
        }
        timeline.consumed += 1;
        timeline.delivered += 1;
        let picture = match &mut self.scaler {
            Some(scaler) if scaler.resolution() != resolution => scale(scaler, &mut self.scaled, &decoded),
            _ => decoded,
        };
        let slot = timeline.schedule.next_slot(Instant::now());
        let number = timeline.first_number + slot.number;
        self.next_number = number + 1;
        if self.stop.wait_until(slot.at) {
            return Ok(Next::Stopped);
        }
        self.board().missed_frames(slot.skipped);
        match self.outlet.deliver(picture, number, slot.at) {
            Ok(()) => Ok(Next::Delivered),
            Err(_) => Ok(Next::Stopped),
        }
    }
}

fn scale(scaler: &mut Scaler, pool: &mut PicturePool, from: &Picture) -> std::sync::Arc<Picture> {
    let scaled = pool.fill(scaler.resolution(), |picture| {
        scaler.scale(from, picture);
        Ok::<_, Infallible>(())
    });
    let Ok(picture) = scaled;
    picture
}

impl Timeline {
    fn new(file_rate: FrameRate, rate: Option<FrameRate>, first_number: u64) -> Self {
        let rate = rate.map_or(file_rate, |rate| rate.min(file_rate));
        let schedule = Schedule::new(Instant::now(), rate);
        Self { file_rate, rate, schedule, first_number, delivered: 0, consumed: 0 }
    }

    /// Which frame of the file is the next to be shown, counted over all passes.
    fn wanted(&self) -> u64 {
        self.file_rate.index_at(self.rate.time_of(self.delivered))
    }
}

impl PlayFileError {
    /// True if the frames ceased to come without an error.
    fn is_stall(&self) -> bool {
        let cause = match self {
            Self::Header { source: OpenY4mError::Io(cause), .. }
            | Self::Frame { source: ReadY4mFrameError::Io { source: cause, .. }, .. } => cause,
            _ => return false,
        };
        cause.kind() == io::ErrorKind::TimedOut
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::thread;

    use lenscast_media::Frame;
    use proptest::prelude::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tempfile::TempDir;

    use super::*;
    use crate::stop_signal::Wake;
    use crate::{FrameBuffer, SourceState, SourceStatus};

    const BOUND: Duration = Duration::from_secs(60);

    /// A file source on a thread of its own.
    struct Running {
        buffer: Arc<FrameBuffer<Frame>>,
        board: Arc<StatusBoard>,
        stop: Arc<StopSignal>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Running {
        fn start(source: FileSource) -> Self {
            let (buffer, board) = (Arc::new(FrameBuffer::new()), Arc::new(StatusBoard::new("file")));
            let stop = Arc::new(StopSignal::new().unwrap());
            let outlet = Outlet::new(Arc::clone(&buffer), Arc::clone(&board));
            let thread = thread::spawn({
                let stop = Arc::clone(&stop);
                move || source.run(&outlet, &stop)
            });
            Self { buffer, board, stop, thread: Some(thread) }
        }

        fn wait(&self, wanted: impl FnMut(&SourceStatus) -> bool) -> SourceStatus {
            self.board.wait_until(BOUND, wanted).unwrap_or_else(|| panic!("it is {:?}", self.board.status()))
        }

        fn reason(&self) -> String {
            match self.wait(|status| matches!(status.state, SourceState::Degraded { .. })).state {
                SourceState::Degraded { reason, .. } => reason,
                other => unreachable!("{other:?}"),
            }
        }

        fn wait_live(&self) -> SourceStatus {
            self.wait(|status| matches!(status.state, SourceState::Live { .. }))
        }

        fn frame(&self) -> Frame {
            loop {
                self.buffer.wait().unwrap();
                if let Some(frame) = self.buffer.try_take() {
                    return frame;
                }
            }
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop.give();
            if let Some(thread) = self.thread.take() {
                thread.join().unwrap();
            }
        }
    }

    /// Frames of one plain luma each.
    fn y4m(width: usize, height: usize, rate: &str, lumas: &[u8]) -> Vec<u8> {
        let mut bytes = format!("YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C420jpeg\n").into_bytes();
        for luma in lumas {
            bytes.extend_from_slice(b"FRAME\n");
            bytes.extend(std::iter::repeat_n(*luma, width * height));
            bytes.extend(std::iter::repeat_n(128, 2 * width.div_ceil(2) * height.div_ceil(2)));
        }
        bytes
    }

    fn file(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A shell script in place of `ffmpeg`.
    fn script(directory: &TempDir, text: &str) -> PathBuf {
        let path = file(directory, "ffmpeg", format!("#!/bin/sh\n{text}\n").as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn through(ffmpeg: PathBuf, path: PathBuf) -> FileSource {
        FileSource { ffmpeg, ..FileSource::new(path, None, None) }
    }

    fn luma(frame: &Frame) -> u8 {
        frame.picture.planes().y[0]
    }

    #[test]
    fn a_y4m_file_plays_at_its_own_rate_and_loops() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, "a.y4m", &y4m(32, 18, "48000:1001", &[50, 100, 150]));
        let running = Running::start(FileSource::new(path, None, None));
        let rate = FrameRate::new(48_000, 1_001).unwrap();
        let first = running.frame();
        let (mut last, mut wraps) = (first.clone(), 0);
        while wraps < 3 {
            let frame = running.frame();
            assert!([50, 100, 150].contains(&luma(&frame)));
            assert_eq!(frame.picture.resolution(), Resolution::new(32, 18).unwrap());
            assert!(frame.number > last.number);
            let due = rate.time_of(frame.number - first.number);
            let apart = frame.captured.duration_since(first.captured);
            assert!(apart.abs_diff(due) <= Duration::from_nanos(2), "frame {} at {apart:?}", frame.number);
            wraps += u32::from(luma(&frame) < luma(&last));
            last = frame;
        }
        assert_eq!(running.board.status().counters.corrupt, 0);
    }

    /// Of one frame at 25 frames/s, four passes of five show nothing at 5 frames/s: that is no empty file.
    #[test]
    fn a_lower_rate_plays_a_file_that_is_shorter_than_a_step() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, "a.y4m", &y4m(32, 32, "25:1", &[50]));
        let running = Running::start(FileSource::new(path, None, FrameRate::whole(5)));
        let status = running.wait(|status| status.counters.frames >= 3);
        assert!(matches!(status.state, SourceState::Live { .. }), "{status:?}");
        assert_eq!((status.counters.reconnects, status.counters.corrupt), (0, 0));
    }

    #[test]
    fn a_truncated_file_plays_its_whole_frames_and_counts_the_other() {
        let directory = TempDir::new().unwrap();
        let mut bytes = y4m(32, 32, "120:1", &[50, 100, 200]);
        bytes.truncate(bytes.len() - 1);
        let running = Running::start(FileSource::new(file(&directory, "a.y4m", &bytes), None, None));
        let status = running.wait(|status| status.counters.corrupt >= 3);
        assert!(matches!(status.state, SourceState::Live { .. }), "{status:?}");
        assert!(status.counters.frames >= 2 * 2);
        for _ in 0..6 {
            assert_ne!(luma(&running.frame()), 200);
        }
    }

    #[test]
    fn a_bad_header_degrades_until_the_file_is_replaced() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, "a.y4m", &y4m(0, 32, "25:1", &[]));
        let running = Running::start(FileSource::new(path.clone(), None, None));
        let reason = running.reason();
        assert!(reason.contains(path.to_str().unwrap()) && reason.contains("W (width) is \"0\""), "{reason}");
        let good = file(&directory, "good.y4m", &y4m(32, 32, "25:1", &[50]));
        fs::rename(good, path).unwrap();
        assert_eq!(running.wait_live().counters.reconnects, 1);
    }

    #[test]
    fn what_is_no_playable_file_degrades_with_a_reason() {
        let directory = TempDir::new().unwrap();
        let missing = directory.path().join("missing.y4m");
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let no_frame = file(&directory, "none.y4m", &y4m(32, 32, "25:1", &[]));
        let cut = file(&directory, "cut.y4m", &y4m(32, 32, "25:1", &[9])[..200]);
        for (path, expected) in [
            (missing, "No such file"),
            (directory.path().to_owned(), "not a regular file"),
            (fifo, "not a regular file"),
            (no_frame, "holds no whole frame"),
            (cut, "frame 0 is truncated"),
        ] {
            let running = Running::start(FileSource::new(path.clone(), None, None));
            let reason = running.reason();
            assert!(reason.contains(expected) && reason.contains(path.to_str().unwrap()), "{reason}");
        }
    }

    #[test]
    fn another_size_is_scaled_to_and_odd_sizes_are_cropped() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, "a.y4m", &y4m(65, 33, "60:1", &[77]));
        let own = Running::start(FileSource::new(path.clone(), None, None));
        assert_eq!(own.frame().picture.resolution(), Resolution::new(64, 32).unwrap());
        let wanted = Resolution::new(320, 160).unwrap();
        let scaled = Running::start(FileSource::new(path, Some(wanted), None));
        let frame = scaled.frame();
        assert_eq!((frame.picture.resolution(), luma(&frame)), (wanted, 77));
    }

    #[test]
    fn without_ffmpeg_another_format_is_refused_by_name() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, "a.mp4", b"\0\0\0\x20ftypisom");
        let running = Running::start(through(directory.path().join("no-such-ffmpeg"), path));
        let reason = running.reason();
        assert!(reason.contains("a.mp4") && reason.contains("no-such-ffmpeg is not installed"), "{reason}");
    }

    #[test]
    fn when_ffmpeg_fails_its_last_words_are_the_reason() {
        let directory = TempDir::new().unwrap();
        let ffmpeg = script(&directory, "echo warming up >&2; echo 'file:x: Invalid data found' >&2; exit 1");
        let running = Running::start(through(ffmpeg, file(&directory, "a.mp4", b"junk")));
        let reason = running.reason();
        assert!(reason.contains("ffmpeg failed: file:x: Invalid data found"), "{reason}");
    }

    #[test]
    fn a_hung_ffmpeg_and_its_children_are_stopped_with_the_source() {
        let directory = TempDir::new().unwrap();
        let frame = file(&directory, "one.y4m", &y4m(32, 32, "25:1", &[50]));
        let pids = directory.path().join("pids");
        let ffmpeg = script(
            &directory,
            &format!(
                "sleep 1000 & echo $$ $! > {pids}; cat {frame}; wait",
                pids = pids.display(),
                frame = frame.display()
            ),
        );
        let running = Running::start(through(ffmpeg, file(&directory, "a.mp4", b"junk")));
        running.wait_live();
        let pids = fs::read_to_string(pids).unwrap();
        let processes: Vec<_> = pids
            .split_whitespace()
            .map(|pid| pidfd_open(Pid::from_raw(pid.parse().unwrap()).unwrap(), PidfdFlags::empty()).unwrap())
            .collect();
        assert_eq!(processes.len(), 2);
        drop(running);
        let nobody = StopSignal::new().unwrap();
        for process in processes {
            assert_eq!(nobody.wait(&[process.as_fd()], Some(Instant::now() + BOUND)), Wake::Ready, "still runs");
        }
    }

    #[test]
    fn an_mp4_plays_through_the_real_ffmpeg() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("-a b.mp4");
        let made = std::process::Command::new("ffmpeg")
            .args(["-loglevel", "error", "-f", "lavfi", "-i", "color=c=red:size=160x120:rate=50", "-t", "0.2"])
            .args(["-pix_fmt", "yuv420p"])
            .arg(Path::new(&format!("file:{}", path.display())))
            .status();
        let made = made.expect("ffmpeg is installed: `make test` sees to that");
        assert!(made.success(), "ffmpeg cannot encode: {made}");
        let wanted = Resolution::new(320, 160).unwrap();
        for (resolution, expected) in [(None, Resolution::new(160, 120).unwrap()), (Some(wanted), wanted)] {
            let running = Running::start(FileSource::new(path.clone(), resolution, FrameRate::whole(25)));
            // More frames than one pass has.
            running.wait(|status| status.counters.frames > 8);
            let frame = running.frame();
            assert_eq!(frame.picture.resolution(), expected);
            let (width, height) = (expected.width() as usize, expected.height() as usize);
            let planes = frame.picture.planes();
            let at = height / 4 * (width / 2) + width / 4;
            let centre = [planes.y[height / 2 * width + width / 2], planes.u[at], planes.v[at]];
            let red = [81_u8, 90, 240];
            assert!(centre.iter().zip(red).all(|(got, want)| got.abs_diff(want) <= 3), "{centre:?}");
        }
    }

    proptest! {
        #[test]
        fn a_lower_rate_takes_evenly_spaced_frames(file in 1_u32..=240, asked in 1_u32..=240) {
            let (file, asked) = (FrameRate::whole(file).unwrap(), FrameRate::whole(asked).unwrap());
            let mut timeline = Timeline::new(file, Some(asked), 0);
            let mut last = None;
            for delivered in 0..500 {
                timeline.delivered = delivered;
                let wanted = timeline.wanted();
                let step = file.as_f64() / timeline.rate.as_f64();
                prop_assert!((wanted as f64 - delivered as f64 * step).abs() <= 1.0);
                prop_assert!(last.is_none_or(|last| wanted > last), "a frame was shown twice");
                last = Some(wanted);
            }
        }
    }
}
