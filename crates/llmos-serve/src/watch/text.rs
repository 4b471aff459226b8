//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

/// Values counted by buckets, each with all below its bound.
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One a bucket, not summed up; the last is for what is above all bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// No values yet; `bounds` rise.
    pub(super) fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub(super) fn note(&mut self, value: f64) {
        let value = value.max(0.0);
        let at = self.bounds.partition_point(|&bound| bound < value);
        self.counts[at] += 1;
        self.sum += value;
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A label's name and value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// The text as it grows: families, each with its samples behind it.
#[derive(Default)]
pub(super) struct Text {
    text: String,
}

impl Text {
    /// Begins a family of samples.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// A sample of the family that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: f64) {
        self.line(format_args!("{name}{} {value}", written(labels)));
    }

    /// All samples of a histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: &[Label<'_>], histogram: &Histogram) {
        let mut sum = 0;
        let bounds = histogram.bounds.iter().map(f64::to_string).chain(["+Inf".to_string()]);
        for (bound, count) in bounds.zip(&histogram.counts) {
            sum += count;
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.line(format_args!("{name}_bucket{} {sum}", written(&labels)));
        }
        let labels = written(labels);
        self.line(format_args!("{name}_sum{labels} {}", histogram.sum));
        self.line(format_args!("{name}_count{labels} {sum}"));
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A String takes all that is written.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Labels between braces; nothing for none.
fn written(labels: &[Label<'_>]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let label = |(name, value): &Label<'_>| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    format!("{{{}}}", labels.iter().map(label).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_all_that_is_not_above_its_bound() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for value in [0.25, 0.5, 0.75, 4.0, -1.0] {
            histogram.note(value);
        }
        let mut text = Text::default();
        text.family("x", "histogram", "a\\b\nc");
        text.histogram("x", &[("model", "a\"b\\c\nd")], &histogram);
        text.sample("y", &[], 1e21);
        let labels = "model=\"a\\\"b\\\\c\\nd\"";
        let expected = format!(
            "# HELP x a\\\\b\\nc\n# TYPE x histogram\n\
             x_bucket{{{labels},le=\"0.5\"}} 3\nx_bucket{{{labels},le=\"1\"}} 4\n\
             x_bucket{{{labels},le=\"+Inf\"}} 5\nx_sum{{{labels}}} 5.5\nx_count{{{labels}}} 5\n\
             y 1000000000000000000000\n"
        );
        assert_eq!(text.finish(), expected);
        assert_eq!(histogram.count(), 5);
    }
}
