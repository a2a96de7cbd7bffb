use super::measure::Sample;
use super::phases::Phase;
use super::report::{COMMON_RATIOS, RATIOS, Report, median};

/// How often the measured ratios are drawn anew.
const DRAWS: usize = 2_000;
/// The share of draws that has to say so before a ratio is called worse.
const CONFIDENCE: f64 = 0.975;

/// In what the figures are worse than the baseline: counts that grew, and ratios that fell below a share of what they were
/// by more than chance explains.
pub(super) fn regressions(baseline: &Report, now: &Report, share: f64) -> Vec<String> {
    let mut found = common(baseline, now, share);
    for (n, edit) in now.edits.iter().enumerate() {
        let Some(before) = baseline.edits.iter().position(|known| known == edit) else {
            continue;
        };
        for phase in [Phase::Hot, Phase::Warm] {
            let (old, new) = (baseline.samples(phase, Some(before)), now.samples(phase, Some(n)));
            found.extend(counts(phase, &old, &new).map(|worse| format!("{edit}: {worse}")));
        }
        for ratio in RATIOS {
            let (old, new) = (baseline.ratios(*ratio, Some(before)), now.ratios(*ratio, Some(n)));
            found.extend(fallen(*ratio, (&old, &new), share).map(|worse| format!("{edit}: {worse}")));
        }
    }
    found
}

/// What no edit is concerned with. Here the second of the two phases is what should be slow, where it is cargo alone.
fn common(baseline: &Report, now: &Report, share: f64) -> Vec<String> {
    let (old, new) = (baseline.samples(Phase::Control, None), now.samples(Phase::Control, None));
    let mut found: Vec<String> = counts(Phase::Control, &old, &new).collect();
    for (over, under) in COMMON_RATIOS {
        let ratio = if *under == Phase::Plain { (*under, *over) } else { (*over, *under) };
        found.extend(fallen(ratio, (&baseline.ratios(ratio, None), &now.ratios(ratio, None)), share));
    }
    found
}

fn counts(phase: Phase, old: &[&Sample], new: &[&Sample]) -> impl Iterator<Item = String> {
    type Count = (&'static str, fn(&Sample) -> u64);
    const COUNTS: &[Count] = &[("compilations", |sample| sample.compiled), ("tests run", |sample| sample.tested)];
    let known = !old.is_empty() && !new.is_empty();
    let grown = COUNTS.iter().filter(move |_| known).filter_map(move |(what, count)| {
        let most = |samples: &[&Sample]| samples.iter().map(|sample| count(sample)).max().unwrap_or_default();
        let (before, after) = (most(old), most(new));
        (after > before).then(|| format!("{after} {what} in the {} phase, {before} before", phase.name()))
    });
    grown.collect::<Vec<_>>().into_iter()
}

fn fallen((over, under): (Phase, Phase), (old, new): (&[f64], &[f64]), share: f64) -> Option<String> {
    let change = worse(old, new, share)?;
    Some(format!("{}/{} is {change:.2} of what it was", over.name(), under.name()))
}

/// The change of a ratio's median, if it fell below a share of what it was in nearly all draws from what was measured.
fn worse(before: &[f64], after: &[f64], share: f64) -> Option<f64> {
    if before.is_empty() || after.is_empty() {
        return None;
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut draw = |values: &[f64]| {
        let mut drawn: Vec<f64> = values.iter().map(|_| values[random.below(values.len())]).collect();
        drawn.sort_by(f64::total_cmp);
        median(&drawn)
    };
    let below = (0..DRAWS).filter(|_| draw(after) < draw(before) * share).count();
    let mut sorted = (before.to_vec(), after.to_vec());
    sorted.0.sort_by(f64::total_cmp);
    sorted.1.sort_by(f64::total_cmp);
    (below as f64 >= DRAWS as f64 * CONFIDENCE).then(|| median(&sorted.1) / median(&sorted.0))
}

/// Numbers that look random and are the same each time (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The remainder is below `end`, which is a `usize`.
        (self.0 % end.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::phases::{Run, Step};
    use super::*;

    #[test]
    fn noise_is_no_regression_and_a_fall_is() {
        let before = [10.0, 11.0, 9.5, 10.5, 10.2];
        assert_eq!(worse(&before, &[10.1, 9.4, 10.9, 9.9, 10.4], 0.9), None);
        assert_eq!(worse(&before, &[9.3, 9.6, 11.2, 9.1, 10.0], 0.9), None);
        assert_eq!(worse(&before, &[12.0, 13.0, 12.5, 14.0, 13.3], 0.9), None);
        assert!(worse(&before, &[6.0, 6.5, 5.9, 7.0, 6.2], 0.9).is_some_and(|change| change < 0.7));
        assert_eq!(worse(&before, &[6.0, 6.5, 5.9, 7.0, 6.2], 0.5), None);
        assert_eq!(worse(&[], &before, 0.9), None);
    }

    /// A report in which each phase took the same, but for the hot one.
    fn report(compiled: u64, hot_wall: f64) -> Report {
        let mut report = Report::new(&[], vec!["e".to_owned()]);
        let step = |phase: Phase| {
            let wall = if phase == Phase::Hot { hot_wall } else { 1.0 };
            let sample = Sample { wall, compiled, ..Sample::default() };
            Step { phase, edit: phase.is_of_an_edit().then_some(0), sample, refused: None }
        };
        let steps = [Phase::Plain, Phase::Cold, Phase::Control, Phase::Warm, Phase::Hot].map(step);
        report.runs = vec![Run { steps: steps.to_vec() }; 3];
        report
    }

    #[test]
    fn one_more_compilation_is_a_regression_and_so_is_a_slower_hot_phase() {
        let before = report(0, 0.1);
        assert!(regressions(&before, &before, 0.9).is_empty() && regressions(&report(1, 0.1), &before, 0.9).is_empty());
        let more = regressions(&before, &report(1, 0.1), 0.9);
        assert!(more.contains(&"e: 1 compilations in the hot phase, 0 before".to_owned()), "{more:?}");
        assert_eq!(regressions(&before, &report(0, 0.2), 0.9), ["e: cold/hot is 0.50 of what it was"]);
    }

    #[test]
    fn a_step_that_is_refused_counts_for_nothing() {
        let mut now = report(1, 9.0);
        for run in &mut now.runs {
            run.steps.iter_mut().for_each(|step| step.refused = Some("why".to_owned()));
        }
        assert!(regressions(&report(0, 0.1), &now, 0.9).is_empty());
        assert_eq!(now.refused().len(), 15);
    }
}
