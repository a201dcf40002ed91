//! The structures and request codes of V4L2 that this crate uses, as `linux/videodev2.h` of Linux 6.1 declares them.
//!
//! Written out, because the bindings there are need libclang to build the whole of lenscast for a dozen structures that
//! the kernel promised never to change. The tests compare each with those bindings, field by field.
//!
//! Names are those of the header without `v4l2_`; unions that are only ever read one way have that type.

use std::ffi::{c_int, c_ulong};

pub(crate) const BUF_TYPE_VIDEO_CAPTURE: u32 = 1;
pub(crate) const MEMORY_MMAP: u32 = 1;
pub(crate) const FIELD_NONE: u32 = 1;

pub(crate) const CAP_VIDEO_CAPTURE: u32 = 0x0000_0001;
pub(crate) const CAP_META_CAPTURE: u32 = 0x0080_0000;
pub(crate) const CAP_STREAMING: u32 = 0x0400_0000;
pub(crate) const CAP_DEVICE_CAPS: u32 = 0x8000_0000;

pub(crate) const FRMSIZE_TYPE_DISCRETE: u32 = 1;
pub(crate) const FRMIVAL_TYPE_DISCRETE: u32 = 1;

pub(crate) const BUF_FLAG_ERROR: u32 = 0x40;

pub(crate) const PIX_FMT_NV12: u32 = u32::from_le_bytes(*b"NV12");
pub(crate) const PIX_FMT_YUYV: u32 = u32::from_le_bytes(*b"YUYV");
pub(crate) const PIX_FMT_MJPEG: u32 = u32::from_le_bytes(*b"MJPG");
/// What some drivers call the same thing.
pub(crate) const PIX_FMT_JPEG: u32 = u32::from_le_bytes(*b"JPEG");

/// A structure that an ioctl reads and writes.
///
/// # Safety
///
/// `CODE` must be a request for which the kernel touches no memory but one `Self`, and every bit pattern that the kernel
/// may write must be a valid `Self`.
pub(crate) unsafe trait Request: Copy {
    const CODE: c_ulong;
}

const READ: c_ulong = 2;
const WRITE: c_ulong = 1;

