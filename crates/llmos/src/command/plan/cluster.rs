//! A run on rented accelerators.

use llmos_train::plan::{
    BYTES_IN_TRAINING, BYTES_PER_PARAMETER, BYTES_PER_TOKEN, Cluster, Gpu, Order, Parameters,
    USUAL_MFU, amount,
};
use llmos_train::recipe::{Dtype, Facts, TOKENS_PER_PARAMETER};
use serde::Serialize;

use super::{Arguments, Table, energy, explained, money};
use crate::Outcome;
use crate::failure::failure;
use crate::terminal::Terminal;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    cluster: Cluster,
    gpu: &'static str,
    dtype: &'static str,
    peak_flops_per_s: f64,
    tokens_per_parameter: f64,
    energy_kwh: Option<f64>,
    source: &'static str,
}

pub(super) fn run(
    arguments: &Arguments,
    gpu: &'static Gpu,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    let order = &arguments.order;
    let (params, tokens, dtype) = size(arguments)?;
    let peak = gpu.peak(dtype).ok_or_else(|| {
        let what = format!("{} has no products in {}", gpu.name, dtype.name());
        failure(what, "leave --dtype out: accelerators multiply in bf16")
    })?;
    let multiplied = match dtype {
        Dtype::F32 => dtype.name(),
        Dtype::Bf16 => gpu.halves(),
    };
    let cluster = Order {
        params,
        tokens,
        peak,
        memory: Some(1e9 * gpu.memory_gb),
        gpus: order.gpus,
        days: order.days,
        mfu: order.mfu,
        dollars: order.dollars,
        price: order.price,
    }
    .solve()
    .map_err(explained)?;
    let watts = order.watts.or(gpu.watts);
    let energy_kwh = watts.map(|watts| watts * cluster.gpu_hours / 1000.0);
    if arguments.json {
        terminal.json(&Report {
            cluster,
            gpu: gpu.name,
            dtype: multiplied,
            peak_flops_per_s: peak,
            tokens_per_parameter: tokens / params,
            energy_kwh,
            source: gpu.source,
        })?;
        return Ok(Outcome::Success);
    }
    let given = |is_given: bool| if is_given { "given" } else { "follows" }.to_string();
    let mut table = Table::new(terminal);
    table.row("parameters", amount::shown(params), "");
    let ratio = amount::figures(tokens / params, 2);
    table.row("tokens", amount::shown(tokens), format!("{ratio} a parameter, where 20 are best"));
    let flops = format!("{:.1e} FLOP", cluster.flops);
    table.row("compute", flops, "6 operations a parameter and token");
    let peak = amount::prefixed(peak, "FLOP/s");
    table.row("GPU", gpu.name, format!("{peak} at most in {multiplied} ({})", gpu.source));
    let mfu = match (cluster.mfu_is_assumed, order.mfu) {
        (true, _) => "usual; nothing given fixes it".to_string(),
        (_, Some(mfu)) if (mfu / cluster.mfu - 1.0).abs() > 5e-4 => {
            format!("implied by the rest; {:.1} % were given", 100.0 * mfu)
        }
        (_, Some(_)) => "given".to_string(),
        _ => format!("implied by the rest; {:.0} % are usual", 100.0 * USUAL_MFU),
    };
    table.row("MFU", format!("{:.1} %", 100.0 * cluster.mfu), mfu);
    match (cluster.gpus, cluster.days) {
        (Some(gpus), Some(days)) => {
            let remark = match cluster.fewest_gpus == Some(gpus) && order.gpus.is_none() {
                true => "the fewest whose memory holds it".to_string(),
                false => given(order.gpus.is_some()),
            };
            table.row("GPUs", amount::figures(gpus, 3), remark);
            table.row("time", amount::duration(days * 86_400.0), flat_days(&cluster, order.days));
        }
        _ => {
            let fits = |gpus: &f64| cluster.fewest_gpus.is_none_or(|fewest| *gpus >= fewest);
            for gpus in [8.0, 64.0, 512.0, 4096.0].into_iter().filter(fits) {
                let time = amount::duration(cluster.gpu_hours * 3600.0 / gpus);
                table.row(number_of_gpus(gpus), time, "");
            }
        }
    }
    table.row("GPU-hours", amount::figures(cluster.gpu_hours, 3), "");
    match cluster.dollars.zip(cluster.price) {
        Some((dollars, price)) => {
            let price = amount::figures(price, 4);
            table.row("money", money(dollars), format!("${price} a GPU-hour"));
        }
        None => table.row("money", "unknown", "give --price, for a GPU-hour, or --dollars"),
    }
    match watts.zip(energy_kwh) {
        Some((watts, kwh)) => {
            table.row("energy", energy(kwh), format!("{watts} W a GPU, without cooling"));
        }
        None => table.row("energy", "unknown", "give --watts, of a GPU"),
    }
    let fewest = cluster.fewest_gpus.map_or(String::new(), |fewest| {
        let verb = if fewest == 1.0 { "holds" } else { "hold" };
        format!(": {} {verb} it at least", number_of_gpus(fewest))
    });
    let remark = format!(
        "weights, gradients and optimizer, {BYTES_IN_TRAINING} bytes a parameter{fewest}; \
         activations come on top"
    );
    table.row("memory", amount::bytes(cluster.training_bytes), remark);
    let remark = format!("{BYTES_PER_PARAMETER} bytes a parameter");
    table.row("model", amount::bytes(cluster.parameter_bytes), remark);
    let remark = format!("about {BYTES_PER_TOKEN} bytes a token");
    table.row("text", amount::bytes(cluster.corpus_bytes), remark);
    terminal.print(table.text())?;
    Ok(Outcome::Success)
}

