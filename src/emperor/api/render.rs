//! The status of the vassals, as a table or as JSON.

use std::fmt::Write as _;
use std::iter::repeat_n;
use std::time::{Duration, Instant};

use super::fields::{FIELDS, Field, LAST, PROBLEM, Value};
use crate::config::AS_ROOT;
use crate::emperor::core::history::Ended;
use crate::emperor::core::mountpoints::Mountpoints;
use crate::emperor::core::status::{
    AWAITS_TURN, FLAPPING, IGNORED, NO_LOG, NOT_READY, NOT_UP, STATES, Status,
};
use crate::emperor::core::text::{Count, readable};
use crate::json::Json;
use crate::log::{Date, Elapsed, printable};
use crate::protocol::{MountReport, MountState};

/// A wider cell moves the rest of its own line, but not the columns of the other lines.
const WIDTH_MAX: usize = 40;
/// The reason of the state `stopped`.
const BY_COMMAND: &str = "stopped by command";
/// In front of a line that goes on with the row above.
pub(super) const INDENT: &str = "    ";

/// A table for people, with one line for each vassal, none longer than so many columns of a terminal. With
/// `problems` a column says what is wrong with each; if a line is too long, that is told below it, with LAST,
/// whole.
pub fn table(vassals: &[Status<'_>], problems: bool, columns: usize) -> String {
    if vassals.is_empty() && problems {
        return String::new();
    }
    let headings = FIELDS.iter().filter_map(|field| field.column).chain([LAST]);
    let mut rows = vec![headings.map(str::to_owned).collect::<Vec<_>>()];
    let mut told = vec![PROBLEM];
    for vassal in by_name(vassals) {
        rows.push(cells(vassal));
        told.push(vassal.problem.unwrap_or("-"));
    }
    if problems {
        for (row, told) in rows.iter_mut().zip(told) {
            row.insert(row.len().min(2), told.to_owned());
        }
    }
    let mut lines = aligned(&rows);
    let mut below = Vec::new();
    if problems && lines.iter().any(|line| columns_of(line) > columns) {
        for row in &mut rows {
            let last = row.pop().filter(|last| last != "-");
            let mut told = if row.len() > 2 { row.remove(2) } else { String::new() };
            if let Some(last) = last {
                told = told + ": " + &last;
            }
            below.push(told);
        }
        lines = aligned(&rows);
    }
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        push_cut(&mut text, line, columns);
        text.push('\n');
        if let Some(told) = below.get(index).filter(|_| index > 0) {
            push_wrapped(&mut text, told, columns);
        }
    }
    text
}

/// Rows of the same number of cells as lines, the cells of a column below each other.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(row.len(), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns_of(cell)).min(WIDTH_MAX);
        }
    }
    let room = widths.iter().map(|width| width + 2).sum();
    let mut lines = Vec::new();
    for row in rows {
        let mut line = String::with_capacity(room);
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(repeat_n(' ', width.saturating_sub(columns_of(cell)) + 2));
        }
        line.truncate(line.trim_ascii_end().len());
        lines.push(line);
    }
    lines
}

