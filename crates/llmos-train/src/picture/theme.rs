//! Colours, and what makes a drawing readable on light and dark ground.

use plotters::style::RGBColor;

pub(super) type Hue = RGBColor;

/// Hues of middle lightness, which are told apart on white and on black.
const COLORS: [Hue; 8] = [
    RGBColor(47, 129, 247),
    ORANGE,
    GREEN,
    PURPLE,
    RGBColor(229, 72, 77),
    RGBColor(13, 148, 168),
    RGBColor(176, 130, 0),
    RGBColor(214, 64, 159),
];

pub(super) const ORANGE: Hue = RGBColor(224, 108, 16);
pub(super) const GREEN: Hue = RGBColor(32, 150, 83);
pub(super) const PURPLE: Hue = RGBColor(152, 92, 240);

/// Grid lines and axes, drawn thinly on either ground.
pub(super) const GRAY: Hue = RGBColor(128, 128, 128);

/// Text where the viewer has no style sheets.
pub(super) const INK: Hue = RGBColor(87, 96, 106);

const STYLE: &str = "\
.ground{fill:#ffffff}text{fill:#1f2328}\
polyline{stroke-linejoin:round;stroke-linecap:round}\
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#e6edf3}}";

/// The colour of the run at this place.
pub(super) fn color(at: usize) -> Hue {
    COLORS[at % COLORS.len()]
}

/// A text without what XML 1.0 (section 2.2) has no place for.
pub(super) fn clean(text: &str) -> String {
    let fits = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).collect()
}

/// A drawing with a title for those who cannot see it, a ground and a style sheet, and `fine` units
/// to a pixel.
pub(super) fn dressed(drawing: &str, title: &str, width: u32, height: u32, fine: u32) -> String {
    let inside = drawing.split_once('>').map_or("", |(_, inside)| inside.trim_start());
    let (across, down) = (width * fine, height * fine);
    let title = escaped(&clean(title));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {across} {down}\" role=\"img\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{inside}"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
