//! Encoders belong to no thread, and know nothing of each other.

use std::thread;

use lenscast_encoder::Backend;
use lenscast_media::Picture;

use crate::content::pattern;
use crate::stream::{Coded, IN_PLACE, Stream, size};

#[test]
fn a_stream_that_moves_from_thread_to_thread_is_the_same_to_the_bit() {
    let resolution = size(160, 90);
    let pictures: Vec<_> = (0..40).map(|frame| pattern(resolution, frame)).collect();
    let part = |stream: &mut Stream, pictures: &[Picture], key_frame| -> Vec<Option<Coded>> {
        pictures.iter().map(|picture| stream.encode(picture, key_frame)).collect()
    };
    // The fallback chooses its speed by the clock, so no two runs of it are the same.
    for backend in IN_PLACE {
        let mut stream = Stream::new(backend, resolution, 30.0, 300);
        let mut here = part(&mut stream, &pictures[..20], false);
        stream.set_kbps(200);
        here.extend(part(&mut stream, &pictures[20..], false));

        let mut stream = Stream::new(backend, resolution, 30.0, 300);
        let on_a_thread = |stream: &mut Stream, pictures| {
            thread::scope(|scope| scope.spawn(|| part(stream, pictures, false)).join().unwrap())
        };
        let mut elsewhere = on_a_thread(&mut stream, &pictures[..20]);
        stream.set_kbps(200);
        elsewhere.extend(on_a_thread(&mut stream, &pictures[20..]));
        assert!(here == elsewhere, "{backend}");
    }
}

#[test]
fn encoders_on_several_threads_do_not_disturb_each_other() {
    let resolution = size(160, 90);
    let run = |backend| {
        let mut stream = Stream::new(backend, resolution, 30.0, 300);
        (0..40).map(|frame| stream.encode(&pattern(resolution, frame), frame == 9)).collect::<Vec<_>>()
    };
    let alone = IN_PLACE.map(run);
    let together = thread::scope(|scope| {
        let fallback = scope.spawn(|| run(Backend::VpxEncode));
        let tasks = IN_PLACE.map(|backend| scope.spawn(move || run(backend)));
        fallback.join().unwrap();
        tasks.map(|task| task.join().unwrap())
    });
    assert!(alone == together);
}
