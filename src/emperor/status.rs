//! How the vassals are: what is known of each, as a line of the log, a table or JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::file::VassalFile;
use super::losses::Mountpoints;
use super::spawn::Owner;
use super::{Count, readable};
use crate::json::Json;
use crate::log::{Elapsed, push_printable};

/// What is known of one vassal.
pub struct Status<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its file.
    pub path: &'a VassalFile,
    /// One word.
    pub state: &'static str,
    /// Since when its instance is on its way out.
    pub stopping: Option<Instant>,
    /// Its PID 1.
    pub pid: Option<i32>,
    /// How long its app has been running.
    pub uptime: Option<Duration>,
    /// How many instances there were before this one.
    pub restarts: u64,
    /// How long until the next instance is tried.
    pub next_try: Option<Duration>,
    /// Why the last instance ended or could not start.
    pub last: Option<&'a str>,
    /// Why the file, as it is now, was not taken by the running instance.
    pub refused: Option<&'a str>,
    /// When its file was modified, in seconds since 1970; 0 if it could not be looked at.
    pub modified: u64,
    /// Its checked mountpoints.
    pub mountpoints: &'a Mountpoints,
    /// When its app began to run.
    pub since: Option<Instant>,
    /// Since when the app is ready to accept requests, and since when it is loyal, as far as it says so.
    pub announced: [Option<Instant>; 2],
    /// When the app last said that it is alive.
    pub heartbeat: Option<Instant>,
    /// What the app does at present, in its own words.
    pub said: Option<&'a str>,
    /// How often an instance was reloaded without another one.
    pub reloads: u64,
    /// When its first instance was created, and when its latest one, or when that was reloaded.
    pub runs: Option<(Instant, Instant)>,
    /// When the instance was created.
    pub born: Option<Instant>,
    /// Who owns the instance's file.
    pub owner: Option<Owner>,
    /// Its failures in a row.
    pub failures: Option<Failures>,
    /// Where the emperor listens for it.
    pub on_demand: Option<&'a str>,
}

/// Failures in a row.
#[derive(Debug, Clone, Copy)]
pub struct Failures {
    /// How many.
    pub count: u32,
    /// When the first one was.
    pub first: Instant,
    /// When the last one was.
    pub last: Instant,
    /// How long the wait is that the last one has led to.
    pub wait: Duration,
}

impl Status<'_> {
    /// For the log: all of it, in words.
    pub fn line(&self) -> String {
        let mut line = self.state.to_owned();
        if let Some(uptime) = self.uptime {
            let _ = write!(line, ", up {}", Elapsed(uptime));
        }
        if let Some(wait) = self.next_try {
            let _ = write!(line, ", next try in {}", Elapsed(wait));
        }
        if let Some(pid) = self.pid {
            let _ = write!(line, ", pid {pid}");
        }
        let _ = write!(line, ", {}", Count(self.restarts, "restart"));
        let losses = self.mountpoints.losses();
        let losses = Some(losses.as_str()).filter(|losses| !losses.is_empty());
        for (what, why) in [
            (", says: ", self.said),
            (", last: ", self.last),
            (", reload refused: ", self.refused),
            (", mountpoint ", losses),
        ] {
            if let Some(why) = why {
                line.push_str(what);
                line.push_str(why);
            }
        }
        line
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let none = || "-".to_owned();
        let mut last = String::new();
        if let Some(said) = self.said {
            push_printable(&mut last, said);
            last.push_str("; before: ");
        }
        push_printable(&mut last, self.last.unwrap_or("-"));
        if let Some(why) = self.refused {
            last.push_str("; reload refused: ");
            push_printable(&mut last, why);
        }
        let losses = self.mountpoints.losses();
        if !losses.is_empty() {
            last.push_str("; mountpoint ");
            push_printable(&mut last, &losses);
        }
        let mut name = String::new();
        push_printable(&mut name, &self.name);
        [
            name,
            self.state.to_owned(),
            self.pid.map_or_else(none, |pid| pid.to_string()),
            self.uptime.map_or_else(none, rounded),
            self.restarts.to_string(),
            self.next_try.map_or_else(none, rounded),
            self.mountpoints.counts(),
            last,
        ]
    }

    fn json(&self, json: &mut Json) {
        json.open("", '{');
        json.text("name", Some(&self.name));
        json.text("file", Some(&readable(self.path.as_os_str())));
        json.text("state", Some(self.state));
        json.number("pid", self.pid.map(i32::unsigned_abs));
        json.seconds("uptime", self.uptime);
        json.number("restarts", Some(self.restarts));
        json.seconds("next_try", self.next_try);
        json.raw("ready", if self.announced[0].is_some() { "true" } else { "false" });
        json.text("on_demand", self.on_demand);
        json.text("status", self.said);
        json.text("last", self.last);
        json.text("reload_refused", self.refused);
        self.mountpoints.json(json);
        json.close('}');
    }
}

const COLUMNS: [&str; 8] = ["NAME", "STATE", "PID", "UPTIME", "RESTARTS", "NEXT TRY", "MOUNTS", "LAST"];

