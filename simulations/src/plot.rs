//! Plots as SVG text, readable without a script, a font file or a network, in a light and in a dark
//! page.
//!
//! [`Plot`] draws lines with bands and marked points over linear or logarithmic axes; [`graph`]
//! draws which peers exchange. Colours are those of Okabe and Ito 2008, which people with any kind
//! of colour vision tell apart; dashes and shapes tell series apart without colour. Colours are in
//! [`STYLE`], not in the shapes, so that a page can follow its reader's scheme.
//!
//! Not here: the choice of plots ([`crate::report`]).

use std::fmt::Write as _;

pub mod graph;

/// The style sheet of every plot. A page that holds plots writes it once; [`standalone`] writes it
/// into a file.
pub const STYLE: &str = "\
.kith{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:12px}\
.kith text{fill:#222}.kith .quiet{fill:#555}.kith .title{font-size:14px;font-weight:600}\
.kith .paper{fill:#fff}.kith .grid{stroke:#888;stroke-opacity:.25;stroke-width:1;fill:none}\
.kith .frame{stroke:#888;stroke-width:1;fill:none}.kith .edge{stroke:#777;stroke-opacity:.6;stroke-width:1;fill:none}\
.kith .arrow{fill:#777}.kith .inside{fill:#fff;font-size:10px}\
.kith .s0{stroke:#0072b2;fill:#0072b2}.kith .s1{stroke:#d55e00;fill:#d55e00}.kith .s2{stroke:#009e73;fill:#009e73}\
.kith .s3{stroke:#cc79a7;fill:#cc79a7}.kith .s4{stroke:#56b4e9;fill:#56b4e9}.kith .s5{stroke:#e69f00;fill:#e69f00}\
.kith .s6{stroke:#999;fill:#999}.kith .line{fill:none;stroke-width:2;stroke-linejoin:round}\
.kith .band{stroke:none;fill-opacity:.18}\
@media (prefers-color-scheme:dark){.kith text{fill:#ddd}.kith .quiet{fill:#aaa}.kith .paper{fill:#16181c}\
.kith .inside{fill:#111}.kith .s0{stroke:#4fa3e0;fill:#4fa3e0}.kith .s1{stroke:#f07f2e;fill:#f07f2e}\
.kith .s2{stroke:#2fbf96;fill:#2fbf96}.kith .edge{stroke:#999}.kith .line{fill:none}.kith .band{stroke:none}}";

/// Colours in [`STYLE`].
const COLOURS: usize = 7;
const DASHES: [&str; 4] = ["", "7 4", "2 3", "9 3 2 3"];
/// More points than this are thinned out: a screen has no more columns.
const POINTS_MAX: usize = 1000;
const LEFT: f64 = 78.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const BOTTOM: f64 = 46.0;
/// Width of a character, generously: no font is asked.
const CHARACTER: f64 = 7.4;

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps have equal lengths.
    Linear,
    /// By their logarithm. Values that are not positive are left out; if none is positive, the axis
    /// is linear.
    Log,
}

/// What an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole things: ticks stand at integers.
    Count,
    /// Any number.
    Number,
    /// Bytes: in kB, MB, … as fits, which is added to the title.
    Bytes,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The quantity that it shows, with its unit.
    pub title: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// What it counts, which decides its ticks.
    pub unit: Unit,
}

impl Axis {
    /// A linear axis.
    pub fn linear(title: &str, unit: Unit) -> Axis {
        Axis {
            title: title.to_owned(),
            scale: Scale::Linear,
            unit,
        }
    }

    /// A logarithmic axis.
    pub fn log(title: &str, unit: Unit) -> Axis {
        Axis {
            title: title.to_owned(),
            scale: Scale::Log,
            unit,
        }
    }
}

/// One thing that is drawn.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// (x, y), in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// (x, low, high) of the band around them; may be empty.
    pub band: Vec<(f64, f64, f64)>,
    /// Marks without a line between them.
    pub marks_only: bool,
}

