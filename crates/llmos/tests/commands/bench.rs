//! `bench`: the fields that others read. The figures themselves are not tested.

use crate::program::{llmos, stories};

#[test]
fn the_report_has_its_fields() {
    let report = llmos(&[
        "bench",
        &stories(),
        "--prompt",
        "32",
        "--generate",
        "8",
        "--depth",
        "16",
        "--repeat",
        "1",
        "--threads",
        "1",
        "--json",
    ])
    .json();
    assert_eq!(report["model"], "stories260K");
    assert_eq!(report["type"], "f32");
    assert_eq!(report["threads"], 1);
    assert_eq!(report["prompt_tokens"], 32);
    assert_eq!(report["generated_tokens"], 8);
    assert_eq!(report["depth"], 16);
    for field in ["prefill_tokens_per_s", "decode_tokens_per_s", "bytes_per_token"] {
        assert!(report[field].as_f64().unwrap() > 0.0, "{field}");
    }
    let fraction = report["bandwidth_fraction"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&fraction), "{fraction}");
}

#[test]
fn what_does_not_fit_is_an_error() {
    llmos(&["bench", &stories(), "--prompt", "1000"]).is_error("the context holds 512");
    assert_eq!(llmos(&["bench"]).code, Some(2));
    assert_eq!(llmos(&["bench", "--random", "llama-9000b"]).code, Some(2));
}

#[test]
fn the_machine_has_its_ceilings() {
    let report = llmos(&["bench", "machine", "--threads", "1", "--json"]).json();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["threads"]), (1, &1.into()));
    for field in ["read_bandwidth_bytes_per_s", "f32_flop_per_s", "int8_op_per_s"] {
        assert!(rows[0][field].as_f64().unwrap() > 1e6, "{field}");
    }
}
