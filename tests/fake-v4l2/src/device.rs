//! One open device: what the driver and the hardware behind a descriptor do.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_int, c_ulong, c_void};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libc::{EAGAIN, EBUSY, EINVAL, ENODEV, ENOENT, ENOTTY};

use crate::abi;
use crate::settings::{Kind, ModeLine, Rates, Settings, Stamp};

/// What a request may fail with.
pub(crate) type Errno = c_int;

/// An open device.
pub(crate) struct Handle {
    file: PathBuf,
    plug: u32,
    device: Arc<Mutex<Device>>,
    state: Arc<(Mutex<State>, Condvar)>,
    hardware: Mutex<Option<JoinHandle<()>>>,
    /// The reading end, which the program has. Ours only for as long as the program's is open.
    descriptor: RawFd,
}

/// What all who opened a device share: a format stays set after closing.
struct Device {
    width: u32,
    height: u32,
    fourcc: [u8; 4],
    /// Seconds a frame.
    interval: [u32; 2],
    /// Someone has buffers; nobody else may have any, nor change the format.
    taken: bool,
}

#[derive(Default)]
struct State {
    /// `None` without buffers. Buffers lie one after the other, `length` apart rounded up to pages.
    memory: Option<File>,
    count: u32,
    length: u32,
    queued: VecDeque<u32>,
    filled: VecDeque<Filled>,
    streaming: bool,
    gone: bool,
    /// The writing end of the pipe. `None` once unplugged: the reading end is then at its end.
    bell: Option<PipeWriter>,
}

struct Filled {
    index: u32,
    used: u32,
    flags: u32,
    sequence: u32,
    /// Seconds and microseconds.
    stamp: [i64; 2],
}

static DEVICES: Mutex<BTreeMap<PathBuf, Arc<Mutex<Device>>>> = Mutex::new(BTreeMap::new());

