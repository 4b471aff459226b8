//! What a run takes, said beforehand: parameters, arithmetic, memory, disk, time, energy, money, and
//! how good the model will be.
//!
//! A run of ours is planned from its recipe ([`RunPlan`]), a run on rented accelerators from a few
//! numbers, of which the unknown ones are solved for ([`Order`]).

pub mod amount;
mod cluster;
mod flops;
mod forecast;
mod gpu;
mod law;
mod lesson;
mod measure;
mod memory;
mod parameters;
mod pilot;
mod run;
#[cfg(test)]
mod tests;

pub use cluster::{
    BYTES_IN_TRAINING, BYTES_PER_PARAMETER, BYTES_PER_TOKEN, Cluster, Order, USUAL_MFU,
};
pub use flops::{Flops, RunFlops, optimizer_step};
pub use forecast::{Comparison, Forecast, ForecastFile, Outcome};
pub use gpu::{GPUS, Gpu};
pub use law::{Law, Prediction, Size};
pub use lesson::LessonPlan;
pub use measure::{derive, step_seconds};
pub use memory::{ActivationFormula, Disk, Memory, activations, checkpoint};
pub use parameters::Parameters;
pub use pilot::{Pilot, pilot, pilot_flops};
pub use run::{RunPlan, Seconds};
