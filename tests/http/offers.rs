use crate::support::offer::{offer, offer_of_two_cameras, offer_with_audio};
use crate::support::server::{CAMERA, Server, camera_of};
use crate::{SDP, post};

/// Posts an offer that cannot be accepted and returns why not. Nothing may remain of it.
fn refused(server: &Server, offer: &str, status: u16) -> String {
    let reply = post(&server.http, offer);
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(reply.header("location").is_none() && reply.header("etag").is_none());
    assert_eq!(server.metrics().pending(), 0.0);
    reply.problem()
}

#[test]
fn another_content_type_is_415() {
    let server = Server::ready(CAMERA);
    for headers in [&[][..], &[("Content-Type", "application/json")], &[("Content-Type", "")]] {
        let reply = server.http.call("POST", "/whep/front", headers, &offer());
        assert_eq!(reply.status, 415, "{headers:?}");
        assert!(reply.problem().contains("must be application/sdp"), "{}", reply.problem());
    }
}

#[test]
fn bad_sdp_is_400_with_a_problem_that_says_what_is_bad() {
    let server = Server::ready(CAMERA);
    for garbage in ["", "\0", "hello", "v=0", "v=0\r\nm=video", "\r\n\r\n\r\n", &"a=x\r\n".repeat(1_000)] {
        let problem = refused(&server, garbage, 400);
        assert!(problem.starts_with("SDP offer"), "{garbage:?}: {problem}");
    }
    for attribute in ["ice-ufrag", "ice-pwd", "fingerprint", "setup", "mid"] {
        let without: Vec<&str> =
            offer().leak().lines().filter(|line| !line.starts_with(&format!("a={attribute}:"))).collect();
        let problem = refused(&server, &(without.join("\r\n") + "\r\n"), 400);
        assert_eq!(problem, format!("SDP offer has no a={attribute}"));
    }
}

#[test]
fn a_fingerprint_that_cannot_be_used_is_400() {
    let server = Server::ready(CAMERA);
    let weak = offer().replace("sha-256", "sha-1");
    assert!(refused(&server, &weak, 400).contains("must be sha-256, sha-384 or sha-512"));
    let short = offer().replace("A5:A5:", "A5:");
    assert!(refused(&server, &short, 400).contains("must be 32 hexadecimal bytes"));
}

#[test]
fn a_huge_offer_is_413() {
    let server = Server::ready(CAMERA);
    let padded = offer() + &"a=x-padding:0123456789\r\n".repeat(128 * 1024 / 24);
    let problem = refused(&server, &padded, 413);
    assert!(problem.contains("larger than 131072 bytes"), "{problem}");
    // By one byte: what is read of a body is bounded too.
    let longer = "a".repeat(128 * 1024 + 1);
    assert!(refused(&server, &longer, 413).contains("131072"));
}

#[test]
fn bytes_that_are_no_utf_8_are_400() {
    use std::io::{Read as _, Write as _};
    let server = Server::ready(CAMERA);
    let address = server.http.base().strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::support::wait::BOUND)).unwrap();
    let head = "POST /whep/front HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[0xFF, 0xFE, 0x00, 0x80]).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("UTF-8"), "{reply}");
}

#[test]
fn two_video_sections_are_422() {
    let server = Server::ready(CAMERA);
    let problem = refused(&server, &offer_of_two_cameras(), 422);
    assert_eq!(problem, "SDP offer has 2 video sections, must have exactly 1");
    let without = offer().replace("m=video", "m=application");
    assert_eq!(refused(&server, &without, 422), "SDP offer has 0 video sections, must have exactly 1");
}

#[test]
fn an_offer_without_bundle_or_rtcp_mux_is_422() {
    let server = Server::ready(CAMERA);
    let unbundled = refused(&server, &offer_with_audio(false), 422);
    assert!(unbundled.contains("a=group:BUNDLE does not name"), "{unbundled}");
    let unmuxed = refused(&server, &offer().replace("a=rtcp-mux\r\n", ""), 422);
    assert!(unmuxed.contains("no a=rtcp-mux"), "{unmuxed}");
}

