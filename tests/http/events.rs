use crate::support::event_stream::EventStream;
use crate::support::server::{CAMERA, Server, Setup};
use crate::{JSON, Session};
use rustix::process::Signal;

/// Subscribes to these kinds of events and opens the stream.
fn events(session: &Session, kinds: &str) -> EventStream {
    let reply = session.http.call("POST", &format!("{}/events", session.path), &[], kinds);
    assert_eq!(reply.status, 201, "{reply:?}");
    let location = reply.header("location").expect("a subscription has an address");
    EventStream::open(&session.http, location, &[])
}

#[test]
fn a_subscription_has_an_address_and_names_only_known_events() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let subscribe = |kinds| server.http.call("POST", &format!("{}/events", session.path), &[], kinds);
    let addresses = [subscribe("[\"viewercount\", \"pictures\", \"active\"]"), subscribe("")].map(|reply| {
        assert_eq!(reply.status, 201);
        reply.header("location").expect("a subscription has an address").to_owned()
    });
    assert_ne!(addresses[0], addresses[1]);
    assert!(addresses.iter().all(|address| address.starts_with(&format!("{}/events/", session.path))));
    for (kinds, status) in [("[\"pictures\"]", 422), ("[]", 422), ("{}", 400), ("nonsense", 400)] {
        let reply = subscribe(kinds);
        assert_eq!(reply.status, status, "{kinds}");
        assert!(!reply.problem().is_empty());
    }
    assert_eq!(server.http.call("POST", "/whep/front/0123/events", &[], "").status, 404);
}

#[test]
fn layers_are_told_at_once_with_what_each_is_asked_for_by() {
    let server = Server::ready(&format!("{CAMERA}layers = 2\n"));
    let session = Session::new(&server.http);
    let stream = events(&session, "[\"layers\"]");
    let layers: serde_json::Value = serde_json::from_str(&stream.until("layers")).expect("it is JSON");
    // Nobody has connected: nothing is encoded.
    let inactive = layers["0"]["inactive"].as_array().expect("the video's section is called 0");
    let ids: Vec<_> = inactive.iter().map(|layer| layer["id"].as_str()).collect();
    assert_eq!(ids, [Some("0"), Some("1")], "{layers}");
}

#[test]
fn active_and_viewercount_are_told_at_once_and_when_they_change() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let stream = events(&session, "[\"active\", \"viewercount\"]");
    assert_eq!(stream.until("active"), "{}");
    assert_eq!(stream.until("viewercount"), "{\"viewercount\":1}");
    let second = Session::new(&server.http);
    assert_eq!(stream.until("viewercount"), "{\"viewercount\":2}");
    assert_eq!(second.delete().status, 200);
    assert_eq!(stream.until("viewercount"), "{\"viewercount\":1}");
}

#[test]
fn a_subscription_ends_by_delete_and_a_session_has_no_more_than_four() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let subscribe = || server.http.call("POST", &format!("{}/events", session.path), &[], "[\"inactive\"]");
    let addresses: Vec<String> = (0..4).map(|_| subscribe().header("location").unwrap().to_owned()).collect();
    assert_eq!(subscribe().status, 409);
    let stream = EventStream::open(&server.http, &addresses[0], &[]);
    assert_eq!(server.http.call("DELETE", &addresses[0], &[], "").status, 200);
    assert_eq!(stream.next(), None, "the stream ends");
    for method in ["DELETE", "GET"] {
        assert_eq!(server.http.call(method, &addresses[0], &[], "").status, 404);
    }
    assert_eq!(server.http.get(&format!("{}/events/nonsense", session.path)).status, 404);
    assert_eq!(subscribe().status, 201, "there is room again");
}

#[test]
fn of_a_subscriptions_streams_only_the_newest_goes_on() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let reply = server.http.call("POST", &format!("{}/events", session.path), &[], "[\"viewercount\"]");
    let address = reply.header("location").unwrap();
    let first = EventStream::open(&server.http, address, &[]);
    first.until("viewercount");
    let second = EventStream::open(&server.http, address, &[]);
    assert_eq!(first.next(), None);
    assert_eq!(second.until("viewercount"), "{\"viewercount\":1}");
}

#[test]
fn the_stream_ends_with_its_session() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let stream = events(&session, "[\"inactive\"]");
    assert_eq!(session.delete().status, 200);
    assert_eq!(stream.next(), None);
}

#[test]
fn inactive_is_told_when_the_pictures_cease_and_active_when_they_come_again() {
    // A camera whose file goes away: it is read to its end, and cannot be opened again.
    let header = "YUV4MPEG2 W64 H64 F30:1 Ip C420jpeg\n";
    let frame = format!("FRAME\n{}", "\u{10}".repeat(64 * 64 * 3 / 2));
    let clip = header.to_owned() + &frame.repeat(30);
    let camera = "[[camera]]\nname = \"front\"\nfile = \"clip.y4m\"\n";
    let server = Setup::new(camera).file("clip.y4m", &clip).ready();
    let session = Session::new(&server.http);
    let stream = events(&session, "[\"active\", \"inactive\"]");
    assert_eq!(stream.until("active"), "{}");
    std::fs::remove_file(server.path("clip.y4m")).unwrap();
    assert_eq!(stream.until("inactive"), "{}");
    std::fs::write(server.path("clip.y4m"), &clip).unwrap();
    assert_eq!(stream.until("active"), "{}");
}

#[test]
fn inactive_is_told_of_a_camera_that_is_held_up() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let stream = events(&session, "[\"active\", \"inactive\"]");
    let put = |paused: bool| {
        let body = format!("{{\"paused\":{paused}}}");
        assert_eq!(server.http.call("PUT", "/api/v1/streams/front", &[JSON], &body).status, 200);
    };
    assert_eq!(stream.until("active"), "{}");
    put(true);
    assert_eq!(stream.until("inactive"), "{}");
    put(false);
    assert_eq!(stream.until("active"), "{}");
}

#[test]
fn reconnect_is_told_before_the_server_stops() {
    let mut server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let stream = events(&session, "[\"reconnect\"]");
    server.signal(Signal::TERM);
    assert_eq!(stream.until("reconnect"), "{}");
    assert_eq!(stream.next(), None);
    assert!(server.wait().success());
}
