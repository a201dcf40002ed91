//! The frame buffer: what a source pays to put a frame, and how long a waiting reader takes to wake.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use lenscast_capture::{FrameBuffer, Put};
use lenscast_media::{Frame, Picture, Resolution};

fn frame() -> Frame {
    let now = Instant::now();
    let picture = Picture::black(Resolution::new(1_280, 720).expect("a legal size"));
    Frame { picture: Arc::new(picture), number: 0, captured: now, ready: now }
}

fn put_take(c: &mut Criterion) {
    let (buffer, frame) = (FrameBuffer::new(), frame());
    c.bench_function("frame_buffer/put_take", |b| {
        b.iter(|| {
            assert_eq!(buffer.put(frame.clone()), Ok(Put::Stored));
            black_box(buffer.try_take())
        });
    });
}

fn put_evict(c: &mut Criterion) {
    let (buffer, frame) = (FrameBuffer::new(), frame());
    buffer.put(frame.clone()).expect("the buffer is open");
    c.bench_function("frame_buffer/put_evict", |b| {
        b.iter(|| assert_eq!(buffer.put(frame.clone()), Ok(Put::Evicted)));
    });
}

/// There and back: the reader answers through a second buffer. Two wake-ups of a thread that waits.
fn wake(c: &mut Criterion) {
    let (there, back) = (Arc::new(FrameBuffer::new()), Arc::new(FrameBuffer::new()));
    let reader = thread::spawn({
        let (there, back) = (Arc::clone(&there), Arc::clone(&back));
        move || {
            while there.wait().is_ok() {
                if let Some(frame) = there.try_take() {
                    back.put(frame).expect("the buffer is open");
                }
            }
        }
    });
    let frame = frame();
    c.bench_function("frame_buffer/wake", |b| {
        b.iter(|| {
            there.put(frame.clone()).expect("the buffer is open");
            back.wait().expect("the buffer is open");
            black_box(back.try_take())
        });
    });
    there.close();
    reader.join().expect("the reader does not panic");
}

criterion_group!(benches, put_take, put_evict, wake);
criterion_main!(benches);
