//! What an operator asks for: which vassals have a problem, and everything about one.

use std::fs;
use std::time::Duration;

use crate::common::cgroups::{self, OutermostCgroup};
use crate::common::sandbox::vassal_path;
use crate::common::tutorial::MOUNTED;
use crate::common::{PATIENCE, Sandbox, run, sandboxed, until};
use crate::control::command;
use crate::rootless::{AS_USER, emperor, user};

const STEADY: &str = "command = sleep 1000";

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
        assert_eq!(command(sandbox, &["status", "--problems", "well"]), none);
        let none = (0, format!("none is backoff or stopped; {}", none.1), String::new());
        assert_eq!(command(sandbox, &["status", "--state=backoff,stopped", "well"]), none);
        sandbox.vassal("fails", "exec-asap = false\ncommand = true");
        sandbox.vassal("mistaken", "exec-as-usr = true");
        until("both are down", || {
            let (status, table, _) = command(sandbox, &["status", "--problems"]);
            status == 3 && rows(&table) == ["fails", "mistaken"] && !table.contains(" well ")
        });
        sandbox.vassal("well", "exec-as-rot = true\ncommand = sleep 1000");
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
        for words in [&["stop", "w*"][..], &["status", "w*", "--is-up"]] {
            let (status, _, error) = command(sandbox, words);
            let why = "there is no vassal 'w*': one NAME is taken here, and no pattern\n";
            assert!(status == 1 && error.ends_with(why), "{words:?}: {error}");
        }
        // A slip, as for all commands that take a name, and the beginning of only one.
        for (words, meant) in [
            (&["status", "wel"][..], "well"),
            (&["stop", "mistakne"], "mistaken"),
            (&["logs", "mist"], "mistaken"),
            (&["ps", "wll"], "well"),
            (&["enter", "weell"], "well"),
            (&["status", "--is-up", "fials"], "fails"),
            (&["reload", "well.ini"], "well"),
        ] {
            let (status, _, error) = command(sandbox, words);
            assert!(status == 1 && error.ends_with(&format!("': did you mean '{meant}'?\n")), "{error}");
        }
        let (status, _, error) = command(sandbox, &["enter", "*", "--", "true"]);
        assert!(status == 1 && error.contains("these are several vassals: name one"), "{error}");
        let (status, _, error) = command(sandbox, &["status", "well", "no*"]);
        assert_eq!((status, error.as_str()), (1, "emperor: there is no vassal 'no*'\n"));
        emperor.stop();
    });
}

