//! The store on PostgreSQL: what every store does, on a server of its own, where there is one.
#![allow(clippy::unwrap_used, reason = "a test's own store must open")]

mod ground;
mod kill;
mod server;
mod suite;

use llmos_store::{Error, Options, Place, Purpose, Store};
use postgres::{Client, NoTls};
use serde_json::Value;
use server::Server;
use suite::Ground;

#[test]
fn child() {
    kill::write_until_killed();
}

/// All of it on one server, which goes when the test ends.
#[test]
fn the_suite() {
    let Some(mut server) = Server::start() else { return };
    for (name, test) in suite::ALL {
        println!("{name}");
        let url = server.database(name);
        test(&ground(&url));
    }
    unreachable_is_said(&server);
    a_connection_that_was_lost_is_made_again(&mut server);
    let url = server.database("killed");
    let n_done = kill::kill_and_look(&url, "child", 50);
    println!("50 kills, {n_done} acknowledged writes");
}

fn ground(url: &str) -> Ground {
    let (place, url, same) = (Place::of(url), url.to_string(), url.to_string());
    let sql = move |sql: &str| Client::connect(&url, NoTls).unwrap().batch_execute(sql).unwrap();
    let count = move |table: &str| {
        let sql = format!("SELECT count(*) FROM llmos.{table}");
        Client::connect(&same, NoTls).unwrap().query_one(&sql, &[]).unwrap().get(0)
    };
    Ground::new(place, false, Box::new(sql), Box::new(count))
}

fn unreachable_is_said(server: &Server) {
    let url = server.database("unreachable").replace("unreachable", "nowhere");
    let open = |url: &str| Store::open(&Place::of(url), Options::new(Purpose::Serve));
    let error = open(&url).err().expect("no database");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
    let error = open("postgres://ann:secret@127.0.0.1:1/x").err().expect("no server");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = open("postgres://ann:secret@db.invalid/x").err().expect("no TLS");
    assert!(error.to_string().contains("sslmode=disable"), "{error}");
}

/// The server ends as if its power had gone, and comes back: what was acknowledged is there, and the
/// store goes on, its lock included.
fn a_connection_that_was_lost_is_made_again(server: &mut Server) {
    let url = server.database("lost");
    let ground = ground(&url);
    let mut store = ground.open();
    let id = store.chats("ann").create("kept", Value::Null).unwrap().id;
    server.crash();
    let error = store.chats("ann").conversation(&id).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    server.resume();
    assert_eq!(store.chats("ann").conversation(&id).unwrap().title, "kept");
    store.chats("ann").rename(&id, "again").unwrap();
    let error = ground.try_open(Purpose::Serve).err().expect("the lock was taken again");
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}
