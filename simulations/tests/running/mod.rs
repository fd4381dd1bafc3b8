//! Experiments written in a test, run to their end.

use kith_simulations::experiment::{Experiment, Outcome, setting};
use kith_simulations::simulator::Ended;

/// Runs an experiment with these settings on top, training on so many threads beside this one.
pub(crate) fn run_on(threads: usize, text: &str, settings: &[&str]) -> Outcome {
    let settings: Vec<_> = settings
        .iter()
        .map(|text| setting(text).expect("a good setting"))
        .collect();
    let experiment = Experiment::parse(text, &settings)
        .unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    experiment.run(threads, &mut |_, _| {}).expect("it runs")
}

/// The same on this thread alone; everybody finishes and every invariant holds.
pub(crate) fn run(text: &str, settings: &[&str]) -> Outcome {
    let outcome = run_on(0, text, settings);
    assert_eq!(outcome.checks.failed, [], "{text}");
    assert_eq!(outcome.ended, Ended::Stopped, "everyone finishes\n{text}");
    outcome
}
