//! What the view shows: how far the runs are, their losses, one run's speed and what it writes.

use llmos_train::journal::Row;
use llmos_train::picture::{Point, thinned};
use llmos_train::plan::amount;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{
    Axis, Block, Borders, Chart, Dataset, Gauge, GraphType, Paragraph, Sparkline, Wrap,
};

use super::run_folder::{RunFolder, State};
use crate::step_line::{nats, rate_text, time_text};

/// Runs are told apart by the sixteen colours, which follow the terminal's scheme.
const COLORS: [Color; 6] =
    [Color::Cyan, Color::Green, Color::Magenta, Color::Blue, Color::Red, Color::Yellow];

/// Held-out losses of the only run.
const HELD_OUT: Color = Color::Yellow;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// What the person chose to see.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    /// Which run's speed and texts.
    pub(super) run: usize,
    pub(super) zoom: Zoom,
}

/// Which steps the chart shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Zoom {
    #[default]
    All,
    LastHalf,
    LastTenth,
}

impl Zoom {
    pub(super) fn next(self) -> Zoom {
        match self {
            Zoom::All => Zoom::LastHalf,
            Zoom::LastHalf => Zoom::LastTenth,
            Zoom::LastTenth => Zoom::All,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Zoom::All => "all steps",
            Zoom::LastHalf => "the last half",
            Zoom::LastTenth => "the last tenth",
        }
    }

    /// The part of `rows` that it shows.
    fn of(self, rows: &[Row]) -> &[Row] {
        let share = match self {
            Zoom::All => return rows,
            Zoom::LastHalf => 2,
            Zoom::LastTenth => 10,
        };
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return rows };
        let begin = last.step - last.step.saturating_sub(first.step) / share;
        &rows[rows.partition_point(|row| row.step < begin)..]
    }
}

/// Draws all of it, on a terminal of any size: what has no room is left out.
pub(super) fn draw(frame: &mut Frame<'_>, runs: &[RunFolder], looks: &Looks) {
    let area = frame.area();
    let Some(run) = runs.get(looks.run) else { return };
    let forecast = forecast(run);
    // Parts come in the order of their worth: as many as leave the chart its eight lines.
    let mut room = area.height.saturating_sub(8);
    let mut part = |height: u16| {
        let fits = height <= room;
        room -= if fits { height } else { 0 };
        if fits { height } else { 0 }
    };
    let list = part((runs.len() as u16).min(area.height / 3).max(1));
    let gauge = part(1);
    let footer = part(1);
    let figures = part(1);
    let forecast_lines = if forecast.is_some() { part(1) } else { 0 };
    let sparklines = part(4);
    let texts = if run.dreams().is_empty() { 0 } else { part(5) };
    let texts = if texts > 0 { texts + room / 2 } else { 0 };
    let parts = Layout::vertical([
        Constraint::Length(list),
        Constraint::Length(gauge),
        Constraint::Length(figures),
        Constraint::Fill(1),
        Constraint::Length(sparklines),
        Constraint::Length(forecast_lines),
        Constraint::Length(texts),
        Constraint::Length(footer),
    ])
    .areas::<8>(area);
    let [list, gauge, figures, chart, sparklines, forecast_line, texts, footer] = parts;
    draw_list(frame, list, runs, looks);
    draw_gauge(frame, gauge, run);
    frame.render_widget(Paragraph::new(figures_line(run)), figures);
    draw_chart(frame, chart, runs, looks);
    draw_sparklines(frame, sparklines, run);
    if let Some(line) = forecast {
        frame.render_widget(Paragraph::new(Span::styled(line, DIM)), forecast_line);
    }
    draw_texts(frame, texts, run);
    let more = if runs.len() > 1 { "   Tab: next run" } else { "" };
    let keys = format!("q: leave, the run goes on   z: {}{more}", looks.zoom.name());
    frame.render_widget(Paragraph::new(Span::styled(keys, DIM)), footer);
}

fn color(at: usize) -> Color {
    COLORS[at % COLORS.len()]
}

fn state_style(state: State) -> Style {
    match state {
        State::Running => Style::new().fg(Color::Green),
        State::Stopped => Style::new().fg(Color::Red),
        State::Finished => BOLD,
    }
}

