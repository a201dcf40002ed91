//! Cameras, against V4L2 devices of our own (`tests/fake-v4l2`).
//!
//! Each test runs itself again in a process of its own, with the devices preloaded and a directory of its own that
//! describes them. There its body uses the crate as the server does, and replaces the devices' files to make them stall,
//! vanish, or lie.

#![cfg(feature = "camera")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use lenscast_capture::{
    CameraConfig, CameraSelector, FrameBuffer, FrameRate, PixelFormat, Source, SourceConfig, SourceHandle, SourceState,
    SourceStatus, list_cameras,
};
use lenscast_media::{Frame, Resolution};
use tempfile::TempDir;

/// How long anything may take that is to happen at once or within a few seconds.
const BOUND: Duration = Duration::from_secs(60);
/// How long a test's own process may run.
const TEST_BOUND: Duration = Duration::from_secs(120);
/// The variable that `tests/fake-v4l2` reads its directory from.
const ROOT: &str = "LENSCAST_FAKE_V4L2";

/// A red left and a blue right half, 50 times a second. `RED` and `BLUE` in limited-range BT.601 (BT.601-7 §2.5).
const YUYV: &str = "mode = YUYV 64x48 50\nleft = 81,90,240\nright = 41,240,110\n";
const RED: [u8; 3] = [81, 90, 240];
const BLUE: [u8; 3] = [41, 240, 110];
/// A camera that says it takes half a minute for a frame, so that it is not given up while it delivers rubbish.
const PATIENT: &str = "mode = YUYV 64x48 1/30\npace = 20\nleft = 81,90,240\nright = 41,240,110\n";

/// Builds the preloaded library, once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "lenscast-fake-v4l2", "--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs: it runs this test");
        assert!(built.status.success(), "cannot build lenscast-fake-v4l2");
        let messages = String::from_utf8(built.stdout).unwrap();
        let mut words = messages.split('"');
        let library = words.find(|word| word.ends_with("liblenscast_fake_v4l2.so"));
        PathBuf::from(library.expect("cargo names what it has built"))
    })
}

/// Runs `body` with devices: in a process of its own, which is this one once it is there.
fn with_devices(test: &str, body: impl FnOnce(Devices)) {
    if let Some(root) = std::env::var_os(ROOT) {
        return body(Devices { root: PathBuf::from(root) });
    }
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("dev/v4l/by-id")).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env("LD_PRELOAD", library())
        .env(ROOT, root.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (success, output) = run(child);
    assert!(success && output.contains("1 passed"), "{test} with devices:\n{output}");
}

/// Waits for a child, for [`TEST_BOUND`] at most. Success, and all it said.
fn run(mut child: Child) -> (bool, String) {
    let (send, receive) = mpsc::channel();
    let mut outputs: Vec<Box<dyn Read + Send>> =
        vec![Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for mut output in outputs.drain(..) {
        let send = send.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = output.read_to_end(&mut text);
            let _ = send.send(String::from_utf8_lossy(&text).into_owned());
        });
    }
    let deadline = Instant::now() + TEST_BOUND;
    let next = || receive.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    let texts = [next(), next()];
    let in_time = texts.iter().all(Option::is_some);
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    let rest = texts.into_iter().flatten().chain(if in_time { None } else { receive.recv().ok() });
    let output: String = rest.collect();
    let hint = if in_time { "" } else { "\n(killed: it took too long)" };
    (in_time && status.success(), output + hint)
}

/// The directory that stands for `/`.
struct Devices {
    root: PathBuf,
}

impl Devices {
    fn node(&self, index: u32) -> PathBuf {
        self.root.join(format!("dev/video{index}"))
    }

    /// Plugs a device in, or replaces what it is.
    fn set(&self, index: u32, text: &str) {
        // In one step: a device reads its file whenever it likes.
        let new = self.root.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.node(index)).unwrap();
    }

    fn unplug(&self, index: u32) {
        fs::remove_file(self.node(index)).unwrap();
    }

    /// Lets a name under by-id lead to a device.
    fn link(&self, name: &str, index: u32) {
        let new = self.root.join("new-link");
        symlink(format!("../../video{index}"), &new).unwrap();
        fs::rename(new, self.root.join("dev/v4l/by-id").join(name)).unwrap();
    }

    /// Puts a JPEG of a red and a blue half beside the nodes, for `mjpeg = name`.
    fn jpeg(&self, name: &str, width: u16, height: u16) -> Vec<u8> {
        let half = usize::from(width) / 2;
        let pixels: Vec<u8> = (0..usize::from(width) * usize::from(height))
            .flat_map(|at| if at % usize::from(width) < half { [255, 0, 0] } else { [0, 0, 255] })
            .collect();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 95);
        encoder.set_sampling_factor(SamplingFactor::F_2_1);
        encoder.encode(&pixels, width, height, ColorType::Rgb).unwrap();
        fs::write(self.root.join("dev").join(name), &bytes).unwrap();
        bytes
    }
}

