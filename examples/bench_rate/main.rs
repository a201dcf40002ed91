//! Whether the encoders' rate control keeps its word.
//!
//! ```text
//! cargo run --release --example bench_rate                        the whole table, minutes
//! cargo run --release --example bench_rate -- --quick             the small sizes, under a minute
//! cargo run --release --example bench_rate -- --codec vp8 --only 720p@30 --clips DIR
//! ```
//!
//! Each case is one encoder in virtual time: timestamps are arguments, so the table is the same on every run and machine
//! (but for the libraries' versions). A case runs for nineteen seconds: nine at the target, with a key frame asked for
//! after five; five at half of it; five at the target again.
//!
//! - mean: of seconds 1 to 9 in kb/s, and its error; `worst s`: the second of these that is furthest above the target;
//! - dropped: frames that the rate control left out, of all;
//! - key: what the first key frame and the one asked for cost, in average frames of the target;
//! - down, up: how long after a change of the target the second that begins there is within 10 % of it, and so is the mean
//!   of all from there to the next change; `-`: not within four seconds;
//! - q: mean quantizer of seconds 1 to 9, in the codec's own scale; `fine` or `coarse` where it is within 2 % of its end,
//!   so that the content cannot use the target up, or cannot be coded at it.
//!
//! The film is read by ffmpeg from `bikes.mp4` and `bigbuckbunny.mp4` in the directory that `--clips` or
//! `LENSCAST_CLIPS` names. It runs there and back, so that there is no cut.

mod case;
mod content;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lenscast_encoder::Backend;

use crate::case::{Case, Outcome, Pace};
use crate::content::{Content, Library};

/// Width, height, frame rate, kb/s, and whether the quick table has it.
const POINTS: [(u32, u32, Pace, u64, bool); 13] = [
    (320, 180, Pace::Even(5.0), 100, true),
    (320, 180, Pace::Even(15.0), 150, false),
    (320, 180, Pace::Even(30.0), 200, true),
    (320, 180, Pace::Even(60.0), 400, true),
    (640, 360, Pace::Even(10.0), 300, false),
    (640, 360, Pace::Even(30.0), 100, true),
    (640, 360, Pace::Even(30.0), 600, true),
    (640, 360, Pace::Jitter, 600, true),
    (1280, 720, Pace::Even(5.0), 400, false),
    (1280, 720, Pace::Even(30.0), 1_500, false),
    (1280, 720, Pace::Even(60.0), 3_000, false),
    (1920, 1080, Pace::Even(15.0), 2_000, false),
    (1920, 1080, Pace::Even(30.0), 4_000, false),
];

struct Arguments {
    quick: bool,
    backends: Vec<Backend>,
    clips: Option<PathBuf>,
    /// Size and frame rate, as in `720p@30`.
    only: Option<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("bench_rate: {problem}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.clips.is_none() {
        eprintln!("bench_rate: no film: neither --clips nor LENSCAST_CLIPS names a directory");
    }
    let library = Library::new(arguments.clips);
    let mut cases = cases(arguments.quick, &arguments.backends, &library);
    cases.retain(|case| arguments.only.as_ref().is_none_or(|only| *only == case.point()));
    let outcomes = run(&cases, &library);

    println!("{}", Outcome::HEADER);
    for (case, outcome) in cases.iter().zip(outcomes) {
        match outcome {
            Some(outcome) => println!("{}", outcome.row(case)),
            None => println!("{}", Outcome::absent_row(case)),
        }
    }
    ExitCode::SUCCESS
}

fn arguments() -> Result<Arguments, String> {
    let mut given = std::env::args().skip(1);
    let clips = std::env::var_os("LENSCAST_CLIPS").map(PathBuf::from);
    let mut arguments =
        Arguments { quick: false, backends: vec![Backend::Vp8, Backend::Vp9, Backend::H264], clips, only: None };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => arguments.quick = true,
            "--codec" => arguments.backends = vec![value()?.parse().map_err(|error| format!("--codec: {error}"))?],
            "--only" => arguments.only = Some(value()?),
            "--clips" => arguments.clips = Some(value()?.into()),
            _ => {
                return Err(format!(
                    "unknown argument {argument:?}; legal are --quick, --codec NAME, --only SIZE@RATE, --clips DIR"
                ));
            }
        }
    }
    Ok(arguments)
}

fn cases(quick: bool, backends: &[Backend], library: &Library) -> Vec<Case> {
    let mut cases = Vec::new();
    for &backend in backends {
        for (width, height, pace, kbps, is_quick) in POINTS {
            for content in Content::ALL {
                let wanted = !quick || (is_quick && content != Content::Bunny);
                if wanted && library.has(content) {
                    cases.push(Case::new(backend, (width, height), pace, content, kbps));
                }
            }
        }
    }
    cases
}

/// Runs the cases on as many threads as there are cores. In their order; `None` where the content could not be read.
fn run(cases: &[Case], library: &Library) -> Vec<Option<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new((0..cases.len()).map(|_| None).collect::<Vec<_>>());
    // The large ones first, or one thread has them all at the end; and one size at a time, for the memory.
    let mut order: Vec<_> = (0..cases.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse((cases[index].resolution().pixels(), cases[index].content())));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |cores| cores.get()) {
            scope.spawn(|| {
                while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = cases[index].run(library);
                    outcomes.lock().expect("no thread panics while it holds this")[index] = outcome;
                }
            });
        }
    });
    outcomes.into_inner().expect("no thread panics while it holds this")
}
