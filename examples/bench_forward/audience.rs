//! The viewers, in a process of their own, so that neither their memory nor their time is taken for the server's.
//!
//! The two talk by lines: the child says its offer, is told the answers, and then one word at a time.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lenscast_media::Codec;

use crate::frames::{PACKETS_PER_FRAME, PACKETS_PER_SECOND, PAYLOAD};
use crate::publisher::Publisher;
use crate::seated::{Manners, Seated};
use crate::viewers::{Audience, Viewer};

/// The argument that makes this program the viewers' process.
pub(crate) const ARGUMENT: &str = "--be-the-audience";
/// Ends a line in an offer or answer that is sent as one.
const LINE_BREAK: &str = "\\";

/// Begin the lines that make somebody publish, and send.
const PUBLISH: &str = "publish ";
const SEND: &str = "send ";
/// The publisher is connected within this time.
const BOUND: Duration = Duration::from_secs(10);
/// So many frames are one group: each begins with a key frame.
const GROUP: u64 = 60;

/// The viewers' process, seen from the server's.
pub(crate) struct Viewers {
    process: Child,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Viewers {
    /// With what a viewer offers, and a publisher.
    pub(crate) fn start() -> (Self, [String; 2]) {
        let program = std::env::current_exe().expect("a program knows where it is");
        let mut process = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the system gives a process");
        let commands = process.stdin.take().expect("it is piped");
        let replies = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut viewers = Self { process, commands, replies };
        let offers = [(); 2].map(|()| viewers.reply().replace(LINE_BREAK, "\r\n"));
        (viewers, offers)
    }

    /// Tells a viewer to come. It does once [`Viewers::connect`] is called.
    pub(crate) fn invite(&mut self, answer: &str) {
        self.tell(&answer.replace("\r\n", LINE_BREAK));
    }

    /// Returns when all are connected.
    pub(crate) fn connect(&mut self) {
        self.tell("connect");
        assert_eq!(self.reply(), "connected");
    }

    /// Returns when a publisher is connected, which sends nothing yet.
    pub(crate) fn publish(&mut self, answer: &str) {
        self.tell(&format!("{PUBLISH}{}", answer.replace("\r\n", LINE_BREAK)));
        assert_eq!(self.reply(), "publishing");
    }

    /// The publisher sends for so long, each packet by itself. Returns how many packets.
    pub(crate) fn send_for(&mut self, length: Duration) -> u64 {
        self.tell(&format!("{SEND}{}", length.as_millis()));
        self.reply().parse().expect("a number")
    }

    /// Packets of media that all together have received, and packets that came again.
    pub(crate) fn received(&mut self) -> (u64, u64) {
        self.tell("count");
        let reply = self.reply();
        let (received, repaired) = reply.split_once(' ').expect("two numbers");
        (received.parse().expect("a number"), repaired.parse().expect("a number"))
    }

    pub(crate) fn give_feedback(&mut self) {
        self.tell("feedback");
    }

    /// They watch, and send nothing any more.
    pub(crate) fn be_silent(&mut self) {
        self.tell("silence");
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.commands, "{line}").expect("the viewers' process runs");
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("the viewers' process runs");
        line.trim_end().to_owned()
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        // The measurement is over, and nobody is to be said goodbye to.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the viewers' process does, until its input ends.
pub(crate) fn run() {
    let audience = Audience::new();
    for offer in [audience.offer_of(Codec::Vp8), Publisher::offer(&audience)] {
        println!("{}", offer.replace("\r\n", LINE_BREAK));
    }
    let mut publishing = None;
    let (mut viewers, mut seated) = (Vec::new(), None);
    let manners = Arc::new(Manners::default());
    for line in std::io::stdin().lines() {
        let line = line.expect("the server's process writes text");
        if let Some(answer) = line.strip_prefix(PUBLISH) {
            publishing = Some(Publishing::connect(audience.viewer(&answer.replace(LINE_BREAK, "\r\n"))));
            println!("publishing");
            continue;
        }
        if let (Some(millis), Some(publishing)) = (line.strip_prefix(SEND), &mut publishing) {
            let length = Duration::from_millis(millis.parse().expect("the server's process writes numbers"));
            println!("{}", publishing.send_for(length));
            continue;
        }
        match (line.as_str(), &seated) {
            ("connect", _) => {
                seated = Some(Seated::seat(std::mem::take(&mut viewers), Arc::clone(&manners)));
                println!("connected");
            }
            ("count", Some(seated)) => {
                let [media, again] = [&seated.received.media, &seated.received.again];
                println!("{} {}", media.load(Ordering::Relaxed), again.load(Ordering::Relaxed));
            }
            ("feedback", Some(_)) => manners.feedback.store(true, Ordering::Relaxed),
            ("silence", Some(_)) => manners.silent.store(true, Ordering::Relaxed),
            (answer, None) => viewers.push(audience.viewer(&answer.replace(LINE_BREAK, "\r\n"))),
            (other, Some(_)) => panic!("unknown: {other}"),
        }
    }
}

/// Somebody who sends what the audience watches.
struct Publishing {
    viewer: Viewer,
    publisher: Publisher,
    sent: u64,
}

impl Publishing {
    fn connect(viewer: Viewer) -> Self {
        let mut viewer = viewer;
        let deadline = Instant::now() + BOUND;
        while !viewer.is_connected() {
            assert!(Instant::now() < deadline, "the publisher could not connect");
            viewer.drive();
        }
        Self { viewer, publisher: Publisher::new(), sent: 0 }
    }

    /// Sends what belongs into this time, evenly. Returns how many packets.
    fn send_for(&mut self, length: Duration) -> u64 {
        let start = Instant::now();
        let packets = (length.as_secs_f64() * PACKETS_PER_SECOND) as u64;
        for number in 0..packets {
            let due = start + Duration::from_secs_f64(number as f64 / PACKETS_PER_SECOND);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (frame, place) = (self.sent / PACKETS_PER_FRAME as u64, self.sent % PACKETS_PER_FRAME as u64);
            let ends = place + 1 == PACKETS_PER_FRAME as u64;
            self.publisher.send(&self.viewer, frame % GROUP == 0, ends, PAYLOAD);
            self.sent += 1;
        }
        packets
    }
}