/// A camera source with its buffer.
struct Capture {
    source: SourceHandle,
    buffer: Arc<FrameBuffer<Frame>>,
}

impl Capture {
    fn start(config: CameraConfig) -> Self {
        let buffer = Arc::new(FrameBuffer::new());
        let source = Source::start("camera", SourceConfig::Camera(config), Arc::clone(&buffer)).unwrap();
        Self { source, buffer }
    }

    fn wait(&self, wanted: impl FnMut(&SourceStatus) -> bool) -> SourceStatus {
        self.source.wait_until(BOUND, wanted).unwrap_or_else(|| panic!("it is {:?}", self.source.status()))
    }

    /// Waits until frames flow, after at least so many reconnects.
    fn wait_live(&self, reconnects: u64) -> SourceStatus {
        self.wait(|status| matches!(status.state, SourceState::Live { .. }) && status.counters.reconnects >= reconnects)
    }

    /// Waits until it is degraded for a reason with this in it.
    fn wait_degraded(&self, expected: &str) {
        self.wait(|status| matches!(&status.state, SourceState::Degraded { reason, .. } if reason.contains(expected)));
    }

    fn wait_corrupt(&self, more: u64) -> SourceStatus {
        let before = self.source.status().counters.corrupt;
        self.wait(|status| status.counters.corrupt >= before + more)
    }

    /// Waits for good frames after those there have been.
    fn wait_frames(&self, more: u64) -> SourceStatus {
        let before = self.source.status().counters.frames;
        self.wait(|status| status.counters.frames >= before + more)
    }

    fn frame(&self) -> Frame {
        loop {
            self.buffer.wait().unwrap();
            if let Some(frame) = self.buffer.try_take() {
                return frame;
            }
        }
    }

    /// Panics unless the next frame is red on the left and blue on the right.
    fn assert_red_and_blue(&self) {
        let frame = self.frame();
        let (width, height) =
            (frame.picture.resolution().width() as usize, frame.picture.resolution().height() as usize);
        let planes = frame.picture.planes();
        for (x, expected) in [(width / 4, RED), (width * 3 / 4, BLUE)] {
            let chroma = height / 4 * (width / 2) + x / 2;
            let got = [planes.y[height / 2 * width + x], planes.u[chroma], planes.v[chroma]];
            assert!(got.iter().zip(expected).all(|(got, want)| got.abs_diff(want) <= 3), "{got:?}, not {expected:?}");
        }
    }
}

fn camera(index: u32) -> CameraConfig {
    CameraConfig::new(CameraSelector::Index(index))
}

fn size(width: u32, height: u32) -> Resolution {
    Resolution::new(width, height).unwrap()
}

fn live_size(status: &SourceStatus) -> Resolution {
    match status.state {
        SourceState::Live { resolution, .. } => resolution,
        ref other => panic!("not live: {other:?}"),
    }
}

/// Tests of the form `name |devices| { … }`.
macro_rules! tests {
    ($($(#[$meta:meta])* $name:ident |$devices:pat_param| $body:block)+) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            with_devices(stringify!($name), |$devices| $body);
        }
    )+};
}