const PAGE: u32 = 4_096;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// Opens the device of this file, or of the file that this link leads to.
    pub(crate) fn open(path: &Path) -> Result<(Self, OwnedFd), Errno> {
        let file = std::fs::canonicalize(path).map_err(|_| ENOENT)?;
        let settings = Settings::read(&file).ok_or(ENOENT)?;
        if let Some(errno) = settings.open {
            return Err(errno);
        }
        let (reader, writer) = pipe().map_err(|_| ENODEV)?;
        for end in [reader.as_raw_fd(), writer.as_raw_fd()] {
            // SAFETY: a descriptor that is open, and a request that takes an integer.
            unsafe { libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK) };
        }
        let first = settings.modes.first();
        let device = lock(&DEVICES)
            .entry(file.clone())
            .or_insert_with(|| {
                Arc::new(Mutex::new(Device {
                    width: first.map_or(640, |mode| mode.width[0]),
                    height: first.map_or(480, |mode| mode.height[0]),
                    fourcc: first.map_or(*b"YUYV", |mode| mode.fourcc),
                    interval: [1, 30],
                    taken: false,
                }))
            })
            .clone();
        let state = State { bell: Some(writer), ..State::default() };
        let descriptor = reader.as_raw_fd();
        let handle = Self {
            file,
            plug: settings.plug,
            device,
            state: Arc::new((Mutex::new(state), Condvar::new())),
            hardware: Mutex::new(None),
            descriptor,
        };
        Ok((handle, PipeReader::into(reader)))
    }

    /// The descriptor to map buffers from.
    pub(crate) fn memory(&self) -> Result<RawFd, Errno> {
        lock(&self.state.0).memory.as_ref().map(AsRawFd::as_raw_fd).ok_or(EINVAL)
    }

    /// # Safety
    ///
    /// `argument` points to the structure that the request's code says, and to nothing else that is borrowed.
    pub(crate) unsafe fn ioctl(&self, request: c_ulong, argument: *mut c_void) -> Result<(), Errno> {
        let settings = Settings::read(&self.file).filter(|settings| settings.plug == self.plug);
        let Some(settings) = settings else {
            lock(&self.state.0).gone = true;
            return Err(ENODEV);
        };
        /// # Safety
        ///
        /// As of `ioctl`.
        unsafe fn at<'a, T>(argument: *mut c_void) -> &'a mut T {
            // SAFETY: by the caller's contract.
            unsafe { &mut *argument.cast() }
        }
        // SAFETY: each structure is the one that its request's code carries the size of, which `abi` checks; the
        // caller's contract is the rest.
        unsafe {
            match request {
                abi::QUERYCAP => query_capability(&settings, at(argument)),
                abi::ENUM_FMT => enumerate_formats(&settings, at(argument))?,
                abi::ENUM_FRAMESIZES => enumerate_sizes(&settings, at(argument))?,
                abi::ENUM_FRAMEINTERVALS => enumerate_intervals(&settings, at(argument))?,
                abi::G_FMT => self.describe_format(&settings, at(argument))?,
                abi::S_FMT => self.set_format(&settings, at(argument))?,
                abi::G_PARM => self.describe_interval(at(argument))?,
                abi::S_PARM => self.set_interval(&settings, at(argument))?,
                abi::REQBUFS => self.request_buffers(&settings, at(argument))?,
                abi::QUERYBUF => self.query_buffer(at(argument))?,
                abi::QBUF => self.queue_buffer(at(argument))?,
                abi::DQBUF => self.dequeue_buffer(at(argument))?,
                abi::STREAMON => self.stream_on(&settings)?,
                abi::STREAMOFF => self.stream_off(),
                _ => return Err(ENOTTY),
            }
        }
        Ok(())
    }

    fn describe_format(&self, settings: &Settings, format: &mut abi::Format) -> Result<(), Errno> {
        capture(format.kind)?;
        let device = lock(&self.device);
        describe(&device, settings, format);
        Ok(())
    }

    fn set_format(&self, settings: &Settings, format: &mut abi::Format) -> Result<(), Errno> {
        capture(format.kind)?;
        let mut device = lock(&self.device);
        if settings.busy || device.taken {
            return Err(EBUSY);
        }
        // As drivers do: the format if there is one of that name, and the nearest size of it.
        let of_format = settings.modes.iter().filter(|mode| mode.fourcc == format.fourcc);
        let distance = |mode: &&ModeLine| {
            let [width, height] = nearest(mode, format);
            width.abs_diff(format.width) + height.abs_diff(format.height)
        };
        let mode = of_format.min_by_key(distance).or(settings.modes.first()).ok_or(EINVAL)?;
        let [width, height] = settings.grant.unwrap_or_else(|| nearest(mode, format));
        (device.width, device.height, device.fourcc) = (width, height, mode.fourcc);
        describe(&device, settings, format);
        Ok(())
    }

    fn describe_interval(&self, parm: &mut abi::StreamParm) -> Result<(), Errno> {
        capture(parm.kind)?;
        parm.capability = abi::CAP_TIMEPERFRAME;
        parm.interval = lock(&self.device).interval;
        Ok(())
    }

    fn set_interval(&self, settings: &Settings, parm: &mut abi::StreamParm) -> Result<(), Errno> {
        capture(parm.kind)?;
        let mut device = lock(&self.device);
        let asked = f64::from(parm.interval[0]) / f64::from(parm.interval[1].max(1));
        let fits = |mode: &&ModeLine| {
            let within = |side: u32, [min, max, _]: [u32; 3]| (min..=max).contains(&side);
            mode.fourcc == device.fourcc && within(device.width, mode.width) && within(device.height, mode.height)
        };
        let rates = settings.modes.iter().find(fits).map(|mode| &mode.rates);
        device.interval = match rates {
            Some(Rates::Each(rates)) => {
                let off = |rate: &&[u32; 2]| (f64::from(rate[1]) / f64::from(rate[0]) - asked).abs();
                let best = rates.iter().min_by(|a, b| off(a).total_cmp(&off(b)));
                best.map_or([1, 30], |rate| [rate[1], rate[0]])
            }
            _ => parm.interval,
        };
        parm.capability = abi::CAP_TIMEPERFRAME;
        parm.interval = device.interval;
        Ok(())
    }

    fn request_buffers(&self, settings: &Settings, request: &mut abi::RequestBuffers) -> Result<(), Errno> {
        capture(request.kind)?;
        if request.memory != abi::MMAP {
            return Err(EINVAL);
        }
        self.stream_off();
        let mut state = lock(&self.state.0);
        let mut device = lock(&self.device);
        if settings.busy || (device.taken && state.memory.is_none()) {
            return Err(EBUSY);
        }
        *state = State { bell: state.bell.take(), gone: state.gone, ..State::default() };
        device.taken = request.count > 0;
        if request.count == 0 {
            return Ok(());
        }
        let mut format = blank_format();
        describe(&device, settings, &mut format);
        state.count = request.count.clamp(2, 8);
        state.length = settings.buffer.unwrap_or(format.sizeimage);
        // SAFETY: a C string.
        let fd = unsafe { libc::memfd_create(c"fake-v4l2".as_ptr(), libc::MFD_CLOEXEC) };
        if fd == -1 {
            return Err(libc::ENOMEM);
        }
        // SAFETY: just made, and nobody else's.
        let memory = unsafe { File::from_raw_fd(fd) };
        memory.set_len(u64::from(spacing(state.length)) * u64::from(state.count)).map_err(|_| libc::ENOMEM)?;
        state.memory = Some(memory);
        request.count = state.count;
        Ok(())
    }

    fn query_buffer(&self, buffer: &mut abi::Buffer) -> Result<(), Errno> {
        capture(buffer.kind)?;
        let state = lock(&self.state.0);
        if buffer.index >= state.count {
            return Err(EINVAL);
        }
        buffer.offset = u64::from(spacing(state.length) * buffer.index);
        buffer.length = state.length;
        Ok(())
    }

    fn queue_buffer(&self, buffer: &abi::Buffer) -> Result<(), Errno> {
        capture(buffer.kind)?;
        let mut state = lock(&self.state.0);
        let known = state.queued.contains(&buffer.index) || state.filled.iter().any(|f| f.index == buffer.index);
        if state.gone {
            return Err(ENODEV);
        }
        if buffer.index >= state.count || known {
            return Err(EINVAL);
        }
        state.queued.push_back(buffer.index);
        Ok(())
    }

    fn dequeue_buffer(&self, buffer: &mut abi::Buffer) -> Result<(), Errno> {
        capture(buffer.kind)?;
        let mut state = lock(&self.state.0);
        if state.gone {
            return Err(ENODEV);
        }
        if !state.streaming {
            return Err(EINVAL);
        }
        let filled = state.filled.pop_front().ok_or(EAGAIN)?;
        self.silence(1);
        buffer.index = filled.index;
        buffer.bytesused = filled.used;
        buffer.flags = filled.flags;
        buffer.sequence = filled.sequence;
        [buffer.seconds, buffer.micros] = filled.stamp;
        buffer.length = state.length;
        buffer.memory = abi::MMAP;
        Ok(())
    }

    fn stream_on(&self, settings: &Settings) -> Result<(), Errno> {
        if let Some(errno) = settings.streamon {
            return Err(errno);
        }
        let mut state = lock(&self.state.0);
        if state.memory.is_none() {
            return Err(EINVAL);
        }
        if state.streaming {
            return Ok(());
        }
        state.streaming = true;
        let hardware = Hardware {
            file: self.file.clone(),
            plug: self.plug,
            device: Arc::clone(&self.device),
            state: Arc::clone(&self.state),
        };
        *lock(&self.hardware) = Some(thread::spawn(move || hardware.run()));
        Ok(())
    }

    fn stream_off(&self) {
        {
            let mut state = lock(&self.state.0);
            state.streaming = false;
            state.queued.clear();
            let unread = state.filled.len();
            state.filled.clear();
            self.silence(unread);
        }
        self.state.1.notify_all();
        if let Some(hardware) = lock(&self.hardware).take() {
            let _ = hardware.join();
        }
    }

    /// Takes so many bytes out of the pipe.
    fn silence(&self, count: usize) {
        for _ in 0..count {
            let mut byte = 0_u8;
            // SAFETY: one byte of ours, and a descriptor that the program has not closed: it is in a request on it.
            unsafe { libc::read(self.descriptor, (&raw mut byte).cast(), 1) };
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        {
            // The program is closing the descriptor: there is nothing to be silenced.
            lock(&self.state.0).filled.clear();
        }
        self.stream_off();
        if lock(&self.state.0).memory.is_some() {
            lock(&self.device).taken = false;
        }
    }
}

