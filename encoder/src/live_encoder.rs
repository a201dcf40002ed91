//! What every backend has in common, around the [`Library`] that each is.
//!
//! **Invariants.** A library gets pictures of its own size only, legal targets only, and times that advance. It is
//! asked for a key frame with its first picture and for as long as one is owed.
//!
//! What it does not do: anything a codec does. It does see to it that key frames stay small, see [`key_frame_size`], and
//! that the budget is kept, see [`frame_budget`].
//!
//! [`key_frame_size`]: crate::key_frame_size
//! [`frame_budget`]: crate::frame_budget

use std::time::Duration;

use lenscast_media::{Bitrate, EncodedFrame, Picture};

use crate::frame_budget::FrameBudget;
use crate::frame_clock::{FrameClock, FrameTime};
use crate::key_frame_size::{Coarsening, key_frame_limit};
use crate::settings::is_legal_bitrate;
use crate::temporal_layers::LayerPlace;
use crate::{BuildEncoderError, EncodeError, EncoderSettings, FrameTiming, VideoEncoder};

/// A codec library with one encoder running.
pub(crate) trait Library: Send + Sized {
    /// True if key frames are kept small: a first one that came out too large is made again by a fresh instance. And if
    /// frames are dropped that the budget has no room for.
    const KEEPS_BUDGET: bool;

    /// True if the library is known to fail on some pictures and be of no use afterwards: a frame that failed is made again
    /// by a fresh instance. An error of any other library is nothing to be expected, and the caller learns of it.
    const RESTARTS: bool;

    /// Starts an encoder. The settings are legal.
    fn start(settings: &EncoderSettings) -> Result<Self, LibraryError>;

    /// The next frame is made at this legal target.
    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), LibraryError>;

    /// Encodes a picture of the settings' size. `None` if nothing came out.
    fn encode(
        &mut self,
        picture: &Picture,
        time: FrameTime,
        key_frame: bool,
    ) -> Result<Option<FrameInfo>, LibraryError>;

    /// The bitstream of the last frame that came out; empty after any other call.
    fn output(&self) -> &[u8];
}

/// What is known of a frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameInfo {
    pub(crate) key_frame: bool,
    /// In the codec's own scale, where the library tells it.
    pub(crate) quantizer: Option<u8>,
    pub(crate) place: LayerPlace,
}

/// What lenscast was doing when a library refused, and the library's words.
#[derive(Debug)]
pub(crate) struct LibraryError {
    pub(crate) operation: &'static str,
    pub(crate) detail: String,
}

/// A [`VideoEncoder`] out of a [`Library`].
pub(crate) struct LiveEncoder<L> {
    settings: EncoderSettings,
    library: L,
    clock: FrameClock,
    budget: FrameBudget,
    /// How long the library was not asked, all in all: its clock stood still, or it would make the next frames larger.
    left_out: Duration,
    /// When the last frame was to start, asked for or not.
    last_start: Duration,
    /// When the last frame ended that the library was asked for, by its own clock.
    library_end: Duration,
    /// A key frame was asked for, or is the first, and has not come out yet.
    key_frame_owed: bool,
    /// Nothing has come out yet.
    first: bool,
    coarsening: Coarsening,
}

/// By which each frame ends later than the one before: libvpx counts in microseconds, openh264 in milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);

impl<L: Library> LiveEncoder<L> {
    pub(crate) fn new(settings: &EncoderSettings) -> Result<Self, BuildEncoderError> {
        let EncoderSettings { backend, resolution, .. } = *settings;
        let library = L::start(settings).map_err(|LibraryError { operation, detail }| BuildEncoderError::Library {
            backend,
            resolution,
            operation,
            detail,
        })?;
        Ok(Self {
            settings: *settings,
            library,
            clock: FrameClock::new(settings),
            budget: FrameBudget::new(settings.frame_interval()),
            left_out: Duration::ZERO,
            last_start: Duration::ZERO,
            library_end: Duration::ZERO,
            key_frame_owed: true,
            first: true,
            coarsening: Coarsening::none(),
        })
    }

