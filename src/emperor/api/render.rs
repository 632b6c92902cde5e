//! The status of the vassals, as a table or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use super::fields::{FIELDS, Field, LAST, Value};
use crate::emperor::core::mountpoints::Mountpoints;
use crate::emperor::core::status::{AWAITS_TURN, Status};
use crate::json::Json;
use crate::log::{printable, push_printable};
use crate::protocol::MountReport;

/// A wider cell moves the rest of its own line, but not the columns of the other lines.
const WIDTH_MAX: usize = 40;

/// A table for people, with one line for each vassal. If the emperor runs with a stale configuration, a last
/// line gives the reason.
pub fn table(vassals: &[Status<'_>], stale: Option<&str>) -> String {
    let mut headings: Vec<String> =
        FIELDS.iter().filter_map(|field| field.column).map(str::to_owned).collect();
    headings.push(LAST.to_owned());
    let mut rows = vec![headings];
    for vassal in by_name(vassals) {
        rows.push(cells(vassal));
    }
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(row.len(), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count()).min(WIDTH_MAX);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            let blanks = width.saturating_sub(cell.chars().count()) + 2;
            let _ = write!(text, "{:blanks$}", "");
        }
        text.truncate(text.trim_ascii_end().len());
        text.push('\n');
    }
    if let Some(why) = stale {
        text.push_str("The configuration is that of before the upgrade: ");
        push_printable(&mut text, why);
        text.push('\n');
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
                Value::Flag(flag) => json.raw(key, if flag { "true" } else { "false" }),
                Value::Mountpoints(mountpoints) => push_mountpoints(key, mountpoints, &mut json),
            }
        }
        json.close('}');
    }
    json.close(']');
    json.close('}');
    json.0.push('\n');
    json.0
}

/// In the order of the vassals' names. With several directories the files have another order.
fn by_name<'a>(vassals: &'a [Status<'a>]) -> Vec<&'a Status<'a>> {
    let mut all: Vec<_> = vassals.iter().collect();
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    all
}

/// A time in short form, with the two largest units: `12s`, `4m5s`, `3d4h`.
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

fn cells(vassal: &Status<'_>) -> Vec<String> {
    let none = || "-".to_owned();
    let mut cells = Vec::new();
    for field in FIELDS.iter().filter(|field| field.column.is_some()) {
        cells.push(match (field.value)(vassal) {
            Value::Text(text) => text.map_or_else(none, printable),
            Value::Number(number) => number.map_or_else(none, |number| number.to_string()),
            Value::Seconds(time) => time.map_or_else(none, rounded),
            Value::Flag(flag) => if flag { "yes" } else { "no" }.to_owned(),
            Value::Mountpoints(mountpoints) => mountpoints.counts(),
        });
    }
    cells.push(last(vassal));
    cells
}

