#![no_main]
// The body of a PATCH.
libfuzzer_sys::fuzz_target!(|text: &str| drop(lenscast::http::sdp_fragment::SdpFragment::parse(text)));
