//! How a loaded model's parameters are distributed: found out when somebody first asks, and kept.

use std::sync::{Arc, OnceLock};

use llmos_model::Model;
use llmos_model::parameters::Distribution;
use tokio::sync::Mutex;

use crate::refusal::Refusal;

/// A model with what is known of its parameters.
#[derive(Clone)]
pub(crate) struct Parameters {
    model: Arc<Model>,
    /// Held by the one who reads the model, to the end, whether or not its client is still there.
    turn: Arc<Mutex<()>>,
    found: Arc<OnceLock<Result<Arc<str>, Refusal>>>,
}

impl Parameters {
    pub(crate) fn of(model: Arc<Model>) -> Parameters {
        Parameters { model, turn: Arc::default(), found: Arc::default() }
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// A JSON list, one entry a tensor.
    ///
    /// # Errors
    /// The model was not read from a file.
    pub(crate) async fn get(&self) -> Result<Arc<str>, Refusal> {
        if let Some(found) = self.found.get() {
            return found.clone();
        }
        // Who comes second waits here, where it costs no thread.
        let turn = self.turn.clone().lock_owned().await;
        let (model, found) = (self.model.clone(), self.found.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            found.get_or_init(|| read(&model)).clone()
        });
        reading.await.unwrap_or_else(|_| Err(Refusal::broken("reading the parameters ended early")))
    }
}

fn read(model: &Model) -> Result<Arc<str>, Refusal> {
    let Some(files) = model.files() else {
        let hint = "ask for another one: GET /v1/models lists them";
        return Err(Refusal::bad("the model was made, and has no file", hint));
    };
    let tensors = files.tensors().map(|info| Distribution::of(files, info, &|| false));
    let tensors: Vec<Distribution> =
        tensors.collect::<Result<_, _>>().map_err(|error| Refusal::of_model(&error))?;
    let text = serde_json::to_string(&tensors);
    text.map(Arc::from).map_err(|error| Refusal::broken(error.to_string()))
}