/// The app's own status, why the last instance ended, why a reload was refused, and which mountpoints were
/// lost.
fn last(vassal: &Status<'_>) -> String {
    let ended = vassal.history.last_end.as_deref();
    let losses = Some(vassal.mountpoints.losses()).filter(|losses| !losses.is_empty());
    let before = if vassal.said.is_some() { "before: " } else { "" };
    let parts = [
        ("", Some(AWAITS_TURN).filter(|_| vassal.awaits_turn)),
        ("", vassal.said),
        (before, ended),
        ("reload refused: ", vassal.refused),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::history::History;
    use crate::emperor::core::vassal_file::VassalFile;

    static NONE: Mountpoints = Mountpoints::none();

    fn files() -> [(VassalFile, History); 2] {
        let up = History { instances: 2, last_end: Some("stopped".to_owned()), ..History::default() };
        let file = |path: &str| VassalFile::new(path.into(), 3);
        [(file("/v/app.ini"), up), (file("/v/long\nname.ini"), History::default())]
    }

    fn vassals([first, second]: &[(VassalFile, History); 2]) -> [Status<'_>; 2] {
        let down = Status {
            next_try: Some(Duration::from_secs(59)),
            ..Status::down(&second.0, "backoff", &second.1, &NONE)
        };
        let up = Status {
            pid: Some(42),
            uptime: Some(Duration::from_millis(3_725_500)),
            on_demand: Some("127.0.0.1:80"),
            refused: Some("app.ini:1: no"),
            ..Status::down(&first.0, "running", &first.1, &NONE)
        };
        [up, down]
    }

    #[test]
    fn a_table_is_aligned_and_nothing_forges_a_line_of_it() {
        let (files, long) = (files(), "x".repeat(100));
        let other = Status { name: long.as_str().into(), ..vassals(&files)[1] };
        let [up, down] = vassals(&files);
        let rows = table(&[up, down, other], None);
        assert!(rows.lines().next().unwrap().starts_with(&format!("NAME{:38}STATE", "")), "{rows}");
        assert!(rows.contains(&format!("\n{long}  backoff  ")), "{rows}");
        assert_eq!(
            table(&vassals(&files), None),
            "NAME        STATE    PID  UPTIME  RESTARTS  NEXT TRY  MOUNTS  LAST\n\
             app         running  42   1h2m    1         -         -       \
             stopped; reload refused: app.ini:1: no\n\
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
        let text = json(&[up, down], Duration::from_millis(1), Some("a.ini:1: no"), [""; 3], (1, 9, "x"));
        let head = format!(
            "{{\"version\":\"{}\",\"pid\":{},\"uptime\":0.001,\"configuration_refused\":\"a.ini:1: no\",",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        );
        let vassals = [
            r#""held_back":null,"not_answering":null,"cut_off":null,"#,
            r#""instances":1,"instances_max":9,"limit":"x","#,
            r#""vassals":[{"name":"app","file":"/v/app.ini","replica":1,"state":"running","pid":42,"#,
            r#""uptime":3725.500,"restarts":1,"next_try":null,"ready":false,"#,
            r#""on_demand":"127.0.0.1:80","status":null,"#,
            r#""last":"stopped","output":null,"reload_refused":"app.ini:1: no","mountpoints":[]},"#,
            r#"{"name":"long\nname","file":"/v/long\nname.ini","replica":1,"state":"backoff","#,
            r#""pid":null,"uptime":null,"restarts":0,"next_try":59.000,"ready":false,"#,
            r#""on_demand":null,"status":null,"last":null,"output":null,"#,
            r#""reload_refused":null,"mountpoints":[]}]}"#,
        ]
        .concat();
        assert_eq!(text, format!("{head}{vassals}\n"));
    }

    #[test]
    fn rows_are_in_the_order_of_their_names_and_tell_only_what_there_is() {
        let files = files();
        let [up, down] = vassals(&files);
        let reversed = table(&[down.clone(), up.clone()], None);
        assert_eq!(reversed, table(&[up.clone(), down.clone()], None));
        assert!(
            json(&[down.clone(), up], Duration::ZERO, None, [""; 3], (0, 0, ""))
                .contains(r#"[{"name":"app""#)
        );
        assert_eq!(last(&down), "-");
        assert_eq!(last(&Status { said: Some("at work"), ..down.clone() }), "at work");
        let [up, _] = vassals(&files);
        let said = Status { said: Some("at\nwork"), ..up };
        assert_eq!(last(&said), "at\\nwork; before: stopped; reload refused: app.ini:1: no");
        assert_eq!(last(&Status { refused: Some("no"), ..down }), "reload refused: no");
    }

    #[test]
    fn each_key_is_in_the_reference() {
        let files = files();
        let [up, _] = vassals(&files);
        let mut all = Mountpoints::none();
        all.report(vec![MountReport::sample("/a", 1, "hung")]);
        let vassal = Status { mountpoints: &all, ..up };
        let reference = include_str!("../../../docs/reference.md");
        for key in crate::json::keys(&json(&[vassal], Duration::ZERO, None, [""; 3], (0, 0, ""))) {
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
