//! `lenscast simulate`: congestion controllers on trial in a simulated network. It needs no configuration and opens no socket.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lenscast_scenarios::{Case, Controller, Outcome, cases, plot, run_all, summary, table};

/// What to try.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// The case, such as 5.1 for that of RFC 8867, section 5.1; or all. Without it, the cases are listed.
    pub case: Option<String>,
    /// Write drawings of rate, capacity, delay and loss over time there, an SVG for each run.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Only with these.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub controller: Vec<ControllerName>,
    /// Where randomness begins: the same seed gives the same output.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
}

/// A controller on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ControllerName {
    /// lenscast's own.
    Google,
    /// That of the crate rtc-interceptor.
    Interceptor,
    /// That of the crate str0m.
    Str0m,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// No case has that name.
    #[error("there is no case {0}; `lenscast simulate` lists them")]
    UnknownCase(String),
    /// A drawing could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Plot {
        /// Where to.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// Runs what is asked for and returns what there is to print: the cases; the metrics of one; or the table of all.
///
/// # Errors
///
/// If there is no such case, or drawings cannot be written.
pub fn simulate(args: &SimulateArgs) -> Result<String, SimulateError> {
    let all = cases();
    let chosen: Vec<Case> = match args.case.as_deref() {
        None => return Ok(list(&all)),
        Some("all") => all,
        Some(name) => all.into_iter().filter(|case| case.name == name).collect(),
    };
    if chosen.is_empty() {
        return Err(SimulateError::UnknownCase(args.case.clone().unwrap_or_default()));
    }
    let outcomes = run_all(&chosen, &args.controllers(), args.seed);
    if let Some(directory) = &args.plot {
        write_plots(directory, &outcomes)?;
    }
    Ok(match chosen.as_slice() {
        [_] => outcomes.iter().map(summary).collect::<Vec<_>>().join("\n"),
        _ => table(&outcomes),
    })
}

impl SimulateArgs {
    /// In the order of the table, each once.
    fn controllers(&self) -> Vec<Controller> {
        let asked: Vec<Controller> = self.controller.iter().map(|name| name.controller()).collect();
        Controller::ALL.into_iter().filter(|controller| asked.is_empty() || asked.contains(controller)).collect()
    }
}

impl ControllerName {
    fn controller(self) -> Controller {
        match self {
            Self::Google => Controller::Google,
            Self::Interceptor => Controller::Interceptor,
            Self::Str0m => Controller::Str0m,
        }
    }
}

fn list(cases: &[Case]) -> String {
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or_default();
    cases.iter().map(|case| format!("{:width$}  {}\n", case.name, case.title)).collect()
}

fn write_plots(directory: &Path, outcomes: &[Outcome]) -> Result<(), SimulateError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SimulateError::Plot { path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for outcome in outcomes {
        let path = directory.join(format!("{}-{}.svg", outcome.case, outcome.controller.name()));
        std::fs::write(&path, plot(outcome)).map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(case: Option<&str>) -> SimulateArgs {
        let controller = vec![ControllerName::Google];
        SimulateArgs { case: case.map(String::from), plot: None, controller, seed: 1 }
    }

    #[test]
    fn without_a_case_the_cases_are_listed() {
        let text = simulate(&args(None)).unwrap();
        assert!(text.lines().any(|line| line.starts_with("5.1  ")), "{text}");
        let error = simulate(&args(Some("5.9"))).unwrap_err();
        assert!(error.to_string().contains("no case 5.9"), "{error}");
    }

    #[test]
    fn a_case_prints_the_same_twice_and_is_drawn() {
        let directory = tempfile::tempdir().unwrap();
        let plots = directory.path().join("plots");
        let args = SimulateArgs { plot: Some(plots.clone()), ..args(Some("queue-70ms")) };
        let first = simulate(&args).unwrap();
        assert!(first.contains("queue-70ms") && first == simulate(&args).unwrap(), "{first}");
        assert!(std::fs::read_to_string(plots.join("queue-70ms-google.svg")).unwrap().starts_with("<svg"));
    }
}