tests! {
    lists_cameras_with_what_they_offer_and_leaves_their_metadata_nodes_out |devices| {
        devices.set(10, "card = Kamera \\xe4\\xb8\nmode = H264 640x480 30\n");
        devices.set(0, "card = Front\ndriver = uvcvideo\nbus = usb-0000:00:14.0-1\n\
            mode = YUYV 640x480 30,15\nmode = YUYV 1280x720 10\nmode = MJPG 1280x720 30000/1001\n");
        devices.set(1, "kind = metadata\n");
        devices.set(2, "kind = output\ncard = Sink\n");
        devices.set(3, "open = 13\n");
        devices.set(4, "mode = NV12 32..2592+2x32..1944+2 5..90\n");
        devices.link("usb-Front-video-index0", 0);
        devices.link("usb-Front-video-index1", 1);
        fs::create_dir_all(devices.root.join("sys/class/video4linux/video3")).unwrap();
        fs::write(devices.root.join("sys/class/video4linux/video3/name"), "Locked\n").unwrap();

        let listed = list_cameras();
        assert_eq!(listed.iter().map(|camera| camera.index).collect::<Vec<_>>(), [0, 2, 3, 4, 10]);
        let [front, sink, locked, range, odd] = &listed[..] else { unreachable!() };
        assert_eq!((front.path.as_path(), front.error.as_ref()), (Path::new("/dev/video0"), None));
        assert_eq!(front.by_id, ["usb-Front-video-index0"]);
        assert_eq!(
            [&front.card, &front.driver, &front.bus].map(|text| text.as_deref().unwrap()),
            ["Front", "uvcvideo", "usb-0000:00:14.0-1"]
        );
        let formats: Vec<_> = front.formats.iter().map(|format| {
            let sizes: Vec<_> = format.sizes.iter().map(|listed| {
                let rates: Vec<_> = listed.intervals.iter().map(|range| range.shortest.to_string()).collect();
                format!("{} {}", listed.size, rates.join(","))
            }).collect();
            (format.fourcc.as_str(), format.description.as_str(), format.pixel_format, sizes)
        }).collect();
        assert_eq!(formats, [
            ("YUYV", "YUYV 4:2:2", Some(PixelFormat::Yuyv), vec!["640x480 30,15".into(), "1280x720 10".into()]),
            ("MJPG", "Motion-JPEG", Some(PixelFormat::Mjpeg), vec!["1280x720 30000/1001".to_string()]),
        ]);
        assert_eq!((sink.card.as_deref(), sink.error.is_some()), (Some("Sink"), true));
        let why = locked.error.as_deref().unwrap();
        assert_eq!(locked.card.as_deref(), Some("Locked"));
        assert!(why.contains("group video"), "{why}");
        let range = &range.formats[0].sizes[0];
        assert_eq!(range.size.to_string(), "32..2592+2x32..1944+2");
        assert_eq!((range.intervals[0].shortest.to_string(), range.intervals[0].longest.to_string()), ("90".into(), "5".into()));
        assert_eq!(odd.card.as_deref(), Some("Kamera \u{fffd}"));
        assert_eq!((odd.formats[0].fourcc.as_str(), odd.formats[0].pixel_format), ("H264", None));
    }

    without_a_camera_the_list_is_empty |_| {
        assert_eq!(list_cameras(), []);
    }

    streams_each_format_with_the_right_colours |devices| {
        let jpeg = devices.jpeg("halves.jpg", 64, 48);
        devices.set(0, YUYV);
        devices.set(1, &YUYV.replace("YUYV", "NV12"));
        devices.set(2, &format!("{YUYV}padding = 16\n"));
        devices.set(3, &format!("{}padding = 16\n", YUYV.replace("YUYV", "NV12")));
        devices.set(4, &format!("mode = MJPG 64x48 50\nmjpeg = halves.jpg\ntail = {}\n", jpeg.len()));
        for index in 0..5 {
            let capture = Capture::start(camera(index));
            assert_eq!(live_size(&capture.wait_live(0)), size(64, 48), "/dev/video{index}");
            capture.assert_red_and_blue();
            capture.wait_frames(5);
            assert_eq!(capture.source.status().counters.corrupt, 0, "/dev/video{index}");
        }
    }

    takes_the_mode_that_is_wanted |devices| {
        devices.jpeg("small.jpg", 64, 48);
        devices.jpeg("large.jpg", 128, 96);
        devices.set(0, "mode = YUYV 64x48 50\nmode = YUYV 128x96 5\nmode = MJPG 128x96 60\nmjpeg = large.jpg\n");
        let fast = Capture::start(CameraConfig {
            resolution: Some(size(128, 96)), rate: FrameRate::whole(60), ..camera(0)
        });
        assert_eq!(live_size(&fast.wait_live(0)), size(128, 96));
        fast.assert_red_and_blue();
        drop(fast);
        let raw = Capture::start(CameraConfig { format: Some(PixelFormat::Yuyv), resolution: Some(size(64, 48)), ..camera(0) });
        assert_eq!(live_size(&raw.wait_live(0)), size(64, 48));
        drop(raw);
        let none = Capture::start(CameraConfig { format: Some(PixelFormat::Nv12), ..camera(0) });
        none.wait_degraded("does not offer the configured format nv12: it offers YUYV, MJPG");
    }

    sizes_in_steps_and_rates_that_are_no_whole_numbers_are_taken |devices| {
        devices.set(0, "mode = NV12 32..2592+2x32..1944+2 5..90\n");
        let stepwise = Capture::start(camera(0));
        assert_eq!(live_size(&stepwise.wait_live(0)), CameraConfig::DEFAULT_RESOLUTION);
        devices.set(1, "mode = YUYV 720x480 30000/1001\nmode = YUYV 64x48 15/2\n");
        let ntsc = Capture::start(camera(1));
        assert_eq!(live_size(&ntsc.wait_live(0)), size(720, 480));
    }

    the_devices_capture_times_are_used_where_they_make_sense |devices| {
        devices.set(0, &format!("{YUYV}age = 300\n"));
        let capture = Capture::start(camera(0));
        for _ in 0..3 {
            let frame = capture.frame();
            assert!(frame.ready.duration_since(frame.captured) >= Duration::from_millis(300));
        }
        drop(capture);
        // None, an hour ahead, and far back: the frame counts as captured when it arrives.
        for nonsense in ["stamp = none", "stamp = future", "age = 11000"] {
            devices.set(0, &format!("{YUYV}{nonsense}\n"));
            let begin = Instant::now();
            let capture = Capture::start(camera(0));
            let frame = capture.frame();
            assert!(begin <= frame.captured && frame.captured <= frame.ready, "{nonsense}");
        }
    }

    frames_that_the_driver_lost_are_counted_and_leave_gaps |devices| {
        devices.set(0, &format!("{YUYV}lose = 2\n"));
        let capture = Capture::start(camera(0));
        let first = capture.frame();
        let last = loop {
            let frame = capture.frame();
            if frame.number >= first.number + 12 {
                break frame;
            }
        };
        let counters = capture.source.status().counters;
        assert!(counters.missed >= 8 && counters.corrupt == 0, "{counters:?}");
        assert_eq!((last.number - first.number) % 3, 0, "two of three are lost: {} {}", first.number, last.number);
    }

    a_stall_is_noticed_and_recovered_from |devices| {
        devices.set(0, YUYV);
        let capture = Capture::start(camera(0));
        capture.wait_live(0);
        devices.set(0, &format!("{YUYV}stall = yes\n"));
        capture.wait_degraded("stalled: no frame for 2 s");
        assert_eq!(capture.source.status().counters.stalls, 1);
        devices.set(0, YUYV);
        let status = capture.wait_live(1);
        assert_eq!(status.counters.reconnects, 1);
        capture.assert_red_and_blue();
    }

    a_device_that_never_delivers_a_frame_is_stalled_too |devices| {
        devices.set(0, &format!("{YUYV}stall = yes\n"));
        let capture = Capture::start(camera(0));
        capture.wait_degraded("stalled: no frame for 5 s");
        devices.set(0, YUYV);
        capture.wait_live(1);
    }

    /// Once its descriptor is ready and stays so, no wait for it times out.
    a_device_that_says_it_is_ready_and_never_is_is_stalled_too |devices| {
        devices.set(0, &format!("{YUYV}stall = yes\nalarm = yes\n"));
        let capture = Capture::start(camera(0));
        capture.wait_degraded("stalled: no frame for 5 s");
        devices.set(0, YUYV);
        capture.wait_live(1);
    }

    unplugged_it_is_degraded_and_plugged_in_again_it_comes_back |devices| {
        devices.set(0, YUYV);
        let capture = Capture::start(camera(0));
        let mut last = capture.frame().number;
        for plug in 1..=2 {
            capture.wait_live(plug - 1);
            devices.unplug(0);
            capture.wait_degraded("/dev/video0 is not there");
            devices.set(0, &format!("{YUYV}plug = {plug}\n"));
            assert_eq!(capture.wait_live(plug).counters.reconnects, plug);
            let _ = capture.frame();
            let number = capture.frame().number;
            assert!(number > last, "numbers go on");
            last = number;
        }
    }

    swapped_for_another_in_a_moment_it_comes_back |devices| {
        devices.set(0, YUYV);
        let capture = Capture::start(camera(0));
        capture.wait_live(0);
        devices.set(0, &format!("plug = 1\n{}", YUYV.replace("64x48", "128x96")));
        assert_eq!(live_size(&capture.wait_live(1)), size(128, 96));
    }

    plugged_in_under_another_number_it_comes_back_by_its_name |devices| {
        for selector in ["usb-Front-video-index0", "/dev/v4l/by-id/usb-Front-video-index0"] {
            devices.set(0, YUYV);
            devices.link("usb-Front-video-index0", 0);
            let capture = Capture::start(CameraConfig::new(selector.parse().unwrap()));
            capture.wait_live(0);
            devices.unplug(0);
            capture.wait_degraded("usb-Front-video-index0 is not there");
            devices.set(7, &format!("plug = 1\n{}", YUYV.replace("64x48", "128x96")));
            devices.link("usb-Front-video-index0", 7);
            assert_eq!(live_size(&capture.wait_live(1)), size(128, 96));
            drop(capture);
            devices.unplug(7);
        }
    }

    a_missing_camera_is_degraded_until_it_is_plugged_in |devices| {
        let capture = Capture::start(camera(3));
        capture.wait_degraded("/dev/video3 is not there");
        devices.set(3, YUYV);
        capture.wait_live(1);
    }

    what_is_no_camera_is_degraded_with_the_reason |devices| {
        devices.set(0, "kind = metadata\n");
        devices.set(1, "mode = H264 640x480 30\n");
        devices.set(2, "open = 13\n");
        for (index, expected) in [
            (0, "no device to capture video"),
            (1, "no format that lenscast can read (nv12, yuyv, mjpeg): it offers H264"),
            (2, "is the user in the group video?"),
        ] {
            Capture::start(camera(index)).wait_degraded(expected);
        }
        Capture::start(CameraConfig::new("/dev/null".parse().unwrap())).wait_degraded("it is no video device");
    }

    a_granted_size_that_nobody_offered_is_lived_with |devices| {
        devices.set(0, &format!("{YUYV}grant = 32x24\n"));
        let capture = Capture::start(CameraConfig { resolution: Some(size(64, 48)), ..camera(0) });
        assert_eq!(live_size(&capture.wait_live(0)), size(32, 24));
        capture.assert_red_and_blue();
        drop(capture);
        devices.set(0, &format!("{YUYV}grant = 33x5\n"));
        Capture::start(camera(0)).wait_degraded("was asked for yuyv 64x48 and grants YUYV 33x5");
    }

    short_and_flagged_frames_are_counted_and_the_stream_goes_on |devices| {
        devices.set(0, PATIENT);
        let capture = Capture::start(camera(0));
        capture.wait_live(0);
        for fault in ["short = 1000", "short = 0", "error = yes"] {
            devices.set(0, &format!("{PATIENT}{fault}\n"));
            capture.wait_corrupt(3);
            devices.set(0, PATIENT);
            let status = capture.wait_frames(3);
            assert_eq!(status.counters.reconnects, 0, "{fault}: the stream went on");
            capture.assert_red_and_blue();
        }
    }

    buffers_shorter_than_the_format_are_counted_as_corrupt |devices| {
        devices.set(0, &format!("{PATIENT}buffer = 3000\n"));
        let capture = Capture::start(camera(0));
        assert_eq!(capture.wait_corrupt(5).counters.frames, 0);
    }

    truncated_and_garbage_mjpeg_is_counted_and_the_stream_goes_on |devices| {
        let jpeg = devices.jpeg("halves.jpg", 64, 48);
        devices.jpeg("other.jpg", 32, 32);
        let good = format!("mode = MJPG 64x48 1/30\npace = 20\nmjpeg = halves.jpg\ntail = {}\n", jpeg.len());
        devices.set(0, &good);
        let capture = Capture::start(camera(0));
        capture.wait_live(0);
        let faults = [
            format!("short = {}", jpeg.len() / 2),
            "short = 20".to_owned(),
            "garbage = yes".to_owned(),
            "mjpeg = other.jpg".to_owned(),
        ];
        for fault in faults {
            devices.set(0, &format!("{good}{fault}\n"));
            capture.wait_corrupt(3);
            devices.set(0, &good);
            let status = capture.wait_frames(3);
            assert_eq!(status.counters.reconnects, 0, "{fault}: the stream went on");
            capture.assert_red_and_blue();
        }
    }

    a_camera_that_delivers_rubbish_only_is_degraded |devices| {
        devices.set(0, "mode = MJPG 64x48 50\ngarbage = yes\n");
        let capture = Capture::start(camera(0));
        capture.wait_degraded("delivers nothing usable: a frame that cannot be decoded");
        assert_eq!(capture.source.status().counters.frames, 0);
    }

    a_busy_device_is_degraded_until_it_is_free |devices| {
        devices.set(0, &format!("{YUYV}busy = yes\n"));
        let capture = Capture::start(camera(0));
        capture.wait_degraded("another program uses it");
        devices.set(0, YUYV);
        capture.wait_live(1);
        let second = Capture::start(camera(0));
        second.wait_degraded("another program uses it");
        assert_eq!(list_cameras()[0].error, None, "listing asks nothing that is denied");
        let status = capture.wait_frames(3);
        assert_eq!(status.counters.reconnects, 1, "nobody disturbs the one who streams");
    }

    a_device_that_does_not_start_is_tried_again |devices| {
        devices.set(0, &format!("{YUYV}streamon = 5\n"));
        let capture = Capture::start(camera(0));
        capture.wait_degraded("os error 5");
        devices.set(0, YUYV);
        capture.wait_live(1);
    }

    /// The device says that a frame takes half a minute, so its stall would be noticed after two and a half: later than
    /// this test may take.
    stopping_does_not_wait_for_a_device_that_stalls |devices| {
        devices.set(0, PATIENT);
        let capture = Capture::start(camera(0));
        capture.wait_live(0);
        devices.set(0, &format!("{PATIENT}stall = yes\n"));
        // What is on its way arrives, and then nothing more: two looks a frame's time apart see the same.
        let mut frames = capture.source.status().counters.frames;
        while let Some(status) = capture.source.wait_until(Duration::from_millis(200), |s| s.counters.frames > frames) {
            frames = status.counters.frames;
        }
        capture.source.stop();
    }

    nothing_is_left_of_a_camera_that_came_and_went |devices| {
        let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mapped = || fs::read_to_string("/proc/self/maps").unwrap().matches("fake-v4l2 (deleted)").count();
        devices.set(0, YUYV);
        let capture = Capture::start(camera(0));
        capture.wait_live(0);
        let before = (open_files(), mapped());
        assert_eq!(before.1, 4, "the buffers are mapped");
        for plug in 1..=3 {
            devices.set(0, &format!("{YUYV}plug = {plug}\n"));
            capture.wait_live(plug);
            assert_eq!((open_files(), mapped()), before);
        }
        capture.source.stop();
        assert_eq!(mapped(), 0);
    }

    /// Why `capture/src/camera/backend.rs` exists. If this fails, nokhwa has learned to tell: see there.
    nokhwas_own_backend_streams_too_but_does_not_tell_a_short_frame |devices| {
        use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};
        devices.set(0, YUYV);
        let format = CameraFormat::new_from(64, 48, FrameFormat::YUYV, 50);
        let request = RequestedFormat::with_formats(RequestedFormatType::Exact(format), &[FrameFormat::YUYV]);
        let mut camera = nokhwa::Camera::new(CameraIndex::Index(0), request).unwrap();
        camera.open_stream().unwrap();
        // Once around all buffers, so that each holds a frame.
        let whole = (0..8).map(|_| camera.frame().unwrap()).last().unwrap();
        assert_eq!(whole.buffer().len(), 64 * 48 * 2);
        assert_eq!(whole.buffer()[..4], [RED[0], RED[1], RED[0], RED[2]]);
        assert_eq!(whole.buffer()[126..128], [BLUE[0], BLUE[2]]);
        // Black from now on, and cut: the rest of each buffer is still of the coloured frames.
        devices.set(0, "mode = YUYV 64x48 50\nshort = 1280\n");
        let torn = (0..1_000).map(|_| camera.frame().unwrap()).find(|frame| frame.buffer()[0] == 16).unwrap();
        assert_eq!(torn.buffer().len(), 64 * 48 * 2, "handed out as a whole frame");
        let colours: BTreeSet<u8> = torn.buffer().iter().step_by(2).copied().collect();
        assert_eq!(colours, BTreeSet::from([16, RED[0], BLUE[0]]), "black above, an older frame below");
    }
}