    fn encode_at(&mut self, picture: &Picture, time: FrameTime) -> Result<Option<FrameInfo>, LibraryError> {
        let Self { settings, library, key_frame_owed, first, coarsening, .. } = self;
        let limit = key_frame_limit(settings);
        let wanted = *key_frame_owed;
        match library.encode(if wanted { coarsening.apply(picture) } else { picture }, time, wanted) {
            Ok(Some(FrameInfo { key_frame: true, .. }))
                if L::KEEPS_BUDGET && *first && library.output().len() > limit =>
            {
                // The rate control has seen a frame that nobody will: only a fresh encoder has its budget intact.
                coarsening.choose(library.output().len(), limit);
            }
            Ok(info) => {
                if L::KEEPS_BUDGET && info.is_some_and(|info| info.key_frame) {
                    coarsening.adapt(library.output().len(), limit);
                }
                return Ok(info);
            }
            // openh264 gives up on a frame of over 8 bits a pixel, and is of no use afterwards (`WelsEncodeNal` in
            // `codec/encoder/core/src/nal_encap.cpp`, `EncodeFrame` in `codec/encoder/plus/src/welsEncoderExt.cpp`). A
            // coarse picture is far below that.
            Err(LibraryError { operation, detail }) if L::RESTARTS => {
                let EncoderSettings { backend, resolution, .. } = settings;
                tracing::warn!(%backend, %resolution, operation, detail, "a frame failed; its library is started anew");
                coarsening.choose(4 * limit, limit);
            }
            Err(error) => return Err(error),
        }
        loop {
            *library = L::start(settings)?;
            let info = library.encode(coarsening.apply(picture), time, true)?;
            if library.output().len() <= limit || coarsening.is_coarsest() {
                return Ok(info);
            }
            coarsening.adapt(library.output().len(), limit);
        }
    }

    fn library_error(&self, LibraryError { operation, detail }: LibraryError) -> EncodeError {
        let EncoderSettings { backend, resolution, .. } = self.settings;
        EncodeError::Library { backend, resolution, operation, detail }
    }
}

impl<L: Library> VideoEncoder for LiveEncoder<L> {
    fn settings(&self) -> &EncoderSettings {
        &self.settings
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), EncodeError> {
        if !is_legal_bitrate(target) {
            return Err(EncodeError::Bitrate { backend: self.settings.backend, bitrate: target });
        }
        if target != self.settings.bitrate {
            self.library.set_bitrate(target).map_err(|error| self.library_error(error))?;
            self.settings.bitrate = target;
        }
        Ok(())
    }

