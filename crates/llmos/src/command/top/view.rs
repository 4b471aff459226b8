//! What the view shows, on a terminal of any size: what has no room is left out.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Gauge, Paragraph, Sparkline};

use super::standing::{Percentiles, Standing, percent};
use crate::step_line::time_text;
use crate::terminal::size;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws all of it; `speeds` are the tokens a second of the last looks.
pub(super) fn draw(frame: &mut Frame<'_>, standing: &Standing, speeds: &[f64]) {
    let refusals = standing.refusals.len().min(6) as u16;
    let models = standing.models.len().min(12) as u16;
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Fill(1),
        Constraint::Length(models + 1),
        Constraint::Length(if refusals > 0 { refusals + 1 } else { 0 }),
        Constraint::Length(1),
    ]);
    let [heading, requests, first, each, gauges, speed, list, refused, footer] =
        parts.areas::<9>(frame.area());
    let line = |text: Line<'static>| Paragraph::new(text);
    frame.render_widget(
        line(Line::from(vec![
            Span::styled(standing.url.clone(), BOLD),
            Span::styled(format!("   up {}", time_text(standing.up_seconds)), DIM),
        ])),
        heading,
    );
    frame.render_widget(
        line(figures(&[
            ("requests", format!("{:.1}/s", standing.requests_per_s)),
            ("in flight", format!("{}", standing.in_flight)),
            ("waiting", format!("{}", standing.waiting)),
            ("tok/s", format!("{:.1}", standing.tokens_per_s)),
            ("read tok/s", format!("{:.1}", standing.prompt_tokens_per_s)),
            ("from the cache", percent(standing.cached_share)),
        ])),
        requests,
    );
    frame.render_widget(line(times("first token", standing.first_token_ms)), first);
    frame.render_widget(line(times("each token ", standing.each_token_ms)), each);
    draw_gauges(frame, gauges, standing);
    draw_speed(frame, speed, speeds);
    draw_models(frame, list, standing);
    draw_refusals(frame, refused, standing);
    frame.render_widget(line(Line::styled("q: leave, the server goes on", DIM)), footer);
}

fn figures(parts: &[(&'static str, String)]) -> Line<'static> {
    let spans = parts.iter().flat_map(|(name, value)| {
        [Span::styled(format!("{name} "), DIM), Span::styled(format!("{value}  "), BOLD)]
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn times(name: &'static str, times: Percentiles) -> Line<'static> {
    let one = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.1} ms"));
    let mut line =
        figures(&[("50 %", one(times.p50)), ("90 %", one(times.p90)), ("99 %", one(times.p99))]);
    line.spans.insert(0, Span::styled(format!("{name}  "), DIM));
    line
}

fn draw_gauges(frame: &mut Frame<'_>, area: Rect, standing: &Standing) {
    let rows = Layout::vertical([Constraint::Length(1); 3]).areas::<3>(area);
    let memory = match standing.memory_budget_bytes {
        Some(budget) => {
            format!("{} of {}", size(standing.memory_bytes as u64), size(budget as u64))
        }
        None => size(standing.memory_bytes as u64),
    };
    let memory_share = standing.memory_budget_bytes.map(|budget| standing.memory_bytes / budget);
    let slots = standing.running / standing.slots.max(1.0);
    let gauges = [
        ("slots ", slots, format!("{} of {}", standing.running, standing.slots), Color::Green),
        (
            "cache ",
            standing.cache_used().unwrap_or(0.0),
            percent(standing.cache_used()),
            Color::Cyan,
        ),
        ("memory", memory_share.unwrap_or(0.0), memory, Color::Magenta),
    ];
    for (row, (name, share, label, color)) in rows.into_iter().zip(gauges) {
        let [title, bar] =
            Layout::horizontal([Constraint::Length(8), Constraint::Fill(1)]).areas::<2>(row);
        frame.render_widget(Paragraph::new(Span::styled(name, DIM)), title);
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let gauge = Gauge::default()
            .ratio(share)
            .label(label)
            .use_unicode(true)
            .gauge_style(Style::new().fg(color));
        frame.render_widget(gauge, bar);
    }
}

fn draw_speed(frame: &mut Frame<'_>, area: Rect, speeds: &[f64]) {
    let most = speeds.iter().copied().fold(0.0, f64::max);
    let shown = &speeds[speeds.len().saturating_sub(usize::from(area.width))..];
    let bars: Vec<u64> = shown.iter().map(|speed| speed.max(0.0).round() as u64).collect();
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(DIM)
        .title(format!(" tokens a second, at most {most:.1} "));
    let sparkline =
        Sparkline::default().block(block).data(bars).style(Style::new().fg(Color::Green));
    frame.render_widget(sparkline, area);
}

fn draw_models(frame: &mut Frame<'_>, area: Rect, standing: &Standing) {
    let width =
        standing.models.iter().map(|model| model.id.chars().count()).max().unwrap_or(0).min(40);
    let lines = standing.models.iter().map(|model| {
        let id: String = model.id.chars().take(width).collect();
        let (mark, style) = match model.is_loaded {
            true => ("● ", Style::new().fg(Color::Green)),
            false => ("○ ", DIM),
        };
        let (running, waiting) = (model.running, model.waiting);
        let text = match model.is_loaded {
            true => {
                format!("  {running} running  {waiting} waiting  {:.1} tok/s", model.tokens_per_s)
            }
            false => String::new(),
        };
        Line::from(vec![
            Span::styled(mark, style),
            Span::styled(format!("{id:<width$}"), BOLD),
            Span::raw(text),
        ])
    });
    let block = Block::new().borders(Borders::TOP).border_style(DIM).title(" models ");
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}

fn draw_refusals(frame: &mut Frame<'_>, area: Rect, standing: &Standing) {
    let mut refusals: Vec<_> = standing.refusals.iter().collect();
    refusals.sort_by(|a, b| b.1.total_cmp(a.1));
    let lines = refusals.iter().map(|(reason, count)| Line::raw(format!("{count:>8}  {reason}")));
    let block = Block::new().borders(Borders::TOP).border_style(DIM).title(" refused or failed ");
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}

#[cfg(test)]
mod tests {
    use super::super::look::Look;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn it_is_drawn_on_terminals_of_any_size() {
        let look = Look::parse(
            "llmos_slots 4\nllmos_model_loaded{model=\"tiny\"} 1\nllmos_memory_bytes 5000000\n\
             llmos_memory_budget_bytes 10000000\nllmos_refusals_total{reason=\"busy\"} 2\n",
        );
        let look = look.unwrap();
        let standing = Standing::of("http://127.0.0.1:8080", &look, &look);
        for (width, height) in [(80, 24), (20, 5), (1, 1), (200, 60)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &standing, &[1.0, 5.0, 2.0])).unwrap();
            if width >= 80 {
                let text: String = terminal
                    .backend()
                    .buffer()
                    .content()
                    .iter()
                    .map(|cell| cell.symbol())
                    .collect();
                for words in ["tiny", "5.0 MB of 10.0 MB", "busy", "at most 5.0"] {
                    assert!(text.contains(words), "{words} not in {text}");
                }
            }
        }
    }
}