impl Series {
    /// A line through points, without a band.
    pub fn line(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series {
            name: name.to_owned(),
            points,
            ..Series::default()
        }
    }

    /// The same with a band.
    pub fn with_band(self, band: Vec<(f64, f64, f64)>) -> Series {
        Series { band, ..self }
    }
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Title of the plot.
    pub title: String,
    /// What else distinguishes it, in a line of its own; may be empty.
    pub subtitle: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What is drawn, later series over earlier ones.
    pub series: Vec<Series>,
}

impl Plot {
    /// The plot as an `<svg>` element without its style; `None` if there is no finite point.
    pub fn svg(&self) -> Option<String> {
        let all = |pick: fn(f64, f64) -> f64| {
            let points = self
                .series
                .iter()
                .flat_map(|series| series.points.iter().copied());
            let bands = self
                .series
                .iter()
                .flat_map(|series| &series.band)
                .flat_map(|(x, low, high)| [(*x, *low), (*x, *high)]);
            points
                .chain(bands)
                .map(move |(x, y)| pick(x, y))
                .filter(|value| value.is_finite())
        };
        let x = ScaledAxis::over(&self.x, all(|x, _| x), WIDTH, 8)?;
        let y = ScaledAxis::over(&self.y, all(|_, y| y), HEIGHT, 6)?;
        let top = if self.subtitle.is_empty() {
            TOP
        } else {
            TOP + 18.0
        };
        let legend = self.legend();
        let rows = legend.last().map_or(0.0, |(row, ..)| *row + 1.0);
        let (width, height) = (LEFT + WIDTH + 18.0, top + HEIGHT + BOTTOM + 18.0 * rows);
        let mut svg = open(width, height, LEFT, &self.title);
        if !self.subtitle.is_empty() {
            let _ = write!(
                svg,
                "<text class=\"quiet\" x=\"{LEFT}\" y=\"38\">{}</text>",
                escape(&self.subtitle)
            );
        }
        let place = |at: (f64, f64)| Some((LEFT + x.place(at.0)?, top + HEIGHT - y.place(at.1)?));
        for (value, text) in &x.ticks {
            let at = LEFT + x.place(*value)?;
            let _ = write!(svg, "<path class=\"grid\" d=\"M{at:.1} {top}v{HEIGHT}\"/>");
            let _ = write!(
                svg,
                "<text class=\"quiet\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                top + HEIGHT + 16.0
            );
        }
        for (value, text) in &y.ticks {
            let at = top + HEIGHT - y.place(*value)?;
            let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}h{WIDTH}\"/>");
            let _ = write!(
                svg,
                "<text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        let _ = write!(
            svg,
            "<path class=\"frame\" d=\"M{LEFT} {top}v{HEIGHT}h{WIDTH}\"/>"
        );
        let (middle, below) = (LEFT + WIDTH / 2.0, top + HEIGHT + 36.0);
        let _ = write!(
            svg,
            "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
            escape(&x.title)
        );
        let (beside, centre) = (16.0, top + HEIGHT / 2.0);
        let _ = write!(
            svg,
            "<text transform=\"translate({beside} {centre}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(&y.title)
        );
        for (number, series) in self.series.iter().enumerate() {
            draw(&mut svg, number, series, place);
        }
        for (row, left, number) in legend {
            let (at, series) = (
                top + HEIGHT + BOTTOM + 4.0 + 18.0 * row,
                &self.series[number],
            );
            if series.marks_only {
                mark(&mut svg, number, (left + 11.0, at));
            } else {
                let (class, dashes) = (number % COLOURS, DASHES[number % DASHES.len()]);
                let _ = write!(
                    svg,
                    "<path class=\"s{class} line\" stroke-dasharray=\"{dashes}\" d=\"M{left:.1} {at}h22\"/>"
                );
            }
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\">{}</text>",
                left + 28.0,
                at + 4.0,
                escape(&series.name)
            );
        }
        svg.push_str("</svg>");
        Some(svg)
    }

    /// Row, left end and number of every series with a name, in rows below the plot.
    fn legend(&self) -> Vec<(f64, f64, usize)> {
        let (mut row, mut left) = (0.0, LEFT);
        let mut places = Vec::new();
        for (number, series) in self
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| !series.name.is_empty())
        {
            let width = 46.0 + CHARACTER * series.name.chars().count() as f64;
            if left > LEFT && left + width > LEFT + WIDTH + 18.0 {
                (row, left) = (row + 1.0, LEFT);
            }
            places.push((row, left, number));
            left += width;
        }
        places
    }
}

