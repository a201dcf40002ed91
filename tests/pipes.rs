//! Two servers on two machines, as far as the network goes: the origin has a camera, the edge pulls it and has the viewers.
//! The origin is paused, resumed and killed while they watch.

mod support;

use std::time::{Duration, Instant};

use lenscast_media::Codec;
use rustix::process::Signal;
use support::client::Client;
use support::http::Http;
use support::namespace::{Cable, Namespace};
use support::server::{CAMERA, Server, Setup};
use support::wait::until;

/// What the test says when it was told to do without what it needs.
const NOT_RUN: &str = "NOT RUN, there are no network namespaces";

/// Viewers of the edge: enough that each worker of it has some.
const VIEWERS: usize = 12;

/// How long nothing may come before it counts as nothing: several frames, and the time that one takes to arrive.
const SILENCE: Duration = Duration::from_millis(700);

/// Pauses and resumes in a row.
const FLIPS: usize = 25;

/// Two machines, their cables, and what runs on them.
struct Site {
    origin: Option<Server>,
    edge: Server,
    origin_http: Http,
    // Behind the servers: a namespace goes after what runs in it.
    origin_machine: Namespace,
    _edge_machine: Namespace,
}

impl Site {
    fn new() -> Result<Self, String> {
        let (origin_machine, edge_machine) = (Namespace::new("origin")?, Namespace::new("edge")?);
        let [to_origin, to_edge, between] = [0, 1, 2].map(Cable::new);
        origin_machine.connect(&to_origin)?;
        edge_machine.connect(&to_edge)?;
        edge_machine.connect_with(&origin_machine, &between)?;

        let origin = start_origin(&origin_machine);
        let pull = format!("[[pull]]\nname = \"front\"\nurl = \"http://{}:8080\"\n", between.there);
        let mut edge = start(&edge_machine, &format!("[webrtc]\nworkers = 2\n{pull}"));
        let http = |address| Http::new(&format!("http://{address}:8080"));
        // What it says it listens on is any address.
        edge.http = http(to_edge.there);
        Ok(Self {
            origin: Some(origin),
            edge,
            origin_http: http(to_origin.there),
            origin_machine,
            _edge_machine: edge_machine,
        })
    }

    fn wait_live(&self, wanted: bool) {
        until(if wanted { "the edge to be live" } else { "the edge not to be live" }, || {
            (stream(&self.edge.http)["live"] == wanted).then_some(())
        });
    }

    fn wait_paused(&self, wanted: bool) {
        until(if wanted { "the edge to be paused" } else { "the edge not to be paused" }, || {
            (stream(&self.edge.http)["paused"] == wanted).then_some(())
        });
    }

    fn pause(&self, paused: bool) {
        let body = format!("{{\"paused\": {paused}}}");
        let headers = [("Content-Type", "application/json")];
        let reply = self.origin_http.call("PUT", "/api/v1/streams/front", &headers, &body);
        assert!((200..300).contains(&reply.status), "{reply:?}");
    }

    fn viewers(&self) -> Vec<Client> {
        let play = || Client::play(&self.edge.http, "/whep/front", Codec::Vp8);
        let mut viewers: Vec<_> = std::iter::repeat_with(play).take(VIEWERS).collect();
        viewers.iter_mut().for_each(|viewer| drop(viewer.frame()));
        viewers
    }
}

/// Both machines have all their ports to themselves.
fn start(machine: &Namespace, config: &str) -> Server {
    let setup = Setup::within(machine).file("lenscast.toml", config);
    setup
        .args(["--config", "lenscast.toml", "--http-listen", "0.0.0.0:8080", "--webrtc-listen", "0.0.0.0:8189"])
        .start()
}

fn start_origin(machine: &Namespace) -> Server {
    start(machine, &format!("[webrtc]\nworkers = 2\n{CAMERA}"))
}

/// What a server says of its only stream.
fn stream(http: &Http) -> serde_json::Value {
    http.get("/api/v1/cameras").json()["cameras"][0].clone()
}

/// Takes what is on its way, until nothing has come for a while.
fn drain(viewer: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while viewer.frame_within(SILENCE).is_some() {
        assert!(Instant::now() < deadline, "it does not fall silent");
    }
}

#[test]
fn an_edge_follows_its_origin_through_pauses_and_its_death() {
    let mut site = match Site::new() {
        Ok(site) => site,
        Err(why) if std::env::var_os("LENSCAST_SKIP_NAMESPACES").is_some_and(|value| value == "1") => {
            println!("{NOT_RUN}: {why}");
            return;
        }
        Err(why) => panic!("needs the right to make network namespaces, or LENSCAST_SKIP_NAMESPACES=1: {why}"),
    };
    site.wait_live(true);
    let mut viewers = site.viewers();

    // Paused at the origin, nothing comes from the edge; resumed, it goes on with a key frame.
    site.pause(true);
    site.wait_paused(true);
    for viewer in &mut viewers {
        drain(viewer);
    }
    site.pause(false);
    site.wait_paused(false);
    for viewer in &mut viewers {
        assert!(viewer.frame().key_frame, "a viewer goes on with something else than a key frame");
        viewer.frame();
    }

    // However often it changes, the edge ends where the origin does.
    for flip in 0..FLIPS {
        site.pause(flip % 2 == 0);
    }
    site.wait_paused(true);
    site.pause(false);
    site.wait_paused(false);
    for viewer in &mut viewers {
        drain_to_key_frame(viewer);
    }

    // It dies without a word, and comes back.
    let origin = site.origin.take().expect("it runs");
    origin.signal(Signal::KILL);
    drop(origin);
    site.wait_live(false);
    drop(viewers);
    site.origin = Some(start_origin(&site.origin_machine));
    let back = Instant::now();
    site.wait_live(true);
    println!("live again at the edge {:?} after the origin's return", back.elapsed());
    let mut viewers = site.viewers();
    for viewer in &mut viewers {
        viewer.frame();
    }
    println!("{VIEWERS} viewers of the edge watch again {:?} after the origin's return", back.elapsed());
}

fn drain_to_key_frame(viewer: &mut Client) {
    until("a key frame", || viewer.frame().key_frame.then_some(()));
}
