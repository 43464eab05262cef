//! Charts as SVG, by hand: a few lines are no reason for a library.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 40.0;

/// Colours that people with any eyes tell apart (Okabe and Ito).
const COLOURS: [&str; 6] = [
    "#000000", "#d55e00", "#cc79a7", "#0072b2", "#009e73", "#e69f00",
];

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its colour, by number.
    pub colour: usize,
    /// Its values, evenly spaced.
    pub values: Vec<f64>,
}

/// What stands around the lines.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What runs to the right.
    pub right: &'a str,
    /// The largest value drawn.
    pub most: f64,
    /// Whether the scale upwards is that of powers of ten, from 1 on.
    pub logarithmic: bool,
    /// Marks on the way to the right: where, from 0 to 1, and what happens there.
    pub marks: &'a [(f64, &'a str)],
}

impl Frame<'_> {
    fn height(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            value.max(1.0).log10() / self.most.log10()
        } else {
            value / self.most
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

/// A chart of lines.
#[must_use]
pub fn lines(frame: Frame<'_>, lines: &[Line]) -> String {
    let mut svg = String::new();
    let inner = WIDTH - LEFT - RIGHT;
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        frame.title
    );
    let ticks: Vec<f64> = if frame.logarithmic {
        let powers = 0..=frame.most.log10().floor() as i32;
        powers.map(|power| 10_f64.powi(power)).collect()
    } else {
        (0..=4).map(|n| frame.most * f64::from(n) / 4.0).collect()
    };
    for tick in ticks {
        let y = frame.height(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}h{inner}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for (at, what) in frame.marks {
        let x = LEFT + at * inner;
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{}\" stroke=\"#999999\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#666666\">{what}</text>",
            HEIGHT - BOTTOM,
            x + 4.0,
            TOP + 10.0
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let last = (line.values.len().max(2) - 1) as f64;
        let mut path = String::new();
        for (at, value) in line.values.iter().enumerate() {
            let x = LEFT + at as f64 / last * inner;
            let step = if at == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{step}{x:.1} {:.1}", frame.height(*value));
        }
        let y = TOP + 18.0 * (number as f64 + 1.0);
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <path d=\"M{} {y}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            WIDTH - RIGHT + 10.0,
            WIDTH - RIGHT + 34.0,
            y + 4.0,
            line.name
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n</svg>",
        LEFT + inner / 2.0,
        HEIGHT - 10.0,
        frame.right
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_stays_within_its_frame() {
        let frame = Frame {
            title: "a title",
            right: "to the right",
            most: 100.0,
            logarithmic: true,
            marks: &[(0.5, "half")],
        };
        let line = Line {
            name: "a line".to_owned(),
            colour: 9,
            values: vec![0.0, 1.0, 100.0, 1e9],
        };
        let svg = lines(frame, &[line]);
        let path = svg.split("<path d=\"M56.0").nth(1).unwrap();
        let path = path.split('"').next().unwrap();
        assert_eq!(path, " 260.0L220.7 260.0L385.3 36.0L550.0 36.0");
        assert!(svg.ends_with("</svg>\n"));
    }
}