/// One line a run; those around the chosen one where there is not room for all.
fn draw_list(frame: &mut Frame<'_>, area: Rect, runs: &[RunFolder], looks: &Looks) {
    let width = runs.iter().map(|run| run.name.chars().count()).max().unwrap_or(0).min(32);
    let first = (looks.run + 1).saturating_sub(usize::from(area.height));
    let lines = runs.iter().enumerate().skip(first).map(|(at, run)| {
        let name: String = run.name.chars().take(width).collect();
        let is_chosen = runs.len() > 1 && at == looks.run;
        let mut spans = vec![
            Span::styled(if is_chosen { "▶ " } else { "● " }, Style::new().fg(color(at))),
            Span::styled(format!("{name:<width$}  "), BOLD),
            Span::styled(format!("{:<8}", run.state().name()), state_style(run.state())),
        ];
        let mut more = |text: String| spans.push(Span::raw(format!("  {text}")));
        if runs.len() > 1 {
            if let Some(row) = run.last() {
                let share = run.share().map_or(String::new(), percent);
                more(format!("{share:>5}  loss {}", row.loss.map_or("-".into(), nats)));
            }
            if let Some(loss) = run.evaluated().and_then(|row| row.val_loss) {
                more(format!("held-out {}", nats(loss)));
            }
        } else if let Some(shape) = &run.shape {
            spans.push(Span::styled(format!("  {shape}"), DIM));
        }
        Line::from(spans)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).floor())
}

fn draw_gauge(frame: &mut Frame<'_>, area: Rect, run: &RunFolder) {
    let step = run.last().map_or(0, |row| row.step);
    let grouped = |steps: u64| amount::figures(steps as f64, 15);
    let mut label = match (run.steps, run.last()) {
        (_, None) if run.state() == State::Running => "starting, no step yet".to_string(),
        (_, None) => "no step yet".to_string(),
        (0, _) => format!("step {}", grouped(step)),
        (steps, _) => format!("step {} of {}", grouped(step), grouped(steps)),
    };
    if let Some(share) = run.share() {
        label = format!("{}   {label}", percent(share));
    }
    if let Some(left) = run.seconds_left() {
        label = format!("{label}   left {}", time_text(left));
    }
    let gauge = Gauge::default()
        .ratio(run.share().unwrap_or(0.0))
        .label(label)
        .use_unicode(true)
        .gauge_style(Style::new().fg(Color::Blue));
    frame.render_widget(gauge, area);
}

/// The last step's numbers.
fn figures_line(run: &RunFolder) -> Line<'static> {
    let Some(row) = run.last() else { return Line::default() };
    let mut spans = Vec::new();
    let mut part = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            spans.push(Span::styled(format!("{name} "), DIM));
            spans.push(Span::styled(format!("{value}  "), BOLD));
        }
    };
    part("loss", row.loss.map(nats));
    let evaluated = run.evaluated();
    part("held-out", evaluated.and_then(|row| row.val_loss).map(nats));
    part("bits a byte", evaluated.and_then(|row| row.val_bits_per_byte).map(nats));
    part("tok/s", row.tokens_per_s.map(rate_text));
    part("lr", row.lr.map(|lr| format!("{lr:.1e}")));
    part("norm", row.grad_norm.map(|norm| format!("{norm:.2}")));
    part("tokens", row.tokens.map(|tokens| amount::shown(tokens as f64)));
    Line::from(spans)
}

/// (step, value) of each place.
type Places = Vec<(f64, f64)>;

fn means(lines: &[Vec<Point>]) -> Vec<Places> {
    let means = |line: &Vec<Point>| line.iter().map(|point| (point.step, point.mean)).collect();
    lines.iter().map(means).collect()
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, runs: &[RunFolder], looks: &Looks) {
    // Braille has two dots a column.
    let columns = usize::from(area.width) * 2;
    // With the colour, and whether they are dots.
    let mut series: Vec<(Places, Color, bool)> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let rows = looks.zoom.of(run.rows());
        let held_out = if runs.len() == 1 { HELD_OUT } else { color(at) };
        let lines = means(&thinned(rows, |row| row.loss, columns)).into_iter();
        series.extend(lines.map(|line| (line, color(at), false)));
        let dots = means(&thinned(rows, |row| row.val_loss, columns)).into_iter();
        series.extend(dots.map(|dots| (dots, held_out, true)));
    }
    let rows = runs.iter().map(|run| looks.zoom.of(run.rows()));
    let ends = rows.flat_map(|rows| rows.first().into_iter().chain(rows.last()));
    let steps = range(ends.map(|row| row.step as f64));
    let losses = range(series.iter().flat_map(|(places, ..)| places).map(|place| place.1));
    let datasets = series.iter().map(|(points, color, is_dots)| {
        let dataset = Dataset::default().data(points).style(Style::new().fg(*color));
        match is_dots {
            true => dataset.graph_type(GraphType::Scatter).marker(Marker::Dot),
            false => dataset.graph_type(GraphType::Line).marker(Marker::Braille),
        }
    });
    let key = match runs {
        [run] if run.evaluated().is_some() => vec![
            Span::raw(" loss, nats a token: "),
            Span::styled("━ training", Style::new().fg(color(0))),
            Span::styled("  • held-out ", Style::new().fg(HELD_OUT)),
        ],
        [_] => vec![Span::raw(" loss, nats a token ")],
        _ => vec![Span::raw(" loss, nats a token: ━ training  • held-out ")],
    };
    let labels = |[low, high]: [f64; 2], count: u32, text: &dyn Fn(f64) -> String| {
        let at = |part: u32| low + (high - low) * f64::from(part) / f64::from(count - 1);
        (0..count).map(|part| Span::styled(text(at(part)), DIM)).collect::<Vec<_>>()
    };
    let step_labels = labels(steps, 3, &|step| amount::figures(step.round(), 15));
    let loss_count = u32::from(area.height / 4).clamp(2, 6);
    let chart = Chart::new(datasets.collect())
        .block(Block::new().borders(Borders::TOP).title(Line::from(key)).border_style(DIM))
        .legend_position(None)
        .x_axis(Axis::default().bounds(steps).labels(step_labels).style(DIM))
        .y_axis(
            Axis::default()
                .bounds(losses)
                .labels(labels(losses, loss_count, &|loss| format!("{loss:.2}")))
                .style(DIM),
        );
    frame.render_widget(chart, area);
}

