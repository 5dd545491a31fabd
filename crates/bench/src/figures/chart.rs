//! Bars and marks beside each other, in groups, along one axis.

use super::svg::Svg;
use crate::report::number;

/// What stands on a line of a chart.
#[derive(Debug)]
pub(super) enum Line {
    /// Parts that make up a bar, one behind the other, in the colours of the legend.
    Stack(Vec<f64>),
    /// A bar of this length in one of the colours.
    Bar(f64, usize),
    /// A mark for each name of the legend, from the least to the greatest.
    Marks(Vec<f64>),
}

impl Line {
    fn end(&self) -> f64 {
        match self {
            Self::Stack(parts) => parts.iter().sum(),
            Self::Bar(length, _) => *length,
            Self::Marks(marks) => marks.iter().copied().fold(0.0, f64::max),
        }
    }

    /// What is written behind it.
    fn says(&self) -> String {
        match self {
            Self::Marks(marks) => marks
                .iter()
                .map(|&mark| number(mark))
                .collect::<Vec<_>>()
                .join(" · "),
            _ => number(self.end()),
        }
    }
}

/// Lines that belong together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// Each with its name.
    pub(super) lines: Vec<(String, Line)>,
}

/// How the axis goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// Each step ten times the one before.
    Logarithmic,
}

#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What is along the axis, with its unit.
    pub(super) axis: &'static str,
    pub(super) unit: &'static str,
    pub(super) scale: Scale,
    /// What the colours are.
    pub(super) legend: &'static [&'static str],
    pub(super) groups: Vec<Group>,
}

const WIDTH: f64 = 760.0;
/// Where names of lines end and the axis begins, and what is right of it for figures.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 130.0;
const LINE: f64 = 24.0;
const BAR: f64 = 16.0;
const HEAD: f64 = 62.0;
const GROUP_HEAD: f64 = 26.0;
const FOOT: f64 = 48.0;
/// About how wide a letter is.
const LETTER: f64 = 7.0;
/// How far text is below the top of a bar that it is beside.
const BASE: f64 = 12.5;

impl Chart {
    pub(super) fn draw(&self) -> String {
        let lines = self.groups.iter().map(|group| float(group.lines.len()));
        let height =
            HEAD + FOOT + GROUP_HEAD * float(self.groups.len()) + LINE * lines.sum::<f64>();
        let mut svg = Svg::new(WIDTH, height);
        svg.text((0.0, 16.0), "strong", self.title);
        let mut x = 0.0;
        for (colour, name) in self.legend.iter().enumerate() {
            svg.rect((x, 30.0), (11.0, 11.0), colour, name);
            svg.text((x + 16.0, 40.0), "", name);
            x += 16.0 + LETTER * float(name.chars().count()) + 18.0;
        }
        let axis = self.axis();
        for &tick in &axis.ticks {
            let x = axis.place(tick);
            svg.line((x, HEAD), (x, height - FOOT), "grid");
            svg.text((x, height - FOOT + 16.0), "middle", &tick_text(tick));
        }
        svg.text(
            (f64::midpoint(LEFT, WIDTH - RIGHT), height - 8.0),
            "middle",
            self.axis,
        );
        let mut y = HEAD;
        for group in &self.groups {
            svg.text((0.0, y + 18.0), "strong", &group.name);
            y += GROUP_HEAD;
            for (name, line) in &group.lines {
                self.line(&mut svg, &axis, y, (name, line));
                y += LINE;
            }
        }
        svg.finish(self.title)
    }

    fn line(&self, svg: &mut Svg, axis: &Axis, y: f64, (name, line): (&str, &Line)) {
        let says = |name: &str, value| format!("{name}: {} {}", number(value), self.unit);
        svg.text((LEFT - 8.0, y + BASE), "end", name);
        match line {
            Line::Stack(parts) => {
                let mut from = 0.0;
                for (colour, (&part, name)) in parts.iter().zip(self.legend).enumerate() {
                    let (x, end) = (axis.place(from), axis.place(from + part));
                    svg.rect((x, y), (end - x, BAR), colour, &says(name, part));
                    from += part;
                }
            }
            &Line::Bar(length, colour) => {
                let x = axis.place(0.0);
                let width = axis.place(length) - x;
                svg.rect((x, y), (width, BAR), colour, &says(name, length));
            }
            Line::Marks(marks) => {
                let middle = y + BAR / 2.0;
                if let (Some(&first), Some(&last)) = (marks.first(), marks.last()) {
                    let ends = [first, last].map(|mark| (axis.place(mark), middle));
                    svg.line(ends[0], ends[1], "range");
                }
                for (colour, (&mark, name)) in marks.iter().zip(self.legend).enumerate() {
                    svg.dot((axis.place(mark), middle), 6.0, colour, &says(name, mark));
                }
            }
        }
        let behind = axis.place(line.end()) + 12.0;
        svg.text(
            (behind, y + BASE),
            "",
            &format!("{} {}", line.says(), self.unit),
        );
    }

    fn axis(&self) -> Axis {
        let lines = self.groups.iter().flat_map(|group| &group.lines);
        let most = lines.map(|(_, line)| line.end()).fold(0.0, f64::max);
        match self.scale {
            Scale::Linear => Axis::linear(most),
            Scale::Logarithmic => {
                let lines = self.groups.iter().flat_map(|group| &group.lines);
                let marks = lines.flat_map(|(_, line)| match line {
                    Line::Marks(marks) => marks.as_slice(),
                    _ => &[],
                });
                let least = marks.copied().filter(|mark| *mark > 0.0);
                Axis::logarithmic(least.fold(most, f64::min), most)
            }
        }
    }
}

/// Where values are.
#[derive(Debug)]
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// From zero to the last tick at or beyond what there is.
    fn linear(most: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = (most / step).ceil();
        Self {
            scale: Scale::Linear,
            from: 0.0,
            to: step * count,
            ticks: steps_of(0.0, count).map(|tick| tick * step).collect(),
        }
    }

    /// From one power of ten to another.
    fn logarithmic(least: f64, most: f64) -> Self {
        let (least, most) = if least > 0.0 {
            (least, most)
        } else {
            (1.0, 10.0)
        };
        let lowest = least.log10().floor();
        let highest = most.log10().ceil().max(lowest + 1.0);
        Self {
            scale: Scale::Logarithmic,
            from: 10_f64.powf(lowest),
            to: 10_f64.powf(highest),
            ticks: steps_of(lowest, highest)
                .map(|tick| 10_f64.powf(tick))
                .collect(),
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => value / self.to,
            Scale::Logarithmic => {
                let value = value.max(self.from);
                (value / self.from).log10() / (self.to / self.from).log10()
            }
        };
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }
}

/// Whole numbers from one to another, both included.
fn steps_of(first: f64, last: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(first), |step| Some(step + 1.0))
        .take_while(move |step| *step < last + 0.5)
}

/// As short as it is exact.
fn tick_text(tick: f64) -> String {
    format!("{}", (tick * 1e6).round() / 1e6)
}

#[expect(clippy::cast_precision_loss)]
const fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_at_or_beyond_the_greatest() {
        let ends =
            [0.03, 0.55, 1.0, 2.64, 4830.0, 0.0].map(|most| tick_text(Axis::linear(most).to));
        assert_eq!(ends, ["0.03", "0.6", "1", "3", "5000", "1"]);
        let axis = Axis::logarithmic(0.98, 222.0);
        assert_eq!(axis.ticks, [0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert!((axis.place(0.1) - LEFT).abs() < 1e-9);
        assert!((axis.place(1000.0) - (WIDTH - RIGHT)).abs() < 1e-9);
    }
}
