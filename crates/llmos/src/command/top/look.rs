//! One look at a server: its metrics, parsed.

use std::collections::BTreeMap;
use std::time::Instant;

/// A number with its name and labels.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All samples of one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    samples: Vec<Sample>,
}

impl Look {
    /// Reads Prometheus' text format.
    ///
    /// # Errors
    /// A line that is none of it.
    pub(super) fn parse(text: &str) -> Result<Look, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let samples: Result<Vec<Sample>, String> = lines
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                sample(line).ok_or_else(|| {
                    let start: String = line.chars().take(60).collect();
                    format!("expected a sample, got {start:?}")
                })
            })
            .collect();
        Ok(Look { at: Instant::now(), samples: samples? })
    }

    /// The sum of a name's samples; none without any.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        let mut values = self.named(name).map(|sample| sample.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The sum of a name's samples for each value of a label.
    pub(super) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.named(name) {
            if let Some(value) = sample.labels.get(label) {
                *sums.entry(value.clone()).or_insert(0.0) += sample.value;
            }
        }
        sums
    }

    /// A histogram's bounds with the counts up to them, all labels together, bounds rising.
    pub(super) fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let bound = |sample: &Sample| {
            let bound = sample.labels.get("le").and_then(|le| number(le))?;
            (!bound.is_nan()).then_some((bound, sample.value))
        };
        let mut all: Vec<(f64, f64)> =
            self.named(&format!("{name}_bucket")).filter_map(bound).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (bound, value) in all {
            match buckets.last_mut() {
                Some((known, count)) if *known == bound => *count += value,
                _ => buckets.push((bound, value)),
            }
        }
        buckets
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }
}

/// The value below which `share` of what was counted between two looks lies, by a straight line within
/// its bucket; none where nothing was counted.
pub(super) fn quantile(before: &[(f64, f64)], now: &[(f64, f64)], share: f64) -> Option<f64> {
    let old = |bound: f64| before.iter().find(|(known, _)| *known == bound).map_or(0.0, |b| b.1);
    let counts: Vec<(f64, f64)> =
        now.iter().map(|&(bound, count)| (bound, count - old(bound))).collect();
    let all = counts.last()?.1;
    if all <= 0.0 {
        return None;
    }
    let wanted = share * all;
    let at = counts.partition_point(|&(_, count)| count < wanted).min(counts.len() - 1);
    let (bound, count) = counts[at];
    let (low, below) = if at > 0 { counts[at - 1] } else { (0.0, 0.0) };
    if bound.is_infinite() {
        return Some(low);
    }
    let inside = count - below;
    let part = if inside > 0.0 { (wanted - below) / inside } else { 1.0 };
    Some(low + (bound - low) * part)
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A time may stand behind the value.
    let value = number(rest.split_whitespace().next()?)?;
    (!name.is_empty()).then(|| Sample { name: name.to_string(), labels, value })
}

/// Labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_string(), value);
        rest = &after[end + 1..];
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_and_without_labels() {
        let text = "# HELP x y\n# TYPE x counter\nx{a=\"b\\\"c\\\\d\\ne\",f=\"g\"} 2\nx 3 1700000000\n\
                    t_bucket{le=\"0.5\"} 1\nt_bucket{le=\"+Inf\"} 4\n";
        let look = Look::parse(text).unwrap();
        assert_eq!(look.value("x"), Some(5.0));
        assert_eq!(look.value("y"), None);
        assert_eq!(look.by("x", "a"), BTreeMap::from([("b\"c\\d\ne".to_string(), 2.0)]));
        assert_eq!(look.buckets("t"), [(0.5, 1.0), (f64::INFINITY, 4.0)]);
        // The same bound of two models is one, and what is no bound is left out.
        let text = "t_bucket{le=\"1\",m=\"a\"} 1\nt_bucket{le=\"NaN\"} 9\n\
                    t_bucket{le=\"0.5\"} 2\nt_bucket{le=\"1\",m=\"b\"} 3\n";
        assert_eq!(Look::parse(text).unwrap().buckets("t"), [(0.5, 2.0), (1.0, 4.0)]);
        for bad in ["x", "x{a=\"b} 1", "x{a} 1", "{} 1", "x y", "<html> <body>"] {
            assert!(Look::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quantiles_lie_on_a_line_within_their_bucket() {
        let now = [(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 20.0)];
        let check = |before: &[(f64, f64)], share: f64, expected: Option<f64>| {
            assert_eq!(quantile(before, &now, share), expected, "{share}");
        };
        check(&[], 0.5, Some(1.0));
        check(&[], 0.75, Some(1.5));
        check(&[], 0.25, Some(0.5));
        check(&[(1.0, 10.0), (2.0, 10.0), (f64::INFINITY, 10.0)], 0.5, Some(1.5));
        check(&now, 0.5, None);
        assert_eq!(quantile(&[], &[], 0.5), None);
        assert_eq!(quantile(&[], &[(1.0, 0.0), (f64::INFINITY, 3.0)], 0.5), Some(1.0));
    }
}