/// From the least to the greatest; never empty.
fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let ends =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match ends {
        (low, high) if low > high => [0.0, 1.0],
        (low, high) if low == high => [low - 0.5, high + 0.5],
        (low, high) => [low, high],
    }
}

fn draw_sparklines(frame: &mut Frame<'_>, area: Rect, run: &RunFolder) {
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas::<2>(area);
    let last = |value: fn(&Row) -> Option<f64>| run.last().and_then(value);
    let rate = last(|row| row.tokens_per_s).map_or(String::new(), rate_text);
    let lr = last(|row| row.lr).map_or(String::new(), |lr| format!("{lr:.1e}"));
    type Value = fn(&Row) -> Option<f64>;
    let speed: Value = |row| row.tokens_per_s;
    let quantities = [
        ("tokens a second", rate, speed, Color::Green),
        ("learning rate", lr, |row| row.lr, Color::Magenta),
    ];
    for (half, (name, now, value, color)) in halves.into_iter().zip(quantities) {
        let points = thinned(run.rows(), value, usize::from(half.width.saturating_sub(1)));
        let points: Vec<f64> = points.iter().flatten().map(|point| point.mean.max(0.0)).collect();
        let most = points.iter().copied().fold(0.0, f64::max);
        // Bars are whole numbers of a scale of our own: a learning rate is far below one.
        let bars = points.iter().map(|value| (value / most.max(1e-300) * 1000.0) as u64);
        let block = Block::new()
            .borders(Borders::TOP)
            .border_style(DIM)
            .title(format!(" {name} {now} ").replace("  ", " "));
        let sparkline = Sparkline::default()
            .block(block)
            .data(bars.collect::<Vec<_>>())
            .max(1000)
            .style(Style::new().fg(color));
        frame.render_widget(sparkline, half);
    }
}

/// What was said before the run, and what it looks like now.
fn forecast(run: &RunFolder) -> Option<String> {
    let pairs = run.beside_forecast();
    let said = run.forecast?;
    let mut parts = Vec::new();
    let actual = |name: &str| pairs.iter().find(|pair| pair.quantity.contains(name));
    if let Some(seconds) = said.seconds {
        let now = actual("seconds").map(|pair| format!(", now {}", time_text(pair.actual)));
        parts.push(format!("{}{}", time_text(seconds), now.unwrap_or_default()));
    }
    if let Some(bits) = said.val_bits_per_byte {
        let interval = said.low.zip(said.high);
        let interval =
            interval.map_or(String::new(), |(low, high)| format!(" ({low:.3} to {high:.3})"));
        let now = actual("bits").map(|pair| format!(", now {:.3}", pair.actual));
        parts.push(format!("{bits:.3}{interval} bits a byte{}", now.unwrap_or_default()));
    }
    (!parts.is_empty()).then(|| format!("forecast {}", parts.join("   ")))
}

fn draw_texts(frame: &mut Frame<'_>, area: Rect, run: &RunFolder) {
    let Some(last) = run.dreams().last() else { return };
    let mut text = Text::default();
    for dream in run.dreams().iter().rev().take_while(|dream| dream.step == last.step) {
        let mut lines = dream.text.lines();
        let first = lines.next().unwrap_or_default().to_string();
        text.push_line(Line::from(vec![
            Span::styled(dream.prompt.clone(), BOLD),
            Span::raw(first),
        ]));
        text.extend(lines.map(|line| Line::raw(line.to_string())));
    }
    let title = format!(" what it wrote after step {} ", amount::figures(last.step as f64, 15));
    let block = Block::new().borders(Borders::TOP).border_style(DIM).title(title);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), area);
}

#[cfg(test)]
mod tests;
