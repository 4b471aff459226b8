//! Responses that are written although nobody listens: answered at once, and asked for by their ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::write::Writer;
use crate::api::ask::Listener;
use crate::api::stream::Dialect;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;
use crate::watch::Flight;

/// Those that are being written; they are in memory alone until they end, and are kept then as any
/// other.
#[derive(Default)]
pub(crate) struct Background {
    all: Mutex<HashMap<String, Arc<Written>>>,
}

/// A response that is being written.
struct Written {
    owner: u64,
    writer: Mutex<Writer>,
    /// Nobody wants it any more.
    given_up: Notify,
}

impl Written {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Background {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Written>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a response be written; as it is before that.
    pub(super) fn begin(service: &Arc<Service>, mut listener: Listener, writer: Writer) -> Value {
        let flight = Flight::beside(service.clone());
        listener.note_in(flight.record().clone());
        let (id, response) = (writer.id().to_string(), writer.response());
        let (owner, writer) = (writer.owner(), Mutex::new(writer));
        let written = Arc::new(Written { owner, writer, given_up: Notify::new() });
        service.background.all().insert(id.clone(), written.clone());
        let place = Place { service: service.clone(), id };
        tokio::spawn(write(place, written, listener, flight));
        response
    }

    /// The record of a caller's response as far as it is written; none if it is not being written.
    pub(super) fn record(&self, caller: Caller, id: &str) -> Option<Value> {
        let all = self.all();
        let written = all.get(id).filter(|written| written.owner == caller.owner)?;
        written.writer().record()
    }

    /// Gives a caller's response up: it is cancelled, and kept as far as it was written if it `stays`.
    /// The response, if it was being written.
    pub(super) fn give_up(&self, caller: Caller, id: &str, stays: bool) -> Option<Value> {
        let mut all = self.all();
        all.get(id).filter(|written| written.owner == caller.owner)?;
        let written = all.remove(id)?;
        drop(all);
        written.given_up.notify_one();
        let mut writer = written.writer();
        writer.cancel();
        if stays {
            writer.keep();
        }
        Some(writer.response())
    }
}

/// The place of a response among those that are written; given back when the server ends as well.
struct Place {
    service: Arc<Service>,
    id: String,
}

impl Place {
    /// Gives it back; false if the response was given up.
    fn leave(&self) -> bool {
        self.service.background.all().remove(&self.id).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Writes a response to its end.
async fn write(place: Place, written: Arc<Written>, mut listener: Listener, flight: Flight) {
    let ended = tokio::select! {
        ended = hear(&mut listener, &written) => ended,
        () = written.given_up.notified() => return flight.end(Some("cancelled")),
    };
    // Whoever has given it up in this moment has kept it.
    if place.leave() {
        let mut writer = written.writer();
        if let Err(refusal) = &ended {
            writer.failed(refusal);
        }
        writer.keep();
    }
    flight.end(None);
}

async fn hear(listener: &mut Listener, written: &Written) -> Result<(), Refusal> {
    while let Some(event) = listener.next().await? {
        written.writer().chunks(event);
    }
    Ok(())
}
