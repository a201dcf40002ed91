//! Models of the frame buffer, explored exhaustively by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg lenscast_loom" cargo test -p lenscast-capture --no-default-features --test loom_frame_buffer --release
//! ```
//!
//! Each model is a function over [`Buffer`]. It must hold for the real buffer, and it must fail for at least one buffer
//! that is broken in the way the model guards against: those tests say `should_panic` and name the defect.

#![cfg(lenscast_loom)]

use std::mem::ManuallyDrop;
use std::ops::Deref;

use lenscast_capture::{Closed, FrameBuffer, Put};
use lenscast_media::sync::{Arc, Condvar, Mutex, thread};

/// What the models need of a frame buffer.
trait Buffer: Send + Sync + 'static {
    fn new() -> Self;
    fn put(&self, item: u32) -> Result<Put, Closed>;
    fn wait(&self) -> Result<(), Closed>;
    fn try_take(&self) -> Option<u32>;
    fn close(&self);
    /// Put, evicted, taken.
    fn counters(&self) -> (u64, u64, u64);
}

impl Buffer for FrameBuffer<u32> {
    fn new() -> Self {
        Self::new()
    }
    fn put(&self, item: u32) -> Result<Put, Closed> {
        self.put(item)
    }
    fn wait(&self) -> Result<(), Closed> {
        self.wait()
    }
    fn try_take(&self) -> Option<u32> {
        self.try_take()
    }
    fn close(&self) {
        self.close();
    }
    fn counters(&self) -> (u64, u64, u64) {
        let counters = self.counters();
        (counters.put, counters.evicted, counters.taken)
    }
}

/// An `Arc` that is not given back while a model's failure unwinds: loom is then past counting, and would abort the test.
struct Shared<B>(ManuallyDrop<Arc<B>>);

impl<B: Buffer> Shared<B> {
    fn new() -> Self {
        Self(ManuallyDrop::new(Arc::new(B::new())))
    }
}

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self(ManuallyDrop::new(Arc::clone(&self.0)))
    }
}

impl<B> Deref for Shared<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.0
    }
}

impl<B> Drop for Shared<B> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: dropped once, here, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

/// Put ∥ take: the reader sees the frames in order, and the newest is never lost.
fn newest_wins<B: Buffer>() {
    loom::model(|| {
        let buffer = Shared::<B>::new();
        let writer = thread::spawn({
            let buffer = buffer.clone();
            move || {
                let first = buffer.put(1).unwrap();
                let second = buffer.put(2).unwrap();
                (first, second)
            }
        });
        let early = buffer.try_take();
        let (first, second) = writer.join().unwrap();
        let late = buffer.try_take();
        assert_eq!(first, Put::Stored, "nothing was there to be displaced");
        match early {
            None => assert_eq!((second, late), (Put::Evicted, Some(2))),
            Some(1) => assert_eq!((second, late), (Put::Stored, Some(2))),
            Some(2) => assert_eq!((second, late), (Put::Evicted, None)),
            Some(other) => panic!("frame {other} was never put"),
        }
    });
}

/// Put ∥ wait: a reader that waits is woken (loom reports the deadlock if it is not), and finds a frame.
fn put_wakes_the_reader<B: Buffer>() {
    loom::model(|| {
        let buffer = Shared::<B>::new();
        let writer = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.put(7).unwrap()
        });
        assert_eq!(buffer.wait(), Ok(()));
        assert_eq!(buffer.try_take(), Some(7));
        assert_eq!(writer.join().unwrap(), Put::Stored);
    });
}

/// Close ∥ wait: a reader that waits is woken and told.
fn close_wakes_the_reader<B: Buffer>() {
    loom::model(|| {
        let buffer = Shared::<B>::new();
        let closer = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.close()
        });
        assert_eq!(buffer.wait(), Err(Closed));
        closer.join().unwrap();
    });
}