#[test]
fn a_file_that_is_no_vassals_is_a_problem_until_it_is_away() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        for number in 0..120 {
            sandbox.vassal(&format!("stopped{number}"), "command = false");
        }
        let options = ["--emperor-throttle", "3600000", "--metrics", "/run/metrics"];
        let emperor = sandbox.emperor(&options);
        emperor.wait_running(1, "app");
        assert_eq!(command(sandbox, &["status", "app"]).0, 0);
        let at = |name: &str| vassal_path("app").with_file_name(name);
        let names = [".shop.ini", "Upper.INI", "directory.ini", "link.ini", "wiki.conf", "wiki.yml"];
        for name in names {
            match name {
                "directory.ini" => fs::create_dir(at(name)).unwrap(),
                "link.ini" => std::os::unix::fs::symlink("/no/such", at(name)).unwrap(),
                _ => fs::write(at(name), "[uwsgi]\n").unwrap(),
            }
        }
        let ignored = || command(sandbox, &["status", "--state", "ignored"]).1;
        until("all are told of", || rows(&ignored()) == names);
        let (status, table, _) = command(sandbox, &["status", "--problems"]);
        assert!(status == 3 && table.contains("\n121 instances and 6 ignored files: "), "{table}");
        for row in [
            "wiki.yml ignored ignored file - - 0 0 - - - only ini files are read: write it as NAME.ini",
            ".shop.ini ignored ignored file - - 0 0 - - - hidden files are not read: name it without the dot",
            "link.ini ignored ignored file - - 0 0 - - - a symbolic link to nothing",
        ] {
            let is_it = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") == row;
            assert!(table.lines().any(is_it), "{row}: {table}");
        }
        let metrics = run("curl", &["-sS", "--unix-socket", "/run/metrics", "http://emperor/"]);
        assert!(metrics.contains("\nemperor_ignored_files 6\n"), "{metrics}");
        // By a pattern, beside vassals and without any.
        for (words, found) in
            [(&["wiki*"][..], &["wiki.conf", "wiki.yml"][..]), (&["a*", "link.*"], &["app", "link.ini"])]
        {
            let (status, table, _) = command(sandbox, &[&["status"], words].concat());
            assert_eq!((status, rows(&table)), (3, found.to_vec()), "{table}");
        }
        let (status, _, error) = command(sandbox, &["status", "wiki*", "web*"]);
        assert_eq!((status, error.as_str()), (1, "emperor: there is no vassal 'web*'\n"));
        let (_, json, _) = command(sandbox, &["status", "--json"]);
        let one = format!(r#"{{"name":"wiki.yml","file":"{}","#, at("wiki.yml").display());
        assert!(json.contains(&one) && json.contains(r#""problem":"ignored file""#), "{json}");
        for name in ["shop", "wiki.yml", "Upper"] {
            let (status, _, error) = command(sandbox, &["status", name]);
            assert!(
                status == 1 && error.starts_with(&format!("emperor: there is no vassal '{name}'")),
                "{error}"
            );
            assert_eq!(error.contains(" is ignored: "), name != "shop", "{error}");
        }
        for words in [&["stop"][..], &["start"], &["reload", "--wait"], &["logs"], &["ps"], &["enter"]] {
            let (status, _, error) = command(sandbox, &[words, &["wiki.conf"]].concat());
            let why = "/wiki.conf is ignored: only ini files are read: write it as NAME.ini\n";
            assert!(status == 1 && error.ends_with(why), "{words:?}: {error}");
        }
        // No shell offers one as the name of a vassal.
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/completions/emperor.bash");
        let completed = |word: &str| {
            let program = sandbox.program("emperor").get_program().display().to_string();
            let call = format!("COMP_WORDS=({program} start '{word}'); COMP_CWORD=2; _emperor");
            run("bash", &["-c", &format!(". {script}; {call}; printf '%s\\n' \"${{COMPREPLY[@]}}\"")])
        };
        assert_eq!((completed("wiki"), completed("ap")), ("\n".to_owned(), "app\n".to_owned()));
        // The next program finds out by itself.
        assert_eq!(command(sandbox, &["upgrade"]).0, 0);
        until("all are told of again", || rows(&ignored()) == names);
        fs::rename(at("Upper.INI"), at("upper.ini")).unwrap();
        for name in names.iter().filter(|name| **name != "Upper.INI") {
            run("rm", &["-r", at(name).to_str().unwrap()]);
        }
        until("none is left", || ignored().contains("122 instances: ") && rows(&ignored()).is_empty());
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
        let warned = "app.ini:1:1: warning: the app runs as root, as there is no 'uid' (write ";
        assert!(text.contains(warned), "{text}");
        sandbox.vassal("app", "exec-asap = true\nenv = A=\u{201c}2\u{201d}\ncommand = sleep 1000");
        emperor.wait_for("emperor: app: reloaded after ");
        let (_, text, _) = command(sandbox, &["status", "app"]);
        // What may be why an app fails comes first.
        let line = text.lines().find(|line| line.contains("Warnings: ")).unwrap();
        assert!(line.contains("app.ini:3:7: warning: ") && line.ends_with("; 1 more"), "{line}");
        sandbox.vassal("app", "exec-asap = true\nuid = root\ncommand = sleep 1000");
        emperor.wait_for_nth(2, "emperor: app: running after ");
        let (_, text, _) = command(sandbox, &["status", "app"]);
        assert!(!text.contains("warning"), "{text}");
        emperor.stop();
    });
}

#[test]
fn a_warning_about_the_file_is_told_where_its_app_fails() {
    sandboxed(|sandbox| {
        // What runs is uWSGI, which is told nothing.
        sandbox.vassal("typo", "comand = sleep 1000");
        let fails = "foo = x\ncommand = sh -c 'echo no disk >&2; exit 3'";
        sandbox.vassal("said", &format!("standard-error = file:/run/scratch/said\n{fails}"));
        sandbox.vassal("plain", "command = sh -c 'exit 3'");
        // They are started again and again: who is asked for a last line may take too long to answer.
        let emperor = sandbox.emperor(&[]);
        let typo = "app exited with status 1; /etc/uwsgi/vassals/typo.ini:2:1: warning: unknown option \
                    'comand' (did you mean 'command'?)";
        let said = "app exited with status 3, its last line: no disk; /etc/uwsgi/vassals/said.ini:3:1: \
                    warning: unknown option 'foo'";
        for told in [typo, said, "app exited with status 3\n"] {
            until(told, || command(sandbox, &["status", "--problems"]).1.contains(told));
        }
        emperor.stop();
    });
}