    fn encode(
        &mut self,
        picture: &Picture,
        timing: FrameTiming,
        key_frame: bool,
    ) -> Result<Option<EncodedFrame<'_>>, EncodeError> {
        let EncoderSettings { backend, resolution, bitrate, .. } = self.settings;
        if picture.resolution() != resolution {
            return Err(EncodeError::PictureSize { backend, expected: resolution, picture: picture.resolution() });
        }
        let time = self.clock.advance(timing, bitrate);
        self.key_frame_owed |= key_frame;
        if !self.budget.advance(time.start) && L::KEEPS_BUDGET {
            // What the next frame would have come after this one.
            self.left_out += time.start.saturating_sub(self.last_start);
            self.last_start = time.start;
            return Ok(None);
        }
        self.last_start = time.start;
        let start = time.start - self.left_out;
        // An end that a frame put off, which was left out then, must not fall behind the last one that the library saw.
        let end = (start + time.duration).max(self.library_end + SHORTEST);
        self.library_end = end;
        let time = FrameTime { start, duration: end - start };
        let Some(info) = self.encode_at(picture, time).map_err(|error| self.library_error(error))? else {
            return Ok(None);
        };
        self.budget.spend(self.library.output().len(), bitrate);
        self.first = false;
        self.key_frame_owed &= !info.key_frame;
        Ok(Some(EncodedFrame {
            data: self.library.output(),
            codec: backend.codec(),
            key_frame: info.key_frame,
            resolution,
            temporal_layer: info.place.layer,
            layer_sync: info.place.sync,
            quantizer: info.quantizer,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lenscast_media::Resolution;

    use super::*;
    use crate::{Backend, TemporalLayers};

    /// Makes large key frames of pictures with detail and small frames of all else, unless it is told what else to do.
    struct Fake<const RESTARTS: bool = true> {
        output: Vec<u8>,
        /// The last of them is next.
        orders: Vec<Order>,
    }

    #[derive(Clone, Copy)]
    enum Order {
        Drop,
        Fail,
        /// Give a delta frame, whatever is asked for.
        Delta,
    }

    /// Bytes of a key frame of a picture with detail, and of one without.
    const LARGE: usize = 100_000;
    const SMALL: usize = 1_000;

    impl<const RESTARTS: bool> Library for Fake<RESTARTS> {
        const KEEPS_BUDGET: bool = true;
        const RESTARTS: bool = RESTARTS;

        fn start(_: &EncoderSettings) -> Result<Self, LibraryError> {
            Ok(Self { output: Vec::new(), orders: Vec::new() })
        }

        fn set_bitrate(&mut self, _: Bitrate) -> Result<(), LibraryError> {
            Ok(())
        }

        fn encode(
            &mut self,
            picture: &Picture,
            _: FrameTime,
            key_frame: bool,
        ) -> Result<Option<FrameInfo>, LibraryError> {
            self.output.clear();
            let order = self.orders.pop();
            let key_frame = key_frame && !matches!(order, Some(Order::Delta));
            match order {
                Some(Order::Drop) => return Ok(None),
                Some(Order::Fail) => return Err(LibraryError { operation: "testing", detail: "as ordered".into() }),
                Some(Order::Delta) | None => {}
            }
            let luma = picture.planes().y;
            let size = if key_frame && luma[0] != luma[1] { LARGE } else { SMALL };
            self.output.resize(size, 0);
            Ok(Some(FrameInfo { key_frame, quantizer: None, place: LayerPlace::BASE }))
        }

        fn output(&self) -> &[u8] {
            &self.output
        }
    }

    fn settings() -> EncoderSettings {
        EncoderSettings {
            backend: Backend::Vp8,
            resolution: Resolution::new(64, 64).unwrap(),
            framerate: 30.0,
            bitrate: Bitrate::from_kbps(1_500),
            temporal_layers: TemporalLayers::One,
        }
    }

    fn detailed() -> Picture {
        let mut picture = Picture::black(settings().resolution);
        for (index, luma) in picture.planes_mut().y.iter_mut().enumerate() {
            *luma = if index % 2 == 0 { 30 } else { 220 };
        }
        picture
    }

    /// Encodes frame `number` and says whether it was a key frame, and how large.
    fn encode(encoder: &mut LiveEncoder<Fake>, number: u32, key_frame: bool) -> Option<(bool, usize)> {
        let interval = Duration::from_millis(33);
        let timing = FrameTiming { timestamp: interval * number, duration: interval };
        let frame = encoder.encode(&detailed(), timing, key_frame).unwrap();
        frame.map(|frame| (frame.key_frame, frame.data.len()))
    }

    #[test]
    fn a_key_frame_is_owed_until_it_comes_out() {
        let mut encoder = LiveEncoder::<Fake>::new(&settings()).unwrap();
        encoder.library.orders = vec![Order::Drop, Order::Drop];
        assert_eq!((encode(&mut encoder, 0, false), encode(&mut encoder, 1, false)), (None, None));
        assert!(encode(&mut encoder, 2, false).unwrap().0, "the first frame that comes out");
        assert!(!encode(&mut encoder, 3, false).unwrap().0);

        encoder.library.orders = vec![Order::Drop];
        assert_eq!(encode(&mut encoder, 4, true), None);
        assert!(encode(&mut encoder, 5, false).unwrap().0, "asked for before the drop");
        assert!(!encode(&mut encoder, 6, false).unwrap().0);

        encoder.library.orders = vec![Order::Delta];
        assert!(!encode(&mut encoder, 7, true).unwrap().0);
        assert!(encode(&mut encoder, 8, false).unwrap().0, "asked for before the delta frame");
    }

    #[test]
    fn a_first_key_frame_over_the_limit_is_made_again_from_a_coarser_picture() {
        let mut encoder = LiveEncoder::<Fake>::new(&settings()).unwrap();
        assert_eq!(encode(&mut encoder, 0, false), Some((true, SMALL)));
    }

    #[test]
    fn a_frame_that_fails_is_made_again_by_a_fresh_library_as_a_key_frame() {
        let mut encoder = LiveEncoder::<Fake>::new(&settings()).unwrap();
        encode(&mut encoder, 0, false);
        encoder.library.orders = vec![Order::Fail, Order::Fail];
        assert_eq!(encode(&mut encoder, 1, false), Some((true, SMALL)), "coarse, and its orders forgotten");
        assert!(!encode(&mut encoder, 2, false).unwrap().0);
    }

    /// A fresh library hid errors that nobody expects, and made a key frame of each.
    #[test]
    fn an_error_of_a_library_that_is_not_known_to_fail_is_told() {
        let mut encoder = LiveEncoder::<Fake<false>>::new(&settings()).unwrap();
        let timing = |number| FrameTiming { timestamp: Duration::from_millis(33) * number, duration: Duration::ZERO };
        encoder.encode(&detailed(), timing(0), false).unwrap();
        encoder.library.orders = vec![Order::Fail];
        let text = encoder.encode(&detailed(), timing(1), false).unwrap_err().to_string();
        assert!(text.contains("testing failed: as ordered"), "{text}");
        let next = encoder.encode(&detailed(), timing(2), false).unwrap().unwrap();
        assert!(!next.key_frame, "the library is the same");
    }

    #[test]
    fn detail_comes_back_to_key_frames_once_they_are_small() {
        let mut encoder = LiveEncoder::<Fake>::new(&settings()).unwrap();
        let sizes: Vec<_> = (0..6).map(|number| encode(&mut encoder, number, true).unwrap().1).collect();
        // Three steps coarser at once, a step finer after each small key frame, and a step coarser after a large one.
        assert_eq!(sizes, [SMALL, SMALL, SMALL, SMALL, LARGE, SMALL]);
    }

    #[test]
    fn a_refused_target_leaves_the_old_one() {
        let mut encoder = LiveEncoder::<Fake>::new(&settings()).unwrap();
        for bitrate in [Bitrate::ZERO, Bitrate::from_bps(1), Bitrate::from_kbps(10_000_000)] {
            let text = encoder.set_bitrate(bitrate).unwrap_err().to_string();
            for part in ["bitrate", &bitrate.as_bps().to_string(), "10000 to 100000000 b/s"] {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
        }
        assert_eq!(*encoder.settings(), settings());
    }

    /// Makes frames far too large, and notes what it was told of their times.
    struct Timekeeper {
        output: Vec<u8>,
        times: Vec<FrameTime>,
    }

    impl Library for Timekeeper {
        const KEEPS_BUDGET: bool = true;
        const RESTARTS: bool = false;

        fn start(_: &EncoderSettings) -> Result<Self, LibraryError> {
            Ok(Self { output: Vec::new(), times: Vec::new() })
        }

        fn set_bitrate(&mut self, _: Bitrate) -> Result<(), LibraryError> {
            Ok(())
        }

        fn encode(&mut self, _: &Picture, time: FrameTime, key_frame: bool) -> Result<Option<FrameInfo>, LibraryError> {
            self.times.push(time);
            self.output = vec![0; if key_frame { 5_000 } else { 150_000 }];
            Ok(Some(FrameInfo { key_frame, quantizer: None, place: LayerPlace::BASE }))
        }

        fn output(&self) -> &[u8] {
            &self.output
        }
    }

    /// After a gap, each frame that was dropped set the library's clock back.
    #[test]
    fn a_library_s_clock_advances_whatever_was_dropped_and_however_irregular_frames_are() {
        let settings = EncoderSettings { bitrate: Bitrate::from_kbps(500), ..settings() };
        let mut encoder = LiveEncoder::<Timekeeper>::new(&settings).unwrap();
        let mut timestamp = Duration::ZERO;
        for frame in 0..400 {
            let duration = Duration::from_millis(if frame % 40 == 20 { 900 } else { 33 });
            timestamp += duration;
            encoder.encode(&detailed(), FrameTiming { timestamp, duration }, false).unwrap();
        }
        let times = &encoder.library.times;
        assert!(times.len() > 5 && times.len() < 200, "{} of 400 were made, or this tests nothing", times.len());
        for pair in times.windows(2) {
            assert!(pair[1].start > pair[0].start, "{pair:?}");
            assert!(pair[1].start + pair[1].duration > pair[0].start + pair[0].duration, "{pair:?}");
        }
    }
}
