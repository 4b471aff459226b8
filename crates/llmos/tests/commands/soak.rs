//! Many clients for a while, a third of which go in the middle: no memory, no place and no connection is
//! lost, and no answer is another than the one that is given alone.
//!
//! `LLMOS_SOAK_SECONDS=600` is ten minutes of it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Folder, collect, command, stories};
use crate::serve::{address, ask};

const CLIENTS: u64 = 64;

/// What is asked, and what is answered to one who asks alone.
struct Question {
    body: Value,
    answer: String,
}

fn questions(address: &str) -> Vec<Question> {
    let beginnings = [
        "Once upon a time",
        "The dog",
        "Lily saw a",
        "One day, a boy",
        "\"Look!\" said",
        "In the park",
    ];
    let mut questions = Vec::new();
    for prompt in beginnings {
        for tokens in [2, 20, 90] {
            let body = json!({ "prompt": prompt, "max_tokens": tokens, "temperature": 0 });
            let alone = ask(address, "POST", "/v1/completions", &body);
            let answer = alone["choices"][0]["text"].as_str().unwrap().to_string();
            questions.push(Question { body, answer });
        }
    }
    questions
}

/// Xorshift (Marsaglia, 2003): what a client does next.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// What became of the requests of all clients.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    left: AtomicUsize,
    refused: AtomicUsize,
}

/// Asks until the time is over.
fn client(number: u64, address: &str, questions: &[Question], until: Instant, tally: &Tally) {
    let mut random = Random(0x9e37_79b9 ^ ((number + 1) << 20));
    while Instant::now() < until {
        let question = &questions[random.below(questions.len())];
        let is_streamed = random.below(2) == 0;
        let mut body = question.body.clone();
        body["stream"] = is_streamed.into();
        let body = body.to_string();
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        if random.below(3) == 0 {
            leave(&mut stream, request.as_bytes(), &mut random);
            tally.left.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let reply = String::from_utf8(reply).unwrap();
        if reply.starts_with("HTTP/1.1 429") {
            // Places of those who left are free a step later.
            tally.refused.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        assert_eq!(text(&reply, is_streamed), question.answer, "{body}");
        tally.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Goes before all is sent, or at any place of the answer.
fn leave(stream: &mut TcpStream, request: &[u8], random: &mut Random) {
    if random.below(4) == 0 {
        let _ = stream.write_all(&request[..random.below(request.len())]);
        return;
    }
    let _ = stream.write_all(request);
    let mut left = random.below(6000);
    let mut buffer = [0; 512];
    while left > 0 {
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => left = left.saturating_sub(n),
            _ => return,
        }
    }
}

/// The text of an answer.
fn text(reply: &str, is_streamed: bool) -> String {
    let events: Vec<&str> = match is_streamed {
        false => vec![reply.split_once("\r\n\r\n").unwrap().1],
        true => reply.lines().filter_map(|line| line.strip_prefix("data: {")).collect(),
    };
    let parsed = events.iter().map(|event| match is_streamed {
        false => serde_json::from_str::<Value>(event).unwrap(),
        true => serde_json::from_str::<Value>(&format!("{{{event}")).unwrap(),
    });
    parsed.filter_map(|event| Some(event["choices"][0]["text"].as_str()?.to_string())).collect()
}

/// Resident bytes of a process, and its open files.
fn held(process: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    (kilobytes << 10, files)
}

/// Waits until nothing is in flight.
fn wait_for_quiet(address: &str) {
    let start = Instant::now();
    while ask(address, "GET", "/readyz", &Value::Null)["in_flight"] != 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "a place is still taken");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let seconds = std::env::var("LLMOS_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(10));
    let home = Folder::new();
    // Nobody reads its log meanwhile.
    let log = ["--log", "text,error"];
    let given = ["serve", &stories(), "--port", "0", "--slots", "16", "--queue", "64"];
    let given = [given.as_slice(), &log].concat();
    let mut child = command(home.path(), &given).spawn().unwrap();
    let address = address(&mut child);
    let questions = questions(&address);
    let (start, tally) = (Instant::now(), Tally::default());
    let mut memory = VecDeque::new();
    std::thread::scope(|scope| {
        let (address, questions, tally) = (&address, &questions, &tally);
        for number in 0..CLIENTS {
            scope.spawn(move || client(number, address, questions, start + time, tally));
        }
        while start.elapsed() < time {
            memory.push_back((start.elapsed(), held(child.id()).0));
            std::thread::sleep(time / 100);
        }
    });
    wait_for_quiet(&address);
    let most = |from: f64, to: f64| {
        let range = time.mul_f64(from)..time.mul_f64(to);
        memory.iter().filter(|(at, _)| range.contains(at)).map(|(_, bytes)| *bytes).max().unwrap()
    };
    // Allocators take some rounds until they have what they need.
    let (early, late) = (most(0.3, 0.65), most(0.65, 1.0));
    assert!(late <= early + early / 20 + (4 << 20), "{early} bytes, then {late}");
    let files = held(child.id()).1;
    assert!(files < 40, "{files} files are open where nobody is connected");
    // Every place is there again, for those who come all at once too.
    std::thread::scope(|scope| {
        for question in &questions {
            let address = &address;
            scope.spawn(move || {
                let answer = ask(address, "POST", "/v1/completions", &question.body);
                assert_eq!(answer["choices"][0]["text"], question.answer.as_str());
            });
        }
    });
    wait_for_quiet(&address);
    let counts = [&tally.answered, &tally.left, &tally.refused].map(|n| n.load(Ordering::Relaxed));
    let [answered, left, _] = counts;
    assert!(answered >= 100 && left >= 50, "{counts:?}");
    println!("{answered} answers, {left} clients left, {} MB, then {} MB", early >> 20, late >> 20);
    crate::interrupt::interrupt(&child);
    let output = collect(child);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}