#[test]
fn what_a_start_or_an_end_waits_for_is_told_until_it_goes_on() {
    sandboxed(|sandbox| {
        let waits = "until test -e /run/scratch/go; do sleep 0.05; done";
        // After 5 s the emperor's own 'still stopping' takes the place of what PID 1 has told: the hook is to
        // be told of last.
        let slow = "command = sh -c 'trap \"sleep 3; exit\" TERM; echo caught; while :; do sleep 0.1; done'";
        sandbox.vassal("exit", &format!("exec-as-user-atexit = {waits}\n{slow}"));
        sandbox.vassal("hook", &format!("exec-as-root = {waits}\n{STEADY}"));
        fs::create_dir(sandbox.path("mount")).unwrap();
        sandbox.vassal("gate", &format!("mountpoint-check = /run/scratch/mount\n{STEADY}"));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "exit");
        emperor.wait_for("caught");
        assert_eq!(command(sandbox, &["stop", "exit"]).0, 0);
        for (what, most) in [
            (format!("as-user-atexit: {waits}: still running after 5.0 s"), "; it is given 60.0 s"),
            (format!("as-root: {waits}: still running after 5.0 s"), "; it is given 60.0 s"),
            // Then it is looked how long that was.
            (
                "mountpoint /run/scratch/mount: nothing is mounted there, after ".to_owned(),
                " s; it is given 30.0 s",
            ),
        ] {
            let what = format!("  {what}");
            let is_it = |line: &str| line.contains(&what) && line.ends_with(most);
            until(&what, || command(sandbox, &["status", "--problems"]).1.lines().any(is_it));
        }
        fs::write(sandbox.path("go"), "").unwrap();
        emperor.wait_running(1, "hook");
        let (_, text, _) = command(sandbox, &["status", "hook"]);
        assert!(!text.contains("still running") && !text.contains(" Says: "), "{text}");
        emperor.stop();
    });
}

#[test]
fn what_goes_into_the_background_is_told_of_with_what_it_left() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "command = sh -c 'sleep 1000 & exit 0'");
        sandbox.vassal("done", "command = sh -c 'exit 0'");
        let emperor = sandbox.emperor(&["--emperor-throttle", "100000"]);
        let line = emperor.wait_for("emperor: app: app exited with status 0, processes left (1): pid ");
        assert!(line.contains(")): does it go into the background?; "), "{line}");
        emperor.wait_for("emperor: done: app exited with status 0: does it go into the background?; ");
        emperor.stop();
    });
}