/// `_IOC` of asm-generic/ioctl.h, for the letter V.
const fn code<T>(direction: c_ulong, number: c_ulong) -> c_ulong {
    direction << 30 | (size_of::<T>() as c_ulong) << 16 | (b'V' as c_ulong) << 8 | number
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Capability {
    pub(crate) driver: [u8; 16],
    pub(crate) card: [u8; 32],
    pub(crate) bus_info: [u8; 32],
    pub(crate) version: u32,
    pub(crate) capabilities: u32,
    pub(crate) device_caps: u32,
    pub(crate) reserved: [u32; 3],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct FmtDesc {
    pub(crate) index: u32,
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) description: [u8; 32],
    pub(crate) pixelformat: u32,
    pub(crate) mbus_code: u32,
    pub(crate) reserved: [u32; 3],
}

/// Of the union, a discrete size fills the first two fields as width and height.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct FrmSizeEnum {
    pub(crate) index: u32,
    pub(crate) pixel_format: u32,
    pub(crate) kind: u32,
    pub(crate) min_width: u32,
    pub(crate) max_width: u32,
    pub(crate) step_width: u32,
    pub(crate) min_height: u32,
    pub(crate) max_height: u32,
    pub(crate) step_height: u32,
    pub(crate) reserved: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Fract {
    pub(crate) numerator: u32,
    pub(crate) denominator: u32,
}

/// Of the union, a discrete interval fills the first.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct FrmIvalEnum {
    pub(crate) index: u32,
    pub(crate) pixel_format: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) kind: u32,
    pub(crate) min: Fract,
    pub(crate) max: Fract,
    pub(crate) step: Fract,
    pub(crate) reserved: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct PixFormat {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixelformat: u32,
    pub(crate) field: u32,
    pub(crate) bytesperline: u32,
    pub(crate) sizeimage: u32,
    pub(crate) colorspace: u32,
    pub(crate) private: u32,
    pub(crate) flags: u32,
    pub(crate) encoding: u32,
    pub(crate) quantization: u32,
    pub(crate) xfer_func: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union FormatUnion {
    pub(crate) pix: PixFormat,
    pub(crate) raw: [u8; 200],
    /// The header's other members hold pointers, and align the union as they are.
    pub(crate) align: usize,
}

/// Reads and writes the format under the code of S_FMT.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Format {
    pub(crate) kind: u32,
    pub(crate) fmt: FormatUnion,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct CaptureParm {
    pub(crate) capability: u32,
    pub(crate) capturemode: u32,
    pub(crate) timeperframe: Fract,
    pub(crate) extendedmode: u32,
    pub(crate) readbuffers: u32,
    pub(crate) reserved: [u32; 4],
}

/// The frame interval, under the code of S_PARM.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct StreamParm {
    pub(crate) kind: u32,
    pub(crate) capture: CaptureParm,
    pub(crate) rest: [u8; 160],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct RequestBuffers {
    pub(crate) count: u32,
    pub(crate) kind: u32,
    pub(crate) memory: u32,
    pub(crate) capabilities: u32,
    pub(crate) flags: u8,
    pub(crate) reserved: [u8; 3],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Timecode {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) time: [u8; 4],
    pub(crate) userbits: [u8; 4],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union BufferPlace {
    pub(crate) offset: u32,
    pub(crate) userptr: c_ulong,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Buffer {
    pub(crate) index: u32,
    pub(crate) kind: u32,
    pub(crate) bytesused: u32,
    pub(crate) flags: u32,
    pub(crate) field: u32,
    pub(crate) timestamp: libc::timeval,
    pub(crate) timecode: Timecode,
    pub(crate) sequence: u32,
    pub(crate) memory: u32,
    pub(crate) m: BufferPlace,
    pub(crate) length: u32,
    pub(crate) reserved2: u32,
    pub(crate) request_fd: i32,
}

/// One structure under one code. `Of` is the structure, `NUMBER` the request's number, `DIRECTION` who writes.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($of:ty) = $direction:expr, $number:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(crate) struct $name(pub(crate) $of);

        // SAFETY: the code is made of the structure's own size and the header's number, so the kernel copies just this
        // structure in and out; it consists of integers and unions of integers, for which every bit pattern is valid.
        unsafe impl Request for $name {
            const CODE: c_ulong = code::<$of>($direction, $number);
        }
    )+};
}

