//! A video file decoded by an `ffmpeg` child process, as a stream of Y4M.
//!
//! A child rather than a library: the decoders of the world's formats are large, and crash; here they do so in a process
//! of their own. It is installed by the user, or not.
//!
//! **Invariants.** The child never reads our standard input, never outlives its [`FfmpegOutput`], and is reaped. A read
//! ends when the [`StopSignal`] is given, and when nothing has come for [`FfmpegOutput::SILENCE`].
//!
//! What it does not do: pace. `ffmpeg` decodes as far ahead as the pipe holds, and then waits.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use lenscast_media::Resolution;
use lenscast_media::sync::Arc;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid};
use thiserror::Error;

use crate::FrameRate;
use crate::stop_signal::{StopSignal, Wake};

/// The standard output of an `ffmpeg` that decodes a file in a loop. Stops it when dropped.
#[derive(Debug)]
pub(crate) struct FfmpegOutput {
    child: Child,
    stdout: ChildStdout,
    /// `None` once it has ended.
    stderr: Option<ChildStderr>,
    complaint: LastLine,
    stop: Arc<StopSignal>,
    /// [`FfmpegOutput::SILENCE`], but for tests.
    silence: Duration,
}

/// Why `ffmpeg` did not start.
#[derive(Debug, Error)]
pub(crate) enum SpawnFfmpegError {
    #[error("{} is no Y4M, and {} is not installed to decode it", file.display(), program.display())]
    Missing { program: PathBuf, file: PathBuf },
    #[error("cannot start {}: {source}", program.display())]
    Io { program: PathBuf, source: io::Error },
}

impl FfmpegOutput {
    /// So long may it say nothing before it counts as stalled. Decoding starts within a second even over a network
    /// file system; a file that takes longer for one frame is of no use live.
    pub(crate) const SILENCE: Duration = Duration::from_secs(10);

    /// Starts `program` on `file`, scaled into `resolution` with black bars and at `rate` at most, where given.
    pub(crate) fn spawn(
        program: &Path,
        file: &Path,
        resolution: Option<Resolution>,
        rate: Option<FrameRate>,
        stop: Arc<StopSignal>,
    ) -> Result<Self, SpawnFfmpegError> {
        let failed = |source| SpawnFfmpegError::Io { program: program.to_owned(), source };
        let mut url = std::ffi::OsString::from("file:");
        url.push(file);
        let mut child = Command::new(program)
            // No network, whatever a playlist says.
            .args([
                "-nostdin",
                "-hide_banner",
                "-loglevel",
                "error",
                "-protocol_whitelist",
                "file",
                "-stream_loop",
                "-1",
            ])
            .arg("-i")
            // With the protocol named, a path that looks like an option or an address is still a path.
            .arg(url)
            .args(["-map", "0:v:0", "-vf", &filters(resolution, rate), "-f", "yuv4mpegpipe", "pipe:1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that whatever it starts in turn can be stopped with it.
            .process_group(0)
            .spawn()
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => {
                    SpawnFfmpegError::Missing { program: program.to_owned(), file: file.to_owned() }
                }
                _ => failed(source),
            })?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let output =
            Self { child, stdout, stderr: Some(stderr), complaint: LastLine::default(), stop, silence: Self::SILENCE };
        ioctl_fionbio(&output.stdout, true).map_err(|errno| failed(errno.into()))?;
        ioctl_fionbio(output.stderr.as_ref().expect("just set"), true).map_err(|errno| failed(errno.into()))?;
        Ok(output)
    }

    /// Its standard output has ended: the stream's end if it went well, and its last words if not.
    fn end_of_output(&mut self) -> io::Result<usize> {
        const GRACE: Duration = Duration::from_secs(1);
        let deadline = Instant::now() + GRACE;
        if let Ok(pidfd) = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) {
            self.stop.wait(&[pidfd.as_fd()], Some(deadline));
        }
        self.hear_complaints();
        // Not reaped here: until it is, nobody else gets its number, by which `drop` stops its children.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Some(status) = waitid(WaitId::Pid(Pid::from_child(&self.child)), options)? else {
            return Err(io::Error::other("ffmpeg closed its output and did not end"));
        };
        let how = match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => return Ok(0),
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit status".to_owned(),
        };
        Err(io::Error::other(match self.complaint.text() {
            "" => format!("ffmpeg failed: {how}"),
            complaint => format!("ffmpeg failed: {complaint}"),
        }))
    }

    /// Reads what is there of its standard error: no more than a pipe holds, for one who complains all the time may
    /// write faster than this reads.
    fn hear_complaints(&mut self) {
        /// Of 1,024 bytes each, 64 KiB together (pipe(7), "Pipe capacity").
        const READS: u32 = 64;
        let mut bytes = [0; 1_024];
        for _ in 0..READS {
            let Some(stderr) = &mut self.stderr else { return };
            match stderr.read(&mut bytes) {
                Ok(0) => self.stderr = None,
                Ok(length) => self.complaint.push(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.stderr = None,
            }
        }
    }
}