/// One line with the number of instances, and how many are in which state, and have a problem.
pub fn summary(vassals: &[Status<'_>]) -> String {
    let ignored = vassals.iter().filter(|vassal| vassal.state == IGNORED).count();
    let mut text = Count((vassals.len() - ignored) as u64, "instance").to_string();
    if ignored > 0 {
        let _ = write!(text, " and {}", Count(ignored as u64, "ignored file"));
    }
    text += ": ";
    for state in STATES.into_iter().filter(|state| *state != IGNORED) {
        let count = vassals.iter().filter(|vassal| vassal.state == state).count();
        if count > 0 {
            let _ = write!(text, "{count} {}, ", in_words(state));
        }
    }
    let count = vassals.iter().filter(|vassal| vassal.problem.is_some()).count();
    let _ = match count {
        0 => writeln!(text, "no problem"),
        _ => writeln!(text, "{count} with a problem"),
    };
    text
}

/// A state, with the reason that it always has.
fn in_words(state: &'static str) -> &'static str {
    if state == "stopped" { BY_COMMAND } else { state }
}

/// Why the emperor runs with the configuration of before an upgrade, as a line; empty if it does not.
pub fn stale(why: Option<&str>) -> String {
    why.map_or(String::new(), |why| {
        format!("The configuration is that of before the upgrade: {}\n", printable(why))
    })
}

/// Everything about an instance, on several lines; `memory` is what its processes take, if that is known.
pub fn detail(vassal: &Status<'_>, memory: Option<u64>, now: Instant) -> String {
    let mut text = format!("\n{}\n", printable(&vassal.name));
    let mut line = |label: &str, of: Option<String>| {
        if let Some(of) = of {
            let _ = writeln!(text, "{label:>15}: {}", printable(of));
        }
    };
    let since = |date: Date, time: Duration| format!("{date}, {} ago", rounded(time));
    let ago = |end: &Ended| now.saturating_duration_since(end.at);
    line("File", Some(readable(vassal.path.as_os_str()).into_owned()));
    let mut state = in_words(vassal.state).to_owned();
    if let Some(time) = vassal.in_state {
        // The date of then, as the clock may have been set since.
        let noted = vassal.history.past.ends.last().filter(|end| ago(end) == time);
        let date = noted.map_or_else(|| Date::ago(time), |end| Date(end.date));
        state = state + " since " + &since(date, time);
    }
    if vassal.app.announces {
        state += if vassal.app.ready.is_some() { ", ready" } else { ", not ready" };
    }
    line("State", Some(state));
    line("Problem", vassal.problem.map(str::to_owned));
    line("Next try", vassal.next_try.map(|wait| "in ".to_owned() + &rounded(wait)));
    let process = vassal.pid.zip(vassal.owner);
    line("PID 1", process.map(|(pid, owner)| format!("{pid}, of user {}, group {}", owner.uid, owner.gid)));
    line("App", vassal.app.pid.map(|pid| format!("pid {pid} in the vassal")));
    line("Memory", memory.map(size));
    line("Restarts", Some(format!("{}, {} in the last hour", vassal.history.restarts(), vassal.recent)));
    line("On demand", vassal.on_demand.map(str::to_owned));
    line("Says", vassal.app.status.map(str::to_owned));
    for place in vassal.history.output.lines() {
        line("Output", Some(place.to_owned()));
    }
    line("Warnings", Some(vassal.history.warnings.clone()).filter(|text| !text.is_empty()));
    if let Some(refused) = vassal.refused {
        line(if refused.is_roll { "Roll refused" } else { "Reload refused" }, Some(refused.why.to_owned()));
    }
    let date = |seconds: u64| Date::of(Duration::from_secs(seconds));
    line("Runs with", vassal.runs_with().map(|used| format!("the file of {}", date(used))));
    line("Next start", vassal.next_start().map(str::to_owned));
    for (MountReport { path, fs_type, daemon, state, round_trip, last, .. }, lost) in vassal.mountpoints.all()
    {
        let mut mount = format!("{} {} {fs_type}", path.display(), state.name());
        if *daemon > 0 {
            let _ = write!(mount, ", daemon {daemon}");
        }
        if let Some(took) = round_trip {
            let _ = write!(mount, ", answers in {}", Elapsed(*took));
        }
        if lost > 0 {
            let _ = write!(mount, ", lost {}: {last}", Count(lost, "time"));
        }
        line("Mount", Some(mount));
    }
    for end in vassal.history.past.ends.iter().rev() {
        line("Ended", Some(since(Date(end.date), ago(end)) + ": " + &end.why));
    }
    text
}

/// All vassals as JSON for programs, times in seconds. `uptime` is that of the emperor.
/// Then come how many instances there are, how many there may be, and what limits them.
pub fn json(
    vassals: &[Status<'_>],
    uptime: Duration,
    stale: Option<&str>,
    notes: [&str; 3],
    (instances, most, limit): (u64, u64, &str),
    now: Instant,
) -> String {
    let mut json = Json::default();
    json.open("", '{');
    json.text("version", Some(env!("CARGO_PKG_VERSION")));
    json.number("pid", Some(std::process::id()));
    json.seconds("uptime", Some(uptime));
    json.text("configuration_refused", stale);
    for (key, note) in ["held_back", "not_answering", "cut_off"].into_iter().zip(notes) {
        json.text(key, Some(note.trim_ascii_end()).filter(|text| !text.is_empty()));
    }
    json.number("instances", Some(instances));
    json.number("instances_max", Some(most));
    json.text("limit", Some(limit));
    json.open("vassals", '[');
    for vassal in by_name(vassals) {
        json.open("", '{');
        for Field { key, value, .. } in &FIELDS {
            match value(vassal) {
                Value::Text(text) => json.text(key, text.as_deref()),
                Value::Number(number) => json.number(key, number),
                Value::Seconds(time) => json.seconds(key, time),
                Value::Said(flag, _) => json.raw(key, if flag { "true" } else { "false" }),
                Value::Mountpoints(mountpoints) => push_mountpoints(key, mountpoints, &mut json),
            }
        }
        json.open("ends", '[');
        for end in vassal.history.past.ends.iter().rev() {
            json.open("", '{');
            json.seconds("ago", Some(now.saturating_duration_since(end.at)));
            json.text("at", Some(&Date(end.date).to_string()));
            json.text("why", Some(&end.why));
            json.close('}');
        }
        json.close(']');
        json.close('}');
    }
    json.close(']');
    json.close('}');
    json.0.push('\n');
    json.0
}

/// Where these write to that can be shown: each place once, in a line of its own; the journal with the name
/// that lines have there.
///
/// # Errors
/// There is none: where one of them writes.
pub fn places<'a>(vassals: &[Status<'a>]) -> Result<String, &'a str> {
    let (mut places, mut other) = (String::new(), "inherit");
    for vassal in vassals {
        for place in vassal.history.output.lines() {
            let mut line = place.to_owned();
            if place == "journal" {
                line = line + ":" + &vassal.path.shown();
            } else if !place.starts_with("file:") {
                other = place;
                continue;
            }
            if !places.lines().any(|known| known == line) {
                places = places + &line + "\n";
            }
        }
    }
    if places.is_empty() { Err(other) } else { Ok(places) }
}

