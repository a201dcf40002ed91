#![no_main]
// What a camera delivers as a JPEG picture.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let resolution = lenscast_media::Resolution::new(64, 48).expect("it is one");
    let mut picture = lenscast_media::Picture::black(resolution);
    let _ = lenscast_capture::MjpegDecoder::new().decode(data, &mut picture);
});
