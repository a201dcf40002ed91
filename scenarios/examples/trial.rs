//! The table of some cases without building the whole of lenscast: `cargo run -p lenscast-scenarios --example trial -- google 5.1 --series`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

use lenscast_scenarios::*;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let controllers: Vec<Controller> =
        Controller::ALL.into_iter().filter(|c| args.iter().any(|a| a == c.name())).collect();
    let names: Vec<&String> =
        args.iter().filter(|a| !Controller::ALL.iter().any(|c| c.name() == **a) && !a.starts_with("--")).collect();
    let cases: Vec<Case> =
        cases().into_iter().filter(|c| names.is_empty() || names.iter().any(|n| c.name == n.as_str())).collect();
    let begin = std::time::Instant::now();
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let outcomes = run_all(&cases, &controllers, seed);
    println!("{}", table(&outcomes));
    for o in &outcomes {
        println!("{} {} {:?} osc {:.3}", o.case, o.controller.name(), o.invariants, o.metrics.oscillation);
    }
    if args.iter().any(|a| a == "--series") {
        for o in &outcomes {
            let n = o.bottlenecks[0].capacity.len();
            for i in (0..n).step_by(5) {
                print!(
                    "{:6.1} cap {:5} q {:4} |",
                    i as f64 * 0.2,
                    o.bottlenecks[0].capacity[i].as_kbps(),
                    o.bottlenecks[0].queue[i].as_millis()
                );
                for f in &o.flows {
                    let m = |v: &[lenscast_media::Bitrate]| {
                        v[i..(i + 5).min(n)].iter().map(|b| b.as_kbps()).sum::<u64>() / 5
                    };
                    print!(
                        " t {:5} s {:5} r {:5} l {:.2}",
                        f.target[i].as_kbps(),
                        m(&f.sent),
                        m(&f.received),
                        f.lost[i]
                    );
                }
                println!();
            }
        }
    }
    eprintln!("{:?}", begin.elapsed());
}