/// Put ∥ close: whichever comes first, the buffer ends empty and shut, and the frame is refused or counted as evicted.
fn close_is_final_for_writers<B: Buffer>() {
    loom::model(|| {
        let buffer = Shared::<B>::new();
        let writer = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.put(1)
        });
        buffer.close();
        let put = writer.join().unwrap();
        assert_eq!(buffer.try_take(), None, "a frame came out of a closed buffer");
        assert_eq!(buffer.wait(), Err(Closed));
        assert_eq!(buffer.put(2), Err(Closed));
        let accepted = u64::from(put.is_ok());
        assert_eq!(buffer.counters(), (accepted, accepted, 0));
    });
}

/// Take ∥ close: the frame goes to the reader or is counted as evicted, never both and never neither.
fn close_is_final_for_the_reader<B: Buffer>() {
    loom::model(|| {
        let buffer = Shared::<B>::new();
        assert_eq!(buffer.put(1), Ok(Put::Stored));
        let closer = thread::spawn({
            let buffer = buffer.clone();
            move || {
                buffer.close();
                buffer.try_take()
            }
        });
        let taken = buffer.try_take();
        assert_eq!(closer.join().unwrap(), None, "a frame came out of a closed buffer");
        assert_eq!(buffer.try_take(), None, "a frame came out of a closed buffer");
        assert_eq!(buffer.wait(), Err(Closed));
        let taken = u64::from(taken.is_some());
        assert_eq!(buffer.counters(), (1, 1 - taken, taken));
    });
}

/// Two writers ∥ a reader that waits: each frame is taken once, or counted as evicted once.
fn every_frame_is_accounted_for<B: Buffer>() {
    loom::model(|| {
        let buffer = Shared::<B>::new();
        let writers = [1, 2].map(|item| {
            let buffer = buffer.clone();
            thread::spawn(move || buffer.put(item).unwrap())
        });
        assert_eq!(buffer.wait(), Ok(()));
        let mut taken: Vec<u32> = buffer.try_take().into_iter().collect();
        assert_eq!(taken.len(), 1, "there is one reader: what it was promised is there");
        let evictions = writers.map(|writer| writer.join().unwrap()).into_iter().filter(|put| *put == Put::Evicted);
        let evicted = evictions.count() as u64;
        taken.extend(buffer.try_take());
        taken.dedup();
        assert_eq!(taken.len() as u64 + evicted, 2, "taken {taken:?}, evicted {evicted}");
        assert_eq!(buffer.counters(), (2, evicted, taken.len() as u64));
    });
}

/// A frame buffer with one defect, chosen by `DEFECT`.
struct Broken<const DEFECT: u8> {
    slot: Mutex<BrokenSlot>,
    changed: Condvar,
}

#[derive(Default)]
struct BrokenSlot {
    item: Option<u32>,
    closed: bool,
    counters: (u64, u64, u64),
}

const OLDEST_WINS: u8 = 0;
const PUT_WITHOUT_NOTIFYING: u8 = 1;
const WAIT_CHECKS_BEFORE_IT_LOCKS: u8 = 2;
const CLOSE_WITHOUT_NOTIFYING: u8 = 3;
const PUT_CHECKS_CLOSED_BEFORE_IT_LOCKS: u8 = 4;
const CLOSE_KEEPS_THE_FRAME: u8 = 5;
const CLOSE_COUNTS_AFTER_ITS_LOCK: u8 = 6;
const EVICTION_JUDGED_BEFORE_THE_LOCK: u8 = 7;
const TAKE_COPIES: u8 = 8;

impl<const DEFECT: u8> Buffer for Broken<DEFECT> {
    fn new() -> Self {
        Self { slot: Mutex::new(BrokenSlot::default()), changed: Condvar::new() }
    }

    fn put(&self, item: u32) -> Result<Put, Closed> {
        let before = {
            let slot = self.slot.lock();
            (slot.closed, slot.item.is_some())
        };
        let closed_before = before.0;
        if DEFECT == PUT_CHECKS_CLOSED_BEFORE_IT_LOCKS && closed_before {
            return Err(Closed);
        }
        let mut slot = self.slot.lock();
        if DEFECT != PUT_CHECKS_CLOSED_BEFORE_IT_LOCKS && slot.closed {
            return Err(Closed);
        }
        let evicted = if DEFECT == EVICTION_JUDGED_BEFORE_THE_LOCK { before.1 } else { slot.item.is_some() };
        if !(DEFECT == OLDEST_WINS && evicted) {
            slot.item = Some(item);
        }
        slot.counters.0 += 1;
        slot.counters.1 += u64::from(evicted);
        drop(slot);
        if DEFECT != PUT_WITHOUT_NOTIFYING {
            self.changed.notify_one();
        }
        Ok(if evicted { Put::Evicted } else { Put::Stored })
    }