/// Begins an `<svg>` element with its title.
fn open(width: f64, height: f64, left: f64, title: &str) -> String {
    let title = escape(title);
    format!(
        "<svg class=\"kith\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\"><rect class=\"paper\" width=\"100%\" height=\"100%\"/>\
         <text class=\"title\" x=\"{left}\" y=\"20\">{title}</text>"
    )
}

/// The plot as a file of its own.
pub fn standalone(svg: &str) -> String {
    let (head, rest) = svg.split_once('>').unwrap_or((svg, ""));
    format!("{head}><style>{STYLE}</style>{rest}\n")
}

/// Escapes text for XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn draw(
    svg: &mut String,
    number: usize,
    series: &Series,
    place: impl Fn((f64, f64)) -> Option<(f64, f64)>,
) {
    let class = number % COLOURS;
    let path = |points: Vec<(f64, f64)>| {
        let places = points.into_iter().filter_map(&place);
        places
            .map(|(x, y)| format!("{x:.1} {y:.1}"))
            .collect::<Vec<_>>()
            .join("L")
    };
    let band = thinned(&series.band);
    if band.len() > 1 {
        let upper = band.iter().map(|(x, _, high)| (*x, *high));
        let outline = path(
            upper
                .chain(band.iter().rev().map(|(x, low, _)| (*x, *low)))
                .collect(),
        );
        let _ = write!(svg, "<path class=\"s{class} band\" d=\"M{outline}Z\"/>");
    } else if let Some((x, low, high)) = band.first() {
        let _ = write!(
            svg,
            "<path class=\"s{class} line\" stroke-opacity=\".5\" d=\"M{}\"/>",
            path(vec![(*x, *low), (*x, *high)])
        );
    }
    let points = thinned(&series.points);
    if series.marks_only || points.len() == 1 {
        points
            .into_iter()
            .filter_map(&place)
            .for_each(|at| mark(svg, number, at));
    } else if !points.is_empty() {
        let dashes = DASHES[number % DASHES.len()];
        let _ = write!(
            svg,
            "<path class=\"s{class} line\" stroke-dasharray=\"{dashes}\" d=\"M{}\"/>",
            path(points)
        );
    }
}

/// A circle, square, triangle or diamond.
fn mark(svg: &mut String, number: usize, (x, y): (f64, f64)) {
    let class = number % COLOURS;
    let shape = match number % 4 {
        0 => "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
        1 => "m-4.5 -4.5h9v9h-9Z",
        2 => "m0 -6l5.5 10h-11Z",
        _ => "m0 -6l6 6l-6 6l-6 -6Z",
    };
    let _ = write!(
        svg,
        "<path class=\"s{class}\" d=\"M{x:.1} {y:.1}{shape}\"/>"
    );
}

/// At most [`POINTS_MAX`] of them, evenly, the last one among them.
fn thinned<T: Copy>(points: &[T]) -> Vec<T> {
    let stride = points.len().div_ceil(POINTS_MAX).max(1);
    let mut kept: Vec<T> = points.iter().copied().step_by(stride).collect();
    if let Some(last) = points
        .last()
        .filter(|_| !(points.len().max(1) - 1).is_multiple_of(stride))
    {
        kept.push(*last);
    }
    kept
}