#[test]
fn audio_beside_the_video_is_refused_within_the_answer_and_the_video_is_not() {
    let server = Server::ready(CAMERA);
    let reply = post(&server.http, &offer_with_audio(true));
    assert_eq!(reply.status, 201, "{reply:?}");
    assert!(reply.body.contains("m=video 9 ") && reply.body.contains("m=audio 0 "), "{}", reply.body);
    assert!(reply.body.contains("a=group:BUNDLE 0\r\n"), "a refused section is outside the bundle");
}

#[test]
fn an_offer_that_does_not_receive_is_422() {
    let server = Server::ready(CAMERA);
    for direction in ["sendonly", "inactive"] {
        let problem = refused(&server, &offer().replace("a=recvonly", &format!("a={direction}")), 422);
        assert_eq!(problem, format!("SDP offer's video section is a={direction}, must be a=recvonly"));
    }
}

#[test]
fn an_offer_that_insists_on_being_the_dtls_server_is_422() {
    let server = Server::ready(CAMERA);
    let problem = refused(&server, &offer().replace("a=setup:actpass", "a=setup:passive"), 422);
    assert_eq!(problem, "SDP offer's a=setup is \"passive\", must be actpass or active");
}

#[test]
fn an_offer_without_the_cameras_codec_is_422_and_names_both() {
    let server = Server::ready(&format!("{}{}", camera_of("vp9"), camera_of("h264")));
    let only_vp8 = offer().replace("VP9/90000", "x-vp9/90000").replace("H264/90000", "x-h264/90000");
    for (camera, codec) in [("vp9", "VP9"), ("h264", "H264")] {
        let reply = server.http.call("POST", &format!("/whep/{camera}"), &[SDP], &only_vp8);
        assert_eq!(reply.status, 422, "{reply:?}");
        assert_eq!(reply.problem(), format!("the camera sends {codec}, the offer has only VP8"));
    }
    let none = only_vp8.replace("VP8/90000", "AV1/90000");
    let reply = server.http.call("POST", "/whep/vp9", &[SDP], &none);
    assert_eq!(reply.status, 422);
    assert!(reply.problem().contains("none of the codecs VP8, VP9 (profile 0) and H264"), "{}", reply.problem());
}

#[test]
fn no_partial_answer_is_given_while_anything_is_wrong() {
    let server = Server::ready(CAMERA);
    // Right in all but the last line.
    let problem = refused(&server, &(offer() + "this is no line of SDP\r\n"), 400);
    assert!(problem.starts_with("SDP offer cannot be read"), "{problem}");
}

#[test]
fn a_layer_that_is_not_there_is_422_and_those_there_are_are_named() {
    let server = Server::ready(&format!("{CAMERA}layers = 2\n"));
    let post = |query: &str| server.http.call("POST", &format!("/whep/front{query}"), &[crate::SDP], &offer());
    for (query, shown) in [
        ("?layer=2", "\"2\""),
        ("?layer=-1", "\"-1\""),
        ("?layer=", "\"\""),
        ("?layer=low", "\"low\""),
        ("?layer=99999999999999999999999", "\"9999999999999999\""),
    ] {
        let reply = post(query);
        assert_eq!(reply.status, 422, "{query}: {reply:?}");
        assert_eq!(reply.problem(), format!("camera \"front\": layer = {shown}: must be 0 to 1"), "{query}");
    }
    let reply = post("?layer=0&layer=1");
    assert_eq!((reply.status, reply.problem().as_str()), (400, "layer is there twice, a viewer gets one"));
    for query in ["", "?layer=0", "?layer=1", "?other=1"] {
        assert_eq!(post(query).status, 201, "{query}");
    }
    let single = Server::ready(CAMERA);
    let reply = single.http.call("POST", "/whep/front?layer=1", &[crate::SDP], &offer());
    assert_eq!((reply.status, reply.problem().contains("must be 0")), (422, true));
}
