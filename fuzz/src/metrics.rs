//! A page of metrics, in Prometheus' text format, as `llmos top` reads it from whatever server it was
//! pointed at.

#[path = "../../crates/llmos/src/command/top/look.rs"]
mod look;

use look::{Look, quantile};

/// A page is read, and asked for all that `llmos top` asks.
pub fn metrics_text(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(look) = Look::parse(text) else { return false };
    assert!(look.at.elapsed().as_secs() < 60);
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for name in words.filter(|word| !word.is_empty()).take(64) {
        let value = look.value(name);
        let parts = look.by(name, "le");
        assert!(value.is_some() || parts.is_empty(), "{name}: labels without a sample");
        let buckets = look.buckets(name.trim_end_matches("_bucket"));
        assert!(buckets.windows(2).all(|pair| pair[0].0.total_cmp(&pair[1].0).is_lt()), "{name}");
        for share in [0.0, 0.5, 0.99, 1.0] {
            let found = quantile(&[], &buckets, share);
            assert!(found.is_none() || !buckets.is_empty(), "{name}: {share} of nothing");
        }
    }
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "# HELP t Time.\n# TYPE t histogram\nt_bucket{le=\"0.5\",model=\"a\"} 1\n\
         t_bucket{le=\"+Inf\",model=\"a\"} 4\nt_sum{model=\"a\"} 3.5\nt_count{model=\"a\"} 4\n",
        "llmos_slots 16\nllmos_requests_total{route=\"/v1/x\",status=\"200\"} 3 1700000000000\n",
        "x{a=\"b\\\"c\\\\d\\ne\",f=\"g\",} 2e308\ny -Inf\nz NaN\n",
        "t_bucket{le=\"NaN\"} 1\nt_bucket{le=\"-1\"} NaN\nt_bucket{le=\"1e999\"} -4\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
