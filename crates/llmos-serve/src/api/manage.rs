//! What changes the models that are here: load, unload, pull, convert, copy, delete. For admins alone.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::Instant;

use super::in_path::InPath;
use super::progress::{self, Chore, News, Words};
use super::{json_response, listing};
use crate::body;
use crate::fields::Fields;
use crate::keys::{Caller, Scope};
use crate::models::Offer;
use crate::outside::{Keeper, Progress, Trouble, TroubleKind, Watch};
use crate::refusal::Refusal;
use crate::server::Service;

/// Between two words of progress.
const PACE: Duration = Duration::from_millis(100);

/// Longest name of a model that is pulled or converted.
const LONGEST_NAME: usize = 256;

/// Lets nobody through but admins.
///
/// # Errors
/// The key is for chatting alone.
pub(crate) fn must_be_admin(caller: &Caller) -> Result<(), Refusal> {
    match caller.scope {
        Scope::Admin => Ok(()),
        Scope::Chat => Err(Refusal::stranger(
            "the key is for asking models, and this is for admins",
            "ask with a key of scope admin: llmos keys add NAME --scope admin",
        )),
    }
}

/// Loads a model, and answers once it is there.
pub(crate) async fn load(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = admin_body(&service, &caller, request).await?;
    let id = name(&body, "model")?;
    service.models.get(Some(id), &service.scheduling()).await?;
    Ok(json_response(&listing::of(&service, &service.models.id_of(id)?)?))
}

/// Lets go of a model: what it is answering it goes on with.
pub(crate) async fn unload(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = admin_body(&service, &caller, request).await?;
    let id = name(&body, "model")?;
    service.models.unload(id).await?;
    Ok(json_response(&listing::of(&service, &service.models.id_of(id)?)?))
}

/// Brings a model from where models are kept.
pub(crate) async fn pull(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = admin_body(&service, &caller, request).await?;
    let chore = begin_pull(service, "name", name(&body, "name")?).await?;
    Ok(progress::response(chore, Words::Ours))
}

/// Begins to bring a model; `field` is where the client named it.
///
/// # Errors
/// An address in place of a name, one that is absurdly long, and as [`begin`].
pub(super) async fn begin_pull(
    service: Arc<Service>,
    field: &str,
    name: &str,
) -> Result<Chore, Refusal> {
    if name.contains("://") || name.len() > LONGEST_NAME {
        return Err(Refusal::field(
            field,
            "a model's name",
            &Value::from(name),
            "where models come from is the server's to know: hf:OWNER/REPO",
        ));
    }
    let name = name.to_string();
    let pull = move |keeper: &dyn Keeper, watch: Watch<'_>| keeper.pull(&name, watch);
    begin(service, pull).await
}

/// Makes a model of another type.
pub(crate) async fn convert(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = admin_body(&service, &caller, request).await?;
    // By its id as it stands in the list, so that it is one that is offered.
    let model = listing::of(&service, name(&body, "model")?)?;
    let model = model["id"].as_str().unwrap_or_default().to_string();
    let kind = name(&body, "type")?.to_string();
    let convert = move |keeper: &dyn Keeper, watch: Watch<'_>| keeper.convert(&model, &kind, watch);
    Ok(progress::response(begin(service, convert).await?, Words::Ours))
}

/// Deletes a model and its files.
pub(crate) async fn delete(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
) -> Result<Response, Refusal> {
    must_be_admin(&caller)?;
    remove(service, &id).await?;
    Ok(json_response(&json!({ "id": id, "object": "model", "deleted": true })))
}

/// Deletes the model of that very id, unless somebody is using it. Once begun it is done, whoever waits
/// for it.
///
/// # Errors
/// No such model, one that is used, and what its keeper says.
pub(super) async fn remove(service: Arc<Service>, id: &str) -> Result<(), Refusal> {
    let id = own(&service, id)?;
    let (keeper, one) = alone(&service)?;
    let removed = tokio::spawn(async move {
        let _one = one;
        let name = id.clone();
        let delete = async move {
            let deleted = tokio::task::spawn_blocking(move || keeper.delete(&name));
            deleted.await.map_err(|_| ended_early())?.map_err(refusal)
        };
        service.models.withdraw(&id, delete).await?;
        tracing::info!(model = id, "deleted");
        Ok(())
    });
    removed.await.unwrap_or_else(|_| Err(ended_early()))
}

/// Gives a model a second name. Once begun it is done, whoever waits for it.
///
/// # Errors
/// No such model, a name that is taken, and what its keeper says.
pub(super) async fn copy(service: Arc<Service>, id: &str, name: &str) -> Result<(), Refusal> {
    let id = own(&service, id)?;
    let (keeper, one) = alone(&service)?;
    if service.models.has(name) {
        let refusal = Refusal::client(
            StatusCode::CONFLICT,
            format!("there is a model {name:?} already"),
            "choose another name, or delete that one first",
        );
        return Err(refusal.about("destination"));
    }
    let name = name.to_string();
    let copied = tokio::task::spawn_blocking(move || {
        let _one = one;
        let offer = keeper.copy(&id, &name).map_err(refusal)?;
        tracing::info!(model = offer.id, "offered");
        service.models.offer(offer);
        Ok(())
    });
    copied.await.unwrap_or_else(|_| Err(ended_early()))
}

