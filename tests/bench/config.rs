//! What it costs to read a vassal's file: time, and memory at the peak. Prints one JSON array, for
//! scripts/bench.

#![allow(unsafe_code)] // an allocator that counts is one
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use vassal::config::{Input, expanded, load_vassal};
use vassal::world::Machine;

/// The system's allocator, with the bytes in use and the most there were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 200;

/// A vassal's file as people have it, with `lines` lines: hooks, placeholders, comments, a block, options for
/// uWSGI.
fn vassal(lines: usize) -> Vec<u8> {
    const BLOCK: &[&str] = &[
        "; what belongs together",
        "base = /srv/%n",
        "uid = user001",
        "env = NAME_{}=value of %(base)/{}",
        "exec-as-root = mkdir -p %(base)/run/{}",
        "mount-as-root = none %(base)/data /data{} bind,ro",
        "key{} = %(base) %({} + 1)",
        "if-not-reload =",
        "  exec-as-user = fuse-zip -r /var/www/app{}.zip /app",
        "endif =",
        "http-socket = :9090",
        "psgi = %(key{})/myapp.pl",
        "",
    ];
    let mut text = String::from("[uwsgi]\n");
    for number in 1..lines {
        let line = BLOCK[number % BLOCK.len()].replace("{}", &number.to_string());
        writeln!(text, "{line}").unwrap();
    }
    text.into_bytes()
}

/// Every name is used before it is there, the last one first: the worst order for a search.
fn references(lines: usize) -> Vec<u8> {
    let mut text = String::from("[uwsgi]\n");
    for number in 1..lines / 2 {
        writeln!(text, "use{number} = value %(name{})", lines / 2 - number).unwrap();
    }
    for number in 1..lines / 2 {
        writeln!(text, "name{number} = {number}").unwrap();
    }
    text.into_bytes()
}

fn main() {
    let mut results = Vec::new();
    let whole = |input: &[Input]| assert!(load_vassal(input, false, &Machine).is_ok());
    let expansion = |input: &[Input]| assert!(expanded(input, false, &Machine).is_ok());
    results.push(measure("a vassal's file, to its plan", vassal(100), whole));
    results.push(measure("a vassal's file, expanded", vassal(100), expansion));
    results.push(measure("a vassal's file, expanded", vassal(1000), expansion));
    results.push(measure("a vassal's file, expanded", vassal(9990), expansion));
    results.push(measure("names used before they are there", references(1000), expansion));
    results.push(measure("names used before they are there", references(9990), expansion));
    println!("[{}]", results.join(","));
}

fn measure(name: &str, text: Vec<u8>, run: impl Fn(&[Input])) -> String {
    let lines = text.iter().filter(|&&byte| byte == b'\n').count();
    let input = [Input::Text { path: "/etc/uwsgi/vassals/app001.ini".into(), section: None, text }];
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    run(&input);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let rounds = (ROUNDS * 100 / lines).max(10);
    let times: Vec<_> = (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            run(&input);
            format!("{:.1}", begin.elapsed().as_secs_f64() * 1e6)
        })
        .collect();
    format!(r#"{{"name":"{name}","lines":{lines},"peak_bytes":{peak},"microseconds":[{}]}}"#, times.join(","))
}
