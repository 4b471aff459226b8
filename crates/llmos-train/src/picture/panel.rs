//! One panel: axes, grid, lines, dots and a legend.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::theme::{self, Hue};
use super::{FINE, Point};
use crate::plan::amount::figures;

/// What the drawing library says when it cannot.
pub(super) type Refused<'a> =
    DrawingAreaErrorKind<<SVGBackend<'a> as plotters::prelude::DrawingBackend>::ErrorType>;

/// A quantity of a run.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) color: Hue,
    /// Without the gaps between them.
    pub(super) lines: Vec<Vec<Point>>,
    /// Whether least and greatest values are shown behind the means.
    pub(super) has_band: bool,
}

/// Lines over the same axes.
pub(super) struct Panel {
    name: &'static str,
    /// Whether the values begin at zero.
    from_zero: bool,
    pub(super) has_legend: bool,
    pub(super) lines: Vec<Line>,
    pub(super) dots: Vec<Line>,
}

impl Panel {
    pub(super) fn new(name: &'static str, from_zero: bool) -> Panel {
        let (lines, dots) = (Vec::new(), Vec::new());
        Panel { name, from_zero, has_legend: false, lines, dots }
    }

    /// True where there is no point.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().chain(&self.dots).all(|line| line.lines.is_empty())
    }

    /// The range of the values with room at its ends; never empty.
    fn values(&self) -> Range<f64> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for line in self.lines.iter().chain(&self.dots) {
            for point in line.lines.iter().flatten() {
                let ends =
                    if line.has_band { (point.low, point.high) } else { (point.mean, point.mean) };
                (low, high) = (low.min(ends.0), high.max(ends.1));
            }
        }
        if !low.is_finite() || !high.is_finite() {
            return 0.0..1.0;
        }
        if self.from_zero && low >= 0.0 {
            return 0.0..if high > 0.0 { high * 1.08 } else { 1.0 };
        }
        let room = match (high - low) * 0.05 {
            room if room > low.abs() * 1e-6 => room,
            _ if low == 0.0 => 1.0,
            _ => low.abs() * 0.05,
        };
        low - room..high + room
    }

    /// Draws it over `steps`; the lowest one names the steps.
    pub(super) fn draw<'a>(
        &self,
        area: &DrawingArea<SVGBackend<'a>, Shift>,
        steps: &Range<f64>,
        is_lowest: bool,
    ) -> Result<(), Refused<'a>> {
        let fine = |pixels: u32| pixels * FINE;
        let font = |pixels: u32| ("sans-serif", fine(pixels)).into_font().color(&theme::INK);
        let values = self.values();
        let step_labels = (steps.end - steps.start).min(8.0) as usize + 1;
        let mut chart = ChartBuilder::on(area)
            .margin(fine(10))
            .margin_right(fine(24))
            .y_label_area_size(fine(76))
            .x_label_area_size(fine(if is_lowest { 38 } else { 0 }))
            .build_cartesian_2d(steps.clone(), values.clone())?;
        let thin = |share: f64| theme::GRAY.mix(share).stroke_width(FINE);
        chart
            .configure_mesh()
            .axis_style(thin(0.6))
            .bold_line_style(thin(0.25))
            .light_line_style(theme::GRAY.mix(0.0))
            .x_labels(step_labels)
            .y_labels(if self.has_legend { 8 } else { 4 })
            .set_all_tick_mark_size(fine(5))
            .label_style(font(14))
            .axis_desc_style(font(15))
            .x_desc(if is_lowest { "step" } else { "" })
            .y_desc(self.name)
            .x_label_formatter(&|step| figures(*step, 9))
            .y_label_formatter(&|value| tick(*value, &values))
            .draw()?;
        for line in &self.lines {
            let style = line.color.stroke_width(fine(2) * 4 / 5);
            for part in &line.lines {
                if line.has_band && part.iter().any(|point| point.count > 1) {
                    let upper = part.iter().map(|point| (point.step, point.high));
                    let lower = part.iter().rev().map(|point| (point.step, point.low));
                    let band: Vec<_> = upper.chain(lower).collect();
                    chart.draw_series([Polygon::new(band, line.color.mix(0.2))])?;
                }
                // A line of one point would not be seen.
                if let [point] = part[..] {
                    let at = (point.step, point.mean);
                    chart.draw_series([Circle::new(at, fine(2), line.color.filled())])?;
                } else {
                    let path = part.iter().map(|point| (point.step, point.mean));
                    chart.draw_series([PathElement::new(path.collect::<Vec<_>>(), style)])?;
                }
            }
            if self.has_legend {
                let legend =
                    move |(x, y)| PathElement::new([(x, y), (x + FINE as i32 * 18, y)], style);
                chart.draw_series(NOTHING)?.label(theme::clean(&line.name)).legend(legend);
            }
        }
        for dots in &self.dots {
            let style = dots.color.filled();
            let places = dots.lines.iter().flatten().map(|point| (point.step, point.mean));
            chart.draw_series(places.map(|at| Circle::new(at, fine(3), style)))?;
            let legend = move |(x, y)| Circle::new((x + FINE as i32 * 9, y), FINE * 3, style);
            chart.draw_series(NOTHING)?.label(theme::clean(&dots.name)).legend(legend);
        }
        if self.has_legend && !self.is_empty() {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .margin(fine(8))
                .legend_area_size(fine(26))
                .label_font(font(15))
                .draw()?;
        }
        Ok(())
    }
}

/// A series that is only in the legend.
const NOTHING: [EmptyElement<(f64, f64), SVGBackend<'static>>; 0] = [];

/// A value beside the axis: as many decimals as tell ticks apart, an exponent where it is tiny.
fn tick(value: f64, values: &Range<f64>) -> String {
    let largest = values.start.abs().max(values.end.abs());
    if value == 0.0 || value.abs() < largest * 1e-9 {
        return "0".to_string();
    }
    if largest < 0.01 {
        let text = format!("{value:.2e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        return format!("{digits}e{exponent}");
    }
    // Ticks are a tenth of the range apart at least.
    let apart = (values.end - values.start) / 20.0;
    let before = value.abs().log10().floor() - apart.log10().floor();
    figures(value, (before as i32 + 1).clamp(1, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short_and_told_apart() {
        for (value, values, expected) in [
            (0.0003, 0.0..0.0003, "3e-4"),
            (0.00025, 0.0..0.0003, "2.5e-4"),
            (0.0, 0.0..0.0003, "0"),
            (40_000.0, 0.0..43_000.0, "40,000"),
            (3.5, 3.0..8.0, "3.5"),
            (3.0, 3.0..8.0, "3"),
            (3.1005, 3.1..3.101, "3.1005"),
            (0.02, 0.0..0.022, "0.02"),
        ] {
            assert_eq!(tick(value, &values), expected);
        }
    }
}
