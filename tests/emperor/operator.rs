//! What an operator asks for: which vassals have a problem, and everything about one.

use std::fs;
use std::process::Output;

use crate::common::sandbox::vassal_path;
use crate::common::{PATIENCE, Sandbox, run, sandboxed, until};

const STEADY: &str = "command = sleep 1000";

/// What a command came to: exit status, standard output, standard error.
fn command(sandbox: &Sandbox, words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = sandbox.program("emperor").args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The first words of the rows.
fn rows(table: &str) -> Vec<&str> {
    let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    rows.filter_map(|line| line.split_whitespace().next()).collect()
}

/// Runs a command of the shell on a terminal, takes these steps and returns its exit status; see terminal.py.
fn on_terminal(sandbox: &Sandbox, shell: &str, steps: &[&str]) -> i32 {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/terminal.py");
    let limit = PATIENCE.as_secs().to_string();
    let shell =
        shell.replace("emperor ", &format!("{} ", sandbox.program("emperor").get_program().display()));
    let arguments = [&[script, &limit, "sh", "-c", &shell, "--steps"], steps].concat();
    run("/usr/bin/python3", &arguments).trim().parse().unwrap()
}

#[test]
fn problems_are_shown_alone_and_by_the_exit_status() {
    sandboxed(|sandbox| {
        sandbox.vassal("well", STEADY);
        let emperor = sandbox.emperor(&["--emperor-throttle", "3600000"]);
        emperor.wait_running(1, "well");
        let none = (0, "1 instance: 1 running, no problem\n".to_owned(), String::new());
        assert_eq!(command(sandbox, &["status", "--problems"]), none);
        sandbox.vassal("fails", "exec-asap = false\ncommand = true");
        sandbox.vassal("mistaken", "exec-as-usr = true");
        until("both are down", || {
            let (status, table, _) = command(sandbox, &["status", "--problems"]);
            status == 3 && rows(&table) == ["fails", "mistaken"] && !table.contains(" well ")
        });
        fs::write(vassal_path("well"), "[uwsgi]\nexec-as-rot = true\ncommand = sleep 1000\n").unwrap();
        emperor.wait_for("emperor: well: reload refused: ");
        let (status, table, _) = command(sandbox, &["status", "--problems"]);
        assert_eq!((status, rows(&table)), (3, vec!["fails", "mistaken", "well"]));
        for told in ["PROBLEM", "not up", "invalid file", "reload refused", "3 with a problem\n"] {
            assert!(table.contains(told), "{told}: {table}");
        }
        // The table of all is an answer, whatever is in it.
        let (status, table, _) = command(sandbox, &["status"]);
        assert_eq!((status, rows(&table)), (0, vec!["fails", "mistaken", "well"]));
        assert!(table.ends_with("\n3 instances: 1 running, 1 backoff, 1 invalid, 3 with a problem\n"));
        assert_eq!(command(sandbox, &["status", "well"]).0, 3);
        assert_eq!(
            rows(&command(sandbox, &["status", "--state", "running,invalid"]).1),
            ["mistaken", "well"]
        );
        assert_eq!(rows(&command(sandbox, &["status", "*s", "m*", "--state=backoff"]).1), ["fails"]);
        let (status, json, _) = command(sandbox, &["status", "--json", "--problems", "w*"]);
        assert!(
            status == 0
                && json.contains(r#""name":"well""#)
                && json.contains(r#""problem":"reload refused""#)
        );
        let (status, _, error) = command(sandbox, &["status", "--state", "runing"]);
        assert!(status == 78 && error.contains("'runing' is not a state"), "{error}");
        assert!(error.contains("hint: the states are idle, starting, running, "), "{error}");
        let (status, _, error) = command(sandbox, &["status", "well", "no*"]);
        assert_eq!((status, error.as_str()), (1, "emperor: there is no vassal 'no*'\n"));
        emperor.stop();
    });
}

#[test]
fn all_that_is_known_of_one_is_told_with_its_last_ends() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "exec-asap = false\ncommand = true");
        let emperor = sandbox.emperor(&["--emperor-throttle", "10"]);
        emperor.wait_for_nth(3, "emperor: app: setup failed in asap #1");
        until("three ends", || {
            let (_, text, _) = command(sandbox, &["status", "app"]);
            text.contains("\n          State: ") && text.matches("\n          Ended: 20").count() >= 3
        });
        sandbox.vassal("app", "env = A=1\nexec-asap = true\ncommand = sleep 1000");
        emperor.wait_for("emperor: app: running after ");
        let (status, text, _) = command(sandbox, &["status", "app"]);
        assert!(status == 3 && text.contains("\n        Problem: flapping\n"), "{text}");
        emperor.stop();
    });
}

#[test]
fn a_table_fits_the_terminal_and_is_drawn_again_until_ctrl_c() {
    sandboxed(|sandbox| {
        let name = "a very long name with blanks 字\u{202e}";
        sandbox.vassal(name, STEADY);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for(": running after ");
        assert_eq!(
            on_terminal(sandbox, "stty cols 20; emperor status", &["?a very long name wi…", "?1 instance: "]),
            0
        );
        assert_eq!(
            on_terminal(sandbox, "stty cols 80; emperor status", &[r"?字\\u\{202e\}  running", "?…"]),
            0
        );
        let watch = "trap : INT; stty rows 5 cols 40; emperor status --watch && echo it is over; stty -a";
        let steps = [
            r"?\[\?1049h",
            "?a very long",
            "?1 running, no problem",
            "?a very long",
            r"\x03",
            r"?\[\?1049l",
            "?it is over",
            "? echo ",
        ];
        assert_eq!(on_terminal(sandbox, watch, &steps), 0);
        let (status, _, error) = command(sandbox, &["status", "--watch"]);
        assert_eq!((status, error.as_str()), (1, "emperor: draw on standard output: it is not a terminal\n"));
        emperor.stop();
    });
}
