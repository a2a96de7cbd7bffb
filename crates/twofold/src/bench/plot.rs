use std::fmt::Write;

use super::phases::Phase;
use super::report::{Report, spread};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 22.0;
/// The times at the borders of the scale, in seconds, as powers of ten.
const SCALE: (f64, f64) = (-1.0, 3.0);

/// The medians as bars on a scale of powers of ten, with lines from the least to the greatest.
pub(super) fn svg(report: &Report) -> String {
    let mut groups = vec![("all changes as the model wrote them first".to_owned(), None)];
    groups.extend(report.edits.iter().enumerate().map(|(n, edit)| (edit.clone(), Some(n))));
    let phases = |edit: Option<usize>| -> &[Phase] {
        match edit {
            None => &[Phase::Plain, Phase::Unchanged, Phase::Cold, Phase::Control],
            Some(_) => &[Phase::Incremental, Phase::Sccache, Phase::Warm, Phase::Hot],
        }
    };
    let mut body = String::new();
    let mut y = ROW * 1.5;
    for (name, edit) in &groups {
        // Writing to a string does not fail.
        let _: std::fmt::Result =
            writeln!(body, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{}</text>", escape(name));
        y += ROW * 0.5;
        for phase in phases(*edit) {
            let walls: Vec<f64> = report.samples(*phase, *edit).iter().map(|sample| sample.wall).collect();
            if !walls.is_empty() {
                bar(*phase, spread(walls.into_iter()), y, &mut body);
                y += ROW;
            }
        }
        y += ROW * 1.2;
    }
    let height = y + ROW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    axis(y, &mut out);
    out + &body + "</svg>\n"
}

fn bar(phase: Phase, (least, median, most): (f64, f64, f64), y: f64, out: &mut String) {
    let colour = match phase {
        Phase::Plain | Phase::Unchanged | Phase::Incremental => "#8a8f98",
        Phase::Sccache => "#b58b2a",
        Phase::Cold => "#5b7fb5",
        Phase::Warm => "#d98a3d",
        Phase::Control | Phase::Hot => "#c0392b",
    };
    let (name, middle) = (phase.name(), y + ROW * 0.65);
    let (from, to, line) = (at(least), at(most), y + ROW * 0.4);
    let _: std::fmt::Result = write!(
        out,
        "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\n\
         <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
         <line x1=\"{from:.1}\" y1=\"{line}\" x2=\"{to:.1}\" y2=\"{line}\" stroke=\"black\"/>\n\
         <text x=\"{:.1}\" y=\"{middle}\">{median:.2} s</text>\n",
        LEFT - 8.0,
        at(median) - LEFT,
        ROW * 0.8,
        to.max(at(median)) + 6.0
    );
}

fn axis(y: f64, out: &mut String) {
    for power in 0..=(SCALE.1 - SCALE.0) as i32 {
        let seconds = 10_f64.powf(SCALE.0 + f64::from(power));
        let x = at(seconds);
        let _: std::fmt::Result = write!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{ROW}\" x2=\"{x:.1}\" y2=\"{y}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{seconds} s</text>\n",
            y + ROW * 0.7
        );
    }
}

/// Where a time lies.
fn at(seconds: f64) -> f64 {
    let place = (seconds.max(1e-9).log10().clamp(SCALE.0, SCALE.1) - SCALE.0) / (SCALE.1 - SCALE.0);
    LEFT + place * (WIDTH - LEFT - RIGHT)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::measure::Sample;
    use super::super::phases::{Run, Step};
    use super::*;

    #[test]
    fn each_step_that_counts_has_a_bar_within_the_picture() {
        let mut report = Report::new(&[], vec!["a < b".to_owned()]);
        let step = |phase: Phase, edit, wall| Step {
            phase,
            edit,
            sample: Sample { wall, ..Sample::default() },
            refused: None,
        };
        let steps = vec![step(Phase::Cold, None, 300.0), step(Phase::Hot, Some(0), 0.001)];
        report.runs = vec![Run { steps }];
        let drawn = svg(&report);
        assert!(drawn.contains("300.00 s") && drawn.contains("a &lt; b") && !drawn.contains("warm"), "{drawn}");
        assert_eq!(drawn.matches("fill=\"#").count(), 2, "{drawn}");
        assert!((at(1e-6) - LEFT).abs() < 1e-9 && at(1e9) <= WIDTH);
    }
}