/// A cell that is wider than this pushes the rest of its own line aside, not that of all others.
const WIDTH_MAX: usize = 40;

/// A table for people, with a line for each vassal.
pub fn table<'a>(vassals: impl Iterator<Item = Status<'a>>) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(vassals.map(|vassal| vassal.cells()));
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count()).min(WIDTH_MAX);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The same for programs, times in seconds. `uptime` is that of the emperor.
pub fn json<'a>(vassals: impl Iterator<Item = Status<'a>>, uptime: Duration) -> String {
    let mut json = Json::default();
    json.open("", '{');
    json.text("version", Some(env!("CARGO_PKG_VERSION")));
    json.number("pid", Some(std::process::id()));
    json.seconds("uptime", Some(uptime));
    json.open("vassals", '[');
    for vassal in vassals {
        vassal.json(&mut json);
    }
    json.close(']');
    json.close('}');
    json.0.push('\n');
    json.0
}

/// A time as short as it gets, the two largest units: `12s`, `4m5s`, `3d4h`.
fn rounded(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let seconds = time.as_secs();
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (mut text, mut rest) = (String::new(), seconds);
    for (index, (unit, name)) in UNITS.iter().enumerate().skip(largest).take(2) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || index == UNITS.len() - 1 && text.is_empty() {
            let _ = write!(text, "{count}{name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static NONE: Mountpoints = Mountpoints::none();

    fn files() -> [VassalFile; 2] {
        ["/v/app.ini", "/v/long\nname.ini"].map(|path| VassalFile::new(path.into(), 3))
    }

    fn vassals([first, second]: &[VassalFile; 2]) -> [Status<'_>; 2] {
        let up = Status {
            name: "app".into(),
            path: first,
            state: "running",
            stopping: None,
            pid: Some(42),
            uptime: Some(Duration::from_millis(3_725_500)),
            restarts: 1,
            next_try: None,
            last: Some("stopped"),
            refused: Some("app.ini:1: no"),
            modified: 0,
            mountpoints: &NONE,
            since: None,
            announced: [None; 2],
            heartbeat: None,
            said: None,
            reloads: 0,
            runs: None,
            born: None,
            owner: None,
            failures: None,
            on_demand: Some("127.0.0.1:80"),
        };
        let down = Status {
            name: "long\nname".into(),
            path: second,
            state: "backoff",
            stopping: None,
            pid: None,
            uptime: None,
            restarts: 0,
            next_try: Some(Duration::from_secs(59)),
            last: None,
            refused: None,
            modified: 0,
            mountpoints: &NONE,
            since: None,
            announced: [None; 2],
            heartbeat: None,
            said: None,
            reloads: 0,
            runs: None,
            born: None,
            owner: None,
            failures: None,
            on_demand: None,
        };
        [up, down]
    }

    #[test]
    fn a_table_is_aligned_and_nothing_forges_a_line_of_it() {
        let (files, long) = (files(), "x".repeat(100));
        let other = Status { name: long.as_str().into(), ..vassals(&files)[1] };
        let rows = table(vassals(&files).into_iter().chain([other]));
        assert!(rows.lines().next().unwrap().starts_with(&format!("NAME{:38}STATE", "")), "{rows}");
        assert!(rows.contains(&format!("\n{long}  backoff  ")), "{rows}");
        assert_eq!(
            table(vassals(&files).into_iter()),
            "NAME        STATE    PID  UPTIME  RESTARTS  NEXT TRY  MOUNTS  LAST\n\
             app         running  42   1h2m    1         -         -       stopped; reload refused: app.ini:1: no\n\
             long\\nname  backoff  -    -       0         59s       -       -\n"
        );
    }

    #[test]
    fn a_line_and_an_object_have_all_of_it() {
        let files = files();
        let [up, down] = vassals(&files);
        assert_eq!(
            up.line(),
            "running, up 3725.5 s, pid 42, 1 restart, last: stopped, reload refused: app.ini:1: no"
        );
        assert_eq!(down.line(), "backoff, next try in 59.0 s, 0 restarts");
        let text = json([up, down].into_iter(), Duration::from_millis(1));
        let head = format!(
            "{{\"version\":\"{}\",\"pid\":{},\"uptime\":0.001,",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        );
        let vassals = r#""vassals":[{"name":"app","file":"/v/app.ini","state":"running","pid":42,"uptime":3725.500,"restarts":1,"next_try":null,"ready":false,"on_demand":"127.0.0.1:80","status":null,"last":"stopped","reload_refused":"app.ini:1: no","mountpoints":[]},{"name":"long\nname","file":"/v/long\nname.ini","state":"backoff","pid":null,"uptime":null,"restarts":0,"next_try":59.000,"ready":false,"on_demand":null,"status":null,"last":null,"reload_refused":null,"mountpoints":[]}]}"#;
        assert_eq!(text, format!("{head}{vassals}\n"));
    }

    #[test]
    fn times_have_two_units_at_most() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (90_061, "1d1h")]
        {
            assert_eq!(rounded(Duration::from_secs(seconds)), text);
        }
    }
}
