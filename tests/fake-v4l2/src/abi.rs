//! Of `linux/videodev2.h`, what a capture device is asked.

use std::ffi::c_ulong;

pub(crate) const QUERYCAP: c_ulong = 0x8068_5600;
pub(crate) const ENUM_FMT: c_ulong = 0xc040_5602;
pub(crate) const G_FMT: c_ulong = 0xc0d0_5604;
pub(crate) const S_FMT: c_ulong = 0xc0d0_5605;
pub(crate) const REQBUFS: c_ulong = 0xc014_5608;
pub(crate) const QUERYBUF: c_ulong = 0xc058_5609;
pub(crate) const QBUF: c_ulong = 0xc058_560f;
pub(crate) const DQBUF: c_ulong = 0xc058_5611;
pub(crate) const STREAMON: c_ulong = 0x4004_5612;
pub(crate) const STREAMOFF: c_ulong = 0x4004_5613;
pub(crate) const G_PARM: c_ulong = 0xc0cc_5615;
pub(crate) const S_PARM: c_ulong = 0xc0cc_5616;
pub(crate) const ENUM_FRAMESIZES: c_ulong = 0xc02c_564a;
pub(crate) const ENUM_FRAMEINTERVALS: c_ulong = 0xc034_564b;

pub(crate) const VIDEO_CAPTURE: u32 = 1;
pub(crate) const MMAP: u32 = 1;

pub(crate) const CAP_VIDEO_CAPTURE: u32 = 1;
pub(crate) const CAP_VIDEO_OUTPUT: u32 = 2;
pub(crate) const CAP_META_CAPTURE: u32 = 0x0080_0000;
pub(crate) const CAP_STREAMING: u32 = 0x0400_0000;
pub(crate) const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
pub(crate) const CAP_TIMEPERFRAME: u32 = 0x1000;

pub(crate) const DISCRETE: u32 = 1;
pub(crate) const STEPWISE: u32 = 3;

pub(crate) const BUF_FLAG_ERROR: u32 = 0x40;
pub(crate) const BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;

#[derive(Clone, Copy)]
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

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FmtDesc {
    pub(crate) index: u32,
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) description: [u8; 32],
    pub(crate) fourcc: [u8; 4],
    pub(crate) reserved: [u32; 4],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FrmSizeEnum {
    pub(crate) index: u32,
    pub(crate) fourcc: [u8; 4],
    pub(crate) kind: u32,
    /// Width and height, or least, greatest and step of both.
    pub(crate) numbers: [u32; 6],
    pub(crate) reserved: [u32; 2],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FrmIvalEnum {
    pub(crate) index: u32,
    pub(crate) fourcc: [u8; 4],
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) kind: u32,
    /// One fraction, or least, greatest and step.
    pub(crate) fractions: [[u32; 2]; 3],
    pub(crate) reserved: [u32; 2],
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Format {
    pub(crate) kind: u32,
    pub(crate) padding: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fourcc: [u8; 4],
    pub(crate) field: u32,
    pub(crate) bytesperline: u32,
    pub(crate) sizeimage: u32,
    pub(crate) colorspace: u32,
    pub(crate) rest: [u32; 43],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct StreamParm {
    pub(crate) kind: u32,
    pub(crate) capability: u32,
    pub(crate) mode: u32,
    pub(crate) interval: [u32; 2],
    pub(crate) rest: [u32; 46],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RequestBuffers {
    pub(crate) count: u32,
    pub(crate) kind: u32,
    pub(crate) memory: u32,
    pub(crate) rest: [u32; 2],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Buffer {
    pub(crate) index: u32,
    pub(crate) kind: u32,
    pub(crate) bytesused: u32,
    pub(crate) flags: u32,
    pub(crate) field: u32,
    pub(crate) padding: u32,
    pub(crate) seconds: i64,
    pub(crate) micros: i64,
    pub(crate) timecode: [u32; 4],
    pub(crate) sequence: u32,
    pub(crate) memory: u32,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) rest: [u32; 3],
}

/// A request's code carries the size of its structure in bits 16 to 29.
const fn carries<T>(request: c_ulong) {
    assert!((request >> 16 & 0x3FFF) as usize == size_of::<T>());
}

const _: () = {
    carries::<Capability>(QUERYCAP);
    carries::<FmtDesc>(ENUM_FMT);
    carries::<Format>(G_FMT);
    carries::<Format>(S_FMT);
    carries::<RequestBuffers>(REQBUFS);
    carries::<Buffer>(QUERYBUF);
    carries::<Buffer>(QBUF);
    carries::<Buffer>(DQBUF);
    carries::<StreamParm>(G_PARM);
    carries::<StreamParm>(S_PARM);
    carries::<FrmSizeEnum>(ENUM_FRAMESIZES);
    carries::<FrmIvalEnum>(ENUM_FRAMEINTERVALS);
    carries::<i32>(STREAMON);
    carries::<i32>(STREAMOFF);
};
