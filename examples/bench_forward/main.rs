//! What it costs to forward a packet: one producer, N viewers, real loopback sockets, AEAD_AES_128_GCM.
//!
//! ```text
//! cargo run --release --example bench_forward                     every row, some two minutes
//! cargo run --release --example bench_forward -- --viewers 200    one row: frames to 200 viewers
//!   --feedback      with receiver reports, and NACKs for 1 % of the packets
//!   --singly        from a publisher (WHIP), each packet in a datagram of its own and by itself
//!   --seconds 20    for that long instead of 5 s
//! ```
//!
//! The stream: frames of 7 packets of 1,200 bytes, 208 packets a second and viewer, 2 Mb/s. The cost is the processor time
//! of the router's own thread, which does everything from a burst's arrival to the last system call and has a processor
//! to itself; the viewers are another process on the others.
//!
//! With `--singly` the cost has receiving in it: the system call, opening what is protected, and gathering; a burst is then
//! what came with one system call, one packet.
//!
//! - limit: a bare loop that seals seven packets and sends them to one socket by one segmented call, run right before and
//!   after each row; `x limit` is the row's cost in units of it;
//! - lost: sent by the router, or refused by its queue, and not received;
//! - rewrite, seal, send: of the cost, in microseconds a packet, sampled: finding the consumer and writing its header with
//!   the payload behind it; protecting it; the system call, with the receiver's side of the loopback that runs in it. What
//!   is missing to the whole are feedback, reports and waking up;
//! - alloc: memory allocations of the router's thread in a second without feedback, in which it forwards and reports: if
//!   it is not 0, the program fails;
//! - KiB: what each viewer takes of the server, resident and asked for of the allocator;
//! - joined: from the first offer to the last viewer's handshake, and the processor time of the router's thread for it.

mod audience;
mod counting;
mod frames;
mod limit;
mod processor;
#[path = "../../benches/viewers/publisher.rs"]
mod publisher;
#[path = "../../benches/viewers/seated.rs"]
mod seated;
mod served;
#[path = "../../benches/viewers/mod.rs"]
mod viewers;

use std::process::ExitCode;
use std::time::Duration;

use crate::served::{Case, Outcome};

const ROWS: [&str; 7] = [
    "--viewers 50",
    "--viewers 200",
    "--viewers 800",
    "--viewers 2000",
    "--viewers 3000",
    "--viewers 200 --feedback",
    "--viewers 200 --singly",
];

const LIMIT_LENGTH: Duration = Duration::from_millis(700);

struct Arguments {
    viewers: Vec<usize>,
    feedback: bool,
    singly: bool,
    length: Duration,
    /// Prints no head.
    headless: bool,
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == audience::ARGUMENT) {
        audience::run();
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.viewers.is_empty() {
        print_head();
        let failed = ROWS.iter().filter(|row| !run_row(row, arguments.length)).count();
        return if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if !arguments.headless {
        print_head();
    }
    if !processor::leave_measured() {
        println!("one processor only: the viewers' work is not kept apart");
    }
    let mut fine = true;
    for case in arguments.cases() {
        let before = limit::micros(LIMIT_LENGTH);
        let outcome = case.measure();
        let limit = f64::midpoint(before, limit::micros(LIMIT_LENGTH));
        print_row(case, &outcome, limit);
        fine &= outcome.allocations == 0;
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures a row in a process of its own: what an earlier one has left in memory would hide what this one takes.
fn run_row(row: &str, length: Duration) -> bool {
    let program = std::env::current_exe().expect("a program knows where it is");
    let seconds = length.as_secs().to_string();
    let mut process = std::process::Command::new(program);
    let status = process.args(row.split(' ')).args(["--headless", "--seconds", &seconds]).status();
    status.expect("the system gives a process").success()
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            viewers: Vec::new(),
            feedback: false,
            singly: false,
            length: Duration::from_secs(5),
            headless: false,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().ok_or(format!("{argument} wants a number"))?;
                value.parse::<usize>().map_err(|error| format!("{argument} {value}: {error}"))
            };
            match argument.as_str() {
                "--viewers" => parsed.viewers.push(number()?.max(1)),
                "--seconds" => parsed.length = Duration::from_secs(number()?.max(1) as u64),
                "--feedback" => parsed.feedback = true,
                "--headless" => parsed.headless = true,
                "--singly" => parsed.singly = true,
                other => return Err(format!("unknown argument: {other}")),
            }
        }
        Ok(parsed)
    }

    fn cases(&self) -> Vec<Case> {
        let Self { feedback, singly, length, .. } = *self;
        let case = |viewers| Case { viewers, feedback, singly, length };
        self.viewers.iter().map(|&viewers| case(viewers)).collect()
    }
}

fn print_head() {
    println!(
        "| viewers | | packets/s | lost | limit | µs a packet | × limit | rewrite | seal | send | calls a burst | of a core | \
         alloc | KiB resident | KiB allocated | joined in s | of it server |"
    );
    println!("|{}", "---|".repeat(17));
}

fn print_row(case: Case, outcome: &Outcome, limit: f64) {
    let sent = outcome.packets as f64;
    let micros = outcome.used.as_secs_f64() * 1e6 / sent;
    let kind = match (case.feedback, case.singly) {
        (false, false) => "",
        (true, false) => "feedback",
        (false, true) => "singly",
        (true, true) => "feedback, singly",
    };
    let stage = |time: Duration| time.as_secs_f64() * 1e6 / outcome.cost.packets.max(1) as f64;
    println!(
        "| {} | {kind} | {:.0} | {} | {limit:.2} | {micros:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} % | {} | {} | {} | {:.1} | {:.1} |",
        case.viewers,
        sent / outcome.elapsed.as_secs_f64(),
        outcome.packets as i64 - outcome.received as i64,
        micros / limit,
        stage(outcome.cost.rewrite),
        stage(outcome.cost.seal),
        stage(outcome.cost.send),
        outcome.send_calls as f64 / (outcome.bursts * case.viewers as u64) as f64,
        outcome.used.as_secs_f64() / outcome.elapsed.as_secs_f64() * 100.0,
        outcome.allocations,
        outcome.resident / 1_024,
        outcome.allocated / 1_024,
        outcome.join.elapsed.as_secs_f64(),
        outcome.join.used.as_secs_f64(),
    );
    if outcome.refused > 0 {
        println!("{} bursts found the router's queue full", outcome.refused);
    }
    if case.feedback {
        println!("{} packets were sent again", outcome.repaired);
    }
}
