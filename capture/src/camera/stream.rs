//! Streaming from a V4L2 device through mapped buffers.
//!
//! **Invariants.** At most one buffer is ours at a time; its bytes are read only while it is. A wait ends at its deadline,
//! and at once when the [`StopSignal`] is given. Whatever state the device is in, dropping a stream neither panics nor
//! leaves a mapping behind.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use lenscast_media::sync::Arc;
use thiserror::Error;

use crate::camera::abi;
use crate::camera::device::Device;
use crate::stop_signal::{StopSignal, Wake};

/// A device that streams.
#[derive(Debug)]
pub(crate) struct Stream {
    device: Arc<Device>,
    buffers: Vec<Mapping>,
    /// The buffer that was dequeued last and is not queued again yet.
    held: Option<u32>,
}

/// One filled buffer.
#[derive(Debug)]
pub(crate) struct Filled<'a> {
    /// What the driver says it filled; none if it says that the data are corrupted.
    pub(crate) data: &'a [u8],
    /// Counts the frames that the device captured, wrapping; a gap is what the driver lost.
    pub(crate) sequence: u32,
    /// Time on the driver's clock, which is the monotonic one unless it is a strange driver.
    pub(crate) timestamp: Duration,
}

/// Why there is no next buffer.
#[derive(Debug, Error)]
pub(crate) enum NextError {
    #[error("stopped")]
    Stopped,
    #[error("the device delivered nothing in time")]
    TimedOut,
    #[error("the device fails: {0}")]
    Io(#[from] io::Error),
}

/// Buffers asked for: one being filled, one waiting behind it, one filled, one being read.
const BUFFERS: u32 = 4;
/// Pause after a device said that it was ready and was not, lest that become a busy loop.
const FALSE_ALARM: Duration = Duration::from_millis(5);

impl Stream {
    /// Maps buffers, hands them to the device, and starts it. What is undone if a step fails is undone by dropping.
    pub(crate) fn start(device: Arc<Device>) -> io::Result<Self> {
        let count = device.request_buffers(BUFFERS)?;
        if count == 0 {
            return Err(io::Error::other("the driver gave no buffer"));
        }
        let mut stream = Self { device, buffers: Vec::new(), held: None };
        for index in 0..count {
            let (offset, length) = stream.device.query_buffer(index)?;
            let mapping = Mapping::new(&stream.device, offset, length)?;
            stream.buffers.push(mapping);
        }
        for index in 0..count {
            stream.device.queue_buffer(index)?;
        }
        stream.device.stream_on()?;
        Ok(stream)
    }

    /// Gives back the buffer before, and waits for the next.
    pub(crate) fn next(&mut self, stop: &StopSignal, deadline: Instant) -> Result<Filled<'_>, NextError> {
        if let Some(held) = self.held.take() {
            self.device.queue_buffer(held)?;
        }
        let buffer = loop {
            match stop.wait(&[self.device.as_fd()], Some(deadline)) {
                Wake::Stopped => return Err(NextError::Stopped),
                Wake::TimedOut => return Err(NextError::TimedOut),
                Wake::Ready => {}
            }
            match self.device.dequeue_buffer() {
                Ok(buffer) => break buffer,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A descriptor that stays ready never lets the wait above time out.
                    if Instant::now() >= deadline {
                        return Err(NextError::TimedOut);
                    }
                    stop.wait_until(deadline.min(Instant::now() + FALSE_ALARM));
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mapping = self.buffers.get(buffer.index as usize);
        let mapping = mapping.ok_or_else(|| io::Error::other(format!("the driver filled buffer {}", buffer.index)))?;
        self.held = Some(buffer.index);
        let corrupt = buffer.flags & abi::BUF_FLAG_ERROR != 0;
        let used = if corrupt { 0 } else { (buffer.bytesused as usize).min(mapping.length) };
        Ok(Filled { data: &mapping.bytes()[..used], sequence: buffer.sequence, timestamp: duration(buffer.timestamp) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Each fails if the device is gone; closing it then does the same. The order is the one that drivers ask for:
        // buffers are not freed while they are in use or mapped.
        let _ = self.device.stream_off();
        self.buffers.clear();
        let _ = self.device.request_buffers(0);
    }
}

/// Memory shared with the driver.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn new(device: &Device, offset: u32, length: usize) -> io::Result<Self> {
        let offset = libc::off_t::from(offset);
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                device.as_fd().as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a buffer was mapped at address 0"))?;
        Ok(Self { start, length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable for `length` bytes until `self` is dropped. The driver does not write to a
        // buffer from dequeuing to queuing it again, and `Stream::next` borrows the stream for as long as this is used.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `new`, and whoever borrowed its bytes has given them back.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Zero for a time that makes no sense.
fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros))
}
