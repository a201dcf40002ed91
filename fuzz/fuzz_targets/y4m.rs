#![no_main]
// A Y4M file.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = lenscast_capture::Y4mReader::new(data) else { return };
    // A header of a few bytes may announce pictures of 25 MB: that is legal, but no use here.
    let resolution = reader.header().resolution();
    if resolution.pixels() > 1 << 16 {
        return;
    }
    let mut picture = lenscast_media::Picture::black(resolution);
    while let Ok(true) = reader.read_frame(&mut picture) {}
});
