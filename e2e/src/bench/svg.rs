//! Small plots as SVG: lines over one axis, written by hand so that nothing but text is needed.

use std::fmt::Write as _;

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in the order of x.
    pub points: Vec<(f64, f64)>,
}

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis: words and scale.
    pub x: (String, Scale),
    /// The vertical axis.
    pub y: (String, Scale),
    /// Lines.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;
/// Told apart by people who see colours differently: Okabe and Ito's palette.
const COLOURS: [&str; 6] = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// An axis: values between two ends, put between two places.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let high = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        match scale {
            Scale::Linear => {
                Self { scale, low: 0.0, high: step(high / 5.0) * (high / step(high / 5.0)).ceil() }
            }
            Scale::Logarithmic => {
                let low = values.filter(|value| *value > 0.0).fold(high, f64::min);
                let (low, high) = (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil()));
                Self { scale, low, high: if high > low { high } else { low * 10.0 } }
            }
        }
    }

    /// Where a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value / self.high,
            Scale::Logarithmic => {
                let low = self.low.log10();
                (value.max(self.low).log10() - low) / (self.high.log10() - low)
            }
        }
    }

    fn marks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high / 5.0);
                (0..).map(|at| f64::from(at) * step).take_while(|mark| *mark <= self.high * 1.001).collect()
            }
            Scale::Logarithmic => {
                let next = |mark: &f64| Some(mark * 10.0);
                std::iter::successors(Some(self.low), next)
                    .take_while(|mark| *mark <= self.high * 1.001)
                    .collect()
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20, ... from here on.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(power)
}

/// A number in few characters.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", value / 1e6),
        size if size >= 1e3 => format!("{}k", value / 1e3),
        // Sums of tenths are not exact.
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

/// Text inside XML.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// The SVG's text.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::new(self.x.1, points().map(|point| point.0));
        let y = Axis::new(self.y.1, points().map(|point| point.1));
        let at_x = |value: f64| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
        let at_y = |value: f64| HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM);
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
        )?;
        writeln!(out, r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#)?;
        writeln!(out, r#"<text x="{LEFT}" y="24" font-size="15">{}</text>"#, escaped(&self.title))?;
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for mark in x.marks() {
            let place = at_x(mark);
            writeln!(out, r##"<path d="M{place:.1} {TOP}V{bottom}" stroke="#ddd"/>"##)?;
            writeln!(
                out,
                r#"<text x="{place:.1}" y="{}" text-anchor="middle">{}</text>"#,
                bottom + 16.0,
                short(mark)
            )?;
        }
        for mark in y.marks() {
            let place = at_y(mark);
            writeln!(out, r##"<path d="M{LEFT} {place:.1}H{right}" stroke="#ddd"/>"##)?;
            writeln!(
                out,
                r#"<text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 6.0,
                place + 4.0,
                short(mark)
            )?;
        }
        let middle = f64::midpoint(TOP, bottom);
        writeln!(
            out,
            r#"<text x="{}" y="{}" text-anchor="middle">{}</text>"#,
            f64::midpoint(LEFT, right),
            bottom + 36.0,
            escaped(&self.x.0)
        )?;
        writeln!(
            out,
            r#"<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{}</text>"#,
            escaped(&self.y.0)
        )?;
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let path: Vec<String> =
                series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
            writeln!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
                path.join(" ")
            )?;
            let place = LEFT + number as f64 * (WIDTH - LEFT - RIGHT) / self.series.len() as f64;
            let line = HEIGHT - 8.0;
            writeln!(
                out,
                r#"<path d="M{place:.1} {}h18" stroke="{colour}" stroke-width="3"/><text x="{:.1}" y="{line}">{}</text>"#,
                line - 4.0,
                place + 24.0,
                escaped(&series.name)
            )?;
        }
        writeln!(out, "</svg>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_all_values_and_have_round_marks() {
        let linear = Axis::new(Scale::Linear, [3.0, 87.0].into_iter());
        assert_eq!(linear.marks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear.share(50.0), 0.5);
        let logarithmic = Axis::new(Scale::Logarithmic, [3.0, 870.0].into_iter());
        assert_eq!(logarithmic.marks(), [1.0, 10.0, 100.0, 1_000.0]);
        assert!((logarithmic.share(10.0) - 1.0 / 3.0).abs() < 1e-9);
        let single = Axis::new(Scale::Logarithmic, [1.0].into_iter());
        assert_eq!(single.marks(), [1.0, 10.0]);
    }

    #[test]
    fn a_plot_is_xml_with_all_its_lines() {
        let series = |name: &str| Series { name: name.into(), points: vec![(1.0, 2.0), (10.0, 4.0)] };
        let plot = Plot {
            title: "a < b".into(),
            x: ("clients".into(), Scale::Logarithmic),
            y: ("puts/s".into(), Scale::Linear),
            series: vec![series("etcd"), series("Quorate & co")],
        };
        let svg = plot.svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("Quorate &amp; co") && svg.ends_with("</svg>\n"));
        // The last point of the one line: the right end, two thirds up or less.
        assert!(svg.contains("700.0,"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.1 + 0.2, 5_000.0, 2e6].map(short), ["0.3", "5k", "2M"]);
    }
}