#[test]
fn a_table_fits_the_terminal_and_is_drawn_again_until_ctrl_c() {
    sandboxed(|sandbox| {
        let name = "a very long name with blanks 字\u{202e}";
        sandbox.vassal(name, STEADY);
        let emperor = sandbox.emperor(&["--emperor-throttle", "3600000"]);
        emperor.wait_for(": running after ");
        assert_eq!(
            on_terminal(sandbox, "stty cols 20; emperor status", &["?a very long name wi…", "?1 instance: "]),
            0
        );
        assert_eq!(
            on_terminal(sandbox, "stty cols 80; emperor status", &[r"?字\\u\{202e\}  running", "?…"]),
            0
        );
        sandbox.vassal("fails", "command = sh -c 'echo the disk is full >&2; exit 7'");
        // If it was up for a second on a slow machine, it is respawned first.
        until("it is down", || rows(&command(sandbox, &["status", "--state=backoff"]).1) == ["fails"]);
        // A row for each, and below it what is wrong, and why.
        for (columns, cause) in
            [(80, r"?\n    not up: app exited with status 7"), (20, r"?\n    not up: app")]
        {
            let problems = format!("stty cols {columns}; emperor status --problems");
            on_terminal(sandbox, &problems, &["?NAME ", "?fails ", cause]);
        }
        let few_rows = "trap : INT; stty rows 4 cols 80; emperor status --watch; stty -a";
        assert_eq!(on_terminal(sandbox, few_rows, &["?… 2 more", r"\x03", r"?\[\?1049l", "? echo "]), 0);
        let stop = command(sandbox, &["stop", "fails", "--wait"]);
        assert_eq!(stop.0, 0, "{stop:?}");
        let watch = "trap : INT; stty rows 6 cols 40; emperor status --watch && echo it is over; stty -a";
        let steps = [
            r"?\[\?1049h",
            "?a very long",
            "?1 running, 1 stopped",
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

/// A vassal with namespaces of its own, and an app that is no root.
const ENTERED: &str = "uid = nobody\ngid = nogroup\nenv = OF_APP=1\nchdir = /usr\nhostname = inside\n\
                       cap = \ncommand = sleep 1000";

#[test]
fn a_command_is_run_where_the_app_is_and_its_status_is_passed_on() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", ENTERED);
        let emperor = sandbox.emperor(&["--emperor-use-clone", "fs,pid,uts,ipc"]);
        emperor.wait_running(1, "app");
        let enter = |words: &[&str]| command(sandbox, &[&["enter", "app"], words].concat());
        let (status, out, error) = enter(&["--", "sh", "-c", "echo $(hostname) $(pwd) $(id -u) $$; exit 7"]);
        assert_eq!((status, error.as_str()), (7, ""));
        let words: Vec<_> = out.split_whitespace().collect();
        assert_eq!(words[..3], ["inside", "/usr", "0"], "{out}");
        assert!(words[3].parse::<u32>().unwrap() < 20, "a pid of the vassal's: {out}");
        // As the app's user, with its environment.
        let (status, out, _) = enter(&["--user", "--", "sh", "-c", "echo $OF_APP $(id -un) $(id -gn)"]);
        assert_eq!((status, out.as_str()), (0, "1 nobody nogroup\n"));
        let (_, out, _) = enter(&["--", "sh", "-c", "echo x$OF_APP"]);
        assert_eq!(out, "x\n", "root does not take what an app can write");
        // Both outputs, in their places, and input.
        let program = sandbox.program("emperor").get_program().display().to_string();
        let shell = format!("echo in | {program} enter app -- sh -c 'cat; echo err >&2' 2>/run/scratch/err");
        assert_eq!(run("sh", &["-c", &shell]), "in\n");
        assert_eq!(fs::read_to_string("/run/scratch/err").unwrap(), "err\n");
        let long = format!("head -c 3000000 /dev/zero | {program} enter app -- cat | wc -c");
        assert_eq!(run("sh", &["-c", &long]).trim(), "3000000");
        // No descriptor of the caller's, and no session.
        let fds = "ls /proc/self/fd | wc -l; cut -d' ' -f6,7 /proc/self/stat";
        let shell = format!("exec 9</etc/passwd; {program} enter app -- sh -c \"{fds}\"");
        let out = run("sh", &["-c", &shell]);
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0] == "4" && lines[1].ends_with(" 0") && !lines[1].starts_with("0 "), "{out}");
        for (words, expected) in [
            (&["enter", "app", "--", "/no/such"][..], (127, "emperor: execute /no/such: No such file")),
            (&["enter", "app", "--", "/etc"], (126, "emperor: execute /etc: ")),
            (&["enter", "nobody"], (1, "emperor: there is no vassal 'nobody'")),
            (&["enter"], (78, "the name of a vassal is missing")),
        ] {
            let (status, _, error) = command(sandbox, words);
            assert!(status == expected.0 && error.contains(expected.1), "{words:?}: {status} {error}");
        }
        // What it starts ends with the vassal.
        let (status, out, _) = enter(&["--", "sh", "-c", "sleep 2000 >/dev/null 2>&1 & echo started"]);
        assert_eq!((status, out.as_str()), (0, "started\n"));
        let stopped = command(sandbox, &["stop", "--wait", "app"]);
        assert_eq!(stopped.0, 0, "{stopped:?}");
        let (status, _, error) = enter(&[]);
        assert_eq!((status, error.as_str()), (1, "emperor: enter app: it is not up: stopped\n"));
        emperor.stop();
    });
}

#[test]
fn a_users_fuse_mount_is_looked_at_as_the_user() {
    sandboxed(|sandbox| {
        sandbox.zip();
        sandbox.vassal("app", &format!("{MOUNTED}\ncommand = sleep 1000"));
        let emperor = sandbox.emperor(&["--emperor-use-clone", "fs,pid"]);
        emperor.wait_running(1, "app");
        let (status, _, error) = command(sandbox, &["enter", "app", "--", "ls", "/app"]);
        assert!(status == 2 && error.contains("Permission denied"), "docs/faq.md says so: {error}");
        let faq = include_str!("../../docs/faq.md");
        let (_, words) = faq.split_once("`emperor enter NAME ").unwrap();
        let words = words.split('`').next().unwrap().split(' ');
        let (status, out, error) =
            command(sandbox, &["enter", "app"].into_iter().chain(words).collect::<Vec<_>>());
        assert!(status == 0 && out.contains("page.html"), "{out}{error}");
        assert_eq!(command(sandbox, &["stop", "app", "--wait"]).0, 0);
        assert!(command(sandbox, &["status"]).1.contains(" stopped by command\n"));
        emperor.stop();
    });
}

