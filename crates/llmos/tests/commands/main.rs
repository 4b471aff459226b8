//! Every command as a person runs it: the binary, real files, what comes out of it.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]
#![allow(clippy::unwrap_used, reason = "a test's own files and processes must be there")]

mod adapter;
mod bad_input;
mod bench;
mod bench_serve;
mod chat;
mod chats;
mod converse;
mod convert;
mod data;
mod deploy;
mod eval;
mod finetune;
mod full_disk;
mod generate;
mod inspect;
mod interrupt;
mod keeping;
mod killed_server;
mod lens;
mod managed;
mod next;
mod plan;
mod postgres;
mod pretrain;
mod program;
mod pull;
mod reward;
mod score;
mod serve;
mod settings;
mod soak;
mod speedrun;
mod teach;
mod termination;
mod tokenize;
mod tokenizer;
mod top;
mod watch;
mod watching;