/// In the order of the vassals' names. With several directories the files have another order.
fn by_name<'a>(vassals: &'a [Status<'a>]) -> Vec<&'a Status<'a>> {
    let mut all: Vec<_> = vassals.iter().collect();
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    all
}

/// A time in short form, with the two largest units: `12s`, `4m5s`, `3d4h`.
pub(super) fn rounded(time: Duration) -> String {
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

/// A number of bytes in short form: `512K`, `1.5M`, `20G`.
pub(super) fn size(bytes: u64) -> String {
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 'K';
    for larger in ['M', 'G', 'T'] {
        if tenths >= 10_240 {
            (tenths, unit) = (tenths / 1024, larger);
        }
    }
    match tenths {
        0..100 if unit != 'K' => format!("{}.{}{unit}", tenths / 10, tenths % 10),
        _ => format!("{}{unit}", tenths / 10),
    }
}

fn cells(vassal: &Status<'_>) -> Vec<String> {
    let none = || "-".to_owned();
    let mut cells = Vec::new();
    for field in FIELDS.iter().filter(|field| field.column.is_some()) {
        cells.push(match (field.value)(vassal) {
            Value::Text(text) => text.map_or_else(none, printable),
            Value::Number(number) => number.map_or_else(none, |number| number.to_string()),
            Value::Seconds(time) => time.map_or_else(none, rounded),
            Value::Said(_, false) => none(),
            Value::Said(flag, true) => if flag { "yes" } else { "no" }.to_owned(),
            Value::Mountpoints(mountpoints) => mountpoints.counts(),
        });
    }
    cells.push(last(vassal));
    cells
}

/// What a start waits for, why the last instance ended, with a warning that may be why if its app fails, why
/// there is no log, why a reload was refused, what the next start will use then, and which mountpoints were
/// lost.
fn last(vassal: &Status<'_>) -> String {
    let ended = vassal.history.past.last_end.as_deref();
    let is_commanded = vassal.state == "stopped" && ended == Some("stopped");
    let ended = if is_commanded { Some(BY_COMMAND) } else { ended };
    let losses = Some(vassal.mountpoints.losses()).filter(|losses| !losses.is_empty());
    let is_awaited = |(report, _): &(&MountReport, u64)| report.state == MountState::Awaited;
    let awaited = vassal.mountpoints.all().find(is_awaited).map(|(report, _)| report.path.to_string_lossy());
    let refused = vassal.refused.map(|refused| refused.what().to_owned() + ": " + refused.why);
    // Either its app does not run, or is to say why it is not ready, if its check does not.
    let is_told = vassal.state != "running" || vassal.problem == Some(NOT_READY);
    let says = vassal.app.status.filter(|_| is_told);
    let awaited = awaited.filter(|_| vassal.state == "starting" && says.is_none());
    let is_apps = ended.is_some_and(|ended| ended.starts_with("app "));
    let aside = match vassal.problem {
        Some(NO_LOG) => &*vassal.history.output,
        Some(NOT_UP | FLAPPING) if is_apps => &*vassal.history.warnings,
        _ => "",
    };
    let parts = [
        ("", Some(AWAITS_TURN).filter(|_| vassal.awaits_turn)),
        ("", says),
        ("awaits mountpoint ", awaited.as_deref()),
        ("", ended),
        ("", Some(aside).filter(|text| !text.is_empty() && !text.contains(AS_ROOT))),
        ("", refused.as_deref()),
        ("next start: ", vassal.next_start()),
        ("mountpoint ", losses.as_deref()),
    ];
    let mut told = String::new();
    for (what, text) in parts {
        if let Some(text) = text {
            let separator = if told.is_empty() { "" } else { "; " };
            told = told + separator + what + text;
        }
    }
    if told.is_empty() { "-".to_owned() } else { printable(told) }
}

/// All fields of the mountpoints.
fn push_mountpoints(key: &str, mountpoints: &Mountpoints, json: &mut Json) {
    json.open(key, '[');
    for (report, lost) in mountpoints.all() {
        let MountReport { path, fs_type, daemon, state, round_trip, last, .. } = report;
        json.open("", '{');
        json.text("path", Some(&path.to_string_lossy()));
        json.text("type", Some(fs_type.as_str()).filter(|text| !text.is_empty()));
        json.number("daemon", Some(daemon.unsigned_abs()).filter(|&pid| pid > 0));
        json.text("state", Some(state.name()));
        // In microseconds, because in milliseconds the value would often be 0.
        let micros = round_trip.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        json.number("round_trip_us", micros);
        json.number("lost", Some(lost));
        json.text("last", Some(last.as_str()).filter(|text| !text.is_empty()));
        json.close('}');
    }
    json.close(']');
}

/// How many columns of a terminal a text takes that has no control characters.
fn columns_of(text: &str) -> usize {
    // Most are, and there may be many.
    if text.is_ascii() { text.len() } else { text.chars().map(columns_of_one).sum() }
}

fn columns_of_one(c: char) -> usize {
    match u32::from(c) {
        // Marks on the character before, and what joins characters.
        0x300..=0x36f | 0x200b..=0x200d | 0x2060..=0x2064 | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfeff => 0,
        // East Asian characters, and pictures.
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Appends a line, cut off at so many columns.
fn push_cut(out: &mut String, line: &str, columns: usize) {
    if columns_of(line) <= columns {
        return out.push_str(line);
    }
    let mut taken = 0;
    for c in line.chars() {
        taken += columns_of_one(c);
        // The last column is for the mark.
        if taken >= columns {
            break;
        }
        out.push(c);
    }
    out.push('…');
}

/// Appends a text in lines of so many columns, each with [`INDENT`] in front.
fn push_wrapped(out: &mut String, text: &str, columns: usize) {
    let mut rest = text;
    while !rest.is_empty() {
        let (mut taken, mut end, mut blank) = (columns_of(INDENT), rest.len(), None);
        for (at, c) in rest.char_indices() {
            taken += columns_of_one(c);
            if c == ' ' {
                blank = Some(at);
            }
            // Where there is no room at all, one character is in each line.
            if taken > columns && at > 0 {
                end = blank.unwrap_or(at);
                break;
            }
        }
        let (line, further) = rest.split_at_checked(end).unwrap_or((rest, ""));
        for part in [INDENT, line, "\n"] {
            out.push_str(part);
        }
        rest = further.trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::history::History;
    use crate::emperor::core::status::{App, Refused, Versions};
    use crate::emperor::core::vassal_file::VassalFile;

    static NONE: Mountpoints = Mountpoints::none();

    fn refusal(why: &str) -> Option<Refused<'_>> {
        Some(Refused { why, is_roll: false })
    }

    fn files() -> [(VassalFile, History); 2] {
        let mut up = History { instances: 2, ..History::default() };
        up.past.last_end = Some("stopped".to_owned());
        let file = |path: &str| VassalFile::new(path.into(), 3);
        [(file("/v/app.ini"), up), (file("/v/long\nname.ini"), History::default())]
    }

    fn vassals([first, second]: &[(VassalFile, History); 2]) -> [Status<'_>; 2] {
        let down = Status {
            next_try: Some(Duration::from_secs(59)),
            in_state: Some(Duration::from_secs(5)),
            problem: Some("not up"),
            ..Status::down(&second.0, "backoff", &second.1, &NONE)
        };
        let up = Status {
            pid: Some(42),
            uptime: Some(Duration::from_millis(3_725_500)),
            in_state: Some(Duration::from_millis(3_725_500)),
            app: App { announces: true, status: Some("at\nwork"), ..App::default() },
            on_demand: Some("127.0.0.1:80"),
            refused: refusal("app.ini:1: no"),
            ..Status::down(&first.0, "running", &first.1, &NONE)
        };
        [up, down]
    }

    #[test]
    fn a_table_is_aligned_and_nothing_forges_a_line_of_it() {
        let (files, long) = (files(), "x".repeat(100));
        let other = Status { name: long.as_str().into(), ..vassals(&files)[1] };
        let [up, down] = vassals(&files);
        let rows = table(&[up, down, other], false, usize::MAX);
        assert!(rows.lines().next().unwrap().starts_with(&format!("NAME{:38}STATE", "")), "{rows}");
        assert!(rows.contains(&format!("\n{long}  backoff  ")), "{rows}");
        assert_eq!(
            table(&vassals(&files), false, usize::MAX),
            "NAME        STATE    PID  FOR   RESTARTS  HOUR  NEXT TRY  READY  MOUNTS  LAST\n\
             app         running  42   1h2m  1         0     -         no     -       \
             stopped; reload refused: app.ini:1: no; next start: with that file\n\
             long\\nname  backoff  -    5s    0         0     59s       -      -       -\n"
        );
    }

    #[test]
    fn a_line_and_an_object_have_all_of_it() {
        let files = files();
        let [up, down] = vassals(&files);
        assert_eq!(
            up.line(),
            "running, up 3725.5 s, pid 42, 1 restart, says: at\nwork, last: stopped, \
             reload refused: app.ini:1: no"
        );
        assert_eq!(down.line(), "backoff, next try in 59.0 s, 0 restarts");
        let text = json(
            &[up, down],
            Duration::from_millis(1),
            Some("a.ini:1: no"),
            [""; 3],
            (1, 9, "x"),
            Instant::now(),
        );
        let head = format!(
            "{{\"version\":\"{}\",\"pid\":{},\"uptime\":0.001,\"configuration_refused\":\"a.ini:1: no\",",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        );
        let vassals = [
            r#""held_back":null,"not_answering":null,"cut_off":null,"#,
            r#""instances":1,"instances_max":9,"limit":"x","#,
            r#""vassals":[{"name":"app","file":"/v/app.ini","replica":1,"state":"running","pid":42,"#,
            r#""uptime":3725.500,"in_state":3725.500,"restarts":1,"restarts_hour":0,"next_try":null,"#,
            r#""ready":false,"on_demand":"127.0.0.1:80","status":"at\nwork","#,
            r#""last":"stopped","output":null,"#,
            r#""warnings":null,"reload_refused":"app.ini:1: no","problem":null,"#,
            r#""mountpoints":[],"ends":[]},"#,
            r#"{"name":"long\nname","file":"/v/long\nname.ini","replica":1,"state":"backoff","#,
            r#""pid":null,"uptime":null,"in_state":5.000,"restarts":0,"restarts_hour":0,"next_try":59.000,"#,
            r#""ready":false,"on_demand":null,"status":null,"last":null,"output":null,"warnings":null,"#,
            r#""reload_refused":null,"problem":"not up","mountpoints":[],"ends":[]}]}"#,
        ]
        .concat();
        assert_eq!(text, format!("{head}{vassals}\n"));
    }

    #[test]
    fn rows_are_in_the_order_of_their_names_and_tell_only_what_there_is() {
        let files = files();
        let [up, down] = vassals(&files);
        let reversed = table(&[down.clone(), up.clone()], false, usize::MAX);
        assert_eq!(reversed, table(&[up.clone(), down.clone()], false, usize::MAX));
        assert!(
            json(&[down.clone(), up.clone()], Duration::ZERO, None, [""; 3], (0, 0, ""), Instant::now())
                .contains(r#"[{"name":"app""#)
        );
        assert_eq!(last(&down), "-");
        let next = "; next start: with that file";
        let of_before = Versions { goes_back: true, ..Versions::default() };
        let back = last(&Status { version: of_before, ..up.clone() });
        assert!(back.ends_with("; next start: with the file of before"), "{back}");
        let refused = format!("stopped; reload refused: app.ini:1: no{next}");
        assert_eq!(last(&up), refused, "without the app's own words");
        let mut gate = Mountpoints::none();
        gate.report(vec![MountReport::sample("/a", 1, "hung")]);
        gate.instance_ended();
        let starting = Status { state: "starting", mountpoints: &gate, ..down.clone() };
        assert_eq!(last(&starting), "awaits mountpoint /a; mountpoint /a lost 1 time");
        let waits = App { status: Some("waits for /a"), ..App::default() };
        assert_eq!(last(&Status { state: "starting", app: waits, ..down.clone() }), "waits for /a");
        assert_eq!(
            last(&Status { state: "stopped", refused: None, app: App::default(), ..up.clone() }),
            "stopped by command"
        );
        let unready = Status { problem: Some(NOT_READY), app: waits, ..up };
        assert_eq!(last(&unready), format!("waits for /a; {refused}"));
        assert_eq!(last(&Status { refused: refusal("no"), ..down }), "reload refused: no");
    }

    #[test]
    fn a_line_is_as_wide_as_the_terminal_at_most() {
        let files = files();
        for (columns, row) in
            [(20, "1字e\u{301}      backoff  …"), (30, "1字e\u{301}      backoff  -    5s   …")]
        {
            let [_, down] = vassals(&files);
            let wide = Status { name: "1字e\u{301}".into(), ..down };
            let [up, _] = vassals(&files);
            let long = Status { name: "abcdefgh".into(), ..up };
            let text = table(&[wide, long], false, columns);
            assert!(text.contains(&format!("\n{row}")) || text.starts_with(row), "{text}");
            assert!(text.lines().all(|line| columns_of(line) <= columns), "{text}");
        }
        let [_, down] = vassals(&files);
        let turned = Status { name: "a\u{202e}b".into(), ..down };
        assert!(table(&[turned], false, 80).contains("\na\\u{202e}b  backoff"));
    }

    #[test]
    fn problems_have_a_column_of_their_own_and_a_sum() {
        let files = files();
        let [up, down] = vassals(&files);
        assert_eq!(summary(&[up, down.clone()]), "2 instances: 1 running, 1 backoff, 1 with a problem\n");
        let text = table(&[down], true, usize::MAX);
        assert_eq!(
            text,
            "NAME        STATE    PROBLEM  PID  FOR  RESTARTS  HOUR  NEXT TRY  READY  MOUNTS  LAST\n\
             long\\nname  backoff  not up   -    5s   0         0     59s       -      -       -\n"
        );
        assert_eq!(table(&[], true, 80), "");
    }

    #[test]
    fn a_narrow_terminal_shows_problem_and_cause_of_each() {
        let mut files = files();
        files[1].1.past.last_end =
            Some("execute /srv/字字字字字字字字字/run: No such file (ENOENT)".to_owned());
        let [up, down] = vassals(&files);
        let up = Status { problem: Some("reload refused"), ..up };
        let text = table(&[up.clone(), down.clone()], true, 36);
        assert_eq!(
            text,
            "NAME        STATE    PID  FOR   RES…\n\
             app         running  42   1h2m  1  …\n    reload refused: stopped; reload\n\
             \x20   refused: app.ini:1: no; next\n    start: with that file\n\
             long\\nname  backoff  -    5s    0  …\n    not up: execute\n\
             \x20   /srv/字字字字字字字字字/run: No\n    such file (ENOENT)\n"
        );
        let none = Status { history: &files[0].1, refused: None, ..up.clone() };
        let text = table(&[none], true, 20);
        assert!(text.ends_with("\n    reload refused:\n    stopped\n"), "{text}");
        // A row, and an end, as wide as the terminal.
        let wide = table(&[up.clone(), down.clone()], true, usize::MAX);
        let columns = wide.lines().map(columns_of).max().unwrap();
        assert_eq!(table(&[up.clone(), down.clone()], true, columns), wide);
        assert_ne!(table(&[up, down.clone()], true, columns - 1), wide);
        assert!(table(&[down], true, 1).contains("\n    n\n    o\n"));
    }

    #[test]
    fn all_of_one_is_told_line_by_line() {
        let (mut files, now) = (files(), Instant::now());
        let ended = |why: &str| Ended {
            at: now,
            date: Duration::from_secs(86_400),
            why: why.to_owned(),
            is_asked: false,
        };
        files[0].1.past.ends = vec![ended("first"), ended("second\n")];
        let mut all = Mountpoints::none();
        all.report(vec![MountReport::sample("/a", 1, "hung")]);
        let [up, _] = vassals(&files);
        let version = Versions { modified: 1, used: Some(951_782_400), goes_back: false };
        let text = detail(&Status { mountpoints: &all, version, ..up }, Some(1536 << 10), now);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["", "app", "           File: /v/app.ini"]);
        assert!(
            lines[3].starts_with("          State: running since 20")
                && lines[3].ends_with("Z, 1h2m ago, not ready")
        );
        assert_eq!(
            lines[4..11],
            [
                "         Memory: 1.5M",
                "       Restarts: 1, 0 in the last hour",
                "      On demand: 127.0.0.1:80",
                "           Says: at\\nwork",
                " Reload refused: app.ini:1: no",
                "      Runs with: the file of 2000-02-29T00:00:00.000Z",
                "     Next start: with that file",
            ]
        );
        assert_eq!(
            lines[11],
            "          Mount: /a up fuse.x, daemon 6, answers in 0.03 ms, lost 1 time: hung"
        );
        assert_eq!(lines[12], "          Ended: 1970-01-02T00:00:00.000Z, 0s ago: second\\n");
        assert!(lines[13].ends_with("Z, 0s ago: first"));
        // By the date that was noted then.
        files[1].1.past.ends = vec![ended("third")];
        let [_, down] = vassals(&files);
        let text = detail(&Status { in_state: Some(Duration::ZERO), ..down.clone() }, None, now);
        let noted = "State: backoff since 1970-01-02T00:00:00.000Z, 0s ago\n";
        assert!(text.contains(noted), "{text}");
        assert!(!detail(&down, None, now).contains(noted), "the end was not then");
    }

    #[test]
    fn sizes_have_two_figures() {
        for (bytes, text) in [(0, "0K"), (1 << 20, "1.0M"), (1536 << 20, "1.5G"), (50 << 20, "50M")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn each_key_is_in_the_reference() {
        let files = files();
        let [up, _] = vassals(&files);
        let mut all = Mountpoints::none();
        all.report(vec![MountReport::sample("/a", 1, "hung")]);
        let vassal = Status { mountpoints: &all, ..up };
        let reference = include_str!("../../../docs/reference.md");
        for key in
            crate::json::keys(&json(&[vassal], Duration::ZERO, None, [""; 3], (0, 0, ""), Instant::now()))
        {
            assert!(
                reference.contains(&format!("`{key}`")),
                "docs/reference.md lacks the key `{key}` of status"
            );
        }
    }

    #[test]
    fn times_have_two_units_at_most() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (90_061, "1d1h")]
        {
            assert_eq!(rounded(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn json_shows_each_and_nothing_that_is_not_known() {
        let mut all = Mountpoints::none();
        all.report(vec![MountReport::sample("/a", 1, "hung")]);
        let mut json = Json::default();
        json.open("", '{');
        push_mountpoints("mountpoints", &all, &mut json);
        all.instance_ended();
        push_mountpoints("mountpoints", &all, &mut json);
        json.close('}');
        assert_eq!(
            json.0,
            [
                r#"{"mountpoints":[{"path":"/a","type":"fuse.x","daemon":6,"state":"up","round_trip_us":31,"#,
                r#""lost":1,"last":"hung"}],"mountpoints":[{"path":"/a","type":"fuse.x","daemon":null,"#,
                r#""state":"awaited","round_trip_us":null,"lost":1,"last":"hung"}]}"#,
            ]
            .concat()
        );
    }
}