#[test]
fn a_shell_in_a_vassal_has_a_terminal_of_its_own() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", ENTERED);
        let emperor = sandbox.emperor(&["--emperor-use-clone", "fs,pid,uts,ipc"]);
        emperor.wait_running(1, "app");
        let shell = "stty cols 123; emperor enter app; echo it was $?; stty -a";
        let steps = [
            "?[#$] $",
            "stty size; echo at `hostname`\r",
            "? 123\r",
            "?at inside",
            // Ctrl-C is for what runs there. (A shell that starts a program loses one that comes meanwhile.)
            r#"perl -e '$|=1; print "ru", "ns\n"; sleep 1000'"#,
            r"\r",
            "?runs",
            r"\x03",
            "?[#$] $",
            "exit 5\r",
            "?it was 5",
            "? icanon .* echo ",
        ];
        assert_eq!(on_terminal(sandbox, shell, &steps), 0);
        emperor.stop();
    });
}

#[test]
fn processes_of_vassals_are_listed_with_both_pids() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", ENTERED);
        sandbox.vassal("other", &format!("standard-output = file:/run/scratch/other.log\n{STEADY}"));
        sandbox.vassal("down", "command = false");
        let mode = ["--emperor-use-clone", "fs,pid,uts,ipc", "--emperor-throttle", "3600000"];
        let emperor = sandbox.emperor(&mode);
        let init = emperor.wait_running(1, "app");
        emperor.wait_running(1, "other");
        // If it was up for a second on a slow machine, it is respawned first.
        until("it is down", || command(sandbox, &["ps", "down"]).1.contains("not up: backoff"));
        let (status, table, _) = command(sandbox, &["ps", "a*"]);
        let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!((status, rows[0].join(" ")), (0, "NAME PID INSIDE USER MEMORY CPU COMMAND".to_owned()));
        assert_eq!((rows.len(), rows[1][..3].join(" ")), (3, format!("app {init} 1")), "{table}");
        assert!(rows[2][2] != "1" && rows[2][6..] == ["sleep", "1000"], "{table}");
        assert!(rows[2][4].ends_with('K') || rows[2][4].ends_with('M'), "{table}");
        let (_, all, _) = command(sandbox, &["ps"]);
        let names = |word: &str| all.lines().filter(|line| line.ends_with(word)).count();
        assert_eq!((names("  [vassal-log]"), names("  vassal-init other")), (1, 1), "{all}");
        assert!(!all.contains("down"), "{all}");
        let (_, table, _) = command(sandbox, &["ps", "down", "app"]);
        assert!(table.contains("\ndown ") && table.contains("  not up: backoff\n"), "{table}");
        emperor.stop();
    });
}

#[test]
fn who_enters_is_limited_as_the_app_is() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let outermost = OutermostCgroup::open();
        let group = cgroups::of_test(&outermost.path, "enter");
        fs::copy("/usr/bin/sleep", "/run/scratch/rest").unwrap();
        sandbox.vassal("app", &format!("{ENTERED}\nno-new-privs = true\ndrop-cap = sys_ptrace,mknod"));
        sandbox.vassal("bare", "mount-as-root = tmpfs none /usr/bin\ncommand = /run/scratch/rest 1000");
        let emperor = sandbox.emperor(&[
            "--emperor-use-clone",
            "fs,pid,uts,ipc",
            "--emperor-cgroup",
            group.to_str().unwrap(),
        ]);
        emperor.wait_running(1, "app");
        emperor.wait_running(1, "bare");
        let (_, table, _) = command(sandbox, &["ps", "app"]);
        let app: i32 = table.lines().last().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        let theirs = |file: &str| fs::read_to_string(format!("/proc/{app}/{file}")).unwrap();
        for words in [&["enter", "app", "--user"][..], &["enter", "app"]] {
            let ask = |file: &str| {
                let file = format!("/proc/self/{file}");
                let (status, out, error) = command(sandbox, &[words, &["--", "cat", &file]].concat());
                assert_eq!((status, error.as_str()), (0, ""), "{words:?}");
                out
            };
            assert_eq!(ask("cgroup"), theirs("cgroup"));
            let (own, theirs) = (ask("status"), theirs("status"));
            for field in ["CapBnd:", "NoNewPrivs:"] {
                let of = |text: &str| text.lines().find(|line| line.starts_with(field)).unwrap().to_owned();
                assert_eq!(of(&own), of(&theirs), "{words:?}");
            }
        }
        let (status, _, error) = command(sandbox, &["enter", "bare"]);
        let why = "emperor: enter bare: it has no shell: give a command behind '--'\n";
        assert_eq!((status, error.as_str()), (127, why));
        let (_, out, _) = command(sandbox, &["status", "app"]);
        let is_counted = group.join("v-app/memory.current").exists();
        assert_eq!(out.contains("\n         Memory: "), is_counted, "{out}");
        emperor.stop();
        cgroups::remove(&group);
    });
}

