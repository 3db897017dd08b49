//! A chart as SVG: lines of points on two axes from zero. It needs nothing to be looked at but a browser.

use std::fmt::Write as _;

use super::drawing::{COLOURS, Drawing, WIDTH, head};

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// What goes across.
    pub across: &'static str,
    /// What goes up.
    pub up: &'static str,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// Points that belong together.
#[derive(Debug, Clone)]
pub struct Line {
    /// What they are called.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 60.0;
const STEPS: u32 = 5;

impl Chart {
    /// Draws it into a file of this name.
    #[must_use]
    pub fn draw(&self, file: &str) -> Drawing {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let most = |value: fn(&(f64, f64)) -> f64| round_up(all().map(value).fold(0.0, f64::max));
        let (right, top) = (most(|point| point.0), most(|point| point.1));
        let x = |value: f64| MARGIN + value / right * (WIDTH - 2.0 * MARGIN);
        let y = |value: f64| HEIGHT - MARGIN - value / top * (HEIGHT - 2.0 * MARGIN);
        let mut svg = head(self.title, HEIGHT);
        for step in 0..=STEPS {
            let share = f64::from(step) / f64::from(STEPS);
            let (across, up) = (right * share, top * share);
            let _ = writeln!(
                svg,
                "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#d0d7de\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{up}</text>\
                 <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{across}</text>",
                WIDTH - MARGIN,
                MARGIN - 6.0,
                y(up) + 4.0,
                x(across),
                HEIGHT - MARGIN + 18.0,
                y = y(up),
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text x=\"{MARGIN}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            WIDTH / 2.0,
            HEIGHT - 16.0,
            self.across,
            MARGIN - 14.0,
            self.up
        );
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let points = line.points.iter().map(|(across, up)| (x(*across), y(*up)));
            let path: Vec<String> = points.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for (x, y) in points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
                );
            }
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
                WIDTH - MARGIN,
                MARGIN + 16.0 * (f64::from(u8::try_from(number).unwrap_or(u8::MAX))),
                line.name
            );
        }
        Drawing::of(file, self.title, svg)
    }
}

/// The next round number: 1, 2 or 5 and zeros.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    round.into_iter().find(|round| *round >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_and_points_lie_within() {
        for (value, round) in [(0.9, 1.0), (1.0, 1.0), (3.0, 5.0), (30.0, 50.0), (7.2, 10.0)] {
            assert!((round_up(value) - round).abs() < 1e-9, "{value}");
        }
        let points = vec![(1.0, 4.0), (30.0, 5.0)];
        let name = "delete".to_owned();
        let chart = Chart {
            title: "t",
            across: "a",
            up: "u",
            lines: vec![Line { name, points }],
        };
        let svg = chart.draw("t.svg").svg;
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("points=\"70.4,108.0 372.0,60.0\""), "{svg}");
    }
}