requests! {
    QueryCap(Capability) = READ, 0;
    EnumFmt(FmtDesc) = READ | WRITE, 2;
    SetFmt(Format) = READ | WRITE, 5;
    ReqBufs(RequestBuffers) = READ | WRITE, 8;
    QueryBuf(Buffer) = READ | WRITE, 9;
    QBuf(Buffer) = READ | WRITE, 15;
    DqBuf(Buffer) = READ | WRITE, 17;
    StreamOn(c_int) = WRITE, 18;
    StreamOff(c_int) = WRITE, 19;
    SetParm(StreamParm) = READ | WRITE, 22;
    EnumFrameSizes(FrmSizeEnum) = READ | WRITE, 74;
    EnumFrameIntervals(FrmIvalEnum) = READ | WRITE, 75;
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use v4l2_sys_mit as header;

    use super::*;

    /// Sizes and offsets of the named fields, ours and the header's.
    macro_rules! same {
        ($ours:ty, $theirs:ty { $($our:ident = $($their:tt).+),* $(,)? }) => {
            assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
            assert_eq!(align_of::<$ours>(), align_of::<$theirs>(), stringify!($ours));
            $(assert_eq!(
                offset_of!($ours, $our),
                offset_of!($theirs, $($their).+),
                "{}.{}", stringify!($ours), stringify!($our)
            );)*
        };
    }

    #[test]
    fn structures_are_those_of_the_kernels_header() {
        same!(Capability, header::v4l2_capability {
            driver = driver, card = card, bus_info = bus_info, capabilities = capabilities, device_caps = device_caps,
        });
        same!(FmtDesc, header::v4l2_fmtdesc {
            index = index, kind = type_, flags = flags, description = description, pixelformat = pixelformat,
        });
        same!(FrmSizeEnum, header::v4l2_frmsizeenum {
            index = index, pixel_format = pixel_format, kind = type_, min_width = __bindgen_anon_1, reserved = reserved,
        });
        assert_eq!(offset_of!(header::v4l2_frmsize_discrete, height), 4);
        assert_eq!(offset_of!(header::v4l2_frmsize_stepwise, max_height), 16);
        same!(FrmIvalEnum, header::v4l2_frmivalenum {
            index = index, pixel_format = pixel_format, width = width, height = height, kind = type_,
            min = __bindgen_anon_1, reserved = reserved,
        });
        same!(PixFormat, header::v4l2_pix_format {
            width = width, height = height, pixelformat = pixelformat, field = field, bytesperline = bytesperline,
            sizeimage = sizeimage, xfer_func = xfer_func,
        });
        same!(Format, header::v4l2_format { kind = type_, fmt = fmt });
        same!(CaptureParm, header::v4l2_captureparm { timeperframe = timeperframe, readbuffers = readbuffers });
        same!(StreamParm, header::v4l2_streamparm { kind = type_, capture = parm });
        same!(RequestBuffers, header::v4l2_requestbuffers { count = count, kind = type_, memory = memory });
        same!(Buffer, header::v4l2_buffer {
            index = index, kind = type_, bytesused = bytesused, flags = flags, field = field, timestamp = timestamp,
            timecode = timecode, sequence = sequence, memory = memory, m = m, length = length, request_fd = __bindgen_anon_1,
        });
    }

    /// The values that `strace` and the kernel's own tests show for x86-64 and arm64.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn request_codes_are_the_kernels() {
        let codes = [
            (QueryCap::CODE, 0x8068_5600),
            (EnumFmt::CODE, 0xc040_5602),
            (SetFmt::CODE, 0xc0d0_5605),
            (ReqBufs::CODE, 0xc014_5608),
            (QueryBuf::CODE, 0xc058_5609),
            (QBuf::CODE, 0xc058_560f),
            (DqBuf::CODE, 0xc058_5611),
            (StreamOn::CODE, 0x4004_5612),
            (StreamOff::CODE, 0x4004_5613),
            (SetParm::CODE, 0xc0cc_5616),
            (EnumFrameSizes::CODE, 0xc02c_564a),
            (EnumFrameIntervals::CODE, 0xc034_564b),
        ];
        for (ours, kernels) in codes {
            assert_eq!(ours, kernels, "{ours:#x}");
        }
    }

    #[test]
    fn constants_are_those_of_the_kernels_header() {
        assert_eq!(BUF_TYPE_VIDEO_CAPTURE, header::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE);
        assert_eq!(MEMORY_MMAP, header::v4l2_memory_V4L2_MEMORY_MMAP);
        assert_eq!(FIELD_NONE, header::v4l2_field_V4L2_FIELD_NONE);
        assert_eq!(CAP_VIDEO_CAPTURE, header::V4L2_CAP_VIDEO_CAPTURE);
        assert_eq!(CAP_META_CAPTURE, header::V4L2_CAP_META_CAPTURE);
        assert_eq!(CAP_STREAMING, header::V4L2_CAP_STREAMING);
        assert_eq!(CAP_DEVICE_CAPS, header::V4L2_CAP_DEVICE_CAPS);
        assert_eq!(FRMSIZE_TYPE_DISCRETE, header::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE);
        assert_eq!(FRMIVAL_TYPE_DISCRETE, header::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE);
        assert_eq!(BUF_FLAG_ERROR, header::V4L2_BUF_FLAG_ERROR);
    }
}