impl Read for FfmpegOutput {
    /// `TimedOut` when it says nothing for [`FfmpegOutput::SILENCE`], `ConnectionAborted` once the stop signal is given,
    /// and `Other` with its last complaint when it has failed.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = Instant::now() + self.silence;
        loop {
            match self.stdout.read(buffer) {
                Ok(0) => return self.end_of_output(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            // Here and not where the wait times out: complaints end the wait too, and need never cease.
            if Instant::now() >= deadline {
                let text = format!("ffmpeg delivered nothing for {} s", self.silence.as_secs_f32());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            self.hear_complaints();
            let mut outputs = vec![self.stdout.as_fd()];
            outputs.extend(self.stderr.as_ref().map(AsFd::as_fd));
            match self.stop.wait(&outputs, Some(deadline)) {
                Wake::Ready | Wake::TimedOut => {}
                Wake::Stopped => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "stopped")),
            }
        }
    }
}

impl Drop for FfmpegOutput {
    fn drop(&mut self) {
        // Only the `wait` below reaps it, so the number is still its own, also if it has ended. Fails if nobody of its group
        // is left to be stopped: very well.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What `ffmpeg` makes of the pictures: a constant rate, our colours, and our size if there is one.
fn filters(resolution: Option<Resolution>, rate: Option<FrameRate>) -> String {
    let fastest = rate.map_or(FrameRate::MAX.to_string(), |rate| rate.to_string());
    let fps = format!("fps=fps=clip(source_fps\\,{}\\,{fastest})", FrameRate::MIN);
    let colours = "out_range=tv:out_color_matrix=bt601";
    match resolution {
        None => format!("{fps},scale={colours},format=yuv420p"),
        Some(resolution) => {
            let (width, height) = (resolution.width(), resolution.height());
            let fit = format!("scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2");
            format!("{fps},{fit}:{colours},format=yuv420p,pad={width}:{height}:(ow-iw)/2:(oh-ih)/2")
        }
    }
}

/// The last line of a stream, bounded.
#[derive(Debug, Default)]
struct LastLine {
    last: String,
    current: Vec<u8>,
}

impl LastLine {
    /// Bytes kept of a line.
    const MAX: usize = 300;

    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line();
            } else if self.current.len() < Self::MAX {
                self.current.push(byte);
            }
        }
    }

    /// The last line that is not blank, without the end if it was long.
    fn text(&mut self) -> &str {
        self.end_line();
        &self.last
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.current);
        if !line.trim().is_empty() {
            self.last = line.trim().to_owned();
        }
        self.current.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    use super::*;

    /// Far longer than anything takes; reached only by a failure.
    const BOUND: Duration = Duration::from_secs(60);

    /// Starts a shell script in place of `ffmpeg`.
    fn spawn(text: &str) -> (FfmpegOutput, Arc<StopSignal>, tempfile::TempDir) {
        let directory = tempfile::TempDir::new().unwrap();
        let program = directory.path().join("ffmpeg");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let stop = Arc::new(StopSignal::new().unwrap());
        let output = FfmpegOutput::spawn(&program, Path::new("a.mp4"), None, None, Arc::clone(&stop)).unwrap();
        (output, stop, directory)
    }

    /// Reading its complaints went on for as long as it wrote them, and each restarted the wait.
    #[test]
    fn one_that_only_complains_has_stalled_and_can_be_stopped() {
        for stopped in [false, true] {
            let (mut output, stop, _directory) = spawn("yes complaint >&2");
            let (tell, told) = mpsc::channel();
            if stopped {
                stop.give();
            } else {
                output.silence = Duration::from_millis(50);
            }
            std::thread::spawn(move || tell.send(output.read(&mut [0; 16]).unwrap_err().kind()));
            let expected = if stopped { io::ErrorKind::ConnectionAborted } else { io::ErrorKind::TimedOut };
            assert_eq!(told.recv_timeout(BOUND), Ok(expected));
        }
    }

    /// It was reaped at the end of its output. Another process could then have its number when its group was stopped.
    #[test]
    fn it_keeps_its_number_until_its_group_is_stopped() {
        for (text, expected) in [("exit 0", None), ("exit 3", Some("exit status 3")), ("kill -9 $$", Some("signal 9"))]
        {
            let (mut output, _stop, _directory) = spawn(text);
            let process = PathBuf::from(format!("/proc/{}", output.child.id()));
            match (output.read(&mut [0; 16]), expected) {
                (Ok(0), None) => {}
                (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (other, _) => panic!("{text}: {other:?}"),
            }
            assert!(process.exists(), "{text}: it is reaped");
            drop(output);
            assert!(!process.exists(), "{text}: it is not reaped");
        }
    }

    #[test]
    fn the_last_words_are_bounded_and_blank_lines_are_none() {
        let mut line = LastLine::default();
        line.push(b"first\nsecond");
        line.push(b" half\n \n");
        assert_eq!(line.text(), "second half");
        line.push(&[b'x'; 10_000]);
        assert_eq!(line.text().len(), LastLine::MAX);
    }
}
