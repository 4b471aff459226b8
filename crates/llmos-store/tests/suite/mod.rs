//! What every store must do, whatever database is behind it.

mod exchange;
mod keys;
mod opening;
mod search;
mod trees;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use llmos_store::{Body, Error, Options, Place, Purpose, Role, Store};

/// An empty database, and ways into it.
pub(crate) struct Ground {
    pub(crate) place: Place,
    /// Runs statements in it past the store.
    pub(crate) sql: Box<dyn Fn(&str)>,
    /// Counts the rows of a table.
    pub(crate) count: Box<dyn Fn(&str) -> i64>,
    pub(crate) is_sqlite: bool,
    /// The time of the stores that are opened here; each look takes a millisecond.
    pub(crate) time: Arc<AtomicI64>,
}

impl Ground {
    pub(crate) fn new(
        place: Place,
        is_sqlite: bool,
        sql: Box<dyn Fn(&str)>,
        count: Box<dyn Fn(&str) -> i64>,
    ) -> Ground {
        let time = Arc::new(AtomicI64::new(1_800_000_000_000));
        Ground { place, sql, count, is_sqlite, time }
    }

    pub(crate) fn try_open(&self, purpose: Purpose) -> Result<Store, Error> {
        let mut options = Options::new(purpose);
        options.patience = std::time::Duration::from_millis(200);
        let time = self.time.clone();
        options.clock = Box::new(move || time.fetch_add(1, Ordering::Relaxed));
        Store::open(&self.place, options)
    }

    pub(crate) fn open(&self) -> Store {
        self.try_open(Purpose::Serve).expect("a store")
    }
}

/// A test by its name.
pub(crate) type Test = (&'static str, fn(&Ground));

pub(crate) const ALL: [Test; 24] = [
    ("branches", trees::branches),
    ("several_messages_at_once", trees::several_messages_at_once),
    ("everything_of_a_message_comes_back", trees::everything_of_a_message_comes_back),
    ("every_character_comes_back", trees::every_character_comes_back),
    ("lists_have_pages", trees::lists_have_pages),
    ("ratings", trees::ratings),
    ("what_is_missing_is_said", trees::what_is_missing_is_said),
    ("owners_are_apart", trees::owners_are_apart),
    ("deletion", trees::deletion),
    ("random_trees_come_back", trees::random_trees_come_back),
    ("words_are_found", search::words_are_found),
    ("attachments_and_titles_are_found", search::attachments_and_titles_are_found),
    ("long_texts_are_found_everywhere", search::long_texts_are_found_everywhere),
    ("no_query_is_an_error", search::no_query_is_an_error),
    ("search_is_as_a_scan", search::search_is_as_a_scan),
    ("exports_come_back", exchange::exports_come_back),
    ("imports_can_be_repeated", exchange::imports_can_be_repeated),
    ("bad_lines_leave_nothing", exchange::bad_lines_leave_nothing),
    ("keys_open", keys::keys_open),
    ("key_names_are_checked", keys::key_names_are_checked),
    ("usage_is_counted_by_day", keys::usage_is_counted_by_day),
    ("one_server_at_a_time", opening::one_server_at_a_time),
    ("newer_is_refused", opening::newer_is_refused),
    ("older_is_migrated", opening::older_is_migrated),
];

/// A user's message.
pub(crate) fn user(text: &str) -> Body {
    Body::text(Role::User, text)
}

/// An assistant's.
pub(crate) fn assistant(text: &str) -> Body {
    Body::text(Role::Assistant, text)
}
