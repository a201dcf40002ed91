use std::ffi::{CStr, c_int};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::camera::abi::{self, Request};
use crate::camera::mode::{Interval, IntervalRange, SizeRange, Steps};

/// An open V4L2 device: its requests as methods. Errors are the kernel's.
#[derive(Debug)]
pub(crate) struct Device(File);

/// A kind of frame that a device offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatDescription {
    pub(crate) fourcc: u32,
    pub(crate) text: String,
}

/// A list that goes on beyond this is a driver that does not know its end.
const MAX_LIST: u32 = 1_024;

impl Device {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).map(Self)
    }

    pub(crate) fn capability(&self) -> io::Result<abi::Capability> {
        let mut request = abi::QueryCap(blank());
        self.ioctl(&mut request)?;
        Ok(request.0)
    }

    pub(crate) fn formats(&self) -> io::Result<Vec<FormatDescription>> {
        list(|index| {
            let mut request = abi::EnumFmt(abi::FmtDesc { index, kind: abi::BUF_TYPE_VIDEO_CAPTURE, ..blank() });
            self.ioctl(&mut request)?;
            Ok(FormatDescription { fourcc: request.0.pixelformat, text: text(&request.0.description) })
        })
    }

    pub(crate) fn sizes(&self, fourcc: u32) -> io::Result<Vec<SizeRange>> {
        list(|index| {
            let mut request = abi::EnumFrameSizes(abi::FrmSizeEnum { index, pixel_format: fourcc, ..blank() });
            self.ioctl(&mut request)?;
            let size = request.0;
            Ok(if size.kind == abi::FRMSIZE_TYPE_DISCRETE {
                SizeRange { widths: Steps::one(size.min_width), heights: Steps::one(size.max_width) }
            } else {
                SizeRange {
                    widths: Steps::new(size.min_width, size.max_width, size.step_width),
                    heights: Steps::new(size.min_height, size.max_height, size.step_height),
                }
            })
        })
    }

    pub(crate) fn intervals(&self, fourcc: u32, width: u32, height: u32) -> io::Result<Vec<IntervalRange>> {
        list(|index| {
            let mut request =
                abi::EnumFrameIntervals(abi::FrmIvalEnum { index, pixel_format: fourcc, width, height, ..blank() });
            self.ioctl(&mut request)?;
            let interval = request.0;
            let (min, max) = (Interval::from(interval.min), Interval::from(interval.max));
            let discrete = interval.kind == abi::FRMIVAL_TYPE_DISCRETE;
            Ok(IntervalRange { shortest: min, longest: if discrete { min } else { max } })
        })
    }

    /// Asks for a format and says what the device made of it.
    pub(crate) fn set_format(&self, fourcc: u32, width: u32, height: u32) -> io::Result<abi::PixFormat> {
        let pix = abi::PixFormat { width, height, pixelformat: fourcc, field: abi::FIELD_NONE, ..blank() };
        let mut request: abi::SetFmt = blank();
        request.0.kind = abi::BUF_TYPE_VIDEO_CAPTURE;
        request.0.fmt.pix = pix;
        self.ioctl(&mut request)?;
        // SAFETY: all of the union was written before, and `PixFormat` is made of integers.
        Ok(unsafe { request.0.fmt.pix })
    }

    /// Asks for a frame interval and says what the device made of it, which may be nonsense.
    pub(crate) fn set_interval(&self, interval: Interval) -> io::Result<Interval> {
        let mut request: abi::SetParm = blank();
        request.0.kind = abi::BUF_TYPE_VIDEO_CAPTURE;
        request.0.capture.timeperframe =
            abi::Fract { numerator: interval.numerator, denominator: interval.denominator };
        self.ioctl(&mut request)?;
        Ok(Interval::from(request.0.capture.timeperframe))
    }

    /// Asks for `count` buffers; the driver may give more or fewer. 0 gives all back.
    pub(crate) fn request_buffers(&self, count: u32) -> io::Result<u32> {
        let mut request = abi::ReqBufs(abi::RequestBuffers {
            count,
            kind: abi::BUF_TYPE_VIDEO_CAPTURE,
            memory: abi::MEMORY_MMAP,
            ..blank()
        });
        self.ioctl(&mut request)?;
        Ok(request.0.count)
    }

    /// Where buffer `index` is to be mapped from: offset and length in bytes.
    pub(crate) fn query_buffer(&self, index: u32) -> io::Result<(u32, usize)> {
        let mut request = abi::QueryBuf(buffer(index));
        self.ioctl(&mut request)?;
        // SAFETY: all of the union was written before, and either member is an integer.
        let offset = unsafe { request.0.m.offset };
        Ok((offset, request.0.length as usize))
    }

    pub(crate) fn queue_buffer(&self, index: u32) -> io::Result<()> {
        self.ioctl(&mut abi::QBuf(buffer(index)))
    }

    /// `WouldBlock` if no buffer is filled.
    pub(crate) fn dequeue_buffer(&self) -> io::Result<abi::Buffer> {
        let mut request = abi::DqBuf(buffer(0));
        self.ioctl(&mut request)?;
        Ok(request.0)
    }

    pub(crate) fn stream_on(&self) -> io::Result<()> {
        self.ioctl(&mut abi::StreamOn(abi::BUF_TYPE_VIDEO_CAPTURE as c_int))
    }

    pub(crate) fn stream_off(&self) -> io::Result<()> {
        self.ioctl(&mut abi::StreamOff(abi::BUF_TYPE_VIDEO_CAPTURE as c_int))
    }

    fn ioctl<R: Request>(&self, request: &mut R) -> io::Result<()> {
        loop {
            // SAFETY: the descriptor is open while `self` lives, and by `Request`'s contract the kernel reads and writes
            // nothing but `request`, which is ours alone.
            let result = unsafe { libc::ioctl(self.0.as_raw_fd(), R::CODE as _, std::ptr::from_mut(request)) };
            if result != -1 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// All zeros, as every request wants the fields it does not use.
fn blank<T: Zeros>() -> T {
    // SAFETY: `Zeros` says that zeros are a valid value.
    unsafe { zeroed() }
}

/// # Safety
///
/// A value whose bytes are all zero must be valid.
unsafe trait Zeros {}

macro_rules! zeros {
    ($($name:ty),+) => {$(
        // SAFETY: made of integers, and unions of integers.
        unsafe impl Zeros for $name {}
    )+};
}

zeros!(
    abi::Capability,
    abi::FmtDesc,
    abi::FrmSizeEnum,
    abi::FrmIvalEnum,
    abi::PixFormat,
    abi::SetFmt,
    abi::SetParm,
    abi::RequestBuffers,
    abi::Buffer
);

fn buffer(index: u32) -> abi::Buffer {
    abi::Buffer { index, kind: abi::BUF_TYPE_VIDEO_CAPTURE, memory: abi::MEMORY_MMAP, ..blank() }
}

/// Asks for one item after the other until the driver says that there are no more.
fn list<T>(mut item: impl FnMut(u32) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut items = Vec::new();
    for index in 0..MAX_LIST {
        match item(index) {
            Ok(item) => items.push(item),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(items)
}

/// A text in a fixed field: up to the first zero, whatever its bytes are.
pub(crate) fn text(field: &[u8]) -> String {
    let bytes = CStr::from_bytes_until_nul(field).map_or(field, CStr::to_bytes);
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_fill_its_field_and_need_not_be_utf8() {
        assert_eq!(text(b"Cam \0junk"), "Cam");
        assert_eq!(text(b"full"), "full");
        assert_eq!(text(b"cut \xe4\xb8"), "cut \u{fffd}");
    }

    #[test]
    fn a_list_without_end_is_cut_and_an_empty_one_is_none() {
        assert_eq!(list(Ok).unwrap().len(), MAX_LIST as usize);
        assert_eq!(list(|_| Err::<(), _>(io::Error::from_raw_os_error(libc::EINVAL))).unwrap(), []);
        assert!(list(|_| Err::<(), _>(io::Error::from_raw_os_error(libc::ENODEV))).is_err());
    }
}