/// `1 GPU`, `64 GPUs`.
fn number_of_gpus(number: f64) -> String {
    format!("{} GPU{}", amount::figures(number, 3), if number == 1.0 { "" } else { "s" })
}

/// Parameters, tokens and the type of products: those that are given, or a recipe's.
fn size(arguments: &Arguments) -> anyhow::Result<(f64, f64, Dtype)> {
    let recipe = &arguments.run;
    let dtype = recipe.dtype.unwrap_or(Dtype::Bf16);
    if let Some(params) = arguments.order.params {
        let tokens = recipe.tokens.unwrap_or(TOKENS_PER_PARAMETER * params);
        return Ok((params, tokens, dtype));
    }
    if recipe.minutes.is_some() {
        return Err(failure(
            "--minutes are those of this machine",
            "on accelerators give --days, and --params or a shape",
        ));
    }
    if recipe.recipe.is_none() && recipe.shape.is_none() && recipe.assignments.is_empty() {
        return Err(failure(
            "how large is the model?",
            "give --params and --tokens, a recipe, or --shape",
        ));
    }
    let draft = recipe.draft()?;
    let facts = Facts { memory_bytes: None, ..recipe.facts(&draft)? };
    let recipe = draft.resolve(&facts).map_err(explained)?.recipe;
    let params = Parameters::of(&recipe.model).total() as f64;
    Ok((params, recipe.train.tokens() as f64, dtype))
}

/// What a whole number of days would imply, where days were solved for with the usual MFU.
fn flat_days(cluster: &Cluster, given: Option<f64>) -> String {
    let Some(days) = cluster.days else { return String::new() };
    match given {
        Some(given) if days < 0.995 * given => {
            return format!("of the {given} days that are given");
        }
        Some(_) => return "given".to_string(),
        None => {}
    }
    let flat = days.round();
    if !cluster.mfu_is_assumed || flat < 2.0 {
        return String::new();
    }
    let mfu = cluster.mfu * days / flat;
    format!("{days:.2} days; {flat} days sharp imply an MFU of {:.1} %", 100.0 * mfu)
}