/// What fills the buffers of a streaming device, on a thread of its own.
struct Hardware {
    file: PathBuf,
    plug: u32,
    device: Arc<Mutex<Device>>,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Hardware {
    fn run(&self) {
        let mut next = Instant::now();
        let mut interval = Duration::ZERO;
        let mut sequence = 0_u32;
        let mut noise = 1_u32;
        loop {
            next += interval;
            let mut state = lock(&self.state.0);
            while state.streaming && Instant::now() < next {
                let left = next.saturating_duration_since(Instant::now());
                state = self.state.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if !state.streaming {
                return;
            }
            let settings = Settings::read(&self.file).filter(|settings| settings.plug == self.plug);
            let Some(settings) = settings else {
                state.gone = true;
                state.bell = None;
                return;
            };
            interval = self.interval(&settings);
            if settings.stall {
                if settings.alarm
                    && let Some(bell) = &mut state.bell
                {
                    let _ = bell.write(&[1]);
                }
                continue;
            }
            sequence = sequence.wrapping_add(settings.lose);
            if let Some(index) = state.queued.pop_front() {
                let picture = self.picture(&settings, &mut noise);
                let used = picture.len().min(settings.short.unwrap_or(usize::MAX)).min(state.length as usize);
                let memory = state.memory.as_ref().expect("a device that streams has buffers");
                let offset = u64::from(spacing(state.length) * index);
                memory.write_all_at(&picture[..used], offset).expect("the memory is as long as its buffers");
                let error = if settings.error { abi::BUF_FLAG_ERROR } else { 0 };
                state.filled.push_back(Filled {
                    index,
                    used: used as u32,
                    flags: abi::BUF_FLAG_TIMESTAMP_MONOTONIC | error,
                    sequence,
                    stamp: stamp(&settings),
                });
                if let Some(bell) = &mut state.bell {
                    let _ = bell.write(&[1]);
                }
            }
            sequence = sequence.wrapping_add(1);
        }
    }

    fn interval(&self, settings: &Settings) -> Duration {
        let [seconds, frames] = lock(&self.device).interval;
        let set = Duration::from_secs_f64(f64::from(seconds) / f64::from(frames.max(1)));
        settings.pace_millis.map_or(set, Duration::from_millis)
    }

    /// The bytes of one frame.
    fn picture(&self, settings: &Settings, noise: &mut u32) -> Vec<u8> {
        let mut format = blank_format();
        let (width, fourcc) = {
            let device = lock(&self.device);
            describe(&device, settings, &mut format);
            (device.width as usize, device.fourcc)
        };
        let (height, stride) = (format.height as usize, format.bytesperline as usize);
        if settings.garbage {
            return (0..format.sizeimage)
                .map(|_| {
                    *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (*noise >> 24) as u8
                })
                .collect();
        }
        let colour = |x: usize| if x < width / 2 { settings.left } else { settings.right };
        match &fourcc {
            b"YUYV" => {
                let mut row: Vec<u8> = (0..width / 2)
                    .flat_map(|pair| {
                        let [y, u, v] = colour(2 * pair);
                        [y, u, y, v]
                    })
                    .collect();
                row.resize(stride, 0xA5);
                row.repeat(height)
            }
            b"NV12" => {
                let mut luma: Vec<u8> = (0..width).map(|x| colour(x)[0]).collect();
                let mut chroma: Vec<u8> = (0..width / 2).flat_map(|x| [colour(2 * x)[1], colour(2 * x)[2]]).collect();
                luma.resize(stride, 0xA5);
                chroma.resize(stride, 0xA5);
                [luma.repeat(height), chroma.repeat(height / 2)].concat()
            }
            _ => {
                let mut bytes = settings.mjpeg.clone();
                bytes.resize(bytes.len() + settings.tail, 0xA5);
                bytes
            }
        }
    }
}

fn query_capability(settings: &Settings, capability: &mut abi::Capability) {
    fill(&mut capability.driver, &settings.driver);
    fill(&mut capability.card, &settings.card);
    fill(&mut capability.bus_info, &settings.bus);
    let own = match settings.kind {
        Kind::Capture => abi::CAP_VIDEO_CAPTURE,
        Kind::Metadata => abi::CAP_META_CAPTURE,
        Kind::Output => abi::CAP_VIDEO_OUTPUT,
    };
    // As of a USB camera: the device as a whole can do both, each of its nodes one.
    let whole = if settings.kind == Kind::Metadata { abi::CAP_VIDEO_CAPTURE } else { 0 };
    capability.version = 6 << 16 | 1 << 8;
    capability.device_caps = own | abi::CAP_STREAMING;
    capability.capabilities = capability.device_caps | whole | abi::CAP_DEVICE_CAPS;
}

fn enumerate_formats(settings: &Settings, description: &mut abi::FmtDesc) -> Result<(), Errno> {
    capture(description.kind)?;
    let mut fourccs: Vec<[u8; 4]> = Vec::new();
    for mode in &settings.modes {
        if !fourccs.contains(&mode.fourcc) {
            fourccs.push(mode.fourcc);
        }
    }
    description.fourcc = *fourccs.get(description.index as usize).ok_or(EINVAL)?;
    let text: &[u8] = match &description.fourcc {
        b"MJPG" => b"Motion-JPEG",
        b"YUYV" => b"YUYV 4:2:2",
        b"NV12" => b"Y/UV 4:2:0",
        _ => b"Something else",
    };
    fill(&mut description.description, text);
    Ok(())
}

fn enumerate_sizes(settings: &Settings, size: &mut abi::FrmSizeEnum) -> Result<(), Errno> {
    let mode = settings.modes.iter().filter(|mode| mode.fourcc == size.fourcc).nth(size.index as usize);
    let mode = mode.ok_or(EINVAL)?;
    let ([min_width, max_width, step_width], [min_height, max_height, step_height]) = (mode.width, mode.height);
    if mode.is_discrete() {
        size.kind = abi::DISCRETE;
        size.numbers[..2].copy_from_slice(&[min_width, min_height]);
    } else {
        size.kind = abi::STEPWISE;
        size.numbers = [min_width, max_width, step_width, min_height, max_height, step_height];
    }
    Ok(())
}

fn enumerate_intervals(settings: &Settings, interval: &mut abi::FrmIvalEnum) -> Result<(), Errno> {
    let within =
        |side: u32, [min, max, step]: [u32; 3]| (min..=max).contains(&side) && (side - min).is_multiple_of(step.max(1));
    let mut fitting = settings.modes.iter().filter(|mode| {
        mode.fourcc == interval.fourcc && within(interval.width, mode.width) && within(interval.height, mode.height)
    });
    match &fitting.next().ok_or(EINVAL)?.rates {
        Rates::Each(rates) => {
            let [frames, seconds] = *rates.get(interval.index as usize).ok_or(EINVAL)?;
            interval.kind = abi::DISCRETE;
            interval.fractions[0] = [seconds, frames];
        }
        Rates::Between(_, _) if interval.index > 0 => return Err(EINVAL),
        Rates::Between(slow, fast) => {
            interval.kind = abi::STEPWISE;
            interval.fractions = [[fast[1], fast[0]], [slow[1], slow[0]], [1, 1]];
        }
    }
    Ok(())
}

fn capture(kind: u32) -> Result<(), Errno> {
    if kind == abi::VIDEO_CAPTURE { Ok(()) } else { Err(EINVAL) }
}

/// The size of a mode nearest to what is asked.
fn nearest(mode: &ModeLine, asked: &abi::Format) -> [u32; 2] {
    let side = |wanted: u32, [min, max, step]: [u32; 3]| {
        let wanted = wanted.clamp(min, max);
        wanted - (wanted - min) % step.max(1)
    };
    [side(asked.width, mode.width), side(asked.height, mode.height)]
}

/// Says what the device is set to.
fn describe(device: &Device, settings: &Settings, format: &mut abi::Format) {
    let (width, height) = (device.width, device.height);
    let (bytesperline, sizeimage) = match &device.fourcc {
        b"YUYV" => (2 * width + settings.padding, (2 * width + settings.padding) * height),
        b"NV12" => (width + settings.padding, (width + settings.padding) * height * 3 / 2),
        // Room for a picture and its tail, as compressed formats ask for more than they use.
        _ => (0, (width * height).max(64 << 10)),
    };
    (format.width, format.height, format.fourcc) = (width, height, device.fourcc);
    (format.field, format.bytesperline, format.sizeimage, format.colorspace) = (1, bytesperline, sizeimage, 8);
}

const fn blank_format() -> abi::Format {
    abi::Format {
        kind: abi::VIDEO_CAPTURE,
        padding: 0,
        width: 0,
        height: 0,
        fourcc: [0; 4],
        field: 0,
        bytesperline: 0,
        sizeimage: 0,
        colorspace: 0,
        rest: [0; 43],
    }
}

/// From the beginning of one buffer to that of the next.
const fn spacing(length: u32) -> u32 {
    length.div_ceil(PAGE) * PAGE
}

fn stamp(settings: &Settings) -> [i64; 2] {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a structure of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000 - settings.age_millis * 1_000;
    let micros = match settings.stamp {
        Stamp::Monotonic => micros,
        Stamp::None => 0,
        Stamp::Future => micros + 3_600_000_000,
    };
    [micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000)]
}

fn fill(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    let length = text.len().min(field.len() - 1);
    field[..length].copy_from_slice(&text[..length]);
}