    fn wait(&self) -> Result<(), Closed> {
        if DEFECT == WAIT_CHECKS_BEFORE_IT_LOCKS {
            let nothing_yet = {
                let slot = self.slot.lock();
                slot.item.is_none() && !slot.closed
            };
            if nothing_yet {
                drop(self.changed.wait(self.slot.lock()));
            }
        }
        let mut slot = self.slot.lock();
        loop {
            if slot.closed {
                return Err(Closed);
            }
            if slot.item.is_some() {
                return Ok(());
            }
            slot = self.changed.wait(slot);
        }
    }

    fn try_take(&self) -> Option<u32> {
        let mut slot = self.slot.lock();
        let item = if DEFECT == TAKE_COPIES { slot.item? } else { slot.item.take()? };
        slot.counters.2 += 1;
        Some(item)
    }

    fn close(&self) {
        let mut slot = self.slot.lock();
        slot.closed = true;
        if DEFECT == CLOSE_COUNTS_AFTER_ITS_LOCK {
            let item = slot.item;
            drop(slot);
            slot = self.slot.lock();
            slot.item = None;
            slot.counters.1 += u64::from(item.is_some());
        } else if DEFECT != CLOSE_KEEPS_THE_FRAME {
            let item = slot.item.take();
            slot.counters.1 += u64::from(item.is_some());
        }
        drop(slot);
        if DEFECT != CLOSE_WITHOUT_NOTIFYING {
            self.changed.notify_all();
        }
    }

    fn counters(&self) -> (u64, u64, u64) {
        self.slot.lock().counters
    }
}

/// The model over the real buffer, and over buffers with a defect that it must find.
macro_rules! models {
    ($($model:ident { $($defect:ident => $name:ident),+ $(,)? })+) => {$(
        mod $model {
            use super::*;

            #[test]
            fn holds() {
                super::$model::<FrameBuffer<u32>>();
            }

            $(
                #[test]
                #[should_panic]
                fn $name() {
                    super::$model::<Broken<$defect>>();
                }
            )+
        }
    )+};
}

models! {
    newest_wins {
        OLDEST_WINS => finds_that_the_oldest_wins,
        EVICTION_JUDGED_BEFORE_THE_LOCK => finds_an_eviction_told_that_was_none,
    }
    put_wakes_the_reader {
        PUT_WITHOUT_NOTIFYING => finds_a_put_that_does_not_notify,
        WAIT_CHECKS_BEFORE_IT_LOCKS => finds_a_wake_up_lost_between_check_and_wait,
    }
    close_wakes_the_reader {
        CLOSE_WITHOUT_NOTIFYING => finds_a_close_that_does_not_notify,
        WAIT_CHECKS_BEFORE_IT_LOCKS => finds_a_close_lost_between_check_and_wait,
    }
    close_is_final_for_writers {
        PUT_CHECKS_CLOSED_BEFORE_IT_LOCKS => finds_a_put_after_close,
        CLOSE_KEEPS_THE_FRAME => finds_a_frame_left_in_a_closed_buffer,
    }
    close_is_final_for_the_reader {
        CLOSE_KEEPS_THE_FRAME => finds_a_frame_taken_out_of_a_closed_buffer,
        CLOSE_COUNTS_AFTER_ITS_LOCK => finds_a_frame_both_taken_and_evicted,
    }
    every_frame_is_accounted_for {
        TAKE_COPIES => finds_a_frame_taken_twice,
        EVICTION_JUDGED_BEFORE_THE_LOCK => finds_a_lost_eviction,
        PUT_WITHOUT_NOTIFYING => finds_a_put_that_does_not_notify,
    }
}
