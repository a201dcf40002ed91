//! The slot between a source and the encode task of its track.
//!
//! One slot, newest wins: a live viewer wants the present, so a frame that nobody took in time is worth nothing once its
//! successor is there. Nothing upstream of the buffer ever blocks, and nothing is lost in silence: what is displaced is
//! counted, and [`FrameBuffer::put`] tells the caller.
//!
//! **Invariants**, modelled under loom in `tests/loom_frame_buffer.rs`:
//!
//! - the reader gets the newest frame, and never an older one after a newer one;
//! - `put = taken + evicted + (1 while a frame lies in the slot)` at every moment;
//! - a frame that is put wakes a reader that waits; so does closing;
//! - closing is final: no frame goes in or comes out after it.
//!
//! What it does not do: queue, time out, or know what a frame is.

use lenscast_media::sync::{Condvar, Mutex};
use thiserror::Error;

/// One slot, newest wins. See the module's text.
///
/// Made for one reader and any number of writers. With two readers nothing breaks, but a frame that
/// [`FrameBuffer::wait`] promised to one of them may be taken by the other.
#[derive(Debug)]
pub struct FrameBuffer<T> {
    slot: Mutex<Slot<T>>,
    /// Notified, with `slot` changed, on every put and on closing.
    changed: Condvar,
}

#[derive(Debug)]
struct Slot<T> {
    item: Option<T>,
    closed: bool,
    counters: FrameBufferCounters,
}

/// What became of the frames of a [`FrameBuffer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameBufferCounters {
    /// Frames that went in.
    pub put: u64,
    /// Frames that were displaced by a newer one, or still lay in the slot when it was closed.
    pub evicted: u64,
    /// Frames that the reader took.
    pub taken: u64,
}

/// What [`FrameBuffer::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The slot was empty.
    Stored,
    /// A frame that nobody had taken was displaced.
    Evicted,
}

/// The buffer was closed: there will be no frame again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the frame buffer is closed")]
pub struct Closed;

impl<T> FrameBuffer<T> {
    /// An open buffer without a frame.
    #[must_use]
    pub fn new() -> Self {
        let slot = Slot { item: None, closed: false, counters: FrameBufferCounters::default() };
        Self { slot: Mutex::new(slot), changed: Condvar::new() }
    }

    /// What became of the frames so far.
    #[must_use]
    pub fn counters(&self) -> FrameBufferCounters {
        self.slot.lock().counters
    }

    /// Puts `item` into the slot in place of what is there. Never blocks on the reader.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the buffer was closed; `item` is then dropped and not counted.
    pub fn put(&self, item: T) -> Result<Put, Closed> {
        let mut slot = self.slot.lock();
        if slot.closed {
            return Err(Closed);
        }
        let displaced = slot.item.replace(item);
        slot.counters.put += 1;
        slot.counters.evicted += u64::from(displaced.is_some());
        drop(slot);
        self.changed.notify_one();
        // The displaced frame is dropped here, after the lock: giving back its memory must not hold up the reader.
        Ok(if displaced.is_some() { Put::Evicted } else { Put::Stored })
    }

    /// Blocks until a frame is in the slot. Takes nothing, so the caller may acquire what it needs in between.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the buffer is closed.
    pub fn wait(&self) -> Result<(), Closed> {
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

    /// Takes the frame out of the slot, if there is one.
    #[must_use]
    pub fn try_take(&self) -> Option<T> {
        let mut slot = self.slot.lock();
        let item = slot.item.take()?;
        slot.counters.taken += 1;
        Some(item)
    }

    /// Closes the buffer for good and wakes whoever waits. A frame still in the slot counts as evicted. Idempotent.
    pub fn close(&self) {
        let mut slot = self.slot.lock();
        slot.closed = true;
        let displaced = slot.item.take();
        slot.counters.evicted += u64::from(displaced.is_some());
        drop(slot);
        self.changed.notify_all();
    }
}

impl<T> Default for FrameBuffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_frame_wins_and_the_eviction_is_told_and_counted() {
        let buffer = FrameBuffer::new();
        assert_eq!(buffer.put(1), Ok(Put::Stored));
        assert_eq!(buffer.put(2), Ok(Put::Evicted));
        assert_eq!(buffer.try_take(), Some(2));
        assert_eq!(buffer.try_take(), None);
        assert_eq!(buffer.counters(), FrameBufferCounters { put: 2, evicted: 1, taken: 1 });
    }

    #[test]
    fn waiting_takes_nothing() {
        let buffer = FrameBuffer::new();
        buffer.put(1).unwrap();
        assert_eq!((buffer.wait(), buffer.wait()), (Ok(()), Ok(())));
        assert_eq!(buffer.try_take(), Some(1));
    }

    #[test]
    fn a_waiting_reader_wakes_when_the_buffer_closes() {
        let buffer = Arc::new(FrameBuffer::<u32>::new());
        let reader = thread::spawn({
            let buffer = Arc::clone(&buffer);
            move || buffer.wait()
        });
        buffer.close();
        assert_eq!(reader.join().unwrap(), Err(Closed));
    }

    #[test]
    fn a_displaced_frame_gives_back_its_memory() {
        let frame = Arc::new(());
        let buffer = FrameBuffer::new();
        buffer.put(Arc::clone(&frame)).unwrap();
        buffer.put(Arc::new(())).unwrap();
        assert_eq!(Arc::strong_count(&frame), 1);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Put,
        Take,
        Close,
    }

    proptest! {
        #[test]
        fn every_sequence_of_calls_agrees_with_a_plain_model(
            steps in prop::collection::vec(prop_oneof![8 => Just(Step::Put), 8 => Just(Step::Take), 1 => Just(Step::Close)], 0..60)
        ) {
            let buffer = FrameBuffer::new();
            let (mut slot, mut closed, mut counters) = (None, false, FrameBufferCounters::default());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put if closed => prop_assert_eq!(buffer.put(number), Err(Closed)),
                    Step::Put => {
                        let expected = if slot.replace(number).is_some() { Put::Evicted } else { Put::Stored };
                        prop_assert_eq!(buffer.put(number), Ok(expected));
                        counters.put += 1;
                        counters.evicted += u64::from(expected == Put::Evicted);
                    }
                    Step::Take => {
                        let expected: Option<usize> = slot.take();
                        counters.taken += u64::from(expected.is_some());
                        prop_assert_eq!(buffer.try_take(), expected);
                    }
                    Step::Close => {
                        counters.evicted += u64::from(slot.take().is_some());
                        closed = true;
                        buffer.close();
                        prop_assert_eq!(buffer.wait(), Err(Closed));
                    }
                }
                prop_assert_eq!(buffer.counters(), counters);
                prop_assert_eq!(counters.put, counters.taken + counters.evicted + u64::from(slot.is_some()));
            }
        }
    }
}