/// The id of a model by itself, as it stands in the list.
fn own(service: &Service, id: &str) -> Result<String, Refusal> {
    let entry = listing::of(service, id)?;
    match entry["parent"].as_str() {
        None => Ok(entry["id"].as_str().unwrap_or_default().to_string()),
        Some(base) => Err(Refusal::bad(
            format!("{id:?} is an adapter, which the server was started with"),
            format!("the model is {base:?}"),
        )),
    }
}

fn ended_early() -> Refusal {
    Refusal::broken("changing a model ended early")
}

async fn admin_body(
    service: &Service,
    caller: &Caller,
    request: Request,
) -> Result<Map<String, Value>, Refusal> {
    must_be_admin(caller)?;
    body::object(request, service.body_limits()).await
}

fn name<'a>(body: &'a Map<String, Value>, field: &str) -> Result<&'a str, Refusal> {
    let text = Fields::new(body).text(field)?.filter(|text| !text.is_empty());
    match text {
        Some(text) if text.len() <= LONGEST_NAME => Ok(text),
        Some(_) => Err(Refusal::bad(
            format!("{field}: longer than {LONGEST_NAME} bytes"),
            "GET /v1/models lists the models that are here",
        )
        .about(field)),
        None => {
            let hint = format!("send {{\"{field}\": NAME}}");
            Err(Refusal::bad(format!("there is no {field}"), hint).about(field))
        }
    }
}

/// The keeper of the models, for one thing at a time.
fn alone(service: &Service) -> Result<(Arc<dyn Keeper>, OwnedMutexGuard<()>), Refusal> {
    let keeper = service.options.keeper.clone().ok_or_else(|| {
        Refusal::client(
            StatusCode::NOT_IMPLEMENTED,
            "this server neither pulls nor converts models",
            "do it beside it: llmos pull, llmos convert, llmos rm",
        )
    })?;
    let one = service.chore.clone().try_lock_owned().map_err(|_| {
        Refusal::client(
            StatusCode::CONFLICT,
            "another model is being pulled or converted",
            "wait until that has ended",
        )
    })?;
    Ok((keeper, one))
}

/// Begins something that takes long, one at a time, and tells how far it is. It ends when the client
/// leaves, and what comes of it is offered before the client is told.
///
/// # Errors
/// No keeper, or one that is busy, and what fails at once.
async fn begin(
    service: Arc<Service>,
    work: impl FnOnce(&dyn Keeper, Watch<'_>) -> Result<Offer, Trouble> + Send + 'static,
) -> Result<Chore, Refusal> {
    let (keeper, one) = alone(&service)?;
    let (sender, mut receiver) = mpsc::channel(64);
    tokio::task::spawn_blocking(move || {
        let mut told: Option<(Instant, String)> = None;
        let mut watch = |progress: Progress| {
            if sender.is_closed() || service.is_stopping() {
                return ControlFlow::Break(());
            }
            let is_new = match &told {
                Some((when, what)) => when.elapsed() >= PACE || *what != progress.what,
                None => true,
            };
            if is_new || progress.total == Some(progress.done) {
                told = Some((Instant::now(), progress.what.clone()));
                // A client that is behind hears the next one.
                let _ = sender.try_send(News::Progress(progress));
            }
            ControlFlow::Continue(())
        };
        let news = match work(&*keeper, &mut watch) {
            Ok(offer) => {
                let id = offer.id.clone();
                tracing::info!(model = id, "offered");
                service.models.offer(offer);
                News::Done(id)
            }
            Err(trouble) => News::Failed(refusal(trouble)),
        };
        // Who hears of the end may ask for the next at once.
        drop(one);
        let _ = sender.blocking_send(news);
    });
    // What fails at once has a status of its own.
    match receiver.recv().await {
        Some(News::Failed(refusal)) => Err(refusal),
        Some(first) => Ok(Chore { first, news: receiver }),
        None => Err(progress::lost()),
    }
}

/// Trouble outside in OpenAI's shape.
pub(crate) fn refusal(trouble: Trouble) -> Refusal {
    let Trouble { kind, message, hint } = trouble;
    match kind {
        TroubleKind::Asked => Refusal::bad(message, hint),
        TroubleKind::Missing => Refusal::not_found("not_found", message, hint),
        TroubleKind::Outside => {
            tracing::error!(reason = message, "something outside failed");
            Refusal::client(StatusCode::BAD_GATEWAY, message, hint)
        }
        TroubleKind::Stopped => Refusal::unavailable(message, hint),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_there_and_of_a_sane_length() {
        let check = |body: Value, expected: bool| {
            let found = name(body.as_object().unwrap(), "name").is_ok();
            assert_eq!(found, expected, "{body}");
        };
        check(json!({ "name": "hf:o/r" }), true);
        check(json!({ "name": "" }), false);
        check(json!({ "name": 3 }), false);
        check(json!({ "name": null }), false);
        check(json!({}), false);
        check(json!({ "name": "x".repeat(257) }), false);
    }

    #[test]
    fn who_may_only_chat_is_no_admin() {
        let chat = Caller { scope: Scope::Chat, ..Caller::ANYONE };
        assert_eq!(must_be_admin(&chat).unwrap_err().status, StatusCode::FORBIDDEN);
        assert!(must_be_admin(&Caller::ANYONE).is_ok());
    }
}