#[test]
fn an_ordinary_users_vassals_are_entered_by_that_user() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        for (uid, maps) in [("root", &[][..]), ("user001", &["--map-users=auto"])] {
            sandbox.vassal("app", &format!("uid = {uid}\n{STEADY}"));
            let emperor = emperor(sandbox, maps);
            emperor.wait_running(1, "app");
            let enter = |words: &[&str]| {
                let mut command = sandbox.wrapped(AS_USER, "emperor");
                let output = command.args(["enter", "app"]).args(words).output().unwrap();
                String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
            };
            let own = enter(&[
                "--",
                "sh",
                "-c",
                "id -u; readlink /proc/self/ns/user /proc/1/ns/user | uniq | wc -l",
            ]);
            assert!(own.ends_with("0\n1\n"), "{own}");
            let (name, out) =
                (if uid == "root" { "root" } else { "user001" }, enter(&["--user", "--", "id", "-un"]));
            assert!(out.ends_with(&format!("{name}\n")), "{out}");
            emperor.stop();
        }
    });
}

#[test]
fn an_app_that_does_not_stop_is_told_of_and_killed_by_a_second_command() {
    sandboxed(|sandbox| {
        sandbox.vassal(
            "app",
            "stop-timeout = 50s\n\
             command = perl -e '$SIG{TERM} = \"IGNORE\"; print STDERR \"deaf\\n\"; sleep 1000'",
        );
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "app");
        emperor.wait_for("deaf");
        assert_eq!(command(sandbox, &["stop", "app"]).1, "app: stopping\n");
        emperor.wait_for_time("emperor: app: still stopping after ", Duration::from_secs(5));
        let (_, table, _) = command(sandbox, &["status", "--problems"]);
        assert!(table.contains("stopping for long"), "{table}");
        assert!(table.contains("  still stopping after ") && table.contains(" s more\n"), "{table}");
        assert_eq!(command(sandbox, &["stop", "app"]).1, "app: stopping: its app is killed\n");
        emperor.wait_for("the emperor again: SIGKILL to the app");
        assert_eq!(command(sandbox, &["stop", "--wait", "app"]).0, 0);
        // Told where it is asked for, and no problem.
        let told = "1 instance: 1 stopped by command, no problem\n";
        for words in [&["status", "--problems"][..], &["status", "--problems", "app"]] {
            assert_eq!(command(sandbox, words), (0, told.to_owned(), String::new()));
        }
        let (status, text, _) = command(sandbox, &["status", "app"]);
        assert!(status == 0 && text.contains("\n          State: stopped by command since 20"), "{text}");
        // One is enough.
        assert_eq!(command(sandbox, &["start", "--wait", "app"]).0, 0);
        emperor.wait_for_nth(2, "deaf");
        let (status, text, _) = command(sandbox, &["stop", "app", "--now", "--wait=20s"]);
        assert!(status == 0 && text.starts_with("app: stopped, "), "{text}");
        emperor.wait_for("emperor: app: stop by command: stopping: its app is killed");
        // "the emperor again" where PID 1 had read the request to stop before that to kill.
        emperor.wait_for_nth(2, "SIGKILL to the app");
        assert_eq!(command(sandbox, &["stop", "app", "--now"]).1, "app: stopped already\n");
        // One that is asked already.
        assert_eq!(command(sandbox, &["start", "--wait", "app"]).0, 0);
        emperor.wait_for_nth(3, "deaf");
        assert_eq!(command(sandbox, &["stop", "app"]).1, "app: stopping\n");
        assert_eq!(command(sandbox, &["stop", "--now", "app"]).1, "app: stopping: its app is killed\n");
        assert_eq!(command(sandbox, &["stop", "--wait=20s", "app"]).0, 0);
        emperor.stop();
    });
}