/// An axis with its range.
struct ScaledAxis {
    title: String,
    log: bool,
    from: f64,
    to: f64,
    length: f64,
    ticks: Vec<(f64, String)>,
}

impl ScaledAxis {
    fn over(
        axis: &Axis,
        values: impl Iterator<Item = f64> + Clone,
        length: f64,
        ticks: usize,
    ) -> Option<ScaledAxis> {
        let log = axis.scale == Scale::Log && values.clone().any(|value| value > 0.0);
        let values = values.filter(|value| !log || *value > 0.0);
        let (least, most) = (values.clone().reduce(f64::min)?, values.reduce(f64::max)?);
        let (mut from, mut to) = if log {
            (least.log10(), most.log10())
        } else {
            (least, most)
        };
        if to - from <= 1e-12 * to.abs().max(1e-300) || (axis.unit == Unit::Count && to == from) {
            let room = match axis.unit {
                _ if log => 0.5,
                Unit::Count => 1.0,
                Unit::Number | Unit::Bytes => {
                    if from == 0.0 {
                        1.0
                    } else {
                        0.1 * from.abs()
                    }
                }
            };
            (from, to) = (from - room, to + room);
        } else if axis.unit != Unit::Count {
            let room = 0.04 * (to - from);
            (from, to) = (
                from - room,
                if to == 1.0 && least >= 0.0 && !log {
                    to
                } else {
                    to + room
                },
            ); // a share ends at 1
        }
        if !log && least >= 0.0 && axis.unit != Unit::Count {
            from = from.max(0.0); // values that are never negative need no room below 0
        }
        let (divisor, prefix) = match axis.unit {
            Unit::Bytes => scale_of(most),
            Unit::Count | Unit::Number => (1.0, ""),
        };
        let title = if prefix.is_empty() {
            axis.title.clone()
        } else {
            format!("{} ({prefix})", axis.title)
        };
        let ticks = if log {
            decades(from, to, divisor)
        } else {
            steps(from, to, divisor, ticks, axis.unit == Unit::Count)
        };
        Some(ScaledAxis {
            title,
            log,
            from,
            to,
            length,
            ticks,
        })
    }

    fn place(&self, value: f64) -> Option<f64> {
        let value = if self.log {
            if value > 0.0 {
                value.log10()
            } else {
                return None;
            }
        } else {
            value
        };
        value
            .is_finite()
            .then(|| (value - self.from) / (self.to - self.from) * self.length)
    }
}

fn scale_of(most: f64) -> (f64, &'static str) {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    units
        .into_iter()
        .find(|(size, _)| most >= *size)
        .unwrap_or((1.0, "bytes"))
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten.
fn steps(from: f64, to: f64, divisor: f64, wanted: usize, whole: bool) -> Vec<(f64, String)> {
    let (from, to) = (from / divisor, to / divisor);
    let rough = (to - from) / wanted as f64;
    let power = 10f64.powf(rough.log10().floor());
    let mut step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough);
    if whole {
        step = step.max(1.0);
    }
    let decimals = (-step.log10()).ceil().clamp(0.0, 12.0) as usize;
    let (first, last) = (
        (from / step - 1e-9).ceil() as i64,
        (to / step + 1e-9).floor() as i64,
    );
    let text = |value: f64| match value.abs().max(step) {
        large if large >= 1e6 => format!("{value:.0e}"),
        _ if step < 1e-4 => format!("{value:.1e}"),
        _ => format!("{value:.decimals$}"),
    };
    (first..=last)
        .map(|count| count as f64 * step)
        .map(|value| (value * divisor, text(value)))
        .collect()
}

