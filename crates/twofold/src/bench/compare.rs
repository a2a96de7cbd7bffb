use super::phases::Site;
use super::report::{RATIOS, Report, median};

/// How often the measured ratios are drawn anew.
const DRAWS: usize = 2_000;
/// The share of draws that has to say so before a ratio is called worse.
const CONFIDENCE: f64 = 0.975;
/// What a ratio may lose before anyone should care.
const TOLERANCE: f64 = 0.9;

/// In what the figures are worse than the baseline: counts that grew, and ratios that fell by more than chance explains.
pub(super) fn regressions(baseline: &Report, now: &Report) -> Vec<String> {
    let mut found = Vec::new();
    for edit in now.edits() {
        let (before, after): (Vec<&Site>, Vec<&Site>) = (baseline.sites(edit).collect(), now.sites(edit).collect());
        if before.is_empty() {
            continue;
        }
        type Count = (&'static str, fn(&Site) -> u64);
        let counts: &[Count] = &[
            ("compilations in the hot phase", |site| site.hot.compiled),
            ("tests run in the hot phase", |site| site.hot.tested),
            ("compilations in the warm phase", |site| site.warm.compiled),
            ("tests run in the warm phase", |site| site.warm.tested),
        ];
        for (what, count) in counts {
            let most = |sites: &[&Site]| sites.iter().map(|site| count(site)).max().unwrap_or_default();
            if most(&after) > most(&before) {
                found.push(format!("{edit}: {} {what}, {} before", most(&after), most(&before)));
            }
        }
        for (name, ratio) in RATIOS {
            let of = |sites: &[&Site]| -> Vec<f64> { sites.iter().map(|site| ratio(site)).collect() };
            if let Some(change) = worse(&of(&before), &of(&after)) {
                found.push(format!("{edit}: {name} is {change:.2} of what it was"));
            }
        }
    }
    found
}

/// The change of a ratio's median, if it fell below the tolerance in nearly all draws from what was measured.
fn worse(before: &[f64], after: &[f64]) -> Option<f64> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut draw = |values: &[f64]| {
        let mut drawn: Vec<f64> = values.iter().map(|_| values[random.below(values.len())]).collect();
        drawn.sort_by(f64::total_cmp);
        median(&drawn)
    };
    let below = (0..DRAWS).filter(|_| draw(after) < draw(before) * TOLERANCE).count();
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
    use super::super::measure::Sample;
    use super::super::phases::Run;
    use super::*;

    #[test]
    fn noise_is_no_regression_and_a_fall_is() {
        let before = [10.0, 11.0, 9.5, 10.5, 10.2];
        assert_eq!(worse(&before, &[10.1, 9.4, 10.9, 9.9, 10.4]), None);
        assert_eq!(worse(&before, &[9.3, 9.6, 11.2, 9.1, 10.0]), None);
        assert_eq!(worse(&before, &[12.0, 13.0, 12.5, 14.0, 13.3]), None);
        assert!(worse(&before, &[6.0, 6.5, 5.9, 7.0, 6.2]).is_some_and(|change| change < 0.7));
    }

    #[test]
    fn one_more_compilation_is_a_regression() {
        let report = |compiled| {
            let sample = Sample { wall: 1.0, cpu: 1.0, compiled, ..Sample::default() };
            let site = Site {
                edit: "e".to_owned(),
                plain: sample.clone(),
                cold: sample.clone(),
                warm: sample.clone(),
                hot: sample,
            };
            Report::of(vec![Run { sites: vec![site] }])
        };
        assert!(regressions(&report(1), &report(1)).is_empty() && regressions(&report(1), &report(0)).is_empty());
        let found = regressions(&report(0), &report(1));
        assert_eq!(found.first().map(String::as_str), Some("e: 1 compilations in the hot phase, 0 before"));
    }
}
