//! Bars as SVG, in groups: the longest bar of each group has the whole width, and each says its value.

use std::fmt::Write as _;

use super::drawing::{COLOURS, Drawing, escape, head};

/// Groups of bars.
#[derive(Debug, Clone)]
pub struct Bars {
    /// What they show.
    pub title: &'static str,
    /// From top to bottom.
    pub groups: Vec<Group>,
}

/// Bars that are compared with each other, and with no others.
#[derive(Debug, Clone)]
pub struct Group {
    /// What they are of.
    pub name: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What stands before it.
    pub name: String,
    /// How long it is; zero or more.
    pub value: f64,
    /// What stands behind it.
    pub label: String,
}

const BEGIN: f64 = 110.0;
/// The longest bar ends here, so that its label has room.
const END: f64 = 480.0;
const BAR: f64 = 16.0;
const STEP: f64 = 20.0;
const HEADING: f64 = 26.0;
const TOP: f64 = 40.0;

impl Bars {
    /// Draws them into a file of this name.
    #[must_use]
    pub fn draw(&self, file: &str) -> Drawing {
        let rows: usize = self.groups.iter().map(|group| group.bars.len()).sum();
        let groups = u32::try_from(self.groups.len()).map_or(0.0, f64::from);
        let rows = u32::try_from(rows).map_or(0.0, f64::from);
        let height = TOP + groups * HEADING + rows * STEP + 10.0;
        let mut svg = head(self.title, height);
        let mut y = TOP;
        for group in &self.groups {
            let _ = writeln!(
                svg,
                "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{}</text>",
                y + HEADING - 8.0,
                escape(&group.name)
            );
            y += HEADING;
            let longest = group.bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
            for (number, bar) in group.bars.iter().enumerate() {
                let length = if longest > 0.0 {
                    bar.value / longest * (END - BEGIN)
                } else {
                    0.0
                };
                let _ = writeln!(
                    svg,
                    "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
                     <rect x=\"{BEGIN}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>\
                     <text x=\"{:.1}\" y=\"{text}\">{}</text>",
                    BEGIN - 6.0,
                    escape(&bar.name),
                    // What is there is seen, however short.
                    length.max(1.0),
                    COLOURS[number % COLOURS.len()],
                    BEGIN + length + 6.0,
                    escape(&bar.label),
                    text = y + BAR - 4.0,
                );
                y += STEP;
            }
        }
        Drawing::of(file, self.title, svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_of_each_group_has_the_whole_width() {
        let bar = |name: &str, value| Bar {
            name: name.to_owned(),
            value,
            label: format!("{value} s"),
        };
        let group = |bars| Group {
            name: "a & b".to_owned(),
            bars,
        };
        let bars = Bars {
            title: "t",
            groups: vec![
                group(vec![bar("x", 2.0), bar("y", 0.5)]),
                group(vec![bar("z", 0.1)]),
                group(vec![bar("nothing", 0.0)]),
            ],
        };
        let svg = bars.draw("x.svg").svg;
        assert_eq!(svg.matches("width=\"370.0\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("width=\"92.5\"").count(), 1, "{svg}");
        assert!(svg.contains("a &amp; b") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