/// Ticks at powers of ten, with 2 and 5 between them if there are few. The range is that of the
/// logarithms.
fn decades(from: f64, to: f64, divisor: f64) -> Vec<(f64, String)> {
    let every = ((to - from) / 7.0).ceil().max(1.0) as i32;
    let factors: &[f64] = if to - from <= 2.5 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let powers =
        (from.floor() as i32..=to.ceil() as i32).filter(|power| power.rem_euclid(every) == 0);
    let values =
        powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    let inside: Vec<f64> = values
        .filter(|value| (from - 1e-9..=to + 1e-9).contains(&value.log10()))
        .collect();
    if inside.len() < 3 {
        return steps(10f64.powf(from), 10f64.powf(to), divisor, 5, false);
    }
    inside
        .into_iter()
        .map(|value| (value, power_text(value / divisor)))
        .collect()
}

fn power_text(value: f64) -> String {
    let power = value.log10();
    if (1e-4..1e5).contains(&value) {
        let digits = (1.0 - power.floor()).clamp(0.0, 6.0) as usize;
        let text = format!("{value:.digits$}");
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    let exponent = (power + 1e-9).floor() as i32;
    let factor = value / 10f64.powi(exponent);
    let raised: String = exponent.to_string().chars().map(raise).collect();
    if (factor - 1.0).abs() < 1e-6 {
        format!("10{raised}")
    } else {
        format!("{}·10{raised}", (factor * 10.0).round() / 10.0)
    }
}

fn raise(digit: char) -> char {
    match digit {
        '-' => '⁻',
        digit => digit.to_digit(10).map_or(digit, |digit| {
            ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize]
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[(f64, String)]) -> Vec<&str> {
        ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_stand_at_round_numbers() {
        assert_eq!(
            labels(&steps(0.0, 1.0, 1.0, 6, false)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(&steps(1.0, 3.0, 1.0, 8, true)), ["1", "2", "3"]);
        assert_eq!(
            labels(&steps(0.0, 2.5e6, 1e6, 6, false)),
            ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]
        );
        assert_eq!(
            labels(&decades(-3.0, 0.0, 1.0)),
            ["0.001", "0.01", "0.1", "1"]
        );
        assert_eq!(
            labels(&decades(-7.0, -4.0, 1.0)),
            ["10⁻⁷", "10⁻⁶", "10⁻⁵", "0.0001"]
        );
        assert_eq!(labels(&decades(0.0, 1.0, 1.0)), ["1", "2", "5", "10"]);
        assert_eq!(
            labels(&decades(0.0, 0.3, 1.0)),
            ["1.0", "1.2", "1.4", "1.6", "1.8"],
            "a part of a decade"
        );
    }

    #[test]
    fn one_point_no_point_and_what_is_not_finite_are_drawn_or_left_out() {
        let plot = |points: Vec<(f64, f64)>, axis: Axis| Plot {
            title: "a < b".to_owned(),
            subtitle: String::new(),
            x: Axis::linear("round", Unit::Count),
            y: axis,
            series: vec![Series::line("all & each", points).with_band(vec![(1.0, 0.2, 0.4)])],
        };
        let svg = plot(
            vec![(1.0, 0.3), (2.0, f64::NAN)],
            Axis::linear("loss", Unit::Number),
        )
        .svg()
        .unwrap();
        assert!(
            svg.contains("a &lt; b") && svg.contains("all &amp; each") && !svg.contains("NaN"),
            "{svg}"
        );
        let empty = Plot {
            series: vec![],
            ..plot(vec![], Axis::linear("loss", Unit::Number))
        };
        assert_eq!(empty.svg(), None);
        let zero = Plot {
            series: vec![Series::line("", vec![(1.0, 0.0)])],
            ..plot(vec![], Axis::log("distance", Unit::Number))
        };
        assert!(
            !zero.svg().unwrap().contains("NaN"),
            "a distance of 0 has no logarithm"
        );
        assert_eq!(thinned(&(0..2500).collect::<Vec<_>>()).last(), Some(&2499));
    }
}
